//! What operators see of routes: the JSON of every answer about them, as `weir split` reads it.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    compose::{Changed, Revision, RouteState},
    spec::route_to_json,
    types::{Error, RouteKind, RouteSpec, rfc3339},
};

/// `GET /ops/routes`.
#[derive(Debug, Serialize)]
pub(super) struct Routes<'s> {
    pub(super) routes: Vec<Route<'s>>,
}

/// `GET /ops/routes/{route}`. What is `null` is not there: nothing serves.
#[derive(Debug, Serialize)]
pub(super) struct Route<'s> {
    name: &'s str,
    kind: Option<&'static str>,
    revision: Option<u64>,
    /// When the revision was made, by whom and why.
    at: Option<String>,
    who: Option<&'s str>,
    why: Option<&'s str>,
    /// What is wrong with its file or with what it names.
    problems: &'s [String],
    /// False: changes are lost when the process ends.
    writable: bool,
    /// By name of variant, in the order of the file; empty unless it is a split.
    weights: Weights<'s>,
    /// The configuration, as `PUT` takes it.
    route: Option<Value>,
    /// The text of its file; not in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'s str>,
}

/// Names and numbers as an object that keeps their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Weights<'s>(Vec<(&'s str, f64)>);

/// The answer to a change.
#[derive(Debug, Serialize)]
struct Change<'s> {
    route: &'s str,
    revision: u64,
    weights: Weights<'s>,
    moved: f64,
    loads: &'s [String],
    unloads: &'s [String],
    #[serde(flatten)]
    dry: Option<Dry<'s>>,
}

/// What only the answer to a dry run has.
#[derive(Debug, Serialize)]
struct Dry<'s> {
    dry_run: bool,
    problems: &'s [String],
}

/// `GET …/history`, newest first.
#[derive(Debug, Serialize)]
struct History<'s> {
    route: &'s str,
    revisions: Vec<Entry<'s>>,
}

#[derive(Debug, Serialize)]
struct Entry<'s> {
    revision: u64,
    at: String,
    who: &'s str,
    why: &'s str,
    from: u64,
}

/// `GET …/assignment`.
#[derive(Debug, Serialize)]
pub(super) struct Assignment<'s> {
    pub(super) key: &'s str,
    pub(super) variant: &'s str,
    pub(super) u: f64,
    pub(super) revision: u64,
    pub(super) sticky: bool,
}

/// An error with everything that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Problems<'s> {
    pub(super) error: &'s str,
    pub(super) problems: &'s [String],
}

/// Writes an answer.
///
/// # Errors
/// `Internal`, which does not happen to what is here.
pub(super) fn json(view: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(view).map_err(|error| Error::internal("server: the answer cannot be written", error))
}

/// A route in the list, or, with the text of its file, by itself.
pub(super) fn route(state: &RouteState, alone: bool) -> Route<'_> {
    let live = state.live.as_ref();
    let revision = live.map(|live| &live.revision);
    Route {
        name: state.name.as_str(),
        kind: live.map(|live| live.spec.kind.as_str()),
        revision: revision.map(|revision| revision.number),
        at: revision.map(|revision| rfc3339(revision.at)),
        who: revision.map(|revision| &*revision.author.who),
        why: revision.map(|revision| &*revision.author.why),
        problems: &state.problems,
        writable: state.writable,
        weights: live.map(|live| weights(&live.spec)).unwrap_or_default(),
        route: live.map(|live| route_to_json(&live.spec)),
        text: live.filter(|_| alone).map(|live| &*live.text),
    }
}

/// The answer to a change that was made or, with `dry_run`, that would be.
///
/// # Errors
/// As [`json`].
pub(super) fn changed(changed: &Changed, dry_run: bool) -> Result<String, Error> {
    let weights = changed.weights.iter().map(|(name, weight)| (&**name, *weight));
    json(&Change {
        route: changed.route.as_str(),
        revision: changed.revision,
        weights: Weights(weights.collect()),
        moved: changed.moved,
        loads: &changed.loads,
        unloads: &changed.unloads,
        dry: dry_run.then_some(Dry { dry_run, problems: &changed.problems }),
    })
}

/// The revisions of a route, from the newest.
///
/// # Errors
/// As [`json`].
pub(super) fn history(route: &str, revisions: &[Revision]) -> Result<String, Error> {
    let mut revisions: Vec<_> = revisions.iter().map(entry).collect();
    revisions.sort_by_key(|entry| std::cmp::Reverse(entry.revision));
    json(&History { route, revisions })
}

fn entry(revision: &Revision) -> Entry<'_> {
    Entry {
        revision: revision.number,
        at: rfc3339(revision.at),
        who: &revision.author.who,
        why: &revision.author.why,
        from: revision.from,
    }
}

fn weights(spec: &RouteSpec) -> Weights<'_> {
    match &spec.kind {
        RouteKind::Split(split) => Weights(split.variants.iter().map(|v| (&*v.name, v.weight)).collect()),
        RouteKind::Cascade(_) | RouteKind::Switch(_) | RouteKind::Ensemble(_) => Weights::default(),
    }
}

impl Serialize for Weights<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// A weight as people write it: 90, not 90.0.
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Weight {
            Whole(u64),
            Fraction(f64),
        }
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let weight = |weight: f64| match weight {
            whole if whole.fract() == 0.0 && (0.0..=EXACT).contains(&whole) => Weight::Whole(whole as u64),
            fraction => Weight::Fraction(fraction),
        };
        serializer.collect_map(self.0.iter().map(|(name, of)| (name, weight(*of))))
    }
}
