//! From what folders ask for to what is live: recorded revisions and edits by hand are tried against what is loaded; those that
//! fit are recorded and published together, the others are said to be wrong and change nothing. Called whenever folders or
//! models have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    audit::Attempt,
    board::Shown,
    choose::{Choice, Fits, Verdict, Wish, choose},
    kept::{Asks, Edit, Kept, in_file},
    manager::Manager,
};
use crate::{
    compose::{
        Author, Fit, LiveRoute, Revision, RouteSet, RouteState,
        store::{Entry, FileText, Note, StoreError},
    },
    registry::{Pins, source::ROUTE_TOML},
    types::{ModelName, ServableId},
};

/// What folders ask for, and what of it are edits.
#[derive(Debug, Default)]
struct Asked {
    wishes: BTreeMap<ModelName, Wish>,
    edits: BTreeMap<ModelName, FileText>,
    /// Routes that wait for their own edit to settle.
    settling: bool,
}

impl Manager {
    /// Brings what is live as close to what folders ask for as it can be.
    pub(super) fn evaluate(&mut self, now: Instant) {
        self.news = false;
        // Asked first, so that what is checked against is no older.
        let started = self.tools.compiler.started();
        let (base, mut changed) = self.accepted();
        let fits = self.tools.compiler.check(&base);
        let (mut failed, mut unheld) = (BTreeSet::new(), BTreeSet::new());
        let (asked, mut choice) = loop {
            let asked = self.asked(&base, &failed);
            let mut choice = choose(&base, &fits, &asked.wishes, |set| self.tools.compiler.check(set));
            let mut not_now = self.unheld(&choice, &mut unheld);
            if not_now.is_empty() {
                not_now = self.record(&asked, &mut choice);
            }
            if not_now.is_empty() {
                break (asked, choice);
            }
            failed.extend(not_now);
        };
        let refused = std::mem::take(&mut choice.left);
        let choice = self.instead(choice, &mut unheld);
        changed |= !choice.taken.is_empty();
        self.judge(&refused, started);
        let waits = |fit: &Fit| fit.problems.is_empty() && !fit.waits_for.is_empty();
        let awaited = refused.values().map(|verdict| &verdict.own).filter(|fit| !started || waits(fit));
        let awaited: BTreeSet<_> = awaited.flat_map(|fit| fit.needs.iter().cloned()).collect();
        self.awaited = &awaited | &unheld;
        if started && !self.complete {
            let until = *self.complete_at.get_or_insert(now + self.rules.patience);
            let fits = choice.fits.values().chain(refused.values().map(|verdict| &verdict.own));
            // Another process was faster: what it has made is seen at the next look, which has been asked for.
            let raced = |name| self.routes.get(name).is_some_and(|kept| kept.verdict.is_empty());
            let hopeful =
                asked.settling || !unheld.is_empty() || failed.iter().any(raced) || fits.into_iter().any(waits);
            self.complete = !hopeful || until <= now;
        }
        self.go_live(choice.set, choice.fits, changed);
    }

    /// The live routes, and for every other route the newest revision that was accepted: it is the route, even when it cannot
    /// answer yet.
    fn accepted(&mut self) -> (RouteSet, bool) {
        let mut set = Arc::clone(&self.live);
        for (name, kept) in &mut self.routes {
            let Some(newest) = kept.newest().filter(|_| !self.live.contains_key(name)).cloned() else { continue };
            // What has been removed by hand is not brought back, what has been edited may be refused.
            let removed = matches!(kept.asks(), Asks::Nothing | Asks::Edit(Edit { file: FileText::Absent, .. }));
            if !removed && let Ok(spec) = kept.parse(&newest.text) {
                Arc::make_mut(&mut set).insert(name.clone(), live(&newest, spec));
            }
        }
        let changed = !Arc::ptr_eq(&set, &self.live);
        (set, changed)
    }

    /// What folders ask for that is not live.
    fn asked(&mut self, base: &RouteSet, failed: &BTreeSet<ModelName>) -> Asked {
        let mut asked = Asked::default();
        for (name, kept) in self.routes.iter_mut().filter(|(name, _)| !failed.contains(*name)) {
            kept.verdict.clear();
            let now = base.get(name);
            match kept.asks() {
                Asks::Nothing if now.is_some() && kept.is_gone() => drop(asked.wishes.insert(name.clone(), None)),
                Asks::Nothing => {}
                Asks::Revision(entry) => asked.ask(name, now, &entry, kept),
                Asks::Edit(Edit { settled: false, .. }) => asked.settling = true,
                Asks::Edit(Edit { file, .. }) => asked.ask_edit(name, now, file, kept),
            }
        }
        asked
    }

