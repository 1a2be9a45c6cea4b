//! A servable's way into the scheduler: reserves a place in its queue, splits a large request, chooses the lane, waits for the
//! answer, and takes the rows along when the caller leaves. Held by the registry's servables, used by the gateway.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{
    Merging,
    aside::{Aside, AsideOutcome, Work},
    core::{Core, expired_in_execution, expired_in_queue},
    home::Home,
    job::{Job, Piece, Slot, key_of},
    local,
    pool::Pool,
    proof::concat,
};
use crate::types::{Batch, Error, ErrorCode, Rows, Stamps, Tensor};

/// A servable's handle on the scheduler. Clones share it; the last one to go takes the servable out of the pool.
#[derive(Clone)]
pub struct Lane {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pool: Arc<Pool>,
    aside: Arc<Aside>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.remove(self.core.key);
        self.aside.forget(self.core.key);
    }
}

/// An answer of a servable.
#[derive(Debug)]
pub struct Answer {
    /// One tensor per model output, in the model's order.
    pub outputs: Vec<Tensor>,
    /// When it was queued, taken, gathered and computed; `received` is when it was queued, `scattered` when it was back.
    pub stamps: Stamps,
}

impl Lane {
    pub(crate) fn new(core: Arc<Core>, pool: Arc<Pool>, aside: Arc<Aside>) -> Self {
        Self { inner: Arc::new(Inner { core, pool, aside }) }
    }

    /// Rows in the largest batch that is formed.
    pub fn batch_limit(&self) -> usize {
        self.inner.core.tariff.limit()
    }

    /// Whether requests share batches.
    pub fn merging(&self) -> &Merging {
        &self.inner.core.merging
    }

    /// Rows that wait now.
    pub fn queued_rows(&self) -> usize {
        self.inner.core.queued.load(Ordering::Relaxed)
    }

    /// Batch sizes that are compiled, ascending.
    pub fn compiled_sizes(&self) -> Vec<usize> {
        self.inner.core.plans.sizes()
    }

    /// What batches cost, as measured: (rows, run time), ascending.
    pub fn profile(&self) -> Vec<(usize, Duration)> {
        self.inner.core.tariff.table()
    }

    /// True when batches are run on the I/O threads.
    pub fn is_local(&self) -> bool {
        self.inner.core.tariff.is_cheap()
    }

    /// True when every batch size worth compiling has been compiled and timed.
    pub fn is_warm(&self) -> bool {
        self.inner.core.tariff.is_warm()
    }

