//! The steps of the reconcile loop that follow from what is known: acting on loads that ended and on commands, starting and
//! ending what the policy says, publishing the result and telling those who wait for it. Called by the manager's turn.

use std::sync::Arc;

use super::{
    entry::{entry, newly_lost, problems, same},
    inbox::{Command, Finished, Pins, Reply},
    loader::{Loaded, Order},
    manager::{Control, Manager},
    policy::Action,
    pool::Job,
    record::ModelRecord,
    snapshot::{Problem, Snapshot},
};
use crate::types::{Error, ErrorCode, ModelName, ServableId, Version};

impl Manager {
    /// A load has ended.
    pub(super) fn finish(&mut self, finished: Finished) {
        self.tools.loaders.ended();
        let Finished { id, tried, result, took } = finished;
        let ServableId { model, version } = &id;
        self.touched.insert(model.clone());
        let Some(record) = self.models.get_mut(model) else { return };
        let Some(known) = record.versions.get_mut(version).filter(|known| known.awaits(&tried)) else { return };
        match result {
            Ok(Loaded::New(servable, fingerprint)) => {
                record.series.load(true);
                let batching =
                    servable.merging.off_because().map_or_else(|| "on".to_owned(), |why| format!("off: {why}"));
                let (engine, digest, ms) = (servable.engine, &*servable.digest, took.as_millis());
                tracing::info!(model = %id, engine, digest, batching, ms, times = %servable.load_times, "loaded");
                let before = known.loaded(tried, *servable, fingerprint);
                self.graveyard.replaced(before);
                // The configuration may have changed while it was being loaded.
                self.graveyard.replaced(record.respec());
            }
            Ok(Loaded::Same) => known.same(tried),
            Err(error) => {
                record.series.load(false);
                let serves = known.servable().is_some();
                tracing::warn!(model = %id, reason = %error, still_serves = serves, "refused");
                known.refused(tried, error.to_string());
            }
        }
    }

    /// Carries out commands. One look serves all of them.
    pub(super) fn obey(&mut self, commands: impl IntoIterator<Item = Command>) {
        let mut new = Vec::new();
        let mut loads = Vec::new();
        for command in commands {
            match command {
                Command::Load(name, reply) => {
                    if !self.open(&name) {
                        new.push(name.clone());
                    }
                    loads.push((name, reply));
                }
                Command::Unload(name, reply) => self.close(name, reply),
                Command::Pin(number, pins) => {
                    self.pin(&pins);
                    self.board.pins = number;
                    self.board.changed = true;
                }
            }
        }
        if loads.is_empty() {
            return;
        }
        self.look(std::time::Instant::now(), true);
        for name in new {
            self.open(&name);
        }
        self.waiting.extend(loads.into_iter().filter_map(|(name, reply)| Some((name, reply?))));
    }

    /// Lets a model be loaded, and what was refused be tried again; false when there is no such model.
    fn open(&mut self, name: &ModelName) -> bool {
        let Some(record) = self.models.get_mut(name) else { return false };
        record.asked = true;
        record.open = true;
        record.retry();
        self.touched.insert(name.clone());
        true
    }

    /// Takes note of what live routes name. Models that are not there yet find out when they are.
    fn pin(&mut self, pins: &Pins) {
        for (name, record) in &mut self.models {
            let pinned = pins.get(name).cloned().unwrap_or_default();
            if record.pinned != pinned {
                record.pinned = pinned;
                record.open = true;
                self.touched.insert(name.clone());
            }
        }
        self.pins.clone_from(pins);
        // Under explicit control, what is named may have come since the last look.
        self.looks.wanted = true;
    }

    fn close(&mut self, name: ModelName, reply: Reply) {
        if self.rules.control == Control::Auto {
            let text =
                format!("model '{name}': the server decides what is loaded; unload needs --model-control explicit");
            answer(reply, Err(Error::new(ErrorCode::Conflict, text)));
            return;
        }
        match self.models.get_mut(&name) {
            None => answer(reply, Err(unknown(&name))),
            Some(record) => {
                record.asked = false;
                self.touched.insert(name.clone());
                self.waiting.push((name, reply));
            }
        }
    }

