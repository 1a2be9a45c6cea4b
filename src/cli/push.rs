//! `weir push`: publishes a version of a model into a registry directory, all at once or not at all. The gateway that watches
//! the directory does the rest; none needs to run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    exit::{Failure, Report},
    layers,
    output::Output,
    table::{Paint, Table},
};
use crate::{
    registry::{
        bundle::GOLDEN_JSON,
        config::read_config,
        publish::{Publication, Published, publish},
        source::MODEL_ONNX,
    },
    spec::golden_json::parse_golden_json,
    types::{ModelName, Version},
};

/// What `weir push` takes.
#[derive(Args, Clone, Debug)]
pub struct PushCommand {
    /// Name of the model; a new one is made
    #[arg(value_parser = model_name)]
    model: ModelName,
    /// The model file, or a folder with it and what belongs to the version
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The registry directory [default: that of serve] [env: WEIR_REGISTRY]
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// The version [default: one more than the highest]
    #[arg(long, value_name = "NUMBER", value_parser = version)]
    version: Option<Version>,
    /// File of golden answers, which the gateway compares before it serves the version
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Publishes.
///
/// # Errors
/// When the files do not make a version, the version exists, or the registry is not there or cannot be written.
pub fn run(command: PushCommand) -> Result<Report, Failure> {
    let registry = layers::registry(command.registry, &layers::Process)?;
    // A volume that is not mounted or a name with a slip in it: what is published there would never be served.
    fs::read_dir(&registry).map_err(|error| Failure::usage(format!("registry {}: {error}", registry.display())))?;
    let beside = || Some(command.file.join(GOLDEN_JSON)).filter(|path| path.is_file());
    if let Some(golden) = command.golden.clone().or_else(beside) {
        check_golden(&golden)?;
    }
    let model_filename = model_filename(&command.model, &registry)?;
    let publication = Publication {
        model: &command.model,
        from: &command.file,
        model_filename: &model_filename,
        version: command.version,
        golden: command.golden.as_deref(),
    };
    let published = publish(&registry, publication).map_err(|error| Failure::problem(error.to_string()))?;
    Ok(Report::done(if command.output.is_json() {
        json(&command.model, &published)
    } else {
        text(&command.model, &published, Paint::of_stdout())
    }))
}

/// The name that the model's configuration gives to model files.
fn model_filename(model: &ModelName, registry: &Path) -> Result<Box<str>, Failure> {
    let folder = registry.join(model.as_str());
    if !folder.exists() {
        return Ok(MODEL_ONNX.into());
    }
    match read_config(model, &folder) {
        Ok(config) => Ok(config.spec.model_filename.clone()),
        Err(problems) => {
            let lines: Vec<_> = problems.iter().map(|problem| format!("model '{model}': {problem}")).collect();
            Err(Failure::problem(lines.join("\n")))
        }
    }
}

/// Golden answers that cannot be read would keep the version from being served.
fn check_golden(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| Failure::problem(format!("{shown}: {error}")))?;
    parse_golden_json(&text).map(|_| ()).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|problem| format!("{shown}: {problem}")).collect();
        Failure::problem(lines.join("\n"))
    })
}

fn text(model: &ModelName, published: &Published, paint: Paint) -> String {
    let mut files = Table::new(&["FILE", "BYTES", "SHA-256"]);
    for file in &published.files {
        files.row([file.name.as_str().into(), file.size.into(), file.sha256.as_str().into()]);
    }
    let Published { version, folder, .. } = published;
    format!("published {model} version {version}: {}\n\n{}", folder.display(), files.render(paint))
}

fn json(model: &ModelName, published: &Published) -> String {
    let files: Vec<_> = published
        .files
        .iter()
        .map(|file| serde_json::json!({ "name": file.name, "size": file.size, "sha256": file.sha256 }))
        .collect();
    let folder = published.folder.display().to_string();
    let version = published.version.get();
    format!(
        "{}\n",
        serde_json::json!({ "model": model.as_str(), "version": version, "folder": folder, "files": files })
    )
}

fn model_name(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).map_err(|error| error.to_string())
}

fn version(text: &str) -> Result<Version, &'static str> {
    Version::parse(text).ok_or("expected a positive integer without leading zeros")
}
