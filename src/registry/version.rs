//! What the manager remembers of one version: what its files look like, what was last tried with them, and what serves. The
//! transitions only go forward: settling, loading, ready or refused; what serves goes on serving while it is loaded again.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{files::FileStamp, policy::Stage, servable::Servable, settle::Settling, source::FoundVersion};
use crate::types::ModelSpec;

/// What a load was or is made from. The same would come of the same, so it is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    /// The files.
    pub(super) files: FoundVersion,
    /// Which build of the model's configuration.
    pub(super) build: u64,
}

/// A version.
#[derive(Debug)]
pub(super) struct VersionRecord {
    /// Its files; `None` when they are no longer in the registry.
    found: Option<Settling<FoundVersion>>,
    /// Every file that the manifest lists has its size.
    complete: bool,
    /// It has changed since it was first seen.
    pub(super) restless: bool,
    /// The policy chose it, and nothing else that the policy chose has taken over.
    pub(super) chosen: bool,
    slot: Slot,
}

#[derive(Debug)]
enum Slot {
    /// Nothing has come of it yet.
    Idle,
    /// It is being loaded for the first time.
    Loading(Tried),
    /// It was refused.
    Failed { tried: Tried, reason: String },
    /// It serves.
    Ready(Box<Ready>),
}

#[derive(Debug)]
struct Ready {
    servable: Arc<Servable>,
    fingerprint: Arc<str>,
    loaded: Tried,
    /// It is being loaded again.
    again: Option<Tried>,
    /// It was loaded again and refused.
    refused: Option<(Tried, String)>,
}

/// What is known about a version's files beside their looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// When it was looked.
    pub(super) now: Instant,
    /// The wall clock then, when files that have long been unchanged count as settled at once; else `None`.
    pub(super) old_counts: Option<SystemTime>,
    /// How long files must not change.
    pub(super) settle: Duration,
}

impl Look {
    /// How long the youngest of the files is known not to have changed, at most the settle time.
    pub(super) fn age<'a>(&self, files: impl Iterator<Item = &'a FileStamp>) -> Duration {
        let Some(wall) = self.old_counts else { return Duration::ZERO };
        files.map(|stamp| stamp.age(wall)).min().unwrap_or_default().min(self.settle)
    }
}

impl VersionRecord {
    pub(super) fn new() -> Self {
        Self { found: None, complete: false, restless: false, chosen: false, slot: Slot::Idle }
    }

    /// Takes note of the files as they are now; `complete` is asked when they have changed.
    pub(super) fn see(&mut self, files: FoundVersion, look: Look, complete: impl FnOnce(&FoundVersion) -> bool) {
        match &mut self.found {
            Some(found) => {
                if !found.look(files, look.now) {
                    return;
                }
                self.restless = true;
            }
            None => {
                let age = look.age(files.files.values());
                self.found = Some(Settling::new(files, look.now, age));
            }
        }
        self.complete = self.found.as_ref().is_some_and(|found| complete(found.seen()));
    }

    /// Takes note that its files are gone.
    pub(super) fn gone(&mut self) {
        self.found = None;
        self.complete = false;
    }

    /// Whether its files are in the registry.
    pub(super) fn is_present(&self) -> bool {
        self.found.is_some()
    }

    /// Nothing is left to remember.
    pub(super) fn is_over(&self) -> bool {
        self.found.is_none() && matches!(self.slot, Slot::Idle | Slot::Failed { .. })
    }

    /// How far it is.
    pub(super) fn stage(&self, build: u64, settle: Duration) -> Stage {
        match &self.slot {
            Slot::Loading(_) => Stage::Loading,
            Slot::Ready(ready) if ready.again.is_some() => Stage::Reloading,
            Slot::Ready(_) if self.is_tried(build) => Stage::Ready,
            Slot::Ready(_) if self.loadable(settle) => Stage::Stale,
            Slot::Ready(_) => Stage::Ready,
            Slot::Failed { .. } if self.is_tried(build) => Stage::Failed,
            Slot::Idle | Slot::Failed { .. } if self.loadable(settle) => Stage::Loadable,
            Slot::Idle | Slot::Failed { .. } => Stage::Settling,
        }
    }

    /// When it should be looked at again because its files may have settled then.
    pub(super) fn due(&self, build: u64, settle: Duration) -> Option<Instant> {
        let found = self.found.as_ref()?;
        let waits = !self.is_tried(build) && !self.loadable(settle) && !matches!(self.slot, Slot::Loading(_));
        waits.then(|| found.settled_at(settle))
    }

