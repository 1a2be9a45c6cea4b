//! The registry as everybody else sees it: start it, read its snapshot, hear of new ones, ask for a model, end it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    engines::Engines,
    hub::Hub,
    inbox::{Command, Inbox, Pins},
    loader::Loader,
    manager::{Control, Manager, Rules, Tools},
    pool::Loaders,
    servable::Servable,
    snapshot::Snapshot,
    watch::{WatchMode, Watcher},
};
use crate::{
    observe::Metrics,
    scheduler::Scheduler,
    types::{Error, ModelName, VersionRef},
};

/// Bytes that the files of one version may have together, unless configured.
const MAX_BYTES: u64 = 16 << 30;

/// Loader threads, unless configured: a load that never ends must leave one,
const MIN_THREADS: usize = 2;
/// and loading must leave cores to serving.
const MAX_THREADS: usize = 4;

/// How a registry works.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The directory; it may be a link.
    pub root: PathBuf,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// How often the directory is looked at; less often when a look takes long.
    pub poll_interval: Duration,
    /// How long the files of a version without manifest must not change before it is loaded.
    pub settle: Duration,
    /// Who decides what is loaded.
    pub control: Control,
    /// Bytes that the files of one version may have together.
    pub max_bytes: u64,
    /// Versions that are loaded at a time; 0 = chosen by the number of cores.
    pub loader_threads: usize,
}

impl RegistryConfig {
    /// The defaults for a directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            watch: WatchMode::Auto,
            poll_interval: Duration::from_secs(2),
            settle: Duration::from_millis(500),
            control: Control::Auto,
            max_bytes: MAX_BYTES,
            loader_threads: 0,
        }
    }

    fn threads(&self) -> usize {
        match self.loader_threads {
            0 => {
                std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).clamp(MIN_THREADS, MAX_THREADS)
            }
            threads => threads,
        }
    }
}

