//! From what operators ask for to a revision: the file is read again first, the change is tried against what is loaded, written,
//! and published; only then is it answered. A change whose versions are not loaded yet waits for them, for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    audit::{Attempt, action},
    choose::{Choice, Verdict, choose},
    draft::{Draft, failed, moves, weights},
    evaluate::live,
    inbox::Reply,
    kept::{Asks, Edit as ByHand, in_file},
    manager::Manager,
};
use crate::{
    compose::{
        Change, ChangeError, Changed, Edit, Expect, LiveRoute,
        store::{Note, StoreError},
    },
    types::{Error, ModelName, ServableId},
};

/// How often a change that expects nothing is tried while other processes change the route.
const MAX_RACES: usize = 16;

/// A change that waits for versions to be loaded.
#[derive(Debug)]
pub(super) struct Parked {
    change: Change,
    reply: Reply,
    /// Then it is refused.
    pub(super) until: Instant,
    /// What must be loaded.
    pub(super) needs: BTreeSet<ServableId>,
    /// What was not loaded when it was asked for.
    loads: Vec<String>,
    /// What it still waits for.
    waits_for: Vec<String>,
}

/// What comes of a change at this moment.
enum Outcome {
    Answer(Result<Changed, ChangeError>),
    Wait { needs: BTreeSet<ServableId>, waits_for: Vec<String> },
}

impl Manager {
    /// Somebody wants a change.
    pub(super) fn receive(&mut self, change: Change, reply: Reply) {
        let until = Instant::now() + self.rules.patience;
        let (needs, loads, waits_for) = (BTreeSet::new(), Vec::new(), Vec::new());
        self.serve(Parked { change, reply, until, needs, loads, waits_for });
    }

    /// Models have changed: what waits may go on.
    pub(super) fn retry(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        self.retried = parked.iter().flat_map(|parked| parked.needs.iter().cloned()).collect();
        for parked in parked {
            // Who has left does not want it any more.
            if !parked.reply.is_closed() {
                self.serve(parked);
            }
        }
        self.retried.clear();
        self.pin_now();
    }

    /// Refuses what has waited too long.
    pub(super) fn give_up(&mut self, now: Instant) {
        if self.parked.iter().all(|parked| parked.until > now) {
            return;
        }
        let (late, parked) = std::mem::take(&mut self.parked).into_iter().partition(|parked| parked.until <= now);
        self.parked = parked;
        let late: Vec<Parked> = late;
        for parked in late {
            let seconds = self.rules.patience.as_secs();
            let waited = parked.waits_for.iter();
            let texts: Vec<_> = waited.map(|what| format!("'{what}' was not loaded within {seconds} s")).collect();
            let silent = || Error::unavailable("routes: the registry does not answer").into();
            let error = if texts.is_empty() { silent() } else { ChangeError::Refused(in_file(&texts)) };
            self.answer(parked, Err(error));
        }
        self.pin_now();
    }

    fn serve(&mut self, mut parked: Parked) {
        match self.attempt(&parked.change, &parked.loads) {
            Outcome::Answer(result) => self.answer(parked, result),
            Outcome::Wait { needs, waits_for } => {
                if parked.loads.is_empty() {
                    parked.loads.clone_from(&waits_for);
                }
                parked.needs = needs;
                parked.waits_for = waits_for;
                self.parked.push(parked);
                self.pin_now();
            }
        }
    }

    fn answer(&mut self, parked: Parked, result: Result<Changed, ChangeError>) {
        let Parked { change, reply, .. } = parked;
        if let Err(error) = &result
            && !change.dry_run
        {
            self.tools.audit.refused(self.recorded(&change), error, SystemTime::now());
        }
        // Who has left does not hear of it.
        drop(reply.send(result));
        // What another route waits for may be there now.
        self.news = true;
    }

