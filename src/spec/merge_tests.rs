//! Which file wins, what is listed as hidden, and how contradictions between the two files end.

use std::time::Duration;

use super::*;
use crate::types::VersionPolicy;

fn read(model_toml: &str, config_pbtxt: &str) -> ModelConfiguration {
    let files = ModelFiles { folder: "m", model_toml: Some(model_toml), config_pbtxt: Some(config_pbtxt) };
    read_model_files(&files).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn hidden(configuration: &ModelConfiguration) -> Vec<String> {
    configuration.hidden.iter().map(ToString::to_string).collect()
}

const PBTXT: &str = "\
name: 'm'
max_batch_size: 8
version_policy: { all {} }
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  priority_levels: 3
  default_priority_level: 3
  default_queue_policy { default_timeout_microseconds: 500000 }
}
";

#[test]
fn no_files_are_the_defaults() {
    let files = ModelFiles { folder: "m", ..ModelFiles::default() };
    assert_eq!(read_model_files(&files), Ok(ModelConfiguration::default()));
}

#[test]
fn model_toml_wins_key_by_key() {
    let merged = read("versions = \"latest\"\n\n[batching]\nmax_batch_size = \"auto\"\nmax_queue_rows = 9\n", PBTXT);
    assert_eq!(merged.spec.versions, VersionPolicy::Latest(1));
    assert_eq!(merged.spec.batching.max_batch_size, BatchLimit::Auto);
    assert_eq!(merged.spec.batching.preferred_batch_size, [4, 8]);
    assert_eq!(merged.spec.batching.max_queue_rows, 9);
    assert_eq!(merged.spec.max_request_rows, Some(8), "a request may still have as many rows as before");
    assert_eq!(
        hidden(&merged),
        [
            "line 2, column 17: batching.max_batch_size: hidden by line 4 of model.toml",
            "line 3, column 1: versions: hidden by line 1 of model.toml",
        ]
    );
}

#[test]
fn what_contradicts_model_toml_gives_way() {
    let merged = read("[batching]\nmax_batch_size = 4\npriority_levels = 2\n", PBTXT);
    assert_eq!(merged.spec.batching.preferred_batch_size, [4]);
    assert_eq!(merged.spec.batching.default_priority_level, 0);
    assert_eq!(
        hidden(&merged),
        [
            "line 2, column 17: batching.max_batch_size: hidden by line 2 of model.toml",
            "line 5, column 25: batching.preferred_batch_size: hidden by line 2 of model.toml",
            "line 6, column 20: batching.priority_levels: hidden by line 3 of model.toml",
            "line 7, column 27: batching.default_priority_level: hidden by line 3 of model.toml",
        ]
    );
    let ms = |ms| Some(Duration::from_millis(ms));
    let merged = read("deadline_ms = 900\n", PBTXT);
    assert_eq!((merged.spec.deadline, merged.spec.deadline_max), (ms(900), None));
    let merged = read("deadline_max_ms = 100\n", PBTXT);
    assert_eq!((merged.spec.deadline, merged.spec.deadline_max), (ms(100), ms(100)));
    let merged = read("deadline_ms = 200\n", PBTXT);
    assert_eq!((merged.spec.deadline, merged.spec.deadline_max), (ms(200), ms(500)));
}

#[test]
fn what_contradicts_config_pbtxt_is_a_problem() {
    let files = ModelFiles {
        folder: "m",
        model_toml: Some("batching.preferred_batch_size = [16]\n"),
        config_pbtxt: Some(PBTXT),
    };
    let problems: Vec<_> = read_model_files(&files).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "model.toml: line 1, column 33: batching.preferred_batch_size: expected sizes up to max_batch_size = 8, got 16",
        ]
    );
}

#[test]
fn problems_of_both_files() {
    let files = ModelFiles { folder: "m", model_toml: Some("engin = 1"), config_pbtxt: Some("name: 'x'") };
    let problems: Vec<_> = read_model_files(&files).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "model.toml: line 1, column 1: engin: unknown key, did you mean 'engine'?",
            "config.pbtxt: line 1, column 7: name: expected 'm' as the folder, got 'x'",
        ]
    );
}
