//! Runs every stage of a cascade over all labelled rows, in this process and through the same scheduler that serves: what each
//! measured and whether it was right.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    classes::{self, Source},
    data::{Classes, Data},
};
use crate::{
    app::engines,
    cli::{exit::Failure, layers},
    compose::gate::Gate,
    observe::Metrics,
    registry::{Control, Pins, Registry, RegistryConfig, Servable, WatchMode},
    scheduler::{Merging, Scheduler, SchedulerOptions},
    types::{Batch, ModelName, NamedTensor, Stage, Tensor, Version, VersionRef},
};

/// Rows that are asked for at a time.
const CHUNK: usize = 512;

/// What a stage did with the labelled rows.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Who answered.
    pub(super) model: ModelName,
    pub(super) version: Version,
    /// SHA-256 of the model file.
    pub(super) digest: Arc<str>,
    /// Where the predicted class was read, in words.
    pub(super) class_from: String,
    /// The measure of every row; empty for the last stage, which has none.
    pub(super) measures: Vec<f64>,
    /// Whether every row was right.
    pub(super) right: Vec<bool>,
}

/// The models of the stages, loaded.
struct Models {
    registry: Arc<Registry>,
    scheduler: Arc<Scheduler>,
}

/// Runs all stages.
///
/// # Errors
/// A model that cannot be loaded, an output or input that does not fit, columns that are missing; each names the stage or the file.
pub(super) async fn run(registry: &Path, stages: &[Stage], data: &Data) -> Result<Vec<Run>, Failure> {
    let models = Models::load(registry, stages).await?;
    let mut runs = Vec::new();
    for at in 0..stages.len() {
        let named = |failure: Failure| Failure { text: format!("stage[{at}]: {}", failure.text), ..failure };
        let servable = models.resolve(&stages[at]).map_err(named)?;
        let plan = Plan::new(&servable, stages, at).map_err(|text| named(Failure::problem(text)))?;
        runs.push(plan.run(data).await?);
    }
    Ok(runs)
}

impl Models {
    async fn load(root: &Path, stages: &[Stage]) -> Result<Self, Failure> {
        let scheduler = Scheduler::start(SchedulerOptions::default());
        let scheduler = scheduler.map_err(|error| Failure::problem(format!("threads: {error}")))?;
        let metrics = Metrics::new();
        let config = RegistryConfig { watch: WatchMode::Off, control: Control::Explicit, ..RegistryConfig::new(root) };
        let engines = engines(layers::onnxruntime_lib(&layers::Process).as_deref());
        let engines = engines.map_err(|error| Failure::usage(error.to_string()))?;
        let registry = Registry::start(config, engines, Arc::clone(&scheduler), metrics)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let models = Self { registry, scheduler };
        let mut pins: Pins = BTreeMap::new();
        for stage in stages {
            let versions: &mut BTreeSet<Version> = pins.entry(stage.part.name.clone()).or_default();
            if let VersionRef::Exact(version) = stage.part.version {
                versions.insert(version);
            }
        }
        models.registry.pin(pins.clone()).map_err(|error| Failure::problem(error.to_string()))?;
        for name in pins.keys() {
            // Refused versions concern nobody unless a stage wants them, which is told below with the stage and the reason.
            drop(models.registry.load(name.as_str()).await);
        }
        Ok(models)
    }

    fn resolve(&self, stage: &Stage) -> Result<Arc<Servable>, Failure> {
        let (name, version) = (&stage.part.name, &stage.part.version);
        let snapshot = self.registry.snapshot();
        snapshot.resolve(name.as_str(), version).map_err(|error| {
            let reasons: Vec<String> = snapshot
                .model(name.as_str())
                .map(|entry| {
                    let versions = entry.versions.iter().filter(|version| !version.reason.is_empty());
                    let each = versions.map(|version| format!("version {}: {}", version.version, version.reason));
                    std::iter::once(entry.reason.clone()).filter(|reason| !reason.is_empty()).chain(each).collect()
                })
                .unwrap_or_default();
            let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
            Failure::problem(format!("{error}{why}"))
        })
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        self.registry.shutdown();
        self.scheduler.shutdown();
    }
}