    /// What is there is what was tried last, or nothing is there.
    fn is_tried(&self, build: u64) -> bool {
        let Some(found) = &self.found else { return true };
        let same = |tried: &Tried| tried.build == build && tried.files == *found.seen();
        match &self.slot {
            Slot::Idle => false,
            Slot::Loading(tried) | Slot::Failed { tried, .. } => same(tried),
            Slot::Ready(ready) => same(&ready.loaded) || ready.refused.as_ref().is_some_and(|(tried, _)| same(tried)),
        }
    }

    /// A manifest spares the wait, except where it has misled before.
    fn loadable(&self, settle: Duration) -> bool {
        let misled = match &self.slot {
            Slot::Failed { .. } => true,
            Slot::Ready(ready) => ready.refused.is_some(),
            Slot::Idle | Slot::Loading(_) => false,
        };
        self.found.as_ref().is_some_and(|found| found.settled(settle)) || (self.complete && !misled)
    }

    /// Begins to load it. Returns what from, and the fingerprint of what serves already from the same build.
    pub(super) fn begin(&mut self, build: u64) -> Option<(Tried, Option<Arc<str>>)> {
        let files = self.found.as_ref()?.seen().clone();
        let tried = Tried { files, build };
        let known = match &mut self.slot {
            Slot::Ready(ready) => {
                ready.again = Some(tried.clone());
                (ready.loaded.build == build).then(|| Arc::clone(&ready.fingerprint))
            }
            slot => {
                *slot = Slot::Loading(tried.clone());
                None
            }
        };
        Some((tried, known))
    }

    /// Whether the result of this load is waited for.
    pub(super) fn awaits(&self, tried: &Tried) -> bool {
        match &self.slot {
            Slot::Loading(loading) => loading == tried,
            Slot::Ready(ready) => ready.again.as_ref() == Some(tried),
            Slot::Idle | Slot::Failed { .. } => false,
        }
    }

    /// It serves from now on. Returns what served before.
    pub(super) fn loaded(&mut self, tried: Tried, servable: Servable, fingerprint: Arc<str>) -> Option<Arc<Servable>> {
        let servable = Arc::new(servable);
        let ready = Ready { servable, fingerprint, loaded: tried, again: None, refused: None };
        match std::mem::replace(&mut self.slot, Slot::Ready(Box::new(ready))) {
            Slot::Ready(before) => Some(before.servable),
            _ => None,
        }
    }

    /// The files turned out to be those that serve.
    pub(super) fn same(&mut self, tried: Tried) {
        if let Slot::Ready(ready) = &mut self.slot {
            ready.loaded = tried;
            ready.again = None;
            ready.refused = None;
        }
    }

    /// It was refused. What serves goes on serving.
    pub(super) fn refused(&mut self, tried: Tried, reason: String) {
        match &mut self.slot {
            Slot::Ready(ready) => {
                ready.again = None;
                ready.refused = Some((tried, reason));
            }
            slot => *slot = Slot::Failed { tried, reason },
        }
    }

    /// It no longer serves. Returns what did.
    pub(super) fn unload(&mut self) -> Option<Arc<Servable>> {
        self.chosen = false;
        match std::mem::replace(&mut self.slot, Slot::Idle) {
            Slot::Ready(ready) => Some(ready.servable),
            other => {
                self.slot = other;
                None
            }
        }
    }

    /// Forgets what was refused, so that it is tried again.
    pub(super) fn retry(&mut self) {
        match &mut self.slot {
            Slot::Ready(ready) => ready.refused = None,
            slot @ Slot::Failed { .. } => *slot = Slot::Idle,
            Slot::Idle | Slot::Loading(_) => {}
        }
    }

    /// Applies a configuration of the build that it was made under. Returns what served before.
    pub(super) fn respec(&mut self, spec: &Arc<ModelSpec>, build: u64) -> Option<Arc<Servable>> {
        let Slot::Ready(ready) = &mut self.slot else { return None };
        if ready.loaded.build != build || ready.servable.spec == *spec {
            return None;
        }
        let servable = Arc::new(ready.servable.with_spec(Arc::clone(spec)));
        Some(std::mem::replace(&mut ready.servable, servable))
    }

    /// What serves.
    pub(super) fn servable(&self) -> Option<&Arc<Servable>> {
        match &self.slot {
            Slot::Ready(ready) => Some(&ready.servable),
            _ => None,
        }
    }

    /// Why it, or its successor under the same number, was refused.
    pub(super) fn complaint(&self) -> Option<&str> {
        match &self.slot {
            Slot::Failed { reason, .. } => Some(reason),
            Slot::Ready(ready) => ready.refused.as_ref().map(|(_, reason)| reason.as_str()),
            _ => None,
        }
    }
}
