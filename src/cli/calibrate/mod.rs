//! `weir calibrate`: chooses the thresholds of a cascade from labelled rows, says what that loses and saves, and writes them into
//! the route as its next revision. Needs no gateway; one that runs follows.
//!
//! | file | what it is |
//! |---|---|
//! | `data`, `csv`, `npz` | the labelled rows |
//! | `stages`, `classes` | every stage over all rows |
//! | `report` | what is shown |

mod classes;
mod csv;
mod data;
mod npz;
mod report;
mod stages;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use clap::{Args, ValueEnum};

use self::{
    data::Data,
    report::{Chosen, Goal, Written},
    stages::Run,
};
use super::{
    client::block_on,
    exit::{Exit, Failure, Report},
    layers,
    output::Output,
    table::Paint,
};
use crate::{
    compose::{
        Author,
        calibrate::{Labelled, Method, Promise, upper_bound},
        offline::RouteFile,
    },
    registry::source::ROUTE_TOML,
    spec::{Problem, route_edit::parse_but_calibration, with_calibration},
    types::{Calibration, CascadeSpec, ModelName, RouteKind, rfc3339},
};

/// With so many rows the test of the net loss, which keeps more rows with cheap stages, is chosen by itself.
const ROWS_FOR_NET: usize = 1_000;

/// What `weir calibrate` takes.
#[derive(Args, Clone, Debug)]
pub struct CalibrateCommand {
    /// Name of the route, a cascade
    #[arg(value_parser = route_name)]
    route: ModelName,
    /// Labelled rows that no model was trained on, .npz or .csv: a column label, and the inputs of the stages by name
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The registry directory [default: that of serve] [env: WEIR_REGISTRY]
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// Folder of the routes [default: that of serve] [env: WEIR_ROUTES]
    #[arg(long, value_name = "DIR")]
    routes: Option<PathBuf>,
    /// Accuracy that may be lost against the last stage alone, for example 0.01
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = loss, conflicts_with = "cost")]
    max_loss: f64,
    /// Instead of a loss, the share of a stage's rows that may go on; nothing is promised then
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "method")]
    cost: Option<f64>,
    /// Probability that more than the allowed loss is lost
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = risk)]
    delta: f64,
    /// How the promise is shown; auto is net from 1,000 rows on, else harm
    #[arg(long, value_name = "METHOD", value_enum, default_value_t)]
    method: MethodChoice,
    /// The reason, for the route's history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    /// Write nothing, only say what would be chosen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// How the promise is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum MethodChoice {
    /// By the number of rows
    #[default]
    Auto,
    /// Exact bound of the share of rows that are harmed
    Harm,
    /// Test of the accuracy that is lost, gains taken off
    Net,
}

/// Calibrates.
///
/// # Errors
/// A route that is no cascade or has no thresholds, data that do not fit, models that cannot be loaded, no thresholds that keep the
/// promise, a folder that cannot be written to.
pub fn run(command: CalibrateCommand) -> Result<Report, Failure> {
    let given = (command.registry.clone(), command.routes.clone());
    let (registry, routes) = layers::folders(given, &layers::Process)?;
    let place = routes.join(command.route.as_str()).join(ROUTE_TOML);
    let wrong = |text: String| Failure::problem(format!("{}: {text}", place.display()));
    let file = RouteFile::open(&routes.join(command.route.as_str())).map_err(wrong)?;
    let spec = parse_but_calibration(file.text()).map_err(|problems| all(&place, &problems))?;
    let cascade = match spec.kind {
        RouteKind::Cascade(cascade) => cascade,
        other => return Err(wrong(format!("kind: expected \"cascade\", got \"{}\"", other.as_str()))),
    };
    fit_to_calibrate(&cascade, &[&routes, &registry]).map_err(wrong)?;
    let data = Data::open(&command.data)?;
    let runs = block_on(stages::run(&registry, &cascade.stages, &data));
    let runs = runs.map_err(|failure| match failure.text.starts_with("stage[") {
        true => wrong(failure.text),
        false => failure,
    })?;
    let chosen = choose(&command, runs, data.rows())
        .map_err(|text| Failure::problem(format!("{}: {text}", shown(&command.data))))?;
    let text = with_calibration(file.text(), &chosen.thresholds, &chosen.versions(), &calibration(&chosen))
        .map_err(|problems| all(&place, &problems))?;
    let revision = if command.dry_run {
        None
    } else {
        let why = if command.why.is_empty() { chosen.reason() } else { command.why.clone() };
        let author = Author { who: "local".into(), why: why.into() };
        Some(file.replace(&text, author, SystemTime::now()).map_err(wrong)?)
    };
    let written =
        Written { route: &command.route, file: &place, data: &command.data, revision, budget: cascade.escalation };
    let text = if command.output.is_json() {
        report::json(&chosen, &written)
    } else {
        report::text(&chosen, &written, Paint::of_stdout())
    };
    Ok(Report { exit: Exit::Done, text })
}

