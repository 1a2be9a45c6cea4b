//! The commands together, against a gateway that serves the demo registry: what is shown is what was loaded, and a prediction
//! is the same whoever makes it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{run, texts, weir};
use crate::harness::Registry;

fn demo() -> String {
    format!("{}/models", env!("CARGO_MANIFEST_DIR"))
}

/// A gateway on a copy of the demo registry that has ended start-up; killed on drop.
struct Gateway {
    child: Child,
    _registry: Registry,
    banner: String,
    http: String,
    ops: String,
}

impl Gateway {
    fn start(arguments: &[&str]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_weir")), arguments)
    }

    /// `program` becomes the gateway when it is given arguments.
    fn launch(mut program: Command, arguments: &[&str]) -> Self {
        let registry = Registry::demo();
        let mut child = program
            .arg("serve")
            .arg(registry.path())
            .args(["--http-port=0", "--grpc-port=0", "--ops-port=0", "--log-level=off"])
            .args(arguments)
            .env("WEIR_ONNXRUNTIME_LIB", "off")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !banner.contains("\ntry: ") {
            assert_ne!(out.read_line(&mut banner).unwrap(), 0, "ended early: {banner}");
        }
        let listening = banner.lines().find(|line| line.starts_with("listening: ")).unwrap();
        let words: Vec<&str> = listening.split_whitespace().collect();
        let (http, ops) = (format!("http://{}", words[2]), format!("http://{}", words[6]));
        Self { child, _registry: registry, banner, http, ops }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first golden case of a model: its input's name, its row, and the label that must come out.
fn golden(model: &str) -> (String, Vec<f32>, Value) {
    let path = format!("{}/{model}/1/golden.json", demo());
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let case = &golden["cases"][0];
    let row = case["inputs"][0]["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    (case["inputs"][0]["name"].as_str().unwrap().to_owned(), row, case["outputs"][0]["data"].clone())
}

/// What `numpy.save` writes for one row of floats.
fn npy(row: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {}), }}", row.len());
    let header = format!("{header:<117}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend(row.iter().flat_map(|value| value.to_le_bytes()));
    out
}

/// Sends what curl sends for `-d`, and gives the whole answer.
fn curl(line: &str) -> String {
    let rest = line.strip_prefix("try: curl -s http://").unwrap();
    let (url, body) = rest.split_once(" -d '").unwrap();
    let (host, path) = url.split_once('/').unwrap();
    let body = body.strip_suffix('\'').unwrap();
    let form = "application/x-www-form-urlencoded";
    let head = format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {form}\r\nConnection: close\r\n");
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn start_up_shows_the_models_and_a_curl_line_that_works() {
    let gateway = Gateway::start(&[]);
    for model in ["breast-cancer-mlp", "diabetes-forest", "digits-cnn", "digits-linear", "wine-forest"] {
        let line = gateway.banner.lines().find(|line| line.starts_with(model));
        assert!(line.is_some_and(|line| line.contains("READY") && line.contains("tract")), "{}", gateway.banner);
    }
    for route in ["digits", "digits-cascade", "digits-switch", "wine-ensemble"] {
        let line = gateway.banner.lines().find(|line| line.split_whitespace().take(3).eq([route, "1", "READY"]));
        assert!(line.is_some(), "{route}: {}", gateway.banner);
    }
    let answer = curl(gateway.banner.lines().last().unwrap());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"outputs\""), "{answer}");
}

