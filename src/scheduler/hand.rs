//! A worker's place in the pool: whose it is, what runs there, and how fast work passes. Part of the pool's state.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{core::Core, job::Reply, load::Pace, promise::Promise};

/// The answers that a worker's batch owes.
pub(crate) type Owed = Promise<Vec<Reply>>;

/// A place for a worker.
#[derive(Debug)]
pub(crate) struct Hand {
    /// Whose it is; a thread that has been replaced has another.
    pub(crate) token: u64,
    pub(crate) owed: Arc<Owed>,
    pub(crate) run: Option<Run>,
    /// Its run does not end and it could not be replaced.
    pub(crate) lost: bool,
    /// When its last batch began and what that was expected to take, unless it has had nothing to do since.
    pub(crate) last: Option<(Instant, Duration)>,
}

/// A batch that runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) core: Arc<Core>,
    pub(crate) since: Instant,
    pub(crate) expected: Duration,
    /// When it counts as stuck.
    pub(crate) bound: Instant,
}

impl Hand {
    /// Of a worker that has run nothing yet.
    pub(crate) fn new(owed: Arc<Owed>) -> Self {
        Self { token: 0, owed, run: None, lost: false, last: None }
    }

    /// A batch begins. How long the one before took, and what was done after it, is noted in the pace.
    pub(crate) fn begin(&mut self, run: Run, pace: &mut Pace) {
        if let Some((since, expected)) = self.last.filter(|(_, expected)| !expected.is_zero()) {
            pace.note(run.since.saturating_duration_since(since), expected);
        }
        self.last = Some((run.since, run.expected));
        self.run = Some(run);
    }
}
