//! The HTTP client: keep-alive HTTP/1.1 connections with one request in flight each and bodies that were encoded before
//! the run. Answers are not decoded here. Used through `sender::Client`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::{Fault, Result};
use crate::message::Message;
use crate::sender::{ATTEMPTS, Call, Chain, Code, Failure};
use crate::target::{MAX_ANSWER_BYTES, Target, dial};
use crate::wire_http::{HttpBody, JSON_LENGTH_HEADER};

type Connection = SendRequest<Full<Bytes>>;

/// A body to send and, if binary tensors follow its JSON, the length of the JSON.
#[derive(Debug)]
pub(crate) struct Body {
    /// Of the model.
    pub(crate) path: String,
    pub(crate) message: Message,
    pub(crate) json_length: Option<usize>,
}

/// A bounded pool of connections, opened when needed.
#[derive(Debug)]
pub(crate) struct HttpClient {
    target: Target,
    /// Head and body of one request per case.
    requests: Vec<(Request<()>, Message)>,
    idle: Mutex<Vec<Connection>>,
    /// One permit per connection; who has to wait for one waits as part of its request's latency.
    permits: Semaphore,
    drivers: Mutex<JoinSet<()>>,
    resent: AtomicU64,
}

impl HttpClient {
    /// A client that has not connected yet; `timeout` is sent along as the deadline.
    ///
    /// # Errors
    /// A header or model name that HTTP does not allow.
    pub(crate) fn new(target: Target, bodies: Vec<Body>, timeout: Option<Duration>) -> Result<Self> {
        let head = |body: Body| Ok((request(&target, &body, timeout)?, body.message));
        let requests = bodies.into_iter().map(head).collect::<Result<_>>()?;
        let permits = Semaphore::new(target.connections);
        Ok(Self {
            target,
            requests,
            idle: Mutex::default(),
            permits,
            drivers: Mutex::default(),
            resent: AtomicU64::new(0),
        })
    }

    /// Sends one request; the answer is the body.
    pub(crate) async fn send(&self, call: Call) -> Result<HttpBody, Failure> {
        let _permit = self.permits.acquire().await.map_err(Failure::transport)?;
        let (answer, connection) = self.round_trip(call).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(Failure::transport)?.to_bytes();
        self.idle.lock().push(connection);
        if head.status != StatusCode::OK {
            return Err(Failure { code: Code::Http(head.status.as_u16()), text: error_text(&body) });
        }
        let json_length = match head.headers.get(JSON_LENGTH_HEADER) {
            None => None,
            Some(value) => Some(length(value).ok_or_else(|| Failure::transport("bad JSON length header"))?),
        };
        Ok(HttpBody { bytes: body, json_length })
    }

    /// How many requests went out again; see [`ATTEMPTS`].
    pub(crate) fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    /// The answer's head, and the connection that its body comes over.
    async fn round_trip(&self, call: Call) -> Result<(Response<Incoming>, Connection), Failure> {
        for _ in 1..ATTEMPTS {
            let mut connection = self.connection().await?;
            match connection.try_send_request(self.request(call)).await {
                Ok(answer) => return Ok((answer, connection)),
                // The connection was closed before anything was written to it.
                Err(unsent) if unsent.message().is_some() => self.resent.fetch_add(1, Ordering::Relaxed),
                Err(broken) => return Err(Failure::transport(Chain(broken.error()))),
            };
        }
        let mut connection = self.connection().await?;
        let answer = connection.send_request(self.request(call)).await;
        answer.map(|answer| (answer, connection)).map_err(|broken| Failure::transport(Chain(&broken)))
    }

    fn request(&self, call: Call) -> Request<Full<Bytes>> {
        let (head, body) = &self.requests[call.case];
        head.clone().map(|()| Full::new(body.of(call.number)))
    }

    /// An idle connection that is still open, or a new one.
    async fn connection(&self) -> Result<Connection, Failure> {
        loop {
            // A statement of its own: the lock must not be held while waiting.
            let idle = self.idle.lock().pop();
            let Some(mut connection) = idle else { break };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let socket = dial(self.target.address).await?;
        let (connection, driver) = handshake(TokioIo::new(socket)).await.map_err(Failure::connect)?;
        let mut drivers = self.drivers.lock();
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            // A broken connection shows in its request; its own error adds nothing.
            let _ = driver.await;
        });
        Ok(connection)
    }
}

fn request(target: &Target, body: &Body, timeout: Option<Duration>) -> Result<Request<()>> {
    let kind = if body.json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut request = Request::post(format!("{}/infer", body.path))
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, kind)
        .header(header::USER_AGENT, concat!("weir-loadtest/", env!("CARGO_PKG_VERSION")));
    if let Some(length) = body.json_length {
        request = request.header(JSON_LENGTH_HEADER, length);
    }
    if let Some(timeout) = timeout {
        request = request.header("request-timeout-ms", timeout.as_millis().max(1).to_string());
    }
    let mut request = request.body(()).map_err(|e| Fault::new("request", e))?;
    for (name, value) in &target.headers {
        request.headers_mut().insert(name, value.clone());
    }
    Ok(request)
}

fn length(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.parse().ok()
}

/// The body of `GET path`, over a connection of its own.
pub(crate) async fn get(target: &Target, path: &str) -> Result<Bytes, Failure> {
    let socket = dial(target.address).await?;
    let (mut connection, driver) = handshake::<_, Full<Bytes>>(TokioIo::new(socket)).await.map_err(Failure::connect)?;
    let request = Request::get(path).header(header::HOST, &target.authority).body(Full::default());
    let mut request = request.map_err(Failure::transport)?;
    for (name, value) in &target.headers {
        request.headers_mut().insert(name, value.clone());
    }
    let exchange = async {
        let (head, body) = connection.send_request(request).await.map_err(Failure::transport)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(Failure::transport)?.to_bytes();
        match head.status {
            StatusCode::OK => Ok(body),
            status => Err(Failure { code: Code::Http(status.as_u16()), text: error_text(&body) }),
        }
    };
    tokio::select! {
        answer = exchange => answer,
        broken = driver => Err(Failure::transport(format_args!("connection closed: {broken:?}"))),
    }
}

/// The beginning of an error body, for the report.
fn error_text(body: &Bytes) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
}
