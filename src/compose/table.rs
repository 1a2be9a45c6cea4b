//! The one snapshot that names resolve in. Built anew whenever the registry or the routes change; read by every request without
//! a lock.

use std::{collections::HashMap, sync::Arc};

use super::{
    Target,
    compile::compile,
    route::Route,
    world::{Fit, RouteSet, World},
};
use crate::{
    observe::{Metrics, RequestSeries},
    registry::{ModelEntry, Snapshot},
    types::{Error, ModelName, Version, VersionRef},
};

/// Everything that can be called.
#[derive(Debug)]
pub struct Table {
    nodes: HashMap<ModelName, Node>,
    snapshot: Arc<Snapshot>,
    routes: RouteSet,
    started: bool,
}

/// What a name stands for.
#[derive(Debug)]
pub enum Node {
    /// A model.
    Model(ModelNode),
    /// A route.
    Route(RouteSlot),
}

/// A model and the targets of its versions.
#[derive(Debug)]
pub struct ModelNode {
    entry: Arc<ModelEntry>,
    targets: HashMap<Version, Arc<Target>>,
    /// The one that requests get which name no version.
    policy: Option<Arc<Target>>,
    /// Where requests are counted that name the model and reach no version of it.
    refused: Arc<RequestSeries>,
}

/// A route and what of it answers.
#[derive(Debug)]
pub struct RouteSlot {
    name: ModelName,
    live: Option<Arc<Route>>,
    /// What is in the way of the newest revision; nothing when that is the one that answers.
    fit: Fit,
    /// Where requests are counted that name the route and reach no revision of it.
    refused: Arc<RequestSeries>,
}

/// What answers a request.
#[derive(Clone, Debug)]
pub enum Callable {
    /// A version of a model.
    Model(Arc<Target>),
    /// A revision of a route.
    Route(Arc<Route>),
}

impl Table {
    /// A table of what is loaded and of the routes as they are. What `before` had already is carried over; a route that does
    /// not fit any more goes on as it was.
    pub(super) fn build(world: World<'_>, snapshot: Arc<Snapshot>, before: Option<&Table>, complete: bool) -> Self {
        let known = |name: &ModelName| before.and_then(|table| table.nodes.get(name));
        let mut nodes: HashMap<ModelName, Node> = HashMap::new();
        for (name, _) in world.routes.iter() {
            let known = match known(name) {
                Some(Node::Route(slot)) => Some(slot),
                _ => None,
            };
            nodes.insert(name.clone(), Node::Route(RouteSlot::build(name, world, known)));
        }
        for (name, entry) in &snapshot.models {
            // A model that comes with the name of a route is a mistake of both; it takes nothing away that serves.
            if matches!(nodes.get(name), Some(Node::Route(slot)) if slot.live.is_some()) {
                continue;
            }
            let known = match known(name) {
                Some(Node::Model(node)) => Some(node),
                _ => None,
            };
            nodes.insert(name.clone(), Node::Model(ModelNode::build(entry, known, world.metrics)));
        }
        let waits = |node: &Node| matches!(node, Node::Route(slot) if slot.live.is_none() && slot.waits());
        let was = before.is_some_and(|table| table.started);
        let started = was || (snapshot.started && complete && !nodes.values().any(waits));
        Self { nodes, snapshot, routes: Arc::clone(world.routes), started }
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// `NotFound` `model 'x': not found`; `Unavailable` while the server is starting and may still find it.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        self.nodes.get(name).ok_or_else(|| {
            if self.started {
                Error::not_found(format!("model '{name}': not found"))
            } else {
                Error::unavailable(format!("model '{name}': not loaded, the server is starting"))
            }
        })
    }

    /// The registry's half.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The configurations of the routes.
    pub fn configured(&self) -> &RouteSet {
        &self.routes
    }

    /// The routes by name.
    pub fn routes(&self) -> impl Iterator<Item = &RouteSlot> {
        self.routes.keys().filter_map(|name| match self.nodes.get(name) {
            Some(Node::Route(slot)) => Some(slot),
            _ => None,
        })
    }

    /// Start-up has ended: what was wanted then has been loaded or refused, and the routes have found it. Stays true.
    pub fn started(&self) -> bool {
        self.started
    }
}

