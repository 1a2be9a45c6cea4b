//! What happened when: the measured time cut into slices, each with its own counts and latencies. Ramps are read from it,
//! and how long a server takes to recover. Filled by `bench`.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::{Fault, Result};
use crate::tally::{LONGEST, Window, nanos};

/// Slices of equal length.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Duration,
    pub(crate) width: Duration,
    pub(crate) slices: Vec<Slice>,
}

/// Requests intended in one slice.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// All of them, whatever became of them.
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    /// Answered within the deadline, if there is one.
    pub(crate) in_time: u64,
    /// Nanoseconds, answers.
    pub(crate) latency: Histogram<u64>,
}

/// Memory bound: a slice takes about 30 kB.
pub(crate) const MAX_SLICES: usize = 400;

/// How a request ended, as far as a timeline cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    InTime,
    Late,
    /// Refused, failed, wrong, given up or not sent.
    Failed,
}

impl Timeline {
    /// `count` empty slices of the window.
    ///
    /// # Errors
    /// None that can happen: the bounds are constants.
    pub(crate) fn new(window: Window, count: usize) -> Result<Self> {
        let count = count.clamp(1, MAX_SLICES);
        let latency = Histogram::new_with_bounds(1000, nanos(LONGEST), 2).map_err(|e| Fault::new("histogram", e))?;
        let slice = Slice { offered: 0, answered: 0, in_time: 0, latency };
        let width = (window.end - window.start) / u32::try_from(count).unwrap_or(1);
        Ok(Self { start: window.start, width, slices: vec![slice; count] })
    }

    /// Counts one request that was intended for `intended` and took `latency`.
    pub(crate) fn record(&mut self, intended: Duration, latency: Duration, ending: Ending) {
        let Some(after) = intended.checked_sub(self.start) else { return };
        let at = after.as_nanos().checked_div(self.width.as_nanos()).unwrap_or(0);
        let Some(slice) = usize::try_from(at).ok().and_then(|at| self.slices.get_mut(at)) else { return };
        slice.offered += 1;
        if ending != Ending::Failed {
            slice.answered += 1;
            slice.latency.saturating_record(nanos(latency));
        }
        slice.in_time += u64::from(ending == Ending::InTime);
    }

    /// Time from slice `from` on until the share of answers in time has come back to `share` and stays there for `quiet`
    /// slices; `None` if it does not.
    pub(crate) fn recovery(&self, from: usize, share: f64, quiet: usize) -> Option<Duration> {
        let good = |slice: &Slice| slice.in_time as f64 >= share * slice.offered as f64;
        let slices = self.slices.get(from..)?;
        let calm = slices.windows(quiet.max(1)).position(|window| window.iter().all(good))?;
        Some(self.width * u32::try_from(calm).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn timeline() -> Timeline {
        Timeline::new(Window { start: 100 * MS, end: 200 * MS }, 10).unwrap()
    }

    #[test]
    fn requests_count_where_they_were_due() {
        let mut timeline = timeline();
        timeline.record(99 * MS, MS, Ending::InTime);
        timeline.record(100 * MS, MS, Ending::InTime);
        timeline.record(109 * MS, 50 * MS, Ending::Late);
        timeline.record(199 * MS, MS, Ending::Failed);
        timeline.record(200 * MS, MS, Ending::InTime);
        let first = &timeline.slices[0];
        assert_eq!((first.offered, first.answered, first.in_time), (2, 2, 1));
        assert_eq!((timeline.slices[9].offered, timeline.slices[9].answered), (1, 0));
        assert_eq!(timeline.slices.iter().map(|slice| slice.offered).sum::<u64>(), 3);
    }

    #[test]
    fn recovery_is_when_it_stays_good() {
        let mut timeline = timeline();
        for (slice, good) in
            [(2_u32, true), (3, false), (4, true), (5, true), (6, true), (7, true), (8, true), (9, true)]
        {
            let ending = if good { Ending::InTime } else { Ending::Failed };
            timeline.record((100 + slice * 10) * MS, MS, ending);
        }
        assert_eq!(timeline.recovery(2, 0.95, 3), Some(20 * MS));
        assert_eq!(timeline.recovery(4, 0.95, 3), Some(Duration::ZERO));
        assert_eq!(timeline.recovery(2, 0.95, 7), None);
        assert_eq!(timeline.recovery(99, 0.95, 1), None);
    }
}
