//! What routes are compiled against, what they were compiled from, and how they get on with it. Called by `compile` and by those
//! who decide whether to compile again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use super::{change::LiveRoute, controllers::Controllers};
use crate::{
    observe::Metrics,
    registry::{ModelEntry, Snapshot},
    types::{ModelName, ServableId},
};

/// All routes and their live revisions, or those that they would have.
pub type RouteSet = Arc<BTreeMap<ModelName, LiveRoute>>;

/// How a route gets on with what is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// What is wrong with it: `<key>: <what>`.
    pub problems: Vec<String>,
    /// What it names and what is not loaded yet.
    pub waits_for: Vec<String>,
    /// Versions that it names by number or label: they must stay loaded.
    pub needs: BTreeSet<ServableId>,
}

impl Fit {
    /// True when the route can answer.
    pub fn fits(&self) -> bool {
        self.problems.is_empty() && self.waits_for.is_empty()
    }
}

/// What routes are compiled against.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) routes: &'a RouteSet,
    pub(super) metrics: &'a Metrics,
    pub(super) controllers: &'a Controllers,
}

/// Which revision: its number, and when it was made. A route whose folder was thrown away begins at 1 again.
type Identity = (u64, SystemTime);

fn identity(name: &ModelName, world: World<'_>) -> Option<Identity> {
    world.routes.get(name).map(|live| (live.revision.number, live.revision.at))
}

/// What a compiled route was made of: as long as all of it is the same, so is the route.
#[derive(Debug, Default)]
pub(super) struct Sources {
    models: BTreeMap<ModelName, Option<Arc<ModelEntry>>>,
    routes: BTreeMap<ModelName, Option<Identity>>,
}

impl Sources {
    /// Takes note of what a name stands for now.
    pub(super) fn note(&mut self, name: &ModelName, world: World<'_>) {
        self.models.entry(name.clone()).or_insert_with(|| world.snapshot.models.get(name).cloned());
        self.routes.entry(name.clone()).or_insert_with(|| identity(name, world));
    }

    /// True when compiling again would give the same.
    pub(super) fn hold(&self, world: World<'_>) -> bool {
        let same_entry =
            |(name, entry): (&ModelName, &Option<Arc<ModelEntry>>)| match (entry, world.snapshot.models.get(name)) {
                (Some(then), Some(now)) => Arc::ptr_eq(then, now),
                (None, None) => true,
                _ => false,
            };
        self.models.iter().all(same_entry) && self.routes.iter().all(|(name, then)| *then == identity(name, world))
    }
}
