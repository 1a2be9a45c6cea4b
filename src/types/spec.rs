//! What may be configured about a model: the values of `model.toml`, with their defaults. Written by the `spec` layer from
//! text; read by the registry (versions, engine), the scheduler (batching) and the gateway (deadlines, scores).

use std::{collections::BTreeMap, time::Duration};

use super::Version;

/// The largest batch that `auto` may choose.
const AUTO_BATCH_ROWS: usize = 128;

/// Names of classes by output, the first being class 0.
pub type ClassNames = BTreeMap<Box<str>, Vec<Box<str>>>;

/// The configuration of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Which versions are wanted.
    pub versions: VersionPolicy,
    /// Names for versions; a labelled version is always wanted.
    pub labels: BTreeMap<Box<str>, Version>,
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// Whether the server counts as ready without it.
    pub required: bool,
    /// The deadline of a request that names none; `None` = no deadline.
    pub deadline: Option<Duration>,
    /// The longest deadline that a request may ask for; `None` = no cap.
    pub deadline_max: Option<Duration>,
    /// How requests are merged.
    pub batching: BatchingSpec,
    /// Where the score is; inferred from the outputs when absent.
    pub score: Option<ScoreSpec>,
    /// What it may use.
    pub resources: ResourceSpec,
    /// The most rows a single request may have, when the configuration says so (Triton's `max_batch_size`).
    pub max_request_rows: Option<usize>,
    /// Class names per output, for the classification extension (Triton's `label_filename`).
    pub class_names: ClassNames,
    /// The file inside a version folder; `model.onnx` unless configured (Triton's `default_model_filename`).
    pub model_filename: Box<str>,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            versions: VersionPolicy::Latest(1),
            labels: BTreeMap::new(),
            engine: EngineChoice::Auto,
            required: false,
            deadline: None,
            deadline_max: None,
            batching: BatchingSpec::default(),
            score: None,
            resources: ResourceSpec::default(),
            max_request_rows: None,
            class_names: ClassNames::new(),
            model_filename: "model.onnx".into(),
        }
    }
}

/// Which versions of a model are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The n highest.
    Latest(usize),
    /// Every one.
    All,
    /// These.
    Only(Vec<Version>),
}

/// Which engine runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// The fastest that agrees.
    Auto,
    /// The embedded engine.
    Tract,
    /// ONNX Runtime, where it is present.
    OnnxRuntime,
}

/// The largest batch that is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchLimit {
    /// Chosen by Weir.
    Auto,
    /// Chosen by the operator, who thereby also vouches that rows are independent.
    Rows(usize),
    /// A request is one batch, never merged, padded or split (written as 0).
    Whole,
}

/// How requests are merged and queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchingSpec {
    /// Largest batch.
    pub max_batch_size: BatchLimit,
    /// How long a batch may wait to fill up; zero = not at all.
    pub max_queue_delay: Duration,
    /// Batch sizes worth waiting for.
    pub preferred_batch_size: Vec<usize>,
    /// Rows that may wait; one more is refused.
    pub max_queue_rows: usize,
    /// Number of priority levels; 0 = no priorities. Level 1 is the most urgent.
    pub priority_levels: u32,
    /// The level of a request that names none; 0 = the middle one.
    pub default_priority_level: u32,
    /// The largest batch that [`BatchLimit::Auto`] may choose.
    pub auto_limit: usize,
}

impl BatchingSpec {
    /// The batch limit in rows; 1 for [`BatchLimit::Whole`], where no request is split by it.
    pub fn limit(&self) -> usize {
        match self.max_batch_size {
            BatchLimit::Auto => self.auto_limit.max(1),
            BatchLimit::Rows(rows) => rows.max(1),
            BatchLimit::Whole => 1,
        }
    }
}

impl Default for BatchingSpec {
    fn default() -> Self {
        Self {
            max_batch_size: BatchLimit::Auto,
            max_queue_delay: Duration::ZERO,
            preferred_batch_size: Vec::new(),
            max_queue_rows: 4096,
            priority_levels: 0,
            default_priority_level: 0,
            auto_limit: AUTO_BATCH_ROWS,
        }
    }
}

/// Which output is the score and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreSpec {
    /// The output's name.
    pub output: Box<str>,
    /// What its values are.
    pub kind: ScoreKind,
    /// The range that histograms cover; `None` = [0, 1] for probabilities, else found at run time.
    pub bounds: Option<(f64, f64)>,
}

/// What a score output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreKind {
    /// Class probabilities, or one column p.
    Probability,
    /// Class scores before softmax.
    Logit,
    /// A number.
    Regression,
    /// A class index or name.
    Label,
}

/// What a model may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSpec {
    /// Batches that may run at once; 0 = as many as there are workers.
    pub max_parallel_batches: usize,
    /// Bytes that the outputs of one batch may have.
    pub max_output_bytes: usize,
    /// Bytes that compiled plans may take; 0 = no limit.
    pub max_plan_bytes: usize,
    /// Batches that may fail in a row before requests are refused; 0 = any number.
    pub circuit_failures: u32,
    /// How long they are then refused at first.
    pub circuit_pause: Duration,
    /// A run that lasts longer is given up; `None` = as is measured.
    pub stuck_after: Option<Duration>,
}

impl Default for ResourceSpec {
    fn default() -> Self {
        Self {
            max_parallel_batches: 0,
            max_output_bytes: 64 << 20,
            max_plan_bytes: 0,
            circuit_failures: 5,
            circuit_pause: Duration::from_secs(1),
            stuck_after: None,
        }
    }
}
