//! The routes as everybody else sees them: start their keeper, read what is live, ask for a change, end it.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{
    audit::{Attempt, Audit},
    board::Board,
    inbox::{Inbox, stopping},
    manager::{Manager, Rules, Tools},
    seam::{Compiler, Models},
};
use crate::{
    compose::{
        Change, ChangeError, Changed, Revision, RouteState,
        store::{Store, StoreError},
    },
    registry::{Registry, WatchMode, Watcher},
    types::{Error, ModelName},
};

/// How the routes are kept.
#[derive(Clone, Debug)]
pub struct RoutesConfig {
    /// The directory whose folders are routes: the registry, or one of their own. It may be a link.
    pub dir: PathBuf,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// How often the directory is looked at; less often when a look takes long.
    pub poll_interval: Duration,
    /// How long an edit by hand must not change before it counts: half of it may have been written.
    pub settle: Duration,
    /// How long a change waits for versions to be loaded, and how long start-up waits for those of routes.
    pub patience: Duration,
    /// A file to which every attempt to change a route is appended.
    pub audit: Option<PathBuf>,
}

impl RoutesConfig {
    /// The defaults for a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            watch: WatchMode::Auto,
            poll_interval: Duration::from_secs(2),
            settle: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            audit: None,
        }
    }
}

/// Why the keeper could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// The directory cannot be read.
    #[error("routes {}: {source}", dir.display())]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The audit file cannot be written to.
    #[error("audit file {}: {source}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The machine refuses a thread.
    #[error("routes: no thread: {0}")]
    NoThread(#[source] std::io::Error),
}

/// The routes of one directory, kept up to date by a thread of its own until it is shut down or dropped.
pub struct Routes {
    dir: PathBuf,
    board: Arc<Board>,
    inbox: Arc<Inbox>,
    audit: Arc<Audit>,
    manager: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Routes {
    /// Looks at the directory and makes live what was accepted before. Whoever compiles routes must follow the registry already:
    /// when models change, the keeper asks it again.
    ///
    /// # Errors
    /// When the directory cannot be read, the audit file cannot be written to, or the machine refuses a thread. A route that is
    /// not in order is no error.
    pub fn start(
        config: RoutesConfig,
        compiler: Arc<dyn Compiler>,
        registry: Arc<Registry>,
    ) -> Result<Arc<Self>, RoutesError> {
        let inbox = Arc::new(Inbox::default());
        let told = Arc::clone(&inbox);
        registry.subscribe(move |_| told.models());
        Self::keep(config, compiler, registry, inbox)
    }

    pub(super) fn keep(
        config: RoutesConfig,
        compiler: Arc<dyn Compiler>,
        models: Arc<dyn Models>,
        inbox: Arc<Inbox>,
    ) -> Result<Arc<Self>, RoutesError> {
        let RoutesConfig { dir, watch, poll_interval, settle, patience, audit } = config;
        let audit = Audit::new(audit.as_deref())
            .map_err(|source| RoutesError::Audit { path: audit.unwrap_or_default(), source })?;
        let (board, audit) = (Arc::new(Board::new()), Arc::new(audit));
        let told = Arc::clone(&inbox);
        let watcher = Watcher::new(watch, move || told.look());
        let rules = Rules { dir: dir.clone(), watch, poll_interval, settle, patience };
        let (inbox_too, board_too) = (Arc::clone(&inbox), Arc::clone(&board));
        let audit_too = Arc::clone(&audit);
        let tools = Tools { inbox: inbox_too, board: board_too, compiler, audit: audit_too, watcher };
        let mut manager = Manager::new(rules, tools, models);
        manager.begin().map_err(|source| RoutesError::Unreadable { dir: dir.clone(), source })?;
        let thread = std::thread::Builder::new().name("weir-routes".to_owned()).spawn(move || manager.run());
        let manager = Mutex::new(Some(thread.map_err(RoutesError::NoThread)?));
        Ok(Arc::new(Self { dir, board, inbox, audit, manager }))
    }

    /// Every route, by name.
    pub fn list(&self) -> Vec<Arc<RouteState>> {
        self.board.load().states.values().cloned().collect()
    }

    /// One route.
    pub fn get(&self, name: &str) -> Option<Arc<RouteState>> {
        self.board.load().states.get(name).cloned()
    }

    /// Changes a route, or says what would come of it. When it returns, every request that begins sees the change.
    ///
    /// # Errors
    /// As [`ChangeError`] says. After `Failed` with `Internal` the change may have been made or not.
    pub async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.change(change, reply)?;
        answer.await.unwrap_or_else(|_| Err(stopping().into()))
    }

