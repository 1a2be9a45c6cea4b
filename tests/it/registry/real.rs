//! The demo registry and the fixtures through the embedded engine: what `weir serve` and `weir check` make of them.

use std::{path::Path, sync::Arc, time::Duration};

use weir::{
    engine::TractEngine,
    observe::Metrics,
    registry::{Engines, Named, Registry, RegistryConfig, Report, Servable, check, loader::Loader},
    scheduler::{Merging, Scheduler, SchedulerOptions},
    types::{ModelState, ScoreKind, VersionRef},
};

use super::{Dir, PATIENCE, name, ready};

fn parts() -> (Engines, Arc<Scheduler>, Arc<Metrics>) {
    let scheduler = Scheduler::start(SchedulerOptions { workers: 1, ..SchedulerOptions::default() }).unwrap();
    (Engines::new(Arc::new(TractEngine::new())), scheduler, Metrics::new())
}

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn checked(root: &Path) -> Report {
    let (engines, scheduler, metrics) = parts();
    let loader = Loader { engines, scheduler: Arc::clone(&scheduler), metrics, max_bytes: 1 << 30 };
    let report = check(root, &loader, &Named::default()).unwrap();
    scheduler.shutdown();
    report
}

/// The models of the demo registry.
const DEMO: [&str; 9] = [
    "breast-cancer-mlp",
    "diabetes-forest",
    "digits-cnn",
    "digits-linear",
    "digits-orientation",
    "digits-sideways",
    "wine-forest",
    "wine-linear",
    "wine-mlp",
];

#[test]
fn the_demo_registry_serves() {
    let (engines, scheduler, metrics) = parts();
    let config = RegistryConfig { settle: Duration::from_millis(1), ..RegistryConfig::new(repository("models")) };
    let registry = Registry::start(config, engines, Arc::clone(&scheduler), metrics).unwrap();
    let snapshot = registry.wait_started(PATIENCE).unwrap();
    assert_eq!(snapshot.problems, []);
    let names: Vec<_> = snapshot.models.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, DEMO);
    let resolve = |model: &str, version| -> Arc<Servable> {
        snapshot.resolve(model, &VersionRef::parse(version).unwrap()).unwrap()
    };
    assert_eq!(ready(&snapshot.models["digits-linear"]), [1, 2]);
    assert_eq!(resolve("digits-linear", "stable").id.version.get(), 1);
    assert_eq!(resolve("digits-linear", "").id.version.get(), 2);
    for model in &names {
        assert_eq!(resolve(model, "").merging, Merging::Proved, "{model}");
        assert_eq!(resolve(model, "").engine, "tract");
    }
    let score = |model| resolve(model, "").series.score().map(|score| (score.name.to_string(), score.kind));
    assert_eq!(score("digits-linear"), Some(("probabilities".to_owned(), ScoreKind::Probability)));
    assert_eq!(score("diabetes-forest").unwrap().1, ScoreKind::Regression);
    registry.shutdown();
    scheduler.shutdown();
}

#[test]
fn check_finds_nothing_wrong_with_the_demo_registry() {
    let report = checked(&repository("models"));
    assert_eq!(report.problems, []);
    let rows: Vec<_> = report.rows.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(rows.len(), 10, "{rows:?}");
    assert!(report.rows.iter().all(|row| row.outcome.is_ok()));
    let notes: Vec<_> = report.notes.iter().map(ToString::to_string).collect();
    assert!(notes.contains(&"README.md: not a folder".to_owned()), "{notes:?}");
}

