//! Which servable a free worker serves next: a pure function of what waits and of the time. Deficit round robin (Shreedhar and
//! Varghese, 1995) over servables whose batch is due, counted in measured time, so that each gets the same share of the workers
//! whatever its batches cost. A servable that has been asked to wait for a fuller batch is due when it is full enough or old
//! enough, or when a deadline in it leaves no more time. A slow servable leaves the last free worker to the others while they
//! have traffic.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::types::BatchingSpec;

/// What a servable is granted per round, in nanoseconds: small, so that cheap servables take turns batch by batch.
pub(crate) const QUANTUM: i64 = 100_000;
/// Servables whose batches take longer are slow.
pub(crate) const SLOW: Duration = Duration::from_millis(20);
/// For so long after another servable's last request a slow one leaves the last free worker alone.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// A batch that waits for more rows begins so much, and a quarter of what it takes, before its deadline requires.
const RESERVE: Duration = Duration::from_millis(2);

/// What the policy sees of one servable with waiting work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Rows that wait.
    pub(crate) rows: usize,
    /// Rows at which waiting longer gains nothing.
    pub(crate) enough: usize,
    /// When the oldest of them came.
    pub(crate) oldest: Instant,
    /// How long it may wait for more.
    pub(crate) delay: Duration,
    /// When it has to run at the latest for all of them to be answered in time; `None` where they have all the time.
    pub(crate) latest: Option<Instant>,
    /// Batches that run now.
    pub(crate) running: usize,
    /// Batches that may run at once.
    pub(crate) parallel: usize,
    /// What its next batch takes; zero when that is not known.
    pub(crate) cost: Duration,
    /// Nanoseconds that it has been granted and has not used.
    pub(crate) deficit: i64,
    /// When a servable other than this one, and not a slow one, was last asked for something.
    pub(crate) others: Option<Instant>,
}

/// The workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hands {
    /// How many run nothing, the one that asks among them.
    pub(crate) free: usize,
    /// How many there are.
    pub(crate) all: usize,
}

/// What a free worker should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Take a batch of the servable at this index; grant those up to it so many quanta, and those behind it one less.
    Run {
        /// Whose turn it is.
        index: usize,
        /// Rounds that it takes until the servable can pay for its batch.
        rounds: u32,
    },
    /// Nothing is due before then.
    Wait(Instant),
    /// Nothing waits that may run.
    Idle,
}

/// Picks the servable that can pay for its batch after the fewest rounds, of several the first. The caller keeps `views` in
/// round-robin order: after a pick that took a round, whoever is behind the one that was picked comes first.
pub(crate) fn pick(views: impl Iterator<Item = View>, hands: Hands, now: Instant) -> Pick {
    let mut earliest: Option<Instant> = None;
    let mut best: Option<(u32, usize)> = None;
    for (index, view) in views.enumerate() {
        let Some(due) = due(&view, hands) else { continue };
        if due > now {
            earliest = Some(earliest.map_or(due, |time| time.min(due)));
            continue;
        }
        let rounds = rounds(&view);
        if best.is_none_or(|(fewest, _)| rounds < fewest) {
            best = Some((rounds, index));
        }
        if rounds == 0 {
            break;
        }
    }
    match (best, earliest) {
        (Some((rounds, index)), _) => Pick::Run { index, rounds },
        (None, Some(time)) => Pick::Wait(time),
        (None, None) => Pick::Idle,
    }
}

/// When a batch of the servable may be run; `None` while only the end of another batch can change that.
fn due(view: &View, hands: Hands) -> Option<Instant> {
    if view.rows == 0 || view.running >= view.parallel {
        return None;
    }
    let full = if view.rows >= view.enough { view.oldest } else { view.oldest + view.delay };
    let full = view.latest.map_or(full, |latest| full.min(latest));
    let left = if hands.free <= 1 { left_until(hands.all, view.cost > SLOW, view.others) } else { None };
    Some(left.map_or(full, |until| full.max(until)))
}

/// Until when a servable leaves the last free of so many workers to the others, of which a fast one was last asked at a time;
/// `None` when it does not. With a single worker there is none to be left: then turns alone are fair.
pub(crate) fn left_until(workers: usize, slow: bool, others: Option<Instant>) -> Option<Instant> {
    others.filter(|_| slow && workers > 1).map(|at| at + QUIET)
}

fn rounds(view: &View) -> u32 {
    let lacks = signed(view.cost).saturating_sub(view.deficit);
    u32::try_from(lacks.max(0).saturating_add(QUANTUM - 1) / QUANTUM).unwrap_or(u32::MAX)
}

/// When a batch that takes so long must begin to end by a deadline; `None` when it is too late for that anyway.
pub(crate) fn latest_start(deadline: Instant, cost: Duration) -> Option<Instant> {
    deadline.checked_sub(cost.saturating_add(cost / 4).saturating_add(RESERVE))
}

/// A time as the round robin counts it, in nanoseconds.
pub(crate) fn signed(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// What a servable has been granted by the round robin and has not used, in nanoseconds. Less than nothing after a batch that took
/// longer than was expected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account(i64);

impl Account {
    /// What is left.
    pub(crate) fn left(self) -> i64 {
        self.0
    }

    /// Adds so many rounds, up to what the next batch takes and a bit.
    pub(crate) fn grant(&mut self, rounds: u32, next: Duration) {
        let most = signed(next).saturating_add(QUANTUM).max(self.0);
        self.0 = self.0.saturating_add(QUANTUM.saturating_mul(i64::from(rounds))).min(most);
    }

    /// A batch begins that is expected to take so long.
    pub(crate) fn pay(&mut self, expected: Duration) {
        self.0 = self.0.saturating_sub(signed(expected));
    }

    /// It has ended, and took so long.
    pub(crate) fn correct(&mut self, expected: Duration, took: Duration) {
        self.0 = self.0.saturating_add(signed(expected).saturating_sub(signed(took)));
    }

    /// Nothing waits any more: grants are not saved.
    pub(crate) fn close(&mut self) {
        self.0 = self.0.min(0);
    }
}

/// Carries out a pick: `grant`s everybody in `order` the rounds that are due, and says whose turn it is. The next round goes on
/// behind him.
pub(crate) fn turn<K: Copy>(
    order: &mut VecDeque<K>,
    (index, rounds): (usize, u32),
    mut grant: impl FnMut(K, u32),
) -> Option<K> {
    let picked = *order.get(index)?;
    if rounds > 0 {
        for (place, key) in order.iter().enumerate() {
            grant(*key, if place <= index { rounds } else { rounds - 1 });
        }
        order.rotate_left(index + 1);
    }
    Some(picked)
}

/// Rows at which a batch need not wait any longer: the smallest preferred size, else the limit.
pub(crate) fn enough_rows(batching: &BatchingSpec, limit: usize) -> usize {
    batching.preferred_batch_size.iter().copied().filter(|size| *size > 0).min().map_or(limit, |size| size.min(limit))
}

/// Which servables were last asked for something: the last, and the last before it that was another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    /// Key and time of the last.
    pub(crate) last: Option<(u64, Instant)>,
    pub(crate) before: Option<Instant>,
}

impl Recent {
    /// A servable was asked for something.
    pub(crate) fn note(&mut self, key: u64, now: Instant) {
        if let Some((known, at)) = self.last
            && known != key
        {
            self.before = Some(at);
        }
        self.last = Some((key, now));
    }

    /// When another servable than this one was last asked for something.
    pub(crate) fn other_than(&self, key: u64) -> Option<Instant> {
        match self.last {
            Some((known, _)) if known == key => self.before,
            last => last.map(|(_, at)| at),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
