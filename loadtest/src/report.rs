//! The figures of one run, and what was wrong with it. Used by `main`; `report_table` prints them for people.

use serde::Serialize;

use crate::bench::Measured;
use crate::figures::{Percentiles, part, round, share};
use crate::plan::{Load, Plan};
use crate::session::{Side, per_second};
use crate::tally::{ErrorCount, Tally};
use crate::timeline::Timeline;

/// One server's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    /// `mixed` when the classes of a scenario use several.
    pub(crate) protocol: String,
    pub(crate) model: String,
    pub(crate) load: String,
    pub(crate) connections: usize,
    /// Only where all requests have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows_per_request: Option<u64>,
    /// Time measured.
    pub(crate) seconds: f64,
    /// A signal ended the run early.
    pub(crate) interrupted: bool,
    /// Answers that were not wrong, of requests intended in that time.
    pub(crate) answered: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) rows_per_second: f64,
    /// Answers within the deadline; only with a deadline.
    pub(crate) in_time_per_second: Option<f64>,
    /// Share of the requests that were answered within the deadline; only with a deadline.
    pub(crate) goodput: Option<f64>,
    pub(crate) late: Option<u64>,
    /// Open loop: arrivals that were not sent because too many were outstanding.
    pub(crate) dropped: Option<u64>,
    /// Open loop: how late the generator itself was. Large values mean that it, not the server, was overloaded.
    pub(crate) send_lag_us: Option<Percentiles>,
    /// From the intended send time to the answer's last byte.
    pub(crate) latency_us: Option<Percentiles>,
    pub(crate) errors: Vec<ErrorLine>,
    pub(crate) error_latency_us: Option<Percentiles>,
    pub(crate) warmup_errors: u64,
    /// Requests that were taken back on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cancelled: Option<u64>,
    /// Requests that a closing connection had not processed and that went out again, warm-up included.
    pub(crate) resent: u64,
    pub(crate) verified: u64,
    pub(crate) unverified: u64,
    pub(crate) mismatches: u64,
    /// Wrong answers that were right for another request.
    pub(crate) swapped: u64,
    pub(crate) first_mismatch: Option<String>,
    pub(crate) client_cpu_us_per_request: Option<f64>,
    /// With `--server-pid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_us_per_request: Option<f64>,
    /// Cores the generator kept busy; it runs on one, so near 1 the figures are its limit.
    pub(crate) client_cores: f64,
    /// The classes of a scenario.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) classes: Vec<ClassLine>,
    /// The measured time in slices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) slices: Vec<SliceLine>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorLine {
    pub(crate) code: String,
    pub(crate) count: u64,
    pub(crate) allowed: bool,
    pub(crate) example: String,
    pub(crate) latency_us: Option<Percentiles>,
}

/// One class of a scenario.
#[derive(Debug, Serialize)]
pub(crate) struct ClassLine {
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) protocol: &'static str,
    pub(crate) rows_per_request: u64,
    pub(crate) answered: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) goodput: Option<f64>,
    pub(crate) latency_us: Option<Percentiles>,
    pub(crate) errors: Vec<ErrorLine>,
    pub(crate) cancelled: u64,
    pub(crate) verified: u64,
    pub(crate) mismatches: u64,
    pub(crate) swapped: u64,
}

/// One slice of the measured time.
#[derive(Debug, Serialize)]
pub(crate) struct SliceLine {
    /// Seconds from the beginning of the measured time.
    pub(crate) from: f64,
    pub(crate) offered_per_second: f64,
    pub(crate) answered_per_second: f64,
    /// Share of the requests that were answered, in time if there is a deadline.
    pub(crate) goodput: f64,
    pub(crate) latency_us: Option<Percentiles>,
}