    /// The routes that could change but for what they need: it is loaded, and it is not certain yet that it stays.
    fn unheld(&mut self, choice: &Choice, all: &mut BTreeSet<ServableId>) -> Vec<ModelName> {
        let mut names = Vec::new();
        for name in &choice.taken {
            let Some(fit) = choice.fits.get(name) else { continue };
            if !self.pinning.holds(&fit.needs, &*self.tools.compiler) {
                all.extend(fit.needs.iter().cloned());
                names.push(name.clone());
            }
        }
        names
    }

    /// Makes edits revisions. Returns the routes that changed meanwhile.
    fn record(&mut self, asked: &Asked, choice: &mut Choice) -> Vec<ModelName> {
        let mut failed = Vec::new();
        let edits = asked.edits.iter().filter(|(name, _)| choice.taken.contains(*name));
        let edits: Vec<_> = edits.map(|(name, file)| (name.clone(), file.clone())).collect();
        for (name, file) in edits {
            let (now, today) = (Instant::now(), SystemTime::now());
            let before = self.live.get(&name).map(|live| live.revision.number);
            let kept = self.kept(&name);
            let note = by_hand(kept.newest().map_or(0, |newest| newest.revision.number), today);
            match kept.adopt(&file, note) {
                Ok(entry) => {
                    kept.look(now, today);
                    let attempt = Attempt { route: name.as_str(), who: "file", why: "", action: "edit", from: before };
                    self.tools.audit.made(attempt, entry.revision.number, today);
                    let set = Arc::make_mut(&mut choice.set);
                    if let Some(live) = set.get_mut(&name) {
                        live.revision.clone_from(&entry.revision);
                    }
                }
                Err(error) => {
                    if !matches!(error, StoreError::Stale) {
                        kept.verdict = vec![format!("{ROUTE_TOML}: cannot be made a revision: {error}")];
                    }
                    self.look_soon();
                    failed.push(name);
                }
            }
        }
        failed
    }

    /// Where an edit was refused, the newest revision counts: another process may have made it.
    fn instead(&mut self, choice: Choice, unheld: &mut BTreeSet<ServableId>) -> Choice {
        let mut second = Asked::default();
        for (name, kept) in &mut self.routes {
            let waits = matches!(kept.asks(), Asks::Edit(_)) && !choice.taken.contains(name);
            let is_there = choice.set.contains_key(name);
            if let Some(newest) = kept.newest().filter(|_| waits && is_there).cloned() {
                let verdict = std::mem::take(&mut kept.verdict);
                second.ask(name, choice.set.get(name), &newest, kept);
                kept.verdict = verdict;
            }
        }
        while !second.wishes.is_empty() {
            let mut other = choose(&choice.set, &choice.fits, &second.wishes, |set| self.tools.compiler.check(set));
            let not_now = self.unheld(&other, unheld);
            if not_now.is_empty() {
                other.taken.extend(choice.taken);
                return other;
            }
            second.wishes.retain(|name, _| !not_now.contains(name));
        }
        choice
    }

    /// Says what is wrong with what folders ask for.
    fn judge(&mut self, refused: &BTreeMap<ModelName, Verdict>, started: bool) {
        for (name, verdict) in refused {
            let Some(kept) = self.routes.get_mut(name) else { continue };
            if started {
                kept.verdict.extend(in_file(&verdict.own.problems));
                kept.verdict.extend(verdict.own.waits_for.iter().map(|what| waiting(ROUTE_TOML, what)));
            }
            let removed = matches!(kept.asks(), Asks::Nothing | Asks::Edit(Edit { file: FileText::Absent, .. }));
            let others = verdict.breaks.iter().map(|(route, problem)| {
                let what = if removed { "is gone, but then" } else { "then" };
                format!("{ROUTE_TOML}: {what} route '{route}' would not be in order: {problem}")
            });
            kept.verdict.extend(others);
        }
    }

