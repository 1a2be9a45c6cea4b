//! Layer 3: loads graphs and runs batches. The four traits are the seam to everything above: an [`Engine`] turns an
//! [`Artifact`] into a [`Model`], a model compiles a [`Plan`] per batch size, a plan gives [`Session`]s, and a session owns
//! the buffers that rows are gathered into and scattered from. Nothing else of an engine leaks.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;

use crate::types::{ClassNames, DType, Signature};

mod class_names;
pub mod fake;
pub mod function;
mod guard;
mod onnx_fixes;
mod onnx_ml;
mod onnx_more;
pub mod onnxruntime;
mod operator;
mod precheck;
pub mod probe;
mod rewrite;
pub mod tract;
mod trials;

pub use guard::loading_thread;
pub use probe::LoadProbe;
pub use tract::TractEngine;

/// A model file in memory, with everything it refers to. Files are read, never mapped: a truncated file must not be able to
/// take the process with it.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What the bytes are.
    pub kind: ArtifactKind,
    /// The model file.
    pub bytes: Bytes,
    /// External tensor data by file name, already confined to the version's folder.
    pub side_files: BTreeMap<String, Bytes>,
}

/// Formats that engines may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// An ONNX `ModelProto`.
    Onnx,
}

/// What a model may use while it is loaded and run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that the outputs of one run may have.
    pub max_output_bytes: usize,
}

/// Loads artifacts. One per process and kind of engine.
pub trait Engine: Send + Sync {
    /// The name that configuration, metrics and `weir models` use.
    fn name(&self) -> &'static str;

    /// Parses and checks an artifact; compiles nothing that depends on a batch size yet.
    ///
    /// # Errors
    /// What is wrong with the artifact, naming operator and node where there is one. Never panics.
    fn load(&self, artifact: &Artifact, limits: &Limits) -> Result<Box<dyn Model>, LoadError>;
}

/// A parsed graph.
pub trait Model: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// Operators that make two runs on one input differ, or rows depend on each other by design; named to the operator when
    /// merging is off because of them. Empty when none is known.
    fn order_dependent(&self) -> Vec<String> {
        Vec::new()
    }

    /// The names of its outputs' classes that the file itself has.
    fn class_names(&self) -> ClassNames {
        ClassNames::new()
    }

    /// Compiles the graph for batches of exactly `rows` rows; `None` for models without batch dimension.
    ///
    /// # Errors
    /// Why this size cannot be compiled.
    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError>;
}

/// A graph compiled for one batch size. Shared by all workers.
pub trait Plan: Send + Sync {
    /// What it holds in memory: parts by an identity, and how many bytes each has. Plans that share a part, such as packed weights,
    /// give it one identity. Empty where a size takes no memory of its own.
    fn parts(&self) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Buffers and state for one worker.
    ///
    /// # Errors
    /// When the engine cannot make them.
    fn session(&self) -> Result<Box<dyn Session>, EngineError>;
}

/// One worker's buffers and state of a plan: fill every input, run, read the outputs.
pub trait Session: Send {
    /// The buffer of input `index` for a tensor of this shape. Its content is undefined; the caller overwrites all of it.
    ///
    /// # Errors
    /// When the plan cannot take the shape.
    fn input(&mut self, index: usize, shape: &[usize]) -> Result<InputBuffer<'_>, EngineError>;

    /// Runs the graph on the inputs written last.
    ///
    /// # Errors
    /// When the graph fails. Panics inside an engine are turned into errors; the session must then not be used again.
    fn run(&mut self) -> Result<(), EngineError>;

    /// Output `index` of the last run.
    ///
    /// # Errors
    /// When there was no run, or the output is larger than the limit.
    fn output(&self, index: usize) -> Result<OutputView<'_>, EngineError>;
}

/// Where the rows of an input go.
#[derive(Debug)]
pub enum InputBuffer<'a> {
    /// Little-endian, row-major bytes of the whole tensor.
    Plain(&'a mut [u8]),
    /// One string per element.
    Strings(&'a mut [String]),
}

/// An output, as long as the session is not touched.
#[derive(Clone, Copy, Debug)]
pub struct OutputView<'a> {
    /// Element type.
    pub dtype: DType,
    /// Concrete sizes.
    pub shape: &'a [usize],
    /// The elements.
    pub data: OutputData<'a>,
}

/// The elements of an output.
#[derive(Clone, Copy, Debug)]
pub enum OutputData<'a> {
    /// Little-endian, row-major bytes.
    Plain(&'a [u8]),
    /// One string per element.
    Strings(&'a [String]),
}

/// Why a model cannot be served. The text is shown to operators in the repository index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

impl LoadError {
    /// A load error; the text names the part of the model and what is wrong with it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Why a run failed. Details go to the log; callers are told that the model failed, unless it is their inputs that do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct EngineError {
    text: String,
    unfit: bool,
}

impl EngineError {
    /// An engine error from anything that can be shown.
    pub fn new(what: impl fmt::Display) -> Self {
        Self { text: what.to_string(), unfit: false }
    }

    /// The graph takes no inputs of such sizes, which the signature leaves open: the text is for the caller.
    pub fn unfit(what: impl fmt::Display) -> Self {
        Self { text: what.to_string(), unfit: true }
    }

    /// True when the inputs are at fault, and not the model.
    pub fn is_unfit(&self) -> bool {
        self.unfit
    }
}
