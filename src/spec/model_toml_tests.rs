//! Tables of good and bad `model.toml` texts with the exact problems, and the promise that no text makes the reader panic.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::types::{BatchingSpec, ResourceSpec};

fn spec(text: &str) -> ModelSpec {
    parse_model_toml(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

/// Compares the problems of `text`, one a line.
fn check(text: &str, expected: &[&str]) {
    let problems: Vec<_> = parse_model_toml(text).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(problems, expected, "{text}");
}

#[test]
fn empty_is_the_default() {
    assert_eq!(spec(""), ModelSpec::default());
    assert_eq!(spec("# nothing\n\n[batching]\n[resources]\n"), ModelSpec::default());
}

#[test]
fn written_defaults_are_the_defaults() {
    let text = r#"
versions = "latest"
labels   = {}
engine   = "auto"
required = false
deadline_ms = 0
deadline_max_ms = 0

[batching]
max_batch_size = "auto"
max_queue_delay_microseconds = 0
preferred_batch_size = []
max_queue_rows = 4096
priority_levels = 0
default_priority_level = 0

[resources]
max_parallel_batches = 0
max_output_bytes = 67108864
max_plan_bytes = 0
circuit_failures = 5
circuit_pause_ms = 1000
stuck_after_ms = 0
"#;
    assert_eq!(spec(text), ModelSpec::default());
}

#[test]
fn every_key() {
    let text = r#"
versions = [3, 1]
labels   = { stable = 1, canary-2 = 2 }
engine   = "tract"
required = true
deadline_ms = 250
deadline_max_ms = 1_000
score.output = "probabilities"
score.kind = "probability"
score.bounds = [0, 1.0]

[batching]
max_batch_size = 64
max_queue_delay_microseconds = 200
preferred_batch_size = [8, 4, 8]
max_queue_rows = 100
priority_levels = 3
default_priority_level = 2

[resources]
max_parallel_batches = 2
max_output_bytes = 0x1000
max_plan_bytes = 1_000_000
circuit_failures = 0
circuit_pause_ms = 250
stuck_after_ms = 90000
"#;
    let version = |n| Version::new(n).unwrap();
    let expected = ModelSpec {
        versions: VersionPolicy::Only(vec![version(1), version(3)]),
        labels: [("stable".into(), version(1)), ("canary-2".into(), version(2))].into(),
        engine: EngineChoice::Tract,
        required: true,
        deadline: Some(Duration::from_millis(250)),
        deadline_max: Some(Duration::from_secs(1)),
        batching: BatchingSpec {
            max_batch_size: BatchLimit::Rows(64),
            max_queue_delay: Duration::from_micros(200),
            preferred_batch_size: vec![4, 8],
            max_queue_rows: 100,
            priority_levels: 3,
            default_priority_level: 2,
            ..BatchingSpec::default()
        },
        score: Some(ScoreSpec {
            output: "probabilities".into(),
            kind: ScoreKind::Probability,
            bounds: Some((0.0, 1.0)),
        }),
        resources: ResourceSpec {
            max_parallel_batches: 2,
            max_output_bytes: 4096,
            max_plan_bytes: 1_000_000,
            circuit_failures: 0,
            circuit_pause: Duration::from_millis(250),
            stuck_after: Some(Duration::from_secs(90)),
        },
        ..ModelSpec::default()
    };
    assert_eq!(spec(text), expected);
}

#[test]
fn ways_to_say_versions_and_batch_limits() {
    let all = [1, 2].map(|n| Version::new(n).unwrap()).to_vec();
    for (text, expected) in [
        ("'latest'", VersionPolicy::Latest(1)),
        ("\"latest:1\"", VersionPolicy::Latest(1)),
        ("\"latest:12\"", VersionPolicy::Latest(12)),
        ("\"all\"", VersionPolicy::All),
        ("[2, 1]", VersionPolicy::Only(all)),
    ] {
        assert_eq!(spec(&format!("versions = {text}")).versions, expected, "{text}");
    }
    for (text, expected) in [
        ("\"auto\"", BatchLimit::Auto),
        ("0", BatchLimit::Whole),
        ("1", BatchLimit::Rows(1)),
        ("8", BatchLimit::Rows(8)),
    ] {
        assert_eq!(spec(&format!("batching.max_batch_size = {text}")).batching.max_batch_size, expected, "{text}");
    }
    assert_eq!(spec("score = { output = \"y\", kind = \"label\" }").score.unwrap().bounds, None);
}

#[test]
fn unknown_keys_name_the_nearest() {
    check(
        "\n[batching]\n      max_batch_sise = 8\n",
        &["line 3, column 7: batching.max_batch_sise: unknown key, did you mean 'batching.max_batch_size'?"],
    );
    check(
        "max_batch_size = 8",
        &["line 1, column 1: max_batch_size: unknown key, did you mean 'batching.max_batch_size'?"],
    );
    check("[scores]\noutput = 'y'\n", &["line 1, column 2: scores: unknown key, did you mean 'score'?"]);
    check(
        "batching.colour = 'red'",
        &["line 1, column 10: batching.colour: unknown key: expected one of \
         'max_batch_size', 'max_queue_delay_microseconds', 'preferred_batch_size', 'max_queue_rows', 'priority_levels', \
         'default_priority_level'"],
    );
    check(
        "\"a b\\u0007\" = 1",
        &["line 1, column 1: 'a b\\u{7}': unknown key: expected one of \
         'versions', 'labels', 'engine', 'required', 'deadline_ms', 'deadline_max_ms', 'batching', 'score', 'resources'"],
    );
}

#[test]
fn values_out_of_range() {
    let cases = [
        (
            "versions = \"newest\"",
            "versions: expected \"latest\", \"latest:2\", \"all\" or a list of versions, got 'newest'",
        ),
        ("versions = 3", "versions: expected \"latest\", \"latest:2\", \"all\" or a list of versions, got 3"),
        ("versions = \"latest:0\"", "versions: expected \"latest:\" and a number from 1 to 1000000, got 'latest:0'"),
        ("versions = \"latest:+2\"", "versions: expected \"latest:\" and a number from 1 to 1000000, got 'latest:+2'"),
        ("versions = \"latest:\"", "versions: expected \"latest:\" and a number from 1 to 1000000, got 'latest:'"),
        ("engine = \"onnx\"", "engine: expected \"auto\" or \"tract\" or \"onnxruntime\", got 'onnx'"),
        ("required = 1", "required: expected true or false, got 1"),
        ("deadline_ms = -5", "deadline_ms: expected an integer from 0 to 86400000, got -5"),
        ("deadline_ms = 2.5", "deadline_ms: expected an integer from 0 to 86400000, got 2.5"),
        ("deadline_ms = nan", "deadline_ms: expected an integer from 0 to 86400000, got nan"),
        ("deadline_max_ms = \"1s\"", "deadline_max_ms: expected an integer from 0 to 86400000, got '1s'"),
        (
            "deadline_ms = 99999999999999999999",
            "deadline_ms: expected an integer from 0 to 86400000, got 99999999999999999999",
        ),
        ("labels = [1]", "labels: expected a table of labels, for example { stable = 1 }, got an array"),
    ];
    for (text, problem) in cases {
        let column = text.find('=').unwrap() + 3;
        check(text, &[&format!("line 1, column {column}: {problem}")]);
    }
    check("versions = []", &["line 1, column 12: versions: expected at least one version"]);
    check("versions = [1, 1]", &["line 1, column 16: versions[1]: version 1 is listed twice"]);
    check(
        "versions = [1, 0, \"2\"]",
        &[
            "line 1, column 16: versions[1]: expected a version: an integer from 1 with at most 18 digits, got 0",
            "line 1, column 19: versions[2]: expected a version: an integer from 1 with at most 18 digits, got '2'",
        ],
    );
}

#[test]
fn labels_have_a_form() {
    check(
        "[labels]\nlatest = 1\n2nd = 2\ngood = 0\n\"\" = 1\n-1 = 3\n",
        &[
            "line 2, column 10: labels.latest: the label 'latest' is reserved: it means \"by policy\"",
            "line 3, column 7: labels.2nd: expected a label of the form [A-Za-z][A-Za-z0-9_-]{0,63}",
            "line 4, column 8: labels.good: expected a version: an integer from 1 with at most 18 digits, got 0",
            "line 5, column 6: labels.'': expected a label of the form [A-Za-z][A-Za-z0-9_-]{0,63}",
            "line 6, column 6: labels.-1: expected a label of the form [A-Za-z][A-Za-z0-9_-]{0,63}",
        ],
    );
}

#[test]
fn batching_and_resources() {
    let text = "[batching]\nmax_batch_size = \"big\"\nmax_queue_delay_microseconds = 60000001\npreferred_batch_size = [0, 8, true]\n\
                max_queue_rows = 0\npriority_levels = 1001\n\n[resources]\nmax_parallel_batches = -1\nmax_output_bytes = 0\n\
                max_plan_bytes = 1.5\ncircuit_failures = -1\ncircuit_pause_ms = 0\nstuck_after_ms = 1.5\n";
    check(
        text,
        &[
            "line 2, column 18: batching.max_batch_size: expected \"auto\" or an integer from 0 to 1048576, got 'big'",
            "line 3, column 32: batching.max_queue_delay_microseconds: expected an integer from 0 to 60000000, got 60000001",
            "line 4, column 25: batching.preferred_batch_size[0]: expected an integer from 1 to 1048576, got 0",
            "line 4, column 31: batching.preferred_batch_size[2]: expected an integer from 1 to 1048576, got true",
            "line 5, column 18: batching.max_queue_rows: expected an integer from 1 to 16777216, got 0",
            "line 6, column 19: batching.priority_levels: expected an integer from 0 to 1000, got 1001",
            "line 9, column 24: resources.max_parallel_batches: expected an integer from 0 to 4096, got -1",
            "line 10, column 20: resources.max_output_bytes: expected an integer from 1 to 1125899906842624, got 0",
            "line 11, column 18: resources.max_plan_bytes: expected an integer from 0 to 1125899906842624, got 1.5",
            "line 12, column 20: resources.circuit_failures: expected an integer from 0 to 1000000, got -1",
            "line 13, column 20: resources.circuit_pause_ms: expected an integer from 1 to 60000, got 0",
            "line 14, column 18: resources.stuck_after_ms: expected an integer from 0 to 86400000, got 1.5",
        ],
    );
    check(
        "batching = 3\nresources = []\nscore = \"y\"\n",
        &[
            "line 1, column 12: batching: expected a table, got 3",
            "line 2, column 13: resources: expected a table, got an array",
            "line 3, column 9: score: expected a table, got 'y'",
        ],
    );
}

#[test]
fn score_is_complete_or_absent() {
    check(
        "[score]\nbounds = [0, 1]\n",
        &[
            "line 1, column 1: score: expected the key 'output': the name of the output that is the score",
            "line 1, column 1: score: expected the key 'kind': \"probability\", \"logit\", \"regression\" or \"label\"",
        ],
    );
    check(
        "[score]\noutput = ''\nkind = 'odds'\nbounds = [1, 0]\n",
        &[
            "line 2, column 10: score.output: expected a string that is not empty, got ''",
            "line 3, column 8: score.kind: expected \"probability\" or \"logit\" or \"regression\" or \"label\", got 'odds'",
            "line 4, column 10: score.bounds: expected [low, high], got [1, 0]",
        ],
    );
    check(
        "[score]\noutput = 'y'\nkind = 'regression'\nbounds = [0, inf]\n",
        &["line 4, column 14: score.bounds[1]: expected a finite number, got inf"],
    );
    check(
        "[score]\noutput = 'y'\nkind = 'regression'\nbounds = [0]\n",
        &["line 4, column 10: score.bounds: expected two numbers, for example [0.0, 1.0], got an array"],
    );
}

#[test]
fn keys_that_contradict_each_other() {
    check(
        "deadline_ms = 200\ndeadline_max_ms = 100\n",
        &["line 1, column 15: deadline_ms: expected at most deadline_max_ms = 100, got 200"],
    );
    check(
        "[batching]\nmax_batch_size = 4\npreferred_batch_size = [4, 8]\ndefault_priority_level = 2\n",
        &[
            "line 3, column 24: batching.preferred_batch_size: expected sizes up to max_batch_size = 4, got 8",
            "line 4, column 26: batching.default_priority_level: expected at most priority_levels = 0, got 2",
        ],
    );
}

#[test]
fn syntax_errors_do_not_hide_the_rest() {
    check(
        "required = \nengine = \"x\"\nengine = \"tract\"\nversion = 3\n",
        &[
            "line 1, column 12: string values must be quoted, expected literal string",
            "line 2, column 10: engine: expected \"auto\" or \"tract\" or \"onnxruntime\", got 'x'",
            "line 3, column 1: engine: duplicate key",
            "line 4, column 1: version: unknown key, did you mean 'versions'?",
        ],
    );
}

/// TOML-like texts: the real keys, with values of every kind, sound and broken.
fn toml_like() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        proptest::sample::select(&KEYS[..]).prop_map(str::to_owned),
        Just("[batching]".to_owned()),
        Just("[[score]]".to_owned()),
        "[a-z.\"]{0,8}",
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "[a-z:0-9]{0,10}".prop_map(|text| format!("\"{text}\"")),
        Just("[1, 2]".to_owned()),
        Just("{ a = 1, latest = 2 }".to_owned()),
        "\\PC{0,12}",
    ];
    let line = (key, proptest::sample::select(&["=", " = ", "", "=="][..]), value);
    proptest::collection::vec(line, 0..12)
        .prop_map(|lines| lines.iter().map(|(key, eq, value)| format!("{key}{eq}{value}\n")).collect())
}

proptest! {
    #[test]
    fn never_panics_on_any_text(text in "\\PC{0,200}") {
        let _ = parse_model_toml(&text);
    }

    #[test]
    fn never_panics_and_problems_have_places(text in toml_like()) {
        for problem in parse_model_toml(&text).err().into_iter().flatten() {
            prop_assert!(problem.line >= 1 && problem.line <= text.split('\n').count(), "{problem}");
            prop_assert!(problem.column >= 1, "{problem}");
        }
    }
}
