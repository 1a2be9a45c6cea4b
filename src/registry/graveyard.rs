//! Servables that no longer serve and may still be answering their last requests. The manager keeps one reference to each, so
//! that the last one is never dropped by a request: freeing a model takes time and belongs on the manager's thread.

use std::sync::Arc;

use super::servable::Servable;
use crate::types::{ModelName, ServableId, Version};

/// A servable that is waited for.
#[derive(Debug)]
struct Grave {
    servable: Arc<Servable>,
    /// It was unloaded, not replaced: the index shows it until it has gone.
    shown: bool,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    graves: Vec<Grave>,
}

impl Graveyard {
    /// Waits for a version that was unloaded.
    pub(super) fn unloaded(&mut self, servable: Option<Arc<Servable>>) {
        self.graves.extend(servable.map(|servable| Grave { servable, shown: true }));
    }

    /// Waits for servables whose version goes on under another.
    pub(super) fn replaced(&mut self, servables: impl IntoIterator<Item = Arc<Servable>>) {
        self.graves.extend(servables.into_iter().map(|servable| Grave { servable, shown: false }));
    }

    /// Frees what nobody uses any more. Returns what had been unloaded.
    pub(super) fn sweep(&mut self) -> Vec<ServableId> {
        let mut gone = Vec::new();
        self.graves.retain(|grave| {
            let used = Arc::strong_count(&grave.servable) > 1;
            if !used && grave.shown {
                gone.push(grave.servable.id.clone());
            }
            used
        });
        gone
    }

    /// Whether anything is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.graves.is_empty()
    }

    /// The versions of a model that were unloaded and still answer.
    pub(super) fn unloading(&self, model: &ModelName) -> impl Iterator<Item = Version> {
        let shown = self.graves.iter().filter(move |grave| grave.shown && grave.servable.id.model == *model);
        shown.map(|grave| grave.servable.id.version)
    }
}
