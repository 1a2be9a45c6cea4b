//! The engines that this process has, and the choice between them: `engine = "auto"` loads a version in every engine, compares
//! the answers, times a few batch sizes, and keeps the fastest. Called by the loader; what was found out is kept with the
//! servable, for operators.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    candidate::{Candidate, Goods, caught},
    trial::{self, Compared, Costs, Trial},
};
use crate::{
    engine::{Engine, LoadError, LoadProbe, Model as _},
    types::{BatchLimit, EngineChoice},
};

/// The other engine must be faster by this factor: less is not told apart from noise, and the embedded one is at home here.
const FASTER: f64 = 1.03;

/// The part of the load budget that timing may take.
const TIMING: u32 = 4;

/// Why there was nothing to choose.
const CONFIGURED: &str = "the configuration says so";

/// Load budget, unless configured.
const BUDGET: Duration = Duration::from_secs(2);

/// How long a load waits for another's timing to end before it times beside it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The engines that this process has.
#[derive(Clone)]
pub struct Engines {
    embedded: Arc<dyn Engine>,
    other: Other,
    budget: Duration,
    probe: Option<Arc<dyn LoadProbe>>,
    /// Held while engines are timed, so that loads do not disturb each other's figures.
    timing: Arc<Mutex<()>>,
}

#[derive(Clone)]
enum Other {
    /// Why there is none, as in `onnxruntime is not in this build`.
    Absent(Arc<str>),
    Present(Arc<dyn Engine>),
}

impl Engines {
    /// With the embedded engine only.
    pub fn new(embedded: Arc<dyn Engine>) -> Self {
        let absent = Other::Absent("onnxruntime is not in this build".into());
        Self { embedded, other: absent, budget: BUDGET, probe: None, timing: Arc::default() }
    }

    /// Says why there is no ONNX Runtime: what those hear whose model asks for it.
    #[must_use]
    pub fn without_onnxruntime(self, why: impl Into<Arc<str>>) -> Self {
        Self { other: Other::Absent(why.into()), ..self }
    }

    /// Also with ONNX Runtime.
    #[must_use]
    pub fn with_onnxruntime(self, engine: Arc<dyn Engine>) -> Self {
        Self { other: Other::Present(engine), ..self }
    }

    /// Changes the time that compiling and timing batch sizes may take per version; a part of it is for the choice.
    #[must_use]
    pub fn with_budget(self, budget: Duration) -> Self {
        Self { budget, ..self }
    }

    /// Also with a load probe: for every engine, a version is tried in a process of its own before it is loaded in this one.
    #[must_use]
    pub fn with_probe(self, probe: Arc<dyn LoadProbe>) -> Self {
        Self { probe: Some(probe), ..self }
    }

    pub(super) fn probe(&self) -> Option<&dyn LoadProbe> {
        self.probe.as_deref()
    }

    /// Loads a version in the engine that its configuration asks for, or the best.
    ///
    /// # Errors
    /// Why no engine can serve it.
    pub(super) fn load(&self, goods: &Goods<'_>) -> Result<(Candidate, Selection), LoadError> {
        let start = Instant::now();
        let mut panel = Panel { goods, tried: Vec::new() };
        let (candidate, why, disagreement) = match (goods.order.config.spec.engine, &self.other) {
            (EngineChoice::OnnxRuntime, Other::Absent(why)) => {
                return Err(LoadError::new(format!("model.toml: engine: {why}")));
            }
            (EngineChoice::OnnxRuntime, Other::Present(engine)) => {
                (panel.load(&**engine)?, CONFIGURED.to_owned(), None)
            }
            (EngineChoice::Tract, _) => (panel.load(&*self.embedded)?, CONFIGURED.to_owned(), None),
            (EngineChoice::Auto, Other::Absent(_)) => {
                (panel.load(&*self.embedded)?, "there is no other".to_owned(), None)
            }
            (EngineChoice::Auto, Other::Present(engine)) => {
                let ours = panel.load(&*self.embedded);
                let theirs = panel.load(&**engine);
                self.choose(&mut panel, ours, theirs)?
            }
        };
        let took = start.elapsed();
        let selection = Selection { kept: candidate.engine, why: why.into(), disagreement, tried: panel.tried, took };
        Ok((candidate, selection))
    }

