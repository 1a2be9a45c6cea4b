//! The version policy, pure: which versions are wanted, and what to do next about the difference to what is there. The
//! manager asks until there is nothing left to do. Availability comes first: a version that serves goes on serving until
//! what replaces it has been loaded, warmed and checked, and a version that cannot be loaded replaces nothing.

use std::collections::BTreeSet;

use crate::types::{Version, VersionPolicy};

/// What the wanted versions of a model follow from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the model's configuration asks for.
    pub policy: &'a VersionPolicy,
    /// Versions that labels name.
    pub labelled: &'a BTreeSet<Version>,
    /// Versions that live routes name.
    pub pinned: &'a BTreeSet<Version>,
    /// Versions in the registry, and pinned ones that are still loaded.
    pub present: &'a BTreeSet<Version>,
    /// Versions that were refused and have not changed since.
    pub failed: &'a BTreeSet<Version>,
    /// Versions that serve because the policy chose them.
    pub chosen: &'a BTreeSet<Version>,
}

/// The wanted versions of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aspired {
    /// All of them, including refused ones that would be wanted if they could be loaded.
    pub all: BTreeSet<Version>,
    /// Those that a request without a version may get: chosen by the policy, not just by a label or a route.
    pub by_policy: BTreeSet<Version>,
    /// Versions that are named somewhere and are not there.
    pub missing: BTreeSet<Version>,
}

/// Which versions are wanted. `latest:n` means the n highest that can be loaded: a refused version does not count, so that a
/// restart beside a broken newest version serves what served before it. A list that names nothing that is there leaves the
/// choice as it was: a slip of the pen must not take a model down.
pub fn aspired(facts: Facts<'_>) -> Aspired {
    let Facts { policy, labelled, pinned, present, failed, chosen } = facts;
    let mut by_policy = BTreeSet::new();
    let mut missing = BTreeSet::new();
    match policy {
        VersionPolicy::All => by_policy.clone_from(present),
        VersionPolicy::Latest(count) => {
            let mut left = *count;
            for version in present.iter().rev() {
                if left == 0 {
                    break;
                }
                by_policy.insert(*version);
                left -= usize::from(!failed.contains(version));
            }
        }
        VersionPolicy::Only(versions) => {
            by_policy.extend(versions);
            if !versions.is_empty() && by_policy.is_disjoint(present) {
                by_policy.extend(chosen & present);
            }
        }
    }
    let mut all = &by_policy | &(labelled | pinned);
    all.retain(|version| {
        let there = present.contains(version);
        if !there {
            missing.insert(*version);
        }
        there
    });
    by_policy.retain(|version| present.contains(version));
    Aspired { all, by_policy, missing }
}

/// How far a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its files may still be changing.
    Settling,
    /// It can be loaded.
    Loadable,
    /// It is being loaded.
    Loading,
    /// It serves.
    Ready,
    /// It serves, and its files or configuration have changed so that it must be loaded again.
    Stale,
    /// It serves and is being loaded again.
    Reloading,
    /// It was refused.
    Failed,
}

impl Stage {
    fn serves(self) -> bool {
        matches!(self, Stage::Ready | Stage::Stale | Stage::Reloading)
    }

    /// It may become ready by itself.
    fn pending(self) -> bool {
        matches!(self, Stage::Settling | Stage::Loadable | Stage::Loading)
    }
}

/// A version as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Which one.
    pub version: Version,
    /// Whether it is wanted.
    pub aspired: bool,
    /// Whether it is wanted because the policy chose it.
    pub by_policy: bool,
    /// How far it is.
    pub stage: Stage,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Load this version (again).
    Load(Version),
    /// Stop serving this version.
    Unload(Version),
}

/// The next step for one model; `None` when there is nothing to do until something changes. The highest version is loaded
/// first. What is no longer wanted goes when every wanted version is either serving or refused, and one that the policy chose
/// serves; or when the policy wants nothing any more.
pub fn next_action(views: &[View]) -> Option<Action> {
    let aspired = || views.iter().filter(|view| view.aspired);
    let load = aspired()
        .filter(|view| matches!(view.stage, Stage::Loadable | Stage::Stale))
        .max_by_key(|view| (view.stage == Stage::Loadable, view.version));
    if let Some(view) = load {
        return Some(Action::Load(view.version));
    }
    let chosen = || views.iter().filter(|view| view.by_policy);
    let replaced = chosen().next().is_none() || chosen().any(|view| view.stage.serves());
    if !replaced || aspired().any(|view| view.stage.pending()) {
        return None;
    }
    // A reload in progress is waited for: its result would otherwise bring the version back.
    let gone = |view: &&View| !view.aspired && matches!(view.stage, Stage::Ready | Stage::Stale);
    views.iter().filter(gone).map(|view| view.version).min().map(Action::Unload)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
