//! `weir load-probe`: tries a model file in a child process with limits and prints what happened, or, called with `-`, is that
//! child: what a gateway starts before it loads a model.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;

use super::{
    exit::{Exit, Failure, Report},
    flags::{probe_bytes, probe_seconds},
};
use crate::{
    app::probe::{self, CPU_SECONDS, MEMORY_BYTES, ProbeOptions, Probes},
    engine::{Artifact, Engine, Limits, LoadError, TractEngine, onnxruntime},
    observe::Metrics,
    registry::{
        RegistryConfig,
        bundle::{Bundle, Shelf, read_bundle},
        source::Place,
    },
    types::{ResourceSpec, Version},
};

/// What `weir load-probe` takes.
#[derive(Args, Clone, Debug)]
pub struct LoadProbeCommand {
    /// The model file; files that it keeps tensors in are read from its folder. - is what a gateway calls the child with
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The engine that runs it
    #[arg(long, value_name = "ENGINE", default_value = "tract")]
    engine: String,
    /// Most memory that it may take; a large model gets six times its size
    #[arg(long, value_name = "BYTES", default_value_t = MEMORY_BYTES, value_parser = probe_bytes())]
    memory_bytes: u64,
    /// Most CPU time that it may take; a large model gets a second more for every 16 MiB
    #[arg(long, value_name = "SECONDS", default_value_t = CPU_SECONDS, value_parser = probe_seconds())]
    cpu_seconds: u64,
    /// The ONNX Runtime library [default: found through ORT_DYLIB_PATH or in the Python package beside python3]
    #[arg(long, value_name = "FILE")]
    onnxruntime_lib: Option<PathBuf>,
}

/// What became of the command.
#[derive(Debug)]
pub enum Outcome {
    /// This process was the child, and has said what there is to say.
    Child(ExitCode),
    /// The child has ended.
    Report(Report),
}

/// Tries a model. Exit code 1 when it cannot be loaded.
///
/// # Errors
/// When the file cannot be read or no process can be started.
pub fn run(command: LoadProbeCommand) -> Result<Outcome, Failure> {
    if command.file == Path::new("-") {
        let code = probe::answer(io::stdin().lock(), io::stdout().lock(), &engine);
        return Ok(Outcome::Child(code.into()));
    }
    let options = ProbeOptions {
        memory_bytes: command.memory_bytes,
        cpu_seconds: command.cpu_seconds,
        onnxruntime_lib: command.onnxruntime_lib,
        ..ProbeOptions::new()
    };
    let artifact = read(&command.file)?;
    let limits = Limits { max_output_bytes: ResourceSpec::default().max_output_bytes };
    let probes = Probes::new(options, Metrics::new());
    let report = match probes.report(&command.engine, &artifact, &limits) {
        Ok(Some(report)) => report,
        Ok(None) => return Err(Failure::problem("no process could be started")),
        Err(died) => probe::Report::refused(&command.engine, died),
    };
    let line = serde_json::to_string(&report).map_err(|error| Failure::problem(error.to_string()))?;
    let exit = if report.good { Exit::Done } else { Exit::Problems };
    Ok(Outcome::Report(Report { exit, text: format!("{line}\n") }))
}

/// The engines that a child can be asked for, by name.
fn engine(name: &str, library: Option<&Path>) -> Result<Arc<dyn Engine>, LoadError> {
    match name {
        "tract" => Ok(Arc::new(TractEngine::new())),
        onnxruntime::NAME => {
            onnxruntime::open(library).map(|opened| opened.engine).map_err(|absent| LoadError::new(absent.to_string()))
        }
        other => Err(LoadError::new(format!("engine: expected \"tract\" or \"onnxruntime\", got {other:?}"))),
    }
}

/// A model file and what it refers to, as a version's folder would be read.
fn read(file: &Path) -> Result<Artifact, Failure> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("{}: expected a file", file.display())))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let version = Version::ONE;
    let max_bytes = RegistryConfig::new(folder).max_bytes;
    let shelf = Shelf { folder, version, place: Place::Bare, model_filename: name, max_bytes };
    let Bundle { artifact, .. } = read_bundle(shelf).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(artifact)
}
