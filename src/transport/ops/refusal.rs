//! Why the ops listener did not do what it was asked: an error of the table, or what only writes of operators meet (409, 412,
//! 428, a list of problems).

use http::{Response, StatusCode, header};

use super::{
    conditions::etag,
    views::{self, Problems},
};
use crate::{
    compose::ChangeError,
    spec::Problem,
    transport::{
        body::Body,
        http::reply::{self, Failed, typed},
        middleware::Echo,
    },
    types::Error,
};

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The table of errors has it.
    Failed(Failed),
    /// 404, with the words of the keeper of the routes.
    NotFound(String),
    /// 409: it does not fit the state.
    Conflict(String),
    /// 412: the condition does not hold; with the live revision.
    Stale(String, Option<u64>),
    /// 428: there must be a condition.
    Unconditional(&'static str),
    /// 400: everything that is wrong.
    Problems(Vec<String>),
    /// The keeper of the routes refused it, and has recorded that.
    Kept(Box<Refusal>),
}

impl<E: Into<Failed>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::Failed(error.into())
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound(text) => Refusal::NotFound(text),
            ChangeError::Conflict(text) => Refusal::Conflict(text),
            ChangeError::Stale { text, live } => Refusal::Stale(text, live),
            ChangeError::Refused(problems) => Refusal::Problems(problems),
            ChangeError::Failed(error) => Refusal::Failed(error.into()),
        }
    }
}

impl From<Vec<Problem>> for Refusal {
    fn from(problems: Vec<Problem>) -> Self {
        Refusal::Problems(problems.iter().map(|problem| format!("body: {problem}")).collect())
    }
}

impl Refusal {
    /// What the caller is told.
    pub(super) fn text(&self) -> String {
        match self {
            Refusal::Failed(failed) => failed.error().text().to_owned(),
            Refusal::NotFound(text) | Refusal::Conflict(text) | Refusal::Stale(text, _) => text.clone(),
            Refusal::Unconditional(text) => (*text).to_owned(),
            Refusal::Problems(problems) => problems.join("; "),
            Refusal::Kept(refusal) => refusal.text(),
        }
    }

    /// True when nobody has recorded it yet.
    pub(super) fn is_unrecorded(&self) -> bool {
        !matches!(self, Refusal::Kept(_))
    }

    /// The answer.
    pub(super) fn answer(self, echo: &mut Echo) -> Response<Body> {
        // An error cuts its text to the size that texts of errors have, and cleans it.
        let tidy = Error::invalid(self.text());
        let status = match self {
            Refusal::Failed(failed) => return failed.answer(echo),
            Refusal::Kept(refusal) => return refusal.answer(echo),
            Refusal::Problems(problems) => {
                let body = views::json(&Problems { error: tidy.text(), problems: &problems });
                return match body {
                    Ok(body) => typed(StatusCode::BAD_REQUEST, reply::JSON, body),
                    Err(error) => Failed::Error(error).answer(echo),
                };
            }
            Refusal::Stale(_, live) => {
                let mut answer = reply::failure(StatusCode::PRECONDITION_FAILED, tidy.text());
                if let Some(live) = live {
                    answer.headers_mut().insert(header::ETAG, etag(live));
                }
                return answer;
            }
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Unconditional(_) => StatusCode::PRECONDITION_REQUIRED,
        };
        reply::failure(status, tidy.text())
    }
}
