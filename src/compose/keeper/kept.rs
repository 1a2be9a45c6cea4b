//! What is known of one route: what its folder looked like last, and what follows: the revision that it is to be at, or an edit
//! by hand that is not a revision yet. Where the folder cannot be written to, edits become revisions in memory only.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    compose::store::{Entry, FileText, Note, Seen, State, Store, StoreError},
    registry::{settle::Settling, source::ROUTE_TOML},
    spec::parse_route_toml,
    types::RouteSpec,
};

/// Revisions that are kept in memory where they cannot be written.
const MAX_MEMORY: usize = 100;

/// A configuration, or what is wrong with its text.
pub(super) type Parsed = Result<Arc<RouteSpec>, Vec<String>>;

/// What a route's folder asks for.
#[derive(Clone, Debug)]
pub(super) enum Asks {
    /// Nothing: there is no route.
    Nothing,
    /// This revision.
    Revision(Arc<Entry>),
    /// To become a revision.
    Edit(Edit),
}

/// An edit by hand.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// What the file says; absent when it was removed.
    pub(super) file: FileText,
    /// It has stopped changing.
    pub(super) settled: bool,
}

/// A route.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) store: Store,
    seen: Option<Seen>,
    /// Why the folder could not be looked at last.
    unreadable: Option<String>,
    settling: Option<Settling<(u64, FileText)>>,
    settle: Duration,
    /// Revisions that could not be written, oldest first.
    memory: Vec<Arc<Entry>>,
    pub(super) writable: bool,
    /// The last texts that were read, with what they mean.
    parsed: Vec<(Arc<str>, Parsed)>,
    /// What an evaluation found to be wrong with what the folder asks for.
    pub(super) verdict: Vec<String>,
}

impl Kept {
    /// A route that was not looked at yet.
    pub(super) fn new(store: Store, settle: Duration) -> Self {
        Self {
            store,
            seen: None,
            unreadable: None,
            settling: None,
            settle,
            memory: Vec::new(),
            writable: true,
            parsed: Vec::new(),
            verdict: Vec::new(),
        }
    }

    /// Looks at the folder; true when there is news.
    pub(super) fn look(&mut self, now: Instant, today: SystemTime) -> bool {
        let known = self.seen.as_ref().and_then(|seen| seen.newest.as_ref());
        match self.store.look(known) {
            Err(error) => {
                let error = Some(error.to_string());
                let news = self.unreadable != error;
                self.unreadable = error;
                news
            }
            Ok(seen) => self.see(seen, now, today),
        }
    }

    fn see(&mut self, seen: Seen, now: Instant, today: SystemTime) -> bool {
        let was_settled = self.is_settled();
        let disk = (seen.number, seen.file.clone());
        let changed = match &mut self.settling {
            Some(settling) => settling.look(disk, now),
            None => {
                // What has not changed for long need not be looked at twice; of what is gone, nobody knows since when.
                let age = seen.stamp.map_or(self.settle, |stamp| stamp.age(today));
                self.settling = Some(Settling::new(disk, now, age));
                true
            }
        };
        if changed && seen.stamp.is_some_and(|stamp| stamp.age(today) >= self.settle) {
            self.settling = Some(Settling::new((seen.number, seen.file.clone()), now, self.settle));
        }
        // Over again when the file says what a revision on the disk says.
        if matches!(seen.state, State::Same | State::Behind(_)) {
            self.memory.clear();
        }
        let before = self.seen.replace(seen).map(|seen| (seen.state, seen.damage));
        let after = self.seen.as_ref().map(|seen| (seen.state.clone(), seen.damage.clone()));
        let writable = self.store.is_writable();
        let news = changed
            || was_settled != self.is_settled()
            || before != after
            || self.unreadable.take().is_some()
            || writable != self.writable;
        self.writable = writable;
        news
    }

    fn is_settled(&self) -> bool {
        self.settling.as_ref().is_some_and(|settling| settling.settled(self.settle))
    }

    /// When another look may find an edit settled.
    pub(super) fn due(&self) -> Option<Instant> {
        let waits = match self.asks() {
            Asks::Edit(edit) => !edit.settled,
            Asks::Nothing => !self.is_settled(),
            Asks::Revision(_) => false,
        };
        self.settling.as_ref().filter(|_| waits).map(|settling| settling.settled_at(self.settle))
    }

