//! A piece of waiting work and its way back to the caller. Made by a lane for every request (several for a large one), owned
//! by exactly one queue or batch at a time, and finished exactly once.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{batch::Member, core::Core, home::Home, queue::Waiting};
use crate::{
    observe::ServableSeries,
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

/// Rows that count against a queue's bound until this is dropped: when they are taken, refused or given up.
#[derive(Debug)]
pub(crate) struct Slot {
    queued: Arc<AtomicUsize>,
    series: Arc<ServableSeries>,
    rows: usize,
}

impl Slot {
    /// Reserves room for `rows` rows in a servable's queue; a request larger than the whole queue is let in when the queue is
    /// empty. `None` when there is no room.
    pub(crate) fn reserve(core: &Core, rows: usize) -> Option<Self> {
        let limit = core.batching.max_queue_rows;
        let fits = |now: usize| (now == 0 || now + rows <= limit).then_some(now + rows);
        core.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        core.series.queued(rows);
        Some(Self { queued: Arc::clone(&core.queued), series: Arc::clone(&core.series), rows })
    }

    /// Splits off the part of `rows` rows.
    pub(crate) fn split(&mut self, rows: usize) -> Self {
        let rows = rows.min(self.rows);
        self.rows -= rows;
        Self { queued: Arc::clone(&self.queued), series: Arc::clone(&self.series), rows }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.rows, Ordering::AcqRel);
        self.series.unqueued(self.rows);
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
    pub(crate) inputs: Arc<[Tensor]>,
    pub(crate) range: Range<usize>,
    pub(crate) key: Key,
    pub(crate) queued: Instant,
    pub(crate) deadline: Option<Instant>,
    /// Set when a worker takes it, for the text of a missed deadline.
    pub(crate) started: Option<Arc<AtomicBool>>,
    pub(crate) slot: Option<Slot>,
    pub(crate) reply: oneshot::Sender<Result<Piece, Error>>,
    pub(crate) home: Option<Arc<Home>>,
}

impl Job {
    /// Frees its place in the queue and notes that it runs.
    pub(crate) fn start(&mut self) {
        self.slot = None;
        if let Some(started) = &self.started {
            started.store(true, Ordering::Release);
        }
    }

    /// Its answer, ready to be sent.
    pub(crate) fn finish(self, result: Result<Piece, Error>) -> Finished {
        Finished { reply: self.reply, home: self.home, result }
    }
}

impl Waiting for Job {
    type Key = Key;

    fn rows(&self) -> usize {
        self.range.len()
    }

    fn key(&self) -> &Key {
        &self.key
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn queued(&self) -> Instant {
        self.queued
    }

    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Member for Job {
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
    reply: oneshot::Sender<Result<Piece, Error>>,
    home: Option<Arc<Home>>,
    result: Result<Piece, Error>,
}

impl Finished {
    /// The I/O thread that waits for it.
    pub(crate) fn home(&self) -> Option<&Arc<Home>> {
        self.home.as_ref()
    }

    /// Hands it to whoever waits; a caller that has left is not an error.
    pub(crate) fn deliver(self) {
        drop(self.reply.send(self.result));
    }
}
