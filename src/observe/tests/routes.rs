//! Tests of what routes show.

use super::*;
use crate::{
    observe::{DifferenceSeries, SplitSeries, StageSeries},
    types::Tally,
};

/// A route in which something of everything has happened, and what a revision of it holds.
pub(super) struct Busy {
    route: Arc<RouteSeries>,
    _variants: [Arc<SplitSeries>; 2],
    stages: [Arc<StageSeries>; 2],
    shadow: (Arc<ShadowSeries>, Arc<DifferenceSeries>),
}

pub(super) fn busy(metrics: &Metrics) -> Busy {
    let route = metrics.route("r");
    let (stamps, encoded) = stamps(Instant::now(), [10, 100, 5, 900, 40, 20]);
    route.request_answered(&stamps, encoded, 3);
    route.request_failed(Duration::from_millis(2));
    let variants = ["a", "b"].map(|variant| route.split(variant, 7));
    variants[0].chosen();
    (0..3).for_each(|_| variants[1].chosen());
    let stages = ["0", "1"].map(|stage| route.stage(stage));
    stages[0].ran(Duration::from_micros(150));
    stages[0].decided(Decision::Accepted, 6);
    stages[0].decided(Decision::Escalated, 2);
    stages[1].decided(Decision::Expired, 1);
    stages[1].decided(Decision::BestSoFar, 0);
    stages[0].set_threshold(0.9);
    stages[0].set_threshold(0.875);
    stages[0].set_saturated(true);
    let shadow = route.shadow();
    let output = shadow.output("y");
    for (result, rows) in [(ShadowResult::Agree, 3), (ShadowResult::Differ, 1), (ShadowResult::Dropped, 9)] {
        shadow.rows(result, rows);
    }
    shadow.took(Duration::from_millis(1), Duration::from_millis(3));
    output.ranked(4, 1);
    [0.0, 0.0, 0.0, 0.25].into_iter().for_each(|difference| output.row(difference, difference * 2.0));
    Busy { route, _variants: variants, stages, shadow: (shadow, output) }
}

#[test]
fn routes_show_what_they_did() {
    let metrics = Metrics::new();
    let busy = busy(&metrics);
    let scrape = Scrape::of(&metrics);
    let get = |name: &str, labels: &[(&str, &str)]| {
        let labels = [&[("route", "r")], labels].concat();
        scrape.get(name, &labels).unwrap_or_else(|| panic!("{name} {labels:?}"))
    };
    let variant = |name| get("weir_split_requests_total", &[("variant", name), ("revision", "7")]);
    assert_eq!((variant("a"), variant("b")), (1.0, 3.0));
    let rows = |stage, decision| get("weir_cascade_rows_total", &[("stage", stage), ("decision", decision)]);
    assert_eq!((rows("0", "accepted"), rows("0", "escalated"), rows("1", "expired")), (6.0, 2.0, 1.0));
    assert_eq!(scrape.series("weir_cascade_rows_total").len(), 3);
    assert_eq!(get("weir_cascade_threshold", &[("stage", "0")]), 0.875);
    assert_eq!(get("weir_cascade_threshold_saturated", &[]), 1.0);
    let phase = |phase| get("weir_route_phase_duration_seconds_sum", &[("phase", phase)]);
    assert_eq!((phase("decode"), phase("compose"), phase("encode")), (0.00001, 0.001045, 0.00002));
    assert_eq!(get("weir_route_stage_duration_seconds_sum", &[("stage", "0")]), 0.00015);
    let shadow = |result| get("weir_shadow_rows_total", &[("result", result)]);
    assert_eq!((shadow("agree"), shadow("differ"), shadow("dropped")), (3.0, 1.0, 9.0));
    let side = |side| get("weir_shadow_duration_seconds_sum", &[("side", side)]);
    assert_eq!((side("primary"), side("shadow")), (0.001, 0.003));
    assert_eq!(get("weir_shadow_top1_flips_total", &[("output", "y")]), 1.0);
    let difference =
        |what: &str, le| get(&format!("weir_shadow_{what}_difference_bucket"), &[("output", "y"), ("le", le)]);
    assert_eq!((difference("absolute", "0"), difference("absolute", "0.1")), (3.0, 3.0));
    assert_eq!((difference("absolute", "1"), difference("relative", "1")), (4.0, 4.0));
    assert_eq!(
        (scrape.get("weir_shadow_stuck_total", &[]), scrape.get("weir_shadow_off", &[])),
        (Some(0.0), Some(0.0))
    );
    let servable = metrics.servable(&id("m", 1), "tract", "", None);
    servable.shadow_stuck();
    servable.shadow_off();
    let scrape = Scrape::of(&metrics);
    assert_eq!(
        (scrape.get("weir_shadow_stuck_total", &[]), scrape.get("weir_shadow_off", &[])),
        (Some(1.0), Some(1.0))
    );
    drop(busy);
}

