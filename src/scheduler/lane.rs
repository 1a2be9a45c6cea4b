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
use tokio::sync::{Notify, oneshot};

use super::{
    Merging,
    admission::{Place, expired_in_execution, expired_in_queue},
    aside::{self, Aside, AsideOutcome},
    circuit::CircuitState,
    core::Core,
    home::Home,
    job::{Job, Piece, Reply, Shown, Work, key_of},
    local,
    pool::Pool,
    proof::concat,
    room::Slot,
};
use crate::{
    observe::Reject,
    types::{Error, Rows, Stamps, Tensor},
};

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

/// On what terms rows are to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// When an answer stops being of use; `None` = never.
    pub deadline: Option<Instant>,
    /// Priority level, 1 is the most urgent; 0, and what the servable has no level for, is its default.
    pub priority: u64,
    /// Whose they are, where tenants share fairly; 0 = nobody's.
    pub tenant: u64,
}

impl From<Option<Instant>> for Terms {
    fn from(deadline: Option<Instant>) -> Self {
        Self { deadline, ..Self::default() }
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
        self.inner.core.room.rows()
    }

    /// Batch sizes that are compiled, ascending.
    pub fn compiled_sizes(&self) -> Vec<usize> {
        self.inner.core.plans.sizes()
    }

    /// What batches cost, as measured: (rows, run time), ascending.
    pub fn profile(&self) -> Vec<(usize, Duration)> {
        self.inner.core.tariff.table()
    }

