//! The ops listener: metrics, health, and what operators ask about models and routes. It has a thread of its own, so that it
//! answers when the data listeners are at their limit. Which request may do what is `policy`'s to say.
//!
//! | file | what it is |
//! |---|---|
//! | `paths` | every path there is, and what it is about |
//! | `auth`, [`tokens`] | who asks, and who may |
//! | `models`, `scores` | the JSON about models |
//! | `routes` | the API of routes: questions, changes, refusals |
//! | `bodies`, `query`, `conditions` | what a change of a route says: its body, its query, its `If-Match` |
//! | `views`, `report` | the JSON about routes |
//! | `refusal` | why something was not done |
//! | `audit` | the record of what was attempted |
//! | `openapi` | the description of all of it |

mod audit;
mod auth;
mod bodies;
mod conditions;
mod models;
mod openapi;
mod paths;
mod query;
mod refusal;
mod report;
mod routes;
mod scores;
mod tokens;
mod views;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;

use self::{
    audit::Attempt,
    auth::Guard,
    paths::{Asked, Topic},
    query::Query,
    refusal::Refusal,
    routes::Call,
};
use super::{
    body::Body,
    connection::{Answering, Handler},
    given::Given,
    http::{
        body, health,
        reply::{self, json, typed},
    },
    intake::Intake,
    middleware::{Echo, guarded},
    policy::{Action, OpsRules, decide_ops},
};
use crate::{compose::Attempt as Change, gateway::Gateway, types::Error};

pub use tokens::Tokens;

/// What Prometheus wants its text to be called.
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How the ops listener is protected.
#[derive(Clone, Debug)]
pub struct OpsOptions {
    /// Where it binds.
    pub bind: SocketAddr,
    /// Without them, whoever reaches the listener may do everything.
    pub tokens: Option<Tokens>,
    /// Nothing but metrics and health.
    pub readonly: bool,
    /// Names that it answers to beside loopback and its address.
    pub hosts: Vec<String>,
    /// The bounds on request bodies.
    pub intake: Intake,
}

/// The handler of the ops listener.
#[derive(Clone)]
pub struct OpsService(Arc<Inner>);

struct Inner {
    gateway: Arc<Gateway>,
    guard: Guard,
    rules: OpsRules,
    intake: Intake,
}

impl OpsService {
    /// A handler over `gateway`.
    pub fn new(gateway: Arc<Gateway>, options: &OpsOptions) -> Self {
        let guard = Guard::new(options.tokens.clone(), options.bind, &options.hosts);
        let rules = OpsRules { token: guard.has_token(), readonly: options.readonly };
        Self(Arc::new(Inner { gateway, guard, rules, intake: options.intake.small() }))
    }
}

impl Handler for OpsService {
    fn call(&self, request: Request<Incoming>, _: SocketAddr) -> Answering {
        let service = self.clone();
        Answering::new(async move { service.serve(request).await })
    }
}

impl OpsService {
    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let mut echo = Echo::of(request.headers());
        let (parts, body) = request.into_parts();
        let outcome = guarded(self.0.answer(&parts, body)).await;
        let outcome = outcome.unwrap_or_else(|panicked| Err(panicked.into()));
        let answer = outcome.unwrap_or_else(|refusal| {
            let (text, unrecorded) = (refusal.text(), refusal.is_unrecorded());
            let answer = refusal.answer(&mut echo);
            self.0.record(&parts, answer.status(), &text, unrecorded);
            answer
        });
        let mut answer = if parts.method == Method::HEAD { reply::without_body(answer) } else { answer };
        echo.write(answer.headers_mut());
        answer
    }
}

impl Inner {
    async fn answer(&self, parts: &Parts, body: Incoming) -> Result<Response<Body>, Refusal> {
        let Some(asked) = Asked::parse(parts.uri.path()) else { return Ok(reply::not_found()) };
        if !reply::allows(asked.methods, &parts.method) {
            return Ok(reply::not_allowed(asked.methods));
        }
        let action = asked.action(&parts.method);
        decide_ops(self.rules, action, self.guard.look(parts))?;
        let (gateway, name) = (&self.gateway, asked.name(0));
        let (body, _share) = match action {
            Action::Write => body::take(&self.intake, (&parts.headers, Given::of(&parts.headers)), body).await?,
            _ => (Bytes::new(), self.intake.budget.share()),
        };
        match asked.topic {
            Topic::Live => Ok(health::live(gateway)),
            Topic::Ready => Ok(health::ready(gateway)),
            Topic::Metrics => Ok(typed(StatusCode::OK, METRICS_TEXT, gateway.metrics().render())),
            Topic::OpenApi => Ok(json(openapi::document())),
            Topic::Models => Ok(json(models::all(gateway)?)),
            Topic::Model => Ok(json(models::one(gateway, name)?)),
            Topic::Load | Topic::Unload => {
                let why = bodies::reason(&body)?.why.or(routes::why(&parts.headers)?);
                let answer = match asked.topic {
                    Topic::Load => gateway.registry().look_again(name).map(|()| accepted())?,
                    _ => gateway.registry().unload(name).await.map(|()| json("{}"))?,
                };
                self.attempt(parts).done(why.as_deref().unwrap_or_default());
                Ok(answer)
            }
            Topic::Scores => Ok(json(scores::of(gateway, name)?)),
            Topic::Routes
            | Topic::Route
            | Topic::Weights
            | Topic::Rollback
            | Topic::History
            | Topic::Revision
            | Topic::Assignment
            | Topic::Report => {
                let who = self.guard.who(&parts.headers);
                let keeper = gateway.routes().ok_or_else(|| Error::unavailable("routes: this server follows none"))?;
                routes::answer(&**keeper, gateway.metrics(), Call { asked: &asked, parts, who, body }).await
            }
        }
    }

    /// Records an attempt to change something that was refused: in the log always, in the audit file unless that has it. What is
    /// done is recorded by who does it. A dry run is no attempt, unless by somebody who may not ask.
    fn record(&self, parts: &Parts, status: StatusCode, text: &str, unrecorded: bool) {
        let Some(asked) = Asked::parse(parts.uri.path()) else { return };
        let stranger = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let dry_run = Query::read(parts.uri.query(), &["dry_run"]).and_then(|query| query.flag("dry_run"));
        let is_attempt = reply::allows(asked.methods, &parts.method) && asked.action(&parts.method) == Action::Write;
        if !is_attempt || (dry_run == Ok(true) && !stranger) {
            return;
        }
        let attempt = self.attempt(parts);
        if let (Some(keeper), Some(action), true) = (self.gateway.routes(), asked.change(&parts.method), unrecorded) {
            let why = routes::why(&parts.headers).ok().flatten().unwrap_or_default();
            let change = Change { route: asked.name(0), who: &attempt.who, why: &why, action, from: None };
            keeper.turned_away(change, &format!("{status}: {text}"));
        }
        attempt.refused(status, text);
    }

    fn attempt<'p>(&self, parts: &'p Parts) -> Attempt<'p> {
        Attempt { who: self.guard.who(&parts.headers), method: &parts.method, path: parts.uri.path() }
    }
}

/// 202: it has been noted and is being done.
fn accepted() -> Response<Body> {
    typed(StatusCode::ACCEPTED, reply::JSON, "{}")
}
