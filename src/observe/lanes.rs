//! Numbers that every thread adds to and a scrape reads. Each recording thread gets a lane of its own, which only it writes:
//! an addition is then a load and a store, without the locked instruction and without threads taking a cache line from each
//! other. Threads beyond the number of lanes share one, where additions are atomic. Used by everything on the hot path.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

/// Lanes with a writer of their own.
const LANES: usize = u64::BITS as usize;

/// The lane index of threads that share; also of a thread whose own lane has been given back.
const SHARED: usize = LANES;

/// The lane index of a thread that has not asked yet.
const UNKNOWN: usize = usize::MAX;

/// A bit per lane that is taken.
static TAKEN: Mutex<u64> = Mutex::new(0);

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(UNKNOWN) };
    static CLAIM: Claim = Claim::take();
}

/// A thread's right to a lane. The lock around giving back and taking makes the old writer's additions visible to the next.
struct Claim(usize);

impl Claim {
    fn take() -> Self {
        let mut taken = TAKEN.lock();
        let lane = taken.trailing_ones() as usize;
        if lane < LANES {
            *taken |= 1 << lane;
        }
        Self(lane)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        LANE.set(SHARED);
        if self.0 < LANES {
            *TAKEN.lock() &= !(1 << self.0);
        }
    }
}

/// This thread's lane.
fn lane() -> usize {
    match LANE.get() {
        UNKNOWN => {
            let lane = CLAIM.try_with(|claim| claim.0).unwrap_or(SHARED);
            LANE.set(lane);
            lane
        }
        lane => lane,
    }
}

/// How this thread may add to the lane that it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    exclusive: bool,
}

impl Writer {
    /// Adds, wrapping.
    pub(super) fn add(self, to: &AtomicU64, n: u64) {
        if self.exclusive {
            to.store(to.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            to.fetch_add(n, Relaxed);
        }
    }

    /// Adds to the bits of an f64.
    pub(super) fn add_f64(self, to: &AtomicU64, value: f64) {
        let sum = |bits: u64| (f64::from_bits(bits) + value).to_bits();
        let mut seen = to.load(Relaxed);
        if self.exclusive {
            return to.store(sum(seen), Relaxed);
        }
        while let Err(now) = to.compare_exchange_weak(seen, sum(seen), Relaxed, Relaxed) {
            seen = now;
        }
    }
}

/// One `T` per thread that writes to it, made on first use.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    own: Box<[OnceLock<Box<T>>; LANES]>,
    shared: OnceLock<Box<T>>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { own: Box::new([const { OnceLock::new() }; LANES]), shared: OnceLock::new() }
    }
}

impl<T> Lanes<T> {
    /// This thread's `T`, and how it may add to it.
    pub(super) fn mine(&self, make: impl FnOnce() -> T) -> (&T, Writer) {
        let (slot, exclusive) = match self.own.get(lane()) {
            Some(slot) => (slot, true),
            None => (&self.shared, false),
        };
        (slot.get_or_init(|| Box::new(make())), Writer { exclusive })
    }

    /// Everybody's.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.own.iter().chain([&self.shared]).filter_map(|slot| slot.get()).map(|lane| &**lane)
    }

    /// The wrapping sum of a number over all lanes.
    pub(super) fn sum(&self, number: impl Fn(&T) -> &AtomicU64) -> u64 {
        self.iter().fold(0, |sum, lane| sum.wrapping_add(number(lane).load(Relaxed)))
    }
}

/// A level that threads raise and lower: one may lower what another raised.
#[derive(Debug, Default)]
pub(super) struct Level(Lanes<AtomicU64>);

impl Level {
    pub(super) fn raise(&self, by: u64) {
        let (mine, writer) = self.0.mine(AtomicU64::default);
        writer.add(mine, by);
    }

    pub(super) fn lower(&self, by: u64) {
        self.raise(by.wrapping_neg());
    }

    /// The level now; never below zero, also when lanes are read between a raise and the lowering that belongs to it.
    pub(super) fn get(&self) -> u64 {
        u64::try_from(self.0.sum(|lane| lane).cast_signed()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// More threads at once than there are lanes, several times over, so that lanes are shared and handed on.
    #[test]
    fn nothing_is_lost_when_lanes_are_shared_and_handed_on() {
        const THREADS: usize = LANES + 20;
        const ADDS: u64 = 2_000;
        let (counts, sums, level) = (Lanes::<AtomicU64>::default(), Lanes::<AtomicU64>::default(), Level::default());
        for _ in 0..3 {
            let together = Barrier::new(THREADS);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        together.wait();
                        for _ in 0..ADDS {
                            let (mine, writer) = counts.mine(AtomicU64::default);
                            writer.add(mine, 1);
                            let (mine, writer) = sums.mine(AtomicU64::default);
                            writer.add_f64(mine, 0.5);
                            level.raise(2);
                        }
                        together.wait();
                    });
                }
            });
        }
        let total = 3 * THREADS as u64 * ADDS;
        assert_eq!(counts.sum(|lane| lane), total);
        assert_eq!(sums.iter().map(|lane| f64::from_bits(lane.load(Relaxed))).sum::<f64>(), total as f64 * 0.5);
        assert!(counts.shared.get().is_some(), "the shared lane was used");
        assert_eq!(level.get(), 2 * total);
        level.lower(2 * total);
        assert_eq!(level.get(), 0);
        level.lower(1);
        assert_eq!(level.get(), 0);
    }
}
