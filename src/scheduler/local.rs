//! The local lane: cheap batches are run on the I/O thread that received the requests. A handler pushes and awaits; one drain
//! task per thread and servable yields once, so that everything the thread has read by then is in the queue, and runs what
//! waits. Batches form by themselves, no thread is crossed, and an idle request pays nothing: where the last batch was a
//! single request and only one waits again, there is nobody to yield for, and the look at the sockets that a yield costs is
//! saved. The task owns the batch, so a caller that leaves strands nobody.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    admission::Place,
    core::Core,
    home::Home,
    job::{Finished, Job},
    queue::Queue,
    sessions::Sessions,
};

/// The queue of one servable on one I/O thread.
#[derive(Debug, Default)]
pub(crate) struct LocalQueue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue<Job>,
    draining: bool,
    /// Jobs that have been queued since the last batch was taken.
    fresh: usize,
    /// The last batch was one job.
    alone: bool,
    /// What its next batch takes, in nanoseconds, as its thread was last told.
    turn: u64,
    /// Taken out while a batch runs: the drain task is the only one to use them.
    sessions: Sessions,
}

/// Queues jobs on the calling thread and makes sure that its drain task runs.
pub(crate) fn submit(core: &Arc<Core>, queue: &Arc<LocalQueue>, home: &Arc<Home>, jobs: impl Iterator<Item = Job>) {
    let mut state = queue.state.lock();
    for job in jobs {
        state.queue.push(job);
        state.fresh += 1;
    }
    state.weigh(core, home);
    if !std::mem::replace(&mut state.draining, true) {
        home.spawn(drain(Arc::clone(core), Arc::clone(queue), Arc::clone(home)));
    }
}

/// Somebody who waited on the calling thread has left.
pub(crate) fn left(core: &Core, home: &Home) {
    if let Some(queue) = core.local(home.index()) {
        queue.state.lock().weigh(core, home);
    }
}

async fn drain(core: Arc<Core>, local: Arc<LocalQueue>, home: Arc<Home>) {
    let mut company = !local.is_alone();
    loop {
        if company {
            // Lets the driver be polled once more: requests that have arrived by then join the batch. More yields only cost.
            tokio::task::yield_now().await;
        }
        if !run_one_batch(&core, &local, &home) {
            return;
        }
        company = true;
    }
}

/// Runs one batch; false when nothing waits any more.
fn run_one_batch(core: &Arc<Core>, local: &LocalQueue, home: &Home) -> bool {
    let now = Instant::now();
    let (taken, mut sessions) = {
        let mut state = local.state.lock();
        if state.queue.is_empty() {
            state.draining = false;
            state.weigh(core, home);
            return false;
        }
        state.fresh = 0;
        let taken = core.take(&mut state.queue, now);
        state.weigh(core, home);
        (taken, std::mem::take(&mut state.sessions))
    };
    core.refuse(taken.expired, taken.dropped, now).into_iter().for_each(Finished::deliver);
    let alone = taken.batch.len() <= 1;
    if !taken.batch.is_empty() {
        let finished = core.execute(&mut sessions, taken.batch, now);
        finished.into_iter().for_each(Finished::deliver);
    }
    let mut state = local.state.lock();
    state.sessions = sessions;
    state.alone = alone;
    state.draining = !state.queue.is_empty();
    state.draining
}

impl State {
    /// Tells the thread what the next batch takes.
    fn weigh(&mut self, core: &Core, home: &Home) {
        let rows = self.queue.rows().min(core.tariff.take());
        let cost = if rows == 0 { None } else { core.tariff.cost(rows) };
        let turn = cost.map_or(0, |cost| u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX));
        home.turn(std::mem::replace(&mut self.turn, turn), turn);
    }
}

impl LocalQueue {
    /// What a request that comes now would wait for on this thread.
    pub(crate) fn place(&self, home: &Home) -> Place<'static> {
        let state = self.state.lock();
        let others = home.turns().saturating_sub(Duration::from_nanos(state.turn));
        Place::Thread { rows: state.queue.rows(), others }
    }

    /// True when one job waits, as it was the last time.
    fn is_alone(&self) -> bool {
        let state = self.state.lock();
        state.alone && state.fresh == 1
    }

    /// Drops the jobs that nobody waits for.
    pub(crate) fn purge(&self) {
        let gone = self.state.lock().queue.purge();
        drop(gone);
    }
}
