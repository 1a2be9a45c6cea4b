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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::types::ModelName;

    fn written(report: &RouteReport, kind: Option<&str>) -> Value {
        let text = match kind {
            Some("cascade") => {
                "kind = \"cascade\"\n[[stage]]\nmodel = \"a\"\naccept = { output = \"p\", measure = \"max_prob\", \
                 at_least = 0.9 }\n[[stage]]\nmodel = \"b\"\n"
            }
            _ => "kind = \"split\"\n[[variant]]\nname = \"all\"\nmodel = \"a\"\nweight = 1\n",
        };
        let live = kind.map(|_| {
            let author = crate::compose::Author { who: "ann".into(), why: "".into() };
            let revision =
                crate::compose::Revision { number: 4, at: std::time::SystemTime::UNIX_EPOCH, author, from: 3 };
            let spec = std::sync::Arc::new(crate::spec::parse_route_toml(text).unwrap());
            crate::compose::LiveRoute { revision, spec, text: text.into() }
        });
        let name = ModelName::parse("r").unwrap();
        let state = RouteState { name, live, problems: Vec::new(), writable: true };
        serde_json::from_str(&super::json(&state, report).unwrap()).unwrap()
    }

    fn empty() -> RouteReport {
        RouteReport { revision: None, variants: Vec::new(), stages: Vec::new(), saturated: None, shadow: None }
    }

    #[test]
    fn a_cascade_tells_what_its_stages_decided() {
        let counts = [8, 2, 0, 0].map(|rows| (rows, rows as f64 / 10.0));
        let decisions = std::array::from_fn(|i| (Decision::ALL[i], counts[i].0, counts[i].1));
        let duration = Latency { count: 1, mean: Some(0.5), p50: Some(0.25), p90: None, p99: None };
        let stage = StageReport { stage: "0".into(), decisions, threshold: Some(0.85), duration };
        let report = RouteReport { stages: vec![stage], saturated: Some(false), ..empty() };
        let count = |rows: u64, share: f64| json!({"rows": rows, "share": share});
        let want = json!({
            "route": "r", "kind": "cascade", "revision": 4, "saturated": false,
            "stages": [{
                "stage": "0", "threshold": 0.85,
                "decisions": {"accepted": count(8, 0.8), "escalated": count(2, 0.2), "best_so_far": count(0, 0.0),
                              "expired": count(0, 0.0)},
                "duration_seconds": {"count": 1, "mean": 0.5, "p50": 0.25, "p90": null, "p99": null},
            }],
        });
        assert_eq!(written(&report, Some("cascade")), want);
        let split = written(&report, Some("split"));
        assert!(split["stages"][0].get("decisions").is_none(), "only cascades decide");
    }

    #[test]
    fn a_shadow_tells_how_far_it_is_off() {
        let absolute = Spread { rows: 5, p50: Some(0.1), p99: Some(0.2), max: Some(f64::INFINITY) };
        let outputs =
            vec![DifferenceReport { output: "p".into(), ranked: 5, flips: 1, absolute, relative: Spread::default() }];
        let shadow = ShadowReport {
            agree: 4,
            differ: 1,
            failed: 2,
            dropped: 3,
            agreement: Some(0.8),
            outputs,
            primary: Latency::default(),
            shadow: Latency::default(),
        };
        let variants = vec![VariantReport { variant: "all".into(), requests: 10, share: 1.0 }];
        let report = RouteReport { revision: Some(4), variants, shadow: Some(shadow), ..empty() };
        let got = written(&report, Some("split"));
        let none = json!({"count": 0, "mean": null, "p50": null, "p90": null, "p99": null});
        let want = json!({
            "agree": 4, "differ": 1, "failed": 2, "dropped": 3, "agreement": 0.8,
            "outputs": [{
                "output": "p", "ranked": 5, "flips": 1,
                "absolute": {"rows": 5, "p50": 0.1, "p99": 0.2, "max": null},
                "relative": {"rows": 0, "p50": null, "p99": null, "max": null},
            }],
            "primary_seconds": none, "shadow_seconds": none,
        });
        assert_eq!(got["shadow"], want);
        assert_eq!(got["variants"], json!([{"variant": "all", "requests": 10, "share": 1.0}]));
    }

    #[test]
    fn what_does_not_serve_has_done_nothing() {
        assert_eq!(written(&empty(), None), json!({"route": "r", "kind": null, "revision": null}));
    }
}
