//! A model's configuration as its folder has it: `model.toml` over `config.pbtxt`, and the label files that the latter names.
//! Read by the manager when those files have settled, and by `weir check`.

use std::{path::Path, sync::Arc};

use super::{
    files::Folder,
    source::{CONFIG_PBTXT, MODEL_TOML},
};
use crate::{
    engine::LoadError,
    spec::{
        config_pbtxt::LabelFile,
        declared::Declared,
        labels::parse_labels,
        merge::{ModelFiles, read_model_files},
    },
    types::{ModelName, ModelSpec},
};

/// The largest configuration or label file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// What is configured about a model.
#[derive(Clone, Debug, Default)]
pub struct ModelConfig {
    /// The configuration proper, with class names.
    pub spec: Arc<ModelSpec>,
    /// Inputs and outputs that every version must have.
    pub declared: Declared,
    /// The files with class names, in the model's folder.
    pub label_files: Vec<Box<str>>,
    /// What has no effect, and why; for `weir check`.
    pub notes: Vec<String>,
}

impl ModelConfig {
    /// Whether a servable made under this configuration must be made again under `other`. Versions, labels, deadlines and
    /// readiness are applied without.
    pub fn rebuilds(&self, other: &Self) -> bool {
        let (a, b) = (&self.spec, &other.spec);
        a.engine != b.engine
            || a.batching != b.batching
            || a.resources != b.resources
            || a.score != b.score
            || a.class_names != b.class_names
            || a.model_filename != b.model_filename
            || self.declared != other.declared
    }
}

/// Reads the configuration in a model's folder; the defaults when there is none.
///
/// # Errors
/// Everything that is wrong, each with its file, place and key.
pub fn read_config(model: &ModelName, folder: &Path) -> Result<ModelConfig, Vec<String>> {
    let one = |error: LoadError| vec![error.to_string()];
    let folder = Folder::open(folder).map_err(one)?;
    let model_toml = text(&folder, MODEL_TOML).map_err(one)?;
    let config_pbtxt = text(&folder, CONFIG_PBTXT).map_err(one)?;
    let files =
        ModelFiles { folder: model.as_str(), model_toml: model_toml.as_deref(), config_pbtxt: config_pbtxt.as_deref() };
    let read =
        read_model_files(&files).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut spec = read.spec;
    let mut problems = Vec::new();
    for label_file in &read.label_files {
        match class_names(&folder, label_file) {
            Ok(names) => drop(spec.class_names.insert(label_file.output.clone(), names)),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let hidden = read.hidden.iter().map(ToString::to_string);
    let notes = read.notes.iter().map(ToString::to_string).chain(hidden);
    let notes = notes.map(|note| format!("{CONFIG_PBTXT}: {note}")).collect();
    let label_files = read.label_files.into_iter().map(|label_file| label_file.file).collect();
    Ok(ModelConfig { spec: Arc::new(spec), declared: read.declared, label_files, notes })
}

fn text(folder: &Folder, name: &str) -> Result<Option<String>, LoadError> {
    let Some(content) = folder.read(name, MAX_BYTES)? else { return Ok(None) };
    String::from_utf8(content.bytes).map(Some).map_err(|_| LoadError::new(format!("{name}: is not UTF-8")))
}

/// One class name a line.
fn class_names(folder: &Folder, label_file: &LabelFile) -> Result<Vec<Box<str>>, String> {
    let wrong = |what: &dyn std::fmt::Display| {
        let LabelFile { key, place, .. } = label_file;
        format!("{CONFIG_PBTXT}: line {}, column {}: {key}: {what}", place.line, place.column)
    };
    match text(folder, &label_file.file) {
        Ok(Some(text)) => Ok(parse_labels(&text)),
        Ok(None) => Err(wrong(&format_args!("{}: not found", label_file.file))),
        Err(error) => Err(wrong(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BatchLimit, EngineChoice, VersionPolicy};

    fn read(files: &[(&str, &str)]) -> Result<ModelConfig, Vec<String>> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        read_config(&ModelName::parse("m").unwrap(), root.path())
    }

    #[test]
    fn both_files_and_labels_come_together() {
        assert_eq!(*read(&[]).unwrap().spec, ModelSpec::default());
        let pbtxt = "max_batch_size: 8\ndynamic_batching {}\noutput [{ name: \"y\" data_type: TYPE_FP32 dims: [2] \
                     label_filename: \"labels.txt\" }]\n";
        let config = read(&[
            ("model.toml", "versions = \"all\"\n[batching]\nmax_batch_size = 4\n"),
            ("config.pbtxt", pbtxt),
            ("labels.txt", "cat\ndog \r\n"),
        ])
        .unwrap();
        assert_eq!(config.spec.versions, VersionPolicy::All);
        assert_eq!(config.spec.batching.max_batch_size, BatchLimit::Rows(4));
        assert_eq!(*config.spec.class_names["y"], [Box::from("cat"), Box::from("dog")]);
        assert_eq!(config.declared.outputs.len(), 1);
        assert!(config.notes.iter().any(|note| note.contains("hidden by line 3 of model.toml")), "{:?}", config.notes);
    }

    #[test]
    fn every_problem_names_file_and_key() {
        let toml = read(&[("model.toml", "engine = \"cuda\"\nrequired = 1\n")]).unwrap_err();
        assert_eq!(toml.len(), 2);
        assert!(toml[0].starts_with("model.toml: line 1, column "), "{toml:?}");
        assert!(toml[0].contains("engine"), "{toml:?}");
        let pbtxt = "output [{ name: \"y\" dims: [2] label_filename: \"labels.txt\" }]";
        let labels = read(&[("config.pbtxt", pbtxt)]).unwrap_err();
        assert!(labels[0].ends_with("output[0].label_filename: labels.txt: not found"), "{labels:?}");
        let binary = tempfile::tempdir().unwrap();
        std::fs::write(binary.path().join(MODEL_TOML), [0xff]).unwrap();
        let problems = read_config(&ModelName::parse("m").unwrap(), binary.path()).unwrap_err();
        assert_eq!(problems, ["model.toml: is not UTF-8"]);
    }

    #[test]
    fn what_needs_a_rebuild() {
        let base = ModelConfig::default();
        let with = |change: &dyn Fn(&mut ModelSpec)| {
            let mut spec = ModelSpec::default();
            change(&mut spec);
            ModelConfig { spec: Arc::new(spec), ..ModelConfig::default() }
        };
        assert!(base.rebuilds(&with(&|spec| spec.engine = EngineChoice::Tract)));
        assert!(base.rebuilds(&with(&|spec| spec.batching.max_queue_rows = 1)));
        assert!(!base.rebuilds(&with(&|spec| spec.versions = VersionPolicy::All)));
        assert!(!base.rebuilds(&with(&|spec| spec.required = true)));
    }
}
