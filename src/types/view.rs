//! What can be asked about models besides predictions: metadata, readiness, the index, statistics, configuration. The gateway
//! fills these in; `protocol` turns them into messages and JSON.

use std::{sync::Arc, time::SystemTime};

use super::{BatchingSpec, ClassNames, Signature, VersionPolicy};

/// The server's name, version and the protocol extensions that work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMetadata {
    /// `weir`.
    pub name: &'static str,
    /// The package version.
    pub version: &'static str,
    /// Extension names.
    pub extensions: &'static [&'static str],
}

/// A model's metadata.
#[derive(Clone, Debug)]
pub struct ModelMetadata {
    /// The name asked for.
    pub name: Arc<str>,
    /// The versions that answer, ascending.
    pub versions: Vec<Arc<str>>,
    /// `onnx_onnxv1`, or `weir_<kind>` for a route.
    pub platform: &'static str,
    /// Inputs and outputs.
    pub signature: Arc<Signature>,
    /// Names of the outputs' classes, where they are known.
    pub class_names: Arc<ClassNames>,
}

/// Whether a name can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It answers.
    Ready,
    /// It is known and cannot answer now; the text says why.
    NotReady(String),
    /// Nothing has that name, version or label; the text says which.
    Unknown(String),
}

/// A version's state as the repository index shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelState {
    /// It answers.
    Ready,
    /// It was refused or removed; the reason is beside it.
    Unavailable,
    /// It is being read, compiled and checked.
    Loading,
    /// It answers its last requests.
    Unloading,
}

impl ModelState {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelState::Ready => "READY",
            ModelState::Unavailable => "UNAVAILABLE",
            ModelState::Loading => "LOADING",
            ModelState::Unloading => "UNLOADING",
        }
    }
}

/// One line of the repository index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Model or route.
    pub name: Arc<str>,
    /// Version; empty when the model has none.
    pub version: Arc<str>,
    /// State.
    pub state: ModelState,
    /// Why it is not ready; empty when it is.
    pub reason: String,
}

/// How often something happened, and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Times.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// Statistics of the batches of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Rows in the batch.
    pub rows: u64,
    /// Gathering the inputs.
    pub compute_input: Tally,
    /// Running the model.
    pub compute_infer: Tally,
    /// Scattering the outputs.
    pub compute_output: Tally,
}

/// A servable's statistics since it was loaded, as the statistics extension defines them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelStatistics {
    /// Model.
    pub name: Arc<str>,
    /// Version.
    pub version: Arc<str>,
    /// Milliseconds since the epoch of the last request; 0 = none.
    pub last_inference: u64,
    /// Rows answered.
    pub inference_count: u64,
    /// Batches run.
    pub execution_count: u64,
    /// Requests answered.
    pub success: Tally,
    /// Requests failed.
    pub fail: Tally,
    /// Time in the queue.
    pub queue: Tally,
    /// Gathering.
    pub compute_input: Tally,
    /// Running.
    pub compute_infer: Tally,
    /// Scattering.
    pub compute_output: Tally,
    /// By batch size, ascending.
    pub batches: Vec<BatchStatistics>,
}

/// What was loaded, for the configuration extension.
#[derive(Clone, Debug)]
pub struct ModelConfigView {
    /// Model.
    pub name: Arc<str>,
    /// Version described.
    pub version: Arc<str>,
    /// Inputs and outputs.
    pub signature: Arc<Signature>,
    /// Which versions are wanted.
    pub versions: VersionPolicy,
    /// Batching as configured.
    pub batching: BatchingSpec,
    /// Rows that a request may have; 0 without a batch dimension.
    pub max_request_rows: usize,
    /// The largest batch that is formed.
    pub batch_limit: usize,
    /// Engine name.
    pub engine: &'static str,
    /// Digest of the model file.
    pub digest: Arc<str>,
    /// Why requests are not merged; `None` when they are.
    pub merging_off: Option<Arc<str>>,
    /// When it was loaded.
    pub loaded_at: SystemTime,
}

/// How a route is configured, for the configuration extension.
#[derive(Clone, Debug)]
pub struct RouteConfigView {
    /// Route.
    pub name: Arc<str>,
    /// Its revision.
    pub version: Arc<str>,
    /// Inputs and outputs.
    pub signature: Arc<Signature>,
    /// Rows that a request may have; 0 without a batch dimension.
    pub max_request_rows: usize,
    /// `weir_<kind>`.
    pub platform: &'static str,
    /// Its configuration as JSON.
    pub json: String,
}

/// What the configuration extension describes.
#[derive(Clone, Debug)]
pub enum ConfigView {
    /// A version of a model.
    Model(ModelConfigView),
    /// A route.
    Route(RouteConfigView),
}
