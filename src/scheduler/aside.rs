//! A thread for work that nobody waits for, so that it costs nobody anything: answers of shadows. It has sessions of its own and
//! the lowest priority, runs nothing while the workers are busy, and may be lost: when a run does not end, the thread is given
//! up, replaced a few times, and then there is none any more. Started with the first work. Called by lanes.
//!
//! The lock is never held for longer than it takes to move an entry, but the thread may be put aside by the system while it
//! holds it, at its low priority perhaps for long. Requests therefore try for about a microsecond and then go on without.

use std::{
    hint,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    batch::{Chunk, Outputs, Whole, run_chunk},
    core::{Core, panicked},
    ledger::{Entry, Ledger, Limits, Next, Number, Offer, Stuck},
    pool::Pool,
    sessions::Sessions,
};
use crate::{
    engine::EngineError,
    observe::panics,
    types::{Batch, Error, Rows, Tensor, nanos},
};

/// After a refusal the servable's next work is refused unseen for so long: a shadow that takes nothing must not even cost the
/// hand-over. Short enough to find a stuck run in time.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a request tries for the lock.
const TRIES: usize = 64;
/// How long the thread sleeps before it looks again, while the workers are busy or there was work lately.
const NAP: Duration = Duration::from_millis(2);
/// The same when there was no work for a moment.
const LONG_NAP: Duration = Duration::from_millis(20);
/// How long a run may still take at shutdown.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Sessions that are kept; beyond it they are made anew.
const MAX_SESSIONS: usize = 32;
/// The lowest priority that threads can have.
const NICE: i32 = 19;

/// What became of work that nobody waits for.
#[derive(Debug)]
pub enum AsideOutcome {
    /// It was run.
    Answered {
        /// One tensor per model output, in the model's order.
        outputs: Vec<Tensor>,
        /// How long that took, without waiting.
        took: Duration,
    },
    /// The model failed or panicked, or its run does not end.
    Failed(Error),
    /// It was not run: no room, no time, too late, or shut down.
    Dropped,
}

/// Until when a servable's work is refused unseen.
#[derive(Debug)]
pub(crate) struct Refused {
    epoch: Instant,
    /// In nanoseconds after the epoch.
    until: AtomicU64,
}

