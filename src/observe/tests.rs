//! Tests of what `/metrics` shows, read back by a parser of the exposition format that knows nothing of the writer.

mod routes;
mod scores;
mod scrape;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use smallvec::smallvec;

use super::{names::Kind, *};
use crate::types::{DType, ErrorCode, ModelName, Phase, Protocol, ScoreKind, Stamps, Tensor, Version};
use scrape::{Labels, Scrape};

fn id(model: &str, version: u64) -> ServableId {
    ServableId { model: ModelName::parse(model).unwrap(), version: Version::new(version).unwrap() }
}

fn score(kind: ScoreKind, columns: usize) -> ResolvedScore {
    let names: Arc<[Box<str>]> = Arc::default();
    ResolvedScore { output: 0, name: "y".into(), kind, columns, bounds: None, class_names: names }
}

fn rows(columns: usize, values: &[f32]) -> Tensor {
    Tensor::from_vec(DType::Fp32, smallvec![values.len() / columns, columns], values.to_vec()).unwrap()
}

fn stamps(start: Instant, micros: [u64; 6]) -> (Stamps, Instant) {
    let at = |n: usize| start + Duration::from_micros(micros[..n].iter().sum());
    let stamps =
        Stamps { received: at(0), queued: at(1), taken: at(2), gathered: at(3), computed: at(4), scattered: at(5) };
    (stamps, at(6))
}

/// A process in which something of everything has happened.
fn busy() -> (Arc<Metrics>, (Arc<ServableSeries>, routes::Busy), Arc<RequestSeries>) {
    let metrics = Metrics::new();
    metrics.load_probe(ProbeResult::Good);
    let servable = metrics.servable(&id("m", 3), "tract", "sha256:ab", Some(score(ScoreKind::Probability, 2)));
    let requests = metrics.requests("m", "3", "");
    let (stamps, encoded) = stamps(Instant::now(), [10, 100, 5, 900, 40, 20]);
    servable.batch_ran(4, Duration::from_micros(5), Duration::from_micros(900), Duration::from_micros(40));
    servable.request_answered(&stamps, encoded, 3);
    servable.request_failed(Duration::from_millis(2));
    servable.queued(7);
    servable.unqueued(2);
    servable.rejected(Reject::QueueFull);
    servable.record_scores(&rows(2, &[0.25, 0.75, 0.9, 0.1, 0.5, 0.5]));
    servable.model().load(true);
    servable.circuit(2);
    servable.tenants(3);
    servable.worker_stuck();
    requests.record(Protocol::Grpc, None, Duration::from_micros(1075));
    requests.record(Protocol::Grpc, Some(ErrorCode::Overloaded), Duration::from_micros(8));
    metrics.unknown().record(Protocol::Http, Some(ErrorCode::NotFound), Duration::from_micros(9));
    metrics.measure_saturation(|| 0.5);
    metrics.count_log_drops(|| 6);
    let route = routes::busy(&metrics);
    (metrics, (servable, route), requests)
}

