//! Opens the library, once per process: its global state cannot be made twice. Called by `open`.

use std::{
    path::{self, Path, PathBuf},
    sync::Arc,
};

use ort::{environment::Environment, logging::LogLevel};
use parking_lot::Mutex;

use super::{super::guard, Absent, Opened, find::Surroundings, model::OnnxRuntimeEngine};
use crate::observe::panics;

/// The variable by which other programs that use the library find it, too.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library that is open, to the end of the process.
static OPENED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// As [`super::open`].
pub(super) fn open(named: Option<&Path>) -> Result<Opened, Absent> {
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(library) = named.map(Path::to_path_buf).or(variable) {
        return open_one(&library);
    }
    let mut why = Absent::NotFound;
    for library in Surroundings::of_process().libraries() {
        match open_one(&library) {
            Ok(opened) => return Ok(opened),
            Err(absent) => why = absent,
        }
    }
    Err(why)
}

fn open_one(library: &Path) -> Result<Opened, Absent> {
    let unusable = |why: String| Absent::Unusable { library: library.to_owned(), why };
    // A relative path would be looked for in the system's folders of libraries.
    let absolute = path::absolute(library).map_err(|error| unusable(error.to_string()))?;
    if !absolute.is_file() {
        return Err(unusable("not found".to_owned()));
    }
    let mut opened = OPENED.lock();
    let environment = match &*opened {
        Some((other, environment)) if *other == absolute => environment.clone(),
        Some((other, _)) => return Err(unusable(format!("'{}' is open already", other.display()))),
        None => {
            let environment = environment(&absolute).map_err(unusable)?;
            *opened = Some((absolute, environment.clone()));
            environment
        }
    };
    Ok(Opened { engine: Arc::new(OnnxRuntimeEngine::new(environment)), library: library.to_owned() })
}

fn environment(library: &Path) -> Result<Environment, String> {
    let made = panics::contain(|| {
        let builder = ort::init_from(library).map_err(|error| guard::error_text(&error))?;
        let logger = |level: LogLevel, category: &str, _: &str, place: &str, text: &str| {
            tracing::debug!(?level, category, place, "onnxruntime: {text}");
        };
        let builder = builder.with_name("weir").with_telemetry(false).with_logger(Arc::new(logger));
        let environment = builder.build().map_err(|error| guard::error_text(&error))?;
        environment.set_log_level(LogLevel::Warning);
        Ok(environment)
    });
    made.unwrap_or_else(|panic| Err(format!("panicked: {}", panics::text(&*panic))))
}
