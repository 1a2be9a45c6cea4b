//! One servable as the lanes see it: its plans, limits and counters. Shared by the worker pool and the local lanes.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{
    Merging,
    aside::Refused,
    batch,
    circuit::{Bell, Circuit, Limits},
    home::MAX_HOMES,
    job::{Job, Shown},
    local::LocalQueue,
    plans::Plans,
    queue::{Choice, Queue, Taken},
    room::Room,
    seldom::Seldom,
    tariff::Tariff,
};
use crate::{
    engine::{EngineError, Model, Plan},
    observe::{ServableSeries, panics},
    types::{Batch, BatchingSpec, ResourceSpec, ServableId, Signature},
};

/// A servable's half of the scheduler.
pub(crate) struct Core {
    pub(crate) key: u64,
    pub(crate) id: ServableId,
    pub(crate) signature: Arc<Signature>,
    pub(crate) merging: Merging,
    pub(crate) batching: BatchingSpec,
    /// Batches at once.
    pub(crate) parallel: usize,
    /// True when every dimension but the rows is fixed, so that all requests have one key.
    pub(crate) fixed: bool,
    pub(crate) plans: Plans,
    pub(crate) tariff: Tariff,
    /// What may wait.
    pub(crate) room: Arc<Room<Shown>>,
    pub(crate) circuit: Circuit,
    pub(crate) series: Arc<ServableSeries>,
    /// Whether there is any use in offering work that nobody waits for.
    pub(crate) refused_aside: Refused,
    /// When it is said again that inputs do not fit.
    pub(crate) unfit: Seldom,
    /// A run that lasts longer is stuck; `None` = as the profile says.
    stuck_after: Option<Duration>,
    locals: Vec<OnceLock<Arc<LocalQueue>>>,
}

/// A run that takes so many times what is expected is stuck.
const STUCK_TIMES: u32 = 100;
/// But none that takes less than this.
const STUCK_LEAST: Duration = Duration::from_secs(30);

