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
    loader::{Loaded, Loader, Order},
    policy::{Aspired, Facts, aspired},
    servable::Servable,
    snapshot::Problem,
    source::{FoundModel, Scan, scan},
};
use crate::{
    scheduler::Merging,
    types::{ModelName, ServableId, Signature, Version},
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
    /// SHA-256 of its model file.
    pub digest: Arc<str>,
    /// What it takes and gives.
    pub signature: Arc<Signature>,
    /// Whether requests would share batches.
    pub merging: Merging,
    /// The output that holds the score, if any does.
    pub score: Option<Arc<str>>,
}

/// Checks the registry at `root`.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn check(root: &Path, loader: &Loader) -> std::io::Result<Report> {
    let Scan { models, routes, ignored, .. } = scan(root)?;
    let mut report = Report::default();
    for (name, found) in models {
        match found {
            Err(text) => report.problem(&name, text),
            Ok(found) => check_model(&name, &found, loader, &mut report),
        }
    }
    let note = |model, text: String| Problem { model, text };
    report.notes.extend(ignored.into_iter().map(|ignored| note(None, format!("{}: {}", ignored.path, ignored.why))));
    let routes = routes.into_iter().map(|(name, _)| note(Some(name), "routes are not supported yet".to_owned()));
    report.notes.extend(routes);
    Ok(report)
}

impl Report {
    fn problem(&mut self, model: &ModelName, text: String) {
        self.problems.push(Problem { model: Some(model.clone()), text });
    }
}

fn check_model(name: &ModelName, found: &FoundModel, loader: &Loader, report: &mut Report) {
    let config = match read_config(name, &found.folder) {
        Ok(config) => Arc::new(config),
        Err(problems) => return problems.into_iter().for_each(|problem| report.problem(name, problem)),
    };
    report.notes.extend(config.notes.iter().map(|note| Problem { model: Some(name.clone()), text: note.clone() }));
    if found.versions.is_empty() {
        return report.problem(name, "no version folder and no model.onnx".to_owned());
    }
    let mut rows: BTreeMap<Version, Row> = BTreeMap::new();
    // What is refused may make room for another version.
    loop {
        let wanted = wanted(&config, found, &rows);
        let Some(version) = wanted.all.iter().rev().find(|version| !rows.contains_key(version)).copied() else {
            for version in wanted.missing {
                report.problem(name, format!("version {version} is named and is not in the registry"));
            }
            break;
        };
        let id = ServableId { model: name.clone(), version };
        rows.insert(version, load(id, found, &config, loader));
    }
    for row in rows.into_values() {
        if let Err(reason) = &row.outcome {
            report.problem(name, format!("version {}: {reason}", row.id.version));
        }
        report.rows.push(row);
    }
}

fn wanted(config: &ModelConfig, found: &FoundModel, rows: &BTreeMap<Version, Row>) -> Aspired {
    let none = BTreeSet::new();
    aspired(Facts {
        policy: &config.spec.versions,
        labelled: &config.spec.labels.values().copied().collect(),
        pinned: &none,
        present: &found.versions.keys().copied().collect(),
        failed: &rows.iter().filter(|(_, row)| row.outcome.is_err()).map(|(version, _)| *version).collect(),
        chosen: &none,
    })
}

fn load(id: ServableId, found: &FoundModel, config: &Arc<ModelConfig>, loader: &Loader) -> Row {
    let begun = Instant::now();
    let Some(files) = found.versions.get(&id.version) else {
        return Row { id, outcome: Err("not found".to_owned()), took: Duration::ZERO };
    };
    let order = Order {
        id: id.clone(),
        folder: found.folder.clone(),
        place: files.place,
        config: Arc::clone(config),
        known: None,
    };
    let outcome = match loader.load(&order) {
        Ok(Loaded::New(servable, _)) => Ok(checked(&servable)),
        Ok(Loaded::Same) => Err("loaded twice".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Row { id, outcome, took: begun.elapsed() }
}

fn checked(servable: &Servable) -> Checked {
    Checked {
        engine: servable.engine,
        digest: Arc::clone(&servable.digest),
        signature: Arc::clone(&servable.signature),
        merging: servable.merging.clone(),
        score: servable.series.score().map(|score| Arc::clone(&score.name)),
    }
}