#[test]
fn a_prediction_is_the_same_however_it_is_asked_for() {
    let gateway = Gateway::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    for model in ["digits-linear", "wine-forest", "breast-cancer-mlp", "digits-cnn"] {
        let (name, row, label) = golden(model);
        std::fs::write(folder.path().join("x.npy"), npy(&row)).unwrap();
        let request =
            serde_json::json!({"inputs": [{"name": name, "datatype": "FP32", "shape": [1, row.len()], "data": row}]});
        std::fs::write(folder.path().join("request.json"), request.to_string()).unwrap();
        let (file, literal) = (format!("{name}=@x.npy"), format!("{name}=[{row:?}]"));
        let mut answers = Vec::new();
        for door in [["--url", gateway.http.as_str()], ["--registry", &demo()]] {
            for input in [["--input", file.as_str()], ["--input", &literal], ["--json", "request.json"]] {
                let arguments = [&["infer", model, "--version=1", "--output=json"], &door[..], &input[..]].concat();
                let (code, out, err) = run(folder.path(), &arguments);
                assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
                answers.push(out);
            }
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
        let answer: Value = serde_json::from_str(&answers[0]).unwrap();
        assert_eq!((&answer["outputs"][0]["data"], &answer["model_version"]), (&label, &"1".into()), "{answer}");
    }
    let literal = format!("pixels=[{:?}]", golden("digits-linear").1);
    let arguments = ["infer", "digits-linear", "--url", &gateway.http, "--input", &literal, "--output-name", "label"];
    let (code, out, _) = run(folder.path(), &arguments);
    assert_eq!((code, out.as_str()), (0, "digits-linear version 2\nROW  label INT64[1]\n0    6\n"));
}

#[test]
fn what_goes_wrong_with_a_prediction_is_said_the_same_way() {
    let gateway = Gateway::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.npy"), npy(&[1., 2.])).unwrap();
    std::fs::write(folder.path().join("request.json"), "{\"inputs\":[").unwrap();
    for (arguments, code, part) in [
        (&["absent", "--input", "a=[1]"] as &[&str], 1, "error: model 'absent': not found"),
        (&["wine-forest", "--version", "9", "--input", "features=[1]"], 1, "version 9: not found"),
        (&["wine-forest", "--version", "1e3", "--input", "features=[1]"], 1, "expected a positive integer or a label"),
        (&["wine-forest", "--input", "x=[1]"], 2, "the model has no such input: expected 'features'"),
        (&["wine-forest", "--input", "features=[[1]]"], 1, "shape: expected [-1, 13], got [1, 1]"),
        (&["wine-forest", "--input", "features=@x.npy"], 1, "shape: expected [-1, 13], got [1, 2]"),
        (&["wine-forest", "--input", "features=[1]", "--input", "features=[2]"], 2, "--input features: given twice"),
        (&["wine-forest", "--json", "request.json"], 1, "error: body"),
        (&["wine-forest", "--json", "absent.json"], 2, "--json absent.json: "),
        (&["wine-forest"], 2, "required"),
        (&["wine-forest", "--json=a", "--input", "features=[1]"], 2, "cannot be used with"),
    ] {
        for door in [["--url", gateway.http.as_str()], ["--registry", &demo()]] {
            let arguments = [&["infer"], arguments, &door[..]].concat();
            let (got, out, err) = run(folder.path(), &arguments);
            assert_eq!((got, out.as_str()), (code, ""), "{arguments:?}: {err}");
            assert!(err.contains(part), "{arguments:?}: {err}");
        }
    }
}

#[test]
fn a_refused_model_says_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("models/text/1")).unwrap();
    std::fs::write(folder.path().join("models/text/1/model.onnx"), "this is no model").unwrap();
    let (code, _, err) = run(folder.path(), &["infer", "text", "--registry", "models", "--input", "a=[1]"]);
    assert_eq!(code, 1);
    assert!(err.contains("model.onnx"), "{err}");
    let (code, _, err) = run(folder.path(), &["infer", "text", "--registry", "absent", "--input", "a=[1]"]);
    assert!(code == 2 && err.contains("registry absent"), "{code} {err}");
}

