//! The live table and its two sources: what the registry has loaded, and the routes as their keeper knows them. Either may
//! change at any moment; each change makes one new table, which all requests from then on see. Owned by the gateway.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    compile::compile,
    controllers::Controllers,
    table::Table,
    world::{Fit, RouteSet, World},
};
use crate::{
    observe::Metrics,
    registry::{Registry, Snapshot},
    types::ModelName,
};

/// The live table, and those who replace it.
#[derive(Debug)]
pub struct Tables {
    current: ArcSwap<Table>,
    sources: Mutex<Sources>,
    controllers: Controllers,
    metrics: Arc<Metrics>,
    changed: watch::Sender<u64>,
}

/// What a table is made of.
#[derive(Debug)]
struct Sources {
    snapshot: Arc<Snapshot>,
    routes: RouteSet,
    /// Nobody has still to say which routes there are.
    complete: bool,
}

impl Tables {
    /// Tables that follow a registry. With `expects_routes`, start-up does not end before somebody has said which routes there
    /// are.
    pub fn new(registry: &Registry, metrics: Arc<Metrics>, expects_routes: bool) -> Arc<Self> {
        let controllers = Controllers::default();
        let sources = Sources { snapshot: registry.snapshot(), routes: RouteSet::default(), complete: !expects_routes };
        let world = World {
            snapshot: &sources.snapshot,
            routes: &sources.routes,
            metrics: &metrics,
            controllers: &controllers,
        };
        let table = Table::build(world, Arc::clone(&sources.snapshot), None, sources.complete);
        let tables = Arc::new(Self {
            current: ArcSwap::from_pointee(table),
            sources: Mutex::new(sources),
            controllers,
            metrics,
            changed: watch::Sender::new(0),
        });
        let follower: Weak<Self> = Arc::downgrade(&tables);
        let listener = Weak::clone(&follower);
        registry.follow_circuits(move || {
            if let Some(tables) = listener.upgrade() {
                tables.touch();
            }
        });
        registry.subscribe(move |snapshot| {
            if let Some(tables) = follower.upgrade() {
                tables.replace(|sources| sources.snapshot = snapshot);
            }
        });
        tables
    }

    /// The table at this moment.
    pub fn load(&self) -> Guard<Arc<Table>> {
        self.current.load()
    }

    /// How each of these routes would get on with what is loaded. Changes nothing.
    pub fn check(&self, routes: &RouteSet) -> BTreeMap<ModelName, Fit> {
        let snapshot = Arc::clone(&self.sources.lock().snapshot);
        let world = World { snapshot: &snapshot, routes, metrics: &self.metrics, controllers: &self.controllers };
        routes.keys().map(|name| (name.clone(), compile(world, name).1)).collect()
    }

    /// Makes these the routes. When it returns, every request that begins sees them. `complete` says that what was there at
    /// start-up has been accepted or refused, for which the end of start-up waits; it stays true.
    pub fn publish(&self, routes: RouteSet, complete: bool) {
        self.replace(|sources| {
            sources.routes = routes;
            sources.complete |= complete;
        });
    }

    /// The last word about what routes name that what is checked against reflects: [`Snapshot::pins`].
    pub fn pins_heard(&self) -> u64 {
        self.sources.lock().snapshot.pins
    }

    /// Every model that was wanted at start-up has been loaded or refused, as far as the table knows.
    pub fn models_started(&self) -> bool {
        self.sources.lock().snapshot.started
    }

    /// Follows changes of the table and of readiness.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells those who follow that something besides the table has changed.
    pub fn touch(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }

    fn replace(&self, change: impl FnOnce(&mut Sources)) {
        let mut sources = self.sources.lock();
        change(&mut sources);
        let world = World {
            snapshot: &sources.snapshot,
            routes: &sources.routes,
            metrics: &self.metrics,
            controllers: &self.controllers,
        };
        let before = self.current.load();
        let table = Table::build(world, Arc::clone(&sources.snapshot), Some(&before), sources.complete);
        self.current.store(Arc::new(table));
        // Still under the lock, so that tables become live in the order in which their sources changed.
        drop(sources);
        self.touch();
    }
}
