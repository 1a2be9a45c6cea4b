//! Holds the share of rows that a cascade's first stage sends on, by moving the threshold in force between the configured one
//! and a floor. Pure: time is an argument. Called by cascades with the measures of every answer of the first stage, from any
//! number of threads.
//!
//! The last rows' measures are kept as they are, a few thousand of them, so the threshold that would have sent on the wanted
//! share is one of them: the quantile, whatever the distribution. Nothing has to be tuned, and there is no loop to oscillate; the
//! threshold only moves towards it in bounded steps, so that a burst cannot throw it from one end to the other. At high rates
//! only some rows are kept, so that those kept always cover about two seconds.

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::types::{Escalation, nanos};

/// Measures that are kept: the standard deviation of the share when a quarter is held is then 0.7 points.
const WINDOW: usize = 4096;
/// Fewer say nothing yet.
const LEAST: usize = 128;
/// At low rates only the last rows of this much time count, so that the threshold follows within minutes, ...
const RECENT: Duration = Duration::from_secs(60);
/// ... but at least so many.
const RECENT_ROWS: f64 = 512.0;
/// The threshold moves at most this often, ...
const PERIOD: Duration = Duration::from_millis(100);
/// ... and then at most by the range between floor and configured threshold divided by this.
const STEPS: f64 = 16.0;
/// At high rates the rows kept cover this much time.
const COVERS: Duration = Duration::from_secs(2);
/// At the highest rates one row of so many is kept, as a power of two.
const SPARSEST: u32 = 20;

/// The threshold in force of one cascade.
pub struct Controller {
    at_least: f64,
    escalation: Escalation,
    /// The bits of the threshold in force.
    threshold: AtomicU64,
    saturated: AtomicBool,
    /// Rows ever seen.
    seen: AtomicU64,
    /// A row is kept if these bits of the hash of its number are 0.
    mask: AtomicU64,
    /// Measures ever kept; the next one goes to this place modulo the window.
    kept: AtomicU64,
    /// The bits of the measures.
    window: Box<[AtomicU64]>,
    epoch: Instant,
    /// When the threshold may move again, in nanoseconds from `epoch`.
    due: AtomicU64,
    /// Held by the one thread that moves the threshold; nobody waits for it.
    last: Mutex<Last>,
}

/// The last move.
struct Last {
    at: Instant,
    seen: u64,
    kept: u64,
    scratch: Vec<f64>,
}

impl Controller {
    /// A controller at the configured threshold. `escalation.floor` is at most `at_least`, which the configuration makes sure of.
    pub fn new(at_least: f64, escalation: Escalation, now: Instant) -> Self {
        let floor = escalation.floor.min(at_least);
        Self {
            at_least,
            escalation: Escalation { floor, ..escalation },
            threshold: AtomicU64::new(at_least.to_bits()),
            saturated: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            mask: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            window: (0..WINDOW).map(|_| AtomicU64::new(0)).collect(),
            epoch: now,
            due: AtomicU64::new(nanos(PERIOD)),
            last: Mutex::new(Last { at: now, seen: 0, kept: 0, scratch: Vec::new() }),
        }
    }

    /// The threshold in force: rows of at least this measure are kept.
    pub fn threshold(&self) -> f64 {
        f64::from_bits(self.threshold.load(Relaxed))
    }

    /// True while the threshold is at the floor and more rows than wanted go on all the same.
    pub fn saturated(&self) -> bool {
        self.saturated.load(Relaxed)
    }

    /// Takes note of the measures of rows that the first stage has answered, kept or not, and moves the threshold when it is
    /// time. Without rows nothing moves.
    pub fn record(&self, measures: &[f64], now: Instant) {
        let rows = measures.len() as u64;
        if rows == 0 {
            return;
        }
        let first = self.seen.fetch_add(rows, Relaxed);
        let mask = self.mask.load(Relaxed);
        if mask == 0 {
            let place = self.kept.fetch_add(rows, Relaxed);
            measures.iter().zip(place..).for_each(|(measure, place)| self.keep(*measure, place));
        } else {
            for (measure, _) in measures.iter().zip(first..).filter(|(_, number)| scattered(*number) & mask == 0) {
                self.keep(*measure, self.kept.fetch_add(1, Relaxed));
            }
        }
        if nanos(now.saturating_duration_since(self.epoch)) >= self.due.load(Relaxed) {
            self.adjust(now);
        }
    }

    fn keep(&self, measure: f64, place: u64) {
        self.window[place as usize % WINDOW].store(measure.to_bits(), Relaxed);
    }

    fn adjust(&self, now: Instant) {
        // Another thread is at it.
        let Some(mut last) = self.last.try_lock() else { return };
        let since = now.saturating_duration_since(last.at);
        let kept = self.kept.load(Relaxed);
        if since < PERIOD || kept == last.kept {
            return;
        }
        let seen = self.seen.load(Relaxed);
        let per_second = seen.wrapping_sub(last.seen) as f64 / since.as_secs_f64();
        self.mask.store(sparseness(per_second), Relaxed);
        (last.at, last.seen, last.kept) = (now, seen, kept);
        self.due.store(nanos((now + PERIOD).saturating_duration_since(self.epoch)), Relaxed);
        let recent = (per_second * RECENT.as_secs_f64()).clamp(RECENT_ROWS, WINDOW as f64) as u64;
        if kept >= LEAST as u64 {
            self.step(self.wanted(&mut last.scratch, kept.saturating_sub(recent)..kept));
        }
    }

    /// The highest threshold that would have sent on at most the wanted share of these of the measures kept.
    fn wanted(&self, scratch: &mut Vec<f64>, places: Range<u64>) -> f64 {
        scratch.clear();
        let measures = places.map(|place| f64::from_bits(self.window[place as usize % WINDOW].load(Relaxed)));
        // A NaN always goes on, as if it were less than any threshold.
        scratch.extend(measures.map(|measure| if measure.is_nan() { f64::NEG_INFINITY } else { measure }));
        let may_go_on = (self.escalation.at_most * scratch.len() as f64) as usize;
        if may_go_on >= scratch.len() {
            return f64::INFINITY;
        }
        *scratch.select_nth_unstable_by(may_go_on, f64::total_cmp).1
    }

    fn step(&self, wanted: f64) {
        let floor = self.escalation.floor;
        let (goal, before) = (wanted.clamp(floor, self.at_least), self.threshold());
        let step = (self.at_least - floor) / STEPS;
        let after = if (goal - before).abs() <= step { goal } else { before + step.copysign(goal - before) };
        self.threshold.store(after.to_bits(), Relaxed);
        self.saturated.store(after <= floor && wanted < floor, Relaxed);
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("at_least", &self.at_least)
            .field("escalation", &self.escalation)
            .field("threshold", &self.threshold())
            .field("saturated", &self.saturated())
            .finish_non_exhaustive()
    }
}

/// The mask with which the window covers [`COVERS`] at this many rows per second.
fn sparseness(per_second: f64) -> u64 {
    let one_of = (per_second * COVERS.as_secs_f64() / WINDOW as f64).ceil().clamp(1.0, f64::from(1_u32 << SPARSEST));
    (one_of as u64).next_power_of_two() - 1
}

/// A hash of a row's number (the finaliser of SplitMix64), so that which rows are kept does not fall into step with how callers
/// order them.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
