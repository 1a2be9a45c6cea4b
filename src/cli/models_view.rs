//! What `weir models` shows of an answer: all versions as a table, or one model with the cost of its batches. Pure.

use serde::Deserialize;

use super::{
    banner::batching,
    table::{Cell, Paint, Table, Tone, clean},
};

/// Characters of a digest that tell models apart.
const DIGEST_CHARS: usize = 12;

/// The ops listener's answer, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub(super) models: Vec<Model>,
    #[serde(default)]
    pub(super) problems: Vec<Trouble>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: u64,
    pub(super) state: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    pub(super) engine: Option<String>,
    pub(super) selection: Option<Selection>,
    pub(super) source: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) load: Option<Load>,
    pub(super) batching: Option<Batching>,
}

/// How the engine was chosen.
#[derive(Debug, Deserialize)]
pub(super) struct Selection {
    pub(super) why: String,
    pub(super) disagreement: Option<String>,
    #[serde(default)]
    pub(super) engines: Vec<Tried>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tried {
    pub(super) engine: String,
    pub(super) refused: Option<String>,
    #[serde(default)]
    pub(super) profile: Vec<Cost>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Load {
    pub(super) milliseconds: f64,
    #[serde(default)]
    pub(super) stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stage {
    pub(super) stage: String,
    pub(super) milliseconds: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Batching {
    pub(super) merged: bool,
    pub(super) because: Option<String>,
    pub(super) limit: usize,
    pub(super) local: bool,
    #[serde(default)]
    pub(super) compiled: Vec<usize>,
    #[serde(default)]
    pub(super) profile: Vec<Cost>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Cost {
    pub(super) rows: usize,
    pub(super) microseconds: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Trouble {
    pub(super) model: Option<String>,
    pub(super) text: String,
}

/// One line of the repository index.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) name: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) reason: String,
}

/// All models, a line each version.
pub(super) fn overview(models: &Models, paint: Paint) -> String {
    let mut table =
        Table::new(&["MODEL", "VERSION", "LABELS", "STATE", "ENGINE", "BATCHING", "DIGEST", "SOURCE", "REASON"]);
    for model in &models.models {
        if model.versions.is_empty() {
            let unavailable = Cell::new("UNAVAILABLE", Tone::Bad);
            let mut cells: Vec<Cell> = vec![model.name.as_str().into(), "".into(), "".into(), unavailable];
            cells.extend(["", "", "", "", &model.reason].map(Cell::from));
            table.row(cells);
        }
        for version in &model.versions {
            table.row(line(model, version));
        }
    }
    let mut text = table.render(paint);
    for problem in &models.problems {
        let subject = problem.model.as_ref().map(|model| format!("{model}: ")).unwrap_or_default();
        text.push_str(&format!(
            "{} {}\n",
            paint.paint(Tone::Bad, "problem:"),
            clean(&format!("{subject}{}", problem.text))
        ));
    }
    text
}

fn line(model: &Model, version: &Version) -> [Cell; 9] {
    let shown = version.batching.as_ref().map(|b| batching(b.limit, !b.merged)).unwrap_or_default();
    let off =
        version.batching.as_ref().and_then(|b| b.because.as_ref()).map(|because| format!("batching off: {because}"));
    let reason = if version.reason.is_empty() { off.unwrap_or_default() } else { version.reason.clone() };
    let digest: String = version.digest.iter().flat_map(|digest| digest.chars()).take(DIGEST_CHARS).collect();
    [
        model.name.as_str().into(),
        version.version.into(),
        version.labels.join(",").into(),
        Cell::new(&version.state, Tone::of_state(&version.state)),
        version.engine.as_deref().unwrap_or_default().into(),
        shown.into(),
        digest.into(),
        version.source.as_deref().unwrap_or_default().into(),
        reason.into(),
    ]
}

/// One model: all that is known, and what its batches cost.
pub(super) fn detail(model: &Model, paint: Paint) -> String {
    let mut text = String::new();
    if !model.reason.is_empty() {
        text.push_str(&format!("{}: {}\n", clean(&model.name), clean(&model.reason)));
    }
    for version in &model.versions {
        if !text.is_empty() {
            text.push('\n');
        }
        let heading = format!("{} version {}", clean(&model.name), version.version);
        let state = paint.paint(Tone::of_state(&version.state), &clean(&version.state));
        text.push_str(&format!("{}  {state}\n", paint.paint(Tone::Strong, &heading)));
        for (name, value) in facts(version) {
            text.push_str(&format!("  {name:<9} {}\n", clean(&value)));
        }
        text.push_str(&costs(version, paint));
    }
    text
}

fn facts(version: &Version) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact =
        |name, value: Option<String>| facts.extend(value.filter(|v| !v.is_empty()).map(|value| (name, value)));
    fact("reason", Some(version.reason.clone()));
    fact("labels", Some(version.labels.join(", ")));
    fact("engine", version.engine.clone());
    // Where there was a choice.
    if let Some(selection) = version.selection.as_ref().filter(|selection| selection.engines.len() > 1) {
        fact("because", Some(selection.why.clone()));
        fact("differ", selection.disagreement.clone());
        selection.engines.iter().for_each(|tried| fact("tried", Some(tried_text(tried))));
    }
    fact("source", version.source.clone());
    fact("digest", version.digest.clone());
    fact("load", version.load.as_ref().map(load_text));
    if let Some(batching) = &version.batching {
        fact("batching", Some(batching_text(batching)));
        let runs = if batching.local { "on the I/O threads" } else { "on the worker threads" };
        fact("runs", Some(runs.to_owned()));
        let sizes: Vec<String> = batching.compiled.iter().map(ToString::to_string).collect();
        fact("compiled", Some(format!("for {} rows", sizes.join(", "))).filter(|_| !sizes.is_empty()));
    }
    facts
}

/// `tract: 1 row 12.0 us, 8 rows 40.1 us`, or `tract: refused: …`.
fn tried_text(tried: &Tried) -> String {
    let cost = |cost: &Cost| format!("{} {} {:.1} us", cost.rows, rows_of(cost.rows), cost.microseconds);
    let costs: Vec<String> = tried.profile.iter().map(cost).collect();
    match &tried.refused {
        Some(why) => format!("{}: refused: {why}", tried.engine),
        None if costs.is_empty() => format!("{}: loaded", tried.engine),
        None => format!("{}: {}", tried.engine, costs.join(", ")),
    }
}

fn rows_of(count: usize) -> &'static str {
    if count == 1 { "row" } else { "rows" }
}

/// `12.3 ms: read 0.1, probe 6.0, …`; stages that took next to no time are left out.
fn load_text(load: &Load) -> String {
    let stages = load.stages.iter().filter(|stage| stage.milliseconds >= 0.05);
    let stages: Vec<String> =
        stages.map(|Stage { stage, milliseconds }| format!("{stage} {milliseconds:.1}")).collect();
    let stages = if stages.is_empty() { String::new() } else { format!(": {}", stages.join(", ")) };
    format!("{:.1} ms{stages}", load.milliseconds)
}

fn batching_text(batching: &Batching) -> String {
    match &batching.because {
        Some(because) => format!("off: {because}"),
        None if batching.merged => format!("up to {} rows", batching.limit),
        None => "off".to_owned(),
    }
}

/// The measured profile, indented below its version.
fn costs(version: &Version, paint: Paint) -> String {
    let Some(batching) = version.batching.as_ref().filter(|batching| !batching.profile.is_empty()) else {
        return String::new();
    };
    let mut table = Table::new(&["ROWS", "MICROSECONDS", "ROWS PER SECOND"]);
    for Cost { rows, microseconds } in &batching.profile {
        let rate =
            if *microseconds > 0.0 { format!("{:.0}", *rows as f64 / microseconds * 1e6) } else { String::new() };
        table.row([(*rows).into(), format!("{microseconds:.1}").into(), rate.into()]);
    }
    table.render(paint).lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{
        "started": true, "generation": 7,
        "models": [
            {"name": "digits", "required": false, "versions": [
                {"version": 1, "state": "READY", "by_policy": false, "labels": ["stable"], "engine": "tract",
                 "selection": {"why": "there is no other", "milliseconds": 1.5,
                               "engines": [{"engine": "tract", "milliseconds": 1.5, "profile": []}]},
                 "source": "digits/1/model.onnx", "digest": "0123456789abcdef", "loaded_at": 1, "requests": 3, "batches": 2,
                 "load": {"milliseconds": 7.5,
                          "stages": [{"stage": "read", "milliseconds": 0.01}, {"stage": "probe", "milliseconds": 4.5},
                                                {"stage": "parse", "milliseconds": 3}]},
                 "batching": {"merged": true, "limit": 16, "local": true, "compiled": [1, 16], "queued_rows": 0,
                              "profile": [{"rows": 1, "microseconds": 8.25}, {"rows": 16, "microseconds": 0.0}]}},
                {"version": 2, "state": "UNAVAILABLE", "reason": "model.onnx: empty", "by_policy": true, "labels": []}]},
            {"name": "whole", "required": false, "versions": [
                {"version": 3, "state": "READY", "by_policy": true, "labels": [], "engine": "onnxruntime",
                 "selection": {"why": "it is 2.00 times as fast", "disagreement": "not really", "milliseconds": 9, "engines": [
                    {"engine": "tract", "milliseconds": 3, "refused": "model.onnx: no", "profile": []},
                    {"engine": "onnxruntime", "milliseconds": 3, "profile": [
                        {"rows": 1, "microseconds": 8.25}, {"rows": 8, "microseconds": 20}]},
                    {"engine": "third", "milliseconds": 3}]},
                 "source": "whole/model.onnx", "digest": "ff", "loaded_at": 1, "requests": 0, "batches": 0,
                 "batching": {"merged": false, "because": "row 3 of output y depends on its neighbours", "limit": 1,
                              "local": false, "compiled": [], "queued_rows": 0, "profile": []}}]},
            {"name": "odd", "required": true, "reason": "model.toml: line 1: unknown key", "versions": []}],
        "problems": [{"model": "odd", "text": "model.toml: line 1: unknown key"}, {"model": null, "text": "x\u001b"}]}"#;

    #[test]
    fn every_version_is_a_line() {
        let models: Models = serde_json::from_str(ANSWER).unwrap();
        let text = overview(&models, Paint::NONE);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        let expected: [&[&str]; 7] = [
            &["MODEL", "VERSION", "LABELS", "STATE", "ENGINE", "BATCHING", "DIGEST", "SOURCE", "REASON"],
            &["digits", "1", "stable", "READY", "tract", "up to 16", "0123456789ab", "digits/1/model.onnx", "-"],
            &["digits", "2", "-", "UNAVAILABLE", "-", "-", "-", "-", "model.onnx: empty"],
            &[
                "whole",
                "3",
                "-",
                "READY",
                "onnxruntime",
                "off",
                "ff",
                "whole/model.onnx",
                "batching off: row 3 of output y depends on its neighbours",
            ],
            &["odd", "-", "-", "UNAVAILABLE", "-", "-", "-", "-", "model.toml: line 1: unknown key"],
            &["problem: odd: model.toml: line 1: unknown key"],
            &["problem: x\\u{1b}"],
        ];
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn a_model_shows_all_that_is_known() {
        let models: Models = serde_json::from_str(ANSWER).unwrap();
        assert_eq!(
            detail(&models.models[0], Paint::NONE),
            "digits version 1  READY\n\
             \u{20} labels    stable\n\
             \u{20} engine    tract\n\
             \u{20} source    digits/1/model.onnx\n\
             \u{20} digest    0123456789abcdef\n\
             \u{20} load      7.5 ms: probe 4.5, parse 3.0\n\
             \u{20} batching  up to 16 rows\n\
             \u{20} runs      on the I/O threads\n\
             \u{20} compiled  for 1, 16 rows\n\
             \u{20} ROWS  MICROSECONDS  ROWS PER SECOND\n\
             \u{20} 1     8.2           121212\n\
             \u{20} 16    0.0           -\n\
             \n\
             digits version 2  UNAVAILABLE\n\
             \u{20} reason    model.onnx: empty\n"
        );
        let whole = detail(&models.models[1], Paint::NONE);
        let chosen = "  engine    onnxruntime\n  because   it is 2.00 times as fast\n  differ    not really\n  \
                      tried     tract: refused: model.onnx: no\n  tried     onnxruntime: 1 row 8.2 us, 8 rows 20.0 us\n  \
                      tried     third: loaded\n";
        assert!(whole.contains(chosen), "{whole}");
        assert!(whole.contains("  batching  off: row 3 of output y depends on its neighbours\n"), "{whole}");
        assert_eq!(detail(&models.models[2], Paint::NONE), "odd: model.toml: line 1: unknown key\n");
    }
}
