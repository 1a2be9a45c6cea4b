//! What can be asked about models and routes: metadata, configuration, statistics, the repository index. Part of [`Gateway`].

use std::sync::Arc;

use super::Gateway;
use crate::{
    compose::{Callable, Node, Route, RouteSlot},
    registry::{ModelEntry, VersionEntry},
    spec::route_json::route_to_json,
    types::{
        ConfigView, Error, IndexEntry, ModelConfigView, ModelMetadata, ModelState, ModelStatistics, RouteConfigView,
        VersionRef,
    },
};

impl Gateway {
    /// Inputs, outputs and answering versions of a model, or the live revision of a route.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable`, as for a prediction.
    pub fn metadata(&self, name: &str, version: &VersionRef) -> Result<ModelMetadata, Error> {
        let table = self.tables.load();
        let node = table.node(name)?;
        match (node.callable(version)?, node) {
            (Callable::Model(target), Node::Model(model)) => {
                let ready = model.entry().versions.iter().filter(|entry| entry.state == ModelState::Ready);
                let mut versions: Vec<_> = ready.map(|entry| entry.version).collect();
                versions.sort_unstable();
                Ok(ModelMetadata {
                    name: model.entry().name.shared(),
                    versions: versions.iter().map(|version| version.to_string().into()).collect(),
                    platform: "onnx_onnxv1",
                    signature: Arc::clone(&target.servable().signature),
                    class_names: Arc::clone(target.class_names()),
                })
            }
            (Callable::Model(target), Node::Route(_)) => {
                Err(Error::internal("model: failed", format!("{target:?} stands for a route")))
            }
            (Callable::Route(route), _) => Ok(ModelMetadata {
                name: Arc::clone(&route.answered().model),
                versions: vec![Arc::clone(&route.answered().version)],
                platform: route.live().spec.kind.platform(),
                signature: Arc::clone(route.signature()),
                class_names: Arc::clone(route.class_names()),
            }),
        }
    }

    /// What was loaded, or how a route is configured.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable`, as for a prediction.
    pub fn config(&self, name: &str, version: &VersionRef) -> Result<ConfigView, Error> {
        let table = self.tables.load();
        let target = match table.node(name)?.callable(version)? {
            Callable::Route(route) => return Ok(ConfigView::Route(self.route_config(&route))),
            Callable::Model(target) => target,
        };
        let servable = target.servable();
        Ok(ConfigView::Model(ModelConfigView {
            name: Arc::clone(&target.answered().model),
            version: Arc::clone(&target.answered().version),
            signature: Arc::clone(&servable.signature),
            versions: servable.spec.versions.clone(),
            batching: servable.spec.batching.clone(),
            max_request_rows: if target.batched() { target.max_rows(self.options.max_request_rows) } else { 0 },
            batch_limit: servable.lane.batch_limit(),
            engine: servable.engine,
            digest: Arc::clone(&servable.digest),
            merging_off: servable.lane.merging().off_because(),
            loaded_at: servable.loaded_at,
        }))
    }

    fn route_config(&self, route: &Route) -> RouteConfigView {
        RouteConfigView {
            name: Arc::clone(&route.answered().model),
            version: Arc::clone(&route.answered().version),
            signature: Arc::clone(route.signature()),
            max_request_rows: if route.batched() { route.max_rows(self.options.max_request_rows) } else { 0 },
            platform: route.live().spec.kind.platform(),
            json: route_to_json(&route.live().spec).to_string(),
        }
    }

    /// Statistics of one version or route, of all versions of a model, or of everything.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable` when a name was given and does not answer.
    pub fn statistics(&self, name: Option<&str>, version: &VersionRef) -> Result<Vec<ModelStatistics>, Error> {
        let table = self.tables.load();
        let Some(name) = name else {
            let routes = table.routes().filter_map(RouteSlot::live).map(|route| route_statistics(route));
            return Ok(table.snapshot().models.values().flat_map(all_statistics).chain(routes).collect());
        };
        let node = table.node(name)?;
        match (node, version) {
            (Node::Model(model), VersionRef::Policy) => Ok(all_statistics(model.entry())),
            _ => match node.callable(version)? {
                Callable::Model(target) => Ok(vec![target.series().statistics()]),
                Callable::Route(route) => Ok(vec![route_statistics(&route)]),
            },
        }
    }

    /// The repository index, by name and version.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        let table = self.tables.load();
        let models = table.snapshot().models.values().flat_map(model_lines);
        let routes = table.routes().map(route_line);
        let mut lines: Vec<_> =
            models.chain(routes).filter(|entry| !ready_only || entry.state == ModelState::Ready).collect();
        lines.sort_by(|a, b| a.name.cmp(&b.name));
        lines
    }
}

fn route_statistics(route: &Route) -> ModelStatistics {
    route.series().statistics(&route.answered().version)
}

fn all_statistics(entry: &Arc<ModelEntry>) -> Vec<ModelStatistics> {
    let servables = entry.versions.iter().filter_map(|version| version.servable.as_ref());
    servables.map(|servable| servable.series.statistics()).collect()
}

fn model_lines(entry: &Arc<ModelEntry>) -> Vec<IndexEntry> {
    let line = |version: &VersionEntry| IndexEntry {
        name: entry.name.shared(),
        version: version.version.to_string().into(),
        state: version.state,
        reason: version.reason.clone(),
    };
    let mut lines: Vec<_> = entry.versions.iter().map(line).collect();
    if let Some(problem) = Some(&entry.reason).filter(|reason| lines.is_empty() && !reason.is_empty()) {
        let (name, reason) = (entry.name.shared(), problem.clone());
        lines.push(IndexEntry { name, version: "".into(), state: ModelState::Unavailable, reason });
    }
    lines
}

fn route_line(slot: &RouteSlot) -> IndexEntry {
    let fit = slot.fit();
    let waits = || format!("waits for {}", fit.waits_for.join(", "));
    let (state, reason) = match slot.live() {
        Some(_) => (ModelState::Ready, fit.problems.join("; ")),
        None if fit.problems.is_empty() => (ModelState::Loading, waits()),
        None => (ModelState::Unavailable, fit.problems.join("; ")),
    };
    let version = slot.live().map_or_else(|| "".into(), |route| Arc::clone(&route.answered().version));
    IndexEntry { name: slot.name().shared(), version, state, reason }
}
