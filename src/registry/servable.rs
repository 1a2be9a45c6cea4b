//! A loaded version and what is known about the versions of a model: what a request's name and version resolve to. Made by the
//! loader and the manager, held by snapshots and by the requests that run on it; the manager frees it, never a request.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{classes::Classes, engines::Selection, times::LoadTimes};
use crate::{
    observe::ServableSeries,
    scheduler::{CircuitState, Lane, Merging},
    types::{Error, ModelName, ModelSpec, ModelState, ServableId, Signature, Version, VersionRef},
};

/// When a caller may ask again for a version that is being loaded.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A version that answers.
pub struct Servable {
    /// Which one.
    pub id: ServableId,
    /// What it takes and gives.
    pub signature: Arc<Signature>,
    /// The model's configuration.
    pub spec: Arc<ModelSpec>,
    /// What the classes of its outputs are called.
    pub classes: Classes,
    /// What runs it.
    pub engine: &'static str,
    /// How that was chosen.
    pub selection: Arc<Selection>,
    /// SHA-256 of the model file, in hexadecimal.
    pub digest: Arc<str>,
    /// The way into the scheduler.
    pub lane: Lane,
    /// Its metrics, and which output holds the score.
    pub series: Arc<ServableSeries>,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// How long that took, stage by stage.
    pub load_times: LoadTimes,
    /// Where it was read from, relative to the registry, for example `digits/2/model.onnx`.
    pub source: Arc<str>,
    /// Whether requests share batches.
    pub merging: Merging,
}

impl Servable {
    /// False while its circuit is open: its last runs have failed, and requests are refused.
    pub fn works(&self) -> bool {
        self.lane.circuit().0 != CircuitState::Open
    }

    /// The same servable under another configuration that needs no rebuilding.
    #[must_use]
    pub fn with_spec(&self, spec: Arc<ModelSpec>) -> Self {
        Self {
            id: self.id.clone(),
            signature: Arc::clone(&self.signature),
            classes: self.classes.with_spec(&spec),
            spec,
            engine: self.engine,
            selection: Arc::clone(&self.selection),
            digest: Arc::clone(&self.digest),
            lane: self.lane.clone(),
            series: Arc::clone(&self.series),
            loaded_at: self.loaded_at,
            load_times: self.load_times,
            source: Arc::clone(&self.source),
            merging: self.merging.clone(),
        }
    }
}

impl fmt::Debug for Servable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, engine, digest, source, merging, .. } = self;
        f.debug_struct("Servable")
            .field("id", id)
            .field("engine", engine)
            .field("digest", digest)
            .field("source", source)
            .field("merging", merging)
            .finish_non_exhaustive()
    }
}

/// A version as the repository index shows it.
#[derive(Clone, Debug)]
pub struct VersionEntry {
    /// Which one.
    pub version: Version,
    /// Whether it answers.
    pub state: ModelState,
    /// Why it does not, or what is wrong with its successor; for operators.
    pub reason: String,
    /// Whether the policy chose it, so that requests without a version may get it.
    pub by_policy: bool,
    /// It, while it answers.
    pub servable: Option<Arc<Servable>>,
}

/// A model and its versions at one moment.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// Its name.
    pub name: ModelName,
    /// Its configuration; the default when that cannot be read.
    pub spec: Arc<ModelSpec>,
    /// What is wrong with the model as a whole; empty when nothing is.
    pub reason: String,
    /// True when it was in the registry at start-up.
    pub since_start: bool,
    /// The versions that are wanted or still answer, ascending.
    pub versions: Vec<VersionEntry>,
    /// The versions that are in the registry, wanted or not, ascending.
    pub present: Vec<Version>,
}

impl ModelEntry {
    /// What a request that names this version runs on. Without a version: the highest that the policy chose and that
    /// answers.
    ///
    /// # Errors
    /// `NotFound` for versions and labels that nobody knows; `Unavailable` for those that are not ready.
    pub fn resolve(&self, version: &VersionRef) -> Result<Arc<Servable>, Error> {
        match version {
            VersionRef::Policy => {
                let chosen = self.versions.iter().rev().filter(|entry| entry.by_policy);
                let ready = chosen.filter_map(|entry| entry.servable.as_ref()).next();
                ready.cloned().ok_or_else(|| not_ready(format!("model '{}': not ready", self.name)))
            }
            VersionRef::Exact(version) => self.exact(*version),
            VersionRef::Label(label) => match self.spec.labels.get(label) {
                Some(version) => self.exact(*version),
                None => Err(Error::not_found(format!("model '{}' label '{label}': not found", self.name))),
            },
        }
    }

    fn exact(&self, version: Version) -> Result<Arc<Servable>, Error> {
        let what = || format!("model '{}' version {version}", self.name);
        let entry = self.versions.iter().find(|entry| entry.version == version);
        let entry = entry.ok_or_else(|| Error::not_found(format!("{}: not found", what())))?;
        entry.servable.clone().ok_or_else(|| not_ready(format!("{}: not ready", what())))
    }

    /// The versions that answer, ascending.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Servable>> {
        self.versions.iter().filter_map(|entry| entry.servable.as_ref())
    }
}

fn not_ready(text: String) -> Error {
    Error::unavailable(text).with_retry_after(RETRY_AFTER)
}
