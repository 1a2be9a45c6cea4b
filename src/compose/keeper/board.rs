//! What others see of the routes: published whole by the keeper, read without a lock.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    compose::{RouteState, store::Entry},
    types::ModelName,
};

/// The routes at one moment.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Every route that is there.
    pub(super) states: BTreeMap<ModelName, Arc<RouteState>>,
    /// Revisions that are only in memory, by route, oldest first.
    pub(super) memory: BTreeMap<ModelName, Vec<Arc<Entry>>>,
    /// What was there at start-up has been accepted or refused.
    pub(super) complete: bool,
}

/// Where the routes are shown.
pub(super) struct Board {
    current: ArcSwap<Shown>,
    changed: watch::Sender<u64>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { current: ArcSwap::default(), changed: watch::Sender::new(0) }
    }

    pub(super) fn load(&self) -> Arc<Shown> {
        self.current.load_full()
    }

    /// Shows these routes, and says what is newly wrong.
    pub(super) fn show(&self, shown: Shown) {
        let before = self.current.swap(Arc::new(shown));
        let after = self.current.load();
        for (name, state) in &after.states {
            let known = before.states.get(name).map_or(&[][..], |state| &state.problems);
            for problem in state.problems.iter().filter(|problem| !known.contains(problem)) {
                tracing::warn!(route = %name, problem, "the route is not in order");
            }
        }
        self.changed.send_modify(|generation| *generation += 1);
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("current", &self.load()).finish_non_exhaustive()
    }
}
