//! The registry at one moment: immutable, published whole, read by requests without a lock. Whoever answers a request keeps
//! the snapshot that it began with.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use super::servable::{ModelEntry, Servable};
use crate::types::{Error, ModelName, VersionRef};

/// All models at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every model that is in the registry or still answers.
    pub models: BTreeMap<ModelName, Arc<ModelEntry>>,
    /// Every folder with a `route.toml`.
    pub routes: Vec<(ModelName, PathBuf)>,
    /// What is wrong now, for operators.
    pub problems: Vec<Problem>,
    /// Start-up has ended: every version that was wanted then has been loaded or refused. Stays true.
    pub started: bool,
    /// Grows with every snapshot.
    pub generation: u64,
    /// The last [`Registry::pin`](super::Registry::pin) that has been heard: what was named then and is loaded here stays loaded.
    pub pins: u64,
}

impl Snapshot {
    /// What a request for a model runs on.
    ///
    /// # Errors
    /// As [`ModelEntry::resolve`], and `NotFound` for a name that is no model.
    pub fn resolve(&self, name: &str, version: &VersionRef) -> Result<Arc<Servable>, Error> {
        self.model(name)?.resolve(version)
    }

    /// A model by name.
    ///
    /// # Errors
    /// `NotFound` `model 'x': not found`.
    pub fn model(&self, name: &str) -> Result<&Arc<ModelEntry>, Error> {
        self.models.get(name).ok_or_else(|| Error::not_found(format!("model '{name}': not found")))
    }
}

/// Something that an operator should put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The model it concerns; `None` = the registry as a whole.
    pub model: Option<ModelName>,
    /// What is wrong, beginning with the file and key.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => write!(f, "{model}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}
