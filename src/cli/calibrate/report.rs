//! What `weir calibrate` shows: how good each stage is, accuracy against cost, what was chosen and what that promises in words.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::stages::Run;
use crate::{
    cli::table::{Cell, Paint, Table, Tone, clean},
    compose::calibrate::{Labelled, Method, Outcome, Promise},
    types::{Escalation, ModelName, Version},
};

/// Points of the curve.
const POINTS: usize = 50;
/// Points of it that a table shows: about one screen.
const SHOWN: usize = 20;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Thresholds that promise this.
    Loss(Promise),
    /// Thresholds with which this share of a stage's rows goes on.
    Cost {
        /// 0 to 1.
        share: f64,
    },
}

/// Thresholds, and all that they were chosen from.
pub(super) struct Chosen {
    /// Every stage; its rows are in `labelled`.
    pub(super) runs: Vec<Run>,
    pub(super) labelled: Labelled,
    pub(super) goal: Goal,
    pub(super) delta: f64,
    /// `at_least` of every stage but the last.
    pub(super) thresholds: Vec<f64>,
    pub(super) outcome: Outcome,
    /// Exact upper bound of the share of harmed rows at these thresholds, at confidence 1 - delta.
    pub(super) bound: f64,
}

/// Where it comes from and where it went.
pub(super) struct Written<'a> {
    pub(super) route: &'a ModelName,
    pub(super) file: &'a Path,
    pub(super) data: &'a Path,
    /// `None`: nothing was written.
    pub(super) revision: Option<u64>,
    pub(super) budget: Option<Escalation>,
}

impl Chosen {
    /// The versions to pin.
    pub(super) fn versions(&self) -> Vec<Version> {
        self.runs.iter().map(|run| run.version).collect()
    }

    /// Why the revision was made, when nobody says.
    pub(super) fn reason(&self) -> String {
        let rows = self.labelled.rows();
        match self.goal {
            Goal::Loss(Promise { alpha, delta, method }) => {
                format!("calibrated on {rows} rows: max loss {alpha}, delta {delta}, {}", word(method))
            }
            Goal::Cost { share } => format!("calibrated on {rows} rows: cost {share}"),
        }
    }

    fn share(&self, rows: usize) -> f64 {
        rows as f64 / self.labelled.rows() as f64
    }

    fn escalated(&self, outcome: &Outcome) -> f64 {
        1.0 - self.share(outcome.answered.first().copied().unwrap_or(0))
    }

    fn lost(&self, outcome: &Outcome) -> f64 {
        (outcome.harmed as f64 - outcome.gained as f64) / self.labelled.rows() as f64
    }

    fn last(&self) -> String {
        self.runs.last().map_or_else(String::new, |run| format!("{} version {}", run.model, run.version))
    }

    /// What the thresholds promise, in words.
    fn promise(&self) -> String {
        let (last, rows) = (self.last(), self.labelled.rows());
        let drawn = "on rows drawn like these";
        match self.goal {
            Goal::Loss(Promise { alpha, delta, method: Method::Harm }) => format!(
                "With probability {} over the choice of these {rows} rows, {drawn} at most a share of {alpha} is answered wrongly \
                 that {last} alone answers rightly; so the accuracy is at most {alpha} below its own (exact binomial bound).",
                1.0 - delta
            ),
            Goal::Loss(Promise { alpha, delta, method: Method::Net }) => format!(
                "With probability {} over the choice of these {rows} rows, {drawn} the accuracy is less than {alpha} below that of \
                 {last} alone (fixed-sequence test of the net loss).",
                1.0 - delta
            ),
            Goal::Cost { share } => format!(
                "At most a share of {share} of the rows of a stage goes on. Nothing is promised about accuracy; the exact {} upper \
                 bound of the share that is answered wrongly and that {last} alone answers rightly is {:.4}.",
                1.0 - self.delta,
                self.bound
            ),
        }
    }

    /// The curve with the chosen point in it, by falling threshold.
    fn curve(&self, points: usize) -> Vec<(f64, Outcome, bool)> {
        let others = self.labelled.curve(&self.thresholds, points).into_iter();
        let chosen = self.thresholds.first().copied().unwrap_or(1.0);
        let mut all: Vec<_> =
            others.filter(|(at, _)| *at != chosen).map(|(at, outcome)| (at, outcome, false)).collect();
        all.push((chosen, self.outcome.clone(), true));
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    }
}

fn word(method: Method) -> &'static str {
    match method {
        Method::Harm => "harm",
        Method::Net => "net",
    }
}

