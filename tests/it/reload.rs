//! Versions come and go under load: every good one answers soon after it was published, no request fails, what is rubbish is
//! reported and changes nothing, and memory stays flat.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    array::Array,
    ask::{Ask, Way},
    client::{Client, Failed},
    harness::{PATIENCE, Registry, Weir, fixture, repository, until, weir as command},
};

const POLL: Duration = Duration::from_millis(500);
const SETTLE: Duration = Duration::from_millis(200);
/// What loading a tiny model may take in a debug build on a machine with other things to do.
const LOAD: Duration = Duration::from_secs(20);
/// From the rename to the first answer.
const SWAP: Duration = POLL.saturating_add(SETTLE).saturating_add(LOAD);
/// Growth of resident memory over nine swaps that counts as flat: less than a leak of one model's arena each would be.
const FLAT: f64 = 24.0 * 1024.0 * 1024.0;

const CLIENTS: usize = 6;

/// Odd versions give `x` back, even ones twice that.
fn good(version: u64) -> PathBuf {
    let name = if version % 2 == 1 { "identity-fp32" } else { "unnamed-batch" };
    repository(&fixture(name)).join("1/model.onnx")
}

fn rubbish(version: u64) -> PathBuf {
    let name = ["text", "truncated", "unknown-op"][version as usize / 4 % 3];
    repository(&fixture(name)).join("1/model.onnx")
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// The highest version that answered any client.
    seen: AtomicU64,
    answered: AtomicU64,
}

/// One client: asks until it is told to stop; every answer must be right for the version that it names, and versions never
/// go back.
async fn ask_on(mut client: Client, way: Way, load: Arc<Load>) {
    let values = [1.0, -2.0, 0.5, 1e-3];
    let ask = Ask::new("m", vec![Array::f32("x", &[1, 4], &values)]);
    let mut last = 1;
    while !load.stop.load(Relaxed) {
        let answer = client.answer(way, &ask).await;
        let version: u64 = answer.version.parse().unwrap();
        let factor = if version % 2 == 1 { 1.0 } else { 2.0 };
        assert_eq!(
            answer.outputs,
            [Array::f32("y", &[1, 4], &values.map(|value| value * factor))],
            "version {version}"
        );
        assert!(version >= last && !version.is_multiple_of(4), "version {version} after {last}");
        last = version;
        load.seen.fetch_max(version, Relaxed);
        load.answered.fetch_add(1, Relaxed);
    }
}

async fn server(watch: &str) -> Weir {
    let (poll, settle) = (POLL.as_millis().to_string(), SETTLE.as_millis().to_string());
    let flags = ["--watch", watch, "--poll-interval-ms", &poll, "--settle-ms", &settle];
    Weir::start(&[("m", fixture("identity-fp32"))], &flags).await
}

async fn memory(weir: &Weir) -> f64 {
    weir.metrics().await.sum("process_resident_memory_bytes", &[])
}

/// Publishes versions 2 to 13 by rename, every fourth one rubbish, each when the one before it has been dealt with.
async fn publish_twelve(weir: &Weir, load: &Load) -> Vec<(u64, Duration)> {
    let mut client = weir.client();
    let mut took = Vec::new();
    let mut newest = 1;
    for version in 2..=13 {
        let began = Instant::now();
        if version % 4 == 0 {
            weir.registry.publish("m", version, &rubbish(version));
            let reason = until("the rubbish is reported", SWAP, async || {
                let state = client.state("m", &version.to_string()).await;
                state.filter(|(state, reason)| state == "UNAVAILABLE" && !reason.is_empty())
            })
            .await;
            let ask = Ask::new("m", vec![Array::f32("x", &[1, 4], &[1.0; 4])]);
            assert_eq!(client.answer(Way::Raw, &ask).await.version, newest.to_string(), "after {reason:?}");
        } else {
            weir.registry.publish("m", version, &good(version));
            until("the new version answers", SWAP, async || (load.seen.load(Relaxed) == version).then_some(())).await;
            newest = version;
        }
        took.push((version, began.elapsed()));
    }
    took
}

