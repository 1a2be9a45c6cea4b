//! The load probe, whole: models that ask for too much memory or never end, and engines that crash, each in a real child
//! process. What they do to the child is said, and nothing else feels it. Children with engines that misbehave on purpose are
//! this very test binary, called again.

use std::{
    fs,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;
use weir::{
    app::probe::{ProbeOptions, Probes, answer},
    engine::{Artifact, ArtifactKind, Engine, Limits, LoadError, LoadProbe as _, Model},
    observe::Metrics,
};

use crate::{
    client::Http,
    harness::{PATIENCE, Registry, Weir, fixture, repository, until, weir},
};

mod models;

/// Enough for a small model, and too little for the ones here.
const LITTLE: &str = "402653184";

fn model(name: &str) -> PathBuf {
    repository(&fixture(name)).join("1/model.onnx")
}

/// `weir load-probe` and the line that it prints.
fn probe(arguments: &[&str], file: &Path) -> (Output, Value) {
    let output = weir().arg("load-probe").args(arguments).arg(file).output().unwrap();
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{output:?}");
    let answer = serde_json::from_str(&line).unwrap();
    (output, answer)
}

#[test]
fn a_good_model_is_described() {
    let (output, answer) = probe(&[], &model("two-in-two-out"));
    assert_eq!((output.status.code(), &answer["good"]), (Some(0), &Value::from(true)), "{output:?}");
    assert_eq!(answer["inputs"].as_array().unwrap().len(), 2);
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 2);
    assert_eq!(answer["bytes"], fs::metadata(model("two-in-two-out")).unwrap().len());
    assert!(answer["load_us"].as_u64() > Some(0) && answer["compile_us"].as_u64() > Some(0), "{answer}");
    assert!(answer["run_us"].is_u64() && answer["peak_bytes"].as_u64() > Some(1 << 20), "{answer}");
}

#[test]
fn data_beside_the_model_goes_along() {
    let (output, answer) = probe(&[], &model("external-data"));
    assert_eq!(answer["good"], true, "{output:?}");
    assert!(answer["bytes"].as_u64().unwrap() > fs::metadata(model("external-data")).unwrap().len());
}

#[test]
fn a_refusal_is_that_of_the_engine() {
    let (output, answer) = probe(&[], &model("cycle"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(answer["error"], "node 'add_a' (Add): is part of, or behind, a cycle");
    let (output, answer) = probe(&["--engine", "abacus"], &model("cycle"));
    assert_eq!(output.status.code(), Some(1));
    assert!(answer["error"].as_str().unwrap().starts_with("engine: expected "), "{answer}");
}

#[test]
fn too_much_memory_and_too_much_time_end_the_child_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, model: Vec<u8>| {
        fs::write(folder.path().join(name), model).unwrap();
        folder.path().join(name)
    };
    let (output, answer) = probe(&["--memory-bytes", LITTLE], &file("hungry.onnx", models::hungry()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(answer["error"], "tract: the load probe was killed: out of memory (limit 384 MiB)");
    let (output, answer) = probe(&["--cpu-seconds", "1"], &file("endless.onnx", models::endless()));
    assert_eq!(output.status.code(), Some(1));
    let reason = "tract: the load probe was killed: it computed without end (limit 1 s of CPU time)";
    assert_eq!(answer["error"], reason);
}

#[test]
fn a_child_without_parent_or_question_goes_away() {
    for input in ["", "{}\n", "{\"engine\":"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), input).unwrap();
        let status = weir().args(["load-probe", "-"]).stdin(file.reopen().unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(126), "{input:?}");
    }
}

/// Misbehaves as the model file says.
#[derive(Debug)]
struct Wild;

impl Engine for Wild {
    fn name(&self) -> &'static str {
        "wild"
    }

    fn load(&self, artifact: &Artifact, _: &Limits) -> Result<Box<dyn Model>, LoadError> {
        match &artifact.bytes[..] {
            b"abort" => {
                eprintln!("\nassertion failed: the world is flat");
                std::process::abort()
            }
            b"overflow" => Err(LoadError::new(deeper(1).to_string())),
            b"memory" => {
                let all: Vec<Vec<u8>> = (0..64).map(|_| vec![0; 256 << 20]).collect();
                Err(LoadError::new(all.len().to_string()))
            }
            b"endless" => loop {
                std::hint::black_box(7);
            },
            b"inherited" => {
                let links = fs::read_dir("/proc/self/fd").unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
                let names: Vec<_> = links.flatten().map(|link| link.display().to_string()).collect();
                Err(LoadError::new(names.join(" ")))
            }
            other => Err(LoadError::new(format!("{other:?}"))),
        }
    }
}

fn deeper(depth: usize) -> usize {
    let page = std::hint::black_box([depth; 512]);
    if page[3] == 0 { 0 } else { deeper(depth + 1) + page[5] }
}

#[test]
#[ignore = "the child of the tests below"]
fn child() {
    let code = answer(std::io::stdin().lock(), std::io::stdout().lock(), &|_, _| Ok(Arc::new(Wild)));
    #[expect(clippy::disallowed_methods, reason = "the harness has codes of its own")]
    std::process::exit(i32::from(code));
}

fn wild(what: &'static str, cpu_seconds: u64) -> String {
    let arguments = ["--exact", "load_probe::child", "--ignored", "--nocapture", "--test-threads=1"];
    let options = ProbeOptions {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.map(str::to_owned).into(),
        memory_bytes: 2 << 30,
        cpu_seconds,
        ..ProbeOptions::new()
    };
    let probes = Probes::new(options, Metrics::new());
    let bytes = Bytes::from_static(what.as_bytes());
    let artifact = Artifact { kind: ArtifactKind::Onnx, bytes, side_files: Default::default() };
    probes.probe("wild", &artifact, &Limits { max_output_bytes: 1 }).unwrap_err().to_string()
}

