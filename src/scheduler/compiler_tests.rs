//! Which sizes are compiled within a time, by a clock that only moves where the test says so.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::{
    engine::{
        LoadError, Model, Plan,
        fake::{FakeEngine, Script},
    },
    observe::Metrics,
    scheduler::{Lane, LaneParts, Merging, Scheduler, SchedulerOptions},
    types::{BatchingSpec, ModelName, ResourceSpec, ServableId, Signature, Version},
};

/// A model for which it takes some milliseconds to compile a size, by a clock of its own.
struct Dear {
    inner: Box<dyn Model>,
    clock: Arc<AtomicU64>,
    takes: fn(usize) -> u64,
}

impl Model for Dear {
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        self.clock.fetch_add((self.takes)(rows.unwrap_or(1)), Relaxed);
        self.inner.plan(rows)
    }
}

/// The sizes that are compiled within a second where the first took `first`, and when all that ended.
fn compiled(takes: fn(usize) -> u64, first: Duration) -> (Vec<usize>, Duration) {
    let clock = Arc::new(AtomicU64::new(0));
    // The scheduler's own compiler has no time: what is compiled is compiled here.
    let options = SchedulerOptions { workers: 1, load_budget: Duration::ZERO, ..SchedulerOptions::default() };
    let scheduler = Scheduler::start(options).unwrap();
    let id = ServableId { model: ModelName::parse("dear").unwrap(), version: Version::ONE };
    let series = Metrics::new().servable(&id, "fake", "", None);
    let inner = FakeEngine::new(Script::default(), 1).model();
    let model = Arc::new(Dear { inner, clock: Arc::clone(&clock), takes });
    let batching = BatchingSpec { max_batch_size: BatchLimit::Rows(64), ..BatchingSpec::default() };
    let (merging, resources) = (Merging::Proved, ResourceSpec::default());
    let lane: Lane = scheduler.lane(LaneParts { id, model, merging, batching, resources, series }).unwrap();
    scheduler.shutdown();
    assert_eq!(lane.compiled_sizes(), [1]);
    clock.store(0, Relaxed);
    let elapsed = || Duration::from_millis(clock.load(Relaxed));
    let allowance = Allowance { budget: Duration::from_secs(1), elapsed: &elapsed };
    prepare(&Arc::downgrade(&lane.inner.core), first, allowance).unwrap();
    (lane.compiled_sizes(), elapsed())
}

#[test]
fn no_size_is_begun_that_is_expected_to_end_late() {
    let ms = Duration::from_millis;
    assert_eq!(compiled(|_| 10, ms(10)), (vec![1, 2, 4, 8, 16, 32, 64], ms(60)));
    // A fourth one would be begun in time, and end after it.
    assert_eq!(compiled(|_| 300, ms(300)), (vec![1, 2, 4, 8], ms(900)));
    // Where the first alone has taken longer than there is time, there is no other.
    assert_eq!(compiled(|_| 300, ms(1200)), (vec![1], ms(0)));
    // What nothing announces is compiled, and nothing after it.
    assert_eq!(compiled(|rows| if rows == 4 { 5000 } else { 1 }, ms(1)), (vec![1, 2, 4], ms(5001)));
}

#[test]
fn runs_are_expected_to_grow_with_their_rows() {
    let ms = Duration::from_millis;
    let last = Spent { rows: 16, compile: ms(100), runs: ms(40) };
    assert_eq!(last.expected(32), ms(180));
    assert_eq!(last.expected(20), ms(150));
}
