//! Layer placeholder.