#[test]
fn shows_what_happened() {
    let (metrics, _servable, _requests) = busy();
    let _inflight = metrics.enter();
    let scrape = Scrape::of(&metrics);
    let m3 = [("model", "m"), ("version", "3")];
    let with = |more: &[(&'static str, &'static str)]| [&m3[..], more].concat();
    let get =
        |name: &str, labels: &[(&str, &str)]| scrape.get(name, labels).unwrap_or_else(|| panic!("{name} {labels:?}"));
    assert_eq!(get("weir_requests_total", &with(&[("protocol", "grpc"), ("code", "ok")])), 1.0);
    assert_eq!(get("weir_requests_total", &with(&[("protocol", "grpc"), ("code", "overloaded")])), 1.0);
    let unknown = [("model", ""), ("version", ""), ("protocol", "http"), ("code", "not_found")];
    assert_eq!(get("weir_requests_total", &unknown), 1.0);
    let grpc = with(&[("variant", ""), ("protocol", "grpc")]);
    assert_eq!(get("weir_request_duration_seconds_count", &grpc), 2.0);
    assert_eq!(get("weir_request_duration_seconds_sum", &grpc), 0.001083);
    assert_eq!(get("weir_batch_rows_sum", &m3), 4.0);
    assert_eq!(get("weir_batch_rows_bucket", &with(&[("le", "2")])), 0.0);
    assert_eq!(get("weir_batch_rows_bucket", &with(&[("le", "4")])), 1.0);
    assert_eq!(get("weir_queue_rows", &[("model", "m")]), 5.0);
    assert_eq!(get("weir_rejected_total", &[("model", "m"), ("reason", "queue_full")]), 1.0);
    assert_eq!(get("weir_model_loads_total", &[("model", "m"), ("result", "ok")]), 1.0);
    assert_eq!(get("weir_model_info", &with(&[("engine", "tract"), ("digest", "sha256:ab")])), 1.0);
    assert_eq!(get("weir_executed_expired_total", &[]), 0.0);
    assert_eq!(get("weir_inflight_requests", &[]), 1.0);
    assert_eq!((get("weir_saturation", &[]), get("weir_log_dropped_total", &[])), (0.5, 6.0));
    let class = |class: &'static str| get("weir_predicted_class_total", &with(&[("variant", ""), ("class", class)]));
    assert_eq!((class("0"), class("1")), (2.0, 1.0));
    let score = |part: &str, kind: &'static str| {
        get(&format!("weir_score_{part}"), &with(&[("variant", ""), ("output", "y"), ("kind", kind)]))
    };
    assert_eq!((score("count", "confidence"), score("count", "positive")), (3.0, 3.0));
    assert!((score("sum", "confidence") - 2.15).abs() < 1e-6 && (score("sum", "positive") - 1.35).abs() < 1e-6);
}

#[test]
fn phases_sum_to_the_request() {
    let (metrics, _servable, _requests) = busy();
    let scrape = Scrape::of(&metrics);
    let phase = |phase: &str| {
        let labels = [("model", "m"), ("version", "3"), ("phase", phase)];
        scrape.get("weir_phase_duration_seconds_sum", &labels).unwrap()
    };
    let phases = ["decode", "queue", "gather", "compute", "scatter", "encode"].map(phase);
    assert_eq!(phases, [0.00001, 0.0001, 0.000005, 0.0009, 0.00004, 0.00002]);
}

#[test]
fn every_histogram_is_cumulative_and_complete() {
    let (metrics, _servable, _requests) = busy();
    let scrape = Scrape::of(&metrics);
    for family in names::ALL.iter().filter(|family| family.kind == Kind::Histogram) {
        let counts = scrape.series(&format!("{}_count", family.name));
        assert!(!counts.is_empty(), "{}", family.name);
        for labels in counts {
            let buckets: Vec<(f64, f64)> = scrape
                .values
                .iter()
                .filter(|(name, l, _)| {
                    let mut l = l.clone();
                    *name == format!("{}_bucket", family.name) && l.remove("le").is_some() && l == *labels
                })
                .map(|(_, l, value)| (l["le"].parse().unwrap(), *value))
                .collect();
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{} {buckets:?}", family.name);
            let (le, last) = buckets.last().unwrap();
            assert!(le.is_infinite());
            let pairs: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(scrape.get(&format!("{}_count", family.name), &pairs), Some(*last));
        }
    }
}

