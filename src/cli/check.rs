//! `weir check`: loads and validates a whole registry as a gateway would, without serving it, and says everything that is wrong.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::json;

use super::{
    exit::{Exit, Failure, Report},
    layers,
    output::Output,
    table::{Cell, Paint, Table, Tone, clean},
};
use crate::{
    app::{
        engines_and_library,
        probe::{ProbeOptions, Probes},
    },
    compose::RouteFiles,
    observe::Metrics,
    registry::{self, Problem, RegistryConfig, Row, loader::Loader},
    scheduler::{Merging, Scheduler, SchedulerOptions},
    types::ModelName,
};

/// What `weir check` takes.
#[derive(Args, Clone, Debug)]
pub struct CheckCommand {
    /// The registry directory [default: that of serve] [env: WEIR_REGISTRY]
    #[arg(value_name = "REGISTRY")]
    registry: Option<PathBuf>,
    /// Directory of routes, when they are not in the registry
    #[arg(long, value_name = "DIR", env = "WEIR_ROUTES")]
    routes: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Checks.
///
/// # Errors
/// When the directory cannot be read. Problems inside it are part of the report.
pub fn run(command: CheckCommand) -> Result<Report, Failure> {
    let root = layers::registry(command.registry, &layers::Process)?;
    let scheduler = Scheduler::start(SchedulerOptions::default());
    let scheduler = scheduler.map_err(|error| Failure::problem(format!("threads: {error}")))?;
    let metrics = Metrics::new();
    let engines = engines_and_library(layers::onnxruntime_lib(&layers::Process).as_deref());
    let (engines, library) = engines.map_err(|error| Failure::usage(error.to_string()))?;
    let probes = ProbeOptions { onnxruntime_lib: library, ..ProbeOptions::new() };
    let probes = Probes::new(probes, Arc::clone(&metrics));
    let loader = Loader {
        engines: engines.with_probe(probes),
        scheduler: Arc::clone(&scheduler),
        metrics: Arc::clone(&metrics),
        max_bytes: RegistryConfig::new(&root).max_bytes,
    };
    let routes = command.routes.as_deref().unwrap_or(&root);
    let unreadable =
        |what: &str, path: &std::path::Path, error| Failure::usage(format!("{what} {}: {error}", path.display()));
    let folder = if command.routes.is_some() { "routes" } else { "registry" };
    let files = RouteFiles::read(routes).map_err(|error| unreadable(folder, routes, error));
    let found = files.and_then(|files| {
        let found = registry::check(&root, &loader, &files.named());
        Ok((files, found.map_err(|error| unreadable("registry", &root, error))?))
    });
    let found = found.map(|(files, mut found)| {
        let routes = checked_routes(&files, &mut found, &metrics);
        if found.rows.is_empty() && found.problems.is_empty() && routes.is_empty() {
            let text = format!("{}: neither a model nor a route in it", root.display());
            found.notes.push(Problem { model: None, text });
        }
        (found, routes)
    });
    scheduler.shutdown();
    let (found, routes) = found?;
    let text =
        if command.output.is_json() { as_json(&found, &routes) } else { as_text(&found, &routes, Paint::of_stdout()) };
    let exit = if found.problems.is_empty() { Exit::Done } else { Exit::Problems };
    Ok(Report { exit, text })
}

/// A route and whether it can be served.
struct RouteRow {
    name: ModelName,
    kind: &'static str,
    good: bool,
}

/// Checks the routes against what was loaded, and adds what is wrong with them to the report.
fn checked_routes(files: &RouteFiles, found: &mut registry::Report, metrics: &Metrics) -> Vec<RouteRow> {
    found.problems.extend(files.problems.iter().cloned());
    let mut rows = Vec::new();
    for (name, outcome) in files.compile(&found.loaded, metrics) {
        let kind = files.routes.get(&name).map_or("", |live| live.spec.kind.as_str());
        rows.push(RouteRow { name: name.clone(), kind, good: outcome.is_ok() });
        let problems = outcome.err().into_iter().flatten();
        found.problems.extend(problems.map(|text| Problem { model: Some(name.clone()), text }));
    }
    // What routes needed is not needed any more; the lanes of the models end with it.
    found.loaded = registry::Snapshot::default();
    rows
}

fn as_text(found: &registry::Report, routes: &[RouteRow], paint: Paint) -> String {
    let mut table = Table::new(&["MODEL", "VERSION", "RESULT", "ENGINE", "BATCHING", "SCORE", "LOAD"]);
    for row in &found.rows {
        table.row(line(row));
    }
    let mut text = table.render(paint);
    if !routes.is_empty() {
        let mut table = Table::new(&["ROUTE", "KIND", "RESULT"]);
        for route in routes {
            let result = if route.good { Cell::new("good", Tone::Good) } else { Cell::new("refused", Tone::Bad) };
            table.row([route.name.as_str().into(), route.kind.into(), result]);
        }
        text.push('\n');
        text.push_str(&table.render(paint));
    }
    let mut list = |tone, word: &str, problems: &[Problem]| {
        for problem in problems {
            text.push_str(&format!("{} {}\n", paint.paint(tone, word), clean(&problem.to_string())));
        }
    };
    list(Tone::Busy, "note:", &found.notes);
    list(Tone::Bad, "problem:", &found.problems);
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let routes = if routes.is_empty() { String::new() } else { format!("{}, ", count(routes.len(), "route")) };
    let versions = count(found.rows.len(), "version");
    text.push_str(&format!("{versions}, {routes}{}\n", count(found.problems.len(), "problem")));
    text
}

fn line(row: &Row) -> [Cell; 7] {
    let checked = row.outcome.as_ref().ok();
    [
        row.id.model.as_str().into(),
        row.id.version.into(),
        if checked.is_some() { Cell::new("good", Tone::Good) } else { Cell::new("refused", Tone::Bad) },
        checked.map_or("", |checked| checked.engine).into(),
        checked.map(|checked| batching(&checked.merging)).unwrap_or_default().into(),
        checked.and_then(|checked| checked.score.as_deref()).unwrap_or_default().into(),
        format!("{} ms", row.took.as_millis()).into(),
    ]
}

fn batching(merging: &Merging) -> String {
    match merging {
        Merging::Proved => "proved safe".to_owned(),
        Merging::Vouched => "configured".to_owned(),
        Merging::NoBatch => "no batch dimension".to_owned(),
        Merging::Off(reason) => format!("off: {reason}"),
    }
}

fn as_json(found: &registry::Report, routes: &[RouteRow]) -> String {
    let list = |problems: &[Problem]| -> Vec<_> {
        let model = |problem: &Problem| problem.model.as_ref().map(|model| model.as_str().to_owned());
        problems.iter().map(|problem| json!({ "model": model(problem), "text": problem.text })).collect()
    };
    let rows: Vec<_> = found.rows.iter().map(row_json).collect();
    let routes: Vec<_> = routes
        .iter()
        .map(|route| json!({ "route": route.name.as_str(), "kind": route.kind, "good": route.good }))
        .collect();
    let report =
        json!({ "versions": rows, "routes": routes, "problems": list(&found.problems), "notes": list(&found.notes) });
    format!("{report:#}\n")
}

fn row_json(row: &Row) -> serde_json::Value {
    let mut value = json!({
        "model": row.id.model.as_str(),
        "version": row.id.version.get(),
        "good": row.outcome.is_ok(),
        "load_ms": u64::try_from(row.took.as_millis()).unwrap_or(u64::MAX),
    });
    match &row.outcome {
        Err(reason) => value["reason"] = json!(reason),
        Ok(checked) => {
            value["engine"] = json!(checked.engine);
            let selection = &checked.selection;
            let tried: Vec<String> = selection.tried.iter().map(ToString::to_string).collect();
            value["selection"] = json!({ "why": &*selection.why, "tried": tried });
            value["digest"] = json!(&*checked.digest);
            value["batching"] = json!(batching(&checked.merging));
            value["score"] = json!(checked.score.as_deref());
        }
    }
    value
}