#[test]
fn a_crash_is_told_by_its_cause() {
    assert_eq!(wild("abort", 60), "wild: the load probe aborted (assertion failed: the world is flat)");
    assert_eq!(wild("overflow", 60), "wild: the load probe crashed: stack overflow");
    assert_eq!(wild("memory", 60), "wild: the load probe was killed: out of memory (limit 2 GiB)");
    let reason = "wild: the load probe was killed: it computed without end (limit 1 s of CPU time)";
    assert_eq!(wild("endless", 1), reason);
}

#[test]
fn sockets_and_files_stay_with_the_parent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = tempfile::tempfile().unwrap();
    let names = wild("inherited", 60);
    assert!(names.contains("pipe:"), "{names}");
    for descriptor in [listener.as_raw_fd(), file.as_raw_fd()] {
        let mine = fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap().display().to_string();
        assert!(!names.contains(&mine), "{mine} is among {names}");
    }
}

/// A gateway over a good model, and over one that breaks the process it is loaded in.
#[tokio::test]
async fn the_gateway_lives_on() {
    let registry = Registry::new(&[("good", fixture("identity-fp32"))]);
    registry.write("hungry/1/model.onnx", models::hungry());
    let flags = ["--load-probe-memory-bytes", LITTLE, "--poll-interval-ms", "50", "--settle-ms", "0"];
    let gateway = Weir::serve(registry, &flags).await;
    let reason = |seen: &Value| seen["versions"][0]["reason"].as_str().unwrap_or_default().to_owned();
    let hungry = gateway.ops_model("hungry").await;
    let expected = "model.onnx: tract: the load probe was killed: out of memory (limit 384 MiB)";
    assert_eq!((hungry["versions"][0]["state"].as_str(), reason(&hungry)), (Some("UNAVAILABLE"), expected.to_owned()));
    assert_eq!(gateway.ops_model("good").await["versions"][0]["state"], "READY");
    assert!(gateway.logs().contains("out of memory"), "{}", gateway.logs());
    // A second version that is as bad replaces nothing.
    gateway.registry.publish("good", 2, &gateway.registry.path().join("hungry/1/model.onnx"));
    let refused = async || {
        let seen = gateway.ops_model("good").await;
        let versions = seen["versions"].as_array().unwrap().clone();
        versions.into_iter().find(|version| version["version"] == 2 && version["reason"] == expected)
    };
    until("the second version is refused", PATIENCE, refused).await;
    let ready = Http::new(gateway.http).get("/v2/models/good/ready").await;
    assert_eq!(ready.status, 200);
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("weir_load_probes_total", &[("result", "died")]) >= 2.0);
    assert!(metrics.sum("weir_load_probes_total", &[("result", "good")]) >= 1.0);
    let load = &gateway.ops_model("good").await["versions"][0]["load"];
    let stages = load["stages"].as_array().unwrap();
    let probe = stages.iter().find(|stage| stage["stage"] == "probe").unwrap();
    assert!(probe["milliseconds"].as_f64() > Some(0.1), "{load}");
    assert!(gateway.stop().await.success());
}

/// A file that overflows the stack of the engine that loads it; nothing in a process can catch that.
#[tokio::test]
async fn a_model_that_overflows_the_stack_ends_only_its_probe() {
    let registry = Registry::new(&[("good", fixture("identity-fp32"))]);
    registry.write("deep/1/model.onnx", models::deep());
    let gateway = Weir::serve(registry, &["--poll-interval-ms", "50", "--settle-ms", "0"]).await;
    let deep = &gateway.ops_model("deep").await["versions"][0];
    let expected = "model.onnx: tract: the load probe crashed: stack overflow";
    assert_eq!((&deep["state"], &deep["reason"]), (&Value::from("UNAVAILABLE"), &Value::from(expected)));
    assert_eq!(gateway.ops_model("good").await["versions"][0]["state"], "READY");
    assert!(gateway.stop().await.success());
}

/// A gateway that is told to end does not wait for a probe, and leaves none behind.
#[tokio::test]
async fn a_probe_ends_with_its_gateway() {
    let registry = Registry::new(&[("good", fixture("identity-fp32"))]);
    let flags = ["--poll-interval-ms", "50", "--settle-ms", "0"];
    let mut gateway = Weir::serve(registry, &flags).await;
    gateway.registry.write("endless/1/model.onnx", models::endless());
    let parent = gateway.id();
    let child = until("a probe runs", PATIENCE, async || children(parent).into_iter().next()).await;
    gateway.terminate();
    assert!(gateway.ended().await.success());
    until("it is gone", PATIENCE, async || (!lives(child)).then_some(())).await;
}

/// Also when the gateway has no time for a last word.
#[tokio::test]
async fn a_probe_ends_with_a_killed_gateway() {
    let gateway = Weir::serve(Registry::new(&[("good", fixture("identity-fp32"))]), &["--settle-ms", "0"]).await;
    gateway.registry.write("endless/1/model.onnx", models::endless());
    let parent = gateway.id();
    let child = until("a probe runs", PATIENCE, async || children(parent).into_iter().next()).await;
    gateway.kill();
    until("it is gone", PATIENCE, async || (!lives(child)).then_some(())).await;
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

/// Whether a process is there, and not only its exit status that nobody has asked for.
fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(&*state, "Z" | "X"))
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything; the last parenthesis ends it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
