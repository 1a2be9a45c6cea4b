//! The ops API of routes: reads a request into a [`Change`] or a question, asks the keeper of the routes, and writes the answer.
//! Who asks has been found out before; the keeper decides whether a change is in order.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::{
    bodies::{self, MAX_REVISION, Said},
    conditions::{Condition, Failed as NotMet, etag},
    paths::{Asked, Topic},
    query::Query,
    refusal::Refusal,
    report,
    views::{self, Assignment, Routes},
};
use crate::{
    compose::{self, Author, Change, ChangeError, Changed, Edit, Expect, Revision, RouteState, assign::Assigner},
    observe::Metrics,
    spec::Problem,
    transport::{
        body::Body,
        http::reply::{json, typed},
    },
    types::{Error, ModelName, RouteKind},
};

/// The reason of a change, for bodies that have no place for it.
const WHY: HeaderName = HeaderName::from_static("x-weir-why");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// How often a change is tried whose condition holds for several revisions, while others change the route.
const ATTEMPTS: usize = 16;

/// Who keeps the routes.
pub(super) trait Keeper: Sync {
    /// Every route, by name.
    fn list(&self) -> Vec<Arc<RouteState>>;
    /// One route.
    fn get(&self, name: &str) -> Option<Arc<RouteState>>;
    /// Every revision that a route has had, also one that is gone.
    fn history(&self, name: &str) -> Result<Vec<Revision>, ChangeError>;
    /// A revision and the text of its file.
    fn revision(&self, name: &str, number: u64) -> Result<(Revision, String), ChangeError>;
    /// Makes a change, or says what it would be.
    fn change(&self, change: Change) -> impl Future<Output = Result<Changed, ChangeError>> + Send;
}

impl Keeper for compose::Routes {
    fn list(&self) -> Vec<Arc<RouteState>> {
        self.list()
    }

    fn get(&self, name: &str) -> Option<Arc<RouteState>> {
        self.get(name)
    }

    fn history(&self, name: &str) -> Result<Vec<Revision>, ChangeError> {
        self.history(name)
    }

    fn revision(&self, name: &str, number: u64) -> Result<(Revision, String), ChangeError> {
        self.revision(name, number)
    }

    async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        self.change(change).await
    }
}

/// A request about routes.
#[derive(Debug)]
pub(super) struct Call<'c, 'p> {
    pub(super) asked: &'c Asked<'p>,
    pub(super) parts: &'c Parts,
    pub(super) who: Arc<str>,
    /// Empty for questions.
    pub(super) body: Bytes,
}

/// Answers a request about routes.
///
/// # Errors
/// Everything that [`Refusal`] has.
pub(super) async fn answer(
    keeper: &impl Keeper,
    metrics: &Metrics,
    call: Call<'_, '_>,
) -> Result<Response<Body>, Refusal> {
    match call.write()? {
        None => call.read(keeper, metrics),
        Some(write) => write.make(keeper).await,
    }
}

impl Call<'_, '_> {
    fn read(&self, keeper: &impl Keeper, metrics: &Metrics) -> Result<Response<Body>, Refusal> {
        let name = self.asked.name(0);
        let known: &[&str] = if self.asked.topic == Topic::Assignment { &["key"] } else { &[] };
        let query = Query::read(self.parts.uri.query(), known)?;
        match self.asked.topic {
            Topic::Routes => {
                let states = keeper.list();
                let routes = states.iter().map(|state| views::route(state, false)).collect();
                Ok(json(views::json(&Routes { routes })?))
            }
            Topic::History => Ok(json(views::history(name, &keeper.history(name)?)?)),
            Topic::Revision => {
                let (revision, text) = keeper.revision(name, number(self.asked.name(1))?)?;
                Ok(tagged(typed(StatusCode::OK, TEXT, text), Some(revision.number)))
            }
            Topic::Assignment => {
                let key = query.text("key")?.ok_or_else(|| Error::invalid("query: key: expected ?key=…"))?;
                let state = keeper.get(name).ok_or_else(|| not_found(name))?;
                assignment(&state, &key)
            }
            Topic::Report => {
                let state = keeper.get(name).ok_or_else(|| not_found(name))?;
                Ok(json(report::json(&state, &metrics.route(name).report())?))
            }
            _ => {
                let state = keeper.get(name).ok_or_else(|| not_found(name))?;
                let revision = state.live.as_ref().map(|live| live.revision.number);
                Ok(tagged(json(views::json(&views::route(&state, true))?), revision))
            }
        }
    }

    /// What the request is to change; `None` when it is a question.
    fn write(&self) -> Result<Option<Write>, Refusal> {
        let method = &self.parts.method;
        let kind = match self.asked.topic {
            Topic::Route if method == Method::PUT => Kind::Put,
            Topic::Route if method == Method::DELETE => Kind::Delete,
            Topic::Weights => Kind::Weights,
            Topic::Rollback => Kind::Rollback,
            _ => return Ok(None),
        };
        let route = ModelName::parse(self.asked.name(0))?;
        let dry_run = Query::read(self.parts.uri.query(), &["dry_run"])?.flag("dry_run")?;
        let condition = Condition::read(&self.parts.headers)?;
        let why = why(&self.parts.headers)?;
        let read = kind.edit(&self.body).map(|said| {
            let why = said.why.or(why).unwrap_or_default();
            (said.what, Author { who: Arc::clone(&self.who), why })
        });
        Ok(Some(Write { route, kind, read, condition, dry_run }))
    }
}

/// Which write it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    Weights,
    Rollback,
}

