//! How a command ends: what it prints, and the exit code that scripts see.

use std::process::ExitCode;

/// The meanings of exit codes. 3 (the drain deadline passed) comes from `shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It worked.
    Done = 0,
    /// It ran and found something wrong, or was refused.
    Problems = 1,
    /// It was called or configured wrongly, and did nothing.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// One problem a line; not empty.
    pub text: String,
}

impl Failure {
    /// Called or configured wrongly.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// It ran, and found this.
    pub fn problem(text: impl Into<String>) -> Self {
        Self { exit: Exit::Problems, text: text.into() }
    }
}

/// What a command has to say when it worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Done or, when the text lists problems, Problems.
    pub exit: Exit,
    /// Standard output, as it is.
    pub text: String,
}

impl Report {
    /// It worked; `text` goes to standard output.
    pub fn done(text: impl Into<String>) -> Self {
        Self { exit: Exit::Done, text: text.into() }
    }
}
