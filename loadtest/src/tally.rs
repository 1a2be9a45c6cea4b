//! What a run counts. Latency runs from the intended send time to the answer's last byte; only requests intended inside
//! the measuring window count, so warm-up costs nothing and slow answers at the end are not lost. Filled by the runs,
//! shown by `report`.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::{Fault, Result};
use crate::sender::{Code, Failure};
use crate::verify::Verdict;

/// The measuring window on the run's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
}

/// Failures of one code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ErrorCount {
    pub(crate) count: u64,
    /// Nanoseconds: a server that refuses should do it quickly.
    pub(crate) latency: Histogram<u64>,
    /// The text of the first one.
    pub(crate) example: String,
}

/// Counts and latencies of one run, or of several added up.
#[derive(Debug)]
pub(crate) struct Tally {
    window: Window,
    /// Answers after this long are counted as late.
    deadline: Option<Duration>,
    /// Nanoseconds, answers that were not found wrong.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds, failures: an overloaded server should say no quickly.
    pub(crate) error_latency: Histogram<u64>,
    /// Nanoseconds that the generator itself was late in sending (open loop).
    pub(crate) send_lag: Histogram<u64>,
    /// Answers that arrived inside the window, whenever they were sent: the numerator of the throughput.
    pub(crate) arrived: u64,
    /// Measured answers found right, not looked at, and past the deadline.
    pub(crate) verified: u64,
    pub(crate) unverified: u64,
    pub(crate) late: u64,
    /// Wrong answers, warm-up included: an answer is never allowed to be wrong.
    pub(crate) mismatches: u64,
    /// Those of them that were right for another request.
    pub(crate) swapped: u64,
    pub(crate) first_mismatch: Option<String>,
    pub(crate) errors: BTreeMap<Code, ErrorCount>,
    pub(crate) warmup_errors: u64,
    /// Arrivals that were not sent because too many were outstanding (open loop).
    pub(crate) dropped: u64,
    /// Requests that were taken back on purpose.
    pub(crate) cancelled: u64,
    /// When the last measured answer arrived.
    pub(crate) last_arrival: Duration,
}

/// Longest latency told apart from longer ones.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

fn histogram() -> Result<Histogram<u64>> {
    // Three digits from 100 ns up: finer than anything a socket does.
    Histogram::new_with_bounds(100, nanos(LONGEST), 3).map_err(|e| Fault::new("histogram", e))
}

/// Nanoseconds for a histogram.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Tally {
    /// An empty tally of a run that measures inside `window`.
    pub(crate) fn new(window: Window, deadline: Option<Duration>) -> Result<Self> {
        Ok(Self {
            window,
            deadline,
            latency: histogram()?,
            error_latency: histogram()?,
            send_lag: histogram()?,
            arrived: 0,
            verified: 0,
            unverified: 0,
            late: 0,
            mismatches: 0,
            swapped: 0,
            first_mismatch: None,
            errors: BTreeMap::new(),
            warmup_errors: 0,
            dropped: 0,
            cancelled: 0,
            last_arrival: window.start,
        })
    }

    /// Counts one request that should have been sent at `intended` and was done at `done`.
    pub(crate) fn record(&mut self, intended: Duration, done: Duration, outcome: Result<Verdict, Failure>) {
        let measured = intended >= self.window.start;
        let latency = done.saturating_sub(intended);
        match outcome {
            Err(failure) if failure.code == Code::TakenBack => self.cancelled += u64::from(measured),
            Err(failure) if measured => {
                self.error_latency.saturating_record(nanos(latency));
                self.error(failure.code, failure.text).add(latency);
            }
            Err(_) => self.warmup_errors += 1,
            Ok(Verdict::Wrong { what, swapped }) => {
                self.mismatches += 1;
                self.swapped += u64::from(swapped);
                self.first_mismatch.get_or_insert(what);
            }
            Ok(verdict) => {
                self.arrived += u64::from(done >= self.window.start && done <= self.window.end);
                if !measured {
                    return;
                }
                self.last_arrival = self.last_arrival.max(done);
                self.latency.saturating_record(nanos(latency));
                self.late += u64::from(self.deadline.is_some_and(|deadline| latency > deadline));
                match verdict {
                    Verdict::Right => self.verified += 1,
                    _ => self.unverified += 1,
                }
            }
        }
    }

    /// Notes that a request intended at `intended` left at `sent`.
    pub(crate) fn sent(&mut self, intended: Duration, sent: Duration) {
        if intended >= self.window.start {
            self.send_lag.saturating_record(nanos(sent.saturating_sub(intended)));
        }
    }

    /// Counts an arrival at `intended` that was not sent.
    pub(crate) fn drop_arrival(&mut self, intended: Duration) {
        self.dropped += u64::from(intended >= self.window.start);
    }

    /// Counts requests that had no answer when the run gave up waiting.
    pub(crate) fn give_up(&mut self, count: usize) {
        if count > 0 {
            self.error(Code::Unfinished, "no answer before the run gave up waiting".to_owned()).count += count as u64;
        }
    }

    /// Measured answers that were not found wrong.
    pub(crate) fn answered(&self) -> u64 {
        self.verified + self.unverified
    }

    /// Requests of the measured time, whatever became of them; those taken back on purpose are left out.
    pub(crate) fn offered(&self) -> u64 {
        self.answered() + self.mismatches + self.errors.values().map(|error| error.count).sum::<u64>() + self.dropped
    }

    /// Answers within the deadline; all of them where there is none.
    pub(crate) fn in_time(&self) -> u64 {
        self.answered().saturating_sub(self.late)
    }

    /// How many failures have a code of some kind, and their latencies in nanoseconds.
    pub(crate) fn failures(&self, of: impl Fn(Code) -> bool) -> (u64, Histogram<u64>) {
        let mut latency = self.error_latency.clone();
        latency.reset();
        let chosen = self.errors.iter().filter(|(code, _)| of(**code)).map(|(_, error)| error);
        let count = chosen.inspect(|error| merge(&mut latency, &error.latency)).map(|error| error.count).sum();
        (count, latency)
    }

    /// Adds the counts of another class or run.
    pub(crate) fn absorb(&mut self, other: &Self) {
        merge(&mut self.latency, &other.latency);
        merge(&mut self.error_latency, &other.error_latency);
        merge(&mut self.send_lag, &other.send_lag);
        self.last_arrival = self.last_arrival.max(other.last_arrival);
        self.arrived += other.arrived;
        self.verified += other.verified;
        self.unverified += other.unverified;
        self.late += other.late;
        self.mismatches += other.mismatches;
        self.warmup_errors += other.warmup_errors;
        self.swapped += other.swapped;
        self.dropped += other.dropped;
        self.cancelled += other.cancelled;
        if self.first_mismatch.is_none() {
            self.first_mismatch.clone_from(&other.first_mismatch);
        }
        for (code, error) in &other.errors {
            let mine = self.error(*code, error.example.clone());
            mine.count += error.count;
            merge(&mut mine.latency, &error.latency);
        }
    }

    fn error(&mut self, code: Code, example: String) -> &mut ErrorCount {
        let empty = || {
            let mut latency = self.error_latency.clone();
            latency.reset();
            ErrorCount { count: 0, latency, example }
        };
        self.errors.entry(code).or_insert_with(empty)
    }
}

