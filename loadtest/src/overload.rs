//! `overload`: how a server behaves when it is offered more than it can do. Its capacity is measured first, then multiples of
//! it are offered with a deadline; at last the load falls to half of the capacity. Used by `main`.

use std::time::Duration;

use serde::Serialize;

use crate::bench::{Bounds, Measured};
use crate::capacity::closed_loop;
use crate::cli::OverloadArgs;
use crate::error::Result;
use crate::figures::{Percentiles, micros, part, round, share};
use crate::plan::{Load, Plan, open};
use crate::prepare;
use crate::profile::Profile;
use crate::session::{Side, per_second};
use crate::stop::Stop;
use crate::table::{Shown, Table};

/// Deadline of the requests when none is given.
const DEADLINE_MS: u64 = 50;
/// Recovery is looked at in slices of this length.
const SLICE: Duration = Duration::from_millis(100);
/// Back to normal: this share of the requests is answered in time, for this many slices in a row.
const NORMAL: f64 = 0.95;
const QUIET: usize = 5;
/// How long the largest load lasts before it falls.
const FLOOD: Duration = Duration::from_secs(2);
/// The longest recovery that is watched: more slices than a timeline has are not looked at.
const LONGEST_RECOVERY: Duration = Duration::from_secs(35);

/// What a server did under too much load.
#[derive(Debug, Serialize)]
pub(crate) struct OverloadReport {
    url: String,
    model: String,
    deadline_ms: f64,
    /// Answers per second of a closed loop without deadlines.
    capacity: f64,
    /// The largest number of answers in time per second at any load.
    peak_goodput: f64,
    interrupted: bool,
    stages: Vec<Stage>,
    /// Milliseconds from the fall of the load to normal service; `null` if it did not come back.
    recovery_ms: Option<f64>,
    #[serde(skip)]
    complaints: Vec<String>,
}

/// What was measured at one load.
#[derive(Debug, Serialize)]
struct Stage {
    /// Multiple of the capacity.
    factor: f64,
    offered_per_second: f64,
    answered_per_second: f64,
    /// Answers within the deadline.
    goodput_per_second: f64,
    /// Goodput over the peak of all stages.
    of_peak: f64,
    latency_us: Option<Percentiles>,
    late: u64,
    /// Refused at once.
    refused: u64,
    refusal_latency_us: Option<Percentiles>,
    /// Answered with an expired deadline.
    expired: u64,
    /// Not sent, because too many were outstanding.
    dropped: u64,
    send_lag_us: Option<Percentiles>,
    /// The generator itself: near 1 it is the limit.
    client_cores: f64,
}

/// Runs the scenario.
///
/// # Errors
/// What makes any run fail before it starts.
pub(crate) async fn run(args: &OverloadArgs, stop: &Stop) -> Result<OverloadReport> {
    let mut run = args.run.clone();
    run.target.timeout_ms.get_or_insert(DEADLINE_MS);
    let plan = Plan::new(&run)?;
    let closed = closed_loop(&run, &plan, stop).await?;
    let capacity = closed.throughput().max(1e-3);
    let rate = |factor: f64| Load::Open(open(&run, Profile::constant(capacity * factor)));
    let side = prepare::side(&plan.classes, &rate(1.0)).await?;
    let mut report = OverloadReport::new(&plan, capacity);
    report.look_at(&closed, &plan.allowed_errors);
    for factor in &args.factors {
        let measured = side.measure(&rate(*factor), &plan.bounds, stop).await?;
        report.look_at(&measured, &plan.allowed_errors);
        if stop.is_set() {
            break;
        }
        report.stages.push(Stage::new(*factor, &measured));
    }
    report.finish(args);
    if let Some(most) = args.factors.last().filter(|_| !stop.is_set()) {
        let fall = Fall { flood: capacity * most, after: capacity / 2.0, watched: args.recovery.min(LONGEST_RECOVERY) };
        let (measured, recovery) = fall.measure(&side, (args, &plan.bounds), stop).await?;
        report.look_at(&measured, &plan.allowed_errors);
        report.recovery_ms = recovery.map(|time| time.as_secs_f64() * 1e3);
    }
    report.interrupted = stop.is_set();
    Ok(report)
}

/// The load that falls.
struct Fall {
    flood: f64,
    after: f64,
    watched: Duration,
}

impl Fall {
    /// How long it took until service was normal again; `None` if that did not happen while it was watched.
    async fn measure(
        &self,
        side: &Side,
        (args, bounds): (&OverloadArgs, &Bounds),
        stop: &Stop,
    ) -> Result<(Measured, Option<Duration>)> {
        let rate = Profile::steps(&[(self.flood, FLOOD), (self.after, self.watched)]);
        let slices = |time: Duration| usize::try_from(time.as_millis() / SLICE.as_millis()).unwrap_or(0);
        let duration = FLOOD + self.watched;
        let bounds = Bounds { duration, slices: slices(duration), ..bounds.clone() };
        let measured = side.measure(&Load::Open(open(&args.run, rate)), &bounds, stop).await?;
        let recovery = measured.timeline.as_ref().and_then(|line| line.recovery(slices(FLOOD), NORMAL, QUIET));
        Ok((measured, recovery))
    }
}

