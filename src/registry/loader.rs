//! From files to a servable: read, check, compile, prove, compare with the golden answers, and only then a lane into the
//! scheduler. Everything here blocks and may take seconds; it runs on the loader threads and in `weir check`, never where
//! requests are served.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    bundle::{Bundle, Shelf, read_bundle},
    config::ModelConfig,
    golden::Golden,
    remember::Remembering,
    servable::Servable,
    source::Place,
};
use crate::{
    engine::{Engine, Limits, LoadError, Model},
    observe::{Metrics, ResolvedScore},
    scheduler::{LaneParts, Merging, Scheduler, prove, run_once, zeros},
    types::{Batch, BatchLimit, EngineChoice, ServableId, Tensor},
};

/// The engines that this process has.
#[derive(Clone)]
pub struct Engines {
    embedded: Arc<dyn Engine>,
    /// Or why there is none.
    onnxruntime: Result<Arc<dyn Engine>, Arc<str>>,
}

impl Engines {
    /// With the embedded engine only.
    pub fn new(embedded: Arc<dyn Engine>) -> Self {
        Self { embedded, onnxruntime: Err("onnxruntime is not in this build".into()) }
    }

    /// Says why there is no ONNX Runtime: what those hear whose model asks for it.
    #[must_use]
    pub fn without_onnxruntime(self, why: impl Into<Arc<str>>) -> Self {
        Self { onnxruntime: Err(why.into()), ..self }
    }

    /// Also with ONNX Runtime.
    #[must_use]
    pub fn with_onnxruntime(self, engine: Arc<dyn Engine>) -> Self {
        Self { onnxruntime: Ok(engine), ..self }
    }

    fn choose(&self, choice: EngineChoice) -> Result<&Arc<dyn Engine>, LoadError> {
        match choice {
            EngineChoice::Auto | EngineChoice::Tract => Ok(&self.embedded),
            EngineChoice::OnnxRuntime => {
                self.onnxruntime.as_ref().map_err(|why| LoadError::new(format!("model.toml: engine: {why}")))
            }
        }
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let onnxruntime = self.onnxruntime.is_ok();
        f.debug_struct("Engines").field("embedded", &self.embedded.name()).field("onnxruntime", &onnxruntime).finish()
    }
}

/// What to load.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which version.
    pub id: ServableId,
    /// The model's folder.
    pub folder: PathBuf,
    /// Where the version's files are.
    pub place: Place,
    /// The model's configuration.
    pub config: Arc<ModelConfig>,
    /// The fingerprint of what serves already under the same configuration: equal files need no loading.
    pub known: Option<Arc<str>>,
}

/// What came of an order.
#[derive(Debug)]
pub enum Loaded {
    /// A servable, ready to serve, and the fingerprint of its files.
    New(Box<Servable>, Arc<str>),
    /// The files are those that serve already.
    Same,
}

/// Loads versions. Shared by the loader threads.
#[derive(Debug)]
pub struct Loader {
    /// What runs models.
    pub engines: Engines,
    /// What the servables' lanes lead to.
    pub scheduler: Arc<Scheduler>,
    /// Where their series are.
    pub metrics: Arc<Metrics>,
    /// Bytes that the files of one version may have together.
    pub max_bytes: u64,
}

impl Loader {
    /// Loads a version. A panic on the way is an error like any other.
    ///
    /// # Errors
    /// Why it cannot be served, by file and part.
    pub fn load(&self, order: &Order) -> Result<Loaded, LoadError> {
        catch_unwind(AssertUnwindSafe(|| self.load_here(order)))
            .unwrap_or_else(|_| Err(LoadError::new("loading panicked; the log says where")))
    }

