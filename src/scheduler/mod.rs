//! Layer 4: many requests into one batch.
//!
//! A [`Lane`] is a servable's way into the scheduler. A request goes down one of two lanes, chosen by what the servable's batches
//! cost: cheap ones are run on the I/O thread they came in on (`local`), dear ones by a shared pool of workers that ask a pure
//! policy what to run next. Both share the queue, the measured costs and the execution of a batch.
//!
//! | file | what |
//! |---|---|
//! | `lane`, `admission`, `room` | the way in: whether a request may wait, and how many may |
//! | `queue`, `taking` | what waits, and which of it makes up the next batch (pure) |
//! | `local`, `home`, `mailbox` | the local lane, and the way back to an I/O thread |
//! | `pool`, `hand`, `policy`, `load`, `meeting` | the pool lane: whose turn it is (pure), what it looks like from outside, who is woken |
//! | `worker`, `watchdog`, `promise` | those who run its batches, those who watch them, and who answers when both could |
//! | `core`, `answering`, `batch`, `job`, `sessions` | one servable, and the execution of a batch |
//! | `circuit` | whether a servable that fails is asked at all |
//! | `plans`, `compiler` | the compiled sizes |
//! | `profile`, `costs`, `tariff` | what runs cost as measured, what follows from it for batches (pure), and both kept up to date |
//! | `proof` | whether requests may be merged at all |
//! | `aside`, `ledger` | what nobody waits for, on a thread that may be given up |
//! | `seldom` | what would be said too often |
//! | `sync`, `checked` | the locks of what is model-checked, and the checks |

mod admission;
mod answering;
mod aside;
mod batch;
mod circuit;
mod compiler;
mod core;
mod costs;
mod hand;
mod home;
mod job;
mod lane;
mod ledger;
mod load;
mod local;
mod mailbox;
mod meeting;
mod plans;
mod policy;
mod pool;
mod profile;
mod promise;
mod proof;
mod queue;
mod room;
mod seldom;
mod sessions;
mod sync;
mod tariff;
mod watchdog;
mod worker;

#[cfg(test)]
mod checked;
#[cfg(test)]
mod circuit_tests;
#[cfg(test)]
mod last_look_tests;
#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod settings_tests;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use self::proof::zeros;
use self::{
    aside::Aside,
    circuit::Bell,
    compiler::Compiler,
    core::{Core, CoreParts},
    plans::Plans,
    pool::Pool,
    watchdog::Watchdog,
};
pub use self::{
    aside::AsideOutcome,
    batch::run_once,
    circuit::CircuitState,
    home::{Guest, Guests, Home},
    lane::{Answer, Lane, Terms},
    proof::prove,
};
use crate::{
    engine::{LoadError, Model},
    observe::ServableSeries,
    types::{Batch, BatchingSpec, ResourceSpec, ServableId},
};

/// Whether requests to a servable may share a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merging {
    /// Rows were run alone, together, permuted and padded, and did not move.
    Proved,
    /// The operator set a batch size and thereby vouches for it.
    Vouched,
    /// Requests are run whole; the text says why.
    Off(Arc<str>),
    /// The model has no batch dimension.
    NoBatch,
}

impl Merging {
    /// True when requests may share a batch.
    pub(crate) fn merges(&self) -> bool {
        matches!(self, Merging::Proved | Merging::Vouched)
    }

    /// Why requests are not merged; `None` when they are.
    pub fn off_because(&self) -> Option<Arc<str>> {
        match self {
            Merging::Proved | Merging::Vouched => None,
            Merging::Off(reason) => Some(Arc::clone(reason)),
            Merging::NoBatch => Some("the model has no batch dimension".into()),
        }
    }
}

/// What a lane is made from.
pub struct LaneParts {
    /// The servable.
    pub id: ServableId,
    /// Its model.
    pub model: Arc<dyn Model>,
    /// Whether its requests may be merged.
    pub merging: Merging,
    /// How they are merged.
    pub batching: BatchingSpec,
    /// What it may use.
    pub resources: ResourceSpec,
    /// Its metrics.
    pub series: Arc<ServableSeries>,
}

impl fmt::Debug for LaneParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneParts").field("id", &self.id).field("merging", &self.merging).finish_non_exhaustive()
    }
}

