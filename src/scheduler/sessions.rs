//! The sessions that a worker, an I/O thread or the thread of shadows keeps: one per servable and compiled size, made on first
//! use and dropped with the servable.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::core::Core;
use crate::engine::{EngineError, Plan, Session};

/// The sessions that one worker or one I/O thread keeps.
#[derive(Default)]
pub(crate) struct Sessions {
    kept: HashMap<(u64, usize), Kept>,
}

struct Kept {
    core: Weak<Core>,
    session: Box<dyn Session>,
}

impl Sessions {
    /// The session of a servable and size; made of `plan` on first use.
    ///
    /// # Errors
    /// When there is no plan or the engine refuses the session.
    pub(crate) fn get(
        &mut self,
        core: &Arc<Core>,
        size: usize,
        plan: impl FnOnce() -> Result<Arc<dyn Plan>, EngineError>,
    ) -> Result<&mut dyn Session, EngineError> {
        match self.kept.entry((core.key, size)) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut().session.as_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let kept = Kept { core: Arc::downgrade(core), session: plan()?.session()? };
                Ok(entry.insert(kept).session.as_mut())
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Drops the sessions of a servable.
    pub(crate) fn forget(&mut self, key: u64) {
        self.kept.retain(|(owner, _), _| *owner != key);
    }

    /// Drops the sessions of servables that are gone.
    pub(crate) fn purge(&mut self) {
        self.kept.retain(|_, kept| kept.core.strong_count() > 0);
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.kept.len())
    }
}
