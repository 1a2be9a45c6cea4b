//! `neighbour`: what the callers of one model notice of floods on others. The model is asked at a modest rate alone, beside a
//! flood of a fast model, and beside a flood of a slow one. Used by `main`.

use std::time::Duration;

use serde::Serialize;

use crate::arrivals::Spacing;
use crate::bench::{Bounds, Measured};
use crate::class::ClassSpec;
use crate::cli::NeighbourArgs;
use crate::error::Result;
use crate::figures::{Percentiles, micros, round};
use crate::plan::Load;
use crate::prepare;
use crate::profile::Profile;
use crate::run_open::OpenLoad;
use crate::session::Side;
use crate::stop::Stop;
use crate::table::{Shown, Table};

/// Share of one worker that the model which is watched keeps busy.
const SHARE: f64 = 0.3;
/// Callers of the slow model: each waits long, so few are a flood.
const SLOW_CALLERS: f64 = 8.0;
const WARMUP: Duration = Duration::from_secs(1);
/// Answers of a slow model take long.
const GRACE: Duration = Duration::from_secs(60);
const OUTSTANDING: usize = 4096;

/// What the callers of the model noticed.
#[derive(Debug, Serialize)]
pub(crate) struct NeighbourReport {
    url: String,
    model: String,
    /// Requests per second for the model that is watched.
    rate: f64,
    interrupted: bool,
    situations: Vec<Situation>,
    /// Answers per second of the slow model without and with the neighbour.
    slow_alone_per_second: f64,
    slow_beside_per_second: f64,
    #[serde(skip)]
    complaints: Vec<String>,
}

/// One situation.
#[derive(Debug, Serialize)]
struct Situation {
    beside: String,
    latency_us: Option<Percentiles>,
    /// What p99 may be: twice that of the model alone, or 10 ms more.
    limit_us: Option<f64>,
    answered: u64,
    failed: u64,
    /// How late the generator itself was.
    send_lag_us: Option<Percentiles>,
    /// Answers per second of the flood.
    flood_per_second: f64,
}

/// Runs the scenario.
///
/// # Errors
/// What makes any run fail before it starts.
pub(crate) async fn run(args: &NeighbourArgs, stop: &Stop) -> Result<NeighbourReport> {
    let stage = Stage { args, bounds: bounds(args.duration) };
    let one = Load::Closed { callers: Profile::constant(1.0) };
    let rate = match args.rate {
        Some(rate) => rate.from,
        None => {
            let alone = stage.side(&args.model, &one).await?.measure(&one, &stage.bounds, stop).await?;
            (SHARE * alone.throughput()).max(0.1)
        }
    };
    let watched = Load::Open(OpenLoad {
        rate: Profile::constant(rate),
        spacing: Spacing::Poisson,
        outstanding: OUTSTANDING,
        seed: 1,
    });
    let neighbour = stage.side(&args.model, &watched).await?;
    let flood = Load::Closed { callers: Profile::constant(f64::from(args.flood_callers)) };
    let slow = Load::Closed { callers: Profile::constant(SLOW_CALLERS) };

    let mut report = NeighbourReport::new(args, rate);
    let alone = neighbour.measure(&watched, &stage.bounds, stop).await?;
    report.add("nobody".to_owned(), &alone, None);
    for (model, load) in [(&args.flood, &flood), (&args.slow, &slow)] {
        if stop.is_set() {
            break;
        }
        let other = stage.side(model, load).await?;
        if *model == args.slow {
            report.slow_alone_per_second = round(other.measure(load, &stage.bounds, stop).await?.throughput());
        }
        let both =
            tokio::join!(neighbour.measure(&watched, &stage.bounds, stop), other.measure(load, &stage.bounds, stop));
        let (beside, flooded) = (both.0?, both.1?);
        if *model == args.slow {
            report.slow_beside_per_second = round(flooded.throughput());
        }
        report.add(format!("a flood of {model}"), &beside, Some(&flooded));
    }
    report.interrupted = stop.is_set();
    Ok(report)
}

fn bounds(duration: Duration) -> Bounds {
    Bounds { warmup: WARMUP.min(duration / 4), duration, requests: u64::MAX, grace: GRACE, slices: 0 }
}

/// What all situations share.
struct Stage<'a> {
    args: &'a NeighbourArgs,
    bounds: Bounds,
}

impl Stage<'_> {
    async fn side(&self, model: &str, load: &Load) -> Result<Side> {
        let args = self.args;
        let spec = ClassSpec::plain(&args.url, model, args.protocol, args.allow_remote);
        prepare::side(&[spec], load).await
    }
}

impl NeighbourReport {
    fn new(args: &NeighbourArgs, rate: f64) -> Self {
        Self {
            url: args.url.clone(),
            model: args.model.clone(),
            rate: round(rate),
            interrupted: false,
            situations: Vec::new(),
            slow_alone_per_second: 0.0,
            slow_beside_per_second: 0.0,
            complaints: Vec::new(),
        }
    }

    fn add(&mut self, beside: String, measured: &Measured, flood: Option<&Measured>) {
        let tally = &measured.tally;
        let alone = self.situations.first().and_then(|first| first.latency_us);
        for (code, error) in &tally.errors {
            self.complaints.push(format!("{}: {} x {code} beside {beside}: {}", self.url, error.count, error.example));
        }
        if tally.answered() == 0 {
            self.complaints.push(format!("{}: no answers beside {beside}", self.url));
        }
        self.situations.push(Situation {
            beside,
            latency_us: Percentiles::of(&tally.latency),
            limit_us: alone.map(|alone| round((2.0 * alone.p99).max(alone.p99 + 10_000.0))),
            answered: tally.answered(),
            failed: tally.offered() - tally.answered(),
            send_lag_us: Percentiles::of(&tally.send_lag),
            flood_per_second: flood.map_or(0.0, |flood| round(flood.throughput())),
        });
    }

    /// What makes the scenario a failure.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.clone()
    }
}

impl Shown for NeighbourReport {
    fn table(&self) -> String {
        let mut table = Table::default();
        let head = ["p50", "p99", "p99 may be", "", "answered", "failed", "lag p99", "flood/s"];
        table.row("beside", head.map(str::to_owned));
        for situation in &self.situations {
            let p99 = situation.latency_us.map(|latency| latency.p99);
            let kept = p99.zip(situation.limit_us).map(|(p99, limit)| if p99 <= limit { "kept" } else { "over" });
            let cells = [
                situation.latency_us.map_or("-".to_owned(), |latency| micros(latency.p50)),
                p99.map_or("-".to_owned(), micros),
                situation.limit_us.map_or("-".to_owned(), micros),
                kept.unwrap_or("").to_owned(),
                situation.answered.to_string(),
                situation.failed.to_string(),
                situation.send_lag_us.map_or("-".to_owned(), |lag| micros(lag.p99)),
                format!("{:.1}", situation.flood_per_second),
            ];
            table.row(&situation.beside, cells);
        }
        let early = if self.interrupted { ", interrupted" } else { "" };
        format!(
            "{} model {}, {:.1} requests/s{early}\n{}slow model: {:.2} answers/s alone, {:.2} beside the neighbour\n",
            self.url,
            self.model,
            self.rate,
            table.render(),
            self.slow_alone_per_second,
            self.slow_beside_per_second,
        )
    }
}
