//! Configurations as people write them, what becomes of each, and the exact problems of broken ones.

use proptest::prelude::*;

use super::*;
use crate::types::ModelSpec;

const IMAGE: &str = include_str!("testdata/image.pbtxt");
const BATCHING: &str = include_str!("testdata/batching.pbtxt");
const TENSORRT: &str = include_str!("testdata/tensorrt.pbtxt");
const MINIMAL: &str = include_str!("testdata/minimal.pbtxt");

fn parse(text: &str, folder: &str) -> PbtxtConfig {
    parse_config_pbtxt(text, folder).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

fn check(text: &str, expected: &[&str]) {
    let problems: Vec<_> = parse_config_pbtxt(text, "m").unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(problems, expected, "{text}");
}

fn notes(config: &PbtxtConfig) -> Vec<String> {
    config.notes.iter().map(ToString::to_string).collect()
}

type Named<'a> = (&'a str, Option<DType>, Vec<Option<usize>>);

fn names(tensors: &[DeclaredTensor]) -> Vec<Named<'_>> {
    tensors.iter().map(|tensor| (&*tensor.name, tensor.dtype, tensor.dims.clone())).collect()
}

#[test]
fn empty_sets_nothing() {
    assert_eq!(parse("", "m"), PbtxtConfig::default());
    assert_eq!(parse("# only a comment", "m"), PbtxtConfig::default());
}

#[test]
fn an_image_model_without_batching() {
    let config = parse(IMAGE, "densenet_onnx");
    assert_eq!(config.declared.batch, DeclaredBatch::Absent);
    assert_eq!(names(&config.declared.inputs), [("data_0", Some(DType::Fp32), vec![Some(3), Some(224), Some(224)])]);
    assert_eq!(names(&config.declared.outputs), [("fc6_1", Some(DType::Fp32), vec![Some(1000)])]);
    assert_eq!(config.label_files.len(), 1);
    assert_eq!((&*config.label_files[0].output, &*config.label_files[0].file), ("fc6_1", "densenet_labels.txt"));
    assert_eq!(config.label_files[0].place, Place { line: 17, column: 21 });
    assert_eq!(notes(&config), ["line 8, column 5: input[0].format: ignored: the model's own layout is served"]);
    let spec = config.keys.into_spec();
    assert_eq!(spec.batching.max_batch_size, BatchLimit::Whole);
    assert_eq!(spec.max_request_rows, None);
}

#[test]
fn a_batched_model() {
    let config = parse(BATCHING, "fraud");
    assert_eq!(config.declared.batch, DeclaredBatch::Before);
    assert_eq!(
        names(&config.declared.inputs),
        [("amount", Some(DType::Fp32), vec![Some(1)]), ("country", Some(DType::Bytes), vec![Some(1)]),]
    );
    assert_eq!(config.keys.preferred_batch_size.as_ref().unwrap().place, Place { line: 16, column: 25 });
    assert_eq!(
        notes(&config),
        [
            "line 23, column 5: dynamic_batching.default_queue_policy.allow_timeout_override: ignored: a request may always ask for less time",
            "line 24, column 5: dynamic_batching.default_queue_policy.max_queue_size: counted in rows, not in requests",
            "line 29, column 3: instance_group[0]: ignored: all workers run the model, see resources.max_parallel_batches in model.toml",
            "line 34, column 1: parameters: ignored: parameters are for other backends",
        ]
    );
    let spec = config.keys.into_spec();
    let defaults = ModelSpec::default();
    let expected = ModelSpec {
        versions: VersionPolicy::Only([1, 3].map(|n| Version::new(n).unwrap()).to_vec()),
        deadline: Some(Duration::from_millis(250)),
        deadline_max: Some(Duration::from_millis(250)),
        batching: crate::types::BatchingSpec {
            max_batch_size: BatchLimit::Rows(32),
            max_queue_delay: Duration::from_micros(100),
            preferred_batch_size: vec![8, 16],
            max_queue_rows: 128,
            priority_levels: 2,
            default_priority_level: 1,
            auto_limit: 32,
        },
        max_request_rows: Some(32),
        model_filename: "fraud-2024.onnx".into(),
        ..defaults
    };
    assert_eq!(spec, expected);
}

#[test]
fn a_model_meant_for_a_gpu() {
    let config = parse(TENSORRT, "resnet50");
    assert_eq!(names(&config.declared.inputs), [("input", Some(DType::Fp16), vec![Some(3), Some(224), Some(224)])]);
    assert_eq!(names(&config.declared.outputs), [("output", Some(DType::Fp16), vec![None])]);
    assert_eq!(
        notes(&config),
        [
            "line 4, column 44: input[0].format: ignored: the model's own layout is served",
            "line 6, column 18: instance_group[0]: ignored: models run on the CPU, on all workers",
            "line 9, column 1: optimization: ignored: the engine optimises by itself",
            "line 16, column 1: model_warmup: ignored: every version is warmed up before it serves",
            "line 26, column 1: response_cache: ignored: there is no response cache",
            "line 27, column 1: metric_tags: ignored: metrics carry model and version",
        ]
    );
    let spec = config.keys.into_spec();
    assert_eq!(spec.versions, VersionPolicy::Latest(2));
    assert_eq!(spec.batching.max_batch_size, BatchLimit::Rows(8));
    assert_eq!(spec.max_request_rows, Some(8));
}

