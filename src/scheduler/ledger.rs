//! The books of the thread that runs what nobody waits for: what waits, what runs since when, which runs have been given up.
//! Pure: time comes as an argument, threads are numbers. `aside` keeps one behind its lock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What may wait and how long, and when a run is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Requests that may wait.
    pub(crate) requests: usize,
    /// Bytes that they may hold.
    pub(crate) bytes: usize,
    /// What has waited longer is dropped.
    pub(crate) age: Duration,
    /// A run that takes longer is given up, and its thread with it.
    pub(crate) stuck: Duration,
    /// Without work for so long, the thread sleeps until it is woken. Before, it looks by itself: to wake it costs a request
    /// more than everything else.
    pub(crate) linger: Duration,
    /// Threads that may be given up and not have come back. With one more, nothing is run any more.
    pub(crate) lost: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 256,
            bytes: 64 << 20,
            age: Duration::from_secs(2),
            stuck: Duration::from_secs(10),
            linger: Duration::from_secs(10),
            lost: 3,
        }
    }
}

/// What the ledger needs to know about a piece of work.
pub(crate) trait Entry {
    /// Whose work it is: a servable that has a stuck run is given nothing else.
    fn owner(&self) -> u64;
    /// Bytes that it holds.
    fn bytes(&self) -> usize;
    /// When it was offered.
    fn offered(&self) -> Instant;
}

/// The number of a thread: grows whenever one is replaced.
pub(crate) type Number = u64;

/// The books. `W` is work that waits, `R` what is kept of it while it runs.
#[derive(Debug)]
pub(crate) struct Ledger<W, R> {
    limits: Limits,
    queue: VecDeque<W>,
    bytes: usize,
    /// The thread that works; of the first it is 0.
    current: Number,
    started: bool,
    running: Option<Running<R>>,
    /// Threads that were given up, and whose work they are stuck in.
    lost: Vec<(Number, u64)>,
    /// The thread should let go of what it keeps for servables that are gone.
    purge: bool,
    closed: bool,
}

#[derive(Debug)]
struct Running<R> {
    owner: u64,
    since: Instant,
    rest: R,
}

/// A run that was given up.
#[derive(Debug)]
pub(crate) struct Stuck<W, R> {
    /// What was kept of it.
    pub(crate) rest: R,
    /// What waited and is not run any more: all of the same owner, or everything.
    pub(crate) dropped: Vec<W>,
    /// Too many threads are lost: from now on nothing is run.
    pub(crate) closed: bool,
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offer<W> {
    /// It waits. The thread of this number must be started first, if there is one.
    Taken {
        /// A thread that is not there yet.
        start: Option<Number>,
    },
    /// It was not taken.
    Refused(W),
}

/// What a thread is to do next.
#[derive(Debug)]
pub(crate) enum Next<W> {
    /// Run this, after [`Ledger::begin`].
    Run(W),
    /// Drop what is kept for servables that are gone.
    Purge,
    /// Something waits for the workers to have time.
    Later,
    /// Nothing waits.
    Idle,
    /// End.
    End,
}

impl<W: Entry, R> Ledger<W, R> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            current: 0,
            started: false,
            running: None,
            lost: Vec::new(),
            purge: false,
            closed: false,
        }
    }

    /// Gives up the run that takes too long, if there is one.
    pub(crate) fn watch(&mut self, now: Instant) -> Option<Stuck<W, R>> {
        let overdue = |run: &mut Running<R>| now.saturating_duration_since(run.since) >= self.limits.stuck;
        let Running { owner, rest, .. } = self.running.take_if(overdue)?;
        self.lost.push((self.current, owner));
        self.current += 1;
        self.started = false;
        self.closed |= self.lost.len() > self.limits.lost;
        let closed = self.closed;
        Some(Stuck { rest, dropped: self.remove(|work| closed || work.owner() == owner), closed })
    }

    /// Takes work in, if there is room for it.
    pub(crate) fn offer(&mut self, work: W) -> Offer<W> {
        let stuck = self.lost.iter().any(|(_, owner)| *owner == work.owner());
        let full = self.queue.len() >= self.limits.requests || self.bytes + work.bytes() > self.limits.bytes;
        if self.closed || stuck || full {
            return Offer::Refused(work);
        }
        self.bytes += work.bytes();
        self.queue.push_back(work);
        let start = (!std::mem::replace(&mut self.started, true)).then_some(self.current);
        Offer::Taken { start }
    }

    /// What the thread of this number is to do, and what has waited for too long.
    pub(crate) fn next(&mut self, thread: Number, now: Instant, busy: bool) -> (Next<W>, Vec<W>) {
        if self.closed || thread != self.current {
            return (Next::End, Vec::new());
        }
        if std::mem::take(&mut self.purge) {
            return (Next::Purge, Vec::new());
        }
        let age = self.limits.age;
        // The oldest is first.
        let late = self.queue.iter().take_while(|work| now.saturating_duration_since(work.offered()) > age).count();
        let late: Vec<W> = self.queue.drain(..late).collect();
        self.bytes -= late.iter().map(Entry::bytes).sum::<usize>();
        if busy && !self.queue.is_empty() {
            return (Next::Later, late);
        }
        let next = self.queue.pop_front().map_or(Next::Idle, |work| {
            self.bytes -= work.bytes();
            Next::Run(work)
        });
        (next, late)
    }

    /// The current thread begins a run.
    pub(crate) fn begin(&mut self, owner: u64, since: Instant, rest: R) {
        self.running = Some(Running { owner, since, rest });
    }

    /// A run has ended; `None` when it had been given up, and then its thread must end.
    pub(crate) fn end(&mut self, thread: Number) -> Option<R> {
        if thread == self.current {
            return self.running.take().map(|run| run.rest);
        }
        self.lost.retain(|(lost, _)| *lost != thread);
        None
    }

    /// Drops the work of a servable that is gone.
    pub(crate) fn forget(&mut self, owner: u64) -> Vec<W> {
        self.purge = self.started;
        self.remove(|work| work.owner() == owner)
    }

    /// Nothing is run any more. Returns what waited.
    pub(crate) fn close(&mut self) -> Vec<W> {
        self.closed = true;
        self.remove(|_| true)
    }

    fn remove(&mut self, gone: impl Fn(&W) -> bool) -> Vec<W> {
        let (gone, kept) = std::mem::take(&mut self.queue).into_iter().partition(gone);
        self.queue = kept;
        self.bytes = self.queue.iter().map(Entry::bytes).sum();
        Vec::from(gone)
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
