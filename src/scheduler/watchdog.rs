//! Finds runs that do not end, tells their callers, opens their servables' circuits, and starts other workers in the place of
//! those that are lost to them: one thread that looks a few times a second. What a run may take follows from its servable's
//! profile. A lost thread ends by itself when its run does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    home::send_home,
    pool::{Pool, Stuck, Worker},
    worker::work,
};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// The worker threads and who watches them.
#[derive(Debug)]
pub(crate) struct Watchdog {
    crew: Arc<Crew>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Those that are joined in the end; threads that were given up are not among them.
#[derive(Debug)]
struct Crew {
    pool: Arc<Pool>,
    stopping: AtomicBool,
    threads: Mutex<Vec<(usize, JoinHandle<()>)>>,
}

impl Watchdog {
    /// Starts the workers, and the thread that watches them.
    ///
    /// # Errors
    /// When the machine refuses a thread.
    pub(crate) fn start(pool: &Arc<Pool>, workers: Vec<Worker>) -> io::Result<Self> {
        let crew = Crew { pool: Arc::clone(pool), stopping: AtomicBool::new(false), threads: Mutex::default() };
        let crew = Arc::new(crew);
        for worker in workers {
            crew.hire(worker)?;
        }
        let watching = Arc::clone(&crew);
        let thread = thread::Builder::new().name("weir-watchdog".to_owned()).spawn(move || watching.watch())?;
        Ok(Self { crew, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the workers once nothing waits. Blocks until they have ended.
    pub(crate) fn stop(&self) {
        self.crew.pool.stop();
        // Who is given up meanwhile is not waited for.
        while !self.crew.threads.lock().iter().all(|(_, thread)| thread.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        for (_, thread) in std::mem::take(&mut *self.crew.threads.lock()) {
            // A worker contains panics of the models it runs; a panic of its own has been logged by the hook.
            drop(thread.join());
        }
        self.crew.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

impl Crew {
    fn hire(&self, worker: Worker) -> io::Result<()> {
        let pool = Arc::clone(&self.pool);
        let index = worker.index;
        let name = format!("weir-worker-{index}");
        let thread = thread::Builder::new().name(name).spawn(move || work(&pool, &worker))?;
        self.threads.lock().push((index, thread));
        Ok(())
    }

    fn watch(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.pool.stuck(Instant::now()).into_iter().for_each(|stuck| self.give_up(stuck));
            thread::park_timeout(LOOK);
        }
    }

    /// Tells the callers of a run that does not end, and everybody who waits for its servable.
    fn give_up(&self, Stuck { index, core, owed, took, replacement }: Stuck) {
        let now = Instant::now();
        let replaced = replacement.is_some();
        self.threads.lock().retain(|(known, _)| *known != index);
        tracing::error!(model = %core.id, ?took, replaced, "a run does not end; it is given up");
        core.series.worker_stuck();
        core.circuit.trip(now);
        core.show_circuit();
        let error = core.failure("the run does not end");
        let replies = owed.claim().unwrap_or_default();
        send_home(replies.into_iter().map(|reply| reply.with(Err(error.clone()))).collect());
        self.pool.refuse(core.key, &core.broken(now));
        if let Some(Err(error)) = replacement.map(|worker| self.hire(worker)) {
            tracing::error!(%error, "no thread for another worker");
        }
    }
}
