//! The engines of this process: the embedded one, and ONNX Runtime where its library is. Called by `weir serve` and by the commands
//! that load models themselves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::StartError;
use crate::{
    engine::{
        TractEngine,
        onnxruntime::{Absent, Opened, open},
    },
    registry::Engines,
};

/// Given in place of a library: do not look for one.
const OFF: &str = "off";

/// How many times as fast as tract ONNX Runtime is on a model of the table in `docs/engines.md`, at the most. A test compares them.
const MEASURED: &str = "2.2";

/// The engines that there are; `named` is the ONNX Runtime library to use, or `off`. Says once what the absence of the second one
/// costs.
///
/// # Errors
/// When a library is named and cannot be used.
pub fn engines(named: Option<&Path>) -> Result<Engines, StartError> {
    engines_and_library(named).map(|(engines, _)| engines)
}

/// The same, and the library that was opened, so that a child need not look for it again.
///
/// # Errors
/// As [`engines`].
pub fn engines_and_library(named: Option<&Path>) -> Result<(Engines, Option<PathBuf>), StartError> {
    let engines = Engines::new(Arc::new(TractEngine::new()));
    if named == Some(Path::new(OFF)) {
        return Ok((engines.without_onnxruntime("onnxruntime: switched off by --onnxruntime-lib"), None));
    }
    let absent = match open(named) {
        Ok(Opened { engine, library }) => {
            tracing::info!(library = %library.display(), "onnxruntime: open");
            return Ok((engines.with_onnxruntime(engine), Some(library)));
        }
        Err(absent) if named.is_some() => return Err(StartError::new("--onnxruntime-lib", absent)),
        Err(absent) => absent,
    };
    match &absent {
        Absent::NotBuilt => {}
        Absent::NotFound => tracing::info!(
            "{absent}. Models run on tract; with the library (pip install onnxruntime), those that tract refuses are served too, and \
             every model runs on whichever of the two is faster here. By how much that is faster for these models is not known \
             without it; for those measured in docs/engines.md it is up to {MEASURED} times, most for convolutions"
        ),
        Absent::Unusable { .. } => tracing::warn!("{absent}"),
    }
    let why = match absent {
        // Reasons are told to clients, who need not know paths.
        Absent::Unusable { .. } => "onnxruntime: the library that was found cannot be used".to_owned(),
        absent => absent.to_string(),
    };
    Ok((engines.without_onnxruntime(why), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least ratio of tract to ONNX Runtime in the table of figures is the most that the library could bring.
    #[test]
    fn what_the_library_could_bring_is_what_was_measured() {
        let page = include_str!("../../docs/engines.md");
        let (_, figures) = page.split_once("\n## Figures\n").unwrap();
        let ratio = |line: &str| line.split('|').nth(4).and_then(|cell| cell.trim().parse::<f64>().ok());
        let least = figures.lines().filter_map(ratio).fold(f64::INFINITY, f64::min);
        assert_eq!(format!("{:.1}", 1.0 / least), MEASURED, "{least}");
    }

    #[test]
    fn what_was_opened_is_known() {
        assert_eq!(engines_and_library(Some(Path::new(OFF))).unwrap().1, None);
        let opened = open(None).ok().map(|opened| opened.library);
        assert_eq!(engines_and_library(None).unwrap().1, opened);
        let (_, library) = engines_and_library(opened.as_deref().or(Some(Path::new(OFF)))).unwrap();
        assert_eq!(library, opened);
    }
}
