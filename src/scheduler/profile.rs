//! What runs cost, as measured: a moving average of the time of one run per compiled size. Written at load and after every run;
//! read when the cheapest ways to run batches are worked out anew (`costs`). Lock-free.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::types::nanos;

/// An average moves by this share of a sample's difference.
const WEIGHT: u64 = 8;
/// A sample counts as at most so many times the average, and as at least that share of it: one run that the system put aside
/// moves the average by an eighth, while a lasting change is followed within some twenty runs.
const OUTLIER: u64 = 2;
/// A change is news when it has lasted for so many runs: the averages of short runs waver, and to work everything out anew
/// takes longer than they do.
const LASTING: u64 = 16;
/// Not with runs of this length, which would be followed too late.
const LONG: Duration = Duration::from_millis(1);

/// Run times by size.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Ascending; a run of another size counts for the next smaller one.
    sizes: Box<[usize]>,
    nanos: Box<[AtomicU64]>,
    /// What `costs` was last worked out from.
    published: Box<[AtomicU64]>,
    /// Runs in a row after which the average was far from that.
    apart: Box<[AtomicU64]>,
    given: Option<fn(usize) -> Duration>,
}

impl Profile {
    /// A profile of these sizes; empty unless costs are `given`, which are then never measured.
    pub(crate) fn new(sizes: Vec<usize>, given: Option<fn(usize) -> Duration>) -> Self {
        let nanos = |size: &usize| AtomicU64::new(given.map_or(0, |cost| sample(cost(*size))));
        Self {
            nanos: sizes.iter().map(nanos).collect(),
            published: sizes.iter().map(|_| AtomicU64::new(0)).collect(),
            apart: sizes.iter().map(|_| AtomicU64::new(0)).collect(),
            sizes: sizes.into(),
            given,
        }
    }

    /// Adds a run of `rows` rows. True when the average has moved by a quarter from what was published and stays there, or
    /// there was none.
    pub(crate) fn record(&self, rows: usize, took: Duration) -> bool {
        let slot = self.sizes.partition_point(|size| *size <= rows).saturating_sub(1);
        let (Some(nanos), Some(published), None) = (self.nanos.get(slot), self.published.get(slot), self.given) else {
            return false;
        };
        let old = nanos.load(Relaxed);
        // Racing writers lose a sample at worst.
        let new = blend(old, sample(took));
        nanos.store(new, Relaxed);
        let (published, Some(apart)) = (published.load(Relaxed), self.apart.get(slot)) else { return false };
        if new <= published / 4 * 5 + 1 && new >= published / 5 * 4 {
            apart.store(0, Relaxed);
            return false;
        }
        let runs = apart.load(Relaxed) + 1;
        let news = published == 0 || took >= LONG || runs >= LASTING;
        apart.store(if news { 0 } else { runs }, Relaxed);
        news
    }

    /// Starts a size afresh with its first measurement.
    pub(crate) fn set(&self, rows: usize, took: Duration) {
        if let (Ok(slot), None) = (self.sizes.binary_search(&rows), self.given)
            && let Some(nanos) = self.nanos.get(slot)
        {
            nanos.store(sample(took), Relaxed);
        }
    }

    /// (rows, nanoseconds) of every size measured, ascending; remembered as what was published.
    pub(crate) fn publish(&self) -> Vec<(usize, u64)> {
        for (published, nanos) in self.published.iter().zip(&self.nanos) {
            published.store(nanos.load(Relaxed), Relaxed);
        }
        let published = self.published.iter().map(|nanos| nanos.load(Relaxed));
        self.sizes.iter().copied().zip(published).filter(|(_, nanos)| *nanos > 0).collect()
    }

    /// (rows, average) of every size measured, ascending.
    pub(crate) fn table(&self) -> Vec<(usize, Duration)> {
        let averages = self.nanos.iter().map(|nanos| Duration::from_nanos(nanos.load(Relaxed)));
        self.sizes.iter().copied().zip(averages).filter(|(_, cost)| !cost.is_zero()).collect()
    }
}

/// At least one: 0 stands for what has not been measured.
fn sample(took: Duration) -> u64 {
    nanos(took).max(1)
}

/// The average after one more sample.
fn blend(old: u64, sample: u64) -> u64 {
    if old == 0 {
        return sample;
    }
    let sample = sample.clamp(old / OUTLIER, old.saturating_mul(OUTLIER));
    (old - old / WEIGHT).saturating_add(sample / WEIGHT).max(1)
}

/// The sizes worth compiling for a batch limit: powers of two, and the limit itself.
pub(crate) fn sizes_up_to(limit: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(1_usize), |size| size.checked_mul(2)).take_while(|size| *size < limit).collect();
    sizes.push(limit.max(1));
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn averages_per_size() {
        let profile = Profile::new(sizes_up_to(12), None);
        assert_eq!(profile.table(), []);
        assert!(profile.record(1, us(8)), "the first of a size is news");
        profile.record(5, us(80));
        profile.record(5, us(160));
        profile.record(12, us(300));
        assert_eq!(profile.table(), [(1, us(8)), (4, us(90)), (12, us(300))]);
        profile.publish();
        assert!(!profile.record(4, us(90)));
        assert!((0..9).all(|_| !profile.record(4, us(900))) && !profile.record(4, us(90)));
        assert!((0..30).any(|_| profile.record(4, us(900))), "a lasting change is news");
        assert!((0..9).any(|_| profile.record(12, us(9000))), "of long runs sooner");
        profile.set(4, us(7));
        assert_eq!(profile.table()[1], (4, us(7)));
        profile.record(usize::MAX, us(300));
    }

    #[test]
    fn one_outlier_moves_little_and_a_lasting_change_is_followed() {
        let profile = Profile::new(vec![1], None);
        profile.record(1, us(100));
        profile.record(1, Duration::from_secs(9));
        assert!(profile.table()[0].1 < us(113));
        for _ in 0..60 {
            profile.record(1, us(1_000));
        }
        let now = profile.table()[0].1;
        assert!(now > us(900) && now <= us(1_000), "{now:?}");
    }

    #[test]
    fn given_costs_are_not_measured() {
        let profile = Profile::new(vec![1, 2], Some(|rows| us(rows as u64)));
        assert!(!profile.record(1, us(50)));
        profile.set(2, us(50));
        assert_eq!(profile.table(), [(1, us(1)), (2, us(2))]);
    }

    #[test]
    fn sizes_are_powers_of_two_and_the_limit() {
        assert_eq!(sizes_up_to(1), [1]);
        assert_eq!(sizes_up_to(16), [1, 2, 4, 8, 16]);
        assert_eq!(sizes_up_to(20), [1, 2, 4, 8, 16, 20]);
        assert_eq!(sizes_up_to(0), [1]);
    }

    proptest! {
        #[test]
        fn an_average_stays_within_what_was_measured(samples in proptest::collection::vec(8_u64..u64::MAX, 1..50)) {
            let (low, high) = (*samples.iter().min().unwrap(), *samples.iter().max().unwrap());
            let average = samples.iter().fold(0, |old, sample| blend(old, *sample));
            // Rounding down loses less than a unit per part.
            prop_assert!(average >= low - 8 && average <= high, "{low} {average} {high}");
        }
    }
}