/// How a scheduler works.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerOptions {
    /// Worker threads; 0 = one per core.
    pub workers: usize,
    /// Servables whose dearest batch is cheaper than this are run on the I/O threads. A hop to a worker costs a request about
    /// what a batch of this length costs the other requests of the thread.
    pub local_below: Duration,
    /// Time that compiling further batch sizes may take per servable; what is not compiled by then is covered by smaller sizes.
    pub load_budget: Duration,
    /// Tenants with rows waiting for one servable that are told apart; those beyond it share.
    pub max_tenants: usize,
    /// What a run of so many rows costs, instead of measuring it: for simulations and tests.
    pub costs: Option<fn(usize) -> Duration>,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            workers: 0,
            local_below: Duration::from_micros(100),
            load_budget: Duration::from_secs(2),
            costs: None,
            max_tenants: 256,
        }
    }
}

/// The shared workers. One per process; [`Scheduler::shutdown`] ends them.
pub struct Scheduler {
    pool: Arc<Pool>,
    aside: Arc<Aside>,
    compiler: Compiler,
    workers: usize,
    local_below: Duration,
    costs: Option<fn(usize) -> Duration>,
    watchdog: Watchdog,
    max_tenants: usize,
    bell: Arc<Bell>,
    next_key: AtomicU64,
}

impl Scheduler {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// When the machine refuses a thread.
    pub fn start(options: SchedulerOptions) -> std::io::Result<Arc<Self>> {
        let workers = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let (pool, hands) = Pool::new(workers);
        let pool = Arc::new(pool);
        let watchdog = Watchdog::start(&pool, hands)?;
        let compiler = Compiler::start(options.load_budget)?;
        let aside = Arc::new(Aside::new(Arc::clone(&pool), workers));
        Ok(Arc::new(Self {
            pool,
            aside,
            compiler,
            workers,
            local_below: options.local_below,
            costs: options.costs,
            watchdog,
            max_tenants: options.max_tenants,
            bell: Arc::default(),
            next_key: AtomicU64::new(1),
        }))
    }

    /// Worker threads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The share of the workers that run a batch now, 0 to 1.
    pub fn saturation(&self) -> f64 {
        self.pool.running() as f64 / self.workers.max(1) as f64
    }

    /// Calls `heard` whenever the circuit of some servable has opened, closed or let a request through, on whatever thread that
    /// happened: it must not block.
    pub fn follow_circuits(&self, heard: impl Fn() + Send + 'static) {
        self.bell.follow(heard);
    }

    /// Makes a servable's lane: compiles the first size now, the others off the path.
    ///
    /// # Errors
    /// When the engine cannot compile the model.
    pub fn lane(self: &Arc<Self>, parts: LaneParts) -> Result<Lane, LoadError> {
        self.lane_after(parts, Duration::ZERO)
    }

    /// The same where compiling one size is known to have taken so long: what the others are expected to take.
    ///
    /// # Errors
    /// When the engine cannot compile the model.
    pub fn lane_after(self: &Arc<Self>, parts: LaneParts, compile: Duration) -> Result<Lane, LoadError> {
        let batched = parts.model.signature().batch == Batch::Rows;
        let plans = Plans::new(Arc::clone(&parts.model), batched, parts.resources.max_plan_bytes)?;
        let core = Arc::new(Core::new(CoreParts {
            key: self.next_key.fetch_add(1, Ordering::Relaxed),
            id: parts.id,
            model: parts.model,
            merging: parts.merging,
            batching: parts.batching,
            resources: parts.resources,
            workers: self.workers,
            max_tenants: self.max_tenants,
            local_below: self.local_below,
            costs: self.costs,
            series: parts.series,
            plans,
            bell: Arc::clone(&self.bell),
        }));
        self.pool.add(Arc::clone(&core));
        self.compiler.enqueue(&core, compile);
        Ok(Lane::new(core, Arc::clone(&self.pool), Arc::clone(&self.aside)))
    }

    /// Runs what still waits, then ends the workers. Blocks until they have ended.
    pub fn shutdown(&self) {
        self.aside.stop();
        self.watchdog.stop();
        self.compiler.stop();
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("workers", &self.workers).finish_non_exhaustive()
    }
}