    /// Brings a model closer to what is wanted, as far as loader threads are free.
    pub(super) fn reconcile(&mut self, name: &ModelName) {
        let Some(record) = self.models.get_mut(name) else { return };
        while let Some(action) = record.next_action(self.rules.settle) {
            match action {
                Action::Unload(version) => {
                    let unloaded = record.versions.get_mut(&version).and_then(|known| known.unload());
                    self.graveyard.unloaded(unloaded);
                }
                Action::Load(version) if self.tools.loaders.is_free() => {
                    let Some(job) = job(record, version) else { break };
                    self.tools.loaders.begin(job);
                }
                Action::Load(_) => {
                    if !self.queued.contains(name) {
                        self.queued.push_back(name.clone());
                    }
                    break;
                }
            }
        }
    }

    /// Works out anew what follows from a model's record.
    pub(super) fn refresh(&mut self, name: &ModelName) {
        let settle = self.rules.settle;
        let over = self.models.get(name).is_none_or(ModelRecord::is_over);
        if over && self.graveyard.unloading(name).next().is_none() {
            self.models.remove(name);
        }
        let Some(record) = self.models.get(name) else {
            self.due.remove(name);
            self.starting.remove(name);
            self.board.problems.remove(name);
            self.board.changed |= self.board.entries.remove(name).is_some();
            return;
        };
        match record.due(settle) {
            Some(due) => self.due.insert(name.clone(), due),
            None => self.due.remove(name),
        };
        if self.starting.contains(name) && record.has_started(settle) {
            self.starting.remove(name);
        }
        let new = entry(record, &self.graveyard, settle);
        let old = self.board.entries.get(name);
        for version in newly_lost(old.map(Arc::as_ref), &new) {
            tracing::warn!(model = %name, version = version.get(), "its files are gone, and a live route names it");
        }
        if old.is_none_or(|old| !same(old, &new)) {
            self.board.entries.insert(name.clone(), Arc::new(new));
            self.board.changed = true;
        }
        let wrong = problems(record);
        if self.board.problems.get(name).map_or(&[][..], Vec::as_slice) != wrong {
            self.board.problems.insert(name.clone(), wrong);
            self.board.changed = true;
        }
    }

    /// Publishes a snapshot when something has changed.
    pub(super) fn publish(&mut self) {
        let started = self.starting.is_empty();
        let board = &mut self.board;
        board.changed |= started != board.started;
        if !std::mem::take(&mut board.changed) {
            return;
        }
        if started && !board.started {
            tracing::info!(models = board.entries.len(), "start-up has ended");
        }
        board.started = started;
        board.generation += 1;
        let registry = board.registry_problem.iter().map(|text| Problem { model: None, text: text.clone() });
        let snapshot = Snapshot {
            models: board.entries.clone(),
            routes: board.routes.clone(),
            problems: registry.chain(board.problems.values().flatten().cloned()).collect(),
            started: board.started,
            generation: board.generation,
            pins: board.pins,
        };
        // The last snapshot ends here, on this thread, unless a request still holds it.
        drop(self.tools.hub.publish(snapshot));
    }

    /// Tells those who wait for a model that is at rest.
    pub(super) fn answer(&mut self) {
        for (name, reply) in std::mem::take(&mut self.waiting) {
            let Some(record) = self.models.get_mut(&name) else {
                answer(reply, Err(unknown(&name)));
                continue;
            };
            if !record.is_at_rest(self.rules.settle) {
                self.waiting.push((name, reply));
                continue;
            }
            answer(reply, outcome(record));
        }
        if self.rules.control == Control::Explicit {
            self.shut();
        }
    }

    /// Under explicit control, what is at rest is left alone until somebody asks again.
    fn shut(&mut self) {
        let settle = self.rules.settle;
        for record in self.models.values_mut().filter(|record| record.open && record.is_at_rest(settle)) {
            record.open = false;
        }
    }
}

/// What came of what was asked for.
fn outcome(record: &ModelRecord) -> Result<(), Error> {
    if !record.asked {
        return Ok(());
    }
    match problems(record).first() {
        None => Ok(()),
        Some(problem) => Err(Error::unavailable(format!("model '{}': {}", record.name, problem.text))),
    }
}

fn unknown(name: &ModelName) -> Error {
    Error::not_found(format!("model '{name}': not found"))
}

fn answer(reply: Reply, result: Result<(), Error>) {
    // Whoever asked may have stopped waiting.
    drop(reply.send(result));
}

fn job(record: &mut ModelRecord, version: Version) -> Option<Job> {
    let config = Arc::clone(record.config.as_ref()?);
    let build = record.build;
    let known = record.versions.get_mut(&version)?;
    let (tried, known) = known.begin(build)?;
    let id = ServableId { model: record.name.clone(), version };
    let order = Order { id, folder: record.folder.clone(), place: tried.files.place, config, known };
    Some(Job { order, tried })
}
