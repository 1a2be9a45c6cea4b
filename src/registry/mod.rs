//! Layer 5: which models exist, are loaded, are swapped. A `Source` says what is in the registry directory, the pure version
//! policy says which versions are wanted and what to do next, the `Loader` turns files into servables, and the manager's one
//! reconcile loop brings the two together and publishes an immutable snapshot that requests read without a lock.

pub mod external;
pub mod files;
pub mod policy;
pub mod publish;
pub mod settle;
pub mod source;
