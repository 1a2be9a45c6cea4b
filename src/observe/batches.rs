//! What is known about the batches of a loaded version: the histogram of their sizes, and per exact size how long gathering,
//! computing and scattering took. Written by the scheduler once per batch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{
    group::{Budget, Permit},
    histogram::{Histogram, row_bounds},
    lanes::{Lanes, Writer},
    names,
    render::Exposition,
};
use crate::types::{BatchStatistics, Tally};

/// Batches up to this size are tallied without a lock; larger ones are dear enough not to notice one.
const SMALL: usize = 64;

/// Exact sizes above [`SMALL`] that are kept apart; from then on sizes are rounded up to a power of two.
const MAX_LARGE_SIZES: usize = 256;

/// Batches of one size: how many, and nanoseconds of gather, compute and scatter.
#[derive(Debug, Default)]
struct Size([AtomicU64; 4]);

impl Size {
    fn ran(&self, writer: Writer, [gather, compute, scatter]: [u64; 3]) {
        for (total, n) in self.0.iter().zip([1, gather, compute, scatter]) {
            writer.add(total, n);
        }
    }
}

/// One thread's tallies of small batches. Index = rows - 1.
type SmallSizes = [OnceLock<Box<Size>>; SMALL];

/// The batches of a loaded version.
#[derive(Debug)]
pub(super) struct Batches {
    rows: Histogram,
    permit: Option<Permit>,
    small: Lanes<SmallSizes>,
    large: Mutex<BTreeMap<usize, [u64; 4]>>,
}

impl Batches {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            rows: Histogram::new(row_bounds()),
            permit: Permit::take(budget),
            small: Lanes::default(),
            large: Mutex::default(),
        }
    }

    /// A batch was run, with these nanoseconds of gather, compute and scatter.
    pub(super) fn ran(&self, rows: usize, nanos: [u64; 3]) {
        self.rows.record(rows as f64);
        let (small, writer) = self.small.mine(|| [const { OnceLock::new() }; SMALL]);
        match small.get(rows.wrapping_sub(1)) {
            Some(size) => size.get_or_init(Box::default).ran(writer, nanos),
            None => self.ran_large(rows, nanos),
        }
    }

    fn ran_large(&self, rows: usize, [gather, compute, scatter]: [u64; 3]) {
        let mut large = self.large.lock();
        let exact = large.len() < MAX_LARGE_SIZES || large.contains_key(&rows);
        let rows = if exact { rows } else { rows.next_power_of_two() };
        add(large.entry(rows).or_default(), [1, gather, compute, scatter]);
    }

    /// Batches run.
    pub(super) fn count(&self) -> u64 {
        self.rows.snapshot().count()
    }

    /// Per size, ascending.
    pub(super) fn statistics(&self) -> Vec<BatchStatistics> {
        let mut all = self.large.lock().clone();
        for small in self.small.iter() {
            for (i, size) in small.iter().enumerate() {
                if let Some(size) = size.get() {
                    let size = std::array::from_fn(|n| size.0[n].load(Relaxed));
                    add(all.entry(i + 1).or_default(), size);
                }
            }
        }
        all.into_iter().map(|(rows, size)| statistics(rows, size)).collect()
    }

    pub(super) fn collect(&self, labels: &[&str], out: &mut Exposition) {
        if self.permit.is_some() {
            out.histogram(&names::BATCH_ROWS, labels, &self.rows.snapshot());
        }
    }
}

fn add(total: &mut [u64; 4], more: [u64; 4]) {
    for (total, n) in total.iter_mut().zip(more) {
        *total += n;
    }
}

fn statistics(rows: usize, [count, gather, compute, scatter]: [u64; 4]) -> BatchStatistics {
    let tally = |ns: u64| Tally { count, ns };
    BatchStatistics {
        rows: rows as u64,
        compute_input: tally(gather),
        compute_infer: tally(compute),
        compute_output: tally(scatter),
    }
}
