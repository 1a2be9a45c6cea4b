//! How a load changes over a run: a rate or a number of callers that stays, ramps or goes in steps. Pure; used by
//! `arrivals`, `run_closed` and the scenarios.

use std::time::Duration;

/// A straight piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Leg {
    /// Seconds that it lasts.
    pub(crate) seconds: f64,
    /// Value at its start.
    pub(crate) from: f64,
    /// Value at its end.
    pub(crate) to: f64,
}

/// Straight pieces one after the other, from the beginning of the measured time. The first value also holds before it,
/// the last one after it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile(Vec<Leg>);

impl Profile {
    /// One value.
    pub(crate) fn constant(value: f64) -> Self {
        Self(vec![Leg { seconds: 0.0, from: value, to: value }])
    }

    /// From one value to another: straight, or in equal steps of which the first is `from` and the last is `to`.
    pub(crate) fn ramp(from: f64, to: f64, steps: Option<u32>, length: Duration) -> Self {
        let seconds = length.as_secs_f64();
        let Some(steps) = steps else { return Self(vec![Leg { seconds, from, to }]) };
        let rise = (to - from) / f64::from(steps.saturating_sub(1).max(1));
        let step = |at: u32| {
            let value = from + rise * f64::from(at);
            Leg { seconds: seconds / f64::from(steps.max(1)), from: value, to: value }
        };
        Self((0..steps.max(1)).map(step).collect())
    }

    /// Values that each hold for some time.
    pub(crate) fn steps(values: &[(f64, Duration)]) -> Self {
        Self(values.iter().map(|(value, time)| Leg { seconds: time.as_secs_f64(), from: *value, to: *value }).collect())
    }

    /// The value after `time`.
    pub(crate) fn at(&self, time: Duration) -> f64 {
        let mut left = time.as_secs_f64();
        for leg in &self.0 {
            if left < leg.seconds {
                return leg.from + (leg.to - leg.from) * left / leg.seconds;
            }
            left -= leg.seconds;
        }
        self.0.last().map_or(0.0, |leg| leg.to)
    }

    /// First and last value.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.0.first().map_or(0.0, |leg| leg.from), self.0.last().map_or(0.0, |leg| leg.to))
    }

    /// The largest value.
    pub(crate) fn most(&self) -> f64 {
        self.0.iter().flat_map(|leg| [leg.from, leg.to]).fold(0.0, f64::max)
    }

    /// The pieces.
    pub(crate) fn legs(&self) -> &[Leg] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(profile: &Profile, seconds: f64) -> f64 {
        profile.at(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn values_are_those_of_the_pieces() {
        let ramp = Profile::ramp(10.0, 30.0, None, Duration::from_secs(2));
        assert_eq!([0.0, 1.0, 2.0, 9.0].map(|t| at(&ramp, t)), [10.0, 20.0, 30.0, 30.0]);
        let steps = Profile::ramp(10.0, 30.0, Some(3), Duration::from_secs(3));
        assert_eq!([0.0, 0.9, 1.0, 2.5, 9.0].map(|t| at(&steps, t)), [10.0, 10.0, 20.0, 30.0, 30.0]);
        assert_eq!(at(&Profile::constant(5.0), 3.0), 5.0);
        assert_eq!((steps.ends(), steps.most()), ((10.0, 30.0), 30.0));
        assert_eq!(Profile::ramp(4.0, 8.0, Some(1), Duration::from_secs(1)).most(), 4.0);
    }
}
