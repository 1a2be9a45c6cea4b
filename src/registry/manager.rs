//! The one reconcile loop: it looks at the directory, asks the policy what to do about the difference to what is loaded, has it
//! done by the loader threads, and publishes what came of it. It runs on a thread of its own; nothing that serves requests
//! waits for it. Started by `Registry`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    graveyard::Graveyard,
    hub::Hub,
    inbox::{Inbox, Mail, Pins, Reply},
    pool::Loaders,
    record::ModelRecord,
    servable::{ModelEntry, Servable},
    snapshot::Problem,
    source::{FoundModel, Scan, scan},
    version::Look,
    watch::{WatchMode, Watcher},
};
use crate::{observe::Metrics, types::ModelName};

/// How often what answers its last requests is looked at.
const SWEEP: Duration = Duration::from_millis(10);

/// A look takes at most this share of the manager's time: the next poll waits so many times as long as the last look took.
const LOOK_SHARE: u32 = 20;

/// Looks that events ask for are at least so far apart.
const MIN_GAP: Duration = Duration::from_millis(20);

/// Who decides what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// What is in the registry is loaded, and changes are followed.
    Auto,
    /// A model is loaded when somebody asks for it, and changes when somebody asks again.
    Explicit,
}

/// What the manager goes by.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) root: PathBuf,
    pub(super) watch: WatchMode,
    pub(super) poll_interval: Duration,
    pub(super) settle: Duration,
    pub(super) control: Control,
}

/// What the manager works with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) hub: Arc<Hub>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) loaders: Loaders,
    pub(super) watcher: Watcher,
}

/// The manager's state.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) rules: Rules,
    pub(super) tools: Tools,
    pub(super) models: BTreeMap<ModelName, ModelRecord>,
    pub(super) pins: Pins,
    pub(super) graveyard: Graveyard,
    /// Models about which something may have changed since they were last reconciled.
    pub(super) touched: BTreeSet<ModelName>,
    /// Models that have something to load and found no free thread.
    pub(super) queued: VecDeque<ModelName>,
    /// When something may have settled, by model.
    pub(super) due: BTreeMap<ModelName, Instant>,
    /// Models that start-up still waits for.
    pub(super) starting: BTreeSet<ModelName>,
    pub(super) waiting: Vec<(ModelName, Reply)>,
    pub(super) board: Board,
    pub(super) looks: Looks,
}

/// What the snapshot is put together from.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) entries: BTreeMap<ModelName, Arc<ModelEntry>>,
    pub(super) problems: BTreeMap<ModelName, Vec<Problem>>,
    pub(super) routes: Vec<(ModelName, PathBuf)>,
    pub(super) registry_problem: Option<String>,
    pub(super) started: bool,
    pub(super) generation: u64,
    /// Number of the last word about what routes name.
    pub(super) pins: u64,
    pub(super) changed: bool,
}

/// When the directory was and will be looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    pub(super) last: Option<Instant>,
    /// Somebody said that something has changed.
    pub(super) wanted: bool,
    pub(super) next_poll: Option<Instant>,
    /// Device and inode of the directory at the last look.
    pub(super) identity: (u64, u64),
    /// What was warned about; once is enough.
    pub(super) warned: BTreeSet<String>,
}

impl Manager {
    pub(super) fn new(rules: Rules, tools: Tools) -> Self {
        Self {
            rules,
            tools,
            models: BTreeMap::new(),
            pins: Pins::new(),
            graveyard: Graveyard::default(),
            touched: BTreeSet::new(),
            queued: VecDeque::new(),
            due: BTreeMap::new(),
            starting: BTreeSet::new(),
            waiting: Vec::new(),
            board: Board::default(),
            looks: Looks::default(),
        }
    }

