//! The ops listener: metrics, health, and what operators ask about models. It has a thread of its own, so that it answers when
//! the data listeners are at their limit. Which request may do what is `policy`'s to say, who asks is found out by `auth`.

mod auth;
mod models;

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;

use self::auth::Guard;
use super::{
    body::Body,
    connection::Handler,
    http::{
        health,
        reply::{self, Failed, json, typed},
        route::{Route, decoded, parse},
    },
    middleware::{Echo, guarded},
    policy::{Action, OpsRules, decide_ops},
};
use crate::{gateway::Gateway, types::Error};

/// What Prometheus wants its text to be called.
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How the ops listener is protected.
#[derive(Clone, Debug)]
pub struct OpsOptions {
    /// Where it binds.
    pub bind: SocketAddr,
    /// Without it, whoever reaches the listener may do everything.
    pub token: Option<String>,
    /// Nothing but metrics and health.
    pub readonly: bool,
    /// Names that it answers to beside loopback and its address.
    pub hosts: Vec<String>,
}

/// The handler of the ops listener.
#[derive(Clone)]
pub struct OpsService(Arc<Inner>);

struct Inner {
    gateway: Arc<Gateway>,
    guard: Guard,
    rules: OpsRules,
}

/// What the ops listener is asked.
enum Question<'p> {
    Live,
    Ready,
    Metrics,
    Models,
    Model(Cow<'p, str>),
    Load(Cow<'p, str>),
    Unload(Cow<'p, str>),
}

impl OpsService {
    /// A handler over `gateway`.
    pub fn new(gateway: Arc<Gateway>, options: &OpsOptions) -> Self {
        let guard = Guard::new(options.token.as_deref(), options.bind, &options.hosts);
        let rules = OpsRules { token: guard.has_token(), readonly: options.readonly };
        Self(Arc::new(Inner { gateway, guard, rules }))
    }
}

impl Handler for OpsService {
    async fn call(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Body> {
        let mut echo = Echo::of(request.headers());
        let (parts, _body) = request.into_parts();
        let head = parts.method == Method::HEAD;
        let outcome = guarded(self.0.answer(&parts)).await.and_then(|outcome| outcome);
        let answer = outcome.unwrap_or_else(|error| Failed::Error(error).answer(&mut echo));
        let mut answer = if head { reply::without_body(answer) } else { answer };
        echo.write(answer.headers_mut());
        answer
    }
}

impl Inner {
    async fn answer(&self, parts: &Parts) -> Result<Response<Body>, Error> {
        let Some(question) = question(parts.uri.path()) else { return Ok(reply::not_found()) };
        let (action, methods) = question.needs();
        if !reply::allows(methods, &parts.method) {
            return Ok(reply::not_allowed(methods));
        }
        decide_ops(self.rules, action, self.guard.look(parts))?;
        let gateway = &self.gateway;
        match question {
            Question::Live => Ok(health::live(gateway)),
            Question::Ready => Ok(health::ready(gateway)),
            Question::Metrics => Ok(typed(StatusCode::OK, METRICS_TEXT, gateway.metrics().render())),
            Question::Models => models::all(gateway).map(json),
            Question::Model(name) => models::one(gateway, &name).map(json),
            Question::Load(name) => gateway.registry().look_again(&name).map(|()| accepted()),
            Question::Unload(name) => gateway.registry().unload(&name).await.map(|()| json("{}")),
        }
    }
}

/// 202: it has been noted and is being done.
fn accepted() -> Response<Body> {
    typed(StatusCode::ACCEPTED, reply::JSON, "{}")
}

fn question(path: &str) -> Option<Question<'_>> {
    match parse(path) {
        Some(Route::Live) => return Some(Question::Live),
        Some(Route::Ready) => return Some(Question::Ready),
        _ => {}
    }
    if path == "/metrics" {
        return Some(Question::Metrics);
    }
    let rest = path.strip_prefix("/ops/models")?;
    let mut segments = rest.split('/').skip(1);
    match (segments.next(), segments.next(), segments.next()) {
        (None, ..) if rest.is_empty() => Some(Question::Models),
        (Some(name), None, _) => decoded(name).map(Question::Model),
        (Some(name), Some("load"), None) => decoded(name).map(Question::Load),
        (Some(name), Some("unload"), None) => decoded(name).map(Question::Unload),
        _ => None,
    }
}

impl Question<'_> {
    /// What it does, and the methods it takes.
    fn needs(&self) -> (Action, &'static str) {
        match self {
            Question::Live | Question::Ready => (Action::Probe, "GET, HEAD"),
            Question::Metrics => (Action::Metrics, "GET, HEAD"),
            Question::Models | Question::Model(_) => (Action::Read, "GET, HEAD"),
            Question::Load(_) | Question::Unload(_) => (Action::Write, "POST"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let shown = |path: &str| {
            question(path).map(|question| match question {
                Question::Live => "live".to_owned(),
                Question::Ready => "ready".to_owned(),
                Question::Metrics => "metrics".to_owned(),
                Question::Models => "models".to_owned(),
                Question::Model(name) => format!("model {name}"),
                Question::Load(name) => format!("load {name}"),
                Question::Unload(name) => format!("unload {name}"),
            })
        };
        for (path, want) in [
            ("/healthz", Some("live")),
            ("/v2/health/ready", Some("ready")),
            ("/metrics", Some("metrics")),
            ("/ops/models", Some("models")),
            ("/ops/models/m", Some("model m")),
            ("/ops/models/a%20b", Some("model a b")),
            ("/ops/models/m/load", Some("load m")),
            ("/ops/models/m/unload", Some("unload m")),
            ("/ops/models/", None),
            ("/ops/modelsx", None),
            ("/ops/models/m/reload", None),
            ("/ops/models/m/load/x", None),
            ("/metrics/", None),
            ("/v2/models/m/infer", None),
            ("/", None),
        ] {
            assert_eq!(shown(path).as_deref(), want, "{path}");
        }
    }
}