    /// Publishes routes, keeps loaded what they name, and shows them.
    pub(super) fn go_live(&mut self, set: RouteSet, fits: Fits, changed: bool) {
        self.needs.retain(|name, _| set.contains_key(name));
        for name in set.keys() {
            let Some(fit) = fits.get(name) else { continue };
            let needs = self.needs.entry(name.clone()).or_default();
            // Of a route that does not fit it is not known what it needs; what served goes on serving.
            if fit.problems.is_empty() {
                needs.clone_from(&fit.needs);
            } else {
                needs.extend(fit.needs.iter().cloned());
            }
        }
        self.fits = fits;
        let after = self.pins();
        let mut both = self.pinning.last().clone();
        for (model, versions) in &after {
            both.entry(model.clone()).or_default().extend(versions.iter().copied());
        }
        self.pinning.say(both);
        if changed {
            for (name, route) in set.iter() {
                let known = self.live.get(name).map(|live| &live.revision);
                if known != Some(&route.revision) {
                    let Revision { number, author, .. } = &route.revision;
                    tracing::info!(route = %name, revision = number, who = &*author.who, "route is live");
                }
            }
            for name in self.live.keys().filter(|name| !set.contains_key(*name)) {
                tracing::info!(route = %name, "route is gone");
            }
            self.live = set;
            self.tools.compiler.publish(Arc::clone(&self.live), self.announced);
        }
        self.pinning.say(after);
        self.show();
        if self.complete && !self.announced {
            // Last, so that operators see what serves when start-up ends.
            self.announced = true;
            self.tools.compiler.publish(Arc::clone(&self.live), true);
        }
    }

    /// Versions that must be loaded.
    fn pins(&self) -> Pins {
        let parked = self.parked.iter().flat_map(|parked| &parked.needs);
        let mut pins = Pins::new();
        for ServableId { model, version } in
            self.needs.values().flatten().chain(&self.awaited).chain(parked).chain(&self.retried)
        {
            pins.entry(model.clone()).or_default().insert(*version);
        }
        pins
    }

    /// Tells the registry what is needed now.
    pub(super) fn pin_now(&mut self) {
        let pins = self.pins();
        self.pinning.say(pins);
    }

    fn show(&self) {
        let started = self.tools.compiler.started();
        let mut shown = Shown { complete: self.complete, ..Shown::default() };
        for (name, kept) in &self.routes {
            if !kept.memory().is_empty() {
                shown.memory.insert(name.clone(), kept.memory().to_vec());
            }
            let live = self.live.get(name).cloned();
            if live.is_none() && matches!(kept.asks(), Asks::Nothing) && kept.unreadable().is_none() {
                continue;
            }
            let mut problems = kept.complaints();
            if let Some((live, fit)) = live.as_ref().zip(self.fits.get(name)).filter(|_| started) {
                let what = format!("revision {}", live.revision.number);
                problems.extend(fit.problems.iter().map(|problem| format!("{what}: {problem}")));
                problems.extend(fit.waits_for.iter().map(|model| waiting(&what, model)));
            }
            let state = RouteState { name: name.clone(), live, problems, writable: kept.writable };
            shown.states.insert(name.clone(), Arc::new(state));
        }
        self.tools.board.show(shown);
    }
}

impl Asked {
    /// A route is to be at this revision.
    fn ask(&mut self, name: &ModelName, now: Option<&LiveRoute>, entry: &Arc<Entry>, kept: &mut Kept) {
        if now.is_some_and(|now| now.revision == entry.revision && now.text == entry.text) {
            return;
        }
        match kept.parse(&entry.text) {
            Ok(spec) => drop(self.wishes.insert(name.clone(), Some(live(entry, spec)))),
            Err(problems) => kept.verdict = problems,
        }
    }

    /// A route is to be as somebody has written.
    fn ask_edit(&mut self, name: &ModelName, now: Option<&LiveRoute>, file: FileText, kept: &mut Kept) {
        let wish = match &file {
            FileText::Wrong(_) => return,
            FileText::Absent => None,
            FileText::Text(text) => {
                let note = by_hand(now.map_or(0, |now| now.revision.number), SystemTime::UNIX_EPOCH);
                match kept.parse(text) {
                    Err(problems) => {
                        kept.verdict = problems;
                        return;
                    }
                    Ok(spec) => Some(live(&Entry::new(kept.next(), note, Arc::clone(text)), spec)),
                }
            }
        };
        self.wishes.insert(name.clone(), wish);
        self.edits.insert(name.clone(), file);
    }
}

fn by_hand(from: u64, at: SystemTime) -> Note {
    Note { author: Author { who: "file".into(), why: "".into() }, from, at }
}

/// A revision that serves.
pub(super) fn live(entry: &Entry, spec: Arc<crate::types::RouteSpec>) -> LiveRoute {
    LiveRoute { revision: entry.revision.clone(), spec, text: Arc::clone(&entry.text) }
}

fn waiting(what: &str, model: &str) -> String {
    format!("{what}: waits for '{model}', which is not loaded yet")
}
