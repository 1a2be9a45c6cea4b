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
    engine::TractEngine,
    observe::Metrics,
    registry::{self, Engines, Problem, RegistryConfig, Row, loader::Loader},
    scheduler::{Merging, Scheduler, SchedulerOptions},
};

/// What `weir check` takes.
#[derive(Args, Clone, Debug)]
pub struct CheckCommand {
    /// The registry directory [default: that of serve] [env: WEIR_REGISTRY]
    #[arg(value_name = "REGISTRY")]
    registry: Option<PathBuf>,
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
    let loader = Loader {
        engines: Engines::new(Arc::new(TractEngine::new())),
        scheduler: Arc::clone(&scheduler),
        metrics: Metrics::new(),
        max_bytes: RegistryConfig::new(&root).max_bytes,
    };
    let found = registry::check(&root, &loader);
    scheduler.shutdown();
    let found = found.map_err(|error| Failure::usage(format!("registry {}: {error}", root.display())))?;
    let text = if command.output.is_json() { as_json(&found) } else { as_text(&found, Paint::of_stdout()) };
    let exit = if found.problems.is_empty() { Exit::Done } else { Exit::Problems };
    Ok(Report { exit, text })
}

fn as_text(found: &registry::Report, paint: Paint) -> String {
    let mut table = Table::new(&["MODEL", "VERSION", "RESULT", "ENGINE", "BATCHING", "SCORE", "LOAD"]);
    for row in &found.rows {
        table.row(line(row));
    }
    let mut text = table.render(paint);
    let mut list = |tone, word: &str, problems: &[Problem]| {
        for problem in problems {
            text.push_str(&format!("{} {}\n", paint.paint(tone, word), clean(&problem.to_string())));
        }
    };
    list(Tone::Busy, "note:", &found.notes);
    list(Tone::Bad, "problem:", &found.problems);
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    text.push_str(&format!("{}, {}\n", count(found.rows.len(), "version"), count(found.problems.len(), "problem")));
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

fn as_json(found: &registry::Report) -> String {
    let list = |problems: &[Problem]| -> Vec<_> {
        let model = |problem: &Problem| problem.model.as_ref().map(|model| model.as_str().to_owned());
        problems.iter().map(|problem| json!({ "model": model(problem), "text": problem.text })).collect()
    };
    let rows: Vec<_> = found.rows.iter().map(row_json).collect();
    let report = json!({ "versions": rows, "problems": list(&found.problems), "notes": list(&found.notes) });
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
            value["digest"] = json!(&*checked.digest);
            value["batching"] = json!(batching(&checked.merging));
            value["score"] = json!(checked.score.as_deref());
        }
    }
    value
}
