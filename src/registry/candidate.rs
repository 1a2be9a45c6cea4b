//! A version in one engine: loaded, compiled for one row, and with its golden answers. Called by the loader; where two engines
//! could run it, there are two candidates.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    golden::Golden,
    loader::Order,
    remember::Remembering,
    times::{LoadClock, LoadTimes},
};
use crate::{
    engine::{Artifact, Engine, Limits, LoadError, LoadProbe, Model as _},
    scheduler::{run_once, zeros},
    types::Tensor,
};

/// What is loaded.
pub(super) struct Goods<'a> {
    /// Which version, under which configuration.
    pub(super) order: &'a Order,
    /// Its files.
    pub(super) artifact: &'a Artifact,
    /// The text of `golden.json`, where there is one.
    pub(super) golden: Option<&'a str>,
    /// What tries the model in a process of its own first, where there is such a thing.
    pub(super) probe: Option<&'a dyn LoadProbe>,
}

/// A version that an engine can serve.
pub(super) struct Candidate {
    /// What runs it.
    pub(super) engine: &'static str,
    pub(super) model: Remembering,
    golden: Option<Golden>,
    /// The outputs of its first golden case, or of a run on zeros.
    pub(super) sample: Vec<Tensor>,
    /// How long each of its stages took.
    pub(super) times: LoadTimes,
}

impl Candidate {
    /// Loads a version: a trial in another process, the file, the declared signature, one row, the golden answers.
    ///
    /// # Errors
    /// Why the engine cannot serve it, by file and part.
    pub(super) fn load(engine: &dyn Engine, goods: &Goods<'_>) -> Result<Self, LoadError> {
        let mut clock = LoadClock::start();
        let config = &goods.order.config;
        let limits = Limits { max_output_bytes: config.spec.resources.max_output_bytes };
        let in_file = |error: LoadError| in_file(&config.spec.model_filename, &error);
        if let Some(probe) = goods.probe {
            probe.probe(engine.name(), goods.artifact, &limits).map_err(in_file)?;
            clock.stage(|times| &mut times.probe);
        }
        let model = Remembering::new(engine.load(goods.artifact, &limits).map_err(in_file)?);
        let signature = model.signature();
        if let Some(problem) = config.declared.check(signature).first() {
            return Err(LoadError::new(format!("config.pbtxt: {problem}")));
        }
        clock.stage(|times| &mut times.parse);
        model.plan(signature.one_row()).map_err(in_file)?;
        clock.stage(|times| &mut times.compile);
        let golden = goods.golden.map(|text| Golden::read(text, signature)).transpose()?;
        let sample = if let Some(golden) = &golden {
            let sample = golden.check(&model)?;
            clock.stage(|times| &mut times.golden);
            sample
        } else {
            let sample = sample(&model);
            clock.stage(|times| &mut times.sample);
            sample
        };
        Ok(Self { engine: engine.name(), model, golden, sample, times: clock.stop() })
    }

    /// Whether the golden answers say what this output must be: then it has been compared with them already.
    pub(super) fn is_golden(&self, output: usize) -> bool {
        self.golden.as_ref().is_some_and(|golden| golden.covers(output))
    }

    /// The inputs of every golden case, in the model's order.
    pub(super) fn golden_inputs(&self) -> Vec<Vec<Tensor>> {
        self.golden.as_ref().map(Golden::inputs).unwrap_or_default()
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("engine", &self.engine).field("times", &self.times).finish_non_exhaustive()
    }
}

/// Makes a panic an error like any other.
pub(super) fn caught<T>(load: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err(LoadError::new("loading panicked; the log says where")))
}

/// Every reason begins with the file that it is about.
pub(super) fn in_file(name: &str, error: &LoadError) -> LoadError {
    let text = error.to_string();
    LoadError::new(format!("{name}: {}", text.strip_prefix("model: ").unwrap_or(&text)))
}

/// The outputs of a run on zeros: tells what the outputs look like when nothing better is known.
fn sample(model: &Remembering) -> Vec<Tensor> {
    let signature = model.signature();
    let Some(inputs) = zeros(signature, 1) else { return Vec::new() };
    let outputs = model
        .plan(signature.one_row())
        .map_err(|error| error.to_string())
        .and_then(|plan| run_once(model, &plan, &inputs).map_err(|error| error.to_string()));
    outputs.unwrap_or_else(|error| {
        // Zeros may lie outside of what the model takes; that says nothing against it.
        tracing::debug!(%error, "a run on zeros failed");
        Vec::new()
    })
}
