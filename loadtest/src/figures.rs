//! Figures as they are printed: percentiles in microseconds, three decimals. Used by every report.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Percentiles of a latency, microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Picks one of the percentiles.
pub(crate) type Figure = fn(&Percentiles) -> f64;

/// All of them with their names.
pub(crate) const FIGURES: [(&str, Figure); 6] = [
    ("mean", |p| p.mean),
    ("p50", |p| p.p50),
    ("p90", |p| p.p90),
    ("p99", |p| p.p99),
    ("p99.9", |p| p.p999),
    ("max", |p| p.max),
];

impl Percentiles {
    /// Of nanoseconds; `None` if nothing was recorded.
    pub(crate) fn of(nanos: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| round(nanos.value_at_quantile(quantile) as f64 / 1e3);
        (!nanos.is_empty()).then(|| Self {
            mean: round(nanos.mean() / 1e3),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: round(nanos.max() as f64 / 1e3),
        })
    }
}

/// One time over another; 0 over no time.
pub(crate) fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// One count over another; 0 of nothing.
pub(crate) fn part(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { round(count as f64 / of as f64) }
}

/// Three decimals are more than any of these figures is worth.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Microseconds for people.
pub(crate) fn micros(value: f64) -> String {
    match value {
        10_000_000.0.. => format!("{:.1} s", value / 1e6),
        10_000.0.. => format!("{:.1} ms", value / 1e3),
        _ => format!("{value:.1} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_the_unit_that_fits() {
        assert_eq!([9.94, 10_000.0, 12_345_678.0].map(micros), ["9.9 us", "10.0 ms", "12.3 s"]);
        assert_eq!((part(1, 3), part(1, 0)), (0.333, 0.0));
    }
}
