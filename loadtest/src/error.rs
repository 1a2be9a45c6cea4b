//! The one error type: a sentence for the person at the terminal. Everything that can fail before or around a run
//! returns it; failures of single requests are data (`sender::Failure`), not errors.

use std::fmt;

/// A sentence `<subject>: <what went wrong>`, shown as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(String);

/// Result of everything that can fail outside a request.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// `subject` says where (`input x`, `--url`), `what` says what is wrong there.
    pub(crate) fn new(subject: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self(format!("{subject}: {what}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}
