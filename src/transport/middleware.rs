//! What every request gets, whatever it asks: its id and trace context echoed, its deadline read, and a panic turned into an
//! answer in its own protocol. Plain functions that the services call; there is no stack of layers to walk per request.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::given::{Given, Known};
use crate::types::{Error, Headers};

const REQUEST_ID: HeaderName = Known::RequestId.name();
const TRACEPARENT: HeaderName = Known::Traceparent.name();

/// The longest request id that is echoed.
const MAX_REQUEST_ID: usize = 128;
/// A deadline further away than this is none: it keeps the arithmetic of instants safe.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The headers of a request that its answer repeats.
#[derive(Clone, Debug, Default)]
pub(super) struct Echo {
    request_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
}

impl Echo {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::given(headers, Given::of(headers))
    }

    /// The same where it is known what the headers have.
    pub(super) fn given(headers: &HeaderMap, given: Given) -> Self {
        let request_id = given.get(headers, Known::RequestId).filter(|id| is_request_id(id.as_bytes()));
        let traceparent = given.get(headers, Known::Traceparent).filter(|parent| is_traceparent(parent.as_bytes()));
        let (request_id, traceparent) = (request_id.cloned(), traceparent.cloned());
        Self { request_id, traceparent }
    }

    /// Puts them into the answer.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        if let Some(id) = self.request_id {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(parent) = self.traceparent {
            headers.insert(TRACEPARENT, parent);
        }
    }

    /// Logs a failure of ours, and makes sure that the caller is told an id by which the log line can be found.
    pub(super) fn log(&mut self, error: &Error) {
        let Some(detail) = error.detail() else { return };
        let id = self.request_id.get_or_insert_with(fresh_id);
        tracing::error!(
            request_id = id.to_str().unwrap_or_default(),
            traceparent = self.traceparent.as_ref().and_then(|parent| parent.to_str().ok()),
            code = error.code().as_str(),
            detail,
            "{}",
            error.text()
        );
    }
}

/// An id for a request that came without one and failed: unique enough to find a log line.
fn fresh_id() -> HeaderValue {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let mixed = xxhash_rust::xxh3::xxh3_64(&nanos.to_le_bytes());
    HeaderValue::from_str(&format!("weir-{mixed:016x}")).unwrap_or(HeaderValue::from_static("weir"))
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The form of W3C trace context: version, trace id, parent id, flags, in lower-case hexadecimal.
fn is_traceparent(text: &[u8]) -> bool {
    text.len() == 55
        && text.iter().enumerate().all(|(i, byte)| match i {
            2 | 35 | 52 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
}

/// The deadline in `grpc-timeout`, counted from `now`. The clock is only read for callers that set one.
///
/// # Errors
/// `InvalidArgument` when the header does not have the form `[0-9]{1,8}[HMSmun]`.
pub(super) fn grpc_deadline(
    header: Option<&HeaderValue>,
    now: impl FnOnce() -> Instant,
) -> Result<Option<Instant>, Error> {
    let Some(value) = header else { return Ok(None) };
    let bad = || Error::expected("grpc-timeout", "[0-9]{1,8}[HMSmun]", format_args!("'{}'", shown(value)));
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(bad)?;
    let amount = number(digits, 8).ok_or_else(bad)?;
    let timeout = match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return Err(bad()),
    };
    Ok(Some(now() + timeout.min(FAR)))
}

/// The deadline in `Request-Timeout-Ms`, counted from `now`. The clock is only read for callers that set one.
///
/// # Errors
/// `InvalidArgument` when the header is not a number of milliseconds.
pub(super) fn http_deadline(
    header: Option<&HeaderValue>,
    now: impl FnOnce() -> Instant,
) -> Result<Option<Instant>, Error> {
    let Some(value) = header else { return Ok(None) };
    let ms = number(value.as_bytes(), 15).ok_or_else(|| {
        Error::expected("request-timeout-ms", "a number of milliseconds", format_args!("'{}'", shown(value)))
    })?;
    Ok(Some(now() + Duration::from_millis(ms).min(FAR)))
}

/// Decimal digits only, at most `most` of them.
fn number(digits: &[u8], most: usize) -> Option<u64> {
    let good = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    good.then(|| digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).chars().take(40).collect()
}

/// Runs a handler. A panic in it is an error of this request, not of the connection or its other requests.
///
/// # Errors
/// `Internal` when the handler panicked.
pub(super) async fn guarded<F: Future>(handler: F) -> Result<F::Output, Error> {
    Guarded(Box::pin(handler)).await
}

/// As [`guarded`], over a future that is on the heap already: an `async fn` would hold its argument twice.
#[derive(Debug)]
pub(super) struct Guarded<F>(pub(super) F);

impl<F: Future + Unpin> Future for Guarded<F> {
    type Output = Result<F::Output, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.0).poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panicked(&*panic))),
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::internal("server: the request failed", format_args!("panicked: {text}"))
}

