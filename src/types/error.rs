//! The one error that may reach a client. Every layer below the gateway ends in it; `protocol::status` maps its code to
//! gRPC and HTTP. The text is for the caller; what only operators may see goes into `detail`, which is logged, not sent.

use std::{borrow::Cow, fmt, time::Duration};

/// The longest text a client is sent, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// What kind of failure it is. Introduce a variant only together with its row in `protocol::status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Malformed body, shape, datatype or version text; missing, extra or duplicate input.
    InvalidArgument,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// The caller is known and may not do this.
    PermissionDenied,
    /// Unknown model, version, label or route.
    NotFound,
    /// An operator's write does not fit the state.
    Conflict,
    /// A limit on body, rows or elements was exceeded.
    TooLarge,
    /// Queue full or not admitted: nothing was executed.
    Overloaded,
    /// Not loaded, loading, or draining.
    Unavailable,
    /// The deadline passed in the queue or in execution.
    DeadlineExceeded,
    /// The caller left.
    Cancelled,
    /// A feature that this server does not have.
    Unimplemented,
    /// The model or the server failed.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the metric label's documentation.
    pub const ALL: [ErrorCode; 12] = [
        ErrorCode::InvalidArgument,
        ErrorCode::Unauthenticated,
        ErrorCode::PermissionDenied,
        ErrorCode::NotFound,
        ErrorCode::TooLarge,
        ErrorCode::Conflict,
        ErrorCode::Overloaded,
        ErrorCode::Unavailable,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Cancelled,
        ErrorCode::Unimplemented,
        ErrorCode::Internal,
    ];

    /// The label value used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidArgument => "invalid_argument",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::PermissionDenied => "permission_denied",
            ErrorCode::NotFound => "not_found",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::Conflict => "conflict",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::DeadlineExceeded => "deadline_exceeded",
            ErrorCode::Cancelled => "cancelled",
            ErrorCode::Unimplemented => "unimplemented",
            ErrorCode::Internal => "internal",
        }
    }
}

/// A failure with a text for the caller, `<subject>: <what>[: expected <e>, got <g>]`, at most 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    code: ErrorCode,
    text: Cow<'static, str>,
    retry_after: Option<Duration>,
    detail: Option<Box<str>>,
}

impl Error {
    /// An error with the caller's text. Control characters are escaped and the text is cut at 512 bytes.
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: tidy(text.into()), retry_after: None, detail: None }
    }

    /// The request itself is wrong.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidArgument, text)
    }

    /// The text `<subject>: expected <expected>, got <got>`.
    pub fn expected(subject: impl fmt::Display, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Self::invalid(format!("{subject}: expected {expected}, got {got}"))
    }

    /// Unknown model, version, label or route.
    pub fn not_found(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, text)
    }

    /// Known, but cannot answer now.
    pub fn unavailable(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unavailable, text)
    }

    /// Something failed inside; `detail` is logged and never sent.
    pub fn internal(text: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string().into_boxed_str()), ..Self::new(ErrorCode::Internal, text) }
    }

    /// Says when a retry makes sense: `Retry-After` and `RetryInfo` on the wire.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The kind of failure.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The text for the caller.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When a retry makes sense, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What only the log may show.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// Escapes control characters (a name in a text may come from a request) and cuts at a character boundary.
fn tidy(text: Cow<'static, str>) -> Cow<'static, str> {
    let clean = text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    if clean {
        return text;
    }
    let mut out = String::with_capacity(MAX_TEXT_BYTES);
    for c in text.chars() {
        let mut buf = [0; 4];
        let escaped;
        let piece: &str = if c.is_control() {
            escaped = c.escape_default().to_string();
            &escaped
        } else {
            c.encode_utf8(&mut buf)
        };
        if out.len() + piece.len() > MAX_TEXT_BYTES - 3 {
            out.push_str("...");
            break;
        }
        out.push_str(piece);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_printable() {
        let long = Error::invalid("ä".repeat(600));
        assert!(long.text().len() <= MAX_TEXT_BYTES);
        assert!(long.text().ends_with("..."));
        assert_eq!(Error::invalid("a\nb\u{7}".to_owned()).text(), "a\\nb\\u{7}");
        let plain = Error::expected("input 'x'", "FP32", "FP64");
        assert_eq!(plain.text(), "input 'x': expected FP32, got FP64");
    }

    #[test]
    fn codes_have_distinct_labels() {
        let mut labels: Vec<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ErrorCode::ALL.len());
    }
}