/// Why a registry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be read.
    #[error("registry {}: {source}", root.display())]
    Unreadable {
        /// The directory.
        root: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The machine refuses a thread.
    #[error("registry: no thread: {0}")]
    NoThread(#[source] std::io::Error),
}

/// The models of one directory, kept up to date by threads of its own until it is shut down or dropped.
pub struct Registry {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    manager: Mutex<Option<std::thread::JoinHandle<()>>>,
    scheduler: Arc<Scheduler>,
}

impl Registry {
    /// Looks at the directory and begins to load what is wanted. When this returns, the snapshot knows every model by name;
    /// none of them answers yet.
    ///
    /// # Errors
    /// When the directory cannot be read or the machine refuses threads. A model that is not in order is no error.
    pub fn start(
        config: RegistryConfig,
        engines: Engines,
        scheduler: Arc<Scheduler>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, StartError> {
        let (hub, inbox) = (Arc::new(Hub::new()), Arc::new(Inbox::default()));
        let loader = Loader {
            engines,
            scheduler: Arc::clone(&scheduler),
            metrics: Arc::clone(&metrics),
            max_bytes: config.max_bytes,
        };
        let loaders = Loaders::start(config.threads(), loader, &inbox).map_err(StartError::NoThread)?;
        // Under explicit control nothing changes unless somebody asks.
        let watch = if config.control == Control::Explicit { WatchMode::Off } else { config.watch };
        let told = Arc::clone(&inbox);
        let watcher = Watcher::new(watch, move || told.look());
        let RegistryConfig { root, poll_interval, settle, control, .. } = config;
        let rules = Rules { root: root.clone(), watch, poll_interval, settle, control };
        let tools = Tools { hub: Arc::clone(&hub), inbox: Arc::clone(&inbox), metrics, loaders, watcher };
        let mut manager = Manager::new(rules, tools);
        manager.begin().map_err(|source| StartError::Unreadable { root, source })?;
        let thread = std::thread::Builder::new().name("weir-registry".to_owned()).spawn(move || manager.run());
        let manager = Mutex::new(Some(thread.map_err(StartError::NoThread)?));
        Ok(Arc::new(Self { hub, inbox, manager, scheduler }))
    }

    /// Calls `heard` whenever a version may have begun or ceased to answer without having been loaded or unloaded: its circuit
    /// has changed. On whatever thread that happened; it must not block.
    pub fn follow_circuits(&self, heard: impl Fn() + Send + 'static) {
        self.scheduler.follow_circuits(heard);
    }

    /// The models at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.hub.load()
    }

    /// What a request for a model runs on now.
    ///
    /// # Errors
    /// As [`Snapshot::resolve`].
    pub fn resolve(&self, name: &str, version: &VersionRef) -> Result<Arc<Servable>, Error> {
        self.hub.load().resolve(name, version)
    }

    /// Calls `subscriber` with the current snapshot now and with every new one later, in order, on the registry's thread. It
    /// must not take long and must not wait for the registry.
    pub fn subscribe(&self, subscriber: impl Fn(Arc<Snapshot>) + Send + 'static) {
        self.hub.subscribe(Box::new(subscriber));
    }

    /// Waits until start-up has ended: every version that was wanted at start has been loaded or refused.
    pub async fn started(&self) -> Arc<Snapshot> {
        self.wait(|snapshot| snapshot.started).await
    }

    /// Waits until a snapshot fulfils the condition.
    pub async fn wait(&self, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        self.hub.wait(condition).await
    }

    /// As [`Registry::started`], blocking; `None` when the time has run out.
    pub fn wait_started(&self, timeout: Duration) -> Option<Arc<Snapshot>> {
        self.wait_for(timeout, |snapshot| snapshot.started)
    }

    /// As [`Registry::wait`], blocking; `None` when the time has run out.
    pub fn wait_for(&self, timeout: Duration, condition: impl Fn(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        self.hub.wait_for(timeout, condition)
    }

    /// Looks at a model again now and retries what was refused; under explicit control also loads it. Returns at once.
    ///
    /// # Errors
    /// `NotFound` for a name that is not in the registry as far as is known, `Overloaded`, `Unavailable` when ending.
    pub fn look_again(&self, name: &str) -> Result<(), Error> {
        let name = self.snapshot().model(name)?.name.clone();
        self.inbox.command(Command::Load(name, None))
    }

    /// As [`Registry::look_again`], also for a name that is not known yet, and waits until every wanted version has been
    /// loaded or refused.
    ///
    /// # Errors
    /// `NotFound` for a name that is not in the registry; `Unavailable` with what is wrong when anything was refused, while
    /// what served goes on serving.
    pub async fn load(&self, name: &str) -> Result<(), Error> {
        let name = model_name(name)?;
        let (reply, answer) = oneshot::channel();
        self.inbox.command(Command::Load(name, Some(reply)))?;
        answered(answer).await
    }

    /// Stops serving a model, under explicit control. What is being answered is answered.
    ///
    /// # Errors
    /// `Conflict` under automatic control, `NotFound` for a name that is not in the registry.
    pub async fn unload(&self, name: &str) -> Result<(), Error> {
        let name = model_name(name)?;
        let (reply, answer) = oneshot::channel();
        self.inbox.command(Command::Unload(name, reply))?;
        answered(answer).await
    }

    /// Says which versions live routes name: they are loaded, and are not unloaded. Replaces what was said before. Returns a
    /// number; when [`Snapshot::pins`] has reached it, this has been heard.
    ///
    /// # Errors
    /// `Overloaded`, `Unavailable` when ending.
    pub fn pin(&self, pins: Pins) -> Result<u64, Error> {
        self.inbox.pin(pins)
    }

    /// Ends the registry's threads; what serves goes on serving. A load that is going on is not waited for.
    pub fn shutdown(&self) {
        self.inbox.stop();
        if let Some(manager) = self.manager.lock().take() {
            // A panic there has been logged by the hook.
            drop(manager.join());
        }
    }
}

/// A text that cannot be a name is the name of no model.
fn model_name(name: &str) -> Result<ModelName, Error> {
    ModelName::parse(name).map_err(|_| Error::not_found(format!("model '{name}': not found")))
}

async fn answered(answer: oneshot::Receiver<Result<(), Error>>) -> Result<(), Error> {
    answer.await.unwrap_or_else(|_| Err(Error::unavailable("registry: shutting down")))
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("hub", &self.hub).finish_non_exhaustive()
    }
}
