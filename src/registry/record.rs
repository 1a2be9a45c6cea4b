//! What the manager remembers of one model: its folder, configuration and versions, and what follows from them. It takes what a
//! scan found and what loads came to, and says what to do next; it starts nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    config::{ModelConfig, read_config},
    files::{FileStamp, Folder},
    manifest::{MANIFEST_JSON, Manifest},
    policy::{Action, Aspired, Facts, Stage, View, aspired, next_action},
    servable::Servable,
    settle::Settling,
    source::{FoundModel, FoundVersion, Place},
    version::{Look, VersionRecord},
};
use crate::{
    observe::ModelSeries,
    types::{ModelName, Version, VersionPolicy},
};

/// Stamps of the files that make up a model's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ConfigFiles {
    config: BTreeMap<&'static str, FileStamp>,
    loose: BTreeMap<String, FileStamp>,
}

/// A model.
#[derive(Debug)]
pub(super) struct ModelRecord {
    pub(super) name: ModelName,
    pub(super) series: Arc<ModelSeries>,
    pub(super) folder: PathBuf,
    /// It was there at the first look.
    pub(super) since_start: bool,
    /// It may be loaded: always, or under explicit control since it was asked for.
    pub(super) asked: bool,
    /// Versions that live routes name.
    pub(super) pinned: BTreeSet<Version>,
    /// Changes of its folder are followed: always, or under explicit control until what was asked for is at rest.
    pub(super) open: bool,
    /// Its folder is in the registry.
    present: bool,
    /// What is wrong with its folder.
    pub(super) error: Option<String>,
    /// What is wrong with its configuration files; the last good configuration is in force.
    pub(super) config_problems: Vec<String>,
    pub(super) config: Option<Arc<ModelConfig>>,
    config_files: Option<Settling<ConfigFiles>>,
    /// The files that were read last.
    config_read: Option<ConfigFiles>,
    /// The configuration files have changed since they were first seen.
    config_restless: bool,
    /// Grows with every change of the configuration that needs servables to be made again.
    pub(super) build: u64,
    pub(super) versions: BTreeMap<Version, VersionRecord>,
    pub(super) aspired: Aspired,
}

impl ModelRecord {
    /// `asked` and `open` under automatic control.
    pub(super) fn new(name: ModelName, series: Arc<ModelSeries>, since_start: bool, automatic: bool) -> Self {
        Self {
            name,
            series,
            folder: PathBuf::new(),
            since_start,
            asked: automatic,
            pinned: BTreeSet::new(),
            open: automatic,
            present: false,
            error: None,
            config_problems: Vec::new(),
            config: None,
            config_files: None,
            config_read: None,
            config_restless: false,
            build: 0,
            versions: BTreeMap::new(),
            aspired: Aspired::default(),
        }
    }

    /// Takes note of what is in the model's folder. Returns servables that were replaced.
    pub(super) fn see(&mut self, found: FoundModel, look: Look) -> Vec<Arc<Servable>> {
        self.error = None;
        self.present = true;
        self.folder = found.folder;
        let folder = self.folder.clone();
        for (version, record) in &mut self.versions {
            if !found.versions.contains_key(version) {
                record.gone();
            }
        }
        for (version, files) in found.versions {
            let record = self.versions.entry(version).or_insert_with(VersionRecord::new);
            record.see(files, look, |files| is_complete(&folder, version, files));
        }
        self.see_config(ConfigFiles { config: found.config, loose: found.loose }, look)
    }

    /// Takes note that the folder has gone.
    pub(super) fn gone(&mut self) {
        self.present = false;
        self.versions.values_mut().for_each(VersionRecord::gone);
        self.error = None;
        self.config_problems.clear();
    }

    /// Files in the model's folder that nothing refers to, as warnings.
    pub(super) fn strangers(&self) -> impl Iterator<Item = String> {
        let files = self.config_files.as_ref().filter(|_| self.config.is_some()).into_iter();
        let known = |file: &str| {
            let label_files = self.config.iter().flat_map(|config| &config.label_files);
            label_files.into_iter().any(|known| **known == *file)
        };
        let strangers = files.flat_map(|files| files.seen().loose.keys()).filter(move |file| !known(file));
        strangers.map(|file| format!("{}/{file} (nothing refers to it)", self.name))
    }

    /// Takes note that the folder cannot be looked at; what serves goes on serving.
    pub(super) fn unreadable(&mut self, error: String) {
        self.present = true;
        self.error = Some(error);
    }

    fn see_config(&mut self, files: ConfigFiles, look: Look) -> Vec<Arc<Servable>> {
        // Without configuration files there is nothing that could be half written.
        let nothing = files.config.is_empty();
        let age = if nothing { look.settle } else { look.age(files.config.values().chain(files.loose.values())) };
        match &mut self.config_files {
            Some(known) if nothing => *known = Settling::new(files, look.now, age),
            Some(known) => self.config_restless |= known.look(files, look.now),
            None => self.config_files = Some(Settling::new(files, look.now, age)),
        }
        match &self.config_files {
            Some(files) if files.settled(look.settle) && self.config_read.as_ref() != Some(files.seen()) => {
                self.config_read = Some(files.seen().clone());
                self.read_config()
            }
            _ => Vec::new(),
        }
    }

    fn read_config(&mut self) -> Vec<Arc<Servable>> {
        match read_config(&self.name, &self.folder) {
            Err(problems) => {
                self.config_problems = problems;
                Vec::new()
            }
            Ok(config) => {
                self.config_problems.clear();
                match &self.config {
                    Some(before) if before.rebuilds(&config) => self.build += 1,
                    _ => {}
                }
                self.config = Some(Arc::new(config));
                self.respec()
            }
        }
    }

