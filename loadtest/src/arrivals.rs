//! When an open loop means to send: a pure sequence of times, fixed before the server has answered anything.

use std::time::Duration;

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spacing {
    /// Evenly.
    Constant,
    /// Independently of each other, as many callers would: exponential gaps.
    Poisson,
}

/// An endless sequence of arrival times.
#[derive(Debug)]
pub(crate) struct Arrivals {
    spacing: Spacing,
    /// Seconds between arrivals, on average.
    gap: f64,
    origin: Duration,
    /// Seconds from the origin to the next arrival. One addition per arrival in f64 loses about 1e-16 of it each time.
    next: f64,
    rng: fastrand::Rng,
}

impl Arrivals {
    /// Arrivals from `origin` on, `rate` per second (positive).
    pub(crate) fn new(spacing: Spacing, rate: f64, origin: Duration, seed: u64) -> Self {
        Self { spacing, gap: rate.recip(), origin, next: 0.0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The time of the next arrival.
    pub(crate) fn next(&mut self) -> Duration {
        let at = self.origin + Duration::try_from_secs_f64(self.next).unwrap_or(Duration::MAX / 2);
        self.next += match self.spacing {
            Spacing::Constant => self.gap,
            // 1 - u is in (0, 1]: the logarithm is finite.
            Spacing::Poisson => -(1.0 - self.rng.f64()).ln() * self.gap,
        };
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_even() {
        let mut arrivals = Arrivals::new(Spacing::Constant, 1000.0, Duration::from_secs(1), 0);
        let times: Vec<_> = (0..4).map(|_| arrivals.next().as_micros()).collect();
        assert_eq!(times, [1_000_000, 1_001_000, 1_002_000, 1_003_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let mut arrivals = Arrivals::new(Spacing::Poisson, 1000.0, Duration::ZERO, 7);
        let times: Vec<f64> = (0..=20_000).map(|_| arrivals.next().as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1e-3).abs() < 5e-5, "{mean}");
        // An exponential distribution's deviation is its mean.
        assert!((variance.sqrt() - 1e-3).abs() < 1e-4, "{variance}");
    }
}
