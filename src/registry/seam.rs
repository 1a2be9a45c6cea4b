//! What the gateway asks of the registry, until the manager takes this place: an empty registry that never changes.

use std::sync::Arc;

use super::Snapshot;
use crate::types::Error;

/// The registry as the gateway sees it.
#[derive(Debug, Default)]
pub struct Registry;

impl Registry {
    /// Everything at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    /// Calls back with every later snapshot.
    pub fn subscribe(&self, _follower: Box<dyn Fn(Arc<Snapshot>) + Send + Sync>) {}

    /// Loads a model.
    ///
    /// # Errors
    /// Always: there is nothing to load.
    #[expect(clippy::unused_async, reason = "the manager waits for the load")]
    pub async fn load(&self, name: &str) -> Result<(), Error> {
        Err(Error::not_found(format!("model '{name}': not found")))
    }

    /// Unloads a model.
    ///
    /// # Errors
    /// Always: there is nothing to unload.
    #[expect(clippy::unused_async, reason = "the manager waits for the unload")]
    pub async fn unload(&self, name: &str) -> Result<(), Error> {
        Err(Error::not_found(format!("model '{name}': not found")))
    }
}
