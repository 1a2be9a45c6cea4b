//! What a batch costs, as measured: a moving average of the run time per power-of-two batch size. Written after every batch;
//! read when a request chooses its lane. Lock-free.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const SIZES: usize = 17;

/// Run times by batch size.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    nanos: [AtomicU64; SIZES],
}

impl Profile {
    fn slot(rows: usize) -> usize {
        (usize::BITS - rows.max(1).leading_zeros() - 1).min(SIZES as u32 - 1) as usize
    }

    /// Adds a run of `rows` rows: the average moves by an eighth of the difference.
    pub(crate) fn record(&self, rows: usize, took: Duration) {
        let slot = &self.nanos[Self::slot(rows)];
        let now = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let old = slot.load(Ordering::Relaxed);
        // Racing writers lose a sample at worst.
        let new = if old == 0 { now } else { old - old / 8 + now / 8 };
        slot.store(new.max(1), Ordering::Relaxed);
    }

    /// The average of a size; `None` when it has not run yet.
    pub(crate) fn cost(&self, rows: usize) -> Option<Duration> {
        match self.nanos[Self::slot(rows)].load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The dearest size measured so far; `None` before any run.
    pub(crate) fn dearest(&self) -> Option<Duration> {
        let nanos = self.nanos.iter().map(|slot| slot.load(Ordering::Relaxed)).max().unwrap_or(0);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// (rows, average) of every size measured, ascending.
    pub(crate) fn table(&self) -> Vec<(usize, Duration)> {
        (0..SIZES).filter_map(|slot| self.cost(1 << slot).map(|cost| (1 << slot, cost))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_per_size() {
        let profile = Profile::default();
        assert_eq!(profile.dearest(), None);
        profile.record(1, Duration::from_micros(8));
        profile.record(5, Duration::from_micros(80));
        profile.record(5, Duration::from_micros(160));
        assert_eq!(profile.cost(4), Some(Duration::from_micros(90)));
        assert_eq!(profile.dearest(), profile.cost(7));
        assert_eq!(profile.table().len(), 2);
        profile.record(usize::MAX, Duration::from_secs(1));
        assert_eq!(profile.cost(1 << 16), Some(Duration::from_secs(1)));
    }
}
