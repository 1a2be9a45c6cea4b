//! One servable as the lanes see it: its plans, limits, counters, and the execution of one batch. Shared by the worker pool and
//! the local lanes.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, Weak, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use super::{
    Merging,
    aside::Refused,
    batch::{self, Chunk, Outputs, Timing},
    home::MAX_HOMES,
    job::{Finished, Job, Piece},
    local::LocalQueue,
    plans::Plans,
    queue::Waiting as _,
    tariff::Tariff,
};
use crate::{
    engine::{EngineError, Model, Plan, Session},
    observe::ServableSeries,
    types::{Batch, BatchingSpec, Error, ErrorCode, ServableId, Signature, Tensor},
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
    pub(crate) queued: Arc<AtomicUsize>,
    pub(crate) series: Arc<ServableSeries>,
    /// Whether there is any use in offering work that nobody waits for.
    pub(crate) refused_aside: Refused,
    locals: Vec<OnceLock<Arc<LocalQueue>>>,
}

/// Everything a core is made from.
pub(crate) struct CoreParts {
    pub(crate) key: u64,
    pub(crate) id: ServableId,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) merging: Merging,
    pub(crate) batching: BatchingSpec,
    pub(crate) parallel: usize,
    pub(crate) local_below: Duration,
    pub(crate) costs: Option<fn(usize) -> Duration>,
    pub(crate) series: Arc<ServableSeries>,
    pub(crate) plans: Plans,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Self {
        let signature = parts.model.signature().clone();
        let merges = matches!(parts.merging, Merging::Proved | Merging::Vouched);
        let tariff = Tariff::new(&parts.batching, merges, parts.local_below, parts.costs);
        let skip = usize::from(signature.batch == Batch::Rows);
        let fixed = signature.inputs.iter().all(|spec| spec.shape.iter().skip(skip).all(Option::is_some));
        Self {
            key: parts.key,
            id: parts.id,
            signature: Arc::new(signature),
            merging: parts.merging,
            batching: parts.batching,
            parallel: parts.parallel,
            fixed,
            plans: parts.plans,
            tariff,
            queued: Arc::default(),
            series: parts.series,
            refused_aside: Refused::default(),
            locals: (0..MAX_HOMES).map(|_| OnceLock::new()).collect(),
        }
    }

    /// True when requests may share a batch and a batch may be split.
    pub(crate) fn merges(&self) -> bool {
        matches!(self.merging, Merging::Proved | Merging::Vouched)
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

    /// Refuses jobs whose deadline passed while they waited.
    pub(crate) fn refuse_expired(&self, expired: Vec<Job>) -> Vec<Finished> {
        expired
            .into_iter()
            .map(|job| {
                self.series.rejected(crate::observe::Reject::Deadline);
                job.finish(Err(expired_in_queue()))
            })
            .collect()
    }

    /// Runs a batch and gives every member its answer. When it fails, members are run once more, singly, and only those that
    /// fail again are told so.
    pub(crate) fn execute(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        mut jobs: Vec<Job>,
        taken: Instant,
    ) -> Vec<Finished> {
        jobs.iter_mut().for_each(Job::start);
        self.watch_deadlines(&jobs, taken);
        match self.attempt(sessions, &jobs) {
            Ok((outputs, timing)) => self.scatter(jobs, &outputs, (taken, timing)),
            Err(error) if jobs.len() > 1 => {
                tracing::warn!(model = %self.id, rows = rows_of(&jobs), %error, "batch failed; running its members singly");
                jobs.into_iter().flat_map(|job| self.execute_one(sessions, job, taken)).collect()
            }
            Err(error) => jobs.into_iter().map(|job| job.finish(Err(self.failed(&error)))).collect(),
        }
    }

    /// Counts work that is run although its deadline has passed: the queue gives none away, so the count stays 0.
    fn watch_deadlines(&self, jobs: &[Job], taken: Instant) {
        let earliest = jobs.iter().filter_map(|job| job.deadline).min();
        if earliest.is_some_and(|deadline| deadline <= taken) {
            self.series.executed_expired();
        }
    }

    fn execute_one(self: &Arc<Self>, sessions: &mut Sessions, job: Job, taken: Instant) -> Vec<Finished> {
        if job.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // The batch that failed used up its time.
            return vec![job.finish(Err(expired_in_execution()))];
        }
        match self.attempt(sessions, std::slice::from_ref(&job)) {
            Ok((outputs, timing)) => self.scatter(vec![job], &outputs, (taken, timing)),
            Err(error) => vec![job.finish(Err(self.failed(&error)))],
        }
    }

    fn failed(&self, error: &EngineError) -> Error {
        tracing::error!(model = %self.id, %error, "the model failed");
        Error::internal(format!("model '{}': execution failed", self.id.model), error)
    }

    fn scatter(&self, jobs: Vec<Job>, outputs: &[Tensor], (taken, timing): (Instant, Timing)) -> Vec<Finished> {
        let gathered = taken + timing.gather;
        let computed = gathered + timing.compute;
        let mut from = 0;
        jobs.into_iter()
            .map(|job| {
                let range = from..from + job.rows();
                from = range.end;
                let piece = match batch::slice(outputs, self.signature.batch, &range) {
                    Ok(outputs) => Ok(Piece { outputs, taken, gathered, computed }),
                    Err(error) => Err(self.failed(&error)),
                };
                job.finish(piece)
            })
            .collect()
    }

    /// One run over all jobs, with panics turned into errors. Sessions that were in use are dropped after a failure.
    fn attempt(self: &Arc<Self>, sessions: &mut Sessions, jobs: &[Job]) -> Result<(Vec<Tensor>, Timing), EngineError> {
        let rows = rows_of(jobs);
        let run = catch_unwind(AssertUnwindSafe(|| self.run(sessions, jobs, rows)));
        let result = run.unwrap_or_else(|panic| Err(EngineError::new(panic_text(panic.as_ref()))));
        match &result {
            Ok((_, timing)) => {
                self.series.batch_ran(rows, timing.gather, timing.compute, timing.scatter);
            }
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
        jobs: &[Job],
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

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("id", &self.id).field("limit", &self.tariff.limit()).finish_non_exhaustive()
    }
}

