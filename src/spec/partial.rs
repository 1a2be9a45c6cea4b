//! What a configuration file says about a model, key by key and with the place of each: the common form of `model.toml` and
//! `config.pbtxt`, so that one can win over the other per key. `merge` turns it into a [`ModelSpec`].

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::types::{
    BatchLimit, BatchingSpec, EngineChoice, ModelSpec, ResourceSpec, ScoreSpec, Version, VersionPolicy,
};

use super::problem::{Place, Problem};

/// Which of a model's configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecFile {
    /// `model.toml`.
    ModelToml,
    /// `config.pbtxt`.
    ConfigPbtxt,
}

impl SpecFile {
    /// The file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            SpecFile::ModelToml => "model.toml",
            SpecFile::ConfigPbtxt => "config.pbtxt",
        }
    }
}

impl fmt::Display for SpecFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// The file.
    pub file: SpecFile,
    /// The place in the file.
    pub place: Place,
}

/// A key's value where the file has it.
pub type Key<T> = Option<Placed<T>>;

/// The keys that a file sets.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of ModelSpec, BatchingSpec and ResourceSpec")]
pub struct PartialSpec {
    pub versions: Key<VersionPolicy>,
    pub labels: Key<BTreeMap<Box<str>, Version>>,
    pub engine: Key<EngineChoice>,
    pub required: Key<bool>,
    pub deadline: Key<Option<Duration>>,
    pub deadline_max: Key<Option<Duration>>,
    pub max_batch_size: Key<BatchLimit>,
    pub max_queue_delay: Key<Duration>,
    pub preferred_batch_size: Key<Vec<usize>>,
    pub max_queue_rows: Key<usize>,
    pub priority_levels: Key<u32>,
    pub default_priority_level: Key<u32>,
    pub score: Key<ScoreSpec>,
    pub max_parallel_batches: Key<usize>,
    pub max_output_bytes: Key<usize>,
    pub max_plan_bytes: Key<usize>,
    pub circuit_failures: Key<u32>,
    pub circuit_pause: Key<Duration>,
    pub stuck_after: Key<Option<Duration>>,
    pub max_request_rows: Key<usize>,
    pub model_filename: Key<Box<str>>,
}

impl PartialSpec {
    /// The complete configuration, with the default for every key that is not set. Class names are not part of these files:
    /// whoever reads the label files fills them in.
    pub fn into_spec(self) -> ModelSpec {
        let spec = ModelSpec::default();
        let batching = spec.batching;
        let max_request_rows = self.max_request_rows.map(|key| key.value).or(spec.max_request_rows);
        // Weir chooses no larger batch than a model was declared for.
        let auto_limit = max_request_rows.map_or(batching.auto_limit, |rows| rows.min(batching.auto_limit));
        ModelSpec {
            versions: or(self.versions, spec.versions),
            labels: or(self.labels, spec.labels),
            engine: or(self.engine, spec.engine),
            required: or(self.required, spec.required),
            deadline: or(self.deadline, spec.deadline),
            deadline_max: or(self.deadline_max, spec.deadline_max),
            batching: BatchingSpec {
                max_batch_size: or(self.max_batch_size, batching.max_batch_size),
                max_queue_delay: or(self.max_queue_delay, batching.max_queue_delay),
                preferred_batch_size: or(self.preferred_batch_size, batching.preferred_batch_size),
                max_queue_rows: or(self.max_queue_rows, batching.max_queue_rows),
                priority_levels: or(self.priority_levels, batching.priority_levels),
                default_priority_level: or(self.default_priority_level, batching.default_priority_level),
                auto_limit,
            },
            score: self.score.map(|key| key.value).or(spec.score),
            resources: ResourceSpec {
                max_parallel_batches: or(self.max_parallel_batches, spec.resources.max_parallel_batches),
                max_output_bytes: or(self.max_output_bytes, spec.resources.max_output_bytes),
                max_plan_bytes: or(self.max_plan_bytes, spec.resources.max_plan_bytes),
                circuit_failures: or(self.circuit_failures, spec.resources.circuit_failures),
                circuit_pause: or(self.circuit_pause, spec.resources.circuit_pause),
                stuck_after: or(self.stuck_after, spec.resources.stuck_after),
            },
            max_request_rows,
            class_names: spec.class_names,
            model_filename: or(self.model_filename, spec.model_filename),
        }
    }

    /// Checks the keys that only make sense together.
    pub(super) fn contradictions(&self) -> Vec<(SpecFile, Problem)> {
        let mut found = Vec::new();
        if let (Some(deadline), Some(Placed { value: Some(max), .. })) = (&self.deadline, &self.deadline_max)
            && deadline.value.is_some_and(|value| value > *max)
        {
            let text = format!("expected at most deadline_max_ms = {}, got {}", max.as_millis(), ms(deadline.value));
            found.push(deadline.wrong("deadline_ms", text));
        }
        if let (Some(preferred), Some(Placed { value: BatchLimit::Rows(limit), .. })) =
            (&self.preferred_batch_size, &self.max_batch_size)
            && let Some(size) = preferred.value.iter().find(|size| *size > limit)
        {
            let text = format!("expected sizes up to max_batch_size = {limit}, got {size}");
            found.push(preferred.wrong("batching.preferred_batch_size", text));
        }
        if let Some(level) = &self.default_priority_level {
            let levels = self.priority_levels.as_ref().map_or(0, |levels| levels.value);
            if level.value > levels {
                let text = format!("expected at most priority_levels = {levels}, got {}", level.value);
                found.push(level.wrong("batching.default_priority_level", text));
            }
        }
        found
    }
}

impl<T> Placed<T> {
    fn wrong(&self, key: &str, text: String) -> (SpecFile, Problem) {
        (self.file, self.place.problem(key, text))
    }
}

fn or<T>(key: Key<T>, default: T) -> T {
    key.map_or(default, |key| key.value)
}

fn ms(deadline: Option<Duration>) -> u128 {
    deadline.map_or(0, |deadline| deadline.as_millis())
}
