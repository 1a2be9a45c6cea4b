//! The HTTP client of the commands that ask a running gateway: one connection, one request, one answer, all of it bounded in
//! time and size.

use std::{fmt, fs, path::Path, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, task::JoinSet};

use super::{exit::Failure, table::clean};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// Where a gateway is: `http://host[:port][/prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    host: String,
    port: u16,
    prefix: String,
}

impl BaseUrl {
    /// On this machine.
    pub fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port, prefix: String::new() }
    }

    /// At an address.
    pub fn at(address: std::net::SocketAddr) -> Self {
        let host = match address.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host, port: address.port(), prefix: String::new() }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host at another port.
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port, prefix: String::new() }
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl FromStr for BaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a URL such as http://127.0.0.1:8000";
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err("https is not spoken here: name the gateway itself, or a tunnel to it, with http://");
            }
            _ => return Err(EXPECTED),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(EXPECTED);
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(80), prefix })
    }
}

/// Why there is no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// Nobody answers there.
    Unreachable(String),
    /// Somebody answers, but with this status and text.
    Refused(StatusCode, String),
    /// Somebody answers, but not a gateway, or not completely.
    Garbled(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(text) | ClientError::Garbled(text) => f.write_str(text),
            ClientError::Refused(status, text) => write!(f, "{text} (HTTP {})", status.as_u16()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::problem(error.to_string())
    }
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Question {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST.
    pub fn post(path: impl Into<String>, content_type: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { method: Method::POST, path: path.into(), headers, body }
    }

    /// Any method, without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, ..Self::get(path) }
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// With a further header.
    #[must_use]
    pub fn header(mut self, name: impl header::IntoHeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// An answer with a good status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

/// Asks one gateway. Shown as its URL.
#[derive(Clone, Debug)]
pub struct Client {
    base: BaseUrl,
    token: Option<HeaderValue>,
    patience: Duration,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}

impl Client {
    /// A client that waits for an answer for at most `patience`.
    pub fn new(base: BaseUrl, token: Option<HeaderValue>, patience: Duration) -> Self {
        Self { base, token, patience }
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// When nobody answers, in time or at all, or the status is not a good one.
    pub async fn ask(&self, question: Question) -> Result<Answer, ClientError> {
        match tokio::time::timeout(self.patience, self.exchange(question)).await {
            Ok(answer) => answer,
            Err(_) => {
                let seconds = self.patience.as_secs_f64();
                Err(ClientError::Unreachable(format!("{}: no answer within {seconds} s", self.base)))
            }
        }
    }

    async fn exchange(&self, question: Question) -> Result<Answer, ClientError> {
        let garbled = |error: &dyn fmt::Display| ClientError::Garbled(format!("{}: {error}", self.base));
        let stream = self.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| garbled(&error))?;
        // Aborted when it is dropped at the end of this exchange.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(self.request(question)?).await.map_err(|error| garbled(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| garbled(&error))?.to_bytes();
        if parts.status.is_success() {
            return Ok(Answer { headers: parts.headers, body });
        }
        Err(ClientError::Refused(parts.status, error_text(&body)))
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let unreachable = |why: &dyn fmt::Display| ClientError::Unreachable(format!("{}: {why}", self.base));
        let host = self.base.host.trim_start_matches('[').trim_end_matches(']');
        match tokio::time::timeout(CONNECT, TcpStream::connect((host, self.base.port))).await {
            Ok(Ok(stream)) => {
                // A whole request is written at once; it must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(unreachable(&"no connection within 5 s")),
        }
    }

    fn request(&self, question: Question) -> Result<Request<Full<Bytes>>, ClientError> {
        let path = format!("{}{}", self.base.prefix, question.path);
        let built = Request::builder().method(question.method).uri(path).header(header::HOST, self.base.authority());
        let mut request = built
            .body(Full::new(question.body))
            .map_err(|error| ClientError::Garbled(format!("{}: {error}", self.base)))?;
        request.headers_mut().extend(question.headers);
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

/// The text of an error answer: its `problems`, a line each, else what its `error` says, else its beginning.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
        #[serde(default)]
        problems: Vec<String>,
    }
    const MAX_CHARS: usize = 200;
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) if !body.problems.is_empty() => {
            body.problems.iter().map(|problem| clean(problem)).collect::<Vec<_>>().join("\n")
        }
        Ok(body) => clean(&body.error),
        Err(_) if body.is_empty() => "no text".to_owned(),
        Err(_) => clean(&String::from_utf8_lossy(body).chars().take(MAX_CHARS).collect::<String>()),
    }
}

/// Reads a token file into the header that carries it.
///
/// # Errors
/// When the file cannot be read, or holds no token.
pub fn bearer(path: &Path) -> Result<HeaderValue, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| Failure::usage(format!("--token-file {shown}: {error}")))?;
    let token = text.trim();
    let value = if token.is_empty() { None } else { HeaderValue::try_from(format!("Bearer {token}")).ok() };
    let mut value =
        value.ok_or_else(|| Failure::usage(format!("--token-file {shown}: expected one line with a token")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        // A segment of dots alone would be taken for a step in the path.
        let plain = byte.is_ascii_alphanumeric()
            || b"-_~".contains(&byte)
            || (byte == b'.' && !text.trim_matches('.').is_empty());
        if plain { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

/// Runs a client's conversation on a runtime of its own.
///
/// # Errors
/// What the conversation ends with, or that the machine refuses a runtime.
pub fn block_on<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::problem(format!("runtime: {error}")))?;
    runtime.block_on(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://weir.example", "http://weir.example:80"),
            ("http://[::1]:9/", "http://[::1]:9"),
            ("http://proxy:81/models/a/", "http://proxy:81/models/a"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().map(|url| url.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in ["", "127.0.0.1:8000", "weir", "ftp://weir", "http://", "http://a?b", "http://u:p@a", "/v2"] {
            assert!(text.parse::<BaseUrl>().unwrap_err().starts_with("expected a URL"), "{text}");
        }
        assert!("https://weir".parse::<BaseUrl>().unwrap_err().contains("https is not spoken"));
        assert_eq!(BaseUrl::at("[::1]:8000".parse().unwrap()).to_string(), "http://[::1]:8000");
    }

    #[test]
    fn segments_stay_one_segment() {
        assert_eq!(segment("digits-linear_2.0"), "digits-linear_2.0");
        assert_eq!(segment("a/b?c %"), "a%2Fb%3Fc%20%25");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn errors_show_what_the_gateway_says() {
        assert_eq!(error_text(br#"{"error":"model 'm': not found"}"#), "model 'm': not found");
        let problems = br#"{"error":"a; b","problems":["variant[0].weight: a","b\u001b"]}"#;
        assert_eq!(error_text(problems), "variant[0].weight: a\nb\\u{1b}");
        assert_eq!(error_text(b"<html>\x1b[2J"), "<html>\\u{1b}[2J");
        assert_eq!(error_text(b""), "no text");
    }

    #[test]
    fn tokens_are_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "secret\n").unwrap();
        assert_eq!(bearer(&path).unwrap().to_str().unwrap(), "Bearer secret");
        for text in ["", "\n", "a\nb"] {
            fs::write(&path, text).unwrap();
            assert!(bearer(&path).unwrap_err().text.contains("expected one line"), "{text:?}");
        }
        assert!(bearer(&folder.path().join("absent")).is_err());
    }
}