/// How a stage is run and read.
struct Plan<'a> {
    servable: &'a Arc<Servable>,
    gate: Option<(usize, Gate)>,
    class: Source,
}

impl<'a> Plan<'a> {
    fn new(servable: &'a Arc<Servable>, stages: &[Stage], at: usize) -> Result<Self, String> {
        let signature = &servable.signature;
        if signature.batch != Batch::Rows {
            return Err(format!("model '{}' has no batch dimension: a cascade works on rows", servable.id.model));
        }
        let gate = stages[at].accept.as_ref().map(|accept| {
            let output = signature.output(&accept.output).map_err(|error| error.to_string())?;
            let gate = Gate::new(accept);
            let spec = &signature.outputs[output];
            gate.fits(spec.dtype, &spec.shape).map_err(|what| format!("accept.output '{}': {what}", accept.output))?;
            Ok::<_, String>((output, gate))
        });
        let accepts = stages[..=at].iter().rev().find_map(|stage| stage.accept.as_ref());
        let class = classes::source(signature, accepts)?;
        Ok(Self { servable, gate: gate.transpose()?, class })
    }

    async fn run(&self, data: &Data) -> Result<Run, Failure> {
        let servable = self.servable;
        let inputs = servable.signature.inputs.iter();
        let inputs: Vec<NamedTensor> = inputs
            .map(|spec| data.input(spec).map(|tensor| NamedTensor { name: Arc::clone(&spec.name), tensor }))
            .collect::<Result<_, _>>()?;
        // Rows that would influence each other are asked for one by one.
        let chunk = if matches!(servable.merging, Merging::Off(_)) { 1 } else { CHUNK };
        let chunk = chunk.min(servable.spec.max_request_rows.unwrap_or(chunk)).max(1);
        let (mut measures, mut classes) = (Vec::new(), self.class.none());
        for from in (0..data.rows()).step_by(chunk) {
            let rows = chunk.min(data.rows() - from);
            let outputs = self.ask(&inputs, from, rows).await.map_err(|text| {
                Failure::problem(format!("model '{}' version {}: {text}", servable.id.model, servable.id.version))
            })?;
            if let Some((output, gate)) = &self.gate {
                let mut of_chunk = SmallVec::new();
                gate.measures(&outputs[*output], &mut of_chunk).map_err(|error| Failure::problem(error.to_string()))?;
                measures.extend(of_chunk);
            }
            self.class.read(&outputs, &mut classes);
        }
        let answered = match &classes {
            Classes::Numbers(classes) => classes.len(),
            Classes::Texts(classes) => classes.len(),
        };
        if answered != data.rows() {
            let text = format!("{}: expected a class for each of {} rows, got {answered}", self.class, data.rows());
            return Err(Failure::problem(text));
        }
        Ok(Run {
            model: servable.id.model.clone(),
            version: servable.id.version,
            digest: Arc::clone(&servable.digest),
            class_from: self.class.to_string(),
            measures,
            right: data.right(&classes)?,
        })
    }

    async fn ask(&self, inputs: &[NamedTensor], from: usize, rows: usize) -> Result<Vec<Tensor>, String> {
        let cut = |input: &NamedTensor| {
            let tensor = input.tensor.slice_rows(from, rows)?;
            Ok(NamedTensor { name: Arc::clone(&input.name), tensor })
        };
        let cut = inputs.iter().map(cut).collect::<Result<Vec<_>, crate::types::Error>>();
        let accepted = cut.and_then(|inputs| self.servable.signature.accept(&inputs, rows));
        let accepted = accepted.map_err(|error| error.to_string())?;
        let answer = self.servable.lane.run(accepted, None).await;
        answer
            .map(|answer| answer.outputs)
            .map_err(|error| error.detail().map_or_else(|| error.to_string(), |detail| format!("{error}: {detail}")))
    }
}