fn rows_of(jobs: &[Job]) -> usize {
    jobs.iter().map(super::queue::Waiting::rows).sum()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "no message".to_owned()))
}

/// The error of a request whose deadline passed before a worker took it.
pub(crate) fn expired_in_queue() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "deadline: expired in the queue")
}

/// The error of a request whose deadline passed while it was run.
pub(crate) fn expired_in_execution() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "deadline: expired in execution")
}

/// The sessions that one worker or one I/O thread keeps.
#[derive(Default)]
pub(crate) struct Sessions {
    kept: HashMap<(u64, usize), Kept>,
}

struct Kept {
    core: Weak<Core>,
    session: Box<dyn Session>,
}

impl Sessions {
    /// The session of a servable and size; made of `plan` on first use.
    ///
    /// # Errors
    /// When there is no plan or the engine refuses the session.
    pub(crate) fn get(
        &mut self,
        core: &Arc<Core>,
        size: usize,
        plan: impl FnOnce() -> Result<Arc<dyn Plan>, EngineError>,
    ) -> Result<&mut dyn Session, EngineError> {
        match self.kept.entry((core.key, size)) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut().session.as_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let kept = Kept { core: Arc::downgrade(core), session: plan()?.session()? };
                Ok(entry.insert(kept).session.as_mut())
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Drops the sessions of a servable.
    pub(crate) fn forget(&mut self, key: u64) {
        self.kept.retain(|(owner, _), _| *owner != key);
    }

    /// Drops the sessions of servables that are gone.
    pub(crate) fn purge(&mut self) {
        self.kept.retain(|_, kept| kept.core.strong_count() > 0);
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.kept.len())
    }
}
