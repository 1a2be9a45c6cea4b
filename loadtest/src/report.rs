//! What is printed: the figures of a run as a table or as JSON, and what was wrong with it. Used by `main`.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench::Measured;
use crate::plan::{Load, Plan};
use crate::session::{Comparison, Round, RoundFigures, Side, per_second};
use crate::table::Table;
use crate::target::Protocol;

/// Something that `main` can print both ways.
pub(crate) trait Shown: Serialize {
    /// The table, for people.
    fn table(&self) -> String;
}

/// One server's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    url: String,
    protocol: Protocol,
    model: String,
    load: String,
    connections: usize,
    rows_per_request: u64,
    /// Time measured.
    seconds: f64,
    /// Answers that were not wrong, of requests intended in that time.
    answered: u64,
    requests_per_second: f64,
    rows_per_second: f64,
    /// Answers within the deadline; only with a deadline.
    in_time_per_second: Option<f64>,
    late: Option<u64>,
    /// Open loop: arrivals that were not sent because too many were outstanding.
    dropped: Option<u64>,
    /// Open loop: how late the generator itself was. Large values mean that it, not the server, was overloaded.
    send_lag_us: Option<Percentiles>,
    /// From the intended send time to the answer's last byte.
    latency_us: Option<Percentiles>,
    errors: Vec<ErrorLine>,
    error_latency_us: Option<Percentiles>,
    warmup_errors: u64,
    /// Requests that a closing connection had not processed and that went out again, warm-up included.
    resent: u64,
    verified: u64,
    unverified: u64,
    mismatches: u64,
    first_mismatch: Option<String>,
    client_cpu_us_per_request: Option<f64>,
    /// Cores the generator kept busy; it runs on one, so near 1 the figures are its limit.
    client_cores: f64,
}

#[derive(Debug, Serialize)]
struct ErrorLine {
    code: String,
    count: u64,
    allowed: bool,
    example: String,
}

/// Picks one of the percentiles.
type Figure = fn(&Percentiles) -> f64;

#[derive(Debug, Clone, Copy, Serialize)]
struct Percentiles {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

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

/// From this share of a core on, the generator is likely the limit.
const SATURATED: f64 = 0.9;

impl Report {
    pub(crate) fn new(plan: &Plan, side: &Side, measured: &Measured) -> Self {
        let Measured { tally, elapsed, cpu } = measured;
        let open = matches!(plan.load, Load::Open(_));
        let late = plan.bounds.deadline.map(|_| tally.late);
        let errors = tally.errors.iter().map(|(code, error)| {
            let code = code.to_string();
            let allowed = plan.allowed_errors.contains(&code);
            ErrorLine { code, count: error.count, allowed, example: error.example.clone() }
        });
        Self {
            url: side.url.clone(),
            protocol: side.target.protocol,
            model: side.model.clone(),
            load: describe(&plan.load),
            connections: side.target.connections,
            rows_per_request: side.rows,
            seconds: round(elapsed.as_secs_f64()),
            answered: tally.answered(),
            requests_per_second: round(measured.throughput()),
            rows_per_second: round(measured.throughput() * side.rows as f64),
            in_time_per_second: late.map(|late| round(per_second(tally.answered().saturating_sub(late), *elapsed))),
            late,
            dropped: open.then_some(tally.dropped),
            send_lag_us: percentiles(&tally.send_lag).filter(|_| open),
            latency_us: percentiles(&tally.latency),
            errors: errors.collect(),
            error_latency_us: percentiles(&tally.error_latency),
            warmup_errors: tally.warmup_errors,
            resent: side.client.resent(),
            verified: tally.verified,
            unverified: tally.unverified,
            mismatches: tally.mismatches,
            first_mismatch: tally.first_mismatch.clone(),
            client_cpu_us_per_request: (tally.arrived > 0)
                .then(|| round(cpu.as_secs_f64() * 1e6 / tally.arrived as f64)),
            client_cores: round(share(*cpu, *elapsed)),
        }
    }

    /// What makes the run a failure; empty if nothing does.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.mismatches > 0 {
            let first = self.first_mismatch.as_deref().unwrap_or("");
            complaints.push(format!("{}: {} wrong answers, first: {first}", self.url, self.mismatches));
        }
        for error in self.errors.iter().filter(|error| !error.allowed) {
            complaints.push(format!("{}: {} x {}: {}", self.url, error.count, error.code, error.example));
        }
        if self.answered == 0 {
            complaints.push(format!("{}: no answers", self.url));
        }
        complaints
    }
}

impl ComparisonReport {
    pub(crate) fn new(plan: &Plan, versus: &Side, comparison: &Comparison) -> Self {
        let spread = |figure: fn(&RoundFigures) -> f64| Spread::of(&comparison.rounds, figure);
        let line = |round_of: &Round| RoundLine {
            first_requests_per_second: round(round_of.first.throughput),
            second_requests_per_second: round(round_of.second.throughput),
        };
        Self {
            first: Report::new(plan, &plan.side, &comparison.first),
            second: Report::new(plan, versus, &comparison.second),
            ratio: Ratios {
                throughput: spread(|figures| figures.throughput),
                p50: spread(|figures| figures.p50 as f64),
                p99: spread(|figures| figures.p99 as f64),
            },
            rounds: comparison.rounds.iter().map(line).collect(),
        }
    }

