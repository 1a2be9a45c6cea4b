//! Which engine runs a model, seen from outside: what is tried, kept and refused, and where that is shown. The tests that need the
//! library say that they are skipped where it is not.

use serde_json::{Value, json};
use weir::engine::onnxruntime::{Absent, open};

use crate::{
    client::Http,
    engine::forests::misread,
    harness::{PATIENCE, Registry, Weir, repository, until, weir},
};

/// Where the library is; `None`, and a line, where there is none.
pub(crate) fn library() -> Option<String> {
    match open(None) {
        Ok(opened) => Some(opened.library.to_str().unwrap().to_owned()),
        Err(absent @ (Absent::NotFound | Absent::NotBuilt)) => {
            println!("skipped: {absent}");
            None
        }
        Err(absent) => panic!("{absent}"),
    }
}

fn registry() -> Registry {
    let exported = |name: &str| format!("tests/exporters/{name}");
    let registry = Registry::new(&[
        ("cnn", exported("torch-cnn")),
        ("imputer", exported("knn-imputer")),
        ("ours", exported("ridge")),
        ("theirs", exported("ridge")),
    ]);
    registry.write("ours/model.toml", "engine = \"tract\"\n");
    registry.write("theirs/model.toml", "engine = \"onnxruntime\"\n");
    registry
}

/// The newest version of a model, as operators see it.
async fn newest(server: &Weir, model: &str) -> Value {
    server.ops_model(model).await["versions"].as_array().unwrap().last().unwrap().clone()
}

