//! The conversations of `weir split`: what is asked, under which condition, and what to do about a refusal.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Door, How,
    bar::Bars,
    state::{Assignment, Changed, History, Route, Routes},
    view::{self, Change},
};
use crate::{
    cli::{
        client::{Answer, Client, ClientError, Question, bearer, block_on, segment},
        exit::{Exit, Failure, Report},
        table::Paint,
    },
    types::ModelName,
};

/// How long an answer may take: a change waits until what it needs is loaded.
const PATIENCE: Duration = Duration::from_secs(120);

/// One gateway, asked for one command.
struct Gateway {
    client: Client,
    json: bool,
}

impl Gateway {
    fn new(door: &Door) -> Result<Self, Failure> {
        let token = door.token_file.as_deref().map(bearer).transpose()?;
        Ok(Self { client: Client::new(door.url(), token, PATIENCE), json: door.output.is_json() })
    }

    async fn ask(&self, question: Question) -> Result<Answer, Failure> {
        self.client.ask(question).await.map_err(|error| failure(&error))
    }

    async fn route(&self, route: &ModelName) -> Result<Option<Route>, Failure> {
        match self.client.ask(Question::get(path(route, ""))).await {
            Ok(answer) => read(&answer).map(Some),
            Err(ClientError::Refused(StatusCode::NOT_FOUND, _)) => Ok(None),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// Shows a split, or all routes.
pub(super) fn get(door: &Door, route: Option<&ModelName>) -> Result<Report, Failure> {
    let gateway = Gateway::new(door)?;
    block_on(async {
        let asked = route.map_or_else(|| "/ops/routes".to_owned(), |route| path(route, ""));
        let answer = gateway.ask(Question::get(asked)).await?;
        if gateway.json {
            return Ok(as_it_came([answer]));
        }
        let paint = Paint::of_stdout();
        Ok(Report::done(match route {
            None => view::overview(&read::<Routes>(&answer)?, paint),
            Some(_) => view::split(&split(read(&answer)?)?, paint, Bars::of_stdout()),
        }))
    })
}

/// Changes weights.
pub(super) fn set(door: &Door, route: &ModelName, weights: &[(String, f64)], how: &How) -> Result<Report, Failure> {
    let gateway = Gateway::new(door)?;
    let weights: serde_json::Map<_, _> = weights.iter().map(|(name, weight)| (name.clone(), json!(weight))).collect();
    block_on(async {
        let missing =
            || Failure::problem(format!("route '{route}': not found; weir split get without a name lists the routes"));
        let before = split(gateway.route(route).await?.ok_or_else(missing)?)?;
        let body = json!({ "weights": weights, "why": how.why });
        change(
            &gateway,
            Question::new(Method::PATCH, path(route, &after("/weights", how))).json(&body),
            Some(before),
            how,
        )
        .await
    })
}

/// Brings back a revision. A route that was deleted comes back, too.
pub(super) fn rollback(door: &Door, route: &ModelName, to: u64, how: &How) -> Result<Report, Failure> {
    let gateway = Gateway::new(door)?;
    block_on(async {
        let before = gateway.route(route).await?;
        let body = json!({ "to": to, "why": how.why });
        change(&gateway, Question::new(Method::POST, path(route, &after("/rollback", how))).json(&body), before, how)
            .await
    })
}

/// Asks for a change of what has just been seen, and shows both sides of it.
async fn change(gateway: &Gateway, question: Question, before: Option<Route>, how: &How) -> Result<Report, Failure> {
    let seen = before.as_ref().and_then(|route| route.revision);
    let question = match (how.if_revision.or(seen), &before) {
        (Some(revision), _) => question.header(header::IF_MATCH, tag(revision)),
        (None, None) => question.header(header::IF_NONE_MATCH, HeaderValue::from_static("*")),
        (None, Some(_)) => question,
    };
    let answer = gateway.client.ask(question).await.map_err(|error| match error {
        ClientError::Refused(StatusCode::PRECONDITION_FAILED, text) => {
            let remedy =
                if how.if_revision.is_some() { "look at it again, then name its revision" } else { "try again" };
            Failure::problem(format!("{text}: somebody changed it; {remedy}"))
        }
        error => failure(&error),
    })?;
    let changed: Changed = read(&answer)?;
    let exit = if changed.problems.is_empty() { Exit::Done } else { Exit::Problems };
    if gateway.json {
        return Ok(Report { exit, ..as_it_came([answer]) });
    }
    let shown = Change { before: before.as_ref(), after: &changed, dry_run: how.dry_run };
    Ok(Report { exit, text: view::change(&shown, Paint::of_stdout(), Bars::of_stdout()) })
}

/// Shows every revision.
pub(super) fn history(door: &Door, route: &ModelName) -> Result<Report, Failure> {
    let gateway = Gateway::new(door)?;
    block_on(async {
        let answer = gateway.ask(Question::get(path(route, "/history"))).await?;
        if gateway.json {
            return Ok(as_it_came([answer]));
        }
        Ok(Report::done(view::history(&read::<History>(&answer)?, Paint::of_stdout())))
    })
}

/// Shows which variant each key gets.
pub(super) fn assign(door: &Door, route: &ModelName, keys: &[String]) -> Result<Report, Failure> {
    let gateway = Gateway::new(door)?;
    block_on(async {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let asked = path(route, &format!("/assignment?key={}", segment(key)));
            answers.push(gateway.ask(Question::get(asked)).await?);
        }
        if gateway.json {
            return Ok(as_it_came(answers));
        }
        let assignments: Result<Vec<Assignment>, Failure> = answers.iter().map(read).collect();
        Ok(Report::done(view::assignments(&assignments?, Paint::of_stdout())))
    })
}

fn path(route: &ModelName, rest: &str) -> String {
    format!("/ops/routes/{}{rest}", segment(route.as_str()))
}

fn after(rest: &str, how: &How) -> String {
    format!("{rest}{}", if how.dry_run { "?dry_run=true" } else { "" })
}

fn tag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

fn split(route: Route) -> Result<Route, Failure> {
    match route.kind.as_deref() {
        Some("split") => Ok(route),
        Some(kind) => Err(Failure::problem(format!(
            "route '{}': is a {kind} and has no weights; --output json shows it",
            route.name
        ))),
        None => {
            let why =
                if route.problems.is_empty() { String::new() } else { format!(": {}", route.problems.join("\n")) };
            Err(Failure::problem(format!("route '{}': no revision serves{why}", route.name)))
        }
    }
}

/// A refusal, with what helps.
fn failure(error: &ClientError) -> Failure {
    let remedy = match error {
        ClientError::Unreachable(_) => "; --ops URL names the ops listener of another gateway",
        ClientError::Refused(StatusCode::UNAUTHORIZED, _) => "; --token-file FILE names the file with the token",
        ClientError::Refused(StatusCode::NOT_FOUND, text) if text.contains(": revision ") => {
            "; weir split history lists the revisions"
        }
        ClientError::Refused(StatusCode::NOT_FOUND, text) if text.ends_with("not found") => {
            "; weir split get without a name lists the routes"
        }
        _ => "",
    };
    Failure::problem(format!("{error}{remedy}"))
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::problem(format!("the answer is not a gateway's: {error}")))
}

/// The bodies, a line each.
fn as_it_came(answers: impl IntoIterator<Item = Answer>) -> Report {
    let lines = answers.into_iter().map(|answer| format!("{}\n", String::from_utf8_lossy(&answer.body).trim_end()));
    Report::done(lines.collect::<String>())
}