    /// Every revision of a route that is kept, newest first, also of one that was deleted. Reads the disk.
    ///
    /// # Errors
    /// `NotFound` for a route that never was, `Failed` when the disk cannot be read.
    pub fn history(&self, name: &str) -> Result<Vec<Revision>, ChangeError> {
        let store = self.store(name)?;
        let shown = self.board.load();
        let memory = shown.memory.get(name).map_or(&[][..], Vec::as_slice);
        let mut revisions: Vec<_> = memory.iter().rev().map(|entry| entry.revision.clone()).collect();
        revisions.extend(store.history().map_err(|error| unreadable(name, &error))?);
        if revisions.is_empty() && !shown.states.contains_key(name) {
            return Err(not_found(name));
        }
        Ok(revisions)
    }

    /// A revision and the text of its `route.toml`, which is empty when the revision deleted the route. Reads the disk.
    ///
    /// # Errors
    /// `NotFound` for a route or revision that never was or is not kept, `Failed` when the disk cannot be read.
    pub fn revision(&self, name: &str, number: u64) -> Result<(Revision, String), ChangeError> {
        let store = self.store(name)?;
        let shown = self.board.load();
        let memory = shown.memory.get(name).map_or(&[][..], Vec::as_slice);
        let entry = match memory.iter().find(|entry| entry.revision.number == number) {
            Some(entry) => Some((**entry).clone()),
            None => store.read(number).map_err(|error| unreadable(name, &error))?,
        };
        match entry {
            Some(entry) => Ok((entry.revision, entry.text.to_string())),
            None if !shown.states.contains_key(name) && store.history().is_ok_and(|all| all.is_empty()) => {
                Err(not_found(name))
            }
            None => Err(ChangeError::NotFound(format!("route '{name}': revision {number}: not found"))),
        }
    }

    /// Records an attempt that was turned away before it could be asked for here, with what it was told.
    pub fn turned_away(&self, attempt: Attempt<'_>, outcome: &str) {
        self.audit.turned_away(attempt, outcome, SystemTime::now());
    }

    /// Looks at the directory soon. Returns at once.
    pub fn look(&self) {
        self.inbox.look();
    }

    /// What was there at start-up has been accepted or refused. Stays true.
    pub fn started(&self) -> bool {
        self.board.load().complete
    }

    /// Follows changes of what is shown.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.board.changed()
    }

    /// Ends the thread; what is live stays live. Changes that still wait are refused.
    pub fn shutdown(&self) {
        self.inbox.stop();
        if let Some(manager) = self.manager.lock().take() {
            // A panic there has been logged by the hook.
            drop(manager.join());
        }
    }

    /// A text that cannot be a name is the name of no route.
    fn store(&self, name: &str) -> Result<Store, ChangeError> {
        let name = ModelName::parse(name).map_err(|_| not_found(name))?;
        Ok(Store::new(self.dir.join(name.as_str())))
    }
}

fn not_found(name: &str) -> ChangeError {
    ChangeError::NotFound(Error::not_found(format!("route '{name}': not found")).text().to_owned())
}

fn unreadable(name: &str, error: &StoreError) -> ChangeError {
    Error::internal(format!("route '{name}': its revisions cannot be read"), error).into()
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("dir", &self.dir).field("board", &self.board).finish_non_exhaustive()
    }
}
