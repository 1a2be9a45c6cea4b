//! What the pool looks like from outside, without its lock: how many workers are free, when the next one will be, and how much
//! waits. Written by the pool with every change; read by every request that has a deadline, to find out whether to wait at all.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::policy::{self, Hands, Recent};
use crate::types::nanos;

/// This part of an estimated wait is added to it: estimates err, and neither a request that has not been read yet nor an answer
/// that has not been written yet is in them. It costs no throughput, as long as something waits at all.
const RESERVE: u32 = 4;

/// The pool at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    /// The workers.
    pub(crate) hands: Hands,
    /// What everything that waits will take, in nanoseconds of one worker.
    pub(crate) waiting: u64,
    /// Servables that have something waiting.
    pub(crate) active: usize,
    /// When the next running batch is expected to end.
    pub(crate) soonest: Option<Instant>,
    /// How much longer a worker takes from batch to batch than the batches are said to take.
    pub(crate) pace: Pace,
    /// Who was last asked for something.
    pub(crate) recent: Recent,
}

/// How much longer a worker that is never idle takes from the beginning of a batch to that of the next than the batch is said
/// to take: what is done between batches, and threads that share its core (those that refuse requests, under load) are in no
/// profile. In 1,024ths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace(u64);

impl Pace {
    /// As long as they are said to take.
    const EVEN: Self = Self(1024);

    /// Takes note of one batch. One that took more than four times as long as it should says no more than that.
    pub(crate) fn note(&mut self, took: Duration, expected: Duration) {
        let expected = expected.as_nanos().max(1);
        let ratio = (took.as_nanos().saturating_mul(1024) / expected).clamp(512, 4096);
        let ratio = u64::try_from(ratio).unwrap_or(Self::EVEN.0);
        // An average over some sixteen batches.
        self.0 = (self.0 * 15 + ratio).div_ceil(16);
    }

    /// What so much work takes.
    fn stretch(self, time: Duration) -> Duration {
        let times = u32::try_from(self.0.max(Self::EVEN.0)).unwrap_or(u32::MAX);
        time.checked_mul(times).map_or(time, |time| time / 1024)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::EVEN
    }
}

/// The last sight. Its parts are read one by one and may be of different moments: it is an estimate anyway.
#[derive(Debug)]
pub(crate) struct Load {
    epoch: Instant,
    free: AtomicUsize,
    all: AtomicUsize,
    waiting: AtomicU64,
    active: AtomicUsize,
    /// Nanoseconds after the epoch; 0 = nothing runs.
    soonest: AtomicU64,
    pace: AtomicU64,
    /// Key and time of the servable that was last asked, and the time of another before it; times as above, 0 = none was.
    last: (AtomicU64, AtomicU64),
    before: AtomicU64,
}

/// What a request adds to the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// What waits before it in its own servable's queue takes so long, on one worker.
    pub(crate) ahead: Duration,
    /// Everything that waits there.
    pub(crate) own: Duration,
    /// The request itself takes so long once it is run.
    pub(crate) alone: Duration,
    /// Workers that its servable may have at once.
    pub(crate) parallel: usize,
    /// Its servable.
    pub(crate) key: u64,
    /// Its servable leaves the last free worker to others while they have traffic.
    pub(crate) slow: bool,
}

