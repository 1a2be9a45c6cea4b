//! What the scheduler does when there is too much to do, when somebody is more urgent than others, and when models are broken.
//! The scripted engine blocks and fails on command; what runs cost is given, so that nothing here depends on how fast the machine
//! is.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{
    tests::{Fixture, IoThread, batching, fixture, right, rows, slow, until, with_lane, with_resources},
    *,
};
use crate::{
    engine::fake::{FakeEngine, POISON},
    types::{Error, ErrorCode, ModelName, Version},
};

fn within(time: Duration) -> Terms {
    Some(Instant::now() + time).into()
}

fn spawn(f: &Fixture, first: f32, count: usize, terms: Terms) -> JoinHandle<Result<Answer, Error>> {
    let lane = f.lane.clone();
    TaskTracker::new().spawn(async move { lane.run(rows(first, count), terms).await })
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_refused_at_once() {
    let f = fixture(1, batching(2), Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    // A batch of two rows costs two and a half milliseconds: a hundred rows take 125.
    let waiting: Vec<_> = (0..50).map(|i| spawn(&f, i as f32, 2, Terms::default())).collect();
    until("they wait", || f.lane.queued_rows() == 100).await;
    let asked = Instant::now();
    let refused = f.lane.run(rows(1.0, 1), within(Duration::from_millis(80))).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded, "{refused}");
    assert!(refused.text().starts_with("model 'fake': overloaded: an answer takes about "), "{refused}");
    let wait = refused.retry_after().unwrap();
    assert!(wait > Duration::from_millis(20) && wait < Duration::from_secs(1), "{wait:?}");
    assert!(asked.elapsed() < Duration::from_secs(20), "it did not wait");
    assert_eq!(f.lane.queued_rows(), 100);
    let patient = spawn(&f, 3.0, 1, within(Duration::from_secs(60)));
    until("who has time is let in", || f.lane.queued_rows() == 101).await;
    f.script.open();
    for task in waiting.into_iter().chain([blocker, patient]) {
        task.await.unwrap().unwrap();
    }
    let metrics = f.metrics.render();
    assert!(metrics.contains("weir_rejected_total{model=\"fake\",reason=\"deadline\"} 1"));
    assert!(metrics.contains("weir_executed_expired_total 0"));
    f.scheduler.shutdown();
}

/// What a request of so many rows is told that has too little time.
async fn refused_at_once(f: &Fixture, count: usize, time: Duration) -> Error {
    let refused = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            // A profile that nothing has been measured against for a second is doubted.
            right(1.0, 1, &f.lane.run(rows(1.0, 1), None).await.unwrap());
            if let Err(error) = f.lane.run(rows(1.0, count), within(time)).await {
                break error;
            }
        }
    });
    refused.await.expect("it is refused at once")
}

#[tokio::test]
async fn all_rows_of_a_large_request_must_fit_into_its_time() {
    // Runs take no time; what they are said to take is far beyond what a slow machine can add.
    let hours: fn(usize) -> Duration = |rows| Duration::from_secs(1000 * rows as u64);
    let f = with_lane(SchedulerOptions { costs: Some(hours), ..slow(2) }, batching(1), Merging::Proved);
    f.warm().await;
    // Two workers run ten rows in five turns; one that has just answered may count as busy for a moment.
    right(1.0, 10, &f.lane.run(rows(1.0, 10), within(Duration::from_secs(8000))).await.unwrap());
    let refused = refused_at_once(&f, 10, Duration::from_secs(4500)).await;
    assert_eq!(refused.code(), ErrorCode::DeadlineExceeded, "{refused}");
    assert!(refused.text().starts_with("deadline: too short: expected at least 5000000 ms, got 4"), "{refused}");
    f.scheduler.shutdown();
}