#[test]
fn a_route_outlives_its_revisions() {
    let metrics = Metrics::new();
    let route = metrics.route("r");
    assert!(Arc::ptr_eq(&route, &metrics.route("r")));
    let (old, stage) = (route.split("a", 1), route.stage("0"));
    assert!(Arc::ptr_eq(&old, &route.split("a", 1)) && Arc::ptr_eq(&stage, &route.stage("0")));
    old.chosen();
    stage.decided(Decision::Accepted, 5);
    let (new, stage) = (route.split("a", 2), [stage, route.stage("0")][1].clone());
    new.chosen();
    let revisions = || -> Vec<String> {
        Scrape::of(&metrics).series("weir_split_requests_total").iter().map(|l| l["revision"].clone()).collect()
    };
    assert_eq!(revisions(), ["1", "2"]);
    let report = route.report();
    assert_eq!(report.revision, Some(2));
    assert_eq!(report.variants, [VariantReport { variant: "a".into(), requests: 1, share: 1.0 }]);
    drop(old);
    assert_eq!(revisions(), ["2"]);
    stage.decided(Decision::Accepted, 1);
    assert_eq!(route.report().stages[0].decisions[0], (Decision::Accepted, 6, 1.0));
    drop(stage);
    assert!(route.report().stages.is_empty());
}

#[test]
fn the_report_has_shares_and_estimates() {
    let metrics = Metrics::new();
    let busy = busy(&metrics);
    let report = busy.route.report();
    let shares: Vec<_> = report.variants.iter().map(|v| (&*v.variant, v.requests, v.share)).collect();
    assert_eq!(shares, [("a", 1, 0.25), ("b", 3, 0.75)]);
    assert_eq!(report.saturated, Some(true));
    let [first, second] = &*report.stages else { panic!("{report:?}") };
    assert_eq!((&*first.stage, first.threshold, second.threshold), ("0", Some(0.875), None));
    assert_eq!(first.decisions.map(|(_, rows, share)| (rows, share)), [(6, 0.75), (2, 0.25), (0, 0.0), (0, 0.0)]);
    assert_eq!((first.duration.count, first.duration.mean), (1, Some(0.00015)));
    assert_eq!((second.duration.count, second.duration.p99), (0, None));
    let shadow = report.shadow.unwrap();
    assert_eq!((shadow.agree, shadow.differ, shadow.failed, shadow.dropped), (3, 1, 0, 9));
    assert_eq!(shadow.agreement, Some(0.75));
    let p50 = |latency: Latency| latency.p50.unwrap();
    assert!((0.0005..=0.001).contains(&p50(shadow.primary)) && (0.002..=0.005).contains(&p50(shadow.shadow)));
    let [output] = &*shadow.outputs else { panic!("{shadow:?}") };
    assert_eq!((&*output.output, output.ranked, output.flips), ("y", 4, 1));
    assert_eq!((output.absolute.rows, output.absolute.p50, output.absolute.max), (4, Some(0.0), Some(0.25)));
    assert_eq!(output.relative.max, Some(0.5));
    busy.shadow.1.row(f64::NAN, f64::INFINITY);
    let outputs = busy.route.report().shadow.unwrap().outputs;
    assert_eq!((outputs[0].absolute.max, outputs[0].relative.max), (Some(f64::INFINITY), Some(f64::INFINITY)));
    let none = metrics.route("idle").report();
    assert_eq!(none, RouteReport { revision: None, variants: vec![], stages: vec![], saturated: None, shadow: None });
    assert_eq!(metrics.route("idle").shadow().report().agreement, None);
}