    fn choose(
        &self,
        panel: &mut Panel<'_>,
        ours: Result<Candidate, LoadError>,
        theirs: Result<Candidate, LoadError>,
    ) -> Result<Chosen, LoadError> {
        let only = || "no other can serve it".to_owned();
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Ok(ours), Err(_)) => return Ok((ours, only(), None)),
            (Err(_), Ok(theirs)) => return Ok((theirs, only(), None)),
            (Err(ours), Err(theirs)) => return Err(neither(&ours, &theirs)),
        };
        match trial::compare(&ours, &theirs) {
            Compared::FirstFails(why) => {
                panel.refuse(ours.engine, why);
                Ok((theirs, only(), None))
            }
            Compared::SecondFails(why) => {
                panel.refuse(theirs.engine, why);
                Ok((ours, only(), None))
            }
            // Whoever exported the model has most likely looked at what ONNX Runtime says.
            Compared::Differ(text) => {
                panel.refuse(ours.engine, format!("its answers differ from those of {}: {text}", theirs.engine));
                let why = format!("the engines disagree, and {} is the reference", theirs.engine);
                Ok((theirs, why, Some(text.into())))
            }
            Compared::Unknown(why) => Ok((ours, format!("the engines were not compared: {why}"), None)),
            Compared::Agree => Ok(self.faster(panel, ours, theirs)),
        }
    }

    fn faster(&self, panel: &mut Panel<'_>, ours: Candidate, mut theirs: Candidate) -> Chosen {
        theirs.model.narrow(ours.model.signature());
        let limit = match panel.goods.order.config.spec.batching.max_batch_size {
            BatchLimit::Auto => usize::MAX,
            BatchLimit::Rows(rows) => rows,
            BatchLimit::Whole => 1,
        };
        let alone = self.timing.try_lock_for(PATIENCE);
        let costs = trial::time([&ours, &theirs], Trial { limit, budget: self.budget / TIMING });
        drop(alone);
        let costs = match costs {
            Ok(costs) => costs,
            Err((0, why)) => {
                panel.refuse(ours.engine, why);
                return (theirs, "no other can serve it".to_owned(), None);
            }
            Err((_, why)) => {
                panel.refuse(theirs.engine, why);
                return (ours, "no other can serve it".to_owned(), None);
            }
        };
        panel.timed(&costs);
        let (other, why) = verdict(&costs, theirs.engine);
        (if other { theirs } else { ours }, why, None)
    }
}

/// Whether the other engine is to run it, and why, from what both were timed at. Pure.
fn verdict(costs: &Costs, other: &str) -> (bool, String) {
    match trial::ratio(costs) {
        Some(ratio) if ratio >= FASTER => (true, format!("it is {ratio:.2} times as fast")),
        Some(ratio) => (false, format!("{other} is {ratio:.2} times as fast")),
        None => (false, "nothing could be timed".to_owned()),
    }
}

/// A candidate, why it was chosen, and what the engines disagree in.
type Chosen = (Candidate, String, Option<Arc<str>>);

/// What is found out about the engines on the way.
struct Panel<'a> {
    goods: &'a Goods<'a>,
    tried: Vec<Tried>,
}

impl Panel<'_> {
    /// Loads the version in one engine. A panic on the way is an error like any other.
    fn load(&mut self, engine: &dyn Engine) -> Result<Candidate, LoadError> {
        let start = Instant::now();
        let goods = self.goods;
        let loaded = caught(|| Candidate::load(engine, goods));
        let refused = loaded.as_ref().err().map(|error| error.to_string().into());
        self.tried.push(Tried { engine: engine.name(), took: start.elapsed(), refused, costs: Vec::new() });
        loaded
    }

    fn refuse(&mut self, engine: &str, why: String) {
        if let Some(tried) = self.tried.iter_mut().find(|tried| tried.engine == engine) {
            tried.refused = Some(why.into());
        }
    }

    fn timed(&mut self, costs: &Costs) {
        for (which, tried) in self.tried.iter_mut().enumerate() {
            tried.costs = costs.iter().filter_map(|(rows, costs)| Some((*rows, *costs.get(which)?))).collect();
        }
    }
}

