//! The pool lane: one queue per servable and a pool of workers behind one short lock. A worker that becomes free asks the policy
//! which servable is next, takes its batch, and only then lets go of the lock; a worker is woken only when one is parked.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    core::Core,
    job::Job,
    policy::{self, Pick, View},
    queue::{Queue, Taken},
};
use crate::types::Error;

/// Queues and the workers' meeting point.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    work: Condvar,
    /// Batches that run now, to be read without the lock.
    running: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    lanes: HashMap<u64, PoolLane>,
    /// Servables with waiting work, in round-robin order.
    ready: VecDeque<u64>,
    parked: usize,
    stopping: bool,
    /// Grows when a servable goes, so that workers drop its sessions.
    generation: u64,
}

#[derive(Debug)]
struct PoolLane {
    core: Arc<Core>,
    queue: Queue<Job>,
    running: usize,
}

/// What a worker is to do next.
pub(crate) enum Assignment {
    /// Run this batch, then call [`Pool::done`].
    Batch { core: Arc<Core>, taken: Taken<Job>, at: Instant },
    /// Drop the sessions of servables that are gone.
    Purge(u64),
    /// End.
    Stop,
}

impl Pool {
    pub(crate) fn add(&self, core: Arc<Core>) {
        let lane = PoolLane { core, queue: Queue::default(), running: 0 };
        self.state.lock().lanes.insert(lane.core.key, lane);
    }

    /// Takes a servable out; jobs that still wait are refused.
    pub(crate) fn remove(&self, key: u64) {
        let mut state = self.state.lock();
        let left = state.lanes.remove(&key).map(|mut lane| lane.queue.drain()).unwrap_or_default();
        state.ready.retain(|ready| *ready != key);
        state.generation += 1;
        drop(state);
        self.work.notify_all();
        for job in left {
            job.finish(Err(Error::unavailable("model: unloaded"))).deliver();
        }
    }

    /// Queues jobs of one servable.
    pub(crate) fn submit(&self, key: u64, jobs: impl Iterator<Item = Job>) {
        let mut state = self.state.lock();
        let stopping = state.stopping;
        let Some(lane) = state.lanes.get_mut(&key).filter(|_| !stopping) else {
            drop(state);
            jobs.for_each(|job| job.finish(Err(Error::unavailable("server: shutting down"))).deliver());
            return;
        };
        let was_empty = lane.queue.is_empty();
        jobs.for_each(|job| lane.queue.push(job));
        if was_empty {
            state.ready.push_back(key);
        }
        let wake = state.parked > 0;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Drops the jobs of a servable that nobody waits for.
    pub(crate) fn purge(&self, key: u64) {
        let mut state = self.state.lock();
        let gone = state.lanes.get_mut(&key).map(|lane| lane.queue.purge());
        if state.lanes.get(&key).is_some_and(|lane| lane.queue.is_empty()) {
            state.ready.retain(|ready| *ready != key);
        }
        drop(state);
        drop(gone);
    }

    /// Blocks until there is something to do. `generation` is what the worker has purged up to.
    pub(crate) fn next(&self, generation: u64) -> Assignment {
        let mut state = self.state.lock();
        loop {
            if state.generation != generation {
                return Assignment::Purge(state.generation);
            }
            let now = Instant::now();
            match policy::pick(state.ready.iter().filter_map(|key| state.lanes.get(key)).map(PoolLane::view), now) {
                Pick::Run(index) => {
                    if let Some(assignment) = self.take(&mut state, index, now) {
                        return assignment;
                    }
                }
                _ if state.stopping && state.ready.is_empty() => return Assignment::Stop,
                Pick::Wait(until) => {
                    state.parked += 1;
                    self.work.wait_until(&mut state, until);
                    state.parked -= 1;
                }
                Pick::Idle => {
                    state.parked += 1;
                    self.work.wait(&mut state);
                    state.parked -= 1;
                }
            }
        }
    }

    fn take(&self, state: &mut MutexGuard<'_, State>, index: usize, at: Instant) -> Option<Assignment> {
        let key = state.ready.remove(index)?;
        let lane = state.lanes.get_mut(&key)?;
        let taken = lane.queue.take(lane.core.tariff.take(), at);
        let core = Arc::clone(&lane.core);
        let more = !lane.queue.is_empty();
        lane.running += 1;
        self.running.fetch_add(1, Ordering::Relaxed);
        if more {
            state.ready.push_back(key);
        }
        // One submit wakes one worker; who takes work passes the call on while there is more.
        if !state.ready.is_empty() && state.parked > 0 {
            self.work.notify_one();
        }
        Some(Assignment::Batch { core, taken, at })
    }

    /// Says that a batch of the servable has ended.
    pub(crate) fn done(&self, key: u64) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        if let Some(lane) = state.lanes.get_mut(&key) {
            lane.running = lane.running.saturating_sub(1);
        }
    }

    /// Batches that run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Lets the workers end once nothing waits.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
    }
}

impl PoolLane {
    fn view(&self) -> View {
        View {
            rows: self.queue.rows(),
            enough: policy::enough_rows(&self.core.batching, self.core.tariff.limit()),
            oldest: self.queue.oldest().unwrap_or_else(Instant::now),
            delay: self.core.batching.max_queue_delay,
            running: self.running,
            parallel: self.core.parallel,
        }
    }
}
