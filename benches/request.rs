//! What a request costs beyond engine and transport: the scheduler's two lanes with the scripted fake engine, whose run costs
//! about as much as the copy it makes. The number that matters is the time per request of `local` (one request at a time, and 64
//! at once); `pool` shows what the hop to a worker adds.
//!
//! `cargo bench --bench request`

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir::{
    engine::fake::{FakeEngine, Script},
    observe::Metrics,
    scheduler::{Home, Lane, LaneParts, Merging, Scheduler, SchedulerOptions},
    types::{BatchingSpec, DType, ModelName, ResourceSpec, Rows, ServableId, Tensor, Version},
};

const WIDTH: usize = 30;

fn lane(scheduler: &Arc<Scheduler>, metrics: &Arc<Metrics>) -> Lane {
    let id = ServableId { model: ModelName::parse("fake").unwrap(), version: Version::ONE };
    let series = metrics.servable(&id, "fake", "", None);
    let model = FakeEngine::new(Script::default(), WIDTH).model().into();
    let batching = BatchingSpec::default();
    let resources = ResourceSpec::default();
    let parts = LaneParts { id, model, merging: Merging::Proved, batching, resources, series };
    let lane = scheduler.lane(parts).unwrap();
    while !lane.is_warm() {
        std::thread::yield_now();
    }
    lane
}

fn rows() -> Rows {
    let tensor = Tensor::from_vec(DType::Fp32, [1, WIDTH].as_slice().into(), vec![0.5_f32; WIDTH]).unwrap();
    Rows { inputs: [tensor].into(), rows: 1 }
}

fn requests(c: &mut Criterion) {
    let metrics = Metrics::new();
    let mut group = c.benchmark_group("own cost per request");
    for (name, local_below) in [("local", Duration::MAX), ("pool", Duration::ZERO)] {
        let scheduler =
            Scheduler::start(SchedulerOptions { workers: 1, local_below, ..SchedulerOptions::default() }).unwrap();
        let lane = lane(&scheduler, &metrics);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        runtime.block_on(async { Home::install(&tracker, stop.clone()) });
        for at_once in [1_usize, 64] {
            group.throughput(Throughput::Elements(at_once as u64));
            group.bench_with_input(BenchmarkId::new(name, at_once), &at_once, |bencher, at_once| {
                bencher.iter(|| {
                    runtime.block_on(async {
                        let calls = TaskTracker::new();
                        for _ in 0..*at_once {
                            let lane = lane.clone();
                            calls.spawn(async move { black_box(lane.run(rows(), None).await.unwrap()) });
                        }
                        calls.close();
                        calls.wait().await;
                    });
                });
            });
        }
        stop.cancel();
        drop(runtime);
        scheduler.shutdown();
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
