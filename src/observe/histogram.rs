//! Fixed-bucket histograms: what latencies, batch sizes and scores are recorded in. Recording takes no lock and, after a
//! thread's first time, allocates nothing; scores are recorded in bulk, with one addition per bucket touched. Used by the
//! series.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::lanes::{Lanes, Writer};
use crate::types::{Tally, nanos};

const NANOS_PER_SECOND: f64 = 1e9;

/// Upper bounds of the latency buckets in nanoseconds: 50 us to 60 s.
const LATENCY_BOUNDS: [u64; 20] = {
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    const S: u64 = 1_000_000_000;
    [
        50 * US,
        100 * US,
        200 * US,
        500 * US,
        MS,
        2 * MS,
        5 * MS,
        10 * MS,
        20 * MS,
        50 * MS,
        100 * MS,
        200 * MS,
        500 * MS,
        S,
        2 * S,
        5 * S,
        10 * S,
        20 * S,
        30 * S,
        60 * S,
    ]
};

/// Where to start looking for a duration's bucket, by the number of bits of its nanoseconds: bounds are about an octave
/// apart, so that the right bucket is at most two further.
const LATENCY_START: [u8; 65] = {
    let mut start = [0; 65];
    let mut bits = 0;
    while bits <= 64 {
        let smallest = if bits == 0 { 0 } else { 1_u64 << (bits - 1) };
        while (start[bits] as usize) < LATENCY_BOUNDS.len() && LATENCY_BOUNDS[start[bits] as usize] < smallest {
            start[bits] += 1;
        }
        bits += 1;
    }
    start
};

/// The largest number of bounds that bulk recording keeps its counts on the stack for.
const MAX_BOUNDS: usize = 64;

/// What a histogram had at one moment. Counts are per bucket, not cumulative; the last one is the bucket without bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Upper bounds, ascending.
    pub bounds: Arc<[f64]>,
    /// One count per bound and one for what is above them all.
    pub counts: Vec<u64>,
    /// Sum of the recorded values.
    pub sum: f64,
}

impl Snapshot {
    /// Number of recorded values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// An estimate of the value that the share `q` of the values (0 to 1) is at most: linear within the bucket that it
    /// falls into, as in PromQL's `histogram_quantile`. The lowest bucket begins at zero, or is its bound when that is not
    /// positive; of values above every bound the highest bound is answered. `None` before any value.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = q.clamp(0.0, 1.0) * self.count() as f64;
        let mut below = 0;
        for (i, count) in self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0) {
            if (below + count) as f64 >= wanted {
                let Some(high) = self.bounds.get(i).copied() else { return self.bounds.last().copied() };
                let low = if i > 0 { self.bounds[i - 1] } else { high.min(0.0) };
                return Some(low + (high - low) * (wanted - below as f64) / count as f64);
            }
            below += count;
        }
        None
    }
}

/// One thread's part of a histogram.
#[derive(Debug)]
struct Counts {
    counts: Box<[AtomicU64]>,
    /// Bits of an f64.
    sum: AtomicU64,
}

/// A histogram of numbers.
#[derive(Debug)]
pub struct Histogram {
    bounds: Arc<[f64]>,
    lanes: Lanes<Counts>,
}

impl Histogram {
    /// A histogram over ascending upper bounds (at most 64; a value equal to a bound belongs below it), and a bucket above.
    pub fn new(bounds: Arc<[f64]>) -> Self {
        debug_assert!(bounds.len() <= MAX_BOUNDS && bounds.is_sorted_by(|a, b| a < b), "bounds ascend: {bounds:?}");
        Self { bounds, lanes: Lanes::default() }
    }

    /// Records one value. NaN counts as above every bound; values that are not finite are left out of the sum.
    pub fn record(&self, value: f64) {
        self.record_n(value, 1);
    }

    /// Records a value `n` times.
    pub fn record_n(&self, value: f64, n: u64) {
        let (mine, writer) = self.mine();
        writer.add(&mine.counts[self.bucket(value)], n);
        if value.is_finite() {
            writer.add_f64(&mine.sum, value * n as f64);
        }
    }

    /// Records many values: the same as recording each, with one addition per bucket touched.
    pub fn record_many(&self, values: &[f32]) {
        if let [value] = values {
            return self.record(f64::from(*value));
        }
        let mut counts = [0_u64; MAX_BOUNDS + 1];
        let mut sum = 0.0;
        for value in values {
            let value = f64::from(*value);
            counts[self.bucket(value).min(MAX_BOUNDS)] += 1;
            if value.is_finite() {
                sum += value;
            }
        }
        let (mine, writer) = self.mine();
        for (total, n) in mine.counts.iter().zip(counts) {
            if n > 0 {
                writer.add(total, n);
            }
        }
        writer.add_f64(&mine.sum, sum);
    }

