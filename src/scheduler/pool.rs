//! The pool lane: one queue per servable and a pool of workers behind one short lock. A worker that becomes free asks the policy
//! which servable is next, takes its batch, and only then lets go of the lock; a worker is woken only when one is parked. What
//! waits and who works is also known without the lock (`load`), for requests that ask whether to wait at all.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    core::Core,
    hand::{Hand, Owed, Run},
    job::Job,
    load::{Load, Pace, Sight},
    meeting::{Found, Meeting},
    policy::{self, Account, Hands, Pick, Recent, SLOW, View},
    queue::{Queue, Taken},
};
use crate::types::{Error, nanos};

/// Runs that do not end, of which the workers have been replaced. With one more, a worker is lost for good.
const MOST_REPLACED: usize = 8;

/// Queues and the workers' meeting point.
#[derive(Debug)]
pub(crate) struct Pool {
    meeting: Meeting<State>,
    load: Load,
}

#[derive(Debug, Default)]
struct State {
    lanes: HashMap<u64, PoolLane>,
    /// Servables with waiting work, in the order of the round robin.
    ready: VecDeque<u64>,
    hands: Vec<Hand>,
    recent: Recent,
    stopping: bool,
    /// Grows when a servable goes, so that workers drop its sessions.
    generation: u64,
    /// What everything that waits will take, in nanoseconds.
    waiting: u64,
    /// Threads that were replaced and have not come back.
    replaced: usize,
    pace: Pace,
}

#[derive(Debug)]
struct PoolLane {
    core: Arc<Core>,
    queue: Queue<Job>,
    running: usize,
    account: Account,
    /// What its next batch takes.
    next: Duration,
    /// What everything that waits takes, in nanoseconds.
    waiting: u64,
}

/// A worker thread, as the pool knows it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    token: u64,
    pub(crate) owed: Arc<Owed>,
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

/// A run that does not end.
#[derive(Debug)]
pub(crate) struct Stuck {
    pub(crate) index: usize,
    pub(crate) core: Arc<Core>,
    pub(crate) owed: Arc<Owed>,
    pub(crate) took: Duration,
    /// The worker to start in its place.
    pub(crate) replacement: Option<Worker>,
}

impl Pool {
    /// A pool for so many workers, and what they start with.
    pub(crate) fn new(workers: usize) -> (Self, Vec<Worker>) {
        let pool = Self { meeting: Meeting::default(), load: Load::new(workers) };
        let start = |index| Worker { index, token: 0, owed: Arc::default() };
        let workers: Vec<Worker> = (0..workers).map(start).collect();
        let hands = || workers.iter().map(|worker| Hand::new(Arc::clone(&worker.owed))).collect();
        pool.meeting.announce(|state| state.hands = hands());
        (pool, workers)
    }

    pub(crate) fn add(&self, core: Arc<Core>) {
        let (key, queue) = (core.key, Queue::default());
        let lane = PoolLane { core, queue, running: 0, account: Account::default(), next: Duration::ZERO, waiting: 0 };
        self.meeting.change(|state| (state.lanes.insert(key, lane), false));
    }

    /// Takes a servable out; jobs that still wait are refused.
    pub(crate) fn remove(&self, key: u64) {
        let left = self.meeting.announce(|state| {
            state.generation += 1;
            let left = state.empty(key);
            state.lanes.remove(&key);
            self.load.publish(&state.sight());
            left
        });
        refuse(left, &Error::unavailable("model: unloaded"));
    }

    /// Refuses what waits for a servable.
    pub(crate) fn refuse(&self, key: u64, error: &Error) {
        let left = self.meeting.change(|state| {
            let left = state.empty(key);
            self.load.publish(&state.sight());
            (left, state.stopping)
        });
        left.iter().for_each(|job| job.count_refusal());
        refuse(left, error);
    }

    /// Queues jobs of one servable.
    pub(crate) fn submit(&self, core: &Core, jobs: impl Iterator<Item = Job>) {
        let mut jobs = Some(jobs);
        let now = Instant::now();
        self.meeting.change(|state| {
            let usable = !state.stopping && state.hands.iter().any(|hand| !hand.lost);
            let Some(lane) = state.lanes.get_mut(&core.key).filter(|_| usable) else { return ((), false) };
            let was_empty = lane.queue.is_empty();
            jobs.take().into_iter().flatten().for_each(|job| lane.queue.push(job));
            lane.weigh(&mut state.waiting);
            if lane.next <= SLOW {
                state.recent.note(core.key, now);
            }
            if was_empty {
                state.ready.push_back(core.key);
            }
            self.load.publish(&state.sight());
            ((), true)
        });
        // Nobody there to take them.
        let left: Vec<Job> = jobs.into_iter().flatten().collect();
        refuse(left, &Error::unavailable("server: shutting down"));
    }

