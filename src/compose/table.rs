//! The one snapshot that names resolve in. Built anew whenever the registry publishes; read by every request without a lock.

use std::{collections::HashMap, sync::Arc};

use super::Target;
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
}

/// What a name stands for.
#[derive(Debug)]
pub enum Node {
    /// A model.
    Model(ModelNode),
}

/// A model and the targets of its versions.
#[derive(Debug)]
pub struct ModelNode {
    entry: Arc<ModelEntry>,
    targets: HashMap<Version, Arc<Target>>,
    /// Where requests are counted that name the model and reach no version of it.
    refused: Arc<RequestSeries>,
}

impl Table {
    /// A table of a registry snapshot. Targets of versions that `before` had already are carried over.
    pub fn build(snapshot: Arc<Snapshot>, before: Option<&Table>, metrics: &Metrics) -> Self {
        let nodes = snapshot
            .models
            .iter()
            .map(|(name, entry)| {
                let known = before.and_then(|table| table.nodes.get(name)).map(|Node::Model(node)| node);
                (name.clone(), Node::Model(ModelNode::build(entry, known, metrics)))
            })
            .collect();
        Self { nodes, snapshot }
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// `NotFound` `model 'x': not found`; `Unavailable` while the server is starting and may still find it.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        self.nodes.get(name).ok_or_else(|| {
            if self.snapshot.started {
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
}

impl Node {
    /// The version that answers a request.
    ///
    /// # Errors
    /// `NotFound` for an unknown version or label, `Unavailable` for one that is not ready.
    pub fn target(&self, version: &VersionRef) -> Result<&Arc<Target>, Error> {
        let Node::Model(node) = self;
        let servable = node.entry.resolve(version)?;
        node.targets.get(&servable.id.version).ok_or_else(|| {
            Error::unavailable(format!("model '{}' version {}: not ready", servable.id.model, servable.id.version))
        })
    }

    /// Where requests are counted that reach no version.
    pub fn refused(&self) -> &Arc<RequestSeries> {
        let Node::Model(node) = self;
        &node.refused
    }

    /// The model's versions and their states.
    pub fn entry(&self) -> &Arc<ModelEntry> {
        let Node::Model(node) = self;
        &node.entry
    }
}

impl ModelNode {
    fn build(entry: &Arc<ModelEntry>, before: Option<&ModelNode>, metrics: &Metrics) -> Self {
        let name = entry.name.shared();
        let targets = entry
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
        Self { entry: Arc::clone(entry), targets, refused }
    }
}