    fn recorded<'c>(&self, change: &'c Change) -> Attempt<'c> {
        let from = self.live.get(&change.route).map(|live| live.revision.number);
        let Change { route, author, edit, .. } = change;
        Attempt { route: route.as_str(), who: &author.who, why: &author.why, action: action(edit), from }
    }

    fn attempt(&mut self, change: &Change, loaded: &[String]) -> Outcome {
        for _ in 0..MAX_RACES {
            match self.attempt_once(change, loaded) {
                // Another process was faster; who expects nothing has lost nothing.
                Outcome::Answer(Err(ChangeError::Stale { .. })) if self.is_raced && change.expect == Expect::Any => {}
                outcome => return outcome,
            }
        }
        self.attempt_once(change, loaded)
    }

    fn attempt_once(&mut self, change: &Change, loaded: &[String]) -> Outcome {
        self.is_raced = false;
        self.look_at(&change.route);
        if let Err(error) = self.stands(change) {
            return Outcome::Answer(Err(error));
        }
        let draft = match self.draft(change) {
            Ok(draft) => draft,
            Err(ChangeError::Refused(problems)) if change.dry_run => {
                let changed = Changed { problems, ..self.unchanged(&change.route) };
                return Outcome::Answer(Ok(changed));
            }
            Err(error) => return Outcome::Answer(Err(error)),
        };
        let entry = self.entry(change, &draft);
        let wish = draft.route.as_ref().map(|(_, spec)| live(&entry, Arc::clone(spec)));
        let wishes = BTreeMap::from([(change.route.clone(), wish)]);
        let mut choice = choose(&self.live, &self.fits, &wishes, |set| self.tools.compiler.check(set));
        let verdict = choice.left.remove(&change.route).unwrap_or_default();
        if !verdict.own.fits() && !self.tools.compiler.started() {
            return Outcome::Answer(Err(starting(&change.route).into()));
        }
        let mut changed = self.foreseen(change, &draft, &choice, &verdict);
        if change.dry_run {
            return Outcome::Answer(Ok(changed));
        }
        changed.loads.extend_from_slice(loaded);
        match std::mem::take(&mut changed.problems) {
            problems if problems.is_empty() => {
                let taken = choice.fits.get(&change.route).filter(|_| choice.taken.contains(&change.route));
                let needs = taken.unwrap_or(&verdict.own).needs.clone();
                if !verdict.own.waits_for.is_empty() || !self.pinning.holds(&needs, &*self.tools.compiler) {
                    return Outcome::Wait { needs, waits_for: verdict.own.waits_for };
                }
                Outcome::Answer(self.make(change, &draft, choice).map(|revision| Changed { revision, ..changed }))
            }
            problems if change.edit == Edit::Delete => Outcome::Answer(Err(ChangeError::Conflict(problems.join("; ")))),
            problems => Outcome::Answer(Err(ChangeError::Refused(problems))),
        }
    }

    /// Looks at one route's folder again. What was edited by hand meanwhile comes first.
    fn look_at(&mut self, name: &ModelName) {
        let (now, today) = (Instant::now(), SystemTime::now());
        if self.kept(name).look(now, today) {
            self.evaluate(now);
        }
    }

    /// Whether the route is as the change expects it to be, and may be changed.
    fn stands(&mut self, change: &Change) -> Result<(), ChangeError> {
        let Change { route, edit, expect, .. } = change;
        let serves = self.live.get(route).map(|live| live.revision.number);
        let kept = self.kept(route);
        if let Some(why) = kept.unreadable() {
            return Err(Error::internal(format!("route '{route}': its folder cannot be read"), why).into());
        }
        let asks = kept.asks();
        // Another process may have made a revision that does not serve here, or deleted the route.
        let (is_there, at) = match &asks {
            Asks::Nothing => (false, None),
            Asks::Revision(newest) => (true, Some(newest.revision.number)),
            Asks::Edit(_) => (true, serves),
        };
        if !is_there && matches!(edit, Edit::Weights(_) | Edit::Delete) {
            return Err(not_found(route));
        }
        let stale = |what: String| Err(ChangeError::Stale { text: format!("route '{route}': {what}"), live: serves });
        let place = || at.map_or_else(|| "no revision of it serves".to_owned(), |at| format!("it is at revision {at}"));
        match expect {
            Expect::Absent if is_there => return stale(format!("is there already: {}", place())),
            Expect::Revision(_) if !is_there => return stale("is not there".to_owned()),
            Expect::Revision(expected) if at != Some(*expected) => {
                return stale(format!("expected revision {expected}, but {}", place()));
            }
            _ => {}
        }
        if !kept.writable {
            let text = format!(
                "route '{route}': the folder '{route}' cannot be written to: give --routes DIR with a directory that can"
            );
            return Err(ChangeError::Conflict(text));
        }
        let why = kept.complaints().into_iter().next();
        match asks {
            Asks::Nothing => Ok(()),
            Asks::Revision(_) if at == serves => Ok(()),
            // What somebody wrote has not been found wrong, so it is about to be the route.
            Asks::Edit(ByHand { settled: false, .. }) => {
                stale("its route.toml has just been edited by hand".to_owned())
            }
            _ if !self.tools.compiler.started() => Err(starting(route).into()),
            Asks::Edit(_) if why.is_none() => stale("its route.toml has just been edited by hand".to_owned()),
            // Weights are those of what is written there; everything else replaces it.
            _ if !matches!(edit, Edit::Weights(_)) => Ok(()),
            Asks::Edit(_) => Err(ChangeError::Conflict(format!(
                "route '{route}': was edited by hand, and that is not in order: {}",
                why.unwrap_or_default()
            ))),
            Asks::Revision(newest) => Err(ChangeError::Conflict(format!(
                "route '{route}': revision {} does not serve here: {}",
                newest.revision.number,
                why.unwrap_or_default()
            ))),
        }
    }

    fn unchanged(&mut self, route: &ModelName) -> Changed {
        Changed {
            route: route.clone(),
            revision: self.kept(route).next(),
            weights: Vec::new(),
            moved: 0.0,
            loads: Vec::new(),
            unloads: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// What the change would come to, with everything that is in its way.
    fn foreseen(&mut self, change: &Change, draft: &Draft, choice: &Choice, verdict: &Verdict) -> Changed {
        let route = &change.route;
        let fits = if choice.taken.contains(route) { &choice.fits } else { &verdict.fits };
        let before: BTreeSet<_> = self.needs.values().flatten().collect();
        let after: BTreeSet<_> = fits.values().flat_map(|fit| &fit.needs).collect();
        let unloads = before.difference(&after).map(ToString::to_string).collect();
        let mut problems = in_file(&verdict.own.problems);
        if draft.route.is_none() {
            problems.extend(self.named_by(route));
        } else {
            problems.extend(verdict.breaks.iter().map(|(other, problem)| {
                format!("route '{other}', which names '{route}', would not be in order: {problem}")
            }));
        }
        let spec = draft.route.as_ref().map(|(_, spec)| &**spec);
        let moved = match (self.live.get(route), spec) {
            (Some(before), Some(after)) => moves(route, &before.spec, after),
            _ => 0.0,
        };
        let loads = verdict.own.waits_for.clone();
        Changed {
            weights: spec.map_or_else(Vec::new, weights),
            moved,
            loads,
            unloads,
            problems,
            ..self.unchanged(route)
        }
    }

    fn named_by(&self, route: &ModelName) -> Option<String> {
        let names_it = |(name, live): &(&ModelName, &LiveRoute)| {
            *name != route && live.spec.parts().iter().any(|(_, part)| part.name == *route)
        };
        let others: Vec<_> = self.live.iter().filter(names_it).map(|(name, _)| format!("'{name}'")).collect();
        (!others.is_empty()).then(|| format!("route '{route}': is named by {}", others.join(", ")))
    }

    /// Writes the revision and makes it live. Returns its number.
    fn make(&mut self, change: &Change, draft: &Draft, mut choice: Choice) -> Result<u64, ChangeError> {
        let (route, today) = (&change.route, SystemTime::now());
        let attempt = self.recorded(change);
        let note = Note { author: change.author.clone(), from: draft.from, at: today };
        let text = draft.route.as_ref().map(|(text, _)| &**text);
        let entry = match self.kept(route).commit(text, note) {
            Ok(entry) => entry,
            Err(StoreError::Stale) => {
                self.is_raced = true;
                self.look_at(route);
                let live = self.live.get(route).map(|live| live.revision.number);
                return Err(ChangeError::Stale { text: format!("route '{route}': has changed meanwhile"), live });
            }
            Err(error) => {
                self.look_at(route);
                return Err(failed(route, &error));
            }
        };
        let kept = self.kept(route);
        kept.verdict.clear();
        kept.look(Instant::now(), today);
        if let Some(live) = Arc::make_mut(&mut choice.set).get_mut(route) {
            live.revision.clone_from(&entry.revision);
        }
        self.go_live(choice.set, choice.fits, true);
        self.tools.audit.made(attempt, entry.revision.number, today);
        Ok(entry.revision.number)
    }
}

fn not_found(route: &ModelName) -> ChangeError {
    ChangeError::NotFound(format!("route '{route}': not found"))
}

fn starting(route: &ModelName) -> Error {
    Error::unavailable(format!("route '{route}': the server is starting"))
}
