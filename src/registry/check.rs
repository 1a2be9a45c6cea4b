//! Loads and validates a whole registry once, as a gateway that started on it would, and says everything that is wrong. Called
//! by `weir check`; nothing is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    config::{ModelConfig, read_config},
    engines::Selection,
    inbox::Pins,
    loader::{Loaded, Loader, Order},
    policy::{Aspired, Facts, aspired},
    servable::{ModelEntry, Servable, VersionEntry},
    snapshot::{Problem, Snapshot},
    source::{FoundModel, Scan, scan},
};
use crate::{
    scheduler::Merging,
    types::{ModelName, ModelState, ServableId, Signature, Version},
};

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// One row per version that would be wanted, in order of name and version.
    pub rows: Vec<Row>,
    /// What is wrong: with any of these, something would not be served as its author meant it.
    pub problems: Vec<Problem>,
    /// What has no effect: hidden and ignored configuration, strange files.
    pub notes: Vec<Problem>,
    /// The models that routes name, loaded; all others by name only.
    pub loaded: Snapshot,
}

/// What routes name.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Models and routes.
    pub names: BTreeSet<ModelName>,
    /// Versions by number.
    pub pins: Pins,
}

/// A version that would be wanted.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which one.
    pub id: ServableId,
    /// How loading it went.
    pub outcome: Result<Checked, String>,
    /// How long loading took.
    pub took: Duration,
}

/// A version that can be served.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What would run it.
    pub engine: &'static str,
    /// How that was chosen.
    pub selection: Arc<Selection>,
    /// SHA-256 of its model file.
    pub digest: Arc<str>,
    /// What it takes and gives.
    pub signature: Arc<Signature>,
    /// Whether requests would share batches.
    pub merging: Merging,
    /// The output that holds the score, if any does.
    pub score: Option<Arc<str>>,
}

/// Checks the registry at `root`. What routes name is kept, so that they can be checked against it.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn check(root: &Path, loader: &Loader, named: &Named) -> std::io::Result<Report> {
    let Scan { models, ignored, .. } = scan(root)?;
    let mut report = Report::default();
    report.loaded.started = true;
    for (name, found) in models {
        match found {
            Err(text) => report.problem(&name, text),
            Ok(found) => check_model(&name, &found, (loader, named), &mut report),
        }
    }
    let note = |model, text: String| Problem { model, text };
    report.notes.extend(ignored.into_iter().map(|ignored| note(None, format!("{}: {}", ignored.path, ignored.why))));
    Ok(report)
}

impl Report {
    fn problem(&mut self, model: &ModelName, text: String) {
        self.problems.push(Problem { model: Some(model.clone()), text });
    }
}

fn check_model(name: &ModelName, found: &FoundModel, (loader, named): (&Loader, &Named), report: &mut Report) {
    let mut entry = ModelEntry {
        name: name.clone(),
        spec: Arc::default(),
        reason: String::new(),
        since_start: true,
        versions: Vec::new(),
        present: found.versions.keys().copied().collect(),
    };
    let config = match read_config(name, &found.folder) {
        Ok(config) => Arc::new(config),
        Err(problems) => {
            entry.reason = problems.join("; ");
            report.loaded.models.insert(name.clone(), Arc::new(entry));
            return problems.into_iter().for_each(|problem| report.problem(name, problem));
        }
    };
    entry.spec = Arc::clone(&config.spec);
    report.notes.extend(config.notes.iter().map(|note| Problem { model: Some(name.clone()), text: note.clone() }));
    if found.versions.is_empty() {
        entry.reason = "no version folder and no model.onnx".to_owned();
        report.problem(name, entry.reason.clone());
        report.loaded.models.insert(name.clone(), Arc::new(entry));
        return;
    }
    let mut rows: BTreeMap<Version, Row> = BTreeMap::new();
    // What is refused may make room for another version.
    let pinned = named.pins.get(name).cloned().unwrap_or_default();
    let wanted = loop {
        let wanted = wanted(&config, found, &pinned, &rows);
        let Some(version) = wanted.all.iter().rev().find(|version| !rows.contains_key(version)).copied() else {
            // What a route names and is missing is said of the route.
            for version in wanted.missing.difference(&pinned) {
                report.problem(name, format!("version {version} is named and is not in the registry"));
            }
            break wanted;
        };
        let id = ServableId { model: name.clone(), version };
        let (row, servable) = load(id, found, &config, loader);
        let (state, reason) = match &row.outcome {
            Ok(_) => (ModelState::Ready, String::new()),
            Err(reason) => (ModelState::Unavailable, reason.clone()),
        };
        let servable = servable.filter(|_| named.names.contains(name));
        entry.versions.push(VersionEntry { version, state, reason, by_policy: false, servable });
        rows.insert(version, row);
    };
    entry.versions.sort_by_key(|entry| entry.version);
    entry.versions.iter_mut().for_each(|entry| entry.by_policy = wanted.by_policy.contains(&entry.version));
    report.loaded.models.insert(name.clone(), Arc::new(entry));
    for row in rows.into_values() {
        match &row.outcome {
            Err(reason) => report.problem(name, format!("version {}: {reason}", row.id.version)),
            Ok(checked) => {
                let disagreement = checked.selection.disagreement.as_ref();
                let version = row.id.version;
                report.notes.extend(disagreement.map(|text| Problem {
                    model: Some(name.clone()),
                    text: format!("version {version}: the engines disagree: {text}"),
                }));
            }
        }
        report.rows.push(row);
    }
}

fn wanted(
    config: &ModelConfig,
    found: &FoundModel,
    pinned: &BTreeSet<Version>,
    rows: &BTreeMap<Version, Row>,
) -> Aspired {
    let none = BTreeSet::new();
    aspired(Facts {
        policy: &config.spec.versions,
        labelled: &config.spec.labels.values().copied().collect(),
        pinned,
        present: &found.versions.keys().copied().collect(),
        failed: &rows.iter().filter(|(_, row)| row.outcome.is_err()).map(|(version, _)| *version).collect(),
        chosen: &none,
    })
}

fn load(
    id: ServableId,
    found: &FoundModel,
    config: &Arc<ModelConfig>,
    loader: &Loader,
) -> (Row, Option<Arc<Servable>>) {
    let begun = Instant::now();
    let Some(files) = found.versions.get(&id.version) else {
        return (Row { id, outcome: Err("not found".to_owned()), took: Duration::ZERO }, None);
    };
    let order = Order {
        id: id.clone(),
        folder: found.folder.clone(),
        place: files.place,
        config: Arc::clone(config),
        known: None,
    };
    let (outcome, servable) = match loader.load(&order) {
        Ok(Loaded::New(servable, _)) => (Ok(checked(&servable)), Some(Arc::from(servable))),
        Ok(Loaded::Same) => (Err("loaded twice".to_owned()), None),
        Err(error) => (Err(error.to_string()), None),
    };
    (Row { id, outcome, took: begun.elapsed() }, servable)
}

fn checked(servable: &Servable) -> Checked {
    Checked {
        engine: servable.engine,
        selection: Arc::clone(&servable.selection),
        digest: Arc::clone(&servable.digest),
        signature: Arc::clone(&servable.signature),
        merging: servable.merging.clone(),
        score: servable.series.score().map(|score| Arc::clone(&score.name)),
    }
}
