//! What can be asked about the server and its models: each a question to the gateway and its answer as JSON.

use bytes::Bytes;

use super::{
    health,
    route::{Aspect, Target},
};
use crate::{
    gateway::Gateway,
    protocol::json::views,
    types::{Error, VersionRef},
};

/// The names that answer.
pub(super) fn names(gateway: &Gateway) -> Result<Bytes, Error> {
    let index = gateway.index(true);
    let mut names: Vec<&str> = index.iter().map(|entry| &*entry.name).collect();
    names.dedup();
    views::model_names(&names)
}

/// Statistics of everything.
pub(super) fn statistics(gateway: &Gateway) -> Result<Bytes, Error> {
    views::statistics(&gateway.statistics(None, &VersionRef::Policy)?)
}

/// Everything about one model but its predictions.
pub(super) fn about(gateway: &Gateway, aspect: Aspect, target: &Target<'_>) -> Result<Bytes, Error> {
    let (name, version) = (&*target.name, VersionRef::parse(&target.version)?);
    match aspect {
        Aspect::Metadata | Aspect::Infer => views::model_metadata(&gateway.metadata(name, &version)?),
        Aspect::Ready => health::model_ready(gateway, name, &version),
        Aspect::Config => views::config(&gateway.config(name, &version)?),
        Aspect::Statistics => views::statistics(&gateway.statistics(Some(name), &version)?),
    }
}
