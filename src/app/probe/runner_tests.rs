//! The runner with children that are shell scripts: whatever a child does, its parent says what happened, and none is left.

use bytes::Bytes;

use super::*;
use crate::engine::ArtifactKind;

fn probes(script: &str) -> Arc<Probes> {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    let options = ProbeOptions { program: "/bin/sh".into(), arguments, ..ProbeOptions::new() };
    Probes::new(options, Metrics::new())
}

fn artifact(bytes: usize) -> Artifact {
    Artifact { kind: ArtifactKind::Onnx, bytes: Bytes::from(vec![7; bytes]), side_files: Default::default() }
}

const LIMITS: Limits = Limits { max_output_bytes: 1 << 20 };

fn probe(script: &str) -> Result<(), String> {
    probes(script).probe("tract", &artifact(1 << 20), &LIMITS).map_err(|error| error.to_string())
}

#[test]
fn an_answer_is_read_among_other_words() {
    let good = r#"{"good":true,"engine":"tract","load_us":1500,"compile_us":20,"run_us":3,"peak_bytes":4096}"#;
    let probes = probes(&format!("cat >/dev/null; echo chatter >&2; echo '{good}'; echo more"));
    let report = probes.report("tract", &artifact(1 << 20), &LIMITS).unwrap().unwrap();
    assert_eq!((report.load_us, report.compile_us, report.run_us, report.peak_bytes), (1500, 20, Some(3), 4096));
    assert_eq!(probes.probe("tract", &artifact(1 << 20), &LIMITS), Ok(()));
    let refused = r#"cat >/dev/null; echo '{"good":false,"engine":"tract","error":"graph: no"}'; exit 1"#;
    assert_eq!(probe(refused).unwrap_err(), "graph: no");
}

#[test]
fn every_death_is_told() {
    let cases = [
        ("kill -ABRT $$", "tract: the load probe aborted"),
        (
            "cat >/dev/null; kill -XCPU $$",
            "tract: the load probe was killed: it computed without end (limit 30 s of CPU time)",
        ),
        ("cat >/dev/null; kill -KILL $$", "tract: the load probe was killed, as the system does when memory runs out"),
        (
            "echo memory allocation of 9 bytes failed; kill -ABRT $$",
            "tract: the load probe was killed: out of memory (limit 6 GiB)",
        ),
        ("exit 0", "tract: the load probe ended with code 0 and without an answer"),
        (
            "cat >/dev/null; echo '{\"good\":true'",
            "tract: the load probe ended with code 0 and without an answer ({\"good\":true)",
        ),
        ("exit 124", "tract: the load probe was killed: it did not end (limit 180 s)"),
    ];
    for (script, expected) in cases {
        assert_eq!(probe(script).unwrap_err(), expected, "{script}");
    }
}

#[test]
fn more_words_than_a_pipe_holds_block_nobody() {
    let script = "i=0; while [ $i -lt 300 ]; do printf '%01024d\\n' $i; i=$((i+1)); done; cat >/dev/null; \
                  echo '{\"good\":true,\"engine\":\"tract\"}'";
    assert_eq!(probe(script), Ok(()));
}

#[test]
fn without_a_process_the_model_is_not_refused() {
    let options = ProbeOptions { program: "/nowhere/weir".into(), ..ProbeOptions::new() };
    let metrics = Metrics::new();
    let probes = Probes::new(options, Arc::clone(&metrics));
    assert_eq!(probes.report("tract", &artifact(1), &LIMITS), Ok(None));
    assert_eq!(probes.probe("tract", &artifact(1), &LIMITS), Ok(()));
    assert!(metrics.render().contains("weir_load_probes_total{result=\"not_started\"} 2"));
}

#[test]
fn what_runs_ends_at_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let probes = probes(&format!("echo $$ >'{}'; exec sleep 600", started.display()));
    let probe = || probes.report("tract", &artifact(1), &LIMITS);
    thread::scope(|scope| {
        let waiting = scope.spawn(probe);
        let pid = loop {
            match std::fs::read_to_string(&started) {
                Ok(text) if text.ends_with('\n') => break text,
                _ => thread::sleep(LOOK),
            }
        };
        probes.shutdown();
        assert_eq!(waiting.join().unwrap().unwrap_err().to_string(), "the gateway is ending");
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "its process is gone");
    });
    assert!(probes.running.lock().children.is_empty());
    assert_eq!(probe(), Ok(None), "nothing is started any more");
}

#[test]
fn large_models_may_use_more() {
    let options = ProbeOptions { memory_bytes: 1 << 30, cpu_seconds: 10, ..ProbeOptions::new() };
    let small = Allowance { memory_bytes: 1 << 30, cpu_seconds: 10, wall_seconds: 100 };
    assert_eq!(options.allowance(1 << 20), small);
    let large = Allowance { memory_bytes: 12 << 30, cpu_seconds: 138, wall_seconds: 612 };
    assert_eq!(options.allowance(2 << 30), large);
}