impl Node {
    /// What answers a request that names this version or, of a route, revision.
    ///
    /// # Errors
    /// `NotFound` for an unknown version, revision or label, `Unavailable` for one that is not ready.
    pub fn callable(&self, version: &VersionRef) -> Result<Callable, Error> {
        match self {
            Node::Model(node) => {
                if let (VersionRef::Policy, Some(target)) = (version, &node.policy) {
                    return Ok(Callable::Model(Arc::clone(target)));
                }
                let servable = node.entry.resolve(version)?;
                let target = node.targets.get(&servable.id.version).ok_or_else(|| {
                    Error::unavailable(format!(
                        "model '{}' version {}: not ready",
                        servable.id.model, servable.id.version
                    ))
                })?;
                Ok(Callable::Model(Arc::clone(target)))
            }
            Node::Route(slot) => slot.resolve(version).map(Callable::Route),
        }
    }

    /// Where requests are counted that reach no version.
    pub fn refused(&self) -> &Arc<RequestSeries> {
        match self {
            Node::Model(node) => &node.refused,
            Node::Route(slot) => &slot.refused,
        }
    }
}

impl ModelNode {
    fn build(entry: &Arc<ModelEntry>, before: Option<&ModelNode>, metrics: &Metrics) -> Self {
        let name = entry.name.shared();
        let targets: HashMap<Version, Arc<Target>> = entry
            .versions
            .iter()
            .filter_map(|version| version.servable.as_ref().map(|servable| (version.version, servable)))
            .map(|(version, servable)| {
                let kept = before.and_then(|node| node.targets.get(&version));
                let kept = kept.filter(|target| Arc::ptr_eq(target.servable(), servable)).cloned();
                (version, kept.unwrap_or_else(|| Arc::new(Target::new(&name, Arc::clone(servable), metrics))))
            })
            .collect();
        let refused = match before {
            Some(node) => Arc::clone(&node.refused),
            None => metrics.requests(&name, "", ""),
        };
        let chosen = entry.resolve(&VersionRef::Policy).ok();
        let policy = chosen.and_then(|servable| targets.get(&servable.id.version)).cloned();
        Self { entry: Arc::clone(entry), targets, policy, refused }
    }

    /// The model's versions and their states.
    pub fn entry(&self) -> &Arc<ModelEntry> {
        &self.entry
    }
}

impl RouteSlot {
    fn build(name: &ModelName, world: World<'_>, before: Option<&RouteSlot>) -> Self {
        let refused = match before {
            Some(slot) => Arc::clone(&slot.refused),
            None => world.metrics.requests(name.as_str(), "", ""),
        };
        let kept = before.and_then(|slot| slot.live.as_ref());
        if let Some(route) = kept.filter(|route| route.holds(name, world)) {
            return Self { name: name.clone(), live: Some(Arc::clone(route)), fit: Fit::default(), refused };
        }
        let (route, fit) = compile(world, name);
        if let Some(route) = &route {
            route.announce();
        }
        Self { name: name.clone(), live: route.or_else(|| kept.cloned()), fit, refused }
    }

    fn resolve(&self, version: &VersionRef) -> Result<Arc<Route>, Error> {
        let name = &self.name;
        let Some(route) = &self.live else {
            if matches!(version, VersionRef::Label(_)) {
                return Err(Error::not_found(format!("model '{name}' label '{version}': not found")));
            }
            return Err(Error::unavailable(format!("model '{name}': not ready")));
        };
        match version {
            VersionRef::Policy => Ok(Arc::clone(route)),
            VersionRef::Exact(number) if number.get() == route.live().revision.number => Ok(Arc::clone(route)),
            VersionRef::Exact(number) => Err(Error::not_found(format!("model '{name}' version {number}: not found"))),
            VersionRef::Label(label) => Err(Error::not_found(format!("model '{name}' label '{label}': not found"))),
        }
    }

    /// Its name.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// The revision that answers.
    pub fn live(&self) -> Option<&Arc<Route>> {
        self.live.as_ref()
    }

    /// What is in the way of the newest revision.
    pub fn fit(&self) -> &Fit {
        &self.fit
    }

    /// True when only models that are still being loaded are in the way.
    fn waits(&self) -> bool {
        self.fit.problems.is_empty() && !self.fit.waits_for.is_empty()
    }
}
