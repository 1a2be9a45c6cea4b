//! The load probe as layers below the command line know it: something that tries an artifact where nothing that happens can
//! harm this process. An allocation that fails, an abort inside an engine and a stack that overflows end a process, and no
//! handler here can stop that; so the artifact is parsed, compiled and run once somewhere else before it is loaded here. The
//! server hands down what starts such a process; a program that embeds Weir need not have one. Called by the registry's loader.

use std::fmt;

use super::{Artifact, Limits, LoadError};

/// Tries artifacts in processes of their own.
///
/// One call is one process and takes as long as that lives, which is bounded: call it where waiting is allowed, from a thread
/// that outlives the call (the process ends when the thread that started it does).
pub trait LoadProbe: Send + Sync + fmt::Debug {
    /// Parses and compiles an artifact for one row and runs it once, with the engine of that name ([`super::Engine::name`]).
    /// Good also when no process could be started: that says nothing about the artifact, and the log says why.
    ///
    /// # Errors
    /// What the engine says of the artifact, in its own words; or how the process ended:
    /// `<engine>: the load probe was killed: out of memory (limit 6 GiB)`.
    fn probe(&self, engine: &str, artifact: &Artifact, limits: &Limits) -> Result<(), LoadError>;
}
