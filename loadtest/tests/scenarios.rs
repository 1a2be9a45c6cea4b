//! The binary against small servers: mixes of classes, deadlines, refusals, swapped answers, ramps, the searches and what a
//! signal leaves. Nothing here depends on how fast anything is.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{BINARY, Echo, Manners, Small, file, json, weir_loadtest};

const HTTP: [&str; 4] = ["--protocol", "http-json", "--output", "json"];

/// A run of so many requests over HTTP against a small server.
fn run(server: &Small, requests: &str, more: &[&str]) -> (Option<i32>, Value) {
    let bounds = ["--warmup", "0", "--duration", "60s", "--requests", requests];
    let target = ["--url", &server.url, "--model", "m"];
    let output = weir_loadtest(&[&target[..], &bounds, &HTTP, more].concat());
    (output.status.code(), json(&output))
}

#[test]
fn inputs_are_those_that_the_server_names_and_its_own_answers_are_held_against_it() {
    let server = Small::start(Manners::default());
    let (code, report) = run(&server, "40", &["--variants", "4", "--ask-first", "--bitwise", "--rows", "3"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!((&report["verified"], &report["rows_per_request"]), (&40.into(), &3.into()));
    // The four first answers came one by one, before the run.
    assert_eq!(server.requests(), 44);
    assert_eq!(server.seen()[0].1["inputs"][0]["shape"], serde_json::json!([3, 2]));
}

#[test]
fn swapped_answers_are_found_by_variants_and_by_tags() {
    let swapping = Manners { swap_every: Some(10), ..Manners::default() };
    // By variants: two different requests in turn, of which the answers are known. 40 answers, of which 4 are the one before.
    let server = Small::start(swapping);
    let golden = r#"{"cases":[
        {"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],
         "outputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[2]}]},
        {"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[5]}],
         "outputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[10]}]}]}"#;
    let (_directory, path) = file("golden.json", golden);
    let (code, report) = run(&server, "40", &["--golden", path.to_str().unwrap()]);
    assert_eq!((code, &report["swapped"], &report["verified"]), (Some(1), &4.into(), &36.into()), "{report:#}");
    // By tags: a server that gives back double the tag never gives back a request's own, except to the first.
    let server = Small::start(Manners::default());
    let (code, report) = run(&server, "40", &["--input", "x:FP32:1", "--tag", "x:y"]);
    assert_eq!((code, &report["swapped"], &report["verified"]), (Some(1), &39.into(), &1.into()), "{report:#}");
    let seen = server.seen();
    let tags: Vec<f64> = seen.iter().map(|(_, body)| body["inputs"][0]["data"][0].as_f64().unwrap()).collect();
    assert_eq!(tags[..4], [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn refusals_are_counted_by_status_with_their_own_latency() {
    let server = Small::start(Manners { refuse_every: Some(4), ..Manners::default() });
    let (code, report) = run(&server, "40", &["--timeout-ms", "60000", "--allow-errors", "429"]);
    assert_eq!(code, Some(0), "{report:#}");
    let refused = &report["errors"][0];
    assert_eq!((&refused["code"], &refused["count"]), (&"429".into(), &10.into()));
    assert!(refused["latency_us"]["p99"].as_f64().unwrap() > 0.0);
    assert_eq!((&report["answered"], &report["goodput"]), (&30.into(), &0.75.into()));
    assert!(server.seen()[0].0.contains("request-timeout-ms: 60000"));
}

#[test]
fn a_deadline_can_be_a_parameter() {
    let server = Small::start(Manners::default());
    let more = ["--timeout-ms", "250", "--timeout-by", "parameter", "--parameter", "priority=2", "--header", "x-t: a"];
    run(&server, "1", &more);
    let (head, body) = server.seen().remove(0);
    assert_eq!(body["parameters"], serde_json::json!({"timeout": 250_000, "priority": 2}));
    assert!(!head.contains("request-timeout-ms") && head.contains("x-t: a"), "{head}");
}

#[test]
fn classes_of_a_scenario_are_counted_apart() {
    let (small, echo) = (Small::start(Manners::default()), Echo::start("grpc"));
    let scenario = format!(
        r#"
        [[class]]
        name = "small"
        weight = 2
        variants = 3
        ask_first = true
        tenants = {{ header = "x-tenant", values = ["a", "b"] }}
        [[class]]
        name = "raw"
        url = "{}"
        protocol = "grpc-raw"
        inputs = ["x:FP32:4x2"]
        timeout_ms = 60000
        [[class]]
        name = "left"
        cancel_share = 1.0
        cancel_after_ms = 0
        "#,
        echo.url
    );
    let (_directory, path) = file("mix.toml", &scenario);
    let (code, report) = run(&small, "400", &["--concurrency", "4", "--scenario", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{report:#}");
    let classes = report["classes"].as_array().unwrap();
    let names: Vec<&str> = classes.iter().map(|class| class["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["small/a", "small/b", "raw", "left"]);
    let count = |at: usize, key: &str| classes[at][key].as_u64().unwrap();
    let all: Vec<u64> = (0..4).map(|at| count(at, "answered") + count(at, "cancelled")).collect();
    assert_eq!(all.iter().sum::<u64>(), 400, "{report:#}");
    // A quarter each; which class the last request of a round belongs to is open, and some answers come at once.
    assert!(all.iter().all(|count| count.abs_diff(100) <= 4), "{report:#}");
    assert_eq!((count(0, "verified"), count(1, "verified")), (all[0], all[1]));
    assert_eq!((count(0, "cancelled"), count(2, "cancelled"), &report["swapped"]), (0, 0, &0.into()));
    assert_eq!((&report["protocol"], &report["model"]), (&"mixed".into(), &"m".into()));
    let tenants: Vec<bool> =
        ["x-tenant: a", "x-tenant: b"].map(|t| small.seen().iter().any(|s| s.0.contains(t))).into();
    assert_eq!(tenants, [true, true]);
}

#[test]
fn a_ramp_is_reported_in_slices() {
    let server = Small::start(Manners::default());
    let target = ["--url", &server.url, "--model", "m", "--warmup", "0", "--duration", "1s"];
    let load = ["--mode", "open", "--rate", "40..160", "--steps", "4", "--arrivals", "constant"];
    let output = weir_loadtest(&[&target[..], &HTTP, &load].concat());
    let report = json(&output);
    assert!(output.status.success(), "{report:#}");
    let offered: Vec<f64> = report["slices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slice| slice["offered_per_second"].as_f64().unwrap())
        .collect();
    // 40, 80, 120 and 160 a second, for a quarter of a second each; arrivals on a boundary fall to one side.
    assert_eq!(offered.len(), 4, "{report:#}");
    for (rate, expected) in offered.iter().zip([40.0, 80.0, 120.0, 160.0]) {
        assert!((rate - expected).abs() <= 8.0, "{offered:?}");
    }
}

#[test]
fn capacity_is_searched_within_its_bounds() {
    let server = Small::start(Manners { takes: Duration::from_millis(2), ..Manners::default() });
    let search = ["--find-capacity", "--probes", "3", "--capacity-callers", "4", "--hold", "0.5"];
    let target = ["--url", &server.url, "--model", "m", "--warmup", "50ms", "--duration", "200ms"];
    let report = json(&weir_loadtest(&[&target[..], &HTTP, &search].concat()));
    // One at a time, two milliseconds each: not more than 500 a second, however fast the machine is.
    assert!(report["closed_loop"].as_f64().unwrap() <= 510.0, "{report:#}");
    let probes = report["probes"].as_array().unwrap();
    assert!(probes.len() <= 3, "{report:#}");
    let held = probes.iter().filter(|probe| probe["held"] == true).map(|probe| probe["rate"].as_f64().unwrap());
    assert_eq!(report["capacity"].as_f64().unwrap(), held.fold(0.0, f64::max), "{report:#}");
}

#[test]
fn overload_reports_every_load_and_the_recovery() {
    let server = Small::start(Manners { takes: Duration::from_millis(2), ..Manners::default() });
    let target = ["--url", &server.url, "--model", "m", "--warmup", "50ms", "--duration", "200ms"];
    let load = ["--capacity-callers", "4", "--factors", "0.5,2", "--recovery", "500ms", "--at-least", "0.5=0"];
    let output = weir_loadtest(&[&["overload"], &target[..], &HTTP, &load].concat());
    let report = json(&output);
    let stages = report["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| stage["factor"].as_f64().unwrap()).collect::<Vec<_>>(), [0.5, 2.0]);
    let best = stages.iter().map(|stage| stage["of_peak"].as_f64().unwrap()).fold(0.0, f64::max);
    let peak = report["peak_goodput"].as_f64().unwrap();
    assert!(best == 1.0 || peak == 0.0, "{report:#}");
    assert!(report.get("recovery_ms").is_some(), "{report:#}");
    assert_eq!(report["deadline_ms"], 50.0);
}

#[test]
fn a_neighbour_is_watched_in_three_situations() {
    let server = Small::start(Manners { takes: Duration::from_millis(1), ..Manners::default() });
    let models = ["--model", "m", "--flood", "f", "--slow", "s", "--flood-callers", "2", "--rate", "20"];
    let bounds = ["--duration", "300ms", "--protocol", "http-json", "--output", "json"];
    let output = weir_loadtest(&[&["neighbour", "--url", &server.url], &models[..], &bounds].concat());
    let report = json(&output);
    let situations = report["situations"].as_array().unwrap();
    let beside: Vec<&str> = situations.iter().map(|s| s["beside"].as_str().unwrap()).collect();
    assert_eq!(beside, ["nobody", "a flood of f", "a flood of s"]);
    assert!(situations[0]["limit_us"].is_null() && situations[1]["limit_us"].as_f64().is_some(), "{report:#}");
    assert!(report["slow_alone_per_second"].as_f64().is_some() && report["slow_beside_per_second"].as_f64().is_some());
}

#[test]
fn a_signal_ends_a_run_with_what_it_has() {
    let server = Small::start(Manners::default());
    let child = Command::new(BINARY)
        .args(["--url", &server.url, "--model", "m", "--warmup", "0", "--duration", "600s"])
        .args(HTTP)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while server.requests() < 10 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report = json(&output);
    assert_eq!(report["interrupted"], true);
    assert!(report["answered"].as_u64().unwrap() >= 9, "{report:#}");
}

#[test]
fn models_of_a_known_cost_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let output = weir_loadtest(&["make-models", path, "--copies", "1", "--cnn-layers", "1"]);
    assert!(output.status.success());
    for name in ["load-tiny", "load-tagged", "load-cnn", "load-flood", "load-slow", "load-copy-0001"] {
        assert!(directory.path().join(name).join("1/model.onnx").is_file(), "{name}");
    }
}