async fn under_load(watch: &str) {
    let weir = Arc::new(server(watch).await);
    let load = Arc::new(Load::default());
    let mut clients = JoinSet::new();
    for place in 0..CLIENTS {
        clients.spawn(ask_on(weir.client(), Way::ALL[place % 4], Arc::clone(&load)));
    }
    until("load", PATIENCE, async || (load.answered.load(Relaxed) > 500).then_some(())).await;
    let before = memory(&weir).await;
    let took = publish_twelve(&weir, &load).await;
    let after = memory(&weir).await;
    load.stop.store(true, Relaxed);
    clients.join_all().await;
    let answered = load.answered.load(Relaxed);
    assert!(answered > 1000, "only {answered} requests");
    assert!(after - before < FLAT, "memory grew from {before} to {after}; {took:?}");
    let mut client = weir.client();
    let index = client.index().await;
    let ready: Vec<_> = index.iter().filter(|entry| entry.state == "READY").map(|entry| &*entry.version).collect();
    assert_eq!(ready, ["13"], "what was replaced is unloaded: {index:?}");
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_model_loads_total", &[("model", "m"), ("result", "ok")]), 10.0);
    assert!(metrics.sum("weir_model_loads_total", &[("model", "m"), ("result", "failed")]) >= 3.0);
    let wrong = metrics.sum("weir_requests_total", &[]) - metrics.sum("weir_requests_total", &[("code", "ok")]);
    assert_eq!(wrong, 0.0);
    let weir = Arc::into_inner(weir).unwrap();
    assert!(weir.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_versions_under_load_by_watching() {
    under_load("auto").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_versions_under_load_by_polling() {
    under_load("poll").await;
}

async fn state(weir: &Weir, model: &str, version: &str, want: &str) -> String {
    let mut client = weir.client();
    until(&format!("{model}/{version} is {want}"), PATIENCE, async || {
        client.state(model, version).await.filter(|(state, _)| state == want).map(|(_, reason)| reason)
    })
    .await
}

#[tokio::test]
async fn a_version_that_contradicts_its_golden_answers_is_refused() {
    let weir = server("auto").await;
    let golden = |y: f32| {
        format!(
            r#"{{"cases":[{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}}],
            "outputs":[{{"name":"y","shape":[1,4],"datatype":"FP32","data":[2,4,6,{y}]}}]}}]}}"#
        )
    };
    let publish = |version: u64, y: f32| {
        weir.registry.write(&format!("m/.{version}/golden.json"), golden(y));
        weir.registry.publish("m", version, &good(version));
    };
    publish(2, 9.0);
    let reason = state(&weir, "m", "2", "UNAVAILABLE").await;
    assert!(reason.contains("golden") && reason.contains("'y'"), "{reason}");
    state(&weir, "m", "1", "READY").await;
    publish(4, 8.0);
    state(&weir, "m", "4", "READY").await;
    let mut client = weir.client();
    let ask = Ask::new("m", vec![Array::f32("x", &[1, 4], &[1.0; 4])]);
    assert_eq!(client.answer(Way::Json, &ask).await.version, "4");
}

#[tokio::test]
async fn models_come_and_go() {
    let weir = server("auto").await;
    let mut client = weir.client();
    let ask = Ask::new("late", vec![Array::f32("x", &[1, 4], &[3.0; 4])]);
    assert_eq!(client.refused(Way::Json, &ask).await.text(), "model 'late': not found");
    weir.registry.publish("late", 1, &good(1));
    state(&weir, "late", "1", "READY").await;
    client.answer(Way::Json, &ask).await;
    fs::remove_dir_all(weir.registry.path().join("late")).unwrap();
    until("the model is gone", PATIENCE, async || match client.ask(Way::Raw, &ask).await {
        Ok(_) => None,
        Err(failed @ Failed::Told { .. }) => (failed.text() == "model 'late': not found").then_some(()),
        Err(failed) => panic!("{failed:?}"),
    })
    .await;
    // The series of what is gone go with it.
    until("its series are gone", PATIENCE, async || {
        (weir.metrics().await.sum("weir_model_info", &[("model", "late")]) == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_still_being_copied_waits() {
    let weir = server("auto").await;
    let whole = fs::read(good(2)).unwrap();
    let (first, rest) = whole.split_at(whole.len() / 2);
    // Half a file, then, for longer than the settle time, a byte at a time: never stable, so never looked at.
    let mut grown = first.to_vec();
    weir.registry.write("m/2/model.onnx", &grown);
    let mut client = weir.client();
    let began = Instant::now();
    let mut bytes = rest.iter();
    while began.elapsed() < 3 * SETTLE {
        tokio::time::sleep(SETTLE / 10).await;
        grown.extend(bytes.next());
        weir.registry.write("m/2/model.onnx", &grown);
        let seen = client.state("m", "2").await;
        assert!(seen.as_ref().is_none_or(|(state, _)| state != "UNAVAILABLE" && state != "READY"), "{seen:?}");
    }
    weir.registry.write("m/2/model.onnx", &whole);
    state(&weir, "m", "2", "READY").await;
}

#[tokio::test]
async fn pushed_versions_are_served() {
    let weir = server("auto").await;
    let push = |model: &str, version: u64| {
        let (registry, file) = (weir.registry.path(), good(version));
        command().args(["push", model]).arg(file).arg("--registry").arg(registry).output().unwrap()
    };
    for (model, version) in [("m", 2), ("m", 3), ("new", 1)] {
        let pushed = push(model, version);
        assert!(pushed.status.success(), "{pushed:?}");
        state(&weir, model, &version.to_string(), "READY").await;
        let ask = Ask::new(model, vec![Array::f32("x", &[1, 4], &[1.0; 4])]);
        let answer = weir.client().answer(Way::Raw, &ask).await;
        let factor = if version % 2 == 1 { 1.0 } else { 2.0 };
        assert_eq!((answer.version, answer.outputs[0].numbers()), (version.to_string(), vec![factor; 4]));
    }
    // What was published with digests and changed afterwards is refused.
    weir.registry.write("m/.9/manifest.json", fs::read(weir.registry.path().join("m/3/manifest.json")).unwrap());
    weir.registry.publish("m", 9, &good(2));
    let reason = state(&weir, "m", "9", "UNAVAILABLE").await;
    assert!(reason.contains("model.onnx"), "{reason}");
    state(&weir, "m", "3", "READY").await;
}

#[tokio::test]
async fn a_registry_that_was_empty_fills() {
    let nothing: [(&str, String); 0] = [];
    let weir = Weir::serve(Registry::new(&nothing), &["--settle-ms", "200", "--poll-interval-ms", "500"]).await;
    weir.registry.model("digits-linear", "models/digits-linear");
    state(&weir, "digits-linear", "2", "READY").await;
    state(&weir, "digits-linear", "1", "READY").await;
}
