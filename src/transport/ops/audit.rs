//! The record of what operators attempt. Changes of routes that are made are recorded by their keeper; what is refused, and
//! what is done to models, is recorded here.

use std::sync::Arc;

use http::{Method, StatusCode};

/// What events of the record are told apart by.
const TARGET: &str = "weir::audit";
/// Bytes of a path that are recorded.
const MAX_PATH_BYTES: usize = 256;

/// An attempt to change something.
#[derive(Clone, Debug)]
pub(super) struct Attempt<'a> {
    /// The token's name, `local` where none is asked for, empty when it was not accepted.
    pub(super) who: Arc<str>,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
}

impl Attempt<'_> {
    /// It was refused with this status and text.
    pub(super) fn refused(self, status: StatusCode, text: &str) {
        let (who, method, path, status) = (&*self.who, self.method.as_str(), self.path(), status.as_u16());
        tracing::warn!(target: TARGET, who, method, path, status, reason = text, "refused");
    }

    /// It was done.
    pub(super) fn done(self, why: &str) {
        let (who, method, path) = (&*self.who, self.method.as_str(), self.path());
        tracing::info!(target: TARGET, who, method, path, why, "done");
    }

    fn path(&self) -> &str {
        &self.path[..self.path.floor_char_boundary(MAX_PATH_BYTES)]
    }
}