impl Load {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            epoch: Instant::now(),
            free: AtomicUsize::new(workers),
            all: AtomicUsize::new(workers),
            waiting: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            soonest: AtomicU64::new(0),
            pace: AtomicU64::new(Pace::EVEN.0),
            last: Default::default(),
            before: AtomicU64::new(0),
        }
    }

    pub(crate) fn publish(&self, sight: &Sight) {
        self.free.store(sight.hands.free, Relaxed);
        self.all.store(sight.hands.all, Relaxed);
        self.waiting.store(sight.waiting, Relaxed);
        self.active.store(sight.active, Relaxed);
        let stamp = |at: Instant| nanos(at.saturating_duration_since(self.epoch)).max(1);
        self.soonest.store(sight.soonest.map_or(0, stamp), Relaxed);
        self.pace.store(sight.pace.0, Relaxed);
        let (key, last) = sight.recent.last.map_or((0, 0), |(key, at)| (key, stamp(at)));
        self.last.0.store(key, Relaxed);
        self.last.1.store(last, Relaxed);
        self.before.store(sight.recent.before.map_or(0, stamp), Relaxed);
    }

    /// Batches that run.
    pub(crate) fn running(&self) -> usize {
        self.all.load(Relaxed).saturating_sub(self.free.load(Relaxed))
    }

    /// How long a request would probably wait until a worker takes it.
    pub(crate) fn wait(&self, ask: &Ask, now: Instant) -> Duration {
        let time = |stamp: &AtomicU64| match stamp.load(Relaxed) {
            0 => None,
            nanos => Some(self.epoch + Duration::from_nanos(nanos)),
        };
        let last = time(&self.last.1).map(|at| (self.last.0.load(Relaxed), at));
        let sight = Sight {
            hands: Hands { free: self.free.load(Relaxed), all: self.all.load(Relaxed) },
            waiting: self.waiting.load(Relaxed),
            active: self.active.load(Relaxed),
            soonest: time(&self.soonest),
            pace: Pace(self.pace.load(Relaxed)),
            recent: Recent { last, before: time(&self.before) },
        };
        estimate(&sight, ask, now)
    }
}

/// How long a request would probably wait until a worker takes it: nothing while a worker that the policy lets it have is free
/// and nothing is ahead of it; else until the next worker is free, and then for what is ahead of it and for the others' share.
/// In the time that its servable gets for what is ahead and for the request itself, each of the other servables that have work
/// gets as much, and no more than it has. All that at the pace that batches have had lately, and [`RESERVE`] is added: who is
/// let in should be answered.
pub(crate) fn estimate(sight: &Sight, ask: &Ask, now: Instant) -> Duration {
    let left = policy::left_until(sight.hands.all, ask.slow, sight.recent.other_than(ask.key));
    let last = usize::from(left.is_some_and(|until| until > now));
    if ask.ahead.is_zero() && sight.hands.free > last {
        return Duration::ZERO;
    }
    let residual = sight.soonest.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
    let residual = if sight.hands.free > last { Duration::ZERO } else { residual };
    let workers = u32::try_from(sight.hands.all.min(ask.parallel)).unwrap_or(u32::MAX).max(1);
    let all = u32::try_from(sight.hands.all).unwrap_or(u32::MAX).max(1);
    let rivals = sight.active.saturating_sub(usize::from(!ask.own.is_zero()));
    let turn = ask.ahead.saturating_add(ask.alone).saturating_mul(u32::try_from(rivals).unwrap_or(u32::MAX));
    let others = Duration::from_nanos(sight.waiting).saturating_sub(ask.own).min(turn);
    let wait = sight.pace.stretch(residual.saturating_add(ask.ahead / workers).saturating_add(others / all));
    wait.saturating_add(wait / RESERVE)
}

