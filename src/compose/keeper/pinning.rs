//! What the registry was told to keep loaded, and what of it has been heard. A version that is loaded may be about to go: only one
//! that the registry has heard of, and that nothing said since lets go of, stays.

use std::{collections::BTreeSet, sync::Arc};

use super::seam::{Compiler, Models};
use crate::{registry::Pins, types::ServableId};

/// What the registry was told.
pub(super) struct Pinning {
    models: Arc<dyn Models>,
    /// With their numbers, oldest first: the last that was heard, and those since.
    said: Vec<(u64, Pins)>,
}

impl Pinning {
    pub(super) fn new(models: Arc<dyn Models>) -> Self {
        Self { models, said: vec![(0, Pins::new())] }
    }

    /// What was said last.
    pub(super) fn last(&self) -> &Pins {
        static NOTHING: Pins = Pins::new();
        self.said.last().map_or(&NOTHING, |(_, pins)| pins)
    }

    /// Tells the registry, if that is news.
    pub(super) fn say(&mut self, pins: Pins) {
        if *self.last() == pins {
            return;
        }
        match self.models.pin(pins.clone()) {
            Ok(number) => self.said.push((number, pins)),
            Err(error) => tracing::warn!(%error, "the registry does not take what routes need"),
        }
    }

    /// Whether versions stay loaded once they are, as far as `compiler` knows what is loaded.
    pub(super) fn holds(&mut self, needs: &BTreeSet<ServableId>, compiler: &dyn Compiler) -> bool {
        let heard = compiler.pins_heard();
        let before = self.said.iter().take_while(|(number, _)| *number <= heard).count();
        self.said.drain(..before.saturating_sub(1));
        let names = |pins: &Pins, id: &ServableId| pins.get(&id.model).is_some_and(|all| all.contains(&id.version));
        needs.iter().all(|id| self.said.iter().all(|(_, pins)| names(pins, id)))
    }
}
