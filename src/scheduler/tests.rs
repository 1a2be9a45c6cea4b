//! The scheduler with a scripted engine: what it promises about batches, bounds, deadlines, failures and shutdown. Runs block
//! and open on command, so nothing here depends on how fast the machine is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use smallvec::smallvec;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    engine::fake::{FakeEngine, POISON, Script},
    observe::Metrics,
    types::{BatchLimit, DType, Error, ErrorCode, ModelName, Rows, Tensor, Version},
};

pub(super) struct Fixture {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) lane: Lane,
    pub(super) script: Script,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) fn fixture(workers: usize, batching: BatchingSpec, merging: Merging) -> Fixture {
    with_lane(slow(workers), batching, merging)
}

/// Everything by the pool; a run costs half a millisecond and one per row, so that nothing is padded.
/// The test's thread as an I/O thread, from now on.
pub(super) struct IoThread {
    pub(super) tracker: TaskTracker,
    stop: CancellationToken,
}

impl IoThread {
    pub(super) fn here() -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        Home::install(&tracker, stop.clone());
        Self { tracker, stop }
    }

    /// Waits until it is none any more.
    pub(super) async fn leave(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

pub(super) fn slow(workers: usize) -> SchedulerOptions {
    let costs: fn(usize) -> Duration = |rows| Duration::from_micros(500 + 1000 * rows as u64);
    SchedulerOptions { workers, local_below: Duration::ZERO, costs: Some(costs), ..SchedulerOptions::default() }
}

pub(super) fn with_lane(options: SchedulerOptions, batching: BatchingSpec, merging: Merging) -> Fixture {
    build(options, batching, merging, ResourceSpec::default())
}

pub(super) fn with_resources(options: SchedulerOptions, batching: BatchingSpec, resources: ResourceSpec) -> Fixture {
    build(options, batching, Merging::Proved, resources)
}

fn build(options: SchedulerOptions, batching: BatchingSpec, merging: Merging, resources: ResourceSpec) -> Fixture {
    let script = Script::default();
    let metrics = Metrics::new();
    let scheduler = Scheduler::start(options).unwrap();
    let id = ServableId { model: ModelName::parse("fake").unwrap(), version: Version::ONE };
    let series = metrics.servable(&id, "fake", "", None);
    let model = FakeEngine::new(script.clone(), 2).model().into();
    let parts = LaneParts { id, model, merging, batching, resources, series };
    let lane = scheduler.lane(parts).unwrap();
    Fixture { scheduler, lane, script, metrics }
}

pub(super) fn batching(rows: usize) -> BatchingSpec {
    BatchingSpec { max_batch_size: BatchLimit::Rows(rows), ..BatchingSpec::default() }
}

pub(super) fn rows(first: f32, count: usize) -> Rows {
    let values: Vec<f32> = (0..count * 2).map(|i| first + i as f32).collect();
    Rows { inputs: [Tensor::from_vec(DType::Fp32, smallvec![count, 2], values).unwrap()].into(), rows: count }
}

pub(super) fn right(first: f32, count: usize, answer: &Answer) {
    let want: Vec<f32> = (0..count * 2).map(|i| (first + i as f32) * 2.0 + 1.0).collect();
    assert_eq!(answer.outputs[0].to_f32().unwrap(), want);
    assert_eq!(answer.outputs[0].shape(), [count, 2]);
}

/// Waits for a condition that another thread brings about.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

impl Fixture {
    pub(super) async fn warm(&self) {
        until("the other sizes are compiled", || self.lane.is_warm()).await;
    }

    /// Blocks the only worker with one row and gives back its answer's future, already running.
    pub(super) async fn block(&self) -> tokio::task::JoinHandle<Result<Answer, Error>> {
        self.script.close();
        let lane = self.lane.clone();
        let task = TaskTracker::new().spawn(async move { lane.run(rows(0.0, 1), None).await });
        until("a worker runs", || self.script.running() == 1).await;
        task
    }
}

#[tokio::test]
async fn what_waits_becomes_one_batch_and_every_answer_is_its_own() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    let blocker = f.block().await;
    let tracker = TaskTracker::new();
    let tasks: Vec<_> = (0..6)
        .map(|i| {
            let lane = f.lane.clone();
            tracker.spawn(async move { (i, lane.run(rows(i as f32 * 100.0, 2), None).await) })
        })
        .collect();
    until("all wait", || f.lane.queued_rows() == 12).await;
    f.script.open();
    for task in tasks {
        let (i, answer) = task.await.unwrap();
        right(i as f32 * 100.0, 2, &answer.unwrap());
    }
    right(0.0, 1, &blocker.await.unwrap().unwrap());
    assert_eq!(f.script.batches()[before..], [1, 8, 4]);
    assert_eq!(f.lane.queued_rows(), 0);
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_large_request_is_spread_and_joined_in_order() {
    let f = fixture(2, batching(4), Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    let answer = f.lane.run(rows(5.0, 11), None).await.unwrap();
    right(5.0, 11, &answer);
    let mut sizes = f.script.batches()[before..].to_vec();
    sizes.sort_unstable();
    assert_eq!(sizes.iter().sum::<usize>(), 11);
    assert!(sizes.iter().all(|size| *size <= 4), "{sizes:?}");
    f.scheduler.shutdown();
}

#[tokio::test]
async fn unmerged_models_run_every_request_whole() {
    let f = fixture(1, batching(8), Merging::Off("for the test".into()));
    f.warm().await;
    let blocker = f.block().await;
    let (a, b) = (f.lane.clone(), f.lane.clone());
    let tracker = TaskTracker::new();
    let a = tracker.spawn(async move { a.run(rows(1.0, 3), None).await });
    until("a waits", || f.lane.queued_rows() == 3).await;
    let b = tracker.spawn(async move { b.run(rows(9.0, 11), None).await });
    until("both wait", || f.lane.queued_rows() == 14).await;
    f.script.open();
    right(1.0, 3, &a.await.unwrap().unwrap());
    right(9.0, 11, &b.await.unwrap().unwrap());
    blocker.await.unwrap().unwrap();
    let ran = f.script.batches();
    assert_eq!(ran[ran.len() - 2..], [3, 11]);
    f.scheduler.shutdown();
}

#[tokio::test]
async fn the_queue_bound_holds_exactly_and_refusal_is_immediate() {
    let f = fixture(1, BatchingSpec { max_queue_rows: 5, ..batching(2) }, Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    let tracker = TaskTracker::new();
    let lane = f.lane.clone();
    let waiting = tracker.spawn(async move { lane.run(rows(1.0, 4), None).await });
    until("four rows wait", || f.lane.queued_rows() == 4).await;
    let refused = f.lane.run(rows(2.0, 2), None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    assert!(refused.retry_after().is_some());
    assert_eq!(refused.text(), "model 'fake': queue full: 4 rows wait");
    let lane = f.lane.clone();
    let fits = tracker.spawn(async move { lane.run(rows(3.0, 1), None).await });
    until("five rows wait", || f.lane.queued_rows() == 5).await;
    f.script.open();
    right(1.0, 4, &waiting.await.unwrap().unwrap());
    right(3.0, 1, &fits.await.unwrap().unwrap());
    blocker.await.unwrap().unwrap();
    assert!(f.metrics.render().contains("reason=\"queue_full\"} 1"));
    f.scheduler.shutdown();
}

#[tokio::test]
async fn expired_work_is_refused_and_never_run() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    assert_eq!(f.scheduler.saturation(), 0.0);
    let blocker = f.block().await;
    assert_eq!(f.scheduler.saturation(), 1.0);
    let before = f.script.batches().len();
    let soon = Some(Instant::now() + Duration::from_millis(20));
    let late = f.lane.run(rows(1.0, 1), soon).await.unwrap_err();
    assert_eq!((late.code(), late.text()), (ErrorCode::DeadlineExceeded, "deadline: expired in the queue"));
    until("its rows have left", || f.lane.queued_rows() == 0).await;
    let counted = "weir_rejected_total{model=\"fake\",reason=\"deadline\"} 1";
    assert!(f.metrics.render().contains(counted), "counted once");
    let past = f.lane.run(rows(1.0, 1), Some(Instant::now())).await.unwrap_err();
    assert_eq!(past.text(), "deadline: expired in the queue");
    f.script.open();
    blocker.await.unwrap().unwrap();
    right(7.0, 1, &f.lane.run(rows(7.0, 1), None).await.unwrap());
    assert_eq!(f.script.batches()[before..], [1, 1], "the expired row was not run");
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_deadline_missed_while_running_says_so() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    f.script.close();
    let lane = f.lane.clone();
    let soon = Instant::now() + Duration::from_millis(50);
    let run = TaskTracker::new().spawn(async move { lane.run(rows(1.0, 1), Some(soon)).await });
    until("it runs", || f.script.running() == 1).await;
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.text(), "deadline: expired in execution");
    f.script.open();
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_rows_along() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    let lane = f.lane.clone();
    let leaving = TaskTracker::new().spawn(async move { lane.run(rows(1.0, 3), None).await });
    until("three rows wait", || f.lane.queued_rows() == 3).await;
    leaving.abort();
    until("they have left", || f.lane.queued_rows() == 0).await;
    f.script.open();
    blocker.await.unwrap().unwrap();
    f.scheduler.shutdown();
}

async fn only_the_guilty_fail(panics: bool) {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    if panics {
        f.script.panic_on_poison();
    }
    let blocker = f.block().await;
    let tracker = TaskTracker::new();
    let tasks: Vec<_> = [1.0, POISON, 2.0]
        .into_iter()
        .map(|first| {
            let lane = f.lane.clone();
            tracker.spawn(async move { (first, lane.run(rows(first, 1), None).await) })
        })
        .collect();
    until("all wait", || f.lane.queued_rows() == 3).await;
    f.script.open();
    for task in tasks {
        let (first, answer) = task.await.unwrap();
        if first == POISON {
            let error = answer.unwrap_err();
            assert_eq!((error.code(), error.text()), (ErrorCode::Internal, "model 'fake': execution failed"));
        } else {
            right(first, 1, &answer.unwrap());
        }
    }
    blocker.await.unwrap().unwrap();
    right(4.0, 1, &f.lane.run(rows(4.0, 1), None).await.unwrap());
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_failing_batch_fails_only_for_the_guilty() {
    only_the_guilty_fail(false).await;
}

#[tokio::test]
async fn a_panicking_batch_fails_only_for_the_guilty_and_the_worker_lives() {
    only_the_guilty_fail(true).await;
}

#[tokio::test]
async fn cheap_batches_are_run_on_the_thread_that_received_them() {
    let options = SchedulerOptions { local_below: Duration::MAX, ..slow(1) };
    let f = with_lane(options, batching(8), Merging::Proved);
    f.warm().await;
    let here = IoThread::here();
    assert!(f.lane.is_local(), "{:?}", f.lane.profile());
    let before = f.script.batches().len();
    let calls: Vec<_> = (0..5)
        .map(|i| {
            let lane = f.lane.clone();
            here.tracker.spawn(async move { right(i as f32, 1, &lane.run(rows(i as f32, 1), None).await.unwrap()) })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(f.script.batches()[before..].iter().sum::<usize>(), 5);
    assert!(f.script.batches()[before..].len() < 5, "requests that arrive together share a batch");
    assert_eq!(f.lane.queued_rows(), 0);
    here.leave().await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn answers_of_the_pool_come_home_through_the_mailbox() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    let here = IoThread::here();
    assert!(!f.lane.is_local());
    right(3.0, 2, &f.lane.run(rows(3.0, 2), None).await.unwrap());
    here.leave().await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn shutdown_answers_what_waits_and_refuses_what_comes_later() {
    let f = fixture(1, batching(1), Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    let lane = f.lane.clone();
    let waiting = TaskTracker::new().spawn(async move { lane.run(rows(1.0, 1), None).await });
    until("one row waits", || f.lane.queued_rows() == 1).await;
    let scheduler = Arc::clone(&f.scheduler);
    let stopping = std::thread::spawn(move || scheduler.shutdown());
    f.script.open();
    right(1.0, 1, &waiting.await.unwrap().unwrap());
    blocker.await.unwrap().unwrap();
    stopping.join().unwrap();
    let refused = f.lane.run(rows(1.0, 1), None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn without_time_for_compiling_the_first_size_serves() {
    let options = SchedulerOptions { load_budget: Duration::ZERO, ..slow(1) };
    let f = with_lane(options, batching(8), Merging::Proved);
    f.warm().await;
    assert_eq!(f.lane.compiled_sizes(), [1]);
    right(1.0, 5, &f.lane.run(rows(1.0, 5), None).await.unwrap());
    f.scheduler.shutdown();
}

#[tokio::test]
async fn one_busy_servable_does_not_starve_another() {
    let f = fixture(1, batching(1), Merging::Proved);
    f.warm().await;
    let other = {
        let id = ServableId { model: ModelName::parse("other").unwrap(), version: Version::ONE };
        let series = f.metrics.servable(&id, "fake", "", None);
        let model = FakeEngine::new(f.script.clone(), 2).model().into();
        let resources = ResourceSpec::default();
        f.scheduler
            .lane(LaneParts { id, model, merging: Merging::Proved, batching: batching(1), resources, series })
            .unwrap()
    };
    until("compiled", || other.is_warm()).await;
    let blocker = f.block().await;
    let tracker = TaskTracker::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..4 {
        let (lane, order) = (f.lane.clone(), Arc::clone(&order));
        tracker.spawn(async move {
            lane.run(rows(1.0, 1), None).await.unwrap();
            order.lock().push("busy");
        });
    }
    until("four wait", || f.lane.queued_rows() == 4).await;
    let late = Arc::clone(&order);
    tracker.spawn(async move {
        other.run(rows(1.0, 1), None).await.unwrap();
        late.lock().push("other");
    });
    tokio::task::yield_now().await;
    until("the other waits", || tracker.len() == 5).await;
    f.script.open();
    tracker.close();
    tracker.wait().await;
    blocker.await.unwrap().unwrap();
    let at = order.lock().iter().position(|name| *name == "other").unwrap();
    assert!(at <= 2, "round robin: {:?}", order.lock());
    f.scheduler.shutdown();
}
