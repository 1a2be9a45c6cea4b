//! The execution of one batch: every member gets its answer, whatever fails, and the circuit hears of it. Called by workers and
//! the local lanes.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use super::{
    admission::expired_in_execution,
    batch::{self, Chunk, Gathered, Outputs, Timing},
    circuit::CircuitState,
    core::{Core, panicked},
    job::{Finished, Job, Piece, Work, expired_in, let_go_of_expired},
    sessions::Sessions,
};
use crate::{
    engine::{EngineError, Plan},
    observe::Reject,
    types::{Batch, Error, ErrorCode, Tensor},
};

impl Core {
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
        let mut failed = false;
        let results = match self.attempt(sessions, work) {
            Ok((outputs, timing)) => self.scatter(work, &outputs, (taken, timing)),
            Err(error) => {
                failed = !error.is_unfit();
                if work.len() > 1 {
                    self.answer_singly(sessions, work, taken, &error)
                } else {
                    vec![Err(self.failed(&error))]
                }
            }
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

    /// The members of a batch that has failed. Its error is not theirs even where it is about sizes: a tensor that is too large
    /// for the batch need not be for one of them. What an engine has refused it remembers.
    fn answer_singly(
        self: &Arc<Self>,
        sessions: &mut Sessions,
        work: &mut [Work],
        taken: Instant,
        error: &EngineError,
    ) -> Vec<Result<Piece, Error>> {
        let (rows, again) = (rows_of(work), "batch failed; running its members singly");
        if error.is_unfit() {
            tracing::debug!(model = %self.id, rows, %error, again);
        } else {
            tracing::warn!(model = %self.id, rows, %error, again);
        }
        work.iter_mut().map(|one| self.answer_one(sessions, one, taken)).collect()
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
            if let Some(unsaid) = self.unfit.say(Instant::now()) {
                tracing::warn!(model = %self.id, %error, unsaid, "inputs do not fit the model");
            }
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
                    if jobs.iter().all(|one| one.expired) {
                        return Ok((Vec::new(), timing));
                    }
                    outputs.shrink(rows);
                    chunks = self.chunks_from(done, rows);
                    continue;
                }
                self.watch_deadlines(jobs, &gathered);
            }
            self.tariff.ran(gathered.at);
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

fn rows_of(work: &[Work]) -> usize {
    work.iter().map(|one| one.range.len()).sum()
}