/// How long a request on an I/O thread would probably wait: for what is `ahead` of it, and for the `others` whose batches come
/// in between. Servables take turns there batch by batch, so each of them runs one for every one of the `batches` that this
/// servable runs until the request is in. [`RESERVE`] is added.
pub(crate) fn turns(ahead: Duration, others: Duration, batches: usize) -> Duration {
    let wait = ahead.saturating_add(others.saturating_mul(u32::try_from(batches).unwrap_or(u32::MAX)));
    wait.saturating_add(wait / RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn sight(free: usize, waiting: Duration, active: usize) -> Sight {
        let (hands, recent) = (Hands { free, all: 2 }, Recent::default());
        Sight { hands, waiting: nanos(waiting), active, soonest: None, pace: Pace::EVEN, recent }
    }

    const ASK: Ask = Ask { ahead: Duration::ZERO, own: Duration::ZERO, alone: ms(2), parallel: 2, key: 1, slow: false };

    #[test]
    fn waiting_is_estimated() {
        let now = Instant::now();
        let busy = Sight { soonest: Some(now + ms(8)), ..sight(0, Duration::ZERO, 0) };
        assert_eq!(estimate(&busy, &ASK, now), ms(10));
        assert_eq!(estimate(&busy, &ASK, now + ms(20)), Duration::ZERO, "any moment now");
        let queue = Ask { ahead: ms(16), own: ms(16), ..ASK };
        assert_eq!(estimate(&sight(0, ms(16), 1), &queue, now), ms(10), "two workers");
        assert_eq!(estimate(&sight(0, ms(16), 1), &Ask { parallel: 1, ..queue }, now), ms(20));
        // Another servable has a second's work: of that, only as much as this one has is in the way.
        assert_eq!(estimate(&sight(0, ms(1016), 2), &queue, now), (ms(16) / 2 + ms(18) / 2) * 5 / 4);
        assert_eq!(estimate(&sight(0, ms(4), 1), &ASK, now), (ms(2) / 2) * 5 / 4);
    }

    #[test]
    fn a_slow_servable_is_told_to_wait_for_the_last_worker_only_while_it_is_kept_for_others() {
        let now = Instant::now();
        let (slow, load) = (Ask { slow: true, ..ASK }, Load::new(2));
        let wait = |last: &[(u64, Instant)], ask: &Ask, now| {
            let mut recent = Recent::default();
            last.iter().for_each(|(key, at)| recent.note(*key, *at));
            let sight = Sight { soonest: Some(now + ms(8)), recent, ..sight(1, ms(0), 0) };
            load.publish(&sight);
            assert_eq!(load.wait(ask, now), estimate(&sight, ask, now), "nothing is lost on the way");
            estimate(&sight, ask, now)
        };
        // The load knows no times before its own beginning.
        let now = now + ms(1000);
        assert_eq!(wait(&[], &slow, now), ms(0), "nobody else has been asked");
        assert_eq!(wait(&[(1, now)], &slow, now), ms(0), "only itself");
        assert_eq!(wait(&[(2, now)], &slow, now), ms(10), "another one is fast");
        assert_eq!(wait(&[(2, now), (1, now)], &slow, now), ms(10));
        assert_eq!(wait(&[(2, now)], &ASK, now), ms(0), "fast itself");
        assert_eq!(wait(&[(2, now)], &slow, now + policy::QUIET), ms(0), "the other has been quiet");
    }

    #[test]
    fn a_worker_that_gets_less_than_a_core_is_waited_for_longer() {
        let now = Instant::now();
        let queue = Ask { ahead: ms(16), own: ms(16), ..ASK };
        let at = |pace| estimate(&Sight { pace, ..sight(0, ms(16), 1) }, &queue, now);
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.note(ms(2), ms(2)));
        assert_eq!(at(pace), ms(10));
        // A quarter of the time goes elsewhere.
        (0..100).for_each(|_| pace.note(Duration::from_micros(2500), ms(2)));
        assert!((at(pace).as_secs_f64() / 12.5e-3 - 1.0).abs() < 0.02, "{:?}", at(pace));
        pace.note(Duration::from_secs(3600), ms(2));
        assert!(at(pace) < ms(16), "one stall is not the rule: {:?}", at(pace));
        (0..100).for_each(|_| pace.note(ms(1), ms(2)));
        assert_eq!(at(pace), ms(10), "faster is not believed: the profile will say so");
        pace.note(ms(1), Duration::ZERO);
    }

    #[test]
    fn on_an_io_thread_everybody_has_a_turn_before() {
        assert_eq!(turns(Duration::ZERO, Duration::ZERO, 1), Duration::ZERO);
        assert_eq!(turns(Duration::ZERO, ms(8), 1), ms(10), "others only");
        assert_eq!(turns(ms(16), ms(8), 3), ms(50), "two batches ahead, and its own");
        assert_eq!(turns(Duration::MAX, ms(8), usize::MAX), Duration::MAX);
    }

    proptest! {
        #[test]
        fn nobody_waits_for_a_free_worker(waiting in 0_u64..u64::MAX, active in 0_usize..9, free in 1_usize..3, alone in 0_u64..900) {
            let now = Instant::now();
            let sight = Sight { soonest: Some(now + ms(50)), ..sight(free, Duration::from_nanos(waiting), active) };
            prop_assert_eq!(estimate(&sight, &Ask { alone: ms(alone), ..ASK }, now), Duration::ZERO);
        }

        #[test]
        fn more_ahead_is_never_a_shorter_wait(ahead in 0_u64..9999, more in 0_u64..999, others in 0_u64..9999, free in 0_usize..3) {
            let now = Instant::now();
            let sight = sight(free, ms(others), 3);
            let ask = |ahead| Ask { ahead: ms(ahead), own: ms(1), ..ASK };
            prop_assert!(estimate(&sight, &ask(ahead), now) <= estimate(&sight, &ask(ahead + more), now));
        }
    }
}
