//! A run's figures for people. Used by `main` and `comparison`.

use crate::figures::{FIGURES, micros};
use crate::report::Report;
use crate::table::{Shown, Table};

/// From this share of a core on, the generator is likely the limit.
const SATURATED: f64 = 0.9;

impl Shown for Report {
    fn table(&self) -> String {
        [self.headline(), columns(&[self]), self.classes_table(), self.slices_table(), self.notes()].concat()
    }
}

/// The figures, one column per report. Rows that say nothing in any of them are left out.
pub(crate) fn columns(reports: &[&Report]) -> String {
    let mut table = Table::default();
    let mut row = |label: &str, cell: &dyn Fn(&Report) -> Option<String>| {
        let cells: Vec<Option<String>> = reports.iter().map(|report| cell(report)).collect();
        if cells.iter().any(Option::is_some) {
            table.row(label, cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())));
        }
    };
    row("requests/s", &|r| Some(format!("{:.0}", r.requests_per_second)));
    row("rows/s", &|r| (r.rows_per_request != Some(1)).then(|| format!("{:.0}", r.rows_per_second)));
    row("in time/s", &|r| r.in_time_per_second.map(|rate| format!("{rate:.0}")));
    row("goodput", &|r| r.goodput.map(|share| format!("{:.1} %", share * 100.0)));
    for (name, figure) in FIGURES {
        row(&format!("latency {name}"), &|r| r.latency_us.map(|latency| format!("{:.1} us", figure(&latency))));
    }
    row("answered", &|r| Some(r.answered.to_string()));
    row("late", &|r| r.late.map(|late| late.to_string()));
    row("dropped", &|r| r.dropped.map(|dropped| dropped.to_string()));
    row("taken back", &|r| r.cancelled.map(|cancelled| cancelled.to_string()));
    row("send lag p50/p99", &|r| r.send_lag_us.map(|lag| format!("{:.1}/{:.1} us", lag.p50, lag.p99)));
    row("verified", &|r| Some(r.verified.to_string()));
    row("not verified", &|r| (r.unverified > 0).then(|| r.unverified.to_string()));
    row("wrong", &|r| Some(r.mismatches.to_string()));
    row("of which swapped", &|r| (r.mismatches > 0).then(|| r.swapped.to_string()));
    row("errors", &|r| Some(r.errors.iter().map(|error| error.count).sum::<u64>().to_string()));
    row("error p50/p99", &|r| r.error_latency_us.map(|e| format!("{:.1}/{:.1} us", e.p50, e.p99)));
    row("warm-up errors", &|r| (r.warmup_errors > 0).then(|| r.warmup_errors.to_string()));
    row("resent", &|r| (r.resent > 0).then(|| r.resent.to_string()));
    row("client CPU", &|r| r.client_cpu_us_per_request.map(|cpu| format!("{cpu:.2} us/request")));
    row("server CPU", &|r| r.server_cpu_us_per_request.map(|cpu| format!("{cpu:.2} us/request")));
    row("client cores", &|r| Some(format!("{:.2}", r.client_cores)));
    table.render()
}

impl Report {
    /// What was measured.
    pub(crate) fn headline(&self) -> String {
        let rows = self.rows_per_request.map_or_else(|| "several".to_owned(), |rows| rows.to_string());
        let early = if self.interrupted { ", interrupted" } else { "" };
        format!(
            "{} {}, model {}, {rows} rows/request, {}, {} connections, {:.1} s{early}\n",
            self.url, self.protocol, self.model, self.load, self.connections, self.seconds
        )
    }

    /// A line per class of a scenario.
    fn classes_table(&self) -> String {
        let mut table = Table::default();
        let head = ["requests/s", "goodput", "p50", "p99", "errors", "taken back", "verified", "wrong", "swapped"];
        if !self.classes.is_empty() {
            table.row("class", head.map(str::to_owned));
        }
        for class in &self.classes {
            let latency = |pick: fn(&crate::figures::Percentiles) -> f64| {
                class.latency_us.map_or_else(|| "-".to_owned(), |latency| micros(pick(&latency)))
            };
            let cells = [
                format!("{:.0}", class.requests_per_second),
                class.goodput.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
                latency(|p| p.p50),
                latency(|p| p.p99),
                class.errors.iter().map(|error| error.count).sum::<u64>().to_string(),
                class.cancelled.to_string(),
                class.verified.to_string(),
                class.mismatches.to_string(),
                class.swapped.to_string(),
            ];
            table.row(&class.name, cells);
        }
        table.render()
    }

    /// A line per slice of the measured time.
    fn slices_table(&self) -> String {
        let mut table = Table::default();
        if !self.slices.is_empty() {
            table.row("from", ["offered/s", "answered/s", "goodput", "p50", "p99"].map(str::to_owned));
        }
        for slice in &self.slices {
            let latency = |pick: fn(&crate::figures::Percentiles) -> f64| {
                slice.latency_us.map_or_else(|| "-".to_owned(), |latency| micros(pick(&latency)))
            };
            let cells = [
                format!("{:.0}", slice.offered_per_second),
                format!("{:.0}", slice.answered_per_second),
                format!("{:.1} %", slice.goodput * 100.0),
                latency(|p| p.p50),
                latency(|p| p.p99),
            ];
            table.row(&format!("{:.2} s", slice.from), cells);
        }
        table.render()
    }

    /// What the figures alone do not say.
    pub(crate) fn notes(&self) -> String {
        let mut notes = String::new();
        for error in &self.errors {
            let allowed = if error.allowed { " (allowed)" } else { "" };
            let latency = error
                .latency_us
                .map_or_else(String::new, |latency| format!(", p50/p99 {:.1}/{:.1} us", latency.p50, latency.p99));
            let (code, count, example) = (&error.code, error.count, &error.example);
            notes += &format!("{}: {count} x {code}{allowed}{latency}, first: {example}\n", self.url);
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
