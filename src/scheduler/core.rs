//! One servable as the lanes see it: its plans, limits, counters, and the execution of one batch. Shared by the worker pool and
//! the local lanes.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{
    Merging,
    admission::expired_in_execution,
    aside::Refused,
    batch::{self, Chunk, Outputs, Timing},
    circuit::{Bell, Circuit, CircuitState, Limits},
    home::MAX_HOMES,
    job::{Finished, Job, Piece, Shown, Work},
    local::LocalQueue,
    plans::Plans,
    queue::{Choice, Queue, Taken},
    room::Room,
    sessions::Sessions,
    tariff::Tariff,
};
use crate::{
    engine::{EngineError, Model, Plan},
    observe::{ServableSeries, panics},
    types::{Batch, BatchingSpec, Error, ErrorCode, ResourceSpec, ServableId, Signature, Tensor},
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
        queue.take(Choice { limit: self.tariff.take(), now, cost: &|rows| costs.cost(rows), doubted })
    }

    /// How long a batch that is expected to take so long may run before it counts as stuck.
    pub(crate) fn patience(&self, expected: Duration) -> Duration {
        self.stuck_after.unwrap_or_else(|| expected.saturating_mul(STUCK_TIMES).max(STUCK_LEAST))
    }

    /// Runs a batch and gives every member its answer.
    pub(crate) fn execute(self: &Arc<Self>, sessions: &mut Sessions, jobs: Vec<Job>, taken: Instant) -> Vec<Finished> {
        let (work, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(Job::start).unzip();
        let (results, _) = self.answer(sessions, &work, taken);
        replies.into_iter().zip(results).map(|(reply, result)| reply.with(result)).collect()
    }

    /// Runs a batch; the answers of its members in their order. When it fails, members are run once more, singly, and only those
    /// that fail again are told so. True when its failure has opened the circuit.
    pub(crate) fn answer(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        work: &[Work],
        taken: Instant,
    ) -> (Vec<Result<Piece, Error>>, bool) {
        self.tariff.ran(taken);
        self.watch_deadlines(work, taken);
        let results = match self.attempt(sessions, work) {
            Ok((outputs, timing)) => self.scatter(work, &outputs, (taken, timing)),
            Err(error) if work.len() > 1 => {
                let (rows, again) = (rows_of(work), "batch failed; running its members singly");
                if error.is_unfit() {
                    tracing::debug!(model = %self.id, rows, %error, again);
                } else {
                    tracing::warn!(model = %self.id, rows, %error, again);
                }
                work.iter().map(|one| self.answer_one(sessions, one, taken)).collect()
            }
            Err(error) => vec![Err(self.failed(&error))],
        };
        if results.iter().any(Result::is_ok) {
            if !self.circuit.is_calm() {
                self.circuit.succeeded();
                self.show_circuit();
            }
            return (results, false);
        }
        // Inputs that do not fit say nothing of the model.
        if results
            .iter()
            .flat_map(|result| result.as_ref().err())
            .all(|error| error.code() == ErrorCode::InvalidArgument)
        {
            return (results, false);
        }
        let opened = self.circuit.failed(Instant::now());
        if opened {
            tracing::error!(model = %self.id, "too many batches have failed in a row: the circuit opens");
            self.show_circuit();
        }
        (results, opened)
    }

    /// Brings the circuit's state to the metrics, and to those who follow readiness.
    pub(crate) fn show_circuit(&self) {
        self.series.circuit(match self.circuit.show() {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        });
    }

    /// Counts work that is run although its deadline has passed: the queue gives none away, so the count stays 0.
    fn watch_deadlines(&self, work: &[Work], taken: Instant) {
        let earliest = work.iter().filter_map(|one| one.deadline).min();
        if earliest.is_some_and(|deadline| deadline <= taken) {
            self.series.executed_expired();
        }
    }

    fn answer_one(self: &Arc<Self>, sessions: &mut Sessions, one: &Work, taken: Instant) -> Result<Piece, Error> {
        if one.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // The batch that failed used up its time.
            return Err(expired_in_execution());
        }
        let (outputs, timing) =
            self.attempt(sessions, std::slice::from_ref(one)).map_err(|error| self.failed(&error))?;
        let mut pieces = self.scatter(std::slice::from_ref(one), &outputs, (taken, timing));
        pieces.pop().unwrap_or_else(|| Err(self.failed(&EngineError::new("no answer"))))
    }

    fn failed(&self, error: &EngineError) -> Error {
        if error.is_unfit() {
            return Error::invalid(format!("model '{}': {error}", self.id.model));
        }
        tracing::error!(model = %self.id, %error, "the model failed");
        self.failure(error)
    }

    /// What callers are told of a run that failed: that it did, and not why.
    pub(crate) fn failure(&self, why: impl fmt::Display) -> Error {
        Error::internal(format!("model '{}': execution failed", self.id.model), why)
    }

    fn scatter(
        &self,
        work: &[Work],
        outputs: &[Tensor],
        (taken, timing): (Instant, Timing),
    ) -> Vec<Result<Piece, Error>> {
        let gathered = taken + timing.gather;
        let computed = gathered + timing.compute;
        let mut from = 0;
        work.iter()
            .map(|one| {
                let range = from..from + one.range.len();
                from = range.end;
                match batch::slice(outputs, self.signature.batch, &range) {
                    Ok(outputs) => Ok(Piece { outputs, taken, gathered, computed }),
                    Err(error) => Err(self.failed(&error)),
                }
            })
            .collect()
    }

    /// One run over all jobs, with panics turned into errors. Sessions that were in use are dropped after a failure.
    fn attempt(self: &Arc<Self>, sessions: &mut Sessions, jobs: &[Work]) -> Result<(Vec<Tensor>, Timing), EngineError> {
        let rows = rows_of(jobs);
        let run = catch_unwind(AssertUnwindSafe(|| self.run(sessions, jobs, rows)));
        let result = run.unwrap_or_else(|panic| Err(panicked(&*panic)));
        match &result {
            Ok((_, timing)) => {
                self.series.batch_ran(rows, timing.gather, timing.compute, timing.scatter);
            }
            Err(error) if error.is_unfit() => {}
            Err(_) => sessions.forget(self.key),
        }
        result
    }

    /// How a batch of `rows` rows is run most cheaply.
    pub(crate) fn chunks(&self, rows: usize) -> impl Iterator<Item = Chunk> + use<> {
        let mut from = 0;
        self.tariff.runs(rows).into_iter().map_while(move |size| {
            let start = from;
            from = rows.min(start + size);
            (start < rows).then_some(Chunk { rows: start..from, size })
        })
    }

    /// The plan of a size: the only one of a model without batch dimension.
    ///
    /// # Errors
    /// When it was dropped and cannot be compiled any more.
    pub(crate) fn plan(&self, size: usize) -> Result<Arc<dyn Plan>, EngineError> {
        self.plans.exact(size).map_err(EngineError::new)
    }

    fn run(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        jobs: &[Work],
        rows: usize,
    ) -> Result<(Vec<Tensor>, Timing), EngineError> {
        let mut outputs = Outputs::new(&self.signature, rows);
        let mut timing = Timing::default();
        let mut add = |size: usize, part: Timing| {
            timing.gather += part.gather;
            timing.compute += part.compute;
            timing.scatter += part.scatter;
            self.tariff.record(size, part.gather + part.compute + part.scatter, &self.plans);
        };
        if self.signature.batch == Batch::Rows && !self.merges() {
            let plan = self.plans.exact(rows).map_err(EngineError::new)?;
            let mut session = plan.session()?;
            let chunk = Chunk::whole(rows);
            add(rows, batch::run_chunk(session.as_mut(), &self.signature, jobs, &chunk, &mut outputs)?);
        } else {
            for chunk in self.chunks(rows) {
                let session = sessions.get(self, chunk.size, || self.plan(chunk.size))?;
                add(chunk.size, batch::run_chunk(session, &self.signature, jobs, &chunk, &mut outputs)?);
            }
        }
        let start = Instant::now();
        let tensors = outputs.finish()?;
        timing.scatter += start.elapsed();
        Ok((tensors, timing))
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).field("limit", &self.tariff.limit()).finish_non_exhaustive()
    }
}

/// True when something is asked for that only the pool can do: waiting for a fuller batch, or a bound on batches at once, which
/// I/O threads would have to agree on.
fn asks_for_pool(batching: &BatchingSpec, resources: &ResourceSpec) -> bool {
    let waits = !batching.max_queue_delay.is_zero() || !batching.preferred_batch_size.is_empty();
    waits || resources.max_parallel_batches > 0
}

fn rows_of(work: &[Work]) -> usize {
    work.iter().map(|one| one.range.len()).sum()
}

/// The failure of a run that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    EngineError::new(format_args!("panicked: {}", panics::text(panic)))
}