    /// The counts and the sum now. Values recorded meanwhile may be in one and not in the other.
    pub fn snapshot(&self) -> Snapshot {
        let mut counts = vec![0; self.bounds.len() + 1];
        let mut sum = 0.0;
        for lane in self.lanes.iter() {
            for (total, count) in counts.iter_mut().zip(&lane.counts) {
                *total += count.load(Relaxed);
            }
            sum += f64::from_bits(lane.sum.load(Relaxed));
        }
        Snapshot { bounds: Arc::clone(&self.bounds), counts, sum }
    }

    fn mine(&self) -> (&Counts, Writer) {
        self.lanes.mine(|| Counts {
            counts: (0..=self.bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        })
    }

    fn bucket(&self, value: f64) -> usize {
        if value.is_nan() { self.bounds.len() } else { self.bounds.partition_point(|bound| *bound < value) }
    }
}

/// One thread's part of a histogram of durations, 50 us to 60 s. Whole nanoseconds inside, so that sums are exact.
#[derive(Debug, Default)]
pub(super) struct Times {
    counts: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Times {
    /// Records one duration.
    pub(super) fn record(&self, writer: Writer, duration: Duration) {
        let nanos = nanos(duration);
        writer.add(&self.counts[latency_bucket(nanos)], 1);
        writer.add(&self.nanos, nanos);
    }
}

fn latency_bucket(nanos: u64) -> usize {
    let start = usize::from(LATENCY_START[(u64::BITS - nanos.leading_zeros()) as usize]);
    let further = LATENCY_BOUNDS[start..].iter().take_while(|bound| **bound < nanos).count();
    start + further
}

/// The histogram that several threads' parts make, in seconds.
pub(super) fn times_snapshot<'a>(parts: impl Iterator<Item = &'a Times>) -> Snapshot {
    let mut counts = vec![0; LATENCY_BOUNDS.len() + 1];
    let mut nanos = 0;
    for part in parts {
        for (total, count) in counts.iter_mut().zip(&part.counts) {
            *total += count.load(Relaxed);
        }
        nanos += part.nanos.load(Relaxed);
    }
    let bounds = LATENCY_BOUNDS.iter().map(|nanos| *nanos as f64 / NANOS_PER_SECOND).collect();
    Snapshot { bounds, counts, sum: nanos as f64 / NANOS_PER_SECOND }
}

/// How many durations several threads' parts hold, and how many nanoseconds in all.
pub(super) fn times_tally<'a>(parts: impl Iterator<Item = &'a Times>) -> Tally {
    parts.fold(Tally::default(), |tally, part| Tally {
        count: tally.count + part.counts.iter().map(|count| count.load(Relaxed)).sum::<u64>(),
        ns: tally.ns + part.nanos.load(Relaxed),
    })
}

/// Bounds of batch sizes: powers of two, 1 to 4096.
pub fn row_bounds() -> Arc<[f64]> {
    (0..=12).map(|power| f64::from(1_u16 << power)).collect()
}

/// Bounds of probabilities: 20 equal buckets on [0, 1].
pub fn probability_bounds() -> Arc<[f64]> {
    (1..=20).map(|step| f64::from(step) / 20.0).collect()
}

/// Bounds of differences: zero, and powers of ten from 1e-9 to a million.
pub fn difference_bounds() -> Arc<[f64]> {
    // Through text, so that a bound is the number that it is shown as.
    let power = |exponent: i32| format!("1e{exponent}").parse().unwrap_or(f64::INFINITY);
    [0.0].into_iter().chain((-9..=6).map(power)).collect()
}

/// Bounds of numbers in a known range: one bucket below it, 20 equal ones in it, one above.
pub fn range_bounds(low: f64, high: f64) -> Arc<[f64]> {
    let width = high - low;
    if !width.is_finite() || width <= 0.0 {
        return signed_log_bounds();
    }
    let mut bounds: Vec<f64> = (0..=20).map(|step| low + width * f64::from(step) / 20.0).collect();
    bounds.dedup();
    bounds.into()
}