impl Default for Refused {
    fn default() -> Self {
        Self { epoch: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl Refused {
    /// True when work that is offered now would be refused unseen.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        let until = self.until.load(Relaxed);
        until > 0 && self.since_epoch(now) < until
    }

    fn begin(&self, now: Instant) {
        self.until.store(self.since_epoch(now + PAUSE), Relaxed);
    }

    fn since_epoch(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }
}

/// Told what became of it.
pub(crate) type Done = Box<dyn FnOnce(AsideOutcome) + Send>;

/// Rows to be run when nobody needs the machine.
pub(crate) struct Work {
    /// The servable.
    pub(crate) core: Arc<Core>,
    /// The rows.
    pub(crate) rows: Rows,
    /// What they and `done` keep in memory.
    pub(crate) bytes: usize,
    /// When they were offered.
    pub(crate) offered: Instant,
    /// Told how it went.
    pub(crate) done: Done,
}

impl Entry for Work {
    fn owner(&self) -> u64 {
        self.core.key
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn offered(&self) -> Instant {
        self.offered
    }
}

/// What is kept of work while it runs, for whoever gives it up.
struct Rest {
    core: Arc<Core>,
    done: Done,
}

/// The thread and what waits for it.
pub(crate) struct Aside {
    state: Mutex<State>,
    /// Only for the start and the end.
    thread: Mutex<Option<JoinHandle<()>>>,
    pool: Arc<Pool>,
    workers: usize,
    linger: Duration,
}

struct State {
    ledger: Ledger<Work, Rest>,
    /// Set while the thread sleeps until it is woken.
    asleep: Option<Thread>,
}

impl Aside {
    pub(crate) fn new(pool: Arc<Pool>, workers: usize) -> Self {
        Self::with_limits(pool, workers, Limits::default())
    }

    pub(crate) fn with_limits(pool: Arc<Pool>, workers: usize, limits: Limits) -> Self {
        let state = State { ledger: Ledger::new(limits), asleep: None };
        Self { state: Mutex::new(state), thread: Mutex::default(), pool, workers, linger: limits.linger }
    }

    /// Takes work in, or tells `done` at once that it was dropped.
    pub(crate) fn offer(self: &Arc<Self>, work: Work) {
        let Some(mut state) = self.glance() else { return drop_all([work]) };
        let stuck = state.ledger.watch(work.offered);
        let offer = state.ledger.offer(work);
        let asleep = state.asleep.take();
        drop(state);
        // Everything that takes longer than a moment happens without the lock.
        if let Some(stuck) = stuck {
            give_up(stuck);
        }
        if let Some(thread) = asleep {
            thread.unpark();
        }
        match offer {
            Offer::Refused(work) => {
                work.core.refused_aside.begin(work.offered);
                drop_all([work]);
            }
            Offer::Taken { start: Some(number) } => self.start(number),
            Offer::Taken { start: None } => {}
        }
    }

    /// Lets go of a servable that is gone.
    pub(crate) fn forget(&self, key: u64) {
        let mut state = self.insist();
        let gone = state.ledger.forget(key);
        let asleep = state.asleep.take();
        drop(state);
        if let Some(thread) = asleep {
            thread.unpark();
        }
        drop_all(gone);
    }

    /// Ends the thread. What waits is dropped; a run that does not end within a second is left behind.
    pub(crate) fn stop(&self) {
        let dropped = self.insist().ledger.close();
        drop_all(dropped);
        let Some(thread) = self.thread.lock().take() else { return };
        thread.thread().unpark();
        let asked = Instant::now();
        while !thread.is_finished() && asked.elapsed() < LAST_CALL {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // A panic of its own has been logged by the hook.
            drop(thread.join());
        } else {
            tracing::warn!("a shadow's run does not end; it is left behind");
        }
    }

    fn start(self: &Arc<Self>, number: Number) {
        let aside = Arc::clone(self);
        let spawned = thread::Builder::new().name("weir-shadow".to_owned()).spawn(move || aside.work(number));
        match spawned {
            // A thread that was given up is not joined.
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread for shadows; they are off");
                let dropped = self.insist().ledger.close();
                drop_all(dropped);
            }
        }
    }

    /// The lock, unless another thread holds it for longer than a moment.
    fn glance(&self) -> Option<MutexGuard<'_, State>> {
        (0..TRIES).find_map(|_| {
            let state = self.state.try_lock();
            if state.is_none() {
                hint::spin_loop();
            }
            state
        })
    }

    /// The lock. Nobody ever sleeps in its queue, where it could be handed to a thread that does not run.
    fn insist(&self) -> MutexGuard<'_, State> {
        loop {
            match self.glance() {
                Some(state) => return state,
                None => thread::yield_now(),
            }
        }
    }

    fn work(&self, number: Number) {
        step_back();
        let mut sessions = Sessions::default();
        let mut last = Instant::now();
        loop {
            let busy = self.pool.running() >= self.workers;
            let mut state = self.insist();
            let (next, late) = state.ledger.next(number, Instant::now(), busy);
            match next {
                Next::Run(Work { core, rows, done, .. }) => {
                    state.ledger.begin(core.key, Instant::now(), Rest { core: Arc::clone(&core), done });
                    drop(state);
                    drop_all(late);
                    if !self.run(number, &mut sessions, &core, rows) {
                        return;
                    }
                    last = Instant::now();
                }
                Next::Purge => {
                    drop(state);
                    sessions.purge();
                }
                Next::Later => {
                    drop(state);
                    drop_all(late);
                    thread::park_timeout(NAP);
                }
                Next::Idle if last.elapsed() < self.linger => {
                    drop(state);
                    drop_all(late);
                    thread::park_timeout(if last.elapsed() < LONG_NAP { NAP } else { LONG_NAP });
                }
                Next::Idle => {
                    state.asleep = Some(thread::current());
                    drop(state);
                    drop_all(late);
                    thread::park();
                }
                Next::End => return,
            }
        }
    }

