//! Shadows of the scripted engine's model (y = 2x + 1): what they agree on, and what happens when they misbehave. The caller's
//! side is a plain call, so that nothing here can wait for a shadow.

use std::time::SystemTime;

use smallvec::smallvec;

use super::*;
use crate::{
    engine::fake::{FakeEngine, POISON, Script},
    observe::{Metrics, RouteReport, ShadowReport},
    scheduler::{LaneParts, Merging, Scheduler, SchedulerOptions},
    types::{Batch, BatchingSpec, DType, ModelName, ModelSpec, ResourceSpec, Version},
};

const STUCK: Duration = Duration::from_secs(11);

struct Fixture {
    scheduler: Arc<Scheduler>,
    servable: Arc<Servable>,
    script: Script,
    metrics: Arc<Metrics>,
    route: Arc<RouteSeries>,
}

fn fixture() -> Fixture {
    with_spec(ModelSpec::default())
}

fn with_spec(spec: ModelSpec) -> Fixture {
    let (script, metrics) = (Script::default(), Metrics::new());
    let scheduler = Scheduler::start(SchedulerOptions { workers: 1, ..SchedulerOptions::default() }).unwrap();
    let id = ServableId { model: ModelName::parse("next").unwrap(), version: Version::ONE };
    let series = metrics.servable(&id, "fake", "", None);
    let model = FakeEngine::new(script.clone(), 2).model();
    let signature = Arc::new(model.signature().clone());
    let parts = LaneParts {
        id: id.clone(),
        model: model.into(),
        merging: Merging::Proved,
        batching: BatchingSpec::default(),
        resources: ResourceSpec::default(),
        series: Arc::clone(&series),
    };
    let servable = Servable {
        id,
        signature,
        spec: Arc::new(spec),
        classes: Default::default(),
        engine: "fake",
        selection: Arc::default(),
        digest: "".into(),
        lane: scheduler.lane(parts).unwrap(),
        series,
        loaded_at: SystemTime::UNIX_EPOCH,
        load_times: crate::registry::LoadTimes::default(),
        source: "next/1/model.onnx".into(),
        merging: Merging::Proved,
    };
    while !servable.lane.is_warm() {
        std::thread::yield_now();
    }
    let route = metrics.route("r");
    Fixture { scheduler, servable: Arc::new(servable), script, metrics, route }
}

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
}

fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
    Signature { inputs, outputs, batch: Batch::Rows }
}

fn table(values: &[f32]) -> Tensor {
    Tensor::from_vec(DType::Fp32, smallvec![values.len() / 2, 2], values.to_vec()).unwrap()
}

impl Fixture {
    fn shadow(&self) -> Shadow {
        Shadow::new(&self.servable, &self.servable.signature, &self.route).unwrap()
    }

    fn report(&self) -> ShadowReport {
        self.route.report().shadow.unwrap()
    }