fn numbers(tensor: &Value) -> Vec<f64> {
    tensor["data"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Asks for what ONNX Runtime has answered when the model was exported.
async fn answers_as_expected(server: &Weir, model: &str, family: &str) {
    let text = std::fs::read(repository(&format!("tests/exporters/{family}/1/expected.json"))).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let case = &expected["cases"][0];
    let body = json!({ "inputs": case["inputs"] }).to_string();
    let reply = Http::new(server.http).post(&format!("/v2/models/{model}/infer"), body).await.json();
    let outputs = case["outputs"].as_array().unwrap();
    for (want, got) in outputs.iter().zip(reply["outputs"].as_array().unwrap_or_else(|| panic!("{reply}"))) {
        let (want, got) = (numbers(want), numbers(got));
        let near = want.iter().zip(&got).all(|(want, got)| (want - got).abs() <= 1e-3 * (1.0 + want.abs()));
        assert!(want.len() == got.len() && near, "{model}: {want:?}, {got:?}");
    }
}

#[tokio::test]
async fn every_engine_is_tried_and_operators_see_what_came_of_it() {
    let Some(library) = library() else { return };
    let server = Weir::serve(registry(), &["--onnxruntime-lib", &library, "--watch", "poll"]).await;
    let cnn = newest(&server, "cnn").await;
    let [tract, other] = &cnn["selection"]["engines"].as_array().unwrap()[..] else { panic!("{cnn}") };
    assert_eq!((&tract["engine"], &other["engine"]), (&json!("tract"), &json!("onnxruntime")));
    for tried in [tract, other] {
        assert_eq!((tried.get("refused"), &tried["profile"][0]["rows"]), (None, &json!(1)), "{cnn}");
        assert!(tried["profile"][0]["microseconds"].as_f64().unwrap() > 0.0);
    }
    assert!(cnn["selection"]["why"].as_str().unwrap().ends_with(" times as fast"), "{cnn}");
    assert!(cnn["engine"] == "tract" || cnn["engine"] == "onnxruntime", "{cnn}");
    let imputer = newest(&server, "imputer").await;
    assert_eq!((&imputer["state"], &imputer["engine"]), (&json!("READY"), &json!("onnxruntime")));
    assert_eq!(imputer["selection"]["why"], "no other can serve it");
    let refused = imputer["selection"]["engines"][0]["refused"].as_str().unwrap();
    assert!(refused.contains("the function wants version 16"), "{refused}");
    for (model, engine) in [("ours", "tract"), ("theirs", "onnxruntime")] {
        let seen = newest(&server, model).await;
        let why = &seen["selection"]["why"];
        assert_eq!((&seen["engine"], why), (&json!(engine), &json!("the configuration says so")));
    }
    for (model, family) in [("cnn", "torch-cnn"), ("imputer", "knn-imputer"), ("ours", "ridge"), ("theirs", "ridge")] {
        answers_as_expected(&server, model, family).await;
    }
    let logs = server.logs();
    assert!(logs.contains("ratios"), "how many times as fast it is, by size:\n{logs}");
    assert_eq!(logs.matches("engine chosen").count(), 2, "once for each model with a choice:\n{logs}");
    let ops = format!("http://{}", server.ops);
    let shown = weir().args(["models", "cnn", "--ops", &ops]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\n  because   ") && shown.contains("\n  tried     onnxruntime: 1 row "), "{shown}");

    let model = repository("tests/exporters/torch-cnn-dynamo/1/model.onnx");
    server.registry.publish("cnn", 2, &model);
    let reloaded = until("the next version is chosen for as well", PATIENCE, async || {
        let seen = newest(&server, "cnn").await;
        (seen["version"] == 2 && seen["state"] == "READY").then_some(seen)
    });
    let reloaded = reloaded.await;
    assert_eq!(reloaded["selection"]["engines"].as_array().unwrap().len(), 2, "{reloaded}");
    assert!(server.stop().await.success());
}

/// Where the engines read a file differently ONNX Runtime is believed, unless golden answers say otherwise.
#[tokio::test]
async fn a_disagreement_is_told_and_golden_answers_settle_it() {
    let Some(library) = library() else { return };
    let (file, golden) = misread();
    let registry = Registry::new::<&str>(&[]);
    registry.write("open/1/model.onnx", &file);
    registry.write("settled/1/model.onnx", &file);
    registry.write("settled/1/golden.json", golden);
    let server = Weir::serve(registry, &["--onnxruntime-lib", &library]).await;
    let open = newest(&server, "open").await;
    assert_eq!((&open["state"], &open["engine"]), (&json!("READY"), &json!("onnxruntime")), "{open}");
    assert!(open["selection"]["disagreement"].as_str().unwrap().contains("'y'"), "{open}");
    let settled = newest(&server, "settled").await;
    assert_eq!((&settled["state"], &settled["engine"]), (&json!("READY"), &json!("tract")), "{settled}");
    assert_eq!(settled["selection"].get("disagreement"), None, "{settled}");
    assert!(server.stop().await.success());
}

#[test]
fn a_check_chooses_as_the_gateway_does() {
    let Some(library) = library() else { return };
    let registry = registry();
    let mut check = weir();
    check.arg("check").arg(registry.path()).args(["--output", "json"]).env("WEIR_ONNXRUNTIME_LIB", library);
    let output = check.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}");
    let engines: Vec<_> = report["versions"].as_array().unwrap().iter().map(|row| &row["selection"]["tried"]).collect();
    let counts: Vec<_> = engines.iter().map(|tried| tried.as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 2, 1, 1], "{report:#}");
    assert!(engines[1][0].as_str().unwrap().starts_with("tract: refused: model.onnx: "), "{report:#}");
}

#[tokio::test]
async fn without_the_library_everything_is_as_before() {
    let server = Weir::serve(registry(), &[]).await;
    let cnn = newest(&server, "cnn").await;
    assert_eq!((&cnn["engine"], &cnn["selection"]["why"]), (&json!("tract"), &json!("there is no other")));
    answers_as_expected(&server, "cnn", "torch-cnn").await;
    let reason = async |model: &str| newest(&server, model).await["reason"].as_str().unwrap().to_owned();
    assert!(reason("imputer").await.contains("the function wants version 16"));
    let off = "model.toml: engine: onnxruntime: switched off by --onnxruntime-lib";
    assert_eq!(reason("theirs").await, off);
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn where_no_library_is_found_it_is_said_once_what_one_would_bring() {
    if matches!(open(None), Err(Absent::NotBuilt)) {
        return;
    }
    let server = Weir::serve_as(registry(), &[], |command| {
        for name in ["WEIR_ONNXRUNTIME_LIB", "ORT_DYLIB_PATH", "VIRTUAL_ENV"] {
            command.env_remove(name);
        }
        command.env("PATH", "/nowhere").env("HOME", "/nowhere");
    });
    let server = server.await;
    assert_eq!(newest(&server, "cnn").await["engine"], "tract");
    let logs = server.logs();
    assert_eq!(logs.matches("Models run on tract; with the library (pip install onnxruntime)").count(), 1, "{logs}");
    assert!(logs.contains("it is up to ") && logs.contains(" times"), "{logs}");
    assert!(server.stop().await.success());
}

#[test]
fn a_library_that_is_named_and_missing_is_told_at_once() {
    if matches!(open(Some(std::path::Path::new("/no/such.so"))), Err(Absent::NotBuilt)) {
        return;
    }
    let registry = Registry::new::<&str>(&[]);
    let mut serve = weir();
    serve.arg("serve").arg(registry.path()).args(["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]);
    let output = serve.args(["--onnxruntime-lib", "/no/such.so"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--onnxruntime-lib: onnxruntime: library '/no/such.so': not found"), "{text}");
}
