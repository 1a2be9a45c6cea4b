//! A model's two configuration files as one: `model.toml` wins over `config.pbtxt` key by key, and what it hides is listed,
//! because an operator who edits the hidden value would otherwise wonder. Called by the registry's scan and by `weir check`.

use std::fmt;

use crate::types::{BatchLimit, ModelSpec};

use super::{
    config_pbtxt::{LabelFile, PbtxtConfig, parse_config_pbtxt},
    declared::Declared,
    model_toml::parse_model_toml_keys,
    partial::{Key, PartialSpec, Placed, SpecFile},
    problem::{Place, Problem},
};

/// The configuration files in a model's folder, as text; both may be absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelFiles<'t> {
    /// The name of the model's folder.
    pub folder: &'t str,
    /// `model.toml`.
    pub model_toml: Option<&'t str>,
    /// `config.pbtxt`.
    pub config_pbtxt: Option<&'t str>,
}

/// A model's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelConfiguration {
    /// What both files come to. Class names are still empty: they are in `label_files`.
    pub spec: ModelSpec,
    /// The inputs and outputs that `config.pbtxt` declares, to be checked against each version.
    pub declared: Declared,
    /// The label files that `config.pbtxt` names.
    pub label_files: Vec<LabelFile>,
    /// What `config.pbtxt` says that has no effect.
    pub notes: Vec<Problem>,
    /// What `model.toml` hides.
    pub hidden: Vec<Hidden>,
}

/// A value of `config.pbtxt` that has no effect because `model.toml` has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The key's path in `model.toml`.
    pub key: &'static str,
    /// Where the winning value stands in `model.toml`.
    pub winner: Place,
    /// Where the hidden value stands in `config.pbtxt`.
    pub hidden: Place,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.hidden;
        write!(f, "line {line}, column {column}: {}: hidden by line {} of model.toml", self.key, self.winner.line)
    }
}

/// A problem of one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Which file.
    pub file: SpecFile,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

/// Reads both files and makes one configuration of them.
///
/// # Errors
/// Every problem of both files.
pub fn read_model_files(files: &ModelFiles<'_>) -> Result<ModelConfiguration, Vec<FileProblem>> {
    let toml = files.model_toml.map_or_else(|| Ok(PartialSpec::default()), parse_model_toml_keys);
    let pbtxt =
        files.config_pbtxt.map_or_else(|| Ok(PbtxtConfig::default()), |text| parse_config_pbtxt(text, files.folder));
    let (toml, pbtxt) = match (toml, pbtxt) {
        (Ok(toml), Ok(pbtxt)) => (toml, pbtxt),
        (toml, pbtxt) => {
            let of = |file, problems: Option<Vec<Problem>>| {
                problems.into_iter().flatten().map(move |problem| FileProblem { file, problem })
            };
            let problems = of(SpecFile::ModelToml, toml.err()).chain(of(SpecFile::ConfigPbtxt, pbtxt.err()));
            return Err(problems.collect());
        }
    };
    let (keys, hidden) = merge(toml, pbtxt.keys);
    let contradictions = keys.contradictions();
    if !contradictions.is_empty() {
        return Err(contradictions.into_iter().map(|(file, problem)| FileProblem { file, problem }).collect());
    }
    let PbtxtConfig { declared, label_files, notes, .. } = pbtxt;
    Ok(ModelConfiguration { spec: keys.into_spec(), declared, label_files, notes, hidden })
}

