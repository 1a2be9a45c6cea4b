//! What the two JSON readers share: turning serde's errors into problems with a place.

use super::problem::{Place, Problem};

/// The problem that a JSON error stands for; `base` is where the parsed text begins in its file.
pub(super) fn problem(error: &serde_json::Error, base: Place, key: &str) -> Problem {
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&suffix).unwrap_or(&text).to_owned();
    let place = match error.line() {
        0 => base,
        1 => Place { line: base.line, column: base.column + error.column().max(1) - 1 },
        line => Place { line: base.line + line - 1, column: error.column().max(1) },
    };
    place.problem(key, text)
}

/// The place where a text begins.
pub(super) const START: Place = Place { line: 1, column: 1 };