impl Kind {
    fn edit(self, body: &[u8]) -> Result<Said<Edit>, Vec<Problem>> {
        let said = |edit, why| Said { what: edit, why };
        match self {
            Kind::Put => bodies::route(body).map(|read| said(Edit::Put(read.what), read.why)),
            Kind::Delete => bodies::reason(body).map(|read| said(Edit::Delete, read.why)),
            Kind::Weights => bodies::weights(body).map(|read| said(Edit::Weights(read.what), read.why)),
            Kind::Rollback => bodies::rollback(body).map(|read| said(Edit::Rollback(read.what), read.why)),
        }
    }

    /// Replaces or removes what somebody else may have changed meanwhile.
    fn needs_condition(self) -> bool {
        matches!(self, Kind::Put | Kind::Delete)
    }

    /// Can make a route that is not there.
    fn creates(self) -> bool {
        matches!(self, Kind::Put | Kind::Rollback)
    }
}

/// A change as it was asked for.
#[derive(Debug)]
struct Write {
    route: ModelName,
    kind: Kind,
    /// What its body says.
    read: Result<(Edit, Author), Vec<Problem>>,
    condition: Condition,
    dry_run: bool,
}

impl Write {
    async fn make(self, keeper: &impl Keeper) -> Result<Response<Body>, Refusal> {
        let Self { route, kind, read, condition, dry_run } = self;
        if kind.needs_condition() && condition == Condition::None {
            return Err(required(kind));
        }
        if condition == Condition::Absent && !kind.creates() {
            return Err(Error::invalid("if-none-match: expected if-match, the route must be there").into());
        }
        let (edit, author) = read?;
        let change = Change { route, edit, expect: Expect::Any, author, dry_run };
        let changed = held(keeper, change, &condition, kind).await?;
        let lives = !dry_run && kind != Kind::Delete;
        Ok(tagged(json(views::changed(&changed, dry_run)?), lives.then_some(changed.revision)))
    }
}

/// Makes a change under its condition. The keeper compares with one revision; a condition that names more is tried again while
/// the route moves among them.
async fn held(keeper: &impl Keeper, mut change: Change, condition: &Condition, kind: Kind) -> Result<Changed, Refusal> {
    let route = change.route.clone();
    let mut attempts = 0;
    loop {
        let live = keeper.get(route.as_str()).map(|state| state.live.as_ref().map(|live| live.revision.number));
        change.expect = match condition.expect(live) {
            Ok(expect) => expect,
            Err(NotMet) if live.is_none() && !kind.creates() => {
                return Err(not_found(route.as_str()).into());
            }
            Err(NotMet) => return Err(stale(&route, live)),
        };
        attempts += 1;
        match keeper.change(change.clone()).await {
            Err(ChangeError::Stale { live: Some(live), .. })
                if attempts < ATTEMPTS
                    && *condition != Condition::Absent
                    && condition.expect(Some(Some(live))).is_ok() => {}
            outcome => return outcome.map_err(|error| Refusal::Kept(Box::new(error.into()))),
        }
    }
}

fn stale(route: &ModelName, live: Option<Option<u64>>) -> Refusal {
    let text = match live {
        None => format!("route '{route}': not found, so no if-match holds"),
        Some(None) => format!("route '{route}': no revision serves, so only if-match: * holds"),
        Some(Some(live)) => format!("route '{route}': at revision {live}, which if-match does not name"),
    };
    Refusal::Stale(text, live.flatten())
}

fn required(kind: Kind) -> Refusal {
    Refusal::Unconditional(match kind {
        Kind::Put => {
            "if-match: expected the revision to replace, as in If-Match: \"12\", or If-None-Match: * to create"
        }
        _ => "if-match: expected the revision to remove, as in If-Match: \"12\"",
    })
}

fn tagged(mut answer: Response<Body>, revision: Option<u64>) -> Response<Body> {
    if let Some(revision) = revision {
        answer.headers_mut().insert(header::ETAG, etag(revision));
    }
    answer
}

fn assignment(state: &RouteState, key: &str) -> Result<Response<Body>, Refusal> {
    let name = state.name.as_str();
    let Some(live) = &state.live else {
        return Err(Refusal::Conflict(format!("route '{name}': no revision serves")));
    };
    let RouteKind::Split(split) = &live.spec.kind else {
        let text = format!("route '{name}': expected a split, got {}", live.spec.kind.as_str());
        return Err(Refusal::Conflict(text));
    };
    let arms = split.variants.iter().map(|variant| (&*variant.name, variant.weight));
    let (at, u) = Assigner::new(split.salt.as_deref().unwrap_or(name), arms).assign(key.as_bytes());
    let variant = split.variants.get(at).map_or("", |variant| &variant.name);
    let revision = live.revision.number;
    let answer = json(views::json(&Assignment { key, variant, u, revision, sticky: !split.keys.is_empty() })?);
    Ok(tagged(answer, Some(revision)))
}

fn not_found(route: &str) -> Error {
    Error::not_found(format!("route '{route}': not found"))
}

fn number(text: &str) -> Result<u64, Error> {
    let good = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if good { text.parse().ok() } else { None };
    number
        .filter(|number| *number <= MAX_REVISION)
        .ok_or_else(|| Error::expected("revision", "a positive integer", format_args!("'{text}'")))
}

/// The reason in a header.
///
/// # Errors
/// `InvalidArgument` when it is too long, or no text.
pub(super) fn why(headers: &HeaderMap) -> Result<Option<Box<str>>, Error> {
    let Some(value) = headers.get(WHY) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|text| bodies::is_why(text));
    text.map(|text| Some(text.into())).ok_or_else(|| Error::expected(WHY, bodies::WHY, "something else"))
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
