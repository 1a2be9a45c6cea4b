//! Layer 5: which models exist, are loaded, are swapped. A `Source` says what is in the registry directory, the pure version
//! policy says which versions are wanted and what to do next, the `Loader` turns files into servables, and the manager's one
//! reconcile loop brings the two together and publishes an immutable snapshot that requests read without a lock.

mod answers;
pub mod bundle;
mod candidate;
pub mod check;
pub mod classes;
pub mod config;
pub mod engines;
mod entry;
pub mod external;
pub mod files;
pub mod golden;
mod graveyard;
mod handle;
mod hub;
mod inbox;
pub mod loader;
mod manager;
pub mod manifest;
pub mod policy;
mod pool;
pub mod publish;
mod reconcile;
mod record;
mod remember;
mod rows;
pub mod servable;
pub mod settle;
pub mod snapshot;
pub mod source;
pub mod sums;
pub mod times;
mod trial;
mod version;
mod watch;

pub use check::{Checked, Named, Report, Row, check};
pub use engines::{Engines, Selection, Tried};
pub use handle::{Registry, RegistryConfig, StartError};
pub use inbox::Pins;
pub use manager::Control;
pub use publish::{Publication, PublishError, Published, PublishedFile, publish};
pub use servable::{ModelEntry, Servable, VersionEntry};
pub use snapshot::{Problem, Snapshot};
pub use source::scan;
pub use times::LoadTimes;
pub use watch::WatchMode;
pub(crate) use watch::Watcher;
