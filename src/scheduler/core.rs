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
    batch::{self, Chunk, Gathered, Outputs, Timing},
    circuit::{Bell, Circuit, CircuitState, Limits},
    home::MAX_HOMES,
    job::{Finished, Job, Piece, Shown, Work, expired_in, let_go_of_expired},
    local::LocalQueue,
    plans::Plans,
    queue::{Choice, Queue, Taken},
    room::Room,
    sessions::Sessions,
    tariff::Tariff,
};
use crate::{
    engine::{EngineError, Model, Plan},
    observe::{Reject, ServableSeries, panics},
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

    /// Runs a batch and gives every member its answer.
    pub(crate) fn execute(self: &Arc<Self>, sessions: &mut Sessions, jobs: Vec<Job>, taken: Instant) -> Vec<Finished> {
        let (mut work, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(Job::start).unzip();
        let (results, _) = self.answer(sessions, &mut work, taken);
        replies.into_iter().zip(results).map(|(reply, result)| reply.with(result)).collect()
    }

    /// Runs a batch; the answers of its members in their order. When it fails, members are run once more, singly, and only those
    /// that fail again are told so. Nothing is run while the circuit is open: it was not when they were let in. True when its
    /// failure has opened the circuit.
    pub(crate) fn answer(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        work: &mut [Work],
        taken: Instant,
    ) -> (Vec<Result<Piece, Error>>, bool) {
        if self.circuit.is_open() {
            let error = self.broken(taken);
            work.iter().for_each(|_| self.series.rejected(Reject::Circuit));
            return (work.iter().map(|_| Err(error.clone())).collect(), false);
        }
        self.tariff.ran(taken);
        let mut failed = false;
        let results = match self.attempt(sessions, work) {
            Ok((outputs, timing)) => self.scatter(work, &outputs, (taken, timing)),
            Err(error) if work.len() > 1 => {
                let (rows, again) = (rows_of(work), "batch failed; running its members singly");
                if error.is_unfit() {
                    tracing::debug!(model = %self.id, rows, %error, again);
                } else {
                    failed = true;
                    tracing::warn!(model = %self.id, rows, %error, again);
                }
                work.iter_mut().map(|one| self.answer_one(sessions, one, taken)).collect()
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
        // Inputs that do not fit say nothing of the model, and of what has expired nothing was run.
        let unfit = |result: &Result<Piece, Error>| {
            result.as_ref().is_err_and(|error| error.code() == ErrorCode::InvalidArgument)
        };
        if work.iter().zip(&results).all(|(one, result)| unfit(result) || (one.expired && !failed)) {
            self.circuit.undecided(Instant::now());
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
        self.circuit.show(|state| {
            self.series.circuit(match state {
                CircuitState::Closed => 0,
                CircuitState::HalfOpen => 1,
                CircuitState::Open => 2,
            });
        });
    }

    fn answer_one(self: &Arc<Self>, sessions: &mut Sessions, one: &mut Work, taken: Instant) -> Result<Piece, Error> {
        if one.expired {
            return Err(expired_in_execution());
        }
        let one = std::slice::from_mut(one);
        let (outputs, timing) = self.attempt(sessions, one).map_err(|error| self.failed(&error))?;
        let mut pieces = self.scatter(one, &outputs, (taken, timing));
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
                if one.expired {
                    return Err(expired_in_execution());
                }
                match batch::slice(outputs, self.signature.batch, &range) {
                    Ok(outputs) => Ok(Piece { outputs, taken, gathered, computed }),
                    Err(error) => Err(self.failed(&error)),
                }
            })
            .collect()
    }

    /// One run over all jobs, with panics turned into errors. Sessions that were in use are dropped after a failure.
    fn attempt(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        jobs: &mut [Work],
    ) -> Result<(Vec<Tensor>, Timing), EngineError> {
        let run = catch_unwind(AssertUnwindSafe(|| self.run(sessions, jobs)));
        let result = run.unwrap_or_else(|panic| Err(panicked(&*panic)));
        match &result {
            Ok((_, timing)) => match rows_of(jobs) {
                0 => {}
                rows => self.series.batch_ran(rows, timing.gather, timing.compute, timing.scatter),
            },
            Err(error) if error.is_unfit() => {}
            Err(_) => sessions.forget(self.key),
        }
        result
    }

    /// How a batch of `rows` rows is run most cheaply.
    pub(crate) fn chunks(&self, rows: usize) -> impl Iterator<Item = Chunk> + use<> {
        self.chunks_from(0, rows)
    }

    /// The same for those of its rows that have not been run yet.
    fn chunks_from(&self, mut from: usize, rows: usize) -> impl Iterator<Item = Chunk> + use<> {
        self.tariff.runs(rows - from).into_iter().map_while(move |size| {
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

    /// Runs the rows of all jobs, and of those whose time is up at the last moment no more.
    fn run(self: &Arc<Self>, sessions: &mut Sessions, jobs: &mut [Work]) -> Result<(Vec<Tensor>, Timing), EngineError> {
        let rows = rows_of(jobs);
        let earliest = jobs.iter().filter_map(|one| one.deadline).min();
        let (mut outputs, mut timing) = (Outputs::new(&self.signature, rows), Timing::default());
        let whole = self.signature.batch == Batch::Rows && !self.merges();
        let mut chunks = self.chunks_from(0, rows);
        while let Some(chunk) = chunks.next() {
            let mut own;
            let session = if whole {
                own = self.plan(chunk.size)?.session()?;
                own.as_mut()
            } else {
                sessions.get(self, chunk.size, || self.plan(chunk.size))?
            };
            let gathered = batch::gather_chunk(session, &self.signature, jobs, chunk)?;
            if earliest.is_some_and(|deadline| deadline <= gathered.at) {
                let done = gathered.chunk.rows.start;
                if let_go_of_expired(jobs, done, gathered.at) {
                    timing.gather += gathered.took();
                    let rows = rows_of(jobs);
                    if rows == 0 {
                        return Ok((Vec::new(), timing));
                    }
                    outputs.shrink(rows);
                    chunks = self.chunks_from(done, rows);
                    continue;
                }
                self.watch_deadlines(jobs, &gathered);
            }
            let part = batch::run_gathered(session, &self.signature, &gathered, &mut outputs)?;
            timing.add(part);
            self.tariff.record(gathered.chunk.size, part.gather + part.compute + part.scatter, &self.plans);
        }
        let start = Instant::now();
        let tensors = outputs.finish()?;
        timing.scatter += start.elapsed();
        Ok((tensors, timing))
    }

    /// Counts members that are run although their deadline has passed. None gets past the last look: the count stays 0.
    fn watch_deadlines(&self, jobs: &[Work], Gathered { chunk, at, .. }: &Gathered) {
        (0..expired_in(jobs, &chunk.rows, *at)).for_each(|_| self.series.executed_expired());
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

fn rows_of(work: &[Work]) -> usize {
    work.iter().map(|one| one.range.len()).sum()
}

/// The failure of a run that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    EngineError::new(format_args!("panicked: {}", panics::text(panic)))
}
