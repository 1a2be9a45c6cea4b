//! What a route has done, as JSON: `GET …/report`, from the series that the route's metrics are made of.

use serde::{Serialize, Serializer};

use super::views;
use crate::{
    compose::RouteState,
    observe::{Decision, DifferenceReport, Latency, RouteReport, ShadowReport, Spread, StageReport, VariantReport},
    types::Error,
};

#[derive(Debug, Serialize)]
struct Report<'s> {
    route: &'s str,
    kind: Option<&'static str>,
    /// The live one.
    revision: Option<u64>,
    #[serde(flatten)]
    split: Option<Split<'s>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stages: Vec<Stage<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saturated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Shadow<'s>>,
}

/// What a split chose.
#[derive(Debug, Serialize)]
struct Split<'s> {
    /// The revision that the variants are of.
    counted_revision: u64,
    variants: Vec<Variant<'s>>,
}

#[derive(Debug, Serialize)]
struct Variant<'s> {
    variant: &'s str,
    requests: u64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct Stage<'s> {
    stage: &'s str,
    /// Of a cascade.
    #[serde(skip_serializing_if = "Option::is_none")]
    decisions: Option<Decisions<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    duration_seconds: Times,
}

#[derive(Debug)]
struct Decisions<'s>(&'s [(Decision, u64, f64)]);

#[derive(Debug, Serialize)]
struct Count {
    rows: u64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct Shadow<'s> {
    agree: u64,
    differ: u64,
    failed: u64,
    dropped: u64,
    agreement: Option<f64>,
    outputs: Vec<Difference<'s>>,
    primary_seconds: Times,
    shadow_seconds: Times,
}

#[derive(Debug, Serialize)]
struct Difference<'s> {
    output: &'s str,
    ranked: u64,
    flips: u64,
    absolute: Range,
    relative: Range,
}

/// Quantiles are `null` before anything was seen, and `max` also when it is infinite.
#[derive(Debug, Serialize)]
struct Range {
    rows: u64,
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Times {
    count: u64,
    mean: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

/// The report as JSON.
///
/// # Errors
/// `Internal`, which does not happen to what is here.
pub(super) fn json(state: &RouteState, report: &RouteReport) -> Result<String, Error> {
    let live = state.live.as_ref();
    let kind = live.map(|live| live.spec.kind.as_str());
    views::json(&Report {
        route: state.name.as_str(),
        kind,
        revision: live.map(|live| live.revision.number),
        split: report.revision.map(|counted_revision| Split {
            counted_revision,
            variants: report.variants.iter().map(variant).collect(),
        }),
        stages: report.stages.iter().map(|report| stage(report, kind == Some("cascade"))).collect(),
        saturated: report.saturated,
        shadow: report.shadow.as_ref().map(shadow),
    })
}

fn variant(report: &VariantReport) -> Variant<'_> {
    Variant { variant: &report.variant, requests: report.requests, share: report.share }
}

fn stage(report: &StageReport, cascade: bool) -> Stage<'_> {
    Stage {
        stage: &report.stage,
        decisions: cascade.then_some(Decisions(&report.decisions)),
        threshold: report.threshold,
        duration_seconds: times(report.duration),
    }
}

fn shadow(report: &ShadowReport) -> Shadow<'_> {
    Shadow {
        agree: report.agree,
        differ: report.differ,
        failed: report.failed,
        dropped: report.dropped,
        agreement: report.agreement,
        outputs: report.outputs.iter().map(difference).collect(),
        primary_seconds: times(report.primary),
        shadow_seconds: times(report.shadow),
    }
}

fn difference(report: &DifferenceReport) -> Difference<'_> {
    let range = |Spread { rows, p50, p99, max }| Range { rows, p50, p99, max };
    Difference {
        output: &report.output,
        ranked: report.ranked,
        flips: report.flips,
        absolute: range(report.absolute),
        relative: range(report.relative),
    }
}

fn times(latency: Latency) -> Times {
    let Latency { count, mean, p50, p90, p99 } = latency;
    Times { count, mean, p50, p90, p99 }
}

impl Serialize for Decisions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.0.iter().map(|(decision, rows, share)| {
            let count = Count { rows: *rows, share: *share };
            (decision.as_str(), count)
        });
        serializer.collect_map(counts)
    }
}
