//! Layer 10: puts the layers together. `serve` builds them bottom-up, runs until a signal, and takes them down in the order
//! that loses nothing.

mod options;

pub use options::{LogFormat, ModelControl, ServeOptions, Watch};