#[tokio::test]
async fn more_parallel_batches_than_workers_let_in_no_more() {
    // Runs take no time; what they are said to take is far beyond what a slow machine can add.
    let hours: fn(usize) -> Duration = |rows| Duration::from_secs(1000 * rows as u64);
    let resources = ResourceSpec { max_parallel_batches: 16, ..ResourceSpec::default() };
    let f = with_resources(SchedulerOptions { costs: Some(hours), ..slow(2) }, batching(1), resources);
    f.warm().await;
    // Ten rows take two workers five turns.
    let refused = refused_at_once(&f, 10, Duration::from_secs(1500)).await;
    assert!(refused.text().starts_with("deadline: too short: expected at least 5000000 ms, got 1"), "{refused}");
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_slow_model_that_is_alone_is_let_in_beside_an_idle_worker() {
    // Runs take no time; what they are said to take is far beyond what a slow machine can add.
    let long: fn(usize) -> Duration = |rows| Duration::from_secs(1000 * rows as u64);
    let f = with_lane(SchedulerOptions { costs: Some(long), ..slow(2) }, batching(1), Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    let second = spawn(&f, 1.0, 1, within(Duration::from_secs(1500)));
    until("the other worker runs it", || f.script.running() == 2 || second.is_finished()).await;
    f.script.open();
    right(1.0, 1, &second.await.unwrap().unwrap());
    blocker.await.unwrap().unwrap();
    f.scheduler.shutdown();
}

/// A second servable of the same scheduler.
async fn another(f: &Fixture) -> Lane {
    let id = ServableId { model: ModelName::parse("other").unwrap(), version: Version::ONE };
    let series = f.metrics.servable(&id, "fake", "", None);
    let model = FakeEngine::new(f.script.clone(), 2).model().into();
    let resources = ResourceSpec::default();
    let parts = LaneParts { id, model, merging: Merging::Proved, batching: batching(2), resources, series };
    let lane = f.scheduler.lane(parts).unwrap();
    until("the other is compiled", || lane.is_warm()).await;
    lane
}

#[tokio::test]
async fn on_an_io_thread_what_waits_for_other_models_counts_too() {
    // Runs take no time; what they are said to take is far beyond what a slow machine can add.
    let hours: fn(usize) -> Duration = |rows| Duration::from_secs(1000 * rows as u64);
    let options = SchedulerOptions { local_below: Duration::MAX, costs: Some(hours), ..slow(1) };
    let f = with_lane(options, batching(2), Merging::Proved);
    f.warm().await;
    let other = another(&f).await;
    let here = IoThread::here();
    let ask = || f.lane.run(rows(1.0, 1), within(Duration::from_secs(2500)));
    right(1.0, 1, &ask().await.unwrap());
    // It waits from the first poll on; nothing is run before this test yields.
    let mut waiting = Box::pin(other.run(rows(5.0, 2), None));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let refused = ask().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded, "{refused}");
    assert!(refused.retry_after().is_some());
    right(5.0, 2, &waiting.await.unwrap());
    right(1.0, 1, &ask().await.unwrap());
    // A caller that leaves is in nobody's way.
    let mut leaving = Box::pin(other.run(rows(5.0, 2), None));
    assert!(leaving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(leaving);
    right(1.0, 1, &ask().await.unwrap());
    here.leave().await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_worker_that_is_slower_than_the_profile_says_is_waited_for_longer() {
    // Runs are said to take 10 us a row and take a hundred times as long.
    let costs: fn(usize) -> Duration = |rows| Duration::from_micros(10 * rows as u64);
    let f = with_lane(SchedulerOptions { costs: Some(costs), ..slow(1) }, batching(1), Merging::Proved);
    f.warm().await;
    f.script.delay(Duration::from_millis(1));
    let blocker = f.block().await;
    let waiting: Vec<_> = (0..60).map(|_| spawn(&f, 1.0, 1, Terms::default())).collect();
    until("they wait", || f.lane.queued_rows() == 60).await;
    f.script.open();
    for task in waiting.into_iter().chain([blocker]) {
        task.await.unwrap().unwrap();
    }
    let blocker = f.block().await;
    let waiting: Vec<_> = (0..200).map(|_| spawn(&f, 1.0, 1, Terms::default())).collect();
    until("they wait again", || f.lane.queued_rows() == 200).await;
    // By the profile alone that were 2.5 ms. Where this thread is put aside for as long, it asks again.
    let refused = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let error = f.lane.run(rows(1.0, 1), within(Duration::from_millis(6))).await.unwrap_err();
            if error.code() == ErrorCode::Overloaded {
                break;
            }
        }
    });
    refused.await.expect("it is refused at once");
    f.script.open();
    for task in waiting.into_iter().chain([blocker]) {
        task.await.unwrap().unwrap();
    }
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_free_worker_refuses_nobody_who_has_time_for_a_run() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    for _ in 0..50 {
        // A run is said to cost 1.5 ms; it takes no time, but the machine may.
        let answer = f.lane.run(rows(1.0, 1), within(Duration::from_millis(1600))).await;
        right(1.0, 1, &answer.unwrap());
    }
    let short = f.lane.run(rows(1.0, 8), within(Duration::from_millis(8))).await.unwrap_err();
    assert_eq!(short.code(), ErrorCode::DeadlineExceeded);
    assert!(short.text().starts_with("deadline: too short: expected at least 8.50 ms, got "), "{short}");
    f.scheduler.shutdown();
}