/// Every problem of a route's file, a line each.
fn all(place: &Path, problems: &[Problem]) -> Failure {
    let lines: Vec<_> = problems.iter().map(|problem| format!("{}: {problem}", place.display())).collect();
    Failure::problem(lines.join("\n"))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Every stage must be a model, and every measure have a threshold.
fn fit_to_calibrate(cascade: &CascadeSpec, folders: &[&PathBuf]) -> Result<(), String> {
    for (at, stage) in cascade.stages.iter().enumerate() {
        let name = stage.part.name.as_str();
        if folders.iter().any(|folder| folder.join(name).join(ROUTE_TOML).exists()) {
            return Err(format!(
                "stage[{at}].model: expected a model, got the route '{name}', which has no version to pin"
            ));
        }
        if stage.accept.as_ref().is_some_and(|accept| accept.measure.at_least().is_none()) {
            return Err(format!(
                "stage[{at}].accept.measure: expected max_prob, margin or certainty, got band: two bounds are not calibrated"
            ));
        }
    }
    Ok(())
}

/// The thresholds for what the command asks.
fn choose(command: &CalibrateCommand, mut runs: Vec<Run>, rows: usize) -> Result<Chosen, String> {
    let last = runs.len().saturating_sub(1);
    let measures = runs[..last].iter_mut().map(|run| std::mem::take(&mut run.measures)).collect();
    let right = runs.iter_mut().map(|run| std::mem::take(&mut run.right)).collect();
    let labelled = Labelled::new(measures, right).ok_or("the stages answered different numbers of rows")?;
    let method = match command.method {
        MethodChoice::Harm => Method::Harm,
        MethodChoice::Net => Method::Net,
        MethodChoice::Auto if rows >= ROWS_FOR_NET => Method::Net,
        MethodChoice::Auto => Method::Harm,
    };
    let (goal, thresholds) = match command.cost {
        Some(share) => (Goal::Cost { share }, labelled.share(share)),
        None => {
            let promise = Promise { alpha: command.max_loss, delta: command.delta, method };
            (Goal::Loss(promise), labelled.promise(promise))
        }
    };
    let thresholds = thresholds.map_err(|refusal| refusal.to_string())?;
    let outcome = labelled.outcome(&thresholds);
    let bound = upper_bound(outcome.harmed as u64, rows as u64, command.delta);
    Ok(Chosen { runs, labelled, goal, delta: command.delta, thresholds, outcome, bound })
}

/// The table `[calibration]` of the route.
fn calibration(chosen: &Chosen) -> Calibration {
    let (alpha, method) = match chosen.goal {
        Goal::Loss(Promise { alpha, method: Method::Harm, .. }) => (alpha, "harm"),
        Goal::Loss(Promise { alpha, method: Method::Net, .. }) => (alpha, "net"),
        Goal::Cost { .. } => (chosen.bound, "cost"),
    };
    Calibration {
        alpha,
        delta: chosen.delta,
        n: chosen.labelled.rows() as u64,
        method: method.into(),
        date: rfc3339(SystemTime::now())[..10].into(),
        thresholds: chosen.thresholds.clone(),
        digests: chosen.runs.iter().map(|run| Box::from(&*Arc::clone(&run.digest))).collect(),
    }
}

fn route_name(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).map_err(|error| error.to_string())
}

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.parse().ok().filter(|value| fits(*value)).ok_or_else(|| format!("expected {expected}"))
}

fn loss(text: &str) -> Result<f64, String> {
    number(text, "a number above 0 and below 1", |value| value > 0.0 && value < 1.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 to 1", |value| (0.0..=1.0).contains(&value))
}

fn risk(text: &str) -> Result<f64, String> {
    number(text, "a number above 0 and at most 0.25", |value| value > 0.0 && value <= 0.25)
}