/// For people.
pub(super) fn text(chosen: &Chosen, written: &Written<'_>, paint: Paint) -> String {
    let mut text = format!(
        "{}: {} labelled rows of {}\n\n{}\n",
        written.route,
        chosen.labelled.rows(),
        clean(&written.data.display().to_string()),
        stages(chosen).render(paint)
    );
    if chosen.thresholds.len() > 1 {
        text.push_str("by the threshold of stage[0], the others as chosen:\n");
    }
    text.push_str(&curve(chosen).render(paint));
    let mut say = |tone: Tone, word: &str, what: &str| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}{what}", paint.paint(tone, word));
    };
    say(Tone::Plain, "", "");
    for (at, threshold) in chosen.thresholds.iter().enumerate() {
        say(Tone::Strong, &format!("stage[{at}] at_least = {threshold}"), "");
    }
    say(Tone::Plain, "", &chosen.promise());
    if let Some(budget) = written.budget {
        let what = format!(
            " [budget] may lower stage[0]'s threshold to {}: while it is below the one chosen here, nothing is promised",
            budget.floor
        );
        say(Tone::Busy, "note:", &what);
    }
    let file = clean(&written.file.display().to_string());
    match written.revision {
        Some(revision) => say(Tone::Good, "written:", &format!(" {file}, revision {revision}")),
        None => say(Tone::Busy, "dry run:", " nothing was written"),
    }
    text
}

fn stages(chosen: &Chosen) -> Table {
    let mut table = Table::new(&["STAGE", "MODEL", "VERSION", "CLASS", "ACCURACY ALONE", "AT_LEAST", "ANSWERS"]);
    for (at, run) in chosen.runs.iter().enumerate() {
        let threshold = chosen.thresholds.get(at).map_or_else(String::new, f64::to_string);
        table.row([
            at.into(),
            run.model.as_str().into(),
            run.version.into(),
            run.class_from.as_str().into(),
            format!("{:.4}", chosen.share(chosen.labelled.right_alone(at))).into(),
            threshold.into(),
            percent(chosen.share(chosen.outcome.answered[at])).into(),
        ]);
    }
    table
}

fn curve(chosen: &Chosen) -> Table {
    let mut table = Table::new(&["AT_LEAST", "GOES ON", "ACCURACY", "LOST", "HARMED", "GAINED"]);
    for (at, outcome, is_chosen) in chosen.curve(SHOWN) {
        let cells = [
            at.to_string(),
            percent(chosen.escalated(&outcome)),
            format!("{:.4}", chosen.share(outcome.right)),
            format!("{:.4}", chosen.lost(&outcome)),
            outcome.harmed.to_string(),
            outcome.gained.to_string(),
        ];
        let tone = if is_chosen { Tone::Good } else { Tone::Plain };
        let mark = is_chosen.then(|| Cell::new("chosen", tone));
        table.row(cells.iter().map(|cell| Cell::new(cell, tone)).chain(mark));
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// For programs.
pub(super) fn json(chosen: &Chosen, written: &Written<'_>) -> String {
    let stage = |(at, run): (usize, &Run)| {
        json!({
            "model": run.model.as_str(),
            "version": run.version.get(),
            "digest": &*run.digest,
            "class": run.class_from,
            "accuracy": chosen.share(chosen.labelled.right_alone(at)),
            "at_least": chosen.thresholds.get(at),
            "answers": chosen.share(chosen.outcome.answered[at]),
        })
    };
    let point = |at: f64, outcome: &Outcome| {
        json!({
            "at_least": at,
            "escalated": chosen.escalated(outcome),
            "accuracy": chosen.share(outcome.right),
            "lost": chosen.lost(outcome),
            "harmed": outcome.harmed,
            "gained": outcome.gained,
        })
    };
    let goal = match chosen.goal {
        Goal::Loss(promise) => {
            json!({ "max_loss": promise.alpha, "delta": promise.delta, "method": word(promise.method) })
        }
        Goal::Cost { share } => json!({ "cost": share, "delta": chosen.delta }),
    };
    let mut report = point(chosen.thresholds.first().copied().unwrap_or(1.0), &chosen.outcome);
    let more = json!({
        "route": written.route.as_str(),
        "rows": chosen.labelled.rows(),
        "goal": goal,
        "thresholds": chosen.thresholds,
        "promise": chosen.promise(),
        "harm_bound": chosen.bound,
        "stages": chosen.runs.iter().enumerate().map(stage).collect::<Vec<_>>(),
        "curve": chosen.curve(POINTS).iter().map(|(at, outcome, _)| point(*at, outcome)).collect::<Vec<_>>(),
        "revision": written.revision,
    });
    if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
        report.remove("at_least");
        report.extend(more);
    }
    format!("{report:#}\n")
}
