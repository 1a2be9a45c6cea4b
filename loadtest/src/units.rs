//! Figures with units on the command line: rates, durations and spans from one value to another. Used by `cli`.

use std::time::Duration;

use crate::error::{Fault, Result};

/// `A` or `A..B`: a value that stays, or one that changes over the measured time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

const MAX_RATE: f64 = 1e6;
const MAX_CALLERS: f64 = 16_384.0;
const MAX_DURATION: Duration = Duration::from_secs(3600);

impl Span {
    /// Whether the value changes.
    pub(crate) fn ramps(self) -> bool {
        self.from.total_cmp(&self.to).is_ne()
    }

    fn parse(text: &str, one: impl Fn(&str) -> Option<f64>, expected: &str) -> Result<Self> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (one(from), one(to)) {
            (Some(from), Some(to)) => Ok(Self { from, to }),
            _ => Err(Fault::new("value", expected)),
        }
    }
}

/// Requests per second; used as clap's parser.
///
/// # Errors
/// Anything outside 0.001 to 1,000,000.
pub(crate) fn rate(text: &str) -> Result<Span> {
    let one = |text: &str| text.parse().ok().filter(|rate| (1e-3..=MAX_RATE).contains(rate));
    Span::parse(text, one, "expected 0.001 to 1000000 requests per second, as 500 or 100..5000")
}

/// Callers of a closed loop; used as clap's parser.
///
/// # Errors
/// Anything but whole numbers from 1 to 16,384.
pub(crate) fn callers(text: &str) -> Result<Span> {
    let one = |text: &str| text.parse::<u32>().ok().map(f64::from).filter(|count| (1.0..=MAX_CALLERS).contains(count));
    Span::parse(text, one, "expected 1 to 16384 callers, as 64 or 1..64")
}

/// A time; used as clap's parser.
///
/// # Errors
/// Anything but up to an hour.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = duration.filter(|duration| *duration <= MAX_DURATION);
    duration.ok_or_else(|| Fault::new("duration", "expected up to 3600 seconds, such as 10, 2.5s or 500ms"))
}

/// A share; used as clap's parser.
///
/// # Errors
/// Anything outside 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Fault::new("share", "expected 0 to 1"))
}

/// How many times its capacity a server is offered; used as clap's parser.
///
/// # Errors
/// Anything outside 0.01 to 100.
pub(crate) fn factor(text: &str) -> Result<f64> {
    let factor = text.parse().ok().filter(|factor| (0.01..=100.0).contains(factor));
    factor.ok_or_else(|| Fault::new("factor", "expected 0.01 to 100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_cap() {
        assert_eq!(duration("10").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("2.5s").unwrap(), Duration::from_millis(2500));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        for text in ["", "-1", "1h", "3601", "nan", "1e99"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_one_value_or_two() {
        assert_eq!(rate("500").unwrap(), Span { from: 500.0, to: 500.0 });
        assert_eq!(rate("0.5..5e3").unwrap(), Span { from: 0.5, to: 5000.0 });
        assert!(rate("1..2").unwrap().ramps() && !rate("2..2").unwrap().ramps());
        assert_eq!(callers("1..64").unwrap(), Span { from: 1.0, to: 64.0 });
        for text in ["", "..", "1..", "0", "nan", "2e6"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["0", "1.5", "16385", "1..0"] {
            assert!(callers(text).is_err(), "{text}");
        }
        assert!(share("1.1").is_err() && factor("0").is_err());
    }
}
