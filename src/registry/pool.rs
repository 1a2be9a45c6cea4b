//! The loader threads: a few, each loading one version at a time. The manager hands out no more than there are threads, so
//! nothing queues here, and a load that never ends costs one thread and nothing else.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use parking_lot::Mutex;

use super::{
    inbox::{Finished, Inbox},
    loader::{Loader, Order},
    version::Tried,
};
use crate::engine::loading_thread;

/// A load to be done.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) tried: Tried,
}

/// The threads, seen from the manager.
#[derive(Debug)]
pub(super) struct Loaders {
    jobs: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
    busy: usize,
}

impl Loaders {
    /// Starts `threads` threads, which report to `inbox`.
    ///
    /// # Errors
    /// When the machine refuses a thread.
    pub(super) fn start(threads: usize, loader: Loader, inbox: &Arc<Inbox>) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel(threads);
        let (loader, queue) = (Arc::new(loader), Arc::new(Mutex::new(queue)));
        let threads = (0..threads)
            .map(|index| {
                let (loader, queue, inbox) = (Arc::clone(&loader), Arc::clone(&queue), Arc::clone(inbox));
                let name = format!("weir-loader-{index}");
                loading_thread(name, move || work(&loader, &queue, &inbox))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { jobs, threads, busy: 0 })
    }

    /// Whether another load can begin now.
    pub(super) fn is_free(&self) -> bool {
        self.busy < self.threads.len()
    }

    /// Begins a load. Only when [`Loaders::is_free`].
    pub(super) fn begin(&mut self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => self.busy += 1,
            // As many jobs fit as there are threads, and threads do not end before the manager does.
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                tracing::error!(model = %job.order.id, "no loader thread takes the load");
            }
        }
    }

    /// A load has ended.
    pub(super) fn ended(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// Ends the threads. A load that is going on is not waited for: it ends with the process.
    pub(super) fn stop(self) {
        drop(self.jobs);
        if self.busy == 0 {
            for thread in self.threads {
                // A panic was turned into a load error, or has been logged by the hook.
                drop(thread.join());
            }
        }
    }
}

fn work(loader: &Loader, queue: &Mutex<Receiver<Job>>, inbox: &Inbox) {
    loop {
        // Whoever holds the lock waits for the next job; the others wait for the lock.
        let job = queue.lock().recv();
        let Ok(Job { order, tried }) = job else { return };
        let begun = Instant::now();
        let result = loader.load(&order);
        inbox.finished(Finished { id: order.id, tried, result, took: begun.elapsed() });
    }
}
