//! Two servers' figures and the ratio between them. Used by `main`.

use serde::Serialize;

use crate::figures::round;
use crate::plan::Plan;
use crate::report::Report;
use crate::report_table::columns;
use crate::session::{Comparison, Round, RoundFigures, Side};
use crate::table::{Shown, Table};

/// Two servers' figures and their ratio.
#[derive(Debug, Serialize)]
pub(crate) struct ComparisonReport {
    first: Report,
    second: Report,
    /// First over second.
    ratio: Ratios,
    rounds: Vec<RoundLine>,
}

#[derive(Debug, Serialize)]
struct Ratios {
    throughput: Spread,
    p50: Spread,
    p99: Spread,
    client_cpu: Spread,
    /// Only with `--server-pid` and `--vs-pid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu: Option<Spread>,
}

/// The median of the rounds' ratios and how far they lie apart.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct RoundLine {
    first_requests_per_second: f64,
    second_requests_per_second: f64,
}

impl ComparisonReport {
    /// What a comparison of the two sides showed.
    pub(crate) fn new(plan: &Plan, sides: (&Side, &Side), comparison: &Comparison, interrupted: bool) -> Self {
        let spread = |figure: fn(&RoundFigures) -> f64| Spread::of(&comparison.rounds, figure);
        let line = |round_of: &Round| RoundLine {
            first_requests_per_second: round(round_of.first.throughput),
            second_requests_per_second: round(round_of.second.throughput),
        };
        Self {
            first: Report::new(plan, sides.0, &comparison.first, interrupted),
            second: Report::new(plan, sides.1, &comparison.second, interrupted),
            ratio: Ratios {
                throughput: spread(|figures| figures.throughput),
                p50: spread(|figures| figures.p50 as f64),
                p99: spread(|figures| figures.p99 as f64),
                client_cpu: spread(|figures| figures.client_cpu),
                server_cpu: (sides.0.pid.is_some() && sides.1.pid.is_some())
                    .then(|| spread(|figures| figures.server_cpu)),
            },
            rounds: comparison.rounds.iter().map(line).collect(),
        }
    }

    /// What makes the comparison a failure; empty if nothing does.
    pub(crate) fn complaints(&self) -> Vec<String> {
        [self.first.complaints(), self.second.complaints()].concat()
    }
}

impl Shown for ComparisonReport {
    fn table(&self) -> String {
        let mut ratios = Table::default();
        ratios.row("ratio first/second", ["median", "min", "max"].map(str::to_owned));
        let spreads = [
            ("throughput", Some(self.ratio.throughput)),
            ("p50", Some(self.ratio.p50)),
            ("p99", Some(self.ratio.p99)),
            ("client CPU", Some(self.ratio.client_cpu)),
            ("server CPU", self.ratio.server_cpu),
        ];
        for (label, spread) in spreads.into_iter().filter_map(|(label, spread)| Some((label, spread?))) {
            ratios.row(label, [spread.median, spread.min, spread.max].map(|ratio| format!("{ratio:.3}")));
        }
        let headlines = format!("first   {}second  {}", self.first.headline(), self.second.headline());
        let both = columns(&[&self.first, &self.second]);
        let rounds = format!("over {} alternating rounds\n", self.rounds.len());
        [headlines, both, ratios.render(), rounds, self.first.notes(), self.second.notes()].concat()
    }
}

impl Spread {
    fn of(rounds: &[Round], figure: fn(&RoundFigures) -> f64) -> Self {
        let mut ratios: Vec<f64> = rounds
            .iter()
            .map(|round| figure(&round.first) / figure(&round.second))
            .filter(|ratio| ratio.is_finite())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let at = |index: usize| ratios.get(index).copied().unwrap_or(0.0);
        let (low, high) = (at(ratios.len().saturating_sub(1) / 2), at(ratios.len() / 2));
        let last = at(ratios.len().saturating_sub(1));
        Self { median: round((low + high) / 2.0), min: round(at(0)), max: round(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(throughput: f64) -> RoundFigures {
        RoundFigures { throughput, p50: 1, p99: 0, client_cpu: 1.0, server_cpu: 0.0 }
    }

    #[test]
    fn ratios_are_of_pairs_and_their_median() {
        let pair = |first, second| Round { first: figures(first), second: figures(second) };
        let rounds = [pair(100.0, 200.0), pair(10.0, 10.0), pair(90.0, 100.0)];
        let spread = Spread::of(&rounds, |figures| figures.throughput);
        assert_eq!((spread.median, spread.min, spread.max), (0.9, 0.5, 1.0));
        let even = Spread::of(&rounds[..2], |figures| figures.throughput);
        assert_eq!(even.median, 0.75);
        // 0/0 of rounds without answers is no ratio.
        assert_eq!(Spread::of(&rounds, |figures| figures.p99 as f64).median, 0.0);
    }
}
