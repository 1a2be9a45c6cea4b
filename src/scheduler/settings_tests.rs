//! What a servable's settings ask of the scheduler: to wait for fuller batches, to be run by the pool. What runs cost is given, so
//! that nothing here depends on how fast the machine is.

use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::{
    tests::{IoThread, batching, right, rows, slow, until, with_lane, with_resources},
    *,
};

#[tokio::test]
async fn what_only_the_pool_can_honour_keeps_cheap_batches_there() {
    let cheap = || SchedulerOptions { local_below: Duration::MAX, ..slow(1) };
    let delayed = BatchingSpec { max_queue_delay: Duration::from_millis(300), ..batching(8) };
    let preferring = BatchingSpec { preferred_batch_size: vec![4], ..batching(8) };
    let one = ResourceSpec { max_parallel_batches: 1, ..ResourceSpec::default() };
    let all = [
        (batching(8), ResourceSpec::default(), true),
        (delayed.clone(), ResourceSpec::default(), false),
        // Nothing waits for a preferred size without a delay.
        (preferring, ResourceSpec::default(), true),
        (batching(8), one, false),
    ];
    for (spec, resources, local) in all {
        let f = with_resources(cheap(), spec.clone(), resources);
        f.warm().await;
        assert_eq!(f.lane.is_local(), local, "{spec:?}");
        f.scheduler.shutdown();
    }
    let f = with_lane(cheap(), delayed, Merging::Proved);
    f.warm().await;
    let here = IoThread::here();
    let asked = Instant::now();
    right(1.0, 1, &f.lane.run(rows(1.0, 1), None).await.unwrap());
    assert!(asked.elapsed() >= Duration::from_millis(300), "it did not wait for more");
    here.leave().await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_batch_waits_for_more_no_longer_than_its_deadlines_allow() {
    // Runs take no time; what they are said to take is far beyond what a slow machine can add.
    let long: fn(usize) -> Duration = |rows| Duration::from_secs(100 * rows as u64);
    let spec = BatchingSpec { max_queue_delay: Duration::from_secs(3600), ..batching(8) };
    let f = with_lane(SchedulerOptions { costs: Some(long), ..slow(2) }, spec, Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    let asked = Instant::now();
    // One row is begun 125 s and a bit before its deadline, two 250 s.
    let answer = tokio::time::timeout(
        Duration::from_secs(60),
        f.lane.run(rows(1.0, 1), Some(asked + Duration::from_millis(125_500))),
    );
    right(1.0, 1, &answer.await.expect("it does not wait for the hour to pass").unwrap());
    assert!(asked.elapsed() >= Duration::from_millis(498), "it did not wait for more");
    let lane = f.lane.clone();
    let patient = TaskTracker::new().spawn(async move { lane.run(rows(2.0, 1), None).await });
    until("one waits that has all the time", || f.lane.queued_rows() == 1).await;
    let answer = tokio::time::timeout(
        Duration::from_secs(60),
        f.lane.run(rows(3.0, 1), Some(Instant::now() + Duration::from_millis(250_500))),
    );
    right(3.0, 1, &answer.await.expect("who comes later and has less time sets the time").unwrap());
    right(2.0, 1, &patient.await.unwrap().unwrap());
    assert_eq!(f.script.batches()[before..], [1, 2]);
    f.scheduler.shutdown();
}