    /// Drops the jobs of a servable that nobody waits for. True when there were any.
    pub(crate) fn purge(&self, key: u64) -> bool {
        let gone = self.meeting.change(|state| {
            let gone = state.lanes.get_mut(&key).map(|lane| lane.queue.purge()).unwrap_or_default();
            state.settle(key);
            self.load.publish(&state.sight());
            // With the last of what waited, workers may end.
            (gone, state.stopping)
        });
        !gone.is_empty()
    }

    /// Blocks until there is something to do. `generation` is what the worker has purged up to.
    pub(crate) fn next(&self, worker: &Worker, generation: u64) -> Assignment {
        self.meeting.wait(|state| {
            let more = |state: &State| !state.ready.is_empty();
            if state.generation != generation {
                return Found::Work { work: Assignment::Purge(state.generation), more: more(state) };
            }
            let now = Instant::now();
            let hands = state.free();
            let views = state.ready.iter().filter_map(|key| state.lanes.get(key)).map(|lane| lane.view(&state.recent));
            match policy::pick(views, hands, now) {
                Pick::Run { index, rounds } => match state.take(worker.index, (index, rounds), now) {
                    Some(work) => {
                        self.load.publish(&state.sight());
                        Found::Work { work, more: more(state) }
                    }
                    None => Found::Nothing(Some(now)),
                },
                _ if state.stopping && state.ready.is_empty() => Found::Work { work: Assignment::Stop, more: true },
                Pick::Wait(until) => state.rest(worker.index, Some(until)),
                Pick::Idle => state.rest(worker.index, None),
            }
        })
    }

    /// Says that the worker's batch has ended. False when it has been replaced meanwhile and must end.
    pub(crate) fn done(&self, worker: &Worker) -> bool {
        let now = Instant::now();
        self.meeting.change(|state| {
            let stays = state.release(worker, now);
            self.load.publish(&state.sight());
            // A servable that had all the batches it may have at once may have another.
            (stays, state.stopping || !state.ready.is_empty())
        })
    }

    /// Takes note of runs that have lasted too long. Their workers count no more.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<Stuck> {
        self.meeting.change(|state| {
            let stuck: Vec<Stuck> = (0..state.hands.len()).filter_map(|index| state.give_up(index, now)).collect();
            self.load.publish(&state.sight());
            // As after a batch that has ended.
            let call = !stuck.is_empty() && (state.stopping || !state.ready.is_empty());
            (stuck, call)
        })
    }

    /// Batches that run now.
    pub(crate) fn running(&self) -> usize {
        self.load.running()
    }

    /// What is known without the lock.
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Lets the workers end once nothing waits.
    pub(crate) fn stop(&self) {
        self.meeting.announce(|state| state.stopping = true);
    }
}

fn refuse(left: Vec<Job>, error: &Error) {
    left.into_iter().for_each(|job| job.finish(Err(error.clone())).deliver());
}

impl State {
    fn free(&self) -> Hands {
        let all = self.hands.iter().filter(|hand| !hand.lost);
        Hands { free: all.clone().filter(|hand| hand.run.is_none()).count(), all: all.count() }
    }

    fn sight(&self) -> Sight {
        let runs = self.hands.iter().filter(|hand| !hand.lost).filter_map(|hand| hand.run.as_ref());
        Sight {
            hands: self.free(),
            waiting: self.waiting,
            active: self.ready.len(),
            soonest: runs.map(|run| run.since + run.expected).min(),
            pace: self.pace,
            recent: self.recent,
        }
    }

    /// The worker has nothing to do until then.
    fn rest(&mut self, worker: usize, until: Option<Instant>) -> Found<Assignment> {
        if let Some(hand) = self.hands.get_mut(worker) {
            hand.last = None;
        }
        Found::Nothing(until)
    }

