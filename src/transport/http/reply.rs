//! HTTP answers: JSON bodies, errors as `{"error": …}`, and what HEAD leaves out. Used by the handlers of the data and the ops
//! listeners.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;

use crate::{
    protocol::status,
    transport::{body::Body, intake::Refused, middleware::Echo},
    types::Error,
};

pub(in crate::transport) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body with its type and a status.
pub(in crate::transport) fn typed(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// 200 with JSON.
pub(in crate::transport) fn json(body: impl Into<Bytes>) -> Response<Body> {
    typed(StatusCode::OK, JSON, body)
}

/// `{"error": …}` with a status that the table of errors does not have.
pub(in crate::transport) fn failure(status: StatusCode, text: &str) -> Response<Body> {
    let text = serde_json::Value::from(text);
    typed(status, JSON, format!("{{\"error\":{text}}}"))
}

/// The error of a request that ended outside its handler.
pub(in crate::transport) fn refusal(mut echo: Echo, because: Error) -> Response<Body> {
    let mut response = Failed::Error(because).answer(&mut echo);
    echo.write(response.headers_mut());
    response
}

/// Why a request was not answered.
#[derive(Debug)]
pub(in crate::transport) enum Failed {
    /// An error of the table.
    Error(Error),
    /// Its body was not taken. What is left of it is unread, so the connection ends with this answer.
    Body(Refused),
    /// Its body is compressed in a way that is not known.
    Coding(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Error(error)
    }
}

impl Failed {
    /// What went wrong, for the record.
    pub(in crate::transport) fn error(&self) -> &Error {
        match self {
            Failed::Error(error) | Failed::Coding(error) => error,
            Failed::Body(refused) => refused.error(),
        }
    }

    /// The failure as the answer to its request.
    pub(in crate::transport) fn answer(self, echo: &mut Echo) -> Response<Body> {
        let (status, because, last) = match self {
            Failed::Error(because) => (status::http(&because), because, false),
            Failed::Body(Refused::Slow(because)) => (StatusCode::REQUEST_TIMEOUT, because, true),
            // Nobody reads the answer to a caller that left.
            Failed::Body(Refused::Unread(because) | Refused::Left(because)) => (status::http(&because), because, true),
            Failed::Coding(because) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, because, false),
        };
        echo.log(&because);
        let mut response = failure(status, because.text());
        let headers = response.headers_mut();
        status::retry_headers(&because, headers);
        match status {
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"))
            }
            _ => None,
        };
        if last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The answer to a path that nothing is at.
pub(in crate::transport) fn not_found() -> Response<Body> {
    failure(StatusCode::NOT_FOUND, "Not Found")
}

/// The answer to a method that a path does not take.
pub(in crate::transport) fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// Whether a route that takes these methods takes this one.
pub(in crate::transport) fn allows(methods: &str, method: &Method) -> bool {
    methods == method.as_str() || methods.split(", ").any(|allowed| allowed == method.as_str())
}

/// Answers to HEAD have the head of the answer to GET, and no body.
pub(in crate::transport) fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}
