//! The second engine: ONNX Runtime, for graphs that tract cannot run or runs slower. Its shared library is opened when the
//! process starts, if one is found; nothing is linked. With the cargo feature `onnxruntime`; without it [`open`] says that the
//! engine is not in this build. Called by the application, and through the traits of the parent module.
//!
//! | file | what it is |
//! |---|---|
//! | `find` | where the library is looked for |
//! | `library` | opens it, once per process |
//! | `graph` | what is changed in a file before the library sees it |
//! | `model`, `probing` | the signature of a graph |
//! | `pool` | the library's own sessions, shared by those that run at the same time |
//! | `session`, `answers`, `values` | buffers and runs |
//! | `unfit` | which failures are about the sizes of a request |

#[cfg(feature = "onnxruntime")]
mod answers;
#[cfg(feature = "onnxruntime")]
mod find;
#[cfg(feature = "onnxruntime")]
mod graph;
#[cfg(feature = "onnxruntime")]
mod library;
#[cfg(feature = "onnxruntime")]
mod model;
#[cfg(feature = "onnxruntime")]
mod pool;
#[cfg(feature = "onnxruntime")]
mod probing;
#[cfg(feature = "onnxruntime")]
mod session;
#[cfg(feature = "onnxruntime")]
mod unfit;
#[cfg(feature = "onnxruntime")]
mod values;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Engine;

/// The engine's name in configuration, metrics and views.
pub const NAME: &str = "onnxruntime";

/// An engine and where its library is.
#[derive(Clone)]
pub struct Opened {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The shared library.
    pub library: PathBuf,
}

/// Why there is no such engine in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// The cargo feature is off.
    #[error("onnxruntime is not in this build")]
    NotBuilt,
    /// No library was named, and there is none in the usual places.
    #[error("onnxruntime: no library was found: expected --onnxruntime-lib, ORT_DYLIB_PATH, or the Python package")]
    NotFound,
    /// A library was named or found, but cannot be used.
    #[error("onnxruntime: library '{}': {why}", .library.display())]
    Unusable {
        /// The library.
        library: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Opens the library that is named; else the one that `ORT_DYLIB_PATH` names; else one that is found beside `python3`.
///
/// # Errors
/// Why there is none. A library that is named and cannot be used is never replaced by another.
#[cfg(feature = "onnxruntime")]
pub fn open(named: Option<&Path>) -> Result<Opened, Absent> {
    library::open(named)
}

/// Says that the engine is not in this build.
///
/// # Errors
/// Always.
#[cfg(not(feature = "onnxruntime"))]
pub fn open(_named: Option<&Path>) -> Result<Opened, Absent> {
    Err(Absent::NotBuilt)
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("library", &self.library).finish_non_exhaustive()
    }
}