    /// Waits until so many rows came to each result: agree, differ, failed, dropped.
    fn until(&self, wanted: [u64; 4]) -> ShadowReport {
        let begun = Instant::now();
        loop {
            let report = self.report();
            let got = [report.agree, report.differ, report.failed, report.dropped];
            if got == wanted {
                return report;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "expected {wanted:?}, got {got:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn blocked(&self) {
        let begun = Instant::now();
        while self.script.running() != 1 {
            assert!(begun.elapsed() < Duration::from_secs(20), "never runs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Shows the shadow inputs and what the caller got, in a request that was answered now.
fn mirror(shadow: &Shadow, x: &[f32], y: &[f32]) {
    mirror_at(shadow, x, y, Instant::now());
}

fn mirror_at(shadow: &Shadow, x: &[f32], y: &[f32], answered: Instant) {
    let given = Rows { inputs: [table(x)].into(), rows: x.len() / 2 };
    shadow.mirror(&given, &[table(y)], answered - Duration::from_millis(3), answered);
}

#[test]
fn answers_are_compared_row_by_row() {
    let f = fixture();
    let shadow = f.shadow();
    // The shadow says 2x + 1; the caller got the same, 0.25 more, and another class.
    mirror(&shadow, &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0], &[3.0, 5.0, 7.0, 9.25, 5.0, 3.0]);
    mirror(&shadow, &[5.0, 6.0], &[11.0, 13.0]);
    let report = f.until([2, 2, 0, 0]);
    assert_eq!(report.agreement, Some(0.5));
    let [y] = &*report.outputs else { panic!("{report:?}") };
    assert_eq!((&*y.output, y.ranked, y.flips), ("y", 4, 1));
    assert_eq!((y.absolute.rows, y.absolute.max, y.relative.max), (4, Some(2.0), Some(0.4)));
    assert_eq!((report.primary.count, report.shadow.count), (2, 2));
    assert!((0.002..=0.005).contains(&report.primary.mean.unwrap()), "{report:?}");
    let text = f.metrics.render();
    for line in ["{route=\"r\",result=\"agree\"} 2", "{route=\"r\",result=\"differ\"} 2"] {
        assert!(text.contains(&format!("weir_shadow_rows_total{line}")), "{text}");
    }
    assert!(
        !text.contains("weir_requests_total") && text.contains("weir_batch_rows_count{model=\"next\",version=\"1\"} 0")
    );
    f.scheduler.shutdown();
}

#[test]
fn inputs_and_outputs_are_found_by_name() {
    let f = fixture();
    let loose = [None, None];
    let route = signature(
        vec![spec("key", DType::Int64, &[None]), spec("x", DType::Fp32, &loose)],
        vec![spec("label", DType::Int64, &[None]), spec("y", DType::Fp32, &loose)],
    );
    let shadow = Shadow::new(&f.servable, &route, &f.route).unwrap();
    let numbers = |rows: usize| Tensor::from_vec(DType::Int64, smallvec![rows], vec![7_i64; rows]).unwrap();
    let now = Instant::now();
    let given = Rows { inputs: [numbers(1), table(&[1.0, 2.0])].into(), rows: 1 };
    shadow.mirror(&given, &[numbers(1), table(&[3.0, 5.0])], now, now);
    f.until([1, 0, 0, 0]);
    // The route leaves the width open; the shadow does not.
    let wide = Tensor::from_vec(DType::Fp32, smallvec![1, 3], vec![0.0_f32; 3]).unwrap();
    let given = Rows { inputs: [numbers(1), wide.clone()].into(), rows: 1 };
    shadow.mirror(&given, &[numbers(1), wide.clone()], now, now);
    f.until([1, 0, 1, 0]);
    // The caller's output has another shape than the shadow's.
    let given = Rows { inputs: [numbers(1), table(&[1.0, 2.0])].into(), rows: 1 };
    shadow.mirror(&given, &[numbers(1), wide], now, now);
    f.until([1, 0, 2, 0]);
    shadow.mirror(&given, &[], now, now);
    f.until([1, 0, 2, 1]);
    f.scheduler.shutdown();
}

#[test]
fn what_does_not_fit_is_refused_with_every_reason() {
    let f = fixture();
    let refused = |route: Signature| Shadow::new(&f.servable, &route, &f.route).unwrap_err();
    let (x, y) = (spec("x", DType::Fp32, &[None, Some(2)]), spec("y", DType::Fp32, &[None, Some(2)]));
    assert_eq!(
        refused(signature(vec![], vec![spec("y", DType::Int64, &[None])])),
        [
            "shadow.model: 'next' needs input 'x' FP32 [-1, 2], which the route does not take",
            "shadow.model: no output to compare: 'next' gives 'y' FP32 [-1, 2], the route 'y' INT64 [-1]",
        ]
    );
    assert_eq!(
        refused(signature(vec![spec("x", DType::Fp32, &[None, Some(3)])], vec![y.clone()])),
        ["shadow.model: input 'x': expected FP32 [-1, 3] as the route takes, got FP32 [-1, 2] of 'next'"]
    );
    assert_eq!(
        refused(Signature { batch: Batch::None, ..signature(vec![x], vec![y]) }),
        ["shadow.model: 'next' and the route do not both have a batch dimension"]
    );
    assert!(f.route.report().shadow.is_none(), "what was refused shows nothing");
    assert!(Shadow::not_a_model("r2").starts_with("shadow.model: 'r2' is a route"));
    f.scheduler.shutdown();
}

#[test]
fn failures_and_panics_are_counted_and_nothing_else() {
    let f = fixture();
    let shadow = f.shadow();
    mirror(&shadow, &[POISON, 2.0, 3.0, 4.0], &[1.0, 1.0, 1.0, 1.0]);
    f.until([0, 0, 2, 0]);
    f.script.panic_on_poison();
    mirror(&shadow, &[POISON, 2.0], &[1.0, 1.0]);
    f.until([0, 0, 3, 0]);
    mirror(&shadow, &[1.0, 2.0], &[3.0, 5.0]);
    let report = f.until([1, 0, 3, 0]);
    assert_eq!(report.shadow.count, 1, "only what was compared has a time");
    f.scheduler.shutdown();
}

#[test]
fn a_shadow_that_hangs_is_given_up_and_the_rest_is_dropped() {
    let f = fixture();
    let shadow = f.shadow();
    f.script.close();
    mirror(&shadow, &[1.0, 2.0], &[3.0, 5.0]);
    f.blocked();
    (0..300).for_each(|_| mirror(&shadow, &[1.0, 2.0], &[3.0, 5.0]));
    let full = f.report().dropped;
    assert!((1..300).contains(&full), "the queue is bounded: {full} dropped");
    mirror_at(&shadow, &[1.0, 2.0], &[3.0, 5.0], Instant::now() + STUCK);
    f.until([0, 0, 1, 301]);
    mirror(&shadow, &[1.0, 2.0], &[3.0, 5.0]);
    f.until([0, 0, 1, 302]);
    assert!(f.metrics.render().contains("weir_shadow_stuck_total 1"));
    f.scheduler.shutdown();
    mirror(&shadow, &[1.0, 2.0], &[3.0, 5.0]);
    f.until([0, 0, 1, 303]);
    f.script.open();
}

#[test]
fn requests_that_are_too_large_for_the_shadow_are_not_shown_to_it() {
    let f = with_spec(ModelSpec { max_request_rows: Some(1), ..ModelSpec::default() });
    let shadow = f.shadow();
    mirror(&shadow, &[1.0, 2.0, 3.0, 4.0], &[3.0, 5.0, 7.0, 9.0]);
    f.until([0, 0, 0, 2]);
    mirror(&shadow, &[1.0, 2.0], &[3.0, 5.0]);
    f.until([1, 0, 0, 2]);
    f.scheduler.shutdown();
}

#[test]
fn a_shadow_outlives_a_revision_and_goes_with_the_last() {
    let f = fixture();
    let old = f.shadow();
    mirror(&old, &[1.0, 2.0], &[3.0, 5.0]);
    f.until([1, 0, 0, 0]);
    let new = f.shadow();
    drop(old);
    mirror(&new, &[1.0, 2.0], &[3.0, 5.0]);
    f.until([2, 0, 0, 0]);
    drop(new);
    let begun = Instant::now();
    while f.route.report()
        != (RouteReport { revision: None, variants: vec![], stages: vec![], saturated: None, shadow: None })
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "still there");
        std::thread::yield_now();
    }
    f.scheduler.shutdown();
}

#[test]
fn small_outputs_are_kept_apart_from_their_batch() {
    let batch = table(&[0.0; 64]);
    let slice = batch.slice_rows(3, 1).unwrap();
    assert_ne!(apart(&slice).bytes().as_ptr(), slice.bytes().as_ptr());
    assert_eq!(apart(&slice), slice);
    let large = table(&vec![0.0; MAX_COPY]);
    assert_eq!(apart(&large).bytes().as_ptr(), large.bytes().as_ptr());
    let text = Tensor::strings(smallvec![1], [Bytes::from_static(b"a")].into()).unwrap();
    assert_eq!(apart(&text), text);
}