    /// Queues the rows and waits for their answer. Dropping the future takes the rows out of the queue.
    ///
    /// # Errors
    /// `Overloaded` when the queue has no room (nothing was executed), `DeadlineExceeded` saying whether the rows were still
    /// waiting, `Unavailable` when the servable is being unloaded, `Internal` when the model failed.
    pub async fn run(&self, rows: Rows, deadline: Option<Instant>) -> Result<Answer, Error> {
        let core = &self.inner.core;
        let queued = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= queued) {
            core.series.rejected(crate::observe::Reject::Deadline);
            return Err(expired_in_queue());
        }
        let Some(slot) = Slot::reserve(core, rows.rows) else {
            core.series.rejected(crate::observe::Reject::QueueFull);
            return Err(self.queue_full());
        };
        let started = deadline.map(|_| Arc::new(AtomicBool::new(false)));
        let common = Common { queued, deadline, started: started.clone(), home: Home::current() };
        let (jobs, replies) = self.jobs(rows, slot, &common);
        let mut guard = Leaving { inner: Some(&self.inner), home: common.home.as_ref().map(|home| home.index()) };
        match common.home.as_deref().and_then(|home| core.local(home.index()).map(|queue| (home, queue))) {
            Some((home, queue)) => local::submit(core, queue, home, jobs.into_iter()),
            None => self.inner.pool.submit(core.key, jobs.into_iter()),
        }
        let pieces = match deadline {
            None => wait(replies).await?,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), wait(replies)).await {
                Ok(pieces) => pieces?,
                Err(_) => return Err(self.missed(started.as_deref())),
            },
        };
        guard.inner = None;
        join(pieces, queued)
    }

    /// False when [`Lane::run_aside`] has just refused work of this servable and would so again: nothing need be prepared.
    pub fn takes_aside(&self, now: Instant) -> bool {
        !self.inner.core.refused_aside.holds(now)
    }

    /// Has the rows run beside everything else, on a thread of its own that has the lowest priority: for answers that nobody
    /// waits for. Never blocks and never fails; `done` is told how it went, exactly once, on whatever thread knows. A run
    /// needs no place in the queue, and neither the profile nor the model's metrics hear of it. `bytes` is what the
    /// rows and `done` keep in memory, `now` the time.
    pub fn run_aside(&self, rows: Rows, bytes: usize, now: Instant, done: impl FnOnce(AsideOutcome) + Send + 'static) {
        let core = Arc::clone(&self.inner.core);
        self.inner.aside.offer(Work { core, rows, bytes, offered: now, done: Box::new(done) });
    }

    /// The caller's own clock ran out: the rows leave the queue with it, or their answer comes too late.
    fn missed(&self, started: Option<&AtomicBool>) -> Error {
        if started.is_some_and(|started| started.load(Ordering::Acquire)) {
            return expired_in_execution();
        }
        self.inner.core.series.rejected(crate::observe::Reject::Deadline);
        expired_in_queue()
    }

    fn queue_full(&self) -> Error {
        let core = &self.inner.core;
        let text = format!("model '{}': queue full: {} rows wait", core.id.model, core.queued.load(Ordering::Relaxed));
        // What waits takes about so long; a caller that comes back sooner finds the queue as full.
        let share = core.batching.max_queue_rows.div_ceil(core.parallel.max(1));
        let wait = core.tariff.cost(share).unwrap_or(Duration::from_millis(100));
        Error::new(ErrorCode::Overloaded, text)
            .with_retry_after(wait.clamp(Duration::from_millis(1), Duration::from_secs(30)))
    }

    /// One job, or several of at most the batch limit where the request is larger and may be split.
    fn jobs(&self, rows: Rows, mut slot: Slot, common: &Common) -> (Few<Job>, Few<Reply>) {
        let core = &self.inner.core;
        let key = key_of(&rows, core.signature.batch, core.fixed);
        let splits = core.signature.batch == Batch::Rows && core.merges();
        let size = if splits { core.tariff.piece(rows.rows, core.parallel) } else { rows.rows };
        let mut jobs = Few::with_capacity(rows.rows.div_ceil(size.max(1)));
        let mut replies = Few::with_capacity(jobs.capacity());
        let mut from = 0;
        while from < rows.rows {
            let to = (from + size).min(rows.rows);
            let (reply, answer) = oneshot::channel();
            jobs.push(Job {
                inputs: Arc::clone(&rows.inputs),
                range: from..to,
                key: key.clone(),
                queued: common.queued,
                deadline: common.deadline,
                started: common.started.clone(),
                slot: Some(slot.split(to - from)),
                reply,
                home: common.home.clone(),
            });
            replies.push(answer);
            from = to;
        }
        (jobs, replies)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lane").field(&self.inner.core).finish()
    }
}

/// Nearly every request is one piece: no allocation for lists of one.
type Few<T> = SmallVec<[T; 1]>;

type Reply = oneshot::Receiver<Result<Piece, Error>>;

struct Common {
    queued: Instant,
    deadline: Option<Instant>,
    started: Option<Arc<AtomicBool>>,
    home: Option<Arc<Home>>,
}

/// Takes the rows out of the queue when the caller leaves before the answer.
struct Leaving<'a> {
    inner: Option<&'a Inner>,
    home: Option<usize>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Some(inner) = self.inner else { return };
        // The receivers are dropped before this guard, so that the queues see whom nobody waits for.
        inner.pool.purge(inner.core.key);
        if self.home.is_some() {
            inner.core.local_queues().for_each(|queue| queue.purge());
        }
    }
}

async fn wait(replies: Few<Reply>) -> Result<Few<Piece>, Error> {
    let mut pieces = Few::with_capacity(replies.len());
    for reply in replies {
        let gone = |_| Error::internal("model: execution failed", "a batch was dropped without an answer");
        pieces.push(reply.await.map_err(gone)??);
    }
    Ok(pieces)
}

/// The pieces of a request as one answer, in order. The stamps are those of the piece that was computed last.
fn join(mut pieces: Few<Piece>, queued: Instant) -> Result<Answer, Error> {
    let failed = |error| Error::internal("model: execution failed", error);
    let stamps = |piece: &Piece| Stamps {
        received: queued,
        queued,
        taken: piece.taken,
        gathered: piece.gathered,
        computed: piece.computed,
        scattered: Instant::now(),
    };
    if pieces.len() == 1
        && let Some(piece) = pieces.pop()
    {
        let stamps = stamps(&piece);
        return Ok(Answer { outputs: piece.outputs, stamps });
    }
    let Some(last) = pieces.iter().max_by_key(|piece| piece.computed) else {
        return Err(failed(crate::engine::EngineError::new("a request without rows")));
    };
    let stamps = stamps(last);
    let outputs = (0..last.outputs.len())
        .map(|index| {
            let parts: Vec<&Tensor> = pieces.iter().filter_map(|piece| piece.outputs.get(index)).collect();
            concat(&parts).map_err(failed)
        })
        .collect::<Result<_, _>>()?;
    Ok(Answer { outputs, stamps })
}
