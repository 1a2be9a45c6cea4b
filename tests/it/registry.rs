//! The registry on real directories, with an engine that does what the model file says: it loads, refuses, panics or waits.
//! Every wait is for a condition; settle and poll times are short, or so long that they cannot be what made it happen.

mod changes;
mod explicit;
mod real;
mod start;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use weir::{
    engine::{
        Artifact, Engine, Limits, LoadError, Model, Plan,
        fake::{FakeEngine, Script},
    },
    observe::Metrics,
    registry::{Engines, ModelEntry, Publication, Registry, RegistryConfig, Servable, Snapshot, WatchMode, publish},
    scheduler::{Scheduler, SchedulerOptions},
    types::{DType, ModelName, ModelState, Rows, Signature, Tensor, Version, VersionRef},
};

/// No test needs so long; a machine that is busy may.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An engine for model files that are text: `bad…` is refused, `panic…` panics, `wait…` waits for [`TextEngine::open`];
/// everything else loads as the fake model.
#[derive(Clone, Default)]
pub(super) struct TextEngine(Arc<Shared>);

#[derive(Default)]
struct Shared {
    script: Script,
    open: Mutex<bool>,
    opened: Condvar,
    loads: Mutex<Vec<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
    freed_by: Mutex<Vec<String>>,
}

impl TextEngine {
    /// Lets loads that wait go on.
    pub(super) fn open(&self) {
        *self.0.open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }

    /// The text of every model file that was loaded so far, in order.
    pub(super) fn loads(&self) -> Vec<String> {
        self.0.loads.lock().unwrap().clone()
    }

    /// The most loads at a time.
    pub(super) fn most_at_a_time(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    /// The names of the threads that freed models.
    pub(super) fn freed_by(&self) -> Vec<String> {
        self.0.freed_by.lock().unwrap().clone()
    }

    pub(super) fn script(&self) -> &Script {
        &self.0.script
    }
}

impl Engine for TextEngine {
    fn name(&self) -> &'static str {
        "text"
    }

    fn load(&self, artifact: &Artifact, _limits: &Limits) -> Result<Box<dyn Model>, LoadError> {
        let text = String::from_utf8_lossy(&artifact.bytes).into_owned();
        self.0.most.fetch_max(self.0.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.0.loads.lock().unwrap().push(text.clone());
        if text.starts_with("wait") {
            let mut open = self.0.open.lock().unwrap();
            while !*open {
                open = self.0.opened.wait(open).unwrap();
            }
        }
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        if text.starts_with("panic") {
            panic!("as the file says");
        }
        if text.starts_with("bad") {
            return Err(LoadError::new("model: as the file says"));
        }
        let model = FakeEngine::new(self.0.script.clone(), 2).model();
        Ok(Box::new(TextModel { model, shared: Arc::clone(&self.0) }))
    }
}

struct TextModel {
    model: Box<dyn Model>,
    shared: Arc<Shared>,
}

impl Model for TextModel {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        self.model.plan(rows)
    }
}

impl Drop for TextModel {
    fn drop(&mut self) {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.shared.freed_by.lock().unwrap().push(thread);
    }
}

/// A registry directory.
pub(super) struct Dir(tempfile::TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Writes a file as an editor would: the new content appears at once.
    pub(super) fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let next = path.with_file_name(".next");
        fs::write(&next, content).unwrap();
        fs::rename(next, path).unwrap();
    }

    /// Publishes a version as `weir push` does.
    pub(super) fn push(&self, model: &str, version: u64, content: &str) {
        let file = self.path(&format!(".{model}-{version}"));
        fs::write(&file, content).unwrap();
        let (model, version) = (name(model), Version::new(version));
        let publication =
            Publication { model: &model, from: &file, model_filename: "model.onnx", version, golden: None };
        publish(self.root(), publication).unwrap();
        fs::remove_file(file).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_dir_all(self.path(path)).unwrap();
    }
}

/// A running registry with its engine.
pub(super) struct Fixture {
    pub(super) registry: Arc<Registry>,
    pub(super) engine: TextEngine,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) metrics: Arc<Metrics>,
}

