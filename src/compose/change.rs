//! What operators ask of routes and what they are told: the words that the ops API, the command line and the keeper of the
//! routes share.

use std::{sync::Arc, time::SystemTime};

use crate::types::{Error, ModelName, RouteSpec};

/// A change of a route, as asked for.
#[derive(Clone, Debug)]
pub struct Change {
    /// The route.
    pub route: ModelName,
    /// What is to become of it.
    pub edit: Edit,
    /// What it must be now.
    pub expect: Expect,
    /// Who asks and why.
    pub author: Author,
    /// Nothing is written; the answer is what it would be.
    pub dry_run: bool,
}

/// What is to become of a route.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "changes are few and do not live long")]
pub enum Edit {
    /// This configuration, whatever it was before.
    Put(RouteSpec),
    /// These weights by name of variant; the others keep theirs, and the text keeps its comments.
    Weights(Vec<(Box<str>, f64)>),
    /// The configuration of an earlier revision.
    Rollback(u64),
    /// It goes; its history stays.
    Delete,
}

/// What a route must be for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Not there.
    Absent,
    /// At this revision.
    Revision(u64),
}

/// Who changes a route, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// A token's name, `local` without one, `file` for an edit by hand.
    pub who: Arc<str>,
    /// The reason given; may be empty.
    pub why: Box<str>,
}

/// A change that was made, or that would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The route.
    pub route: ModelName,
    /// Its revision from now on; of a dry run the one that it would get.
    pub revision: u64,
    /// Weights by name of variant, as they are now; empty unless it is a split.
    pub weights: Vec<(Box<str>, f64)>,
    /// Share of the keys that move to another variant, 0 to 1; 0 unless it was and is a split.
    pub moved: f64,
    /// Versions (`model/version`) that it needs and that were not loaded before.
    pub loads: Vec<String>,
    /// Versions that nothing names any more.
    pub unloads: Vec<String>,
    /// What is wrong with it; only of dry runs, others are refused.
    pub problems: Vec<String>,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such route, or no such revision.
    #[error("{0}")]
    NotFound(String),
    /// The configuration is not in order: every problem, each naming file, key and reason.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// It is at another revision than was expected, or there although it must not be.
    #[error("{text}")]
    Stale {
        /// What is the case.
        text: String,
        /// The live revision; `None` when there is no such route.
        live: Option<u64>,
    },
    /// It does not fit the state: read-only, named by another route.
    #[error("{0}")]
    Conflict(String),
    /// Anything else: shutting down, too much to do, the disk.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A revision of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub at: SystemTime,
    /// By whom and why.
    pub author: Author,
    /// The revision that it replaced or, of a rollback, whose configuration it has; 0 = none.
    pub from: u64,
}

/// A route at one moment, as operators see it.
#[derive(Clone, Debug)]
pub struct RouteState {
    /// Its name.
    pub name: ModelName,
    /// What serves; `None` until a first revision has been accepted.
    pub live: Option<LiveRoute>,
    /// What is wrong: with its file, which then does not serve, or with what it names. Empty when all is well.
    pub problems: Vec<String>,
    /// False when its folder cannot be written to: revisions then count from 1 in memory.
    pub writable: bool,
}

/// A revision that serves.
#[derive(Clone, Debug)]
pub struct LiveRoute {
    /// Which one.
    pub revision: Revision,
    /// Its configuration.
    pub spec: Arc<RouteSpec>,
    /// The text of its `route.toml`.
    pub text: Arc<str>,
}