    /// What the folder asks for.
    pub(super) fn asks(&self) -> Asks {
        let Some(seen) = &self.seen else { return Asks::Nothing };
        match (&seen.state, &seen.newest) {
            (State::Same | State::Behind(_), Some(newest)) if !newest.is_deletion() => {
                Asks::Revision(Arc::clone(newest))
            }
            (State::Gone | State::Same | State::Behind(_), _) => Asks::Nothing,
            (State::Edited | State::Removed, _) => match self.memory.last() {
                Some(last) if seen.file.is(last) && last.is_deletion() => Asks::Nothing,
                Some(last) if seen.file.is(last) => Asks::Revision(Arc::clone(last)),
                _ => Asks::Edit(Edit { file: seen.file.clone(), settled: self.is_settled() }),
            },
        }
    }

    /// True when the folder has asked for nothing for long enough to believe it.
    pub(super) fn is_gone(&self) -> bool {
        let deleted = self.seen.as_ref().is_some_and(|seen| seen.number > 0);
        matches!(self.asks(), Asks::Nothing) && self.unreadable.is_none() && (deleted || self.is_settled())
    }

    /// Nothing is known of it, nor ever was.
    pub(super) fn is_over(&self) -> bool {
        self.is_gone() && self.seen.as_ref().is_some_and(|seen| seen.number == 0) && self.memory.is_empty()
    }

    /// The newest revision that holds, whatever has become of the file since.
    pub(super) fn newest(&self) -> Option<&Arc<Entry>> {
        let newest = self.memory.last().or(self.seen.as_ref()?.newest.as_ref());
        newest.filter(|newest| !newest.is_deletion())
    }

    /// The number of the next revision.
    pub(super) fn next(&self) -> u64 {
        let memory = self.memory.last().map_or(0, |last| last.revision.number);
        self.seen.as_ref().map_or(0, |seen| seen.number).max(memory) + 1
    }

    /// Revisions that are only in memory, oldest first.
    pub(super) fn memory(&self) -> &[Arc<Entry>] {
        &self.memory
    }

    /// Why the folder cannot be looked at.
    pub(super) fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// What a text means.
    pub(super) fn parse(&mut self, text: &Arc<str>) -> Parsed {
        if let Some((_, parsed)) = self.parsed.iter().find(|(known, _)| known == text) {
            return parsed.clone();
        }
        let parsed = parse(text);
        // The revision that serves, the newest one, and an edit.
        self.parsed.truncate(2);
        self.parsed.insert(0, (Arc::clone(text), parsed.clone()));
        parsed
    }

    /// Makes the next revision; `None` deletes.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub(super) fn commit(&mut self, text: Option<&str>, note: Note) -> Result<Arc<Entry>, StoreError> {
        let Some(seen) = &self.seen else { return Err(StoreError::Stale) };
        self.store.commit(seen, text, note)
    }

    /// Makes an edit a revision. Where that cannot be written it is one in memory.
    ///
    /// # Errors
    /// As [`Store::commit`], but never `ReadOnly`.
    pub(super) fn adopt(&mut self, file: &FileText, note: Note) -> Result<Arc<Entry>, StoreError> {
        let text = match file {
            FileText::Text(text) => Some(Arc::clone(text)),
            FileText::Absent => None,
            FileText::Wrong(_) => return Err(StoreError::Stale),
        };
        match self.commit(text.as_deref(), note.clone()) {
            Err(StoreError::ReadOnly(_)) => {
                let entry = Arc::new(Entry::new(self.next(), note, text.unwrap_or_default()));
                if self.memory.len() >= MAX_MEMORY {
                    self.memory.remove(0);
                }
                self.memory.push(Arc::clone(&entry));
                self.writable = false;
                Ok(entry)
            }
            made => made,
        }
    }

    /// What is wrong with the folder, whatever serves.
    pub(super) fn complaints(&self) -> Vec<String> {
        let Some(seen) = &self.seen else { return self.unreadable.iter().cloned().collect() };
        let behind = match &seen.state {
            State::Behind(why) => {
                Some(format!("{ROUTE_TOML}: is older than revision {} and cannot be replaced: {why}", seen.number))
            }
            _ => None,
        };
        let wrong = match &seen.file {
            FileText::Wrong(why) if self.is_settled() => Some(why.clone()),
            _ => None,
        };
        let all = self.unreadable.iter().chain(&seen.damage).chain(&behind).chain(&wrong).chain(&self.verdict);
        all.cloned().collect()
    }
}

/// What a text means; problems name the file.
pub(super) fn parse(text: &str) -> Parsed {
    parse_route_toml(text).map(Arc::new).map_err(|problems| in_file(&problems))
}

/// Says in which file problems are.
pub(super) fn in_file(problems: &[impl std::fmt::Display]) -> Vec<String> {
    problems.iter().map(|problem| format!("{ROUTE_TOML}: {problem}")).collect()
}