/// Short times: files settle in 20 ms, the directory is polled every 50 ms and watched.
pub(super) fn quick(dir: &Dir) -> RegistryConfig {
    RegistryConfig {
        settle: Duration::from_millis(20),
        poll_interval: Duration::from_millis(50),
        loader_threads: 2,
        ..RegistryConfig::new(dir.root())
    }
}

/// Nothing that is not announced by a manifest ever settles, and nothing is looked at unless it is watched or asked for.
pub(super) fn never_settles(dir: &Dir) -> RegistryConfig {
    let day = Duration::from_secs(86_400);
    RegistryConfig { settle: day, poll_interval: day, ..quick(dir) }
}

pub(super) fn start(config: RegistryConfig) -> Fixture {
    let engine = TextEngine::default();
    let scheduler = Scheduler::start(SchedulerOptions { workers: 2, ..SchedulerOptions::default() }).unwrap();
    let metrics = Metrics::new();
    let engines = Engines::new(Arc::new(engine.clone()));
    let registry = Registry::start(config, engines, Arc::clone(&scheduler), Arc::clone(&metrics)).unwrap();
    Fixture { registry, engine, scheduler, metrics }
}

/// Starts and waits until start-up has ended.
pub(super) fn started(config: RegistryConfig) -> Fixture {
    let fixture = start(config);
    fixture.registry.wait_started(PATIENCE).expect("start-up ends");
    fixture
}

impl Fixture {
    /// Waits for a condition on a model's entry.
    pub(super) fn until(&self, what: &str, model: &str, condition: impl Fn(&ModelEntry) -> bool) -> Arc<Snapshot> {
        let met = |snapshot: &Snapshot| snapshot.models.get(model).is_some_and(|entry| condition(entry));
        let found = self.registry.wait_for(PATIENCE, met);
        found.unwrap_or_else(|| panic!("{what}: {:#?}", self.registry.snapshot().models.get(model)))
    }

    /// Waits until exactly these versions of a model answer.
    pub(super) fn until_ready(&self, model: &str, versions: &[u64]) -> Arc<Snapshot> {
        self.until(&format!("{model}: versions {versions:?} answer"), model, |entry| ready(entry) == versions)
    }

    pub(super) fn state(&self, model: &str, version: u64) -> Option<(ModelState, String)> {
        let snapshot = self.registry.snapshot();
        let entry = snapshot.models.get(model)?.versions.iter().find(|entry| entry.version.get() == version)?.clone();
        Some((entry.state, entry.reason))
    }

    /// The version that a request with this version text runs on, or the error's text.
    pub(super) fn resolve(&self, model: &str, version: &str) -> Result<u64, String> {
        let version = VersionRef::parse(version).unwrap();
        let servable = self.registry.resolve(model, &version).map_err(|error| error.text().to_owned())?;
        Ok(servable.id.version.get())
    }

    /// Makes sure that the directory has been looked at since now, by the sight of something new in it.
    pub(super) fn let_it_look(&self, dir: &Dir) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let marker = format!("marker-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        dir.push(&marker, 1, "marker");
        self.until_ready(&marker, &[1]);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.engine.open();
        self.engine.script().open();
        self.registry.shutdown();
        self.scheduler.shutdown();
    }
}

pub(super) fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

pub(super) fn ready(entry: &ModelEntry) -> Vec<u64> {
    entry.ready().map(|servable| servable.id.version.get()).collect()
}

/// Runs one row and checks the answer.
pub(super) async fn ask(servable: &Servable, value: f32) -> Result<(), String> {
    let input = Tensor::from_vec(DType::Fp32, [1, 2].as_slice().into(), vec![value; 2]).unwrap();
    let answer = servable.lane.run(Rows { inputs: [input].into(), rows: 1 }, None).await;
    let outputs = answer.map_err(|error| error.text().to_owned())?.outputs;
    let got = outputs[0].to_f32().unwrap();
    if got == [value * 2.0 + 1.0; 2] { Ok(()) } else { Err(format!("{value}: got {got:?}")) }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Nothing but the watch tells that something has changed.
pub(super) fn watched_only(dir: &Dir) -> RegistryConfig {
    RegistryConfig { watch: WatchMode::Auto, ..never_settles(dir) }
}