#[test]
fn check_tells_everything_that_is_wrong() {
    let report = checked(&repository("tests/fixtures"));
    let problem = |model: &str| {
        let of_model = report.problems.iter().filter(|problem| problem.model.as_ref() == Some(&name(model)));
        of_model.map(|problem| problem.text.clone()).collect::<Vec<_>>().join("; ")
    };
    for model in ["text", "truncated", "empty", "unknown-op", "no-graph"] {
        assert!(problem(model).starts_with("version 1: model.onnx: "), "{model}: {}", problem(model));
    }
    assert!(problem("unknown-op").contains("FancyOp"), "{}", problem("unknown-op"));
    for model in ["external-missing", "external-escape", "external-absolute"] {
        assert!(problem(model).contains("external data: "), "{model}: {}", problem(model));
    }
    for model in ["external-data", "identity-fp32", "two-in-two-out"] {
        assert_eq!(problem(model), "");
    }
    let merging = |model: &str| {
        let row = report.rows.iter().find(|row| row.id.model == name(model)).unwrap();
        row.outcome.as_ref().unwrap().merging.clone()
    };
    for model in ["softmax-dim0", "quantized-rows"] {
        assert!(matches!(merging(model), Merging::Off(_)), "{model}: {:?}", merging(model));
    }
    assert_eq!(merging("no-batch"), Merging::NoBatch);
    assert_eq!(merging("logreg-binary"), Merging::Proved);
}

#[test]
fn golden_answers_and_declarations_gate() {
    let dir = Dir::new();
    let copy = |from: &str, to: &str| {
        std::fs::create_dir_all(dir.path(to).parent().unwrap()).unwrap();
        std::fs::copy(repository(from), dir.path(to)).unwrap();
    };
    let model = "models/digits-linear/1/model.onnx";
    copy(model, "wrong/1/model.onnx");
    let golden = std::fs::read_to_string(repository("models/digits-linear/1/golden.json")).unwrap();
    let value = golden.split("\"probabilities\"").nth(1).unwrap().split('[').nth(2).unwrap().split(',').next().unwrap();
    dir.put("wrong/1/golden.json", &golden.replacen(value, "0.875", 1));
    copy(model, "declared/1/model.onnx");
    dir.put(
        "declared/config.pbtxt",
        "input [{ name: \"pixels\" data_type: TYPE_FP32 dims: [63] }]\nmax_batch_size: 8\n",
    );
    copy(model, "triton/1/model.onnx");
    dir.put("triton/config.pbtxt", "max_batch_size: 0\n");
    copy(model, "vouched/1/model.onnx");
    dir.put(
        "vouched/model.toml",
        "[batching]\nmax_batch_size = 5\n[score]\noutput = \"probabilities\"\nkind = \"logit\"\n",
    );
    copy(model, "scoreless/1/model.onnx");
    dir.put("scoreless/model.toml", "[score]\noutput = \"probabilites\"\nkind = \"logit\"\n");
    let (engines, scheduler, metrics) = parts();
    let config = RegistryConfig { settle: Duration::from_millis(1), ..RegistryConfig::new(dir.root()) };
    let registry = Registry::start(config, engines, Arc::clone(&scheduler), metrics).unwrap();
    let snapshot = registry.wait_started(PATIENCE).unwrap();
    let reason = |model: &str| {
        let entry = &snapshot.models[model].versions[0];
        assert_eq!(entry.state, ModelState::Unavailable, "{model}");
        entry.reason.clone()
    };
    let start = "golden.json: case 0, output 'probabilities', element 0: expected 0.875, got ";
    assert!(reason("wrong").starts_with(start), "{}", reason("wrong"));
    let declared = reason("declared");
    assert!(declared.starts_with("config.pbtxt: line 1, column "), "{declared}");
    assert!(declared.ends_with("input[0].dims: expected [64] as in the model, got [63]"), "{declared}");
    assert!(reason("scoreless").starts_with("model.toml: [score]: outputs: expected "), "{}", reason("scoreless"));
    let servable = |model| snapshot.resolve(model, &VersionRef::Policy).unwrap();
    assert_eq!(servable("triton").merging, Merging::Off("max_batch_size is 0".into()));
    assert_eq!((servable("vouched").merging.clone(), servable("vouched").lane.batch_limit()), (Merging::Vouched, 5));
    assert_eq!(servable("vouched").series.score().unwrap().kind, ScoreKind::Logit);
    registry.shutdown();
    scheduler.shutdown();
}
