//! When an open loop means to send: a pure sequence of times, fixed before the server has answered anything.

use std::time::Duration;

use crate::profile::{Leg, Profile};

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spacing {
    /// Evenly.
    Constant,
    /// Independently of each other, as many callers would: exponential gaps.
    Poisson,
}

/// An endless sequence of arrival times. The rate may change meanwhile: the next arrival is where the integral of the
/// rate has grown by one (evenly) or by an exponential variable (Poisson), which is exact for any profile.
#[derive(Debug)]
pub(crate) struct Arrivals {
    spacing: Spacing,
    legs: Vec<Leg>,
    /// Which of the legs `next` lies in, and the seconds from the origin to that leg's start.
    leg: usize,
    leg_start: f64,
    /// The rate after the last leg.
    last: f64,
    origin: Duration,
    /// Seconds from the origin to the next arrival. One addition per arrival in f64 loses about 1e-16 of it each time.
    next: f64,
    rng: fastrand::Rng,
}

impl Arrivals {
    /// Arrivals from `origin` on; `warmup` at the profile's first rate (per second, positive), then by the profile.
    pub(crate) fn new(spacing: Spacing, rate: &Profile, (origin, warmup): (Duration, Duration), seed: u64) -> Self {
        let (first, last) = rate.ends();
        let warm = Leg { seconds: warmup.as_secs_f64(), from: first, to: first };
        let legs = std::iter::once(warm).chain(rate.legs().iter().copied()).collect();
        let rng = fastrand::Rng::with_seed(seed);
        Self { spacing, legs, leg: 0, leg_start: 0.0, last, origin, next: 0.0, rng }
    }

    /// The time of the next arrival.
    pub(crate) fn next(&mut self) -> Duration {
        let at = self.origin + Duration::try_from_secs_f64(self.next).unwrap_or(Duration::MAX / 2);
        let expected = match self.spacing {
            Spacing::Constant => 1.0,
            // 1 - u is in (0, 1]: the logarithm is finite.
            Spacing::Poisson => -(1.0 - self.rng.f64()).ln(),
        };
        self.advance(expected);
        at
    }

    /// Moves `next` to where `expected` more arrivals are expected.
    fn advance(&mut self, mut expected: f64) {
        while let Some(leg) = self.legs.get(self.leg) {
            let end = self.leg_start + leg.seconds;
            let slope = if leg.seconds > 0.0 { (leg.to - leg.from) / leg.seconds } else { 0.0 };
            let rate = leg.from + slope * (self.next - self.leg_start);
            let left = (end - self.next).max(0.0);
            let in_leg = left * (rate + slope * left / 2.0);
            if expected < in_leg {
                // The root of rate * t + slope * t^2 / 2 = expected, in the form that a slope of zero does not break.
                self.next += 2.0 * expected / (rate + (rate * rate + 2.0 * slope * expected).max(0.0).sqrt());
                return;
            }
            expected -= in_leg;
            self.next = end;
            self.leg_start = end;
            self.leg += 1;
        }
        self.next += expected / self.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(spacing: Spacing, rate: f64, seed: u64) -> Arrivals {
        Arrivals::new(spacing, &Profile::constant(rate), (Duration::from_secs(1), Duration::ZERO), seed)
    }

    #[test]
    fn constant_arrivals_are_even() {
        let mut arrivals = constant(Spacing::Constant, 1000.0, 0);
        let times: Vec<_> = (0..4).map(|_| arrivals.next().as_micros()).collect();
        assert_eq!(times, [1_000_000, 1_001_000, 1_002_000, 1_003_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let mut arrivals = constant(Spacing::Poisson, 1000.0, 7);
        let times: Vec<f64> = (0..=20_000).map(|_| arrivals.next().as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1e-3).abs() < 5e-5, "{mean}");
        // An exponential distribution's deviation is its mean.
        assert!((variance.sqrt() - 1e-3).abs() < 1e-4, "{variance}");
    }

    #[test]
    fn a_ramp_sends_as_many_as_its_integral_says() {
        let ramp = Profile::ramp(100.0, 300.0, None, Duration::from_secs(2));
        let times = (Duration::ZERO, Duration::from_secs(1));
        let mut arrivals = Arrivals::new(Spacing::Constant, &ramp, times, 0);
        let all: Vec<f64> = (0..1000).map(|_| arrivals.next().as_secs_f64()).collect();
        let before = |end: f64| all.iter().filter(|at| **at < end).count();
        // 100 in the warm-up, 150 in the first second of the ramp, 250 in the second, 300 in each after it.
        for (end, count) in [(1.0, 100), (2.0, 250), (3.0, 500), (4.0, 800)] {
            assert!(before(end).abs_diff(count) <= 1, "{} before {end}", before(end));
        }
        assert!(all.is_sorted());
    }

    #[test]
    fn a_fall_to_almost_nothing_ends() {
        let fall = Profile::ramp(1000.0, 0.001, None, Duration::from_secs(1));
        let mut arrivals = Arrivals::new(Spacing::Poisson, &fall, (Duration::ZERO, Duration::ZERO), 3);
        let all: Vec<f64> = (0..550).map(|_| arrivals.next().as_secs_f64()).collect();
        assert!(all.is_sorted() && all.iter().all(|at| at.is_finite()));
    }
}
