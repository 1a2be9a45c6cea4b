//! The local lane: cheap batches are run on the I/O thread that received the requests. A handler pushes and awaits; one drain
//! task per thread and servable runs what waits. The runtime runs tasks in turn, so that when the drain task's turn comes
//! everything that the thread has read by then is in the queue: batches form by themselves, and no thread is crossed. The
//! sockets are not looked at again before a batch runs: what that finds is read, answered and flushed apart from the rest,
//! which costs more system calls than a larger batch saves. Where nobody else is on the thread, and nobody else came when last
//! anybody did, there is nobody to share a batch with, and the handler runs it where it stands. Neither way strands anybody when
//! a caller leaves: the task owns the batch, and a handler that runs one does not wait meanwhile.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    admission::Place,
    core::Core,
    home::Home,
    job::{Finished, Job},
    queue::Queue,
    sessions::Sessions,
    sync::Mutex,
};
use crate::types::nanos;

/// The queue of one servable on one I/O thread.
#[derive(Debug, Default)]
pub(crate) struct LocalQueue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue<Job>,
    draining: bool,
    /// What its next batch takes, in nanoseconds, as its thread was last told.
    turn: u64,
    /// Taken out while a batch runs: whoever drains is the only one to use them.
    sessions: Sessions,
}

/// Queues jobs on the calling thread and sees to it that they are run: at once when they are all that the thread is asked.
pub(crate) fn submit(core: &Arc<Core>, queue: &Arc<LocalQueue>, home: &Arc<Home>, jobs: impl Iterator<Item = Job>) {
    let mut state = queue.state.lock();
    jobs.for_each(|job| state.queue.push(job));
    state.weigh(core, home);
    let draining = std::mem::replace(&mut state.draining, true);
    drop(state);
    if draining || (home.has_one_guest() && !run_one_batch(core, queue, home)) {
        return;
    }
    home.spawn(drain(Arc::clone(core), Arc::clone(queue), Arc::clone(home)));
}

/// Somebody who waited on the calling thread has left.
pub(crate) fn left(core: &Core, home: &Home) {
    if let Some(queue) = core.local(home.index()) {
        queue.state.lock().weigh(core, home);
    }
}

async fn drain(core: Arc<Core>, local: Arc<LocalQueue>, home: Arc<Home>) {
    while run_one_batch(&core, &local, &home) {
        let_others_run().await;
    }
}

/// Goes to the end of the thread's tasks, once. Unlike a yield to the runtime it does not look at the sockets.
async fn let_others_run() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
        let taken = core.take(&mut state.queue, now);
        state.weigh(core, home);
        (taken, std::mem::take(&mut state.sessions))
    };
    core.refuse(taken.expired, taken.dropped, now).into_iter().for_each(Finished::deliver);
    if !taken.batch.is_empty() {
        let finished = core.execute(&mut sessions, taken.batch, now);
        finished.into_iter().for_each(Finished::deliver);
    }
    let mut state = local.state.lock();
    state.sessions = sessions;
    state.draining = !state.queue.is_empty();
    state.draining
}

impl State {
    /// Tells the thread what the next batch takes.
    fn weigh(&mut self, core: &Core, home: &Home) {
        let rows = self.queue.rows().min(core.tariff.take());
        let cost = if rows == 0 { None } else { core.tariff.cost(rows) };
        let turn = cost.map_or(0, nanos);
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

    /// Drops the jobs that nobody waits for. True when there were any.
    pub(crate) fn purge(&self) -> bool {
        let gone = self.state.lock().queue.purge();
        !gone.is_empty()
    }
}
