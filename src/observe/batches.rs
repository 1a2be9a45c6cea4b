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
struct Size {
    count: AtomicU64,
    nanos: [AtomicU64; 3],
}

impl Size {
    fn ran(&self, nanos: [u64; 3]) {
        self.count.fetch_add(1, Relaxed);
        for (total, nanos) in self.nanos.iter().zip(nanos) {
            total.fetch_add(nanos, Relaxed);
        }
    }

    fn statistics(&self, rows: usize) -> BatchStatistics {
        let count = self.count.load(Relaxed);
        let tally = |i: usize| Tally { count, ns: self.nanos[i].load(Relaxed) };
        BatchStatistics {
            rows: rows as u64,
            compute_input: tally(0),
            compute_infer: tally(1),
            compute_output: tally(2),
        }
    }
}

/// The batches of a loaded version.
#[derive(Debug)]
pub(super) struct Batches {
    rows: Histogram,
    permit: Option<Permit>,
    /// Index = rows - 1.
    small: [OnceLock<Box<Size>>; SMALL],
    large: Mutex<BTreeMap<usize, Size>>,
}

impl Batches {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            rows: Histogram::new(row_bounds()),
            permit: Permit::take(budget),
            small: std::array::from_fn(|_| OnceLock::new()),
            large: Mutex::default(),
        }
    }

    /// A batch was run, with these nanoseconds of gather, compute and scatter.
    pub(super) fn ran(&self, rows: usize, nanos: [u64; 3]) {
        self.rows.record(rows as f64);
        match self.small.get(rows.wrapping_sub(1)) {
            Some(size) => size.get_or_init(Box::default).ran(nanos),
            None => {
                let mut large = self.large.lock();
                let exact = large.len() < MAX_LARGE_SIZES || large.contains_key(&rows);
                let rows = if exact { rows } else { rows.next_power_of_two() };
                large.entry(rows).or_default().ran(nanos);
            }
        }
    }

    /// Batches run.
    pub(super) fn count(&self) -> u64 {
        self.rows.snapshot().count()
    }

    /// Per size, ascending.
    pub(super) fn statistics(&self) -> Vec<BatchStatistics> {
        let small = self.small.iter().enumerate();
        let mut all: Vec<_> = small.filter_map(|(i, size)| Some(size.get()?.statistics(i + 1))).collect();
        all.extend(self.large.lock().iter().map(|(rows, size)| size.statistics(*rows)));
        all
    }

    pub(super) fn collect(&self, labels: &[&str], out: &mut Exposition) {
        if self.permit.is_some() {
            out.histogram(&names::BATCH_ROWS, labels, &self.rows.snapshot());
        }
    }
}