    fn load_here(&self, order: &Order) -> Result<Loaded, LoadError> {
        let start = Instant::now();
        let spec = &order.config.spec;
        let engine = self.engines.choose(spec.engine)?;
        let Bundle { artifact, golden, digest, fingerprint } = read_bundle(Shelf {
            folder: &order.folder,
            version: order.id.version,
            place: order.place,
            model_filename: &spec.model_filename,
            max_bytes: self.max_bytes,
        })?;
        if order.known.as_ref() == Some(&fingerprint) {
            return Ok(Loaded::Same);
        }
        let limits = Limits { max_output_bytes: spec.resources.max_output_bytes };
        let in_file = |error: LoadError| in_file(&spec.model_filename, &error);
        let model = Remembering::new(engine.load(&artifact, &limits).map_err(in_file)?);
        drop(artifact);
        let signature = model.signature().clone();
        if let Some(problem) = order.config.declared.check(&signature).first() {
            return Err(LoadError::new(format!("config.pbtxt: {problem}")));
        }
        model.plan((signature.batch == Batch::Rows).then_some(1)).map_err(in_file)?;
        let golden = golden.map(|text| Golden::read(&text, &signature)).transpose()?;
        let sample = match &golden {
            Some(golden) => golden.check(&model)?,
            None => sample(&model),
        };
        let inputs = golden.as_ref().map(Golden::inputs).unwrap_or_default();
        let merging = merging(&model, spec.batching.max_batch_size, &inputs).map_err(in_file)?;
        let score = ResolvedScore::resolve(&signature, spec.score.as_ref(), &sample);
        let score = score
            .map_err(|error| LoadError::new(format!("model.toml: [score]: {}", error.text())))?
            .map(|score| with_class_names(score, order));
        let series = self.metrics.servable(&order.id, engine.name(), &digest, score);
        let model = Arc::new(model);
        let lane = self.scheduler.lane(LaneParts {
            id: order.id.clone(),
            model: Arc::clone(&model) as Arc<dyn Model>,
            merging: merging.clone(),
            batching: spec.batching.clone(),
            resources: spec.resources.clone(),
            series: Arc::clone(&series),
        });
        let lane = lane.map_err(in_file)?;
        model.forget();
        let servable = Servable {
            id: order.id.clone(),
            signature: Arc::new(signature),
            spec: Arc::clone(spec),
            engine: engine.name(),
            digest,
            lane,
            series,
            loaded_at: SystemTime::now(),
            load_time: start.elapsed(),
            source: source(order).into(),
            merging,
        };
        Ok(Loaded::New(Box::new(servable), fingerprint))
    }
}

/// Every reason begins with the file that it is about.
fn in_file(name: &str, error: &LoadError) -> LoadError {
    let text = error.to_string();
    LoadError::new(format!("{name}: {}", text.strip_prefix("model: ").unwrap_or(&text)))
}

fn with_class_names(score: ResolvedScore, order: &Order) -> ResolvedScore {
    match order.config.spec.class_names.get(&*score.name) {
        Some(names) => score.with_class_names(names),
        None => score,
    }
}

/// Whether requests may share batches: as the operator says, else as can be proved.
fn merging(model: &dyn Model, limit: BatchLimit, samples: &[Vec<Tensor>]) -> Result<Merging, LoadError> {
    if model.signature().batch == Batch::None {
        return Ok(Merging::NoBatch);
    }
    match limit {
        BatchLimit::Rows(_) => Ok(Merging::Vouched),
        BatchLimit::Whole => Ok(Merging::Off("max_batch_size is 0".into())),
        BatchLimit::Auto => prove(model, samples),
    }
}

/// The outputs of a run on zeros: tells what the outputs look like when nothing better is known.
fn sample(model: &dyn Model) -> Vec<Tensor> {
    let signature = model.signature();
    let Some(inputs) = zeros(signature, 1) else { return Vec::new() };
    let outputs = model
        .plan((signature.batch == Batch::Rows).then_some(1))
        .map_err(|error| error.to_string())
        .and_then(|plan| run_once(model, &plan, &inputs).map_err(|error| error.to_string()));
    outputs.unwrap_or_else(|error| {
        // Zeros may lie outside of what the model takes; that says nothing against it.
        tracing::debug!(%error, "a run on zeros failed");
        Vec::new()
    })
}

/// Where a version is, relative to the registry.
fn source(order: &Order) -> String {
    let ServableId { model, version } = &order.id;
    let file = &order.config.spec.model_filename;
    match order.place {
        Place::Folder => format!("{model}/{version}/{file}"),
        Place::Bare => format!("{model}/{file}"),
    }
}