    /// Gives every servable the configuration in force, unless it must be made again for it. Returns what was replaced.
    pub(super) fn respec(&mut self) -> Vec<Arc<Servable>> {
        let Some(config) = &self.config else { return Vec::new() };
        self.versions.values_mut().filter_map(|record| record.respec(&config.spec, self.build)).collect()
    }

    /// Forgets what was refused and reads the configuration again at the next look.
    pub(super) fn retry(&mut self) {
        self.config_read = None;
        self.versions.values_mut().for_each(VersionRecord::retry);
    }

    /// Finds out which versions are wanted now, and what to do next.
    pub(super) fn next_action(&mut self, settle: Duration) -> Option<Action> {
        self.aspired = self.wanted(settle);
        let policy_serves = self.aspired.by_policy.iter().any(|version| self.serves(*version));
        for (version, record) in &mut self.versions {
            record.chosen = self.aspired.by_policy.contains(version) || (record.chosen && !policy_serves);
        }
        self.versions.retain(|_, record| !record.is_over());
        let view = |(version, record): (&Version, &VersionRecord)| View {
            version: *version,
            aspired: self.aspired.all.contains(version),
            by_policy: self.aspired.by_policy.contains(version),
            stage: record.stage(self.build, settle),
        };
        let views: Vec<_> = self.versions.iter().map(view).collect();
        next_action(&views)
    }

    fn wanted(&self, settle: Duration) -> Aspired {
        let Some(config) = &self.config else { return Aspired::default() };
        let (policy, labelled) = match self.asked {
            true => (config.spec.versions.clone(), config.spec.labels.values().copied().collect()),
            // Nobody asked for the model; routes may still name versions of it.
            false => (VersionPolicy::Only(Vec::new()), BTreeSet::new()),
        };
        let select = |keep: &dyn Fn(&VersionRecord) -> bool| -> BTreeSet<Version> {
            self.versions.iter().filter(|(_, record)| keep(record)).map(|(version, _)| *version).collect()
        };
        let mut present = select(&VersionRecord::is_present);
        // What a live route names stays, whatever happens to its folder.
        present.extend(self.pinned.iter().filter(|version| self.serves(**version)));
        aspired(Facts {
            policy: &policy,
            labelled: &labelled,
            pinned: &self.pinned,
            present: &present,
            failed: &select(&|record| record.stage(self.build, settle) == Stage::Failed),
            chosen: &select(&|record| record.chosen && record.servable().is_some()),
        })
    }

    /// Somebody wants something of it.
    fn is_wanted(&self) -> bool {
        self.asked || !self.pinned.is_empty()
    }

    fn serves(&self, version: Version) -> bool {
        self.versions.get(&version).is_some_and(|record| record.servable().is_some())
    }

    /// When it should be looked at again because something may have settled then.
    pub(super) fn due(&self, settle: Duration) -> Option<Instant> {
        if !(self.is_wanted() && self.open) || self.error.is_some() {
            return None;
        }
        let config = self.config_files.as_ref().filter(|files| self.config_read.as_ref() != Some(files.seen()));
        let config = config.map(|files| files.settled_at(settle));
        let wanted = self.versions.iter().filter(|(version, _)| self.aspired.all.contains(version));
        wanted.filter_map(|(_, record)| record.due(self.build, settle)).chain(config).min()
    }

    /// Nothing more will happen until something changes: every wanted version serves or was refused.
    pub(super) fn is_at_rest(&self, settle: Duration) -> bool {
        self.due(settle).is_none() && !self.is_busy(settle, |_| true)
    }

    /// As [`ModelRecord::is_at_rest`], but what goes on changing since start-up is not waited for.
    pub(super) fn has_started(&self, settle: Duration) -> bool {
        if self.error.is_some() {
            return true;
        }
        let config =
            !self.is_wanted() || self.config_read.is_some() || self.config_restless || self.config_files.is_none();
        config && !self.is_busy(settle, |record| !record.restless)
    }

    fn is_busy(&self, settle: Duration, waits_for: impl Fn(&VersionRecord) -> bool) -> bool {
        let wanted = self.versions.iter().filter(|(version, _)| self.aspired.all.contains(version));
        wanted.map(|(_, record)| (record, record.stage(self.build, settle))).any(|(record, stage)| match stage {
            Stage::Loadable | Stage::Loading | Stage::Stale | Stage::Reloading => true,
            Stage::Settling => waits_for(record),
            Stage::Ready | Stage::Failed => false,
        })
    }

    /// The model is gone and nothing of it serves or is being loaded.
    pub(super) fn is_over(&self) -> bool {
        !self.present && self.versions.is_empty()
    }

    /// Whether its folder is in the registry.
    pub(super) fn is_present(&self) -> bool {
        self.present
    }
}

/// Whether a manifest says that everything has been copied.
fn is_complete(folder: &std::path::Path, version: Version, found: &FoundVersion) -> bool {
    if !found.files.contains_key(MANIFEST_JSON) {
        return false;
    }
    let folder = Folder::open(folder).and_then(|folder| match found.place {
        Place::Folder => folder.child(&version.to_string()),
        Place::Bare => Ok(folder),
    });
    let manifest = folder.and_then(|folder| Manifest::read(&folder));
    matches!(manifest, Ok(Some(manifest)) if manifest.is_complete(found))
}