/// Takes each key from `toml` where it has it, else from `pbtxt`.
pub fn merge(toml: PartialSpec, pbtxt: PartialSpec) -> (PartialSpec, Vec<Hidden>) {
    let mut merged = Merge { hidden: Vec::new() };
    let mut keys = PartialSpec {
        versions: merged.key("versions", toml.versions, pbtxt.versions),
        labels: merged.key("labels", toml.labels, pbtxt.labels),
        engine: merged.key("engine", toml.engine, pbtxt.engine),
        required: merged.key("required", toml.required, pbtxt.required),
        deadline: merged.key("deadline_ms", toml.deadline, pbtxt.deadline),
        deadline_max: merged.key("deadline_max_ms", toml.deadline_max, pbtxt.deadline_max),
        max_batch_size: merged.key("batching.max_batch_size", toml.max_batch_size, pbtxt.max_batch_size),
        max_queue_delay: merged.key(
            "batching.max_queue_delay_microseconds",
            toml.max_queue_delay,
            pbtxt.max_queue_delay,
        ),
        preferred_batch_size: merged.key(
            "batching.preferred_batch_size",
            toml.preferred_batch_size,
            pbtxt.preferred_batch_size,
        ),
        max_queue_rows: merged.key("batching.max_queue_rows", toml.max_queue_rows, pbtxt.max_queue_rows),
        priority_levels: merged.key("batching.priority_levels", toml.priority_levels, pbtxt.priority_levels),
        default_priority_level: merged.key(
            "batching.default_priority_level",
            toml.default_priority_level,
            pbtxt.default_priority_level,
        ),
        score: merged.key("score", toml.score, pbtxt.score),
        max_parallel_batches: merged.key(
            "resources.max_parallel_batches",
            toml.max_parallel_batches,
            pbtxt.max_parallel_batches,
        ),
        max_output_bytes: merged.key("resources.max_output_bytes", toml.max_output_bytes, pbtxt.max_output_bytes),
        max_plan_bytes: merged.key("resources.max_plan_bytes", toml.max_plan_bytes, pbtxt.max_plan_bytes),
        // Triton has no such keys.
        circuit_failures: toml.circuit_failures,
        circuit_pause: toml.circuit_pause,
        stuck_after: toml.stuck_after,
        max_request_rows: toml.max_request_rows.or(pbtxt.max_request_rows),
        model_filename: toml.model_filename.or(pbtxt.model_filename),
    };
    merged.settle(&mut keys);
    merged.hidden.sort_by_key(|hidden| hidden.hidden);
    (keys, merged.hidden)
}

struct Merge {
    hidden: Vec<Hidden>,
}

impl Merge {
    fn key<T>(&mut self, key: &'static str, toml: Key<T>, pbtxt: Key<T>) -> Key<T> {
        if let (Some(winner), Some(loser)) = (&toml, &pbtxt) {
            self.hidden.push(Hidden { key, winner: winner.place, hidden: loser.place });
        }
        toml.or(pbtxt)
    }

    /// A key of `config.pbtxt` that contradicts one of `model.toml` gives way, although the latter does not have it itself:
    /// whoever lowers the batch limit there must not have to repeat what depends on it.
    fn settle(&mut self, keys: &mut PartialSpec) {
        if let (Some(deadline), Some(max)) = (&mut keys.deadline, &mut keys.deadline_max)
            && let (Some(value), Some(cap)) = (deadline.value, max.value)
            && value > cap
        {
            if self.outranks(deadline, max, "deadline_max_ms") {
                max.value = None;
            } else if self.outranks(max, deadline, "deadline_ms") {
                deadline.value = Some(cap);
            }
        }
        if let (Some(limit), Some(sizes)) = (&keys.max_batch_size, &mut keys.preferred_batch_size)
            && let BatchLimit::Rows(rows) = limit.value
            && sizes.value.iter().any(|size| *size > rows)
            && self.outranks(limit, sizes, "batching.preferred_batch_size")
        {
            sizes.value.retain(|size| *size <= rows);
        }
        if let (Some(levels), Some(level)) = (&keys.priority_levels, &mut keys.default_priority_level)
            && level.value > levels.value
            && self.outranks(levels, level, "batching.default_priority_level")
        {
            level.value = 0;
        }
    }

    /// True, and noted, when `winner` is from `model.toml` and `loser` is not.
    fn outranks<A, B>(&mut self, winner: &Placed<A>, loser: &Placed<B>, key: &'static str) -> bool {
        let outranks = winner.file == SpecFile::ModelToml && loser.file == SpecFile::ConfigPbtxt;
        if outranks {
            self.hidden.push(Hidden { key, winner: winner.place, hidden: loser.place });
        }
        outranks
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
