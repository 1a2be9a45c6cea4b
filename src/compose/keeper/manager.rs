//! The one loop of the keeper: when to look at the folders, and which. What follows from what is seen is in `evaluate` and
//! `change`. It runs on a thread of its own; nothing that serves requests waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    audit::Audit,
    board::Board,
    change::Parked,
    choose::Fits,
    inbox::{Inbox, Mail},
    kept::Kept,
    pinning::Pinning,
    scan::{Found, scan},
    seam::{Compiler, Models},
};
use crate::{
    compose::{RouteSet, store::Store},
    registry::{WatchMode, Watcher},
    types::{ModelName, ServableId},
};

/// A look takes at most this share of the keeper's time: the next poll waits so many times as long as the last look took.
const LOOK_SHARE: u32 = 20;

/// Looks that events ask for are at least so far apart.
const MIN_GAP: Duration = Duration::from_millis(20);

/// What the keeper goes by.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) dir: PathBuf,
    pub(super) watch: WatchMode,
    pub(super) poll_interval: Duration,
    pub(super) settle: Duration,
    pub(super) patience: Duration,
}

/// What the keeper works with.
pub(super) struct Tools {
    pub(super) inbox: Arc<Inbox>,
    pub(super) board: Arc<Board>,
    pub(super) compiler: Arc<dyn Compiler>,
    pub(super) audit: Arc<Audit>,
    pub(super) watcher: Watcher,
}

/// The keeper's state.
pub(super) struct Manager {
    pub(super) rules: Rules,
    pub(super) tools: Tools,
    pub(super) routes: BTreeMap<ModelName, Kept>,
    /// What has been published.
    pub(super) live: RouteSet,
    /// How that gets on.
    pub(super) fits: Fits,
    /// Versions that each live route names.
    pub(super) needs: BTreeMap<ModelName, BTreeSet<ServableId>>,
    /// Versions that routes need before they can become live.
    pub(super) awaited: BTreeSet<ServableId>,
    /// What the registry was told.
    pub(super) pinning: Pinning,
    /// Changes that wait for versions to be loaded.
    pub(super) parked: Vec<Parked>,
    /// What the changes that are being tried again wait for.
    pub(super) retried: BTreeSet<ServableId>,
    /// The last change was not made because another process was faster.
    pub(super) is_raced: bool,
    /// Something was seen that has not been evaluated.
    pub(super) news: bool,
    /// What was there at start-up has been accepted or refused.
    pub(super) complete: bool,
    /// Those who wait for that have been told.
    pub(super) announced: bool,
    /// When start-up is over at the latest, once every model has been loaded or refused.
    pub(super) complete_at: Option<Instant>,
    looks: Looks,
}

/// When the directory was and will be looked at.
#[derive(Debug, Default)]
struct Looks {
    last: Option<Instant>,
    /// Somebody said that something has changed.
    wanted: bool,
    next_poll: Option<Instant>,
    /// Device and inode of the directory at the last look.
    identity: (u64, u64),
    /// Why the directory could not be looked at last.
    problem: Option<String>,
    /// What was warned about; once is enough.
    warned: BTreeSet<String>,
}

impl Manager {
    pub(super) fn new(rules: Rules, tools: Tools, models: Arc<dyn Models>) -> Self {
        let pinning = Pinning::new(models);
        Self {
            rules,
            tools,
            routes: BTreeMap::new(),
            live: RouteSet::default(),
            fits: Fits::new(),
            needs: BTreeMap::new(),
            awaited: BTreeSet::new(),
            pinning,
            parked: Vec::new(),
            retried: BTreeSet::new(),
            is_raced: false,
            news: true,
            complete: false,
            announced: false,
            complete_at: None,
            looks: Looks::default(),
        }
    }

