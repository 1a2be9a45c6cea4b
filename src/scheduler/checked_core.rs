//! A servable as the checked lanes see it: a batch is one job, costs nothing and succeeds.

use std::time::{Duration, Instant};

use shuttle::thread;

use super::{
    job::{Finished, Job},
    local::LocalQueue,
    queue::{Choice, Queue, Taken},
    sessions::Sessions,
    sync::Arc,
};
use crate::types::BatchingSpec;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) key: u64,
    pub(crate) batching: BatchingSpec,
    pub(crate) parallel: usize,
    pub(crate) tariff: Tariff,
    pub(crate) queue: Arc<LocalQueue>,
}

#[derive(Debug, Default)]
pub(crate) struct Tariff;

impl Tariff {
    pub(crate) fn cost(&self, _rows: usize) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    pub(crate) fn costs(&self) -> &Self {
        self
    }

    pub(crate) fn take(&self) -> usize {
        1
    }

    pub(crate) fn limit(&self) -> usize {
        1
    }
}

impl Core {
    pub(crate) fn new(key: u64, parallel: usize) -> Arc<Self> {
        let (batching, tariff, queue) = (BatchingSpec::default(), Tariff, Arc::default());
        Arc::new(Self { key, batching, parallel, tariff, queue })
    }

    pub(crate) fn take(&self, queue: &mut Queue<Job>, now: Instant) -> Taken<Job> {
        queue.take(Choice { limit: 1, now, cost: &|_| None, doubted: false })
    }

    pub(crate) fn patience(&self, _expected: Duration) -> Duration {
        Duration::from_secs(60)
    }

    pub(crate) fn local(&self, _home: usize) -> Option<&Arc<LocalQueue>> {
        Some(&self.queue)
    }

    pub(crate) fn refuse(&self, expired: Vec<Job>, dropped: Vec<Job>, _now: Instant) -> Vec<Finished> {
        assert!(expired.is_empty() && dropped.is_empty(), "nobody has a deadline");
        Vec::new()
    }

    pub(crate) fn execute(&self, _sessions: &mut Sessions, jobs: Vec<Job>, _taken: Instant) -> Vec<Finished> {
        thread::yield_now();
        jobs.into_iter().map(|job| job.finish(Ok(()))).collect()
    }
}
