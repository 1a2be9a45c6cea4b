//! Layer 5: which models exist, are loaded, are swapped. A `Source` says what is in the registry directory, the pure version
//! policy says which versions are wanted and what to do next, the `Loader` turns files into servables, and the manager's one
//! reconcile loop brings the two together and publishes an immutable snapshot that requests read without a lock.

pub mod bundle;
pub mod config;
pub mod external;
pub mod files;
pub mod golden;
pub mod loader;
pub mod manifest;
pub mod policy;
pub mod publish;
mod remember;
pub mod servable;
pub mod settle;
pub mod snapshot;
pub mod source;

mod seam;

pub use seam::Registry;
pub use servable::{ModelEntry, Servable, VersionEntry};
pub use snapshot::{Problem, Snapshot};