    /// The first look: when it returns, what was accepted before is live.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn begin(&mut self) -> std::io::Result<()> {
        let now = Instant::now();
        let found = scan(&self.rules.dir)?;
        self.see(found, now);
        self.plan_poll(now);
        self.evaluate(now);
        Ok(())
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let mail = self.tools.inbox.take(self.deadline());
            if mail.stop {
                return;
            }
            self.turn(mail);
        }
    }

    pub(super) fn turn(&mut self, mail: Mail) {
        self.news |= mail.models;
        self.looks.wanted |= mail.look;
        for (change, reply) in mail.changes {
            self.receive(change, reply);
        }
        let now = Instant::now();
        if self.next_look().is_some_and(|at| at <= now) {
            self.look(now);
        }
        if self.news || self.complete_at.is_some_and(|at| !self.complete && at <= now) {
            self.evaluate(now);
            self.retry();
        }
        self.give_up(now);
    }

    fn deadline(&self) -> Option<Instant> {
        let parked = self.parked.iter().map(|parked| parked.until);
        let complete = self.complete_at.filter(|_| !self.complete);
        self.next_look().into_iter().chain(parked).chain(complete).min()
    }

    /// When the directory must be looked at next, as far as it is known.
    fn next_look(&self) -> Option<Instant> {
        let earliest = self.looks.last.map_or_else(Instant::now, |last| last + MIN_GAP);
        let wanted = self.looks.wanted.then_some(earliest);
        let due = self.routes.values().filter_map(Kept::due).min().map(|due| due.max(earliest));
        wanted.into_iter().chain(self.looks.next_poll).chain(due).min()
    }

    fn plan_poll(&mut self, begun: Instant) {
        let took = begun.elapsed();
        let polls = self.rules.watch != WatchMode::Off;
        self.looks.next_poll = polls.then(|| begun + self.rules.poll_interval.max(took * LOOK_SHARE));
    }

    /// Something on the disk is not as it was thought to be.
    pub(super) fn look_soon(&mut self) {
        self.looks.wanted = true;
    }

    /// Looks at the directory. When it cannot be read, everything stays as it is.
    pub(super) fn look(&mut self, now: Instant) {
        self.looks.wanted = false;
        let problem = match scan(&self.rules.dir) {
            Err(error) => Some(format!("the directory cannot be read: {error}; what serves goes on serving")),
            Ok(found) if self.seems_unmounted(&found) => Some(
                "the directory is empty and is not the folder that it was: is it mounted? what serves goes on serving"
                    .to_owned(),
            ),
            Ok(found) => {
                self.see(found, now);
                None
            }
        };
        self.looks.last = Some(now);
        if self.looks.problem != problem {
            match &problem {
                Some(problem) => tracing::error!("routes: {problem}"),
                None => tracing::info!("routes: the directory can be read again"),
            }
        }
        self.looks.problem = problem;
        self.plan_poll(now);
    }

    fn seems_unmounted(&self, found: &Found) -> bool {
        found.routes.is_empty() && !self.routes.is_empty() && found.identity != self.looks.identity
    }

    /// Takes note of everything that a scan found.
    fn see(&mut self, found: Found, now: Instant) {
        self.watch(&found);
        for name in &found.misnamed {
            if self.looks.warned.insert(name.clone()) {
                let why = "the name does not match [A-Za-z0-9][A-Za-z0-9._-]{0,127}";
                tracing::warn!(folder = name, why, "ignored among the routes");
            }
        }
        for name in &found.routes {
            self.kept(name);
        }
        let today = SystemTime::now();
        for kept in self.routes.values_mut() {
            self.news |= kept.look(now, today);
        }
        let live = &self.live;
        self.routes.retain(|name, kept| live.contains_key(name) || !kept.is_over());
        self.looks.identity = found.identity;
        self.looks.last = Some(now);
    }

    /// The record of a route, which need not exist.
    pub(super) fn kept(&mut self, name: &ModelName) -> &mut Kept {
        let Rules { dir, settle, .. } = &self.rules;
        let new = || Kept::new(Store::new(dir.join(name.as_str())), *settle);
        self.routes.entry(name.clone()).or_insert_with(new)
    }

    fn watch(&mut self, found: &Found) {
        if found.identity != self.looks.identity {
            self.tools.watcher.restart();
        }
        let mut folders = BTreeSet::from([self.rules.dir.clone()]);
        folders.extend(found.folders.iter().cloned());
        // What changed before its folder was watched was not told.
        self.looks.wanted |= self.tools.watcher.follow(folders);
    }
}
