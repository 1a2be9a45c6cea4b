//! The record of changes of routes: who, when, why, from which revision to which. Every change that was made is an event of
//! target `weir::audit`; every attempt, also one that was refused, is a JSON line of the audit file when there is one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use serde::Serialize;

use crate::{
    compose::{ChangeError, Edit},
    types::rfc3339,
};

/// What events of the record are told apart by.
const TARGET: &str = "weir::audit";

/// Bytes of a refusal that are recorded.
const MAX_OUTCOME: usize = 4096;

/// Where attempts are recorded.
#[derive(Debug, Default)]
pub(super) struct Audit {
    file: Option<File>,
}

/// An attempt to change a route.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The route, as it was called: it need not be one.
    pub route: &'a str,
    /// Who made it; empty when that is not known.
    pub who: &'a str,
    /// Why; empty when that was not said, or not read.
    pub why: &'a str,
    /// `put`, `weights`, `rollback`, `delete`, or `edit` for one by hand.
    pub action: &'a str,
    /// The revision that was live before.
    pub from: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    at: String,
    who: &'a str,
    route: &'a str,
    why: &'a str,
    from: Option<u64>,
    to: Option<u64>,
    action: &'a str,
    outcome: &'a str,
}

impl Audit {
    /// Appends to a file, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn new(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: path.map(open).transpose()? })
    }

    /// It was made: the route is at revision `to`.
    pub(super) fn made(&self, attempt: Attempt<'_>, to: u64, at: SystemTime) {
        let Attempt { route, who, why, action, from } = attempt;
        tracing::info!(target: TARGET, route, who, why, from, to, action, outcome = "ok", "route changed");
        self.write(attempt, Some(to), "ok", at);
    }

    /// It was not made.
    pub(super) fn refused(&self, attempt: Attempt<'_>, error: &ChangeError, at: SystemTime) {
        let what = match error {
            ChangeError::NotFound(_) => "not_found",
            ChangeError::Refused(_) => "refused",
            ChangeError::Stale { .. } => "stale",
            ChangeError::Conflict(_) => "conflict",
            ChangeError::Failed(_) => "failed",
        };
        self.turned_away(attempt, &format!("{what}: {error}"), at);
    }

    /// It was not made, for a reason that is already text.
    pub(super) fn turned_away(&self, attempt: Attempt<'_>, outcome: &str, at: SystemTime) {
        self.write(attempt, None, &outcome[..outcome.floor_char_boundary(MAX_OUTCOME)], at);
    }

    fn write(&self, attempt: Attempt<'_>, to: Option<u64>, outcome: &str, at: SystemTime) {
        let Some(mut file) = self.file.as_ref() else { return };
        let Attempt { route, who, why, action, from } = attempt;
        let line = Line { at: rfc3339(at), who, route, why, from, to, action, outcome };
        // One write a line, so that lines of several processes do not mix.
        let written = serde_json::to_string(&line).map_err(io::Error::other);
        if let Err(error) = written.and_then(|line| file.write_all(format!("{line}\n").as_bytes())) {
            tracing::error!(%error, "the audit file cannot be written to");
        }
    }
}

/// What an edit is called in the record.
pub(super) fn action(edit: &Edit) -> &'static str {
    match edit {
        Edit::Put(_) => "put",
        Edit::Weights(_) => "weights",
        Edit::Rollback(_) => "rollback",
        Edit::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_attempt_is_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let attempt = Attempt { route: "r", who: "anna", why: "a \"b\"\nc", action: "weights", from: Some(3) };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        Audit::new(None).unwrap().made(attempt, 4, at);
        for _ in 0..2 {
            let audit = Audit::new(Some(&path)).unwrap();
            audit.made(attempt, 4, at);
            audit.refused(Attempt { from: None, ..attempt }, &ChangeError::Conflict("ä".repeat(4000)), at);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[2],
            r#"{"at":"1970-01-01T00:00:01.500Z","who":"anna","route":"r","why":"a \"b\"\nc","from":3,"to":4,"action":"weights","outcome":"ok"}"#
        );
        let refused: serde_json::Value = serde_json::from_str(lines[3]).unwrap();
        let outcome = refused["outcome"].as_str().unwrap();
        assert!(refused["to"].is_null() && outcome.starts_with("conflict: ää") && outcome.len() <= MAX_OUTCOME);
        assert!(Audit::new(Some(dir.path())).is_err());
    }
}