#[test]
fn every_family_is_shown_with_its_labels_and_in_order() {
    let (metrics, _servable, _requests) = busy();
    let scrape = Scrape::of(&metrics);
    let mut types = Vec::new();
    for line in scrape.text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let family = names::find(name).unwrap();
            assert_eq!((family.name, family.kind.as_str()), (name, kind));
            assert!(scrape.text.contains(&format!("# HELP {name} {}\n", family.help)));
            types.push(name);
        }
    }
    let all: Vec<_> = names::ALL.iter().map(|family| family.name).collect();
    assert_eq!(types, all);
    for (name, labels, _) in &scrape.values {
        let mut got: Vec<_> = labels.keys().map(String::as_str).filter(|key| *key != "le").collect();
        let mut want = names::find(name).unwrap().labels.to_vec();
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "{name}");
    }
    let stable = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("process_")).map(str::to_owned).collect()
    };
    assert_eq!(stable(&scrape.text), stable(&metrics.render()));
}

#[test]
fn statistics_are_triton_s() {
    let (_metrics, (servable, _), _requests) = busy();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let statistics = servable.statistics();
    assert_eq!((&*statistics.name, &*statistics.version), ("m", "3"));
    assert!(statistics.last_inference.abs_diff(now) < 60_000, "{} {now}", statistics.last_inference);
    assert_eq!((statistics.inference_count, statistics.execution_count), (3, 1));
    assert_eq!((statistics.success.count, statistics.success.ns), (1, 1_075_000));
    assert_eq!((statistics.fail.count, statistics.fail.ns), (1, 2_000_000));
    assert_eq!((statistics.queue.ns, statistics.compute_infer.ns), (100_000, 900_000));
    assert_eq!((statistics.compute_input.ns, statistics.compute_output.ns), (5_000, 40_000));
    let [batch] = &*statistics.batches else { panic!("{statistics:?}") };
    assert_eq!((batch.rows, batch.compute_infer.count, batch.compute_infer.ns), (4, 1, 900_000));
}

#[test]
fn batches_are_told_apart_by_exact_size() {
    let metrics = Metrics::new();
    let servable = metrics.servable(&id("m", 1), "fake", "", None);
    for rows in [1, 64, 65, 1000, 65, 1] {
        servable.batch_ran(rows, Duration::ZERO, Duration::from_nanos(10), Duration::ZERO);
    }
    let sizes = |s: &ServableSeries| -> Vec<_> {
        s.statistics().batches.iter().map(|b| (b.rows, b.compute_infer.count, b.compute_infer.ns)).collect()
    };
    assert_eq!(sizes(&servable), [(1, 2, 20), (64, 1, 10), (65, 2, 20), (1000, 1, 10)]);
    (2000..3000).for_each(|rows| servable.batch_ran(rows, Duration::ZERO, Duration::ZERO, Duration::ZERO));
    assert!(sizes(&servable).len() < 400);
    assert_eq!(servable.statistics().execution_count, 1006);
}

#[test]
fn what_nobody_holds_is_gone() {
    let (metrics, (servable, route), requests) = busy();
    let variant = servable.scores("route/a");
    variant.record(&rows(2, &[0.25, 0.75]));
    assert!(Scrape::of(&metrics).text.contains("variant=\"route/a\""));
    drop(variant);
    let without = Scrape::of(&metrics).text;
    assert!(!without.contains("route/a") && without.contains("model=\"m\""));
    drop((servable, requests));
    assert!(Scrape::of(&metrics).text.contains("route=\"r\""));
    drop(route);
    let scrape = Scrape::of(&metrics);
    assert!(!scrape.text.contains("model=\"m\"") && !scrape.text.contains("route="), "{}", scrape.text);
    let again = metrics.servable(&id("m", 3), "tract", "sha256:ab", None);
    assert_eq!(again.statistics().inference_count, 0);
    assert_eq!(Scrape::of(&metrics).get("weir_queue_rows", &[("model", "m")]), Some(0.0));
}

#[test]
fn the_later_of_two_of_one_version_is_shown() {
    let metrics = Metrics::new();
    let old = metrics.servable(&id("m", 1), "tract", "old", None);
    let new = metrics.servable(&id("m", 1), "tract", "new", None);
    old.queued(1);
    new.queued(2);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.get("weir_queue_rows", &[("model", "m")]), Some(3.0));
    assert!(scrape.text.contains("digest=\"new\"") && !scrape.text.contains("digest=\"old\""));
    drop(new);
    assert!(Scrape::of(&metrics).text.contains("digest=\"old\""));
}