    /// The first look, which says what there is before anything is loaded.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn begin(&mut self) -> std::io::Result<()> {
        let begun = Instant::now();
        let found = scan(&self.rules.root)?;
        self.see(found, begun, true);
        self.starting.extend(self.models.keys().cloned());
        self.plan_poll(begun);
        self.settle_accounts();
        Ok(())
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let mail = self.tools.inbox.take(self.deadline());
            if mail.stop {
                return self.tools.loaders.stop();
            }
            self.turn(mail);
        }
    }

    fn turn(&mut self, mail: Mail) {
        for finished in mail.finished {
            self.finish(finished);
        }
        self.looks.wanted |= mail.look;
        self.obey(mail.commands);
        let now = Instant::now();
        if self.next_look().is_some_and(|at| at <= now) {
            self.look(now, false);
        }
        self.settle_accounts();
    }

    /// Reconciles what was touched, frees what is unused, publishes and answers.
    fn settle_accounts(&mut self) {
        for id in self.graveyard.sweep() {
            tracing::info!(model = %id, "unloaded");
            self.touched.insert(id.model);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for name in &touched {
            self.reconcile(name);
        }
        while self.tools.loaders.is_free()
            && let Some(name) = self.queued.pop_front()
        {
            self.reconcile(&name);
            touched.insert(name);
        }
        for name in &touched {
            self.refresh(name);
        }
        self.publish();
        self.answer();
    }

    fn deadline(&self) -> Option<Instant> {
        let sweep = (!self.graveyard.is_empty()).then(|| Instant::now() + SWEEP);
        self.next_look().into_iter().chain(sweep).min()
    }

    /// When the directory must be looked at next, as far as it is known.
    fn next_look(&self) -> Option<Instant> {
        let earliest = self.looks.last.map_or_else(Instant::now, |last| last + MIN_GAP.min(self.rules.settle));
        let wanted = self.looks.wanted.then_some(earliest);
        wanted.into_iter().chain(self.looks.next_poll).chain(self.due.values().min().copied()).min()
    }

    fn plan_poll(&mut self, begun: Instant) {
        let polls = self.rules.watch != WatchMode::Off && self.rules.control == Control::Auto;
        let took = begun.elapsed();
        self.looks.next_poll = polls.then(|| begun + self.rules.poll_interval.max(took * LOOK_SHARE));
    }

    /// Looks at the directory. When it cannot be read, everything stays as it is.
    pub(super) fn look(&mut self, now: Instant, old_counts: bool) {
        self.looks.wanted = false;
        let problem = match scan(&self.rules.root) {
            Err(error) => Some(format!("the registry cannot be read: {error}; what serves goes on serving")),
            Ok(found) if self.seems_unmounted(&found) => Some(
                "the registry is empty and is not the folder that it was: is it mounted? what serves goes on serving"
                    .to_owned(),
            ),
            Ok(found) => {
                self.see(found, now, old_counts);
                None
            }
        };
        self.looks.last = Some(now);
        if self.board.registry_problem != problem {
            match &problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!("the registry can be read again"),
            }
            self.board.registry_problem = problem;
            self.board.changed = true;
        }
        // After a look that failed, what is due stays due; it must not keep the loop busy.
        self.due.values_mut().for_each(|due| *due = (*due).max(now + MIN_GAP.max(self.rules.settle)));
        self.plan_poll(now);
    }

    fn seems_unmounted(&self, found: &Scan) -> bool {
        found.models.is_empty()
            && found.routes.is_empty()
            && !self.models.is_empty()
            && found.identity != self.looks.identity
    }

    /// Takes note of everything that a scan found.
    fn see(&mut self, found: Scan, now: Instant, old_counts: bool) {
        let old_counts = old_counts.then(SystemTime::now);
        let look = Look { now, old_counts, settle: self.rules.settle };
        self.watch(&found);
        for (name, record) in &mut self.models {
            if !found.models.contains_key(name) && record.is_present() && record.open {
                tracing::info!(model = %name, "gone from the registry");
                record.gone();
            }
        }
        let first = self.looks.last.is_none();
        for (name, folder) in &found.models {
            let record = self.models.entry(name.clone()).or_insert_with(|| {
                let series = self.tools.metrics.model(name.as_str());
                let mut record = ModelRecord::new(name.clone(), series, first, self.rules.control == Control::Auto);
                record.pinned = self.pins.get(name).cloned().unwrap_or_default();
                record.open |= !record.pinned.is_empty();
                record
            });
            if record.open || !record.asked {
                self.graveyard.replaced(see_model(record, folder, look));
            }
        }
        self.warn(&found);
        self.touched.extend(self.models.keys().cloned());
        if self.board.routes != found.routes {
            self.board.routes = found.routes;
            self.board.changed = true;
        }
        self.looks.identity = found.identity;
        self.looks.last = Some(now);
    }

    /// Warns once about what is in the way.
    fn warn(&mut self, found: &Scan) {
        let strangers = self.models.values().flat_map(ModelRecord::strangers);
        let ignored = found.ignored.iter().map(|ignored| format!("{} ({})", ignored.path, ignored.why));
        let news: Vec<_> = ignored.chain(strangers).filter(|text| self.looks.warned.insert(text.clone())).collect();
        if !news.is_empty() {
            tracing::warn!(paths = news.join(", "), "ignored in the registry");
        }
    }

    fn watch(&mut self, found: &Scan) {
        if found.identity != self.looks.identity {
            self.tools.watcher.restart();
        }
        let mut folders = BTreeSet::from([self.rules.root.clone()]);
        for model in found.models.values().flatten() {
            folders.insert(model.folder.clone());
            folders.extend(model.versions.keys().map(|version| model.folder.join(version.to_string())));
        }
        // What changed before its folder was watched was not told.
        self.looks.wanted |= self.tools.watcher.follow(folders);
    }
}

/// Takes note of one model's folder, and says what is newly wrong with it. Returns servables that were replaced.
fn see_model(record: &mut ModelRecord, found: &Result<FoundModel, String>, look: Look) -> Vec<Arc<Servable>> {
    let before = (record.error.clone(), record.config_problems.clone());
    let replaced = match found {
        Ok(found) => record.see(found.clone(), look),
        Err(error) => {
            record.unreadable(error.clone());
            Vec::new()
        }
    };
    if record.error != before.0
        && let Some(error) = &record.error
    {
        tracing::warn!(model = %record.name, error, "the model's folder is not in order");
    }
    if record.config_problems != before.1 {
        for problem in &record.config_problems {
            tracing::warn!(model = %record.name, problem, "configuration refused");
        }
    }
    replaced
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