#[tokio::test]
async fn urgent_requests_go_first_and_priorities_beyond_the_levels_are_the_default() {
    let spec = BatchingSpec { priority_levels: 3, default_priority_level: 2, ..batching(1) };
    let f = fixture(1, spec, Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let tracker = TaskTracker::new();
    for (count, priority) in [3, 0, 99, 2, 1].into_iter().enumerate() {
        let (lane, order) = (f.lane.clone(), Arc::clone(&order));
        tracker.spawn(async move {
            lane.run(rows(1.0, 1), Terms { priority, ..Terms::default() }).await.unwrap();
            order.lock().push(priority);
        });
        until("it waits", || f.lane.queued_rows() == count + 1).await;
    }
    f.script.open();
    tracker.close();
    tracker.wait().await;
    blocker.await.unwrap().unwrap();
    let order = order.lock();
    // Those of level 3 wait a tenth of a second longer each; how long all of this took is unknown.
    let place = |priority| order.iter().position(|known| *known == priority).unwrap();
    assert!(place(0) < place(99) && place(99) < place(2), "first in, first out: {order:?}");
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_tenant_that_floods_leaves_room_for_others() {
    let f = fixture(1, BatchingSpec { max_queue_rows: 8, ..batching(1) }, Merging::Proved);
    f.warm().await;
    let blocker = f.block().await;
    let of = |tenant| Terms { tenant, ..Terms::default() };
    let mut waiting = Vec::new();
    for count in 1..=4 {
        waiting.push(spawn(&f, 1.0, 1, of(7)));
        until("it waits", || f.lane.queued_rows() == count).await;
    }
    let refused = f.lane.run(rows(1.0, 1), of(7)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.text()),
        (ErrorCode::Overloaded, "model 'fake': the tenant's share of the queue is used up")
    );
    assert!(refused.retry_after().is_some());
    waiting.push(spawn(&f, 1.0, 1, of(9)));
    until("another one waits", || f.lane.queued_rows() == 5).await;
    let metrics = f.metrics.render();
    assert!(metrics.contains("weir_rejected_total{model=\"fake\",reason=\"tenant\"} 1"));
    assert!(metrics.contains("weir_queue_tenants{model=\"fake\",version=\"1\"} 2"));
    f.script.open();
    for task in waiting.into_iter().chain([blocker]) {
        task.await.unwrap().unwrap();
    }
    assert!(f.metrics.render().contains("weir_queue_tenants{model=\"fake\",version=\"1\"} 0"));
    f.scheduler.shutdown();
}

#[tokio::test]
async fn failures_in_a_row_open_the_circuit_and_one_success_closes_it() {
    let resources =
        ResourceSpec { circuit_failures: 2, circuit_pause: Duration::from_millis(50), ..ResourceSpec::default() };
    let f = with_resources(slow(1), batching(8), resources);
    f.warm().await;
    for _ in 0..2 {
        assert_eq!(f.lane.run(rows(POISON, 1), None).await.unwrap_err().code(), ErrorCode::Internal);
    }
    // The answer comes before the circuit is told.
    until("it is open", || f.lane.circuit().1 == 1).await;
    let refused = loop {
        match f.lane.run(rows(POISON, 1), None).await.unwrap_err() {
            error if error.code() == ErrorCode::Unavailable => break error,
            // The pause was over: this one was let through, failed, and opened it again.
            error => assert_eq!(error.code(), ErrorCode::Internal),
        }
    };
    assert_eq!(refused.text(), "model 'fake': the circuit is open: its last runs have failed");
    assert!(refused.retry_after().is_some());
    let metrics = f.metrics.render();
    assert!(metrics.contains("reason=\"circuit\"}"), "{metrics}");
    assert!(metrics.contains("weir_circuit_state{model=\"fake\",version=\"1\"} "));
    let answered = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match f.lane.run(rows(2.0, 1), None).await {
                Ok(answer) => break right(2.0, 1, &answer),
                Err(error) => tokio::time::sleep(error.retry_after().unwrap()).await,
            }
        }
    });
    answered.await.expect("it closes again");
    until("it is closed", || f.lane.circuit().0 == CircuitState::Closed).await;
    until("that is shown", || f.metrics.render().contains("weir_circuit_state{model=\"fake\",version=\"1\"} 0")).await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_failed_batch_is_run_singly_once_and_opens_nothing_if_somebody_is_answered() {
    let resources = ResourceSpec { circuit_failures: 1, ..ResourceSpec::default() };
    let f = with_resources(slow(1), batching(8), resources);
    f.warm().await;
    let blocker = f.block().await;
    let before = f.script.batches().len();
    let guilty = spawn(&f, POISON, 1, Terms::default());
    until("one waits", || f.lane.queued_rows() == 1).await;
    let innocent = spawn(&f, 2.0, 1, Terms::default());
    until("both wait", || f.lane.queued_rows() == 2).await;
    f.script.open();
    blocker.await.unwrap().unwrap();
    assert_eq!(guilty.await.unwrap().unwrap_err().code(), ErrorCode::Internal);
    right(2.0, 1, &innocent.await.unwrap().unwrap());
    assert_eq!(f.script.batches()[before..], [1, 2, 1, 1], "together, then each once");
    assert_eq!(f.lane.circuit(), (CircuitState::Closed, 0));
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_run_that_does_not_end_is_given_up_and_its_worker_replaced() {
    let resources = ResourceSpec { stuck_after: Some(Duration::from_millis(100)), ..ResourceSpec::default() };
    let f = with_resources(slow(1), batching(1), resources);
    f.warm().await;
    let stuck = f.block().await;
    let behind = spawn(&f, 1.0, 1, Terms::default());
    let error = stuck.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.text()), (ErrorCode::Internal, "model 'fake': execution failed"));
    let error = behind.await.unwrap().unwrap_err();
    assert!([ErrorCode::Unavailable, ErrorCode::Internal].contains(&error.code()), "{error}");
    assert!(f.metrics.render().contains("weir_workers_stuck_total 1"));
    assert!(f.lane.circuit().1 >= 1);
    // The run ends after all, its thread with it; the new worker answers once the pause is over.
    f.script.open();
    let answered = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match f.lane.run(rows(2.0, 1), None).await {
                Ok(answer) => break right(2.0, 1, &answer),
                Err(error) => tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_millis(10))).await,
            }
        }
    });
    answered.await.expect("a new worker answers");
    f.scheduler.shutdown();
}