#[test]
fn equal_names_share_their_series() {
    let metrics = Metrics::new();
    let (a, b) = (metrics.requests("r", "7", "r/a"), metrics.requests("r", "7", "r/b"));
    assert!(Arc::ptr_eq(&a, &metrics.requests("r", "7", "r/a")));
    for series in [&a, &b, &b] {
        series.record(Protocol::Http, None, Duration::from_millis(1));
    }
    let scrape = Scrape::of(&metrics);
    let ok = [("model", "r"), ("version", "7"), ("protocol", "http"), ("code", "ok")];
    assert_eq!(scrape.get("weir_requests_total", &ok), Some(3.0));
    let of = |variant| [("model", "r"), ("version", "7"), ("variant", variant), ("protocol", "http")];
    assert_eq!(scrape.get("weir_request_duration_seconds_count", &of("r/b")), Some(2.0));
}

#[test]
fn unknown_names_never_make_series() {
    let metrics = Metrics::new();
    let series = || Scrape::of(&metrics).series("weir_requests_total").len();
    for code in ErrorCode::ALL {
        for _ in 0..3 {
            metrics.unknown().record(Protocol::Grpc, Some(code), Duration::from_micros(1));
        }
    }
    assert_eq!(series(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        let labels = [("model", ""), ("version", ""), ("protocol", "grpc"), ("code", code.as_str())];
        assert_eq!(Scrape::of(&metrics).get("weir_requests_total", &labels), Some(3.0));
    }
    metrics.unknown_model().rejected(Reject::TooLarge);
    let scrape = Scrape::of(&metrics);
    assert!(scrape.values.iter().all(|(_, labels, _)| labels.get("model").is_none_or(String::is_empty)));
}

#[test]
fn the_limit_on_series_holds_and_is_counted() {
    let metrics = Metrics::with_limit(100);
    let servables: Vec<_> = (1..=20).map(|version| metrics.servable(&id("m", version), "tract", "", None)).collect();
    let families = |scrape: &Scrape| {
        let shown = |(name, labels, _): &&(String, Labels, f64)| {
            !name.ends_with("_sum") && !name.ends_with("_bucket") && labels.contains_key("model")
        };
        scrape.values.iter().filter(shown).count()
    };
    let scrape = Scrape::of(&metrics);
    // Per servable: info, batch rows, six phases; and the model's queue.
    assert_eq!(families(&scrape), 100);
    assert_eq!(scrape.get("weir_series_dropped_total", &[]), Some(61.0));
    let last = servables.last().unwrap();
    last.batch_ran(1, Duration::ZERO, Duration::ZERO, Duration::ZERO);
    last.rejected(Reject::Deadline);
    assert_eq!(last.statistics().execution_count, 1);
    assert_eq!(families(&Scrape::of(&metrics)), 100);
    drop(servables);
    assert_eq!(families(&Scrape::of(&metrics)), 0);
    let fits = metrics.servable(&id("n", 1), "tract", "", None);
    assert_eq!(families(&Scrape::of(&metrics)), 9);
    drop(fits);
}

#[test]
fn classes_are_named_and_bounded() {
    let metrics = Metrics::new();
    let named = score(ScoreKind::Probability, 3).with_class_names(&["cat".into(), "a\"b\\\n".into()]);
    let servable = metrics.servable(&id("m", 1), "tract", "", Some(named));
    servable.record_scores(&rows(3, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]));
    let classes = |metrics: &Metrics| -> Vec<String> {
        Scrape::of(metrics).series("weir_predicted_class_total").iter().map(|l| l["class"].clone()).collect()
    };
    let got = classes(&metrics);
    assert!(got.len() == 3 && got.contains(&"cat".to_owned()) && got.contains(&"2".to_owned()), "{got:?}");
    drop(servable);
    let named = score(ScoreKind::Probability, 2).with_class_names(&[names::OTHER_CLASS.into(), "cat".into()]);
    let servable = metrics.servable(&id("m", 1), "tract", "", Some(named));
    servable.record_scores(&rows(2, &[1.0, 0.0, 0.0, 1.0]));
    let got = classes(&metrics);
    assert!(got.contains(&"other#0".to_owned()) && got.contains(&"cat".to_owned()), "{got:?}");
    drop(servable);

    let wide = metrics.servable(&id("m", 2), "tract", "", Some(score(ScoreKind::Probability, 1000)));
    for class in 0..1000 {
        let mut row = vec![0.0; 1000];
        row[class] = 1.0;
        wide.record_scores(&rows(1000, &row));
    }
    assert_eq!(classes(&metrics).len(), names::MAX_CLASSES + 1);
    let other = [("model", "m"), ("version", "2"), ("variant", ""), ("class", names::OTHER_CLASS)];
    assert_eq!(Scrape::of(&metrics).get("weir_predicted_class_total", &other), Some(900.0));
}