#[test]
fn stages_come_in_their_order() {
    let metrics = Metrics::new();
    let route = metrics.route("r");
    let held: Vec<_> = ["other", "10", "2", "any"].iter().map(|label| route.stage(label)).collect();
    let order: Vec<_> = route.report().stages.into_iter().map(|stage| stage.stage).collect();
    assert_eq!(order.iter().map(|label| &**label).collect::<Vec<_>>(), ["2", "10", "any", "other"]);
    drop(held);
}

#[test]
fn statistics_of_a_route_count_its_requests() {
    let metrics = Metrics::new();
    let busy = busy(&metrics);
    let statistics = busy.route.statistics(&"7".into());
    assert_eq!((&*statistics.name, &*statistics.version), ("r", "7"));
    assert_eq!((statistics.inference_count, statistics.execution_count), (3, 1));
    assert_eq!(statistics.success, Tally { count: 1, ns: 1_075_000 });
    assert_eq!(statistics.fail, Tally { count: 1, ns: 2_000_000 });
    assert_eq!(statistics.compute_infer, Tally { count: 1, ns: 1_045_000 });
    assert!(statistics.last_inference > 0 && statistics.batches.is_empty());
    assert_eq!(metrics.route("idle").statistics(&"1".into()).last_inference, 0);
}

#[test]
fn inner_runs_are_no_requests() {
    let metrics = Metrics::new();
    let servable = metrics.servable(&id("m", 1), "tract", "", None);
    let (stamps, encoded) = stamps(Instant::now(), [10, 100, 5, 900, 40, 20]);
    servable.inner_answered(&stamps, 4);
    let statistics = servable.statistics();
    assert_eq!((statistics.success, statistics.inference_count), (Tally::default(), 4));
    assert_eq!(statistics.queue, Tally { count: 1, ns: 100_000 });
    assert!(statistics.last_inference > 0);
    servable.request_answered(&stamps, encoded, 3);
    let statistics = servable.statistics();
    assert_eq!((statistics.success, statistics.inference_count), (Tally { count: 1, ns: 1_075_000 }, 7));
    assert_eq!(statistics.compute_infer, Tally { count: 2, ns: 1_800_000 });
    let scrape = Scrape::of(&metrics);
    let count = |phase| {
        let labels = [("model", "m"), ("version", "1"), ("phase", phase)];
        scrape.get("weir_phase_duration_seconds_count", &labels).unwrap()
    };
    assert_eq!(
        ["decode", "queue", "gather", "compute", "scatter", "encode"].map(count),
        [1.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    );
}

#[test]
fn routes_share_the_limit_on_series() {
    let metrics = Metrics::with_limit(5);
    let busy = busy(&metrics);
    let shown = |scrape: &Scrape| {
        let single = |(name, labels, _): &&(String, Labels, f64)| {
            labels.contains_key("route") && !name.ends_with("_sum") && !name.ends_with("_bucket")
        };
        scrape.values.iter().filter(single).count()
    };
    let scrape = Scrape::of(&metrics);
    assert_eq!(shown(&scrape), 5);
    let dropped = scrape.get("weir_series_dropped_total", &[]);
    assert!(dropped > Some(0.0));
    assert_eq!(Scrape::of(&metrics).get("weir_series_dropped_total", &[]), dropped, "counted once");
    assert_eq!(busy.stages.len(), 2);
    drop(busy);
    let again = super::routes::busy(&metrics);
    assert_eq!(shown(&Scrape::of(&metrics)), 5, "given back and taken again");
    drop(again);
}
