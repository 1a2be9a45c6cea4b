//! From files to a servable: read, check, compile, compare with the golden answers, choose the engine, prove, and only then a lane
//! into the scheduler. Everything here blocks and may take seconds; it runs on the loader threads and in `weir check`, never where
//! requests are served.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    bundle::{Bundle, Shelf, read_bundle},
    candidate::{Candidate, Goods, caught, in_file},
    classes::Classes,
    config::ModelConfig,
    engines::Engines,
    servable::Servable,
    source::Place,
    sums::Sums,
    times::LoadClock,
};
use crate::{
    engine::{LoadError, Model},
    observe::{Metrics, ResolvedScore},
    scheduler::{LaneParts, Merging, Scheduler, prove},
    types::{Batch, BatchLimit, ServableId, Tensor},
};

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
        caught(|| self.load_here(order))
    }

    fn load_here(&self, order: &Order) -> Result<Loaded, LoadError> {
        let mut clock = LoadClock::start();
        let spec = &order.config.spec;
        let Bundle { artifact, golden, mut sums } = read_bundle(Shelf {
            folder: &order.folder,
            version: order.id.version,
            place: order.place,
            model_filename: &spec.model_filename,
            max_bytes: self.max_bytes,
        })?;
        if let Some(known) = &order.known {
            let read = sums.wait()?;
            if read.fingerprint == *known {
                return Ok(Loaded::Same);
            }
            sums = read.into();
        }
        clock.stage(|times| &mut times.read);
        let goods = Goods { order, artifact: &artifact, golden: golden.as_deref(), probe: self.engines.probe() };
        let (candidate, selection) = self.engines.load(&goods)?;
        clock.engine(candidate.times);
        drop(artifact);
        selection.log(&order.id);
        let in_file = |error: LoadError| in_file(&spec.model_filename, &error);
        let inputs = candidate.golden_inputs();
        let Candidate { engine, model, sample, times, .. } = candidate;
        let signature = model.signature().clone();
        let classes = Classes::new(model.class_names(), spec);
        let merging = merging(&model, spec.batching.max_batch_size, (&inputs, times.compile)).map_err(in_file)?;
        clock.stage(|times| &mut times.proof);
        // Needed for the first time: digests of large files take longer than to load them.
        let Sums { digest, fingerprint } = sums.wait()?;
        clock.stage(|times| &mut times.read);
        let score = ResolvedScore::resolve(&signature, spec.score.as_ref(), &sample);
        let score = score
            .map_err(|error| LoadError::new(format!("model.toml: [score]: {}", error.text())))?
            .map(|score| with_class_names(score, &classes));
        let series = self.metrics.servable(&order.id, engine, &digest, score);
        let model = Arc::new(model);
        let parts = LaneParts {
            id: order.id.clone(),
            model: Arc::clone(&model) as Arc<dyn Model>,
            merging: merging.clone(),
            batching: spec.batching.clone(),
            resources: spec.resources.clone(),
            series: Arc::clone(&series),
        };
        let lane = self.scheduler.lane_after(parts, times.compile).map_err(in_file)?;
        model.forget();
        let servable = Servable {
            id: order.id.clone(),
            signature: Arc::new(signature),
            spec: Arc::clone(spec),
            classes,
            engine,
            selection: Arc::new(selection),
            digest,
            lane,
            series,
            loaded_at: SystemTime::now(),
            load_times: clock.stop(),
            source: source(order).into(),
            merging,
        };
        Ok(Loaded::New(Box::new(servable), fingerprint))
    }
}

fn with_class_names(score: ResolvedScore, classes: &Classes) -> ResolvedScore {
    match classes.names().get(&*score.name) {
        Some(names) => score.with_class_names(names),
        None => score,
    }
}

/// Whether requests may share batches: as the operator says, else as can be proved with known inputs, by how long a plan took to
/// compile.
fn merging(
    model: &dyn Model,
    limit: BatchLimit,
    (samples, compile): (&[Vec<Tensor>], Duration),
) -> Result<Merging, LoadError> {
    if model.signature().batch == Batch::None {
        return Ok(Merging::NoBatch);
    }
    match limit {
        BatchLimit::Rows(_) => Ok(Merging::Vouched),
        BatchLimit::Whole => Ok(Merging::Off("max_batch_size is 0".into())),
        BatchLimit::Auto => prove(model, samples, compile),
    }
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