#[test]
fn labels_are_counted_by_value() {
    let metrics = Metrics::new();
    let label = |version| metrics.servable(&id("m", version), "tract", "", Some(score(ScoreKind::Label, 1)));
    let (numbers, texts) = (label(1), label(2));
    numbers.record_scores(&Tensor::from_vec(DType::Int64, smallvec![3], vec![-1_i64, 1, -1]).unwrap());
    let items: Vec<bytes::Bytes> = (0..150).map(|i| format!("class {}", i % 120).into()).collect();
    texts.record_scores(&Tensor::strings(smallvec![150], items.into()).unwrap());
    let scrape = Scrape::of(&metrics);
    let count = |version: &str, class: &str| {
        let labels = [("model", "m"), ("version", version), ("variant", ""), ("class", class)];
        scrape.get("weir_predicted_class_total", &labels)
    };
    assert_eq!((count("1", "-1"), count("1", "1")), (Some(2.0), Some(1.0)));
    assert_eq!(
        (count("2", "class 0"), count("2", "class 99"), count("2", "other")),
        (Some(2.0), Some(1.0), Some(20.0))
    );
}

#[test]
fn many_rows_are_recorded_like_single_ones() {
    let metrics = Metrics::new();
    let servable = |version| metrics.servable(&id("m", version), "tract", "", Some(score(ScoreKind::Probability, 2)));
    let (single, bulk) = (servable(1), servable(2));
    let values: Vec<f32> = (0..=256).flat_map(|i| [1.0 - i as f32 / 256.0, i as f32 / 256.0]).collect();
    bulk.record_scores(&rows(2, &values));
    values.chunks(2).for_each(|row| single.record_scores(&rows(2, row)));
    let text = metrics.render();
    let of = |version: &str| -> Vec<String> {
        let mark = format!("version=\"{version}\"");
        let wanted = |line: &&str| line.contains(&mark) && (line.contains("score") || line.contains("class"));
        text.lines().filter(wanted).map(|line| line.replace(&mark, "")).collect()
    };
    assert_eq!(of("1"), of("2"));
    assert!(of("1").len() > 40);
}

#[test]
fn the_documentation_names_every_label_value() {
    let text = include_str!("../../docs/metrics.md");
    let codes = ErrorCode::ALL.map(ErrorCode::as_str);
    let reasons = Reject::ALL.map(Reject::as_str);
    let phases = Phase::ALL.map(Phase::as_str);
    let decisions = Decision::ALL.map(Decision::as_str);
    let results = ShadowResult::ALL.map(ShadowResult::as_str);
    let fixed = ["ok", "grpc", "http", "compose", "primary", "shadow"];
    for value in fixed.iter().chain(&codes).chain(&reasons).chain(&phases).chain(&decisions).chain(&results) {
        assert!(text.contains(&format!("`{value}`")), "{value}");
    }
}