#[test]
fn without_dynamic_batching_merging_is_left_to_weir() {
    let spec = parse(MINIMAL, "anything").keys.into_spec();
    assert_eq!((spec.max_request_rows, spec.batching.max_batch_size), (Some(16), BatchLimit::Auto));
    let spec = parse("max_batch_size: 4", "m").keys.into_spec();
    assert_eq!(spec.batching.limit(), 4, "no batch is larger than what the model was declared for");
    assert_eq!(parse("backend: 'tract'", "m").keys.into_spec().engine, EngineChoice::Tract);
    let spec = parse("version_policy { all {} }", "m").keys.into_spec();
    assert_eq!(spec.versions, VersionPolicy::All);
    let spec = parse("version_policy: < latest: {} >", "m").keys.into_spec();
    assert_eq!(spec.versions, VersionPolicy::Latest(1));
}

#[test]
fn unknown_keys_and_values_all_at_once() {
    check(
        "max_batchsize: 8\ninput [ { name: 'x' data_typ: TYPE_FP32 dim: [ 3 ] } ]\npreferred_batch_size: [ 4 ]\n",
        &[
            "line 1, column 1: max_batchsize: unknown key, did you mean 'max_batch_size'?",
            "line 2, column 21: input[0].data_typ: unknown key, did you mean 'input[0].data_type'?",
            "line 2, column 41: input[0].dim: unknown key, did you mean 'input[0].dims'?",
            "line 3, column 1: preferred_batch_size: unknown key, did you mean 'dynamic_batching.preferred_batch_size'?",
        ],
    );
    check(
        "input { data_type: TYPE_FLOAT32 }\ninstance_group [ { kind: KIND_TPU } ]\n",
        &[
            "line 1, column 20: input[0].data_type: unknown value 'TYPE_FLOAT32', did you mean 'TYPE_FP32'?",
            "line 2, column 26: instance_group[0].kind: unknown value 'KIND_TPU', did you mean 'KIND_CPU'?",
        ],
    );
    check(
        "version_policy { colour: 3 }",
        &["line 1, column 18: version_policy.colour: unknown key: expected one of 'latest', 'all', 'specific'"],
    );
    check(
        "name: 'm'\nname: 'm'\n[a.b/inference.ModelConfig] { name: 'm' }",
        &["line 2, column 1: name: given twice", "line 3, column 1: extensions and type expansions are not supported"],
    );
}

#[test]
fn syntax_errors_have_places_of_the_original_text() {
    // Both lists get a colon ahead of the error, which must not move it.
    check(
        "input [ { name: 'x' dims [ 1 ] } ] output [ { name: 3 } ]",
        &["line 1, column 53: output[0].name: expected a string, but found '3'"],
    );
    check(
        "max_batch_size: 99999999999",
        &[
            "line 1, column 17: max_batch_size: expected value to be a signed 32-bit integer, but the value 99999999999 is out of range",
        ],
    );
    check("max_batch_size 8", &["line 1, column 16: max_batch_size: expected ':' or a message value, but found '8'"]);
    check(
        "input [ { name: 'x' }",
        &["line 1, column 22: input[0].name: expected ',' or ']', but reached end of input"],
    );
    check(
        "dynamic_batching { ",
        &["line 1, column 20: dynamic_batching: expected '}' or a field name, but reached end of input"],
    );
    check("name: \"open\nbackend: 'x'", &["line 1, column 12: name: invalid string character"]);
    check(
        "instance_group { kind KIND_CPU }",
        &["line 1, column 23: instance_group[0].kind: expected ':' or '{' after 'kind', got 'KIND_CPU'"],
    );
}

#[test]
fn what_cannot_be_served_is_refused() {
    check(
        "name: 'other'\nplatform: 'tensorrt_plan'\nbackend: 'python'\n",
        &[
            "line 1, column 7: name: expected 'm' as the folder, got 'other'",
            "line 2, column 11: platform: expected 'onnxruntime_onnx', got 'tensorrt_plan'",
            "line 3, column 10: backend: expected 'onnxruntime' or 'tract', got 'python'",
        ],
    );
    check(
        "platform: 'ensemble'\nensemble_scheduling { step [ { model_name: 'a' model_version: -1 } ] }\n",
        &[
            "line 1, column 11: platform: ensembles are routes here: write a route.toml",
            "line 2, column 1: ensemble_scheduling: ensembles are routes here: write a route.toml",
        ],
    );
    check(
        "sequence_batching { max_sequence_idle_microseconds: 5000000 }",
        &["line 1, column 1: sequence_batching: sequence batching is not supported"],
    );
    check(
        "model_transaction_policy { decoupled: true }\nmodel_repository_agents { agents [ { name: 'checksum' } ] }",
        &[
            "line 1, column 39: model_transaction_policy.decoupled: decoupled models are not supported",
            "line 2, column 1: model_repository_agents: repository agents are not run",
        ],
    );
    check(
        "output { name: 'label' data_type: TYPE_INT64 dims: [ 1 ] reshape: { shape: [ ] } }",
        &["line 1, column 58: output[0].reshape: reshape is not supported: the model's own shapes are served"],
    );
    check(
        "batch_input [ { kind: BATCH_ELEMENT_COUNT target_name: 'n' } ]",
        &["line 1, column 13: batch_input: ragged batches are not supported"],
    );
}