#[test]
fn models_and_health_of_a_gateway() {
    let gateway = Gateway::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = run(folder.path(), &["healthcheck", "--url", &gateway.http]);
    assert_eq!((code, out.as_str()), (0, "ready\n"));
    let (code, out, err) = run(folder.path(), &["models", "--ops", &gateway.ops]);
    assert_eq!((code, err.as_str()), (0, ""));
    let first = |line: &&str| line.split_whitespace().take(2).eq(["digits-linear", "1"]);
    let line = out.lines().find(first).unwrap();
    for part in ["stable", "READY", "tract", "up to ", "digits-linear/1/model.onnx"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let (code, out, _) = run(folder.path(), &["models", "digits-linear", "--ops", &gateway.ops]);
    assert_eq!(code, 0);
    assert!(out.contains("digits-linear version 2  READY") && out.contains("  batching  up to "), "{out}");
    let (code, _, err) = run(folder.path(), &["models", "absent", "--ops", &gateway.ops]);
    assert_eq!((code, err.as_str()), (1, "error: model 'absent': not found (HTTP 404)\n"));
    let (code, _, err) = run(folder.path(), &["models", "digits", "--ops", &gateway.ops]);
    let want = "error: model 'digits': not found: it is a route: GET /ops/routes/digits (HTTP 404)\n";
    assert_eq!((code, err.as_str()), (1, want));
    let (code, out, _) = run(folder.path(), &["models", "--url", &gateway.http]);
    assert!(code == 0 && out.contains("wine-forest"), "{out}");
}

#[test]
fn a_token_is_asked_for_and_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let gateway = Gateway::start(&["--ops-token-file", token.to_str().unwrap()]);
    let (code, _, err) = run(folder.path(), &["models", "--ops", &gateway.ops]);
    assert!(code == 1 && err.contains("HTTP 401"), "{code} {err}");
    let arguments = ["models", "--ops", &gateway.ops, "--token-file", "token"];
    assert_eq!(run(folder.path(), &arguments).0, 0);
    let output = weir(folder.path(), &["models"], &[("WEIR_OPS", &gateway.ops), ("WEIR_TOKEN_FILE", "token")]);
    assert_eq!(texts(&output).0, 0);
}

#[test]
fn check_finds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = run(folder.path(), &["check", &demo()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("digits-cnn") && out.ends_with("10 versions, 4 routes, 0 problems\n"), "{out}");

    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join("models").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let good = std::fs::read(Path::new(&demo()).join("wine-forest/1/model.onnx")).unwrap();
    write("good/1/model.onnx", &good);
    write("text/1/model.onnx", b"this is no model");
    write("keys/1/model.onnx", &good);
    write("keys/model.toml", b"verions = 'all'\n[batching]\nmax_batch_size = 'big'\n");
    let (code, out, err) = run(folder.path(), &["check"]);
    assert_eq!((code, err.as_str()), (1, ""));
    for part in [
        "problem: keys: model.toml: line 1, column 1: verions: unknown key, did you mean 'versions'?\n",
        "problem: keys: model.toml: line 3, column 18: batching.max_batch_size: expected",
        "problem: text: version 1: ",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    assert!(out.ends_with("2 versions, 3 problems\n"), "{out}");
    let (code, out, _) = run(folder.path(), &["check", "models", "--output", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["problems"].as_array().map(Vec::len)), (1, Some(3)), "{report:#}");
    assert_eq!((&report["versions"][0]["model"], &report["versions"][0]["good"]), (&"good".into(), &true.into()));
    // No problem, but hardly what was meant.
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let (code, out, _) = run(folder.path(), &["check", "empty"]);
    assert!(code == 0 && out.contains("note: empty: neither a model nor a route in it\n"), "{code} {out}");
    let (code, _, err) = run(folder.path(), &["check", "absent"]);
    assert!(code == 2 && err.starts_with("error: registry absent: "), "{code} {err}");
}

/// Shells and service managers give 1024 descriptors where there may be many more, and a gateway has thousands of connections.
#[test]
#[cfg(target_os = "linux")]
fn as_many_files_may_be_open_as_the_system_allows() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 128 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_weir")]);
    let gateway = Gateway::launch(shell, &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = line.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!(soft, hard, "{line}");
}
