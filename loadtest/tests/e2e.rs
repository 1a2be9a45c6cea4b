//! The binary against its own echo servers: all protocols, both loops, a comparison, and what must make it fail.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use support::{BINARY, Echo, file, json};
use tempfile::TempDir;

/// The echo servers' three values are 0, 0.5 and 1.
const RIGHT: &str = r#"{"cases":[
    {"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}],
     "outputs":[{"name":"y","shape":[1,3],"datatype":"FP32","data":[0,0.5,1.00005]}]},
    {"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[3,4]]}],
     "outputs":[{"name":"y","shape":[1,3],"datatype":"FP32","data":[[0,0.5,1]]}]}]}"#;

fn golden(text: &str) -> (TempDir, PathBuf) {
    file("golden.json", text)
}

fn run(url: &str, arguments: &[&str]) -> Output {
    let common = ["--url", url, "--model", "m", "--warmup", "50ms", "--duration", "60s", "--output", "json"];
    Command::new(BINARY).args(common).args(arguments).output().unwrap()
}

#[test]
fn every_protocol_is_verified_against_the_echo() {
    let (_directory, golden) = golden(RIGHT);
    let golden = golden.to_str().unwrap();
    for (kind, protocols) in [("grpc", ["grpc-raw", "grpc-typed"]), ("http", ["http-json", "http-binary"])] {
        let echo = Echo::start(kind);
        for protocol in protocols {
            let bounds = ["--golden", golden, "--protocol", protocol, "--requests", "300", "--concurrency", "8"];
            let output = run(&echo.url, &bounds);
            let report = json(&output);
            assert!(output.status.success(), "{protocol}: {report:#}");
            assert_eq!((&report["verified"], &report["mismatches"]), (&300.into(), &0.into()), "{protocol}");
            let latency = &report["latency_us"];
            let (p50, p99) = (latency["p50"].as_f64().unwrap(), latency["p99"].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p99, "{protocol}: {latency}");
        }
    }
}

#[test]
fn a_wrong_value_fails_the_run() {
    let (_directory, golden) = golden(&RIGHT.replace("[[0,0.5,1]]", "[[0,0.5,1.001]]"));
    let golden = golden.to_str().unwrap();
    for (kind, protocol) in [("grpc", "grpc-raw"), ("http", "http-json")] {
        let echo = Echo::start(kind);
        let output = run(&echo.url, &["--golden", golden, "--protocol", protocol, "--requests", "100"]);
        let report = json(&output);
        assert_eq!(output.status.code(), Some(1), "{report:#}");
        assert_eq!(report["verified"], 50, "{report:#}");
        assert!(report["mismatches"].as_u64().unwrap() >= 50, "{report:#}");
        let first = report["first_mismatch"].as_str().unwrap();
        assert!(first.contains("case 1: output y: element 2: expected 1.001"), "{first}");
    }
}

#[test]
fn an_open_loop_sends_what_was_asked() {
    let echo = Echo::start("grpc");
    let load = ["--input", "x:FP32:1x2", "--mode", "open", "--rate", "500", "--duration", "1s", "--timeout-ms", "900"];
    let command: Vec<&str> = ["--url", &echo.url, "--model", "m", "--warmup", "0", "--output", "json"]
        .into_iter()
        .chain(load)
        .chain(["--arrivals", "constant"])
        .collect();
    let output = Command::new(BINARY).args(command).output().unwrap();
    let report = json(&output);
    assert!(output.status.success(), "{report:#}");
    // Every one of the 500 arrivals ends up in exactly one count.
    let dropped = report["dropped"].as_u64().unwrap();
    assert_eq!(report["answered"].as_u64().unwrap() + dropped, 500, "{report:#}");
    assert_eq!(report["unverified"].as_u64(), report["answered"].as_u64(), "{report:#}");
    assert!(report["late"].as_u64().is_some() && report["send_lag_us"]["p50"].as_f64().is_some(), "{report:#}");
}

#[test]
fn two_servers_are_compared() {
    let (first, second) = (Echo::start("grpc"), Echo::start("http"));
    let versus = ["--vs", &second.url, "--vs-protocol", "http-json", "--rounds", "3", "--requests", "300"];
    let pids = [first.child.id().to_string(), second.child.id().to_string()];
    let watched = ["--server-pid", &pids[0], "--vs-pid", &pids[1]];
    let output = run(&first.url, &[&["--input", "x:FP32:1x2"], &versus[..], &watched].concat());
    let report = json(&output);
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["rounds"].as_array().unwrap().len(), 3);
    assert_eq!((&report["first"]["answered"], &report["second"]["answered"]), (&300.into(), &300.into()));
    let ratio = &report["ratio"]["throughput"];
    let [min, median, max] = ["min", "median", "max"].map(|key| ratio[key].as_f64().unwrap());
    assert!(0.0 < min && min <= median && median <= max, "{ratio}");
    if cfg!(target_os = "linux") {
        assert!(report["first"]["server_cpu_us_per_request"].as_f64().unwrap() > 0.0, "{report:#}");
        assert!(report["ratio"]["server_cpu"]["median"].as_f64().unwrap() > 0.0, "{report:#}");
    }
}

#[test]
fn errors_fail_the_run_unless_allowed() {
    // The gRPC client talks to the HTTP service: whatever it gets, it is no gRPC answer.
    let echo = Echo::start("http");
    let bounds = ["--input", "x:FP32:1x2", "--requests", "20", "--warmup", "0"];
    let command = |more: &[&str]| {
        let target = ["--url", &echo.url, "--model", "m", "--output", "json"];
        Command::new(BINARY).args(target).args(bounds).args(more).output().unwrap()
    };
    let output = command(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (&json(&output)["errors"][0]["code"], &json(&output)["errors"][0]["count"]),
        (&"400".into(), &20.into())
    );
    // Allowed errors are still no answers: a run without any answer has measured nothing.
    let output = command(&["--allow-errors", "400"]);
    assert_eq!(json(&output)["errors"][0]["allowed"], true);
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), format!("error: {}: no answers", echo.url));
}

#[test]
fn what_cannot_start_is_a_usage_error() {
    let output = run("http://192.0.2.1:9", &["--input", "x:FP32:1x2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
    assert_eq!(run("http://127.0.0.1:9", &["--golden", "/nonexistent/golden.json"]).status.code(), Some(2));
    let said = |more: &[&str]| {
        let output = run("http://127.0.0.1:9", more);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Which server does not answer, and which process is none: there may be two of either.
    assert!(said(&[]).contains("127.0.0.1:9: metadata of "), "{}", said(&[]));
    // Linux gives no process this number.
    let nobody = ["--input", "x:FP32:1x2", "--server-pid", "4294967295"];
    assert!(said(&nobody).contains("--server-pid: expected a process on this machine (Linux), got 4294967295"));
}

#[test]
fn sigterm_ends_an_echo_server_cleanly() {
    let mut echo = Echo::start("grpc");
    let signalled = Command::new("kill").args(["-TERM", &echo.child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    assert!(echo.child.wait().unwrap().success());
}