    /// Whether requests pass, or are refused because the last runs have failed; and how often that has begun.
    pub fn circuit(&self) -> (CircuitState, u64) {
        (self.inner.core.circuit.state(), self.inner.core.circuit.opened())
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
    /// `Overloaded` when there is no room, or the answer would come too late with all that waits already (nothing was
    /// executed); `DeadlineExceeded` saying whether the rows were still waiting, or that the time is too short for any run;
    /// `Unavailable` when the servable is being unloaded or its circuit is open; `Internal` when the model failed.
    pub fn run(&self, rows: Rows, terms: impl Into<Terms>) -> impl Future<Output = Result<Answer, Error>> + Send {
        let terms = terms.into();
        // Not an `async fn`, which would keep what it is given twice; nor is what comes before the wait any part of the future.
        async move {
            let Waiting { replies, failed, started, queued, mut guard } = self.enter(rows, terms)?;
            let pieces = match terms.deadline {
                None => wait(replies, failed).await?,
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), wait(replies, failed)).await {
                    Ok(pieces) => pieces?,
                    Err(_) => return Err(self.missed(started.as_deref())),
                },
            };
            guard.inner = None;
            join(pieces, queued)
        }
    }

    /// Queues the rows.
    fn enter(&self, rows: Rows, terms: Terms) -> Result<Waiting<'_>, Error> {
        let core = &self.inner.core;
        let queued = Instant::now();
        let home = Home::current();
        let local = home.as_ref().and_then(|home| core.local(home.index()).map(|queue| (home, queue)));
        let place = || local.map_or(Place::Pool(self.inner.pool.load()), |(home, queue)| queue.place(home));
        let slot = self.admit(rows.rows, &terms, place, queued)?;
        let started = terms.deadline.map(|_| Arc::new(AtomicBool::new(false)));
        // On the I/O thread itself answers need no way home.
        let sent_to = if local.is_some() { None } else { home.clone() };
        let piece = core.piece(rows.rows);
        let failed = (rows.rows > piece).then(Arc::<Notify>::default);
        let common = Common { queued, terms, piece, started: started.clone(), home: sent_to, failed: failed.clone() };
        let (jobs, replies) = self.jobs(rows, slot, &common);
        match local {
            Some((home, queue)) => local::submit(core, queue, home, jobs.into_iter()),
            None => self.inner.pool.submit(core, jobs.into_iter()),
        }
        let guard = Leaving { inner: Some(&self.inner), home };
        Ok(Waiting { replies, failed, started, queued, guard })
    }

    /// A place in the queue, if there is one and waiting in it makes sense.
    fn admit<'a>(
        &self,
        rows: usize,
        terms: &Terms,
        place: impl FnOnce() -> Place<'a>,
        now: Instant,
    ) -> Result<Slot<Shown>, Error> {
        let core = &self.inner.core;
        let refused = |(reason, error)| {
            core.series.rejected(reason);
            error
        };
        let level = core.level(terms.priority);
        if let Some(deadline) = terms.deadline {
            core.in_time(rows, level, deadline, (place(), now)).map_err(refused)?;
        }
        let slot = core.room.reserve(rows, level, terms.tenant).map_err(|full| refused(core.full(full)))?;
        core.circuit.admit(now).map_err(|wait| refused((Reject::Circuit, core.broken_for(wait))))?;
        if !core.circuit.is_calm() {
            core.show_circuit();
        }
        Ok(slot)
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
        self.inner.aside.offer(aside::Work { core, rows, bytes, offered: now, done: Box::new(done) });
    }

    /// The caller's own clock ran out: the rows leave the queue with it, or their answer comes too late.
    fn missed(&self, started: Option<&AtomicBool>) -> Error {
        if started.is_some_and(|started| started.load(Ordering::Acquire)) {
            return expired_in_execution();
        }
        self.inner.core.series.rejected(crate::observe::Reject::Deadline);
        expired_in_queue()
    }

    /// One job, or several of at most the batch limit where the request is larger and may be split.
    fn jobs(&self, rows: Rows, mut slot: Slot<Shown>, common: &Common) -> (Few<Job>, Few<Pending>) {
        let core = &self.inner.core;
        let key = key_of(&rows, core.signature.batch, core.fixed);
        let size = common.piece;
        let mut jobs = Few::with_capacity(rows.rows.div_ceil(size.max(1)));
        let mut replies = Few::with_capacity(jobs.capacity());
        let mut from = 0;
        while from < rows.rows {
            let to = (from + size).min(rows.rows);
            let (reply, answer) = oneshot::channel();
            let (level, tenant) = (slot.level(), slot.tenant());
            let (started, deadline) = (common.started.clone(), common.terms.deadline);
            jobs.push(Job {
                work: Work { inputs: Arc::clone(&rows.inputs), range: from..to, deadline, started, expired: false },
                key: key.clone(),
                whole: rows.rows,
                queued: common.queued,
                level,
                tenant,
                slot: slot.split(to - from),
                reply: Reply { reply, home: common.home.clone(), failed: common.failed.clone() },
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
pub(super) type Few<T> = SmallVec<[T; 1]>;

pub(super) type Pending = oneshot::Receiver<Result<Piece, Error>>;

/// What the pieces of a request share.
struct Common {
    queued: Instant,
    terms: Terms,
    /// Rows of a piece, at most.
    piece: usize,
    started: Option<Arc<AtomicBool>>,
    home: Option<Arc<Home>>,
    failed: Option<Arc<Notify>>,
}

/// Takes the rows out of the queue when the caller leaves before the answer.
struct Leaving<'a> {
    inner: Option<&'a Inner>,
    home: Option<Arc<Home>>,
}

/// A request whose rows are queued.
struct Waiting<'a> {
    replies: Few<Pending>,
    /// Tells of failures where there are several pieces.
    failed: Option<Arc<Notify>>,
    /// Set when a worker takes the rows, where there is a deadline.
    started: Option<Arc<AtomicBool>>,
    queued: Instant,
    guard: Leaving<'a>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Some(inner) = self.inner else { return };
        // The receivers are dropped before this guard, so that the queues see whom nobody waits for.
        let mut gone = inner.pool.purge(inner.core.key);
        if let Some(home) = &self.home {
            inner.core.local_queues().for_each(|queue| gone |= queue.purge());
            local::left(&inner.core, home);
        }
        if gone {
            inner.core.circuit.undecided(Instant::now());
        }
    }
}

/// The answers to all pieces, or the first failure: whoever is told of it has the rest taken out of the queue. `failed` tells of
/// failures where there are several pieces.
pub(super) async fn wait(mut replies: Few<Pending>, failed: Option<Arc<Notify>>) -> Result<Few<Piece>, Error> {
    let Some(failed) = failed else { return in_order(&mut replies).await };
    tokio::select! {
        biased;
        () = failed.notified() => {}
        pieces = in_order(&mut replies) => return pieces,
    }
    let failure = |reply: &mut Pending| reply.try_recv().ok()?.err();
    Err(replies.iter_mut().find_map(failure).unwrap_or_else(unanswered))
}

async fn in_order(replies: &mut [Pending]) -> Result<Few<Piece>, Error> {
    let mut pieces = Few::with_capacity(replies.len());
    for reply in replies {
        pieces.push(reply.await.map_err(|_| unanswered())??);
    }
    Ok(pieces)
}

fn unanswered() -> Error {
    Error::internal("model: execution failed", "a batch was dropped without an answer")
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