    /// Runs work and tells how it went; false when it had been given up meanwhile.
    fn run(&self, number: Number, sessions: &mut Sessions, core: &Arc<Core>, rows: Rows) -> bool {
        let start = Instant::now();
        let ran = panics::contain(|| run(sessions, core, &rows));
        let took = start.elapsed();
        let ran = ran.unwrap_or_else(|panic| Err(panicked(&*panic)));
        drop(rows);
        if ran.is_err() {
            sessions.forget(core.key);
        }
        let rest = self.insist().ledger.end(number);
        let Some(Rest { done, .. }) = rest else {
            tracing::info!(model = %core.id, ?took, "a shadow's run that had been given up has ended");
            return false;
        };
        let outcome = match ran {
            Ok(outputs) => AsideOutcome::Answered { outputs, took },
            Err(error) => AsideOutcome::Failed(core.failure(error)),
        };
        tell(done, outcome);
        true
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aside").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Gives the calling thread the lowest priority. On Linux the call means the thread; elsewhere it would mean the process.
fn step_back() {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, NICE)
    {
        tracing::debug!(%error, "shadows run at the priority of the process");
    }
}

/// One run over all rows, in sessions that only this thread has.
fn run(sessions: &mut Sessions, core: &Arc<Core>, rows: &Rows) -> Result<Vec<Tensor>, EngineError> {
    let count = if core.signature.batch == Batch::Rows { rows.rows } else { 1 };
    let mut outputs = Outputs::new(&core.signature, count);
    let whole = [Whole(&rows.inputs, count)];
    if core.signature.batch == Batch::Rows && !core.merges() {
        make_room(sessions);
        let session = sessions.get(core, count, || core.plans.unshared(count).map_err(EngineError::new))?;
        run_chunk(session, &core.signature, &whole, &Chunk::whole(count), &mut outputs)?;
    } else {
        for chunk in core.chunks(count) {
            make_room(sessions);
            let session = sessions.get(core, chunk.size, || core.plan(chunk.size))?;
            run_chunk(session, &core.signature, &whole, &chunk, &mut outputs)?;
        }
    }
    outputs.finish()
}

fn make_room(sessions: &mut Sessions) {
    if sessions.len() >= MAX_SESSIONS {
        *sessions = Sessions::default();
    }
}

/// Says that a run does not end, and what follows from it.
fn give_up(stuck: Stuck<Work, Rest>) {
    let Stuck { rest: Rest { core, done }, dropped, closed } = stuck;
    tracing::warn!(model = %core.id, "a shadow's run does not end; it is given up, and its model is shadowed no more until it ends");
    core.series.shadow_stuck();
    if closed {
        tracing::error!("too many shadows' runs do not end: shadows are off");
        core.series.shadow_off();
    }
    tell(done, AsideOutcome::Failed(core.failure("the run does not end")));
    drop_all(dropped);
}

fn drop_all(work: impl IntoIterator<Item = Work>) {
    work.into_iter().for_each(|work| tell(work.done, AsideOutcome::Dropped));
}

fn tell(done: Done, outcome: AsideOutcome) {
    let told = panics::contain(AssertUnwindSafe(|| done(outcome)));
    if let Err(panic) = told {
        tracing::error!("what a shadow answered could not be looked at: panicked: {}", panics::text(panic.as_ref()));
    }
}

#[cfg(test)]
#[path = "aside_tests.rs"]
mod tests;
