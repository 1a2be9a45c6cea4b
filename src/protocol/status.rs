//! The one table of errors: what each [`ErrorCode`] is called in gRPC and in HTTP, and how a caller is told when to try again.
//! The handlers of both protocols answer every failure through it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::types::{Error, ErrorCode};

/// Milliseconds until a retry makes sense; finer than `Retry-After`, which counts seconds.
pub const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What a caller is told who was refused without a better estimate.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// An error code in both protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The code.
    pub code: ErrorCode,
    /// The HTTP status.
    pub http: StatusCode,
    /// The gRPC status.
    pub grpc: tonic::Code,
    /// When the answer says when to retry.
    pub retry: Retry,
}

/// Whether an answer says when a retry makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only when the error itself knows.
    IfKnown,
    /// In HTTP always, in gRPC when the error knows: the gRPC status alone already means "later".
    Http,
    /// Always, in both.
    Always,
}

/// The row of a code. Codes of this layer above 499 are the server's fault, those below the caller's.
pub const fn row(code: ErrorCode) -> Row {
    use tonic::Code;
    let (http, grpc, retry) = match code {
        ErrorCode::InvalidArgument => (StatusCode::BAD_REQUEST, Code::InvalidArgument, Retry::IfKnown),
        ErrorCode::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated, Retry::IfKnown),
        ErrorCode::PermissionDenied => (StatusCode::FORBIDDEN, Code::PermissionDenied, Retry::IfKnown),
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, Code::NotFound, Retry::IfKnown),
        ErrorCode::Conflict => (StatusCode::CONFLICT, Code::Aborted, Retry::IfKnown),
        ErrorCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, Retry::IfKnown),
        ErrorCode::Overloaded => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, Retry::Always),
        ErrorCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, Retry::Http),
        ErrorCode::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, Retry::IfKnown),
        ErrorCode::Cancelled => (CLIENT_CLOSED_REQUEST, Code::Cancelled, Retry::IfKnown),
        ErrorCode::Unimplemented => (StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, Retry::IfKnown),
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, Retry::IfKnown),
    };
    Row { code, http, grpc, retry }
}

/// 499: the caller left. Seen in logs only, since nobody is there to read it.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// The gRPC status of an error, with `google.rpc.RetryInfo` where the table says so.
pub fn grpc(error: &Error) -> tonic::Status {
    let row = row(error.code());
    let retry = match row.retry {
        Retry::Always => Some(error.retry_after().unwrap_or(DEFAULT_RETRY)),
        Retry::Http | Retry::IfKnown => error.retry_after(),
    };
    match retry {
        Some(after) => {
            let details = ErrorDetails::with_retry_info(Some(after));
            tonic::Status::with_error_details(row.grpc, error.text(), details)
        }
        None => tonic::Status::new(row.grpc, error.text()),
    }
}

/// The HTTP status of an error.
pub fn http(error: &Error) -> StatusCode {
    row(error.code()).http
}

/// Adds `Retry-After` (whole seconds, at least 1) and `retry-after-ms` where the table says so.
pub fn retry_headers(error: &Error, headers: &mut HeaderMap) {
    let retry = match row(error.code()).retry {
        Retry::Always | Retry::Http => Some(error.retry_after().unwrap_or(DEFAULT_RETRY)),
        Retry::IfKnown => error.retry_after(),
    };
    let Some(after) = retry else { return };
    let ms = after.as_millis().clamp(1, u128::from(u32::MAX));
    let seconds = ms.div_ceil(1000);
    headers.insert(header::RETRY_AFTER, number(seconds));
    headers.insert(RETRY_AFTER_MS, number(ms));
}

fn number(value: u128) -> HeaderValue {
    HeaderValue::from(u64::try_from(value).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use tonic::Code;
        let want = [
            (ErrorCode::InvalidArgument, 400, Code::InvalidArgument),
            (ErrorCode::Unauthenticated, 401, Code::Unauthenticated),
            (ErrorCode::PermissionDenied, 403, Code::PermissionDenied),
            (ErrorCode::NotFound, 404, Code::NotFound),
            (ErrorCode::TooLarge, 413, Code::ResourceExhausted),
            (ErrorCode::Conflict, 409, Code::Aborted),
            (ErrorCode::Overloaded, 429, Code::ResourceExhausted),
            (ErrorCode::Unavailable, 503, Code::Unavailable),
            (ErrorCode::DeadlineExceeded, 504, Code::DeadlineExceeded),
            (ErrorCode::Cancelled, 499, Code::Cancelled),
            (ErrorCode::Unimplemented, 501, Code::Unimplemented),
            (ErrorCode::Internal, 500, Code::Internal),
        ];
        assert_eq!(want.map(|(code, ..)| code), ErrorCode::ALL);
        for (code, http_status, grpc_code) in want {
            let error = Error::new(code, "text");
            assert_eq!(http(&error).as_u16(), http_status, "{code:?}");
            let status = grpc(&error);
            assert_eq!((status.code(), status.message()), (grpc_code, "text"), "{code:?}");
        }
    }

    #[test]
    fn retries() {
        let told = |error: &Error| {
            let mut headers = HeaderMap::new();
            retry_headers(error, &mut headers);
            let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let grpc = grpc(error).get_details_retry_info().and_then(|info| info.retry_delay);
            (text(&header::RETRY_AFTER), text(&RETRY_AFTER_MS), grpc)
        };
        let some = |text: &str| Some(text.to_owned());
        let overloaded = Error::new(ErrorCode::Overloaded, "queue full");
        assert_eq!(told(&overloaded), (some("1"), some("1000"), Some(DEFAULT_RETRY)));
        let soon = overloaded.with_retry_after(Duration::from_micros(1_500_100));
        assert_eq!(told(&soon), (some("2"), some("1500"), Some(Duration::from_micros(1_500_100))));
        let at_once = Error::new(ErrorCode::Overloaded, "x").with_retry_after(Duration::ZERO);
        assert_eq!(told(&at_once), (some("1"), some("1"), Some(Duration::ZERO)));
        assert_eq!(told(&Error::unavailable("loading")), (some("1"), some("1000"), None));
        assert_eq!(told(&Error::invalid("bad")), (None, None, None));
    }

    #[test]
    fn details_stay_inside() {
        let error = Error::internal("model 'm' failed", "secret path");
        let status = grpc(&error);
        assert_eq!(status.message(), "model 'm' failed");
        assert!(status.details().is_empty());
    }
}