impl Report {
    /// The figures of one run of `plan` against `side`.
    pub(crate) fn new(plan: &Plan, side: &Side, measured: &Measured, interrupted: bool) -> Self {
        let Measured { tally, elapsed, cpu, .. } = measured;
        let open = matches!(plan.load, Load::Open(_));
        let deadline = side.specs.iter().any(|class| class.timeout.is_some());
        let cancels = side.specs.iter().any(|class| class.cancel.is_some());
        let rows = measured.classes.iter().zip(&side.rows).map(|(class, rows)| class.arrived * rows).sum();
        let mixed = side.specs.len() > 1;
        let errors = Errors { allowed: &plan.allowed_errors };
        Self {
            url: one_of(side, |class| &class.url).unwrap_or("several").to_owned(),
            protocol: one_of(side, |class| class.protocol.name()).unwrap_or("mixed").to_owned(),
            model: one_of(side, |class| &class.model)
                .map_or_else(|| format!("{} classes", side.specs.len()), str::to_owned),
            load: describe(&plan.load),
            connections: side.connections,
            rows_per_request: side.rows.first().copied().filter(|first| side.rows.iter().all(|rows| rows == first)),
            seconds: round(elapsed.as_secs_f64()),
            interrupted,
            answered: tally.answered(),
            requests_per_second: round(measured.throughput()),
            rows_per_second: round(per_second(rows, *elapsed)),
            in_time_per_second: deadline.then(|| round(measured.goodput())),
            goodput: deadline.then(|| part(tally.in_time(), tally.offered())),
            late: deadline.then_some(tally.late),
            dropped: open.then_some(tally.dropped),
            send_lag_us: Percentiles::of(&tally.send_lag).filter(|_| open),
            latency_us: Percentiles::of(&tally.latency),
            errors: errors.lines(tally),
            error_latency_us: Percentiles::of(&tally.error_latency),
            warmup_errors: tally.warmup_errors,
            cancelled: cancels.then_some(tally.cancelled),
            resent: side.resent(),
            verified: tally.verified,
            unverified: tally.unverified,
            mismatches: tally.mismatches,
            swapped: tally.swapped,
            first_mismatch: tally.first_mismatch.clone(),
            client_cpu_us_per_request: (tally.arrived > 0)
                .then(|| round(cpu.client.as_secs_f64() * 1e6 / tally.arrived as f64)),
            server_cpu_us_per_request: measured.server_cpu().map(round),
            client_cores: round(share(cpu.client, *elapsed)),
            classes: if mixed { errors.classes(side, measured) } else { Vec::new() },
            slices: measured.timeline.as_ref().map(slices).unwrap_or_default(),
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

/// What all classes have in common, if they do.
fn one_of<'a>(side: &'a Side, of: impl Fn(&'a crate::class::ClassSpec) -> &'a str) -> Option<&'a str> {
    let first = of(side.specs.first()?);
    side.specs.iter().all(|class| of(class) == first).then_some(first)
}

/// Failures as lines.
struct Errors<'a> {
    allowed: &'a [String],
}

impl Errors<'_> {
    fn lines(&self, tally: &Tally) -> Vec<ErrorLine> {
        let line = |(code, error): (&crate::sender::Code, &ErrorCount)| {
            let code = code.to_string();
            let allowed = self.allowed.contains(&code);
            let latency_us = Percentiles::of(&error.latency);
            ErrorLine { code, count: error.count, allowed, example: error.example.clone(), latency_us }
        };
        tally.errors.iter().map(line).collect()
    }

    fn classes(&self, side: &Side, measured: &Measured) -> Vec<ClassLine> {
        let each = side.specs.iter().zip(&side.rows).zip(&measured.classes);
        let line = |((spec, rows), tally): ((&crate::class::ClassSpec, &u64), &Tally)| ClassLine {
            name: spec.name.clone(),
            model: spec.model.clone(),
            protocol: spec.protocol.name(),
            rows_per_request: *rows,
            answered: tally.answered(),
            requests_per_second: round(per_second(tally.arrived, measured.elapsed)),
            goodput: spec.timeout.map(|_| part(tally.in_time(), tally.offered())),
            latency_us: Percentiles::of(&tally.latency),
            errors: self.lines(tally),
            cancelled: tally.cancelled,
            verified: tally.verified,
            mismatches: tally.mismatches,
            swapped: tally.swapped,
        };
        each.map(line).collect()
    }
}

fn slices(timeline: &Timeline) -> Vec<SliceLine> {
    let lines = timeline.slices.iter().zip(0_u32..).filter(|(slice, _)| slice.offered > 0);
    let line = |(slice, at): (&crate::timeline::Slice, u32)| SliceLine {
        from: round((timeline.width * at).as_secs_f64()),
        offered_per_second: round(per_second(slice.offered, timeline.width)),
        answered_per_second: round(per_second(slice.answered, timeline.width)),
        goodput: part(slice.in_time, slice.offered),
        latency_us: Percentiles::of(&slice.latency),
    };
    lines.map(line).collect()
}

fn describe(load: &Load) -> String {
    let span = |(from, to): (f64, f64)| if from == to { format!("{from}") } else { format!("{from} to {to}") };
    match load {
        Load::Closed { callers } => format!("closed loop, {} callers", span(callers.ends())),
        Load::Open(open) => {
            let rate = span(open.rate.ends());
            format!("open loop, {rate}/s {:?}, {} outstanding at most", open.spacing, open.outstanding).to_lowercase()
        }
    }
}