#[test]
fn values_out_of_range() {
    check(
        "max_batch_size: -1\nversion_policy { latest { num_versions: 0 } }\n",
        &[
            "line 1, column 17: max_batch_size: expected an integer from 0 to 1048576, got -1",
            "line 2, column 41: version_policy.latest.num_versions: expected an integer from 1 to 1000000, got 0",
        ],
    );
    check(
        "version_policy { specific { } }",
        &["line 1, column 18: version_policy.specific: expected at least one version"],
    );
    check(
        "version_policy { specific { versions: [ 1, -3 ] } }",
        &[
            "line 1, column 39: version_policy.specific.versions: expected versions: integers from 1 with at most 18 digits, got -3",
        ],
    );
    check(
        "default_model_filename: '../x.onnx'\noutput { name: 'y' label_filename: '' }",
        &[
            "line 1, column 25: default_model_filename: expected a plain file name, got '../x.onnx'",
            "line 2, column 36: output[0].label_filename: expected a plain file name, got ''",
        ],
    );
    check(
        "input [ { name: 'x' dims: [ 0 ] }, { name: 'x' data_type: 77 }, {} ]",
        &[
            "line 1, column 27: input[0].dims: expected -1 or sizes from 1, got 0",
            "line 1, column 44: input[1].name: 'x' is declared twice",
            "line 1, column 59: input[1].data_type: unknown data type 77",
            "line 1, column 65: input[2]: expected a name",
        ],
    );
    check(
        "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 4, 8 ] default_priority_level: 1 }",
        &[
            "line 2, column 42: batching.preferred_batch_size: expected sizes up to max_batch_size = 4, got 8",
            "line 2, column 75: batching.default_priority_level: expected at most priority_levels = 0, got 1",
        ],
    );
    check(
        "dynamic_batching { preferred_batch_size: [ 0 ] priority_levels: 5000 default_queue_policy { default_timeout_microseconds: 18446744073709551615 } }",
        &[
            "line 1, column 42: dynamic_batching.preferred_batch_size: expected an integer from 1 to 1048576, got 0",
            "line 1, column 65: dynamic_batching.priority_levels: expected an integer from 0 to 1000, got 5000",
            "line 1, column 123: dynamic_batching.default_queue_policy.default_timeout_microseconds: expected an integer from 0 to 86400000000, got 18446744073709551615",
        ],
    );
}

#[test]
fn deep_nesting_is_refused_without_deep_recursion() {
    for open in ["input { ", "dynamic_batching [ ", "[a/inference.ModelConfig] { ", "parameters { value ", "dims: [[["]
    {
        assert!(parse_config_pbtxt(&open.repeat(100_000), "m").is_err(), "{open}");
    }
}

/// Texts made of the pieces that such files are made of.
fn pbtxt_like() -> impl Strategy<Value = String> {
    let pieces = [
        "name",
        "input",
        "output",
        "dims",
        "data_type",
        "dynamic_batching",
        "max_batch_size",
        "version_policy",
        "latest",
        "parameters",
        "key",
        "value",
        "kind",
        "KIND_GPU",
        "TYPE_FP32",
        "8",
        "-1",
        "1.5f",
        "'x'",
        "\"y\"",
        "'",
        "\\",
        ":",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        ",",
        ";",
        "#",
        "\n",
        "é",
        "\u{0}",
        "0x1F",
        "true",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #[test]
    fn never_panics_on_any_text(text in "\\PC{0,200}") {
        let _ = parse_config_pbtxt(&text, "m");
    }

    #[test]
    fn never_panics_and_problems_have_places(text in pbtxt_like()) {
        for problem in parse_config_pbtxt(&text, "m").err().into_iter().flatten() {
            prop_assert!(problem.line >= 1 && problem.line <= text.split('\n').count(), "{problem} in {text:?}");
        }
    }

    #[test]
    fn a_slip_in_a_good_file_never_panics(at in 0_usize..900, with in "[ -~]{0,2}") {
        for good in [IMAGE, BATCHING, TENSORRT] {
            let at = at.min(good.len());
            let _ = parse_config_pbtxt(&format!("{}{with}{}", &good[..at], &good[(at + 1).min(good.len())..]), "fraud");
        }
    }
}
