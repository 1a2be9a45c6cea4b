//! The series of a route's shadow: how many rows were compared and agreed, how far apart the answers were, and how long either
//! side took. Written by the shadow's own thread, except for drops, which the request's thread counts.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    get_or_make,
    group::{Budget, LazyPermit},
    histogram::{Histogram, Times, difference_bounds, times_snapshot},
    lanes::Lanes,
    names,
    render::Exposition,
    report::{DifferenceReport, ShadowReport, Spread},
    upgraded,
};

/// What became of a mirrored row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowResult {
    /// All shared outputs are the same within the tolerance.
    Agree,
    /// Some are not.
    Differ,
    /// The shadow gave no answer that could be compared.
    Failed,
    /// It was not asked: too much waits, the machine is busy, it came too late, or shadows are off.
    Dropped,
}

impl ShadowResult {
    /// Every result.
    pub const ALL: [ShadowResult; 4] =
        [ShadowResult::Agree, ShadowResult::Differ, ShadowResult::Failed, ShadowResult::Dropped];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            ShadowResult::Agree => "agree",
            ShadowResult::Differ => "differ",
            ShadowResult::Failed => "failed",
            ShadowResult::Dropped => "dropped",
        }
    }
}

/// Whose time it is. Label values.
const SIDES: [&str; 2] = ["primary", "shadow"];

/// One thread's part.
#[derive(Debug, Default)]
struct Counts {
    rows: [AtomicU64; ShadowResult::ALL.len()],
    /// By [`SIDES`].
    times: [Times; SIDES.len()],
}

/// The series of a route's shadow. Held by the revisions that have one.
#[derive(Debug, Default)]
pub struct ShadowSeries {
    counts: Lanes<Counts>,
    rows: [LazyPermit; ShadowResult::ALL.len()],
    times: [LazyPermit; SIDES.len()],
    outputs: Mutex<Vec<Weak<DifferenceSeries>>>,
}

impl ShadowSeries {
    /// The series of one compared output. It takes a lock: ask when a revision is compiled, and hold it.
    pub fn output(&self, name: &str) -> Arc<DifferenceSeries> {
        get_or_make(&mut self.outputs.lock(), |known| *known.output == *name, || DifferenceSeries::new(name))
    }

    /// Mirrored rows came to this.
    pub fn rows(&self, result: ShadowResult, rows: usize) {
        if rows > 0 {
            let (mine, writer) = self.counts.mine(Counts::default);
            writer.add(&mine.rows[result as usize], rows as u64);
        }
    }

    /// A mirrored request was compared: how long the primary took with its waiting, and how long the shadow ran.
    pub fn took(&self, primary: Duration, shadow: Duration) {
        let (mine, writer) = self.counts.mine(Counts::default);
        for (times, took) in mine.times.iter().zip([primary, shadow]) {
            times.record(writer, took);
        }
    }

    /// Rows that came to this so far.
    pub fn count(&self, result: ShadowResult) -> u64 {
        self.counts.sum(|lane| &lane.rows[result as usize])
    }

    pub(super) fn report(&self) -> ShadowReport {
        let [agree, differ, failed, dropped] = ShadowResult::ALL.map(|result| self.count(result));
        let compared = agree + differ;
        let side = |i: usize| times_snapshot(self.counts.iter().map(|lane| &lane.times[i])).into();
        let mut outputs: Vec<_> = upgraded(&self.outputs.lock()).collect();
        outputs.sort_by(|a, b| a.output.cmp(&b.output));
        ShadowReport {
            agree,
            differ,
            failed,
            dropped,
            agreement: (compared > 0).then(|| agree as f64 / compared as f64),
            outputs: outputs.iter().map(|output| output.report()).collect(),
            primary: side(0),
            shadow: side(1),
        }
    }

