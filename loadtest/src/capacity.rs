//! `--find-capacity`: the largest rate of an open loop that a server holds. A closed loop gives the first guess; then rates
//! are tried until the largest that held and the smallest that did not lie close together. Used by `main`.

use serde::Serialize;

use crate::bench::{Bounds, Measured};
use crate::class::ClassSpec;
use crate::cli::RunArgs;
use crate::error::Result;
use crate::figures::{Percentiles, micros, part, round, share};
use crate::plan::{Load, Plan, open};
use crate::prepare;
use crate::profile::Profile;
use crate::stop::Stop;
use crate::table::{Shown, Table};

/// What a search found.
#[derive(Debug, Serialize)]
pub(crate) struct CapacityReport {
    url: String,
    model: String,
    /// Requests per second that the server held.
    capacity: f64,
    /// Answers per second of the closed loop that began it.
    closed_loop: f64,
    /// Share of answers that makes a rate held.
    hold: f64,
    deadline_ms: Option<f64>,
    interrupted: bool,
    probes: Vec<Probe>,
    /// What was wrong with answers.
    #[serde(skip)]
    mismatches: Vec<String>,
}

/// One rate that was tried.
#[derive(Debug, Serialize)]
struct Probe {
    rate: f64,
    /// Share of the requests that were answered, in time if there is a deadline.
    goodput: f64,
    held: bool,
    latency_us: Option<Percentiles>,
    /// The generator itself: near 1 it is the limit.
    client_cores: f64,
}

/// Looks for the largest rate that holds. Pure.
#[derive(Debug)]
struct Search {
    /// The largest rate that held, and the smallest that did not.
    low: f64,
    high: Option<f64>,
    rate: f64,
    /// The rate failed once; on a machine with other things to do once is not enough.
    doubtful: bool,
}

/// Rates this close together are the same.
const CLOSE: f64 = 1.03;

impl Search {
    fn new(guess: f64) -> Self {
        Self { low: 0.0, high: None, rate: guess * 0.9, doubtful: false }
    }

    fn tell(&mut self, held: bool) {
        if !held && !self.doubtful {
            self.doubtful = true;
            return;
        }
        self.doubtful = false;
        if held {
            self.low = self.low.max(self.rate);
        } else {
            self.high = Some(self.rate);
        }
        self.rate = match self.high {
            None => self.rate * 1.2,
            Some(high) if self.low == 0.0 => high * 0.7,
            Some(high) => (self.low * high).sqrt(),
        };
    }

    fn done(&self) -> bool {
        self.high.is_some_and(|high| self.low > 0.0 && high / self.low <= CLOSE)
    }
}

/// Answers per second of a closed loop without deadlines: what a server does when nobody is in a hurry.
pub(crate) async fn closed_loop(args: &RunArgs, plan: &Plan, stop: &Stop) -> Result<Measured> {
    let patient: Vec<ClassSpec> =
        plan.classes.iter().map(|class| ClassSpec { timeout: None, ..class.clone() }).collect();
    let load = Load::Closed { callers: Profile::constant(f64::from(args.capacity.capacity_callers)) };
    let side = prepare::side(&patient, &load).await?;
    side.measure(&load, &plan.bounds, stop).await
}

/// Searches within the bounds of `args`.
///
/// # Errors
/// What makes any run fail before it starts.
pub(crate) async fn find(args: &RunArgs, plan: &Plan, stop: &Stop) -> Result<CapacityReport> {
    let closed = closed_loop(args, plan, stop).await?;
    let mut report = CapacityReport {
        url: plan.classes.first().map(|class| class.url.clone()).unwrap_or_default(),
        model: plan.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", "),
        capacity: 0.0,
        closed_loop: round(closed.throughput()),
        hold: args.capacity.hold,
        deadline_ms: plan.classes.iter().filter_map(|class| class.timeout).min().map(|t| t.as_secs_f64() * 1e3),
        interrupted: false,
        probes: Vec::new(),
        mismatches: closed.tally.first_mismatch.clone().into_iter().collect(),
    };
    let mut search = Search::new(closed.throughput());
    let any = Load::Open(open(args, Profile::constant(1.0)));
    let side = prepare::side(&plan.classes, &any).await?;
    while report.probes.len() < args.capacity.probes as usize && !search.done() && search.rate > 0.0 {
        let load = Load::Open(open(args, Profile::constant(search.rate)));
        let measured = side.measure(&load, &plan.bounds, stop).await?;
        report.mismatches.extend(measured.tally.first_mismatch.clone());
        if stop.is_set() {
            report.interrupted = true;
            break;
        }
        let probe = Probe::new(search.rate, &measured, &plan.bounds, args.capacity.hold);
        search.tell(probe.held);
        report.probes.push(probe);
    }
    report.capacity = round(search.low);
    Ok(report)
}

