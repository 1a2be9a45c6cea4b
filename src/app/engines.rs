//! The engines of this process: the embedded one, and ONNX Runtime where its library is. Called by `weir serve` and by the commands
//! that load models themselves.

use std::{path::Path, sync::Arc};

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

/// The engines that there are; `named` is the ONNX Runtime library to use, or `off`. Says once what the absence of the second one
/// costs.
///
/// # Errors
/// When a library is named and cannot be used.
pub fn engines(named: Option<&Path>) -> Result<Engines, StartError> {
    let engines = Engines::new(Arc::new(TractEngine::new()));
    if named == Some(Path::new(OFF)) {
        return Ok(engines.without_onnxruntime("onnxruntime: switched off by --onnxruntime-lib"));
    }
    let absent = match open(named) {
        Ok(Opened { engine, library }) => {
            tracing::info!(library = %library.display(), "onnxruntime: open");
            return Ok(engines.with_onnxruntime(engine));
        }
        Err(absent) if named.is_some() => return Err(StartError::new("--onnxruntime-lib", absent)),
        Err(absent) => absent,
    };
    match &absent {
        Absent::NotBuilt => {}
        Absent::NotFound => tracing::info!(
            "{absent}. Models run on tract; with the library (pip install onnxruntime), those that tract refuses are served too, and \
             every model runs on whichever of the two is faster here: docs/engines.md has figures"
        ),
        Absent::Unusable { .. } => tracing::warn!("{absent}"),
    }
    let why = match absent {
        // Reasons are told to clients, who need not know paths.
        Absent::Unusable { .. } => "onnxruntime: the library that was found cannot be used".to_owned(),
        absent => absent.to_string(),
    };
    Ok(engines.without_onnxruntime(why))
}
