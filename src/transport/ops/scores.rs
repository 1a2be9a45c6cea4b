//! How sure a model is of its answers: `GET /ops/scores/{model}`, the score histograms and class counts of every loaded version,
//! by the variant that asked, as JSON.

use serde::{Serialize, Serializer};

use super::views;
use crate::{
    gateway::Gateway,
    observe::{ScoreReport, ScoreSeries},
    registry::VersionEntry,
    types::Error,
};

#[derive(Debug, Serialize)]
struct Scores<'s> {
    model: &'s str,
    versions: Vec<Version<'s>>,
}

#[derive(Debug, Serialize)]
struct Version<'s> {
    version: u64,
    /// The output that holds the score; `null` when the model has none.
    output: Option<&'s str>,
    variants: Vec<Variant>,
}

#[derive(Debug, Serialize)]
struct Variant {
    /// `route/variant`; empty for requests that came by no split.
    variant: Box<str>,
    scores: Vec<Score>,
    classes: Classes,
}

#[derive(Debug, Serialize)]
struct Score {
    /// `confidence`, `positive` or `value`.
    kind: &'static str,
    count: u64,
    sum: f64,
    /// Upper bounds of the buckets, ascending.
    bounds: Vec<f64>,
    /// Per bucket, not cumulative; the last one is above every bound.
    counts: Vec<u64>,
}

/// Rows by predicted class.
#[derive(Debug)]
struct Classes(Vec<(Box<str>, u64)>);

/// The scores of a model.
///
/// # Errors
/// `NotFound` for a name that is no model.
pub(super) fn of(gateway: &Gateway, name: &str) -> Result<String, Error> {
    let snapshot = gateway.registry().snapshot();
    let entry = snapshot.model(name)?;
    let versions = entry.versions.iter().filter_map(version).collect();
    views::json(&Scores { model: entry.name.as_str(), versions })
}

fn version(entry: &VersionEntry) -> Option<Version<'_>> {
    let series = &entry.servable.as_deref()?.series;
    let variants = series.every_scores().iter().map(|scores| variant(scores)).collect();
    Some(Version { version: entry.version.get(), output: series.score().map(|score| &*score.name), variants })
}

fn variant(series: &ScoreSeries) -> Variant {
    let ScoreReport { variant, histograms, classes } = series.report();
    let score = |(kind, snapshot): (&'static str, crate::observe::Snapshot)| Score {
        kind,
        count: snapshot.count(),
        sum: snapshot.sum,
        bounds: snapshot.bounds.to_vec(),
        counts: snapshot.counts,
    };
    Variant { variant, scores: histograms.into_iter().map(score).collect(), classes: Classes(classes) }
}

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(class, rows)| (class, rows)))
    }
}
