//! A piece of waiting work and its way back to the caller. Made by a lane for every request (several for a large one), owned
//! by exactly one queue or batch at a time, and finished exactly once.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};

use super::{
    batch::Member,
    home::Home,
    queue::Waiting,
    room::{Slot, Watcher},
};
use crate::{
    observe::{Reject, ServableSeries},
    types::{Batch, Error, Rows, Tensor},
};

/// The sizes of every dimension that may differ between requests of one servable.
pub(crate) type Key = SmallVec<[usize; 4]>;

/// The key of a request: the shapes of its rows.
pub(crate) fn key_of(rows: &Rows, batch: Batch, fixed: bool) -> Key {
    if fixed {
        return Key::new();
    }
    let skip = usize::from(batch == Batch::Rows);
    rows.inputs.iter().flat_map(|tensor| tensor.shape().iter().skip(skip).copied()).collect()
}

/// Shows what waits for a servable in its metrics.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) Arc<ServableSeries>);

impl Watcher for Shown {
    fn came(&self, rows: usize) {
        self.0.queued(rows);
    }

    fn went(&self, rows: usize) {
        self.0.unqueued(rows);
    }

    fn tenants(&self, count: usize) {
        self.0.tenants(count);
    }
}

/// The answer to a job.
#[derive(Debug)]
pub(crate) struct Piece {
    /// One tensor per model output.
    pub(crate) outputs: Vec<Tensor>,
    /// When a worker took it.
    pub(crate) taken: Instant,
    /// When the batch had been gathered.
    pub(crate) gathered: Instant,
    /// When the model had run.
    pub(crate) computed: Instant,
}

/// A piece of waiting work.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) key: Key,
    /// Rows of the request that it is a piece of.
    pub(crate) whole: usize,
    pub(crate) queued: Instant,
    /// Priority level; 1 is the most urgent.
    pub(crate) level: u32,
    /// Whose it is; 0 where nobody is told apart.
    pub(crate) tenant: u64,
    pub(crate) slot: Slot<Shown>,
    pub(crate) reply: Reply,
}

/// What there is to do.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) inputs: Arc<[Tensor]>,
    pub(crate) range: Range<usize>,
    pub(crate) deadline: Option<Instant>,
    /// Set when a worker takes it, for the text of a missed deadline.
    pub(crate) started: Option<Arc<AtomicBool>>,
    /// Its time was up right before its rows would have been run; those of the range that have been run before stay in it.
    pub(crate) expired: bool,
}

/// A last look at a batch of which so many rows have been run, right before the next are: members whose time is up let go of the
/// rest. True when there were any.
pub(crate) fn let_go_of_expired(members: &mut [Work], done: usize, now: Instant) -> bool {
    let (mut end, mut any) = (0, false);
    for one in members {
        let start = end;
        end = start + one.range.len();
        if end > done && !one.expired && one.deadline.is_some_and(|deadline| deadline <= now) {
            end = start.max(done);
            one.range.end = one.range.start + (end - start);
            (one.expired, any) = (true, true);
        }
    }
    any
}

/// How many members with rows in this part of a batch have no time left.
pub(crate) fn expired_in(members: &[Work], part: &Range<usize>, now: Instant) -> usize {
    let mut end = 0;
    let late = |one: &&Work| {
        let start = end;
        end += one.range.len();
        start.max(part.start) < end.min(part.end) && one.deadline.is_some_and(|deadline| deadline <= now)
    };
    members.iter().filter(late).count()
}

/// The way back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) reply: oneshot::Sender<Result<Piece, Error>>,
    pub(crate) home: Option<Arc<Home>>,
    /// Told when the answer is that it failed; where the request has other pieces.
    pub(crate) failed: Option<Arc<Notify>>,
}

impl Job {
    /// Frees its place in the queue and notes that it runs.
    pub(crate) fn start(self) -> (Work, Reply) {
        drop(self.slot);
        if let Some(started) = &self.work.started {
            started.store(true, Ordering::Release);
        }
        (self.work, self.reply)
    }

    /// Its answer, ready to be sent.
    pub(crate) fn finish(self, result: Result<Piece, Error>) -> Finished {
        self.reply.with(result)
    }

    /// Counts that it was refused because of its servable's circuit.
    pub(crate) fn count_refusal(&self) {
        self.slot.watcher().0.rejected(Reject::Circuit);
    }
}

impl Reply {
    /// With an answer, ready to be sent.
    pub(crate) fn with(self, result: Result<Piece, Error>) -> Finished {
        Finished { reply: self, result }
    }
}

impl Waiting for Job {
    type Key = Key;

    fn rows(&self) -> usize {
        self.work.range.len()
    }

    fn key(&self) -> &Key {
        &self.key
    }

    fn deadline(&self) -> Option<Instant> {
        self.work.deadline
    }

    fn queued(&self) -> Instant {
        self.queued
    }

    fn abandoned(&self) -> bool {
        self.reply.reply.is_closed()
    }

    fn level(&self) -> u32 {
        self.level
    }

    fn tenant(&self) -> u64 {
        self.tenant
    }
}

impl Member for Work {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct Finished {
    reply: Reply,
    result: Result<Piece, Error>,
}

impl Finished {
    /// The I/O thread that waits for it.
    pub(crate) fn home(&self) -> Option<&Arc<Home>> {
        self.reply.home.as_ref()
    }

    /// Hands it to whoever waits; a caller that has left is not an error.
    pub(crate) fn deliver(self) {
        let failed = self.reply.failed.filter(|_| self.result.is_err());
        drop(self.reply.reply.send(self.result));
        if let Some(failed) = failed {
            failed.notify_one();
        }
    }
}
