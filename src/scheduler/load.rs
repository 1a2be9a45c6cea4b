//! What the pool looks like from outside, without its lock: how many workers are free, when the next one will be, and how much
//! waits. Written by the pool with every change; read by every request that has a deadline, to find out whether to wait at all.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::policy::Hands;

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
    /// Its servable leaves the last free worker to others.
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
        }
    }

    pub(crate) fn publish(&self, sight: &Sight) {
        self.free.store(sight.hands.free, Relaxed);
        self.all.store(sight.hands.all, Relaxed);
        self.waiting.store(sight.waiting, Relaxed);
        self.active.store(sight.active, Relaxed);
        let soonest = sight.soonest.map_or(0, |at| nanos(at.saturating_duration_since(self.epoch)).max(1));
        self.soonest.store(soonest, Relaxed);
    }

    /// Batches that run.
    pub(crate) fn running(&self) -> usize {
        self.all.load(Relaxed).saturating_sub(self.free.load(Relaxed))
    }

    /// How long a request would probably wait until a worker takes it.
    pub(crate) fn wait(&self, ask: &Ask, now: Instant) -> Duration {
        let sight = Sight {
            hands: Hands { free: self.free.load(Relaxed), all: self.all.load(Relaxed) },
            waiting: self.waiting.load(Relaxed),
            active: self.active.load(Relaxed),
            soonest: match self.soonest.load(Relaxed) {
                0 => None,
                nanos => Some(self.epoch + Duration::from_nanos(nanos)),
            },
        };
        estimate(&sight, ask, now)
    }
}

/// How long a request would probably wait until a worker takes it: nothing while a worker that it may have is free and nothing
/// is ahead of it; else until the next worker is free, and then for what is ahead of it and for the others' share. In the time
/// that its servable gets for what is ahead and for the request itself, each of the other servables that have work gets as
/// much, and no more than it has. An eighth is added: who is let in should be answered.
pub(crate) fn estimate(sight: &Sight, ask: &Ask, now: Instant) -> Duration {
    let last = usize::from(ask.slow && sight.hands.all > 1);
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
    let wait = residual.saturating_add(ask.ahead / workers).saturating_add(others / all);
    wait.saturating_add(wait / 8)
}

/// How long a request on an I/O thread would probably wait: for what is `ahead` of it, and for the `others` whose batches come
/// in between. Servables take turns there batch by batch, so each of them runs one for every one of the `batches` that this
/// servable runs until the request is in. An eighth is added.
pub(crate) fn turns(ahead: Duration, others: Duration, batches: usize) -> Duration {
    let wait = ahead.saturating_add(others.saturating_mul(u32::try_from(batches).unwrap_or(u32::MAX)));
    wait.saturating_add(wait / 8)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn sight(free: usize, waiting: Duration, active: usize) -> Sight {
        Sight { hands: Hands { free, all: 2 }, waiting: nanos(waiting), active, soonest: None }
    }

    const ASK: Ask = Ask { ahead: Duration::ZERO, own: Duration::ZERO, alone: ms(2), parallel: 2, slow: false };

    #[test]
    fn waiting_is_estimated() {
        let now = Instant::now();
        let busy = Sight { soonest: Some(now + ms(8)), ..sight(0, Duration::ZERO, 0) };
        assert_eq!(estimate(&busy, &ASK, now), ms(9));
        assert_eq!(estimate(&busy, &ASK, now + ms(20)), Duration::ZERO, "any moment now");
        let queue = Ask { ahead: ms(16), own: ms(16), ..ASK };
        assert_eq!(estimate(&sight(0, ms(16), 1), &queue, now), ms(9), "two workers");
        assert_eq!(estimate(&sight(0, ms(16), 1), &Ask { parallel: 1, ..queue }, now), ms(18));
        // Another servable has a second's work: of that, only as much as this one has is in the way.
        assert_eq!(estimate(&sight(0, ms(1016), 2), &queue, now), (ms(16) / 2 + ms(18) / 2) * 9 / 8);
        assert_eq!(estimate(&sight(0, ms(4), 1), &ASK, now), (ms(2) / 2) * 9 / 8);
        let slow = Ask { slow: true, ..ASK };
        assert_eq!(estimate(&Sight { soonest: Some(now + ms(8)), ..sight(1, ms(0), 0) }, &slow, now), ms(9));
    }

    #[test]
    fn on_an_io_thread_everybody_has_a_turn_before() {
        assert_eq!(turns(Duration::ZERO, Duration::ZERO, 1), Duration::ZERO);
        assert_eq!(turns(Duration::ZERO, ms(8), 1), ms(9), "others only");
        assert_eq!(turns(ms(16), ms(8), 3), ms(45), "two batches ahead, and its own");
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