    /// What makes the comparison a failure; empty if nothing does.
    pub(crate) fn complaints(&self) -> Vec<String> {
        [self.first.complaints(), self.second.complaints()].concat()
    }
}

impl Shown for Report {
    fn table(&self) -> String {
        [self.headline(), columns(&[self]), self.notes()].concat()
    }
}

impl Shown for ComparisonReport {
    fn table(&self) -> String {
        let mut ratios = Table::default();
        ratios.row("ratio first/second", ["median", "min", "max"].map(str::to_owned));
        for (label, spread) in [("throughput", self.ratio.throughput), ("p50", self.ratio.p50), ("p99", self.ratio.p99)]
        {
            ratios.row(label, [spread.median, spread.min, spread.max].map(|ratio| format!("{ratio:.3}")));
        }
        let headlines = format!("first   {}second  {}", self.first.headline(), self.second.headline());
        let both = columns(&[&self.first, &self.second]);
        let rounds = format!("over {} alternating rounds\n", self.rounds.len());
        [headlines, both, ratios.render(), rounds, self.first.notes(), self.second.notes()].concat()
    }
}

/// The figures, one column per report. Rows that say nothing in any of them are left out.
fn columns(reports: &[&Report]) -> String {
    let mut table = Table::default();
    let mut row = |label: &str, cell: &dyn Fn(&Report) -> Option<String>| {
        let cells: Vec<Option<String>> = reports.iter().map(|report| cell(report)).collect();
        if cells.iter().any(Option::is_some) {
            table.row(label, cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())));
        }
    };
    row("requests/s", &|r| Some(format!("{:.0}", r.requests_per_second)));
    row("rows/s", &|r| (r.rows_per_request > 1).then(|| format!("{:.0}", r.rows_per_second)));
    row("in time/s", &|r| r.in_time_per_second.map(|rate| format!("{rate:.0}")));
    let figures: [(&str, Figure); 6] = [
        ("mean", |p| p.mean),
        ("p50", |p| p.p50),
        ("p90", |p| p.p90),
        ("p99", |p| p.p99),
        ("p99.9", |p| p.p999),
        ("max", |p| p.max),
    ];
    for (name, figure) in figures {
        row(&format!("latency {name}"), &|r| r.latency_us.map(|latency| format!("{:.1} us", figure(&latency))));
    }
    row("answered", &|r| Some(r.answered.to_string()));
    row("late", &|r| r.late.map(|late| late.to_string()));
    row("dropped", &|r| r.dropped.map(|dropped| dropped.to_string()));
    row("send lag p50/p99", &|r| r.send_lag_us.map(|lag| format!("{:.1}/{:.1} us", lag.p50, lag.p99)));
    row("verified", &|r| Some(r.verified.to_string()));
    row("not verified", &|r| (r.unverified > 0).then(|| r.unverified.to_string()));
    row("wrong", &|r| Some(r.mismatches.to_string()));
    row("errors", &|r| Some(r.errors.iter().map(|error| error.count).sum::<u64>().to_string()));
    row("error p50/p99", &|r| r.error_latency_us.map(|e| format!("{:.1}/{:.1} us", e.p50, e.p99)));
    row("warm-up errors", &|r| (r.warmup_errors > 0).then(|| r.warmup_errors.to_string()));
    row("resent", &|r| (r.resent > 0).then(|| r.resent.to_string()));
    row("client CPU", &|r| r.client_cpu_us_per_request.map(|cpu| format!("{cpu:.2} us/request")));
    row("client cores", &|r| Some(format!("{:.2}", r.client_cores)));
    table.render()
}

impl Report {
    /// What was measured.
    fn headline(&self) -> String {
        let protocol = protocol_name(self.protocol);
        format!(
            "{} {protocol}, model {}, {} rows/request, {}, {} connections, {:.1} s\n",
            self.url, self.model, self.rows_per_request, self.load, self.connections, self.seconds
        )
    }

    /// What the figures alone do not say.
    fn notes(&self) -> String {
        let mut notes = String::new();
        for error in &self.errors {
            let allowed = if error.allowed { " (allowed)" } else { "" };
            notes += &format!("{}: {} x {}{allowed}, first: {}\n", self.url, error.count, error.code, error.example);
        }
        if let Some(first) = &self.first_mismatch {
            notes += &format!("{}: first wrong answer: {first}\n", self.url);
        }
        if self.client_cores >= SATURATED {
            notes +=
                &format!("{}: the generator was busy all the time, the server may be faster than this\n", self.url);
        }
        notes
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

/// Microseconds; `None` if nothing was recorded.
fn percentiles(nanos: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile| round(nanos.value_at_quantile(quantile) as f64 / 1e3);
    (!nanos.is_empty()).then(|| Percentiles {
        mean: round(nanos.mean() / 1e3),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: round(nanos.max() as f64 / 1e3),
    })
}

fn describe(load: &Load) -> String {
    match load {
        Load::Closed { concurrency } => format!("closed loop, {concurrency} callers"),
        Load::Open(open) => {
            format!("open loop, {}/s {:?}, {} outstanding at most", open.rate, open.spacing, open.outstanding)
                .to_lowercase()
        }
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::GrpcRaw => "grpc-raw",
        Protocol::GrpcTyped => "grpc-typed",
        Protocol::HttpJson => "http-json",
        Protocol::HttpBinary => "http-binary",
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// Three decimals are more than any of these figures is worth.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(throughput: f64) -> RoundFigures {
        RoundFigures { throughput, p50: 1, p99: 0 }
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
