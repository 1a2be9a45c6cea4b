//! The seam between runs and protocols: send one case, get an answer or a failure. Implemented by `grpc` and `http`,
//! and by fakes in the tests of the runs.

use std::fmt;
use std::future::Future;

use crate::grpc::GrpcClient;
use crate::http::HttpClient;
use crate::wire_http::HttpBody;

/// Which request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Which of the cases.
    pub(crate) case: usize,
    /// The request's own number in the run; tags are made of it.
    pub(crate) number: u64,
}

/// Sends requests that were encoded before the run.
pub(crate) trait Sender: Send + Sync + 'static {
    /// Sends one request and waits for the answer's last byte. Dropped before that, the request is taken back.
    fn send(&self, call: Call) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// An answer as it came, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A framed gRPC message.
    Grpc(bytes::Bytes),
    Http(HttpBody),
}

/// A request that was not answered well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What the server or the transport said about it.
    pub(crate) text: String,
}

/// What failures are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    /// A gRPC status other than OK.
    Grpc(u8),
    /// An HTTP status other than 200.
    Http(u16),
    /// No connection could be opened.
    Connect,
    /// The connection or the stream broke, or the answer was not of the protocol.
    Transport,
    /// Not answered when the run gave up waiting.
    Unfinished,
    /// Taken back by the generator on purpose.
    TakenBack,
}

impl Code {
    /// Whether a server that has too much to do says this instead of working.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Grpc(8 | 14) | Self::Http(429 | 503))
    }

    /// Whether this says that the deadline has passed.
    pub(crate) fn is_expiry(self) -> bool {
        matches!(self, Self::Grpc(4) | Self::Http(504))
    }
}

const GRPC_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(code) => f.write_str(GRPC_NAMES.get(usize::from(*code)).copied().unwrap_or("UNKNOWN")),
            Self::Http(status) => write!(f, "{status}"),
            Self::Connect => f.write_str("CONNECT"),
            Self::Transport => f.write_str("TRANSPORT"),
            Self::Unfinished => f.write_str("UNFINISHED"),
            Self::TakenBack => f.write_str("TAKEN_BACK"),
        }
    }
}

impl Failure {
    /// A failure of the transport, whatever it says.
    pub(crate) fn transport(text: impl fmt::Display) -> Self {
        Self { code: Code::Transport, text: text.to_string() }
    }

    /// A connection that could not be opened.
    pub(crate) fn connect(text: impl fmt::Display) -> Self {
        Self { code: Code::Connect, text: text.to_string() }
    }
}

/// A request that a closing connection surely did not process goes out again on another one, this often at most in all,
/// as every gRPC and HTTP client does: a server that drains well must show no error.
pub(crate) const ATTEMPTS: usize = 3;

/// An error with its causes: transports say little in the outermost one.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Either protocol.
#[derive(Debug)]
pub(crate) enum Client {
    Grpc(GrpcClient),
    Http(HttpClient),
}

impl Client {
    /// How many requests went out again; see [`ATTEMPTS`].
    pub(crate) fn resent(&self) -> u64 {
        match self {
            Self::Grpc(client) => client.resent(),
            Self::Http(client) => client.resent(),
        }
    }
}

impl Sender for Client {
    async fn send(&self, call: Call) -> Result<Answer, Failure> {
        match self {
            Self::Grpc(client) => client.send(call).await.map(Answer::Grpc),
            Self::Http(client) => client.send(call).await.map(Answer::Http),
        }
    }
}
