//! What a route has done, as plain numbers: read from its series when an operator asks, turned into JSON above.

use super::{histogram::Snapshot, routes::Decision};

/// What a route has done since its series exist.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteReport {
    /// The revision that [`Self::variants`] are of; `None` unless it is a split.
    pub revision: Option<u64>,
    /// What the split chose, in the order of the configuration.
    pub variants: Vec<VariantReport>,
    /// What the stages did, in their order.
    pub stages: Vec<StageReport>,
    /// True when holding the escalation budget would need a threshold below the floor; `None` without a budget.
    pub saturated: Option<bool>,
    /// What the shadow did; `None` without one.
    pub shadow: Option<ShadowReport>,
}

/// A variant of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantReport {
    /// Its name.
    pub variant: Box<str>,
    /// Requests that it got under the revision.
    pub requests: u64,
    /// Their share, 0 to 1; 0 when there were none.
    pub share: f64,
}

/// A stage of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct StageReport {
    /// Its label: of a cascade the index.
    pub stage: Box<str>,
    /// Rows by decision, and their share of the stage's rows, 0 to 1. All zero unless the route is a cascade.
    pub decisions: [(Decision, u64, f64); Decision::ALL.len()],
    /// The threshold in force; `None` for a stage without one.
    pub threshold: Option<f64>,
    /// How long it took per request.
    pub duration: Latency,
}

/// A shadow's answers beside the primary's.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowReport {
    /// Rows whose shared outputs were the same.
    pub agree: u64,
    /// Rows in which one was not.
    pub differ: u64,
    /// Rows that the shadow could not answer.
    pub failed: u64,
    /// Rows that it was not asked.
    pub dropped: u64,
    /// Share of the compared rows that agree; `None` before any.
    pub agreement: Option<f64>,
    /// By compared output, by name.
    pub outputs: Vec<DifferenceReport>,
    /// What mirrored requests took in the primary, waiting included.
    pub primary: Latency,
    /// What they took in the shadow, without waiting.
    pub shadow: Latency,
}

/// How far apart one output was.
#[derive(Clone, Debug, PartialEq)]
pub struct DifferenceReport {
    /// The output.
    pub output: Box<str>,
    /// Rows whose highest score was compared.
    pub ranked: u64,
    /// Those of them in which it was in another column.
    pub flips: u64,
    /// Per row the largest absolute difference.
    pub absolute: Spread,
    /// Per row the largest difference relative to the larger of the two values: at most 2.
    pub relative: Spread,
}

/// Differences of rows. Quantiles are estimated from the histogram's buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Rows compared.
    pub rows: u64,
    /// Half of the rows are at most so far apart.
    pub p50: Option<f64>,
    /// 99 of 100 rows are.
    pub p99: Option<f64>,
    /// The largest; infinite when a value was no number on one side only.
    pub max: Option<f64>,
}

/// Durations in seconds. Quantiles are estimated from the histogram's buckets; `None` before any.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// 9 of 10 are at most this.
    pub p90: Option<f64>,
    /// 99 of 100 are.
    pub p99: Option<f64>,
}

impl From<Snapshot> for Latency {
    fn from(snapshot: Snapshot) -> Self {
        let count = snapshot.count();
        Self {
            count,
            mean: (count > 0).then(|| snapshot.sum / count as f64),
            p50: snapshot.quantile(0.5),
            p90: snapshot.quantile(0.9),
            p99: snapshot.quantile(0.99),
        }
    }
}

/// `part` of `total`, 0 to 1; 0 of nothing.
pub(super) fn share(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { part as f64 / total as f64 }
}