/// Both reasons, where they are two.
fn neither(ours: &LoadError, theirs: &LoadError) -> LoadError {
    let (ours, theirs) = (ours.to_string(), theirs.to_string());
    if ours == theirs { LoadError::new(ours) } else { LoadError::new(format!("{ours}; onnxruntime: {theirs}")) }
}

/// How the engine of a version was chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The engine that runs it.
    pub kept: &'static str,
    /// Why.
    pub why: Arc<str>,
    /// Where the answers of the engines differ: output, row and values.
    pub disagreement: Option<Arc<str>>,
    /// Every engine that was tried, in that order.
    pub tried: Vec<Tried>,
    /// How long loading, comparing and timing took.
    pub took: Duration,
}

/// An engine that was tried on a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Its name.
    pub engine: &'static str,
    /// How long it took to load and to answer the golden cases.
    pub took: Duration,
    /// Why it cannot serve the version.
    pub refused: Option<Arc<str>>,
    /// Run times by batch size, ascending; empty when there was nothing to choose between.
    pub costs: Vec<(usize, Duration)>,
}

impl Selection {
    /// One line for the log, where there was a choice to be made.
    pub(super) fn log(&self, model: &crate::types::ServableId) {
        let [_, _, ..] = &self.tried[..] else { return };
        let each: Vec<String> = self.tried.iter().map(ToString::to_string).collect();
        let (engine, why, tried, ms) = (self.kept, &*self.why, each.join("; "), self.took.as_millis());
        let ratios = self.ratios();
        match &self.disagreement {
            Some(text) => tracing::warn!(%model, engine, why, disagreement = &**text, tried, ms, "engine chosen"),
            None => tracing::info!(%model, engine, why, ratios, tried, ms, "engine chosen"),
        }
    }

    /// How many times as fast the second engine is as the first, size by size, as in `onnxruntime: 1 row 3.27, 8 rows 5.10`; `None`
    /// where they were not timed.
    fn ratios(&self) -> Option<String> {
        let [first, second] = &self.tried[..] else { return None };
        let both = first.costs.iter().zip(&second.costs);
        let ratio = |((rows, ours), (_, theirs)): (&(usize, Duration), &(usize, Duration))| {
            let plural = if *rows == 1 { "" } else { "s" };
            format!("{rows} row{plural} {:.2}", ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9))
        };
        let ratios: Vec<String> = both.map(ratio).collect();
        (!ratios.is_empty()).then(|| format!("{}: {}", second.engine, ratios.join(", ")))
    }
}

/// `tract: 1 row 12.0 us, 8 rows 40.1 us`, or `tract: refused: …`.
impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.engine)?;
        if let Some(why) = &self.refused {
            return write!(f, "refused: {why}");
        }
        if self.costs.is_empty() {
            return f.write_str("loaded");
        }
        for (at, (rows, cost)) in self.costs.iter().enumerate() {
            let (comma, plural) = (if at == 0 { "" } else { ", " }, if *rows == 1 { "" } else { "s" });
            write!(f, "{comma}{rows} row{plural} {:.1} us", cost.as_secs_f64() * 1e6)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = match &self.other {
            Other::Absent(why) => why,
            Other::Present(engine) => engine.name(),
        };
        f.debug_struct("Engines")
            .field("embedded", &self.embedded.name())
            .field("other", &other)
            .field("probe", &self.probe)
            .finish()
    }
}

#[cfg(test)]
#[path = "engines_tests.rs"]
mod tests;