impl Stage {
    fn new(factor: f64, measured: &Measured) -> Self {
        let tally = &measured.tally;
        let (refused, refusal) = tally.failures(crate::sender::Code::is_refusal);
        let (expired, _) = tally.failures(crate::sender::Code::is_expiry);
        let rate = |count| round(per_second(count, measured.elapsed));
        Self {
            factor,
            offered_per_second: rate(tally.offered()),
            answered_per_second: rate(tally.answered()),
            goodput_per_second: rate(tally.in_time()),
            of_peak: 0.0,
            latency_us: Percentiles::of(&tally.latency),
            late: tally.late,
            refused,
            refusal_latency_us: Percentiles::of(&refusal),
            expired,
            dropped: tally.dropped,
            send_lag_us: Percentiles::of(&tally.send_lag),
            client_cores: round(share(measured.cpu.client, measured.elapsed)),
        }
    }
}

impl OverloadReport {
    fn new(plan: &Plan, capacity: f64) -> Self {
        let deadline = plan.classes.iter().filter_map(|class| class.timeout).min().unwrap_or_default();
        Self {
            url: plan.classes.first().map(|class| class.url.clone()).unwrap_or_default(),
            model: plan.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", "),
            deadline_ms: deadline.as_secs_f64() * 1e3,
            capacity: round(capacity),
            peak_goodput: 0.0,
            interrupted: false,
            stages: Vec::new(),
            recovery_ms: None,
            complaints: Vec::new(),
        }
    }

    /// Notes what is wrong with any load: refusals and expired deadlines are what is measured, the rest is not.
    fn look_at(&mut self, measured: &Measured, allowed: &[String]) {
        if let Some(first) = &measured.tally.first_mismatch {
            self.complaints.push(format!("{}: {} wrong answers, first: {first}", self.url, measured.tally.mismatches));
        }
        for (code, error) in &measured.tally.errors {
            if !(code.is_refusal() || code.is_expiry() || allowed.contains(&code.to_string())) {
                self.complaints.push(format!("{}: {} x {code}: {}", self.url, error.count, error.example));
            }
        }
    }

    /// The peak, and what every stage is of it.
    fn finish(&mut self, args: &OverloadArgs) {
        let peak = self.stages.iter().map(|stage| stage.goodput_per_second).fold(0.0, f64::max);
        self.peak_goodput = peak;
        for stage in &mut self.stages {
            stage.of_peak = if peak > 0.0 { round(stage.goodput_per_second / peak) } else { 0.0 };
        }
        for (factor, floor) in &args.at_least {
            let stages = self.stages.iter().filter(|stage| stage.factor == *factor);
            let low = stages.filter(|stage| stage.of_peak < *floor);
            let complaint = |stage: &Stage| {
                format!(
                    "{}: goodput at {factor} x capacity: expected {floor} of its peak, got {}",
                    self.url, stage.of_peak
                )
            };
            self.complaints.extend(low.map(complaint).collect::<Vec<_>>());
        }
        if self.stages.iter().all(|stage| stage.answered_per_second == 0.0) && !self.stages.is_empty() {
            self.complaints.push(format!("{}: no answers", self.url));
        }
    }

    /// What makes the scenario a failure.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.clone()
    }
}

impl Shown for OverloadReport {
    fn table(&self) -> String {
        let mut table = Table::default();
        let head = [
            "offered/s",
            "answered/s",
            "goodput/s",
            "of peak",
            "p50",
            "p99",
            "refused",
            "refusal p99",
            "expired",
            "late",
            "dropped",
            "lag p99",
            "client cores",
        ];
        table.row("load", head.map(str::to_owned));
        for stage in &self.stages {
            let p99 = |latency: &Option<Percentiles>| latency.map_or("-".to_owned(), |latency| micros(latency.p99));
            let cells = [
                format!("{:.0}", stage.offered_per_second),
                format!("{:.0}", stage.answered_per_second),
                format!("{:.0}", stage.goodput_per_second),
                format!("{:.3}", stage.of_peak),
                stage.latency_us.map_or("-".to_owned(), |latency| micros(latency.p50)),
                p99(&stage.latency_us),
                stage.refused.to_string(),
                p99(&stage.refusal_latency_us),
                stage.expired.to_string(),
                stage.late.to_string(),
                stage.dropped.to_string(),
                p99(&stage.send_lag_us),
                format!("{:.2}", stage.client_cores),
            ];
            table.row(&format!("{} x", stage.factor), cells);
        }
        let recovery = self.recovery_ms.map_or("not while it was watched".to_owned(), |ms| format!("after {ms:.0} ms"));
        let early = if self.interrupted { ", interrupted" } else { "" };
        let head = format!("{} model {}, deadline {} ms{early}", self.url, self.model, self.deadline_ms);
        let share = part((self.peak_goodput * 1e3) as u64, (self.capacity * 1e3) as u64);
        format!(
            "{head}\ncapacity {:.0}/s (closed loop), peak goodput {:.0}/s ({share:.2} of it)\n{}back to normal: {recovery}\n",
            self.capacity,
            self.peak_goodput,
            table.render(),
        )
    }
}