    pub(super) fn collect(&self, route: &str, budget: &Arc<Budget>, out: &mut Exposition) {
        for result in ShadowResult::ALL {
            let rows = self.count(result);
            if rows > 0 && self.rows[result as usize].granted(budget) {
                out.value(&names::SHADOW_ROWS, &[route, result.as_str()], rows as f64);
            }
        }
        for (i, side) in SIDES.into_iter().enumerate() {
            let snapshot = times_snapshot(self.counts.iter().map(|lane| &lane.times[i]));
            if snapshot.count() > 0 && self.times[i].granted(budget) {
                out.histogram(&names::SHADOW_DURATION, &[route, side], &snapshot);
            }
        }
        for output in upgraded(&self.outputs.lock()) {
            output.collect(route, budget, out);
        }
    }
}

/// How far a shadow's answers were from the primary's in one output.
#[derive(Debug)]
pub struct DifferenceSeries {
    output: Box<str>,
    flips: AtomicU64,
    /// Rows whose highest score was compared.
    ranked: AtomicU64,
    absolute: Differences,
    relative: Differences,
    shown: LazyPermit,
}

impl DifferenceSeries {
    fn new(output: &str) -> Self {
        Self {
            output: output.into(),
            flips: AtomicU64::new(0),
            ranked: AtomicU64::new(0),
            absolute: Differences::default(),
            relative: Differences::default(),
            shown: LazyPermit::default(),
        }
    }

    /// The output's name.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Rows whose highest score was compared, and in how many of them it was in another column.
    pub fn ranked(&self, rows: usize, flips: usize) {
        self.ranked.fetch_add(rows as u64, Relaxed);
        self.flips.fetch_add(flips as u64, Relaxed);
    }

    /// A row's largest absolute and largest relative difference. NaN and infinity = no number: counted above every bound.
    pub fn row(&self, absolute: f64, relative: f64) {
        self.absolute.record(absolute);
        self.relative.record(relative);
    }

    fn report(&self) -> DifferenceReport {
        DifferenceReport {
            output: self.output.clone(),
            ranked: self.ranked.load(Relaxed),
            flips: self.flips.load(Relaxed),
            absolute: self.absolute.spread(),
            relative: self.relative.spread(),
        }
    }

    fn collect(&self, route: &str, budget: &Arc<Budget>, out: &mut Exposition) {
        let labels = [route, &*self.output];
        if self.ranked.load(Relaxed) > 0 && self.shown.granted(budget) {
            out.value(&names::SHADOW_FLIPS, &labels, self.flips.load(Relaxed) as f64);
        }
        for (family, differences) in
            [(&names::SHADOW_ABSOLUTE, &self.absolute), (&names::SHADOW_RELATIVE, &self.relative)]
        {
            let snapshot = differences.histogram.snapshot();
            if snapshot.count() > 0 && differences.permit.granted(budget) {
                out.histogram(family, &labels, &snapshot);
            }
        }
    }
}

/// A histogram of differences, and the largest of them.
#[derive(Debug)]
struct Differences {
    histogram: Histogram,
    /// Bits of an f64 that is not negative, so that they are ordered as it is; an infinity stands for what is no number.
    largest: AtomicU64,
    permit: LazyPermit,
}

impl Default for Differences {
    fn default() -> Self {
        Self {
            histogram: Histogram::new(difference_bounds()),
            largest: AtomicU64::new(0),
            permit: LazyPermit::default(),
        }
    }
}

impl Differences {
    fn record(&self, difference: f64) {
        self.histogram.record(difference);
        let size = if difference.is_nan() { f64::INFINITY } else { difference.abs() };
        self.largest.fetch_max(size.to_bits(), Relaxed);
    }

    fn spread(&self) -> Spread {
        let snapshot = self.histogram.snapshot();
        Spread {
            rows: snapshot.count(),
            p50: snapshot.quantile(0.5),
            p99: snapshot.quantile(0.99),
            max: (snapshot.count() > 0).then(|| f64::from_bits(self.largest.load(Relaxed))),
        }
    }
}