    /// Grants what the pick says, takes a batch of the servable at `index`, and notes that the worker runs it.
    fn take(&mut self, worker: usize, (index, rounds): (usize, u32), at: Instant) -> Option<Assignment> {
        let key = policy::turn(&mut self.ready, (index, rounds), |key, rounds| {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.account.grant(rounds, lane.next);
            }
        })?;
        let lane = self.lanes.get_mut(&key)?;
        let core = Arc::clone(&lane.core);
        let taken = core.take(&mut lane.queue, at);
        let rows = taken.batch.iter().map(super::queue::Waiting::rows).sum();
        let expected = if rows == 0 { Duration::ZERO } else { core.tariff.cost(rows).unwrap_or_default() };
        lane.running += 1;
        lane.account.pay(expected);
        if lane.queue.is_empty() {
            self.ready.retain(|ready| *ready != key);
        }
        lane.weigh(&mut self.waiting);
        let bound = at + core.patience(expected);
        let run = Run { core: Arc::clone(&core), since: at, expected, bound };
        self.hands.get_mut(worker)?.begin(run, &mut self.pace);
        Some(Assignment::Batch { core, taken, at })
    }

    /// Takes everything that waits for a servable.
    fn empty(&mut self, key: u64) -> Vec<Job> {
        let left = self.lanes.get_mut(&key).map(|lane| lane.queue.drain()).unwrap_or_default();
        self.settle(key);
        left
    }

    /// Corrects the books after work has left a servable's queue otherwise than in a batch.
    fn settle(&mut self, key: u64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.weigh(&mut self.waiting);
        if lane.queue.is_empty() {
            self.ready.retain(|ready| *ready != key);
        }
    }

    /// The worker's batch has ended, after as long as it took and not as was expected. False when it was replaced.
    fn release(&mut self, worker: &Worker, now: Instant) -> bool {
        let Some(hand) = self.hands.get_mut(worker.index).filter(|hand| hand.token == worker.token) else {
            self.replaced = self.replaced.saturating_sub(1);
            return false;
        };
        let lost = std::mem::take(&mut hand.lost);
        if let Some(run) = hand.run.take()
            && let Some(lane) = self.lanes.get_mut(&run.core.key).filter(|_| !lost)
        {
            lane.running = lane.running.saturating_sub(1);
            lane.account.correct(run.expected, now.saturating_duration_since(run.since));
        }
        true
    }

    /// The run of a worker, if it has lasted too long.
    fn give_up(&mut self, index: usize, now: Instant) -> Option<Stuck> {
        let replaceable = self.replaced < MOST_REPLACED;
        let hand = self.hands.get_mut(index).filter(|hand| !hand.lost)?;
        let run = hand.run.take_if(|run| run.bound <= now)?;
        let owed = Arc::clone(&hand.owed);
        let replacement = replaceable.then(|| {
            hand.token += 1;
            hand.owed = Arc::default();
            Worker { index, token: hand.token, owed: Arc::clone(&hand.owed) }
        });
        hand.lost = replacement.is_none();
        hand.last = None;
        self.replaced += usize::from(replaceable);
        if let Some(lane) = self.lanes.get_mut(&run.core.key) {
            lane.running = lane.running.saturating_sub(1);
        }
        let took = now.saturating_duration_since(run.since);
        Some(Stuck { index, core: run.core, owed, took, replacement })
    }
}

impl PoolLane {
    fn view(&self, recent: &Recent) -> View {
        let oldest = self.queue.oldest().unwrap_or_else(Instant::now);
        let (rows, delay) = (self.queue.rows(), self.core.batching.max_queue_delay);
        let enough = policy::enough_rows(&self.core.batching, self.core.tariff.limit());
        // Deadlines matter to a batch that waits for more only; few rows wait then.
        let deadline = if rows < enough && !delay.is_zero() { self.queue.earliest_deadline() } else { None };
        View {
            rows,
            enough,
            oldest,
            delay,
            latest: deadline.map(|at| policy::latest_start(at, self.next).unwrap_or(oldest)),
            running: self.running,
            parallel: self.core.parallel,
            cost: self.next,
            deficit: self.account.left(),
            others: recent.other_than(self.core.key),
        }
    }

    /// Works out anew what waits here, and corrects what waits in `all`. A servable that has nothing left keeps no grants.
    fn weigh(&mut self, all: &mut u64) {
        let rows = self.queue.rows();
        let costs = self.core.tariff.costs();
        self.next = costs.cost(rows.min(self.core.tariff.take())).filter(|_| rows > 0).unwrap_or_default();
        if rows == 0 {
            self.account.close();
        }
        let before = self.waiting;
        self.waiting = costs.cost(rows).filter(|_| rows > 0).map_or(0, nanos);
        *all = all.saturating_sub(before).saturating_add(self.waiting);
    }
}
