//! What operators see of models: the JSON of `GET /ops/models` and `GET /ops/models/{m}`, which `weir models` prints as a table.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::{
    gateway::Gateway,
    registry::{LoadTimes, ModelEntry, Problem, Selection, Servable, VersionEntry},
    types::Error,
};

/// The registry at one moment.
#[derive(Debug, Serialize)]
struct Models<'s> {
    /// Start-up has ended.
    started: bool,
    /// Grows with every change.
    generation: u64,
    models: Vec<Model<'s>>,
    problems: Vec<Trouble<'s>>,
}

#[derive(Debug, Serialize)]
struct Model<'s> {
    name: &'s str,
    required: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'s str,
    versions: Vec<Version<'s>>,
}

#[derive(Debug, Serialize)]
struct Version<'s> {
    version: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'s str,
    /// Requests without a version may get it.
    by_policy: bool,
    labels: Vec<&'s str>,
    #[serde(flatten)]
    loaded: Option<Loaded<'s>>,
}

#[derive(Debug, Serialize)]
struct Loaded<'s> {
    engine: &'s str,
    selection: Choice<'s>,
    source: &'s str,
    digest: &'s str,
    /// Seconds since the epoch.
    loaded_at: u64,
    load: Load,
    batching: Batching,
    circuit: Circuit,
    requests: u64,
    batches: u64,
}

/// How the engine was chosen.
#[derive(Debug, Serialize)]
struct Choice<'s> {
    why: &'s str,
    /// Where the answers of the engines differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    disagreement: Option<&'s str>,
    /// Loading, comparing and timing.
    milliseconds: f64,
    engines: Vec<Tried<'s>>,
}

/// An engine that was tried.
#[derive(Debug, Serialize)]
struct Tried<'s> {
    engine: &'s str,
    milliseconds: f64,
    /// Why it cannot serve the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'s str>,
    profile: Vec<Cost>,
}

/// How long loading took.
#[derive(Debug, Serialize)]
struct Load {
    milliseconds: f64,
    stages: Vec<Stage>,
}

#[derive(Debug, Serialize)]
struct Stage {
    stage: &'static str,
    milliseconds: f64,
}

#[derive(Debug, Serialize)]
struct Batching {
    /// Requests share batches.
    merged: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    /// Rows in the largest batch.
    limit: usize,
    /// Batches run on the I/O threads.
    local: bool,
    /// Every size worth compiling has been compiled and timed.
    warm: bool,
    compiled: Vec<usize>,
    queued_rows: usize,
    profile: Vec<Cost>,
}

/// Whether requests pass or are refused because the model fails.
#[derive(Debug, Serialize)]
struct Circuit {
    state: &'static str,
    /// How often it has opened since the version was loaded.
    opened: u64,
}

/// What a batch of so many rows costs.
#[derive(Debug, Serialize)]
struct Cost {
    rows: usize,
    microseconds: f64,
}

#[derive(Debug, Serialize)]
struct Trouble<'s> {
    model: Option<&'s str>,
    text: &'s str,
}

/// All models.
///
/// # Errors
/// `Internal` when the answer cannot be written.
pub(super) fn all(gateway: &Gateway) -> Result<String, Error> {
    let snapshot = gateway.registry().snapshot();
    json(&Models {
        started: snapshot.started,
        generation: snapshot.generation,
        models: snapshot.models.values().map(|entry| model(entry)).collect(),
        problems: snapshot.problems.iter().map(trouble).collect(),
    })
}

/// One model.
///
/// # Errors
/// `NotFound` for a name that is no model.
pub(super) fn one(gateway: &Gateway, name: &str) -> Result<String, Error> {
    let snapshot = gateway.registry().snapshot();
    let entry = snapshot.model(name).map_err(|error| {
        let is_route = gateway.routes().is_some_and(|routes| routes.get(name).is_some());
        let text = format!("model '{name}': not found: it is a route: GET /ops/routes/{name}");
        if is_route { Error::not_found(text) } else { error }
    })?;
    json(&model(entry))
}

fn json(view: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(view).map_err(|error| Error::internal("server: the answer cannot be written", error))
}

fn model(entry: &ModelEntry) -> Model<'_> {
    Model {
        name: entry.name.as_str(),
        required: entry.spec.required,
        reason: &entry.reason,
        versions: entry.versions.iter().map(|one| version(entry, one)).collect(),
    }
}

fn version<'s>(entry: &'s ModelEntry, one: &'s VersionEntry) -> Version<'s> {
    let labels = entry.spec.labels.iter().filter(|(_, labelled)| **labelled == one.version);
    Version {
        version: one.version.get(),
        state: one.state.as_str(),
        reason: &one.reason,
        by_policy: one.by_policy,
        labels: labels.map(|(label, _)| &**label).collect(),
        loaded: one.servable.as_deref().map(loaded),
    }
}

fn loaded(servable: &Servable) -> Loaded<'_> {
    let statistics = servable.series.statistics();
    let lane = &servable.lane;
    let (state, opened) = lane.circuit();
    Loaded {
        engine: servable.engine,
        selection: choice(&servable.selection),
        source: &servable.source,
        digest: &servable.digest,
        loaded_at: seconds(servable.loaded_at),
        load: load(&servable.load_times),
        batching: Batching {
            merged: lane.merging().off_because().is_none(),
            because: lane.merging().off_because().map(|why| why.to_string()),
            limit: lane.batch_limit(),
            local: lane.is_local(),
            warm: lane.is_warm(),
            compiled: lane.compiled_sizes(),
            queued_rows: lane.queued_rows(),
            profile: lane.profile().into_iter().map(cost).collect(),
        },
        circuit: Circuit { state: state.as_str(), opened },
        requests: statistics.success.count,
        batches: statistics.execution_count,
    }
}

fn cost((rows, took): (usize, Duration)) -> Cost {
    Cost { rows, microseconds: took.as_secs_f64() * 1e6 }
}

fn choice(selection: &Selection) -> Choice<'_> {
    let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
    let engines = selection.tried.iter().map(|tried| Tried {
        engine: tried.engine,
        milliseconds: milliseconds(tried.took),
        refused: tried.refused.as_deref(),
        profile: tried.costs.iter().copied().map(cost).collect(),
    });
    Choice {
        why: &selection.why,
        disagreement: selection.disagreement.as_deref(),
        milliseconds: milliseconds(selection.took),
        engines: engines.collect(),
    }
}

fn load(times: &LoadTimes) -> Load {
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let stages = times.stages().map(|(stage, took)| Stage { stage, milliseconds: ms(took) });
    Load { milliseconds: ms(times.total()), stages: stages.into() }
}

fn trouble(problem: &Problem) -> Trouble<'_> {
    Trouble { model: problem.model.as_ref().map(crate::types::ModelName::as_str), text: &problem.text }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
