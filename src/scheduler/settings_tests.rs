//! What a servable's settings ask of the scheduler: to wait for fuller batches, to be run by the pool. What runs cost is given, so
//! that nothing here depends on how fast the machine is.

use std::time::{Duration, Instant};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    tests::{batching, right, rows, slow, with_lane, with_resources},
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
        (preferring, ResourceSpec::default(), false),
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
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    Home::install(&tracker, stop.clone());
    let asked = Instant::now();
    right(1.0, 1, &f.lane.run(rows(1.0, 1), None).await.unwrap());
    assert!(asked.elapsed() >= Duration::from_millis(300), "it did not wait for more");
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    f.scheduler.shutdown();
}
