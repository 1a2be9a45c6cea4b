//! What a model's record looks like from outside: its entry in the snapshot, and what an operator should put right.

use std::{sync::Arc, time::Duration};

use super::{
    graveyard::Graveyard,
    policy::Stage,
    record::ModelRecord,
    servable::{ModelEntry, VersionEntry},
    snapshot::Problem,
    version::VersionRecord,
};
use crate::types::{ModelState, Version, VersionPolicy};

/// Why a version that serves would not after a restart.
const LOST: &str = "its files are gone; it serves as long as this process does, because a live route names it";

/// The entry of a model: the versions that are wanted, serve, are being loaded or answer their last requests.
pub(super) fn entry(record: &ModelRecord, graveyard: &Graveyard, settle: Duration) -> ModelEntry {
    let serves = |version: &Version| record.versions.get(version).is_some_and(|known| known.servable().is_some());
    let policy_serves = record.aspired.by_policy.iter().any(serves);
    let mut versions = Vec::new();
    for (version, known) in &record.versions {
        let stage = known.stage(record.build, settle);
        let wanted = record.aspired.all.contains(version);
        if wanted || known.servable().is_some() || stage == Stage::Loading {
            let by_policy = record.aspired.by_policy.contains(version) || (known.chosen && !policy_serves);
            let mut shown = VersionEntry { by_policy, ..version_entry(*version, known, stage) };
            if shown.reason.is_empty() && is_lost(record, *version, known) {
                shown.reason = LOST.to_owned();
            }
            versions.push(shown);
        }
    }
    for version in graveyard.unloading(&record.name) {
        if versions.iter().all(|entry| entry.version != version) {
            let reason = "answering its last requests".to_owned();
            let state = ModelState::Unloading;
            versions.push(VersionEntry { version, state, reason, by_policy: false, servable: None });
        }
    }
    versions.sort_by_key(|entry| entry.version);
    let spec = record.config.as_ref().map_or_else(Arc::default, |config| Arc::clone(&config.spec));
    let ModelRecord { name, since_start, .. } = record;
    let present = record.versions.iter().filter(|(_, known)| known.is_present()).map(|(version, _)| *version).collect();
    ModelEntry { name: name.clone(), spec, reason: reason(record), since_start: *since_start, versions, present }
}

fn version_entry(version: Version, record: &VersionRecord, stage: Stage) -> VersionEntry {
    let (state, reason) = match stage {
        // A successor that was refused changes nothing but what is said here.
        Stage::Ready | Stage::Stale | Stage::Reloading => (ModelState::Ready, record.complaint().unwrap_or_default()),
        Stage::Settling => (ModelState::Loading, "waiting for its files to settle"),
        Stage::Loadable | Stage::Loading => (ModelState::Loading, "loading"),
        Stage::Failed => (ModelState::Unavailable, record.complaint().unwrap_or_default()),
    };
    let servable = record.servable().cloned();
    VersionEntry { version, state, reason: reason.to_owned(), by_policy: false, servable }
}

/// Why the model as a whole is not in order.
fn reason(record: &ModelRecord) -> String {
    if let Some(error) = &record.error {
        return error.clone();
    }
    if !record.config_problems.is_empty() {
        return record.config_problems.join("; ");
    }
    if !record.asked && record.aspired.all.is_empty() {
        return "unloaded".to_owned();
    }
    if record.config.is_some() && record.aspired.all.is_empty() && record.versions.is_empty() {
        return "no version folder and no model.onnx".to_owned();
    }
    missing(record).join("; ")
}

/// What an operator should put right.
pub(super) fn problems(record: &ModelRecord) -> Vec<Problem> {
    let texts = record.error.iter().cloned().chain(record.config_problems.iter().cloned()).chain(missing(record));
    let refused = record.versions.iter().filter_map(|(version, known)| {
        let concerns = record.aspired.all.contains(version) || known.servable().is_some();
        known.complaint().filter(|_| concerns).map(|reason| format!("version {version}: {reason}"))
    });
    let lost = record.versions.iter().filter(|(version, known)| is_lost(record, **version, known));
    let lost = lost.map(|(version, _)| format!("version {version}: {LOST}"));
    texts.chain(refused).chain(lost).map(|text| Problem { model: Some(record.name.clone()), text }).collect()
}

/// A version that somebody took away while a live route names it: nothing that is asked for fails until the next start.
fn is_lost(record: &ModelRecord, version: Version, known: &VersionRecord) -> bool {
    record.pinned.contains(&version) && known.servable().is_some() && !known.is_present()
}

/// Versions of a new entry whose files have gone since the old one.
pub(super) fn newly_lost<'e>(old: Option<&'e ModelEntry>, new: &'e ModelEntry) -> impl Iterator<Item = Version> + 'e {
    let lost = |entry: &ModelEntry, version| entry.versions.iter().any(|e| e.version == version && e.reason == LOST);
    let versions = new.versions.iter().map(|entry| entry.version);
    versions.filter(move |version| lost(new, *version) && !old.is_some_and(|old| lost(old, *version)))
}

/// Versions that the configuration or a route names and that are not there.
fn missing(record: &ModelRecord) -> Vec<String> {
    let Some(config) = &record.config else { return Vec::new() };
    let who = |version: &Version| {
        let label = config.spec.labels.iter().find(|(_, named)| *named == version).map(|(label, _)| label);
        match (label, &config.spec.versions) {
            (Some(label), _) => format!("labels.{label}"),
            (None, VersionPolicy::Only(listed)) if listed.contains(version) => "versions".to_owned(),
            (None, _) => "a route".to_owned(),
        }
    };
    let missing = record.aspired.missing.iter();
    missing.map(|version| format!("{}: version {version} is not in the registry", who(version))).collect()
}

/// Whether two entries say the same about the same servables.
pub(super) fn same(a: &ModelEntry, b: &ModelEntry) -> bool {
    let same_version = |(a, b): (&VersionEntry, &VersionEntry)| {
        let servable = match (&a.servable, &b.servable) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        servable && a.version == b.version && a.state == b.state && a.reason == b.reason && a.by_policy == b.by_policy
    };
    a.spec == b.spec
        && a.reason == b.reason
        && a.since_start == b.since_start
        && a.present == b.present
        && a.versions.len() == b.versions.len()
        && a.versions.iter().zip(&b.versions).all(same_version)
}