/// Bounds of numbers of which nothing is known: 1, 2, 5 per decade from 0.01 to a million, on both sides of zero.
pub fn signed_log_bounds() -> Arc<[f64]> {
    let magnitudes = (-2..=6).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)));
    let positive: Vec<f64> = magnitudes.filter(|bound| *bound <= 1e6).collect();
    positive.iter().rev().map(|bound| -bound).chain([0.0]).chain(positive.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_below_it() {
        let histogram = Histogram::new([0.5, 1.0].into());
        for value in [0.5, 0.75, 1.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            histogram.record(value);
        }
        assert_eq!(histogram.snapshot(), Snapshot { bounds: [0.5, 1.0].into(), counts: vec![2, 2, 3], sum: 3.75 });
    }

    #[test]
    fn quantiles_are_estimated_within_their_bucket() {
        let histogram = Histogram::new([0.0, 1.0, 3.0].into());
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for (value, times) in [(0.0, 2), (2.0, 6), (9.0, 2)] {
            histogram.record_n(value, times);
        }
        let quantile = |q| histogram.snapshot().quantile(q).unwrap();
        assert_eq!((quantile(0.0), quantile(0.2), quantile(0.5), quantile(0.8)), (0.0, 0.0, 2.0, 3.0));
        assert_eq!((quantile(0.99), quantile(1.0), quantile(7.0)), (3.0, 3.0, 3.0));
        let low = Histogram::new([4.0].into());
        low.record_n(1.0, 4);
        assert_eq!((low.snapshot().quantile(0.25), low.snapshot().quantile(1.0)), (Some(1.0), Some(4.0)));
    }

    #[test]
    fn bulk_recording_is_the_same_as_recording_each() {
        let mut seed = 7_u64;
        let values: Vec<f32> = (0..1000)
            .map(|i| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                // Multiples of 1/64 keep every partial sum exact, whatever the order.
                if i % 100 == 0 { f32::NAN } else { (seed >> 40) as f32 / 64.0 - 131_072.0 }
            })
            .collect();
        for bounds in [signed_log_bounds(), probability_bounds(), row_bounds(), range_bounds(-1e5, 3e5)] {
            let (one, many) = (Histogram::new(Arc::clone(&bounds)), Histogram::new(bounds));
            values.iter().for_each(|value| one.record(f64::from(*value)));
            values.chunks(37).for_each(|chunk| many.record_many(chunk));
            assert_eq!(one.snapshot(), many.snapshot());
            assert_eq!(one.snapshot().count(), 1000);
        }
    }

    #[test]
    fn latencies_cover_50_us_to_60_s_and_sum_exactly() {
        let lanes = Lanes::<Times>::default();
        let (mine, writer) = lanes.mine(Times::default);
        for nanos in [1, 50_000, 50_001, 60_000_000_000, 60_000_000_001] {
            mine.record(writer, Duration::from_nanos(nanos));
        }
        let snapshot = times_snapshot(lanes.iter());
        assert_eq!((snapshot.bounds[0], snapshot.bounds[19]), (0.00005, 60.0));
        assert_eq!((snapshot.counts[0], snapshot.counts[1], snapshot.counts[19], snapshot.counts[20]), (2, 1, 1, 1));
        assert_eq!(times_tally(lanes.iter()), Tally { count: 5, ns: 120_000_100_003 });
        assert_eq!(snapshot.count(), 5);
    }

    #[test]
    fn the_bucket_of_a_latency_is_found_from_its_bits() {
        let powers = (0..64).map(|bits| 1_u64 << bits);
        let interesting = powers.chain(LATENCY_BOUNDS).chain([0, u64::MAX]);
        for nanos in interesting.flat_map(|n| [n.saturating_sub(1), n, n.saturating_add(1)]) {
            assert_eq!(latency_bucket(nanos), LATENCY_BOUNDS.partition_point(|bound| *bound < nanos), "{nanos}");
        }
    }

    #[test]
    fn concurrent_recording_loses_nothing() {
        let (histogram, lanes) = (Histogram::new(probability_bounds()), Lanes::<Times>::default());
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (histogram, lanes) = (&histogram, &lanes);
                scope.spawn(move || {
                    for i in 0..10_000 {
                        histogram.record_many(&[0.25, 0.5]);
                        histogram.record_n(0.75, 2);
                        let (mine, writer) = lanes.mine(Times::default);
                        mine.record(writer, Duration::from_nanos(u64::from(thread * 10_000 + i)));
                    }
                });
            }
        });
        assert_eq!(histogram.snapshot().count(), 160_000);
        assert_eq!(histogram.snapshot().sum, 4.0 * 10_000.0 * 2.25);
        assert_eq!(times_tally(lanes.iter()), Tally { count: 40_000, ns: 39_999 * 20_000 });
    }

    #[test]
    fn bounds_ascend_whatever_was_configured() {
        let odd = [(0.0, 0.0), (1.0, 0.0), (f64::NAN, 1.0), (-1.0, f64::INFINITY), (1e16, 1e16 + 4.0), (-3.0, 5.0)];
        let all = odd.map(|(low, high)| range_bounds(low, high));
        for bounds in all.iter().chain(&[signed_log_bounds(), probability_bounds(), row_bounds(), difference_bounds()])
        {
            assert!(bounds.is_sorted_by(|a, b| a < b) && bounds.len() <= MAX_BOUNDS, "{bounds:?}");
        }
        assert_eq!(signed_log_bounds().len(), 51);
        assert_eq!((row_bounds()[0], row_bounds()[12]), (1.0, 4096.0));
        assert_eq!((probability_bounds()[0], probability_bounds()[19]), (0.05, 1.0));
    }
}
