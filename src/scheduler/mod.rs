//! Layer 4: many requests into one batch.
//!
//! A [`Lane`] is a servable's way into the scheduler. A request goes down one of two lanes, chosen by what the servable's batches
//! cost: cheap ones are run on the I/O thread they came in on (`local`), dear ones by a shared pool of workers (`pool`,
//! `worker`) that ask a pure policy what to run next (`policy`). Both share the pure `queue`, the compiled sizes (`plans`), what
//! runs of them are measured to cost (`profile`), what follows from it for batches (`costs`, `tariff`), and the execution of a
//! batch (`core`, `batch`). What nobody waits for is run beside them, on a
//! thread that may be given up (`aside`, and its books in `ledger`). Answers from workers come back once per batch and
//! I/O thread (`home`). Whether requests may be merged at all is proved at load (`proof`).

mod aside;
mod batch;
mod compiler;
mod core;
mod costs;
mod home;
mod job;
mod lane;
mod ledger;
mod local;
mod plans;
mod policy;
mod pool;
mod profile;
mod proof;
mod queue;
mod tariff;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;

pub(crate) use self::proof::zeros;
use self::{
    aside::Aside,
    compiler::Compiler,
    core::{Core, CoreParts},
    plans::Plans,
    pool::Pool,
};
pub use self::{
    aside::AsideOutcome,
    batch::run_once,
    home::Home,
    lane::{Answer, Lane},
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
    /// What a run of so many rows costs, instead of measuring it: for simulations and tests.
    pub costs: Option<fn(usize) -> Duration>,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self { workers: 0, local_below: Duration::from_micros(100), load_budget: Duration::from_secs(2), costs: None }
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
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let pool = Arc::new(Pool::default());
        let threads = (0..workers)
            .map(|index| {
                let pool = Arc::clone(&pool);
                std::thread::Builder::new().name(format!("weir-worker-{index}")).spawn(move || worker::work(&pool))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let compiler = Compiler::start(options.load_budget)?;
        let aside = Arc::new(Aside::new(Arc::clone(&pool), workers));
        Ok(Arc::new(Self {
            pool,
            aside,
            compiler,
            workers,
            local_below: options.local_below,
            costs: options.costs,
            threads: Mutex::new(threads),
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

    /// Makes a servable's lane: compiles the first size now, the others off the path.
    ///
    /// # Errors
    /// When the engine cannot compile the model.
    pub fn lane(self: &Arc<Self>, parts: LaneParts) -> Result<Lane, LoadError> {
        let batched = parts.model.signature().batch == Batch::Rows;
        let plans = Plans::new(Arc::clone(&parts.model), batched)?;
        let parallel = match parts.resources.max_parallel_batches {
            0 => self.workers,
            batches => batches,
        };
        let core = Arc::new(Core::new(CoreParts {
            key: self.next_key.fetch_add(1, Ordering::Relaxed),
            id: parts.id,
            model: parts.model,
            merging: parts.merging,
            batching: parts.batching,
            parallel,
            local_below: self.local_below,
            costs: self.costs,
            series: parts.series,
            plans,
        }));
        self.pool.add(Arc::clone(&core));
        self.compiler.enqueue(&core);
        Ok(Lane::new(core, Arc::clone(&self.pool), Arc::clone(&self.aside)))
    }

    /// Runs what still waits, then ends the workers. Blocks until they have ended.
    pub fn shutdown(&self) {
        self.aside.stop();
        self.pool.stop();
        self.compiler.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A worker contains panics of the models it runs; a panic of its own has been logged by the hook.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("workers", &self.workers).finish_non_exhaustive()
    }
}