impl ErrorCount {
    fn add(&mut self, latency: Duration) {
        self.count += 1;
        self.latency.saturating_record(nanos(latency));
    }
}

fn merge(mine: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    for step in theirs.iter_recorded() {
        mine.saturating_record_n(step.value_iterated_to(), step.count_at_value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn tally() -> Tally {
        Tally::new(Window { start: 100 * MS, end: 200 * MS }, Some(10 * MS)).unwrap()
    }

    fn wrong(what: &str) -> Verdict {
        Verdict::Wrong { what: what.to_owned(), swapped: what == "second" }
    }

    #[test]
    fn only_the_window_is_measured() {
        let mut tally = tally();
        tally.record(90 * MS, 95 * MS, Ok(Verdict::Right)); // warm-up
        tally.record(99 * MS, 101 * MS, Ok(Verdict::Right)); // arrives inside, intended before
        tally.record(150 * MS, 155 * MS, Ok(Verdict::Right));
        tally.record(199 * MS, 260 * MS, Ok(Verdict::Unchecked)); // intended inside, arrives after, late
        assert_eq!((tally.answered(), tally.arrived, tally.late), (2, 2, 1));
        assert_eq!((tally.verified, tally.unverified), (1, 1));
        assert_eq!(tally.latency.max() / 1_000_000, 61);
        assert_eq!(tally.last_arrival, 260 * MS);
    }

    #[test]
    fn a_wrong_answer_counts_even_in_the_warm_up_and_is_no_answer() {
        let mut tally = tally();
        tally.record(10 * MS, 11 * MS, Ok(wrong("first")));
        tally.record(150 * MS, 151 * MS, Ok(wrong("second")));
        assert_eq!((tally.mismatches, tally.swapped, tally.answered(), tally.arrived), (2, 1, 0, 0));
        assert_eq!(tally.first_mismatch.as_deref(), Some("first"));
    }

    #[test]
    fn failures_are_counted_by_code_and_added_up() {
        let fail = |text: &str| Err(Failure { code: Code::Grpc(14), text: text.to_owned() });
        let mut all = tally();
        all.record(10 * MS, 11 * MS, fail("warm"));
        all.record(150 * MS, 151 * MS, fail("one"));
        let mut other = tally();
        other.record(150 * MS, 153 * MS, fail("two"));
        other.record(150 * MS, 153 * MS, Ok(Verdict::Right));
        other.record(150 * MS, 153 * MS, Err(Failure { code: Code::TakenBack, text: String::new() }));
        other.give_up(3);
        all.absorb(&other);
        let refused = &all.errors[&Code::Grpc(14)];
        assert_eq!((refused.count, refused.example.as_str()), (2, "one"));
        assert_eq!((refused.latency.len(), refused.latency.max() / 1_000_000), (2, 3));
        assert_eq!(all.failures(Code::is_refusal).0, 2);
        assert_eq!(all.failures(Code::is_expiry).1.len(), 0);
        assert_eq!((all.cancelled, all.offered(), all.in_time()), (1, 6, 1));
        assert_eq!(all.errors[&Code::Unfinished].count, 3);
        assert_eq!((all.warmup_errors, all.answered(), all.error_latency.len()), (1, 1, 2));
    }
}