/// Everything a core is made from.
pub(crate) struct CoreParts {
    pub(crate) key: u64,
    pub(crate) id: ServableId,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) merging: Merging,
    pub(crate) batching: BatchingSpec,
    pub(crate) resources: ResourceSpec,
    /// Workers.
    pub(crate) workers: usize,
    pub(crate) max_tenants: usize,
    pub(crate) local_below: Duration,
    pub(crate) costs: Option<fn(usize) -> Duration>,
    pub(crate) series: Arc<ServableSeries>,
    pub(crate) plans: Plans,
    /// Told when its circuit changes.
    pub(crate) bell: Arc<Bell>,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Self {
        let signature = parts.model.signature().clone();
        let parallel = match parts.resources.max_parallel_batches {
            0 => parts.workers,
            // What is admitted is counted in workers: more than there are run nothing.
            batches => batches.min(parts.workers),
        };
        let (batching, shown) = (&parts.batching, Shown(Arc::clone(&parts.series)));
        let room = Room::new(batching.max_queue_rows, batching.priority_levels as usize, parts.max_tenants, shown);
        let limits = Limits { failures: parts.resources.circuit_failures, pause: parts.resources.circuit_pause };
        let circuit = Circuit::new(limits, parts.bell);
        let local_below = if asks_for_pool(batching, &parts.resources) { Duration::ZERO } else { parts.local_below };
        let tariff = Tariff::new(batching, parts.merging.merges(), local_below, parts.costs);
        let skip = usize::from(signature.batch == Batch::Rows);
        let fixed = signature.inputs.iter().all(|spec| spec.shape.iter().skip(skip).all(Option::is_some));
        Self {
            key: parts.key,
            id: parts.id,
            signature: Arc::new(signature),
            merging: parts.merging,
            batching: parts.batching,
            parallel,
            fixed,
            plans: parts.plans,
            tariff,
            room: Arc::new(room),
            circuit,
            stuck_after: parts.resources.stuck_after,
            series: parts.series,
            refused_aside: Refused::default(),
            unfit: Seldom::default(),
            locals: (0..MAX_HOMES).map(|_| OnceLock::new()).collect(),
        }
    }

    /// True when requests may share a batch and a batch may be split.
    pub(crate) fn merges(&self) -> bool {
        self.merging.merges()
    }

    /// Rows of the pieces that a request of so many rows is cut into.
    pub(crate) fn piece(&self, rows: usize) -> usize {
        let splits = self.signature.batch == Batch::Rows && self.merges();
        if splits { self.tariff.piece(rows, self.parallel) } else { rows }
    }

    /// What a request of so many rows takes where nobody else is about: its pieces are run in turns, one at a time by each of so
    /// many workers. `None` where nothing has been measured.
    pub(crate) fn least(&self, rows: usize, workers: usize) -> Option<Duration> {
        let piece = self.piece(rows).max(1);
        let turns = rows.div_ceil(piece).div_ceil(workers.max(1));
        self.tariff.cost(rows.min(piece.saturating_mul(turns)))
    }

    /// The local queue of an I/O thread, when batches are cheap enough to be run there.
    pub(crate) fn local(&self, home: usize) -> Option<&Arc<LocalQueue>> {
        let slot = if self.tariff.is_cheap() { self.locals.get(home)? } else { return None };
        Some(slot.get_or_init(Arc::default))
    }

    /// Local queues that exist.
    pub(crate) fn local_queues(&self) -> impl Iterator<Item = &Arc<LocalQueue>> {
        self.locals.iter().filter_map(OnceLock::get)
    }

    /// Times the plan of `rows` rows on inputs of zeros, so that lanes and operators know what a batch costs.
    ///
    /// # Errors
    /// When the model cannot run on zeros (an index out of range, say): then it stays unmeasured until it is used.
    pub(crate) fn warm(&self, rows: usize, plan: &Arc<dyn Plan>) -> Result<(), EngineError> {
        let Some(inputs) = super::proof::zeros(&self.signature, rows) else { return Ok(()) };
        let timed = catch_unwind(AssertUnwindSafe(|| batch::time(&self.signature, plan, &inputs)));
        let took = timed.map_err(|_| EngineError::new("panicked while warming up"))??;
        self.tariff.measured(rows, took, &self.plans);
        Ok(())
    }

    /// Takes the next batch of this servable out of a queue.
    pub(crate) fn take(&self, queue: &mut Queue<Job>, now: Instant) -> Taken<Job> {
        let costs = self.tariff.costs();
        let doubted = self.doubts(now);
        let taken = queue.take(Choice { limit: self.tariff.take(), now, cost: &|rows| costs.cost(rows), doubted });
        let gone = [&taken.expired, &taken.dropped, &taken.abandoned];
        if taken.batch.is_empty() && gone.iter().any(|gone| !gone.is_empty()) {
            // Whoever was to find out whether it works again may have been among them.
            self.circuit.undecided(now);
        }
        taken
    }

    /// How long a batch that is expected to take so long may run before it counts as stuck.
    pub(crate) fn patience(&self, expected: Duration) -> Duration {
        self.stuck_after.unwrap_or_else(|| expected.saturating_mul(STUCK_TIMES).max(STUCK_LEAST))
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).field("limit", &self.tariff.limit()).finish_non_exhaustive()
    }
}

/// True when something is asked for that only the pool can do: waiting for a fuller batch, or a bound on batches at once, which
/// I/O threads would have to agree on. Without a delay there is no batch that waits for a preferred size.
fn asks_for_pool(batching: &BatchingSpec, resources: &ResourceSpec) -> bool {
    !batching.max_queue_delay.is_zero() || resources.max_parallel_batches > 0
}

/// The failure of a run that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    EngineError::new(format_args!("panicked: {}", panics::text(panic)))
}