impl Probe {
    fn new(rate: f64, measured: &Measured, bounds: &Bounds, hold: f64) -> Self {
        let tally = &measured.tally;
        // A queue that grows answers everybody in the end: only what arrived within the time counts.
        let good = tally.in_time().min(tally.arrived);
        let goodput = part(good, tally.offered());
        // Answers of the last moments arrive after the window; that many may be missing.
        let crossing = tally.latency.mean() / 1e9 / bounds.duration.as_secs_f64().max(1e-9);
        Self {
            rate: round(rate),
            goodput,
            held: goodput >= hold - crossing.min(0.02),
            latency_us: Percentiles::of(&tally.latency),
            client_cores: round(share(measured.cpu.client, measured.elapsed)),
        }
    }
}

impl CapacityReport {
    /// What makes the search a failure.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let wrong = self.mismatches.iter().map(|first| format!("{}: wrong answers, first: {first}", self.url));
        let none = (self.capacity == 0.0 && !self.interrupted).then(|| format!("{}: no rate was held", self.url));
        wrong.chain(none).collect()
    }
}

impl Shown for CapacityReport {
    fn table(&self) -> String {
        let mut table = Table::default();
        table.row("rate", ["goodput", "held", "p50", "p99", "client cores"].map(str::to_owned));
        for probe in &self.probes {
            let latency = |pick: fn(&Percentiles) -> f64| probe.latency_us.map_or("-".to_owned(), |p| micros(pick(&p)));
            let cells = [
                format!("{:.1} %", probe.goodput * 100.0),
                if probe.held { "yes" } else { "no" }.to_owned(),
                latency(|p| p.p50),
                latency(|p| p.p99),
                format!("{:.2}", probe.client_cores),
            ];
            table.row(&format!("{:.0}/s", probe.rate), cells);
        }
        let deadline = self.deadline_ms.map_or("no deadline".to_owned(), |ms| format!("deadline {ms} ms"));
        format!(
            "{} model {}, {deadline}, {:.1} % of the requests answered\n{}closed loop  {:.0}/s\ncapacity     {:.0}/s{}\n",
            self.url,
            self.model,
            self.hold * 100.0,
            table.render(),
            self.closed_loop,
            self.capacity,
            if self.interrupted { " (interrupted)" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server that holds up to `limit`; the rate found and the probes it took.
    fn search(limit: f64, guess: f64) -> (f64, usize) {
        let mut search = Search::new(guess);
        let mut probes = 0;
        while !search.done() && probes < 50 {
            let held = search.rate <= limit;
            search.tell(held);
            probes += 1;
        }
        (search.low, probes)
    }

    #[test]
    fn the_limit_is_found_from_any_guess() {
        for guess in [100.0, 900.0, 1000.0, 1100.0, 20_000.0] {
            let (found, probes) = search(1000.0, guess);
            assert!(found <= 1000.0 && found > 1000.0 / 1.04, "{guess}: {found}");
            assert!(probes <= 40, "{guess}: {probes} probes");
        }
    }

    #[test]
    fn one_failure_is_not_believed() {
        let mut search = Search::new(1000.0);
        let rate = search.rate;
        search.tell(false);
        assert_eq!((search.rate, search.high), (rate, None));
        search.tell(true);
        assert_eq!(search.low, rate);
    }
}