/// The metadata of a request, for routes that look at it.
#[derive(Debug)]
pub(super) struct Metadata(pub(super) HeaderMap);

impl Headers for Metadata {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ErrorCode;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn grpc_timeouts() {
        let now = Instant::now();
        let read = |text: &str| {
            grpc_deadline(Some(&HeaderValue::from_str(text).unwrap()), || now).map(|at| at.map(|at| at - now))
        };
        assert_eq!(grpc_deadline(None, || now), Ok(None));
        for (text, want) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("0n", Duration::ZERO),
            ("99999999H", FAR),
        ] {
            assert_eq!(read(text), Ok(Some(want)), "{text}");
        }
        for bad in ["", "1", "S", "1x", "-1S", "+1S", "123456789S", "1.5S", "1 S"] {
            let error = read(bad).unwrap_err();
            assert_eq!(error.text(), format!("grpc-timeout: expected [0-9]{{1,8}}[HMSmun], got '{bad}'"));
        }
    }

    #[test]
    fn http_timeouts() {
        let now = Instant::now();
        let read = |text: &str| {
            http_deadline(Some(&HeaderValue::from_str(text).unwrap()), || now).map(|at| at.map(|at| at - now))
        };
        assert_eq!(read("250"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read("999999999999999"), Ok(Some(FAR)));
        for bad in ["", "-1", "1s", "1e3", "9999999999999999"] {
            assert_eq!(read(bad).unwrap_err().code(), ErrorCode::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn only_well_formed_context_is_echoed() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut given = headers(TRACEPARENT, parent);
        given.insert(REQUEST_ID, HeaderValue::from_static("r-1"));
        let mut answer = HeaderMap::new();
        Echo::of(&given).write(&mut answer);
        assert_eq!((answer[REQUEST_ID].as_bytes(), answer[TRACEPARENT].as_bytes()), (&b"r-1"[..], parent.as_bytes()));

        let mut bad = headers(TRACEPARENT, &parent.to_uppercase());
        bad.insert(REQUEST_ID, HeaderValue::from_str(&"x".repeat(129)).unwrap());
        let mut answer = HeaderMap::new();
        Echo::of(&bad).write(&mut answer);
        assert!(answer.is_empty());
    }

    #[test]
    fn a_logged_failure_gets_an_id() {
        let mut echo = Echo::default();
        echo.log(&Error::invalid("the caller's fault"));
        assert!(echo.request_id.is_none());
        echo.log(&Error::internal("ours", "detail"));
        assert!(echo.request_id.is_some());
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = guarded(async { panic!("boom {}", 1) }).await.unwrap_err();
        assert_eq!((error.code(), error.detail()), (ErrorCode::Internal, Some("panicked: boom 1")));
        assert_eq!(guarded(async { 7 }).await.unwrap(), 7);
    }
}
