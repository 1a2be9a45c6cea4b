//! The clients of the tests: a small HTTP/1 client that keeps its connection, a gRPC channel, and gRPC frames by hand for what
//! no library sends. Used through `harness`.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use weir::protocol::pb::{self, grpc_inference_service_client::GrpcInferenceServiceClient};

use crate::{
    ask::{Answer, Ask, HEADER_LENGTH, Way, from_body, from_message},
    harness::PATIENCE,
};

/// Larger than any answer here; tonic's own limit of 4 MiB is a client's default, not the server's.
const MAX_ANSWER: usize = 256 << 20;

/// How a refusal is called in its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Http(u16),
    Grpc(Code),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failed {
    /// The server said no.
    Told { status: Refused, text: String, retry: Option<Duration> },
    /// The connection ended or could not be made.
    Lost(String),
}

impl Failed {
    pub(crate) fn text(&self) -> &str {
        match self {
            Failed::Told { text, .. } | Failed::Lost(text) => text,
        }
    }

    pub(crate) fn status(&self) -> Option<Refused> {
        match self {
            Failed::Told { status, .. } => Some(*status),
            Failed::Lost(_) => None,
        }
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        // What the transport made up has a source; what the server said has none.
        if let Some(source) = std::error::Error::source(&status) {
            return Failed::Lost(format!("{status}: {source:?}"));
        }
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
        Failed::Told { status: Refused::Grpc(status.code()), text: status.message().to_owned(), retry }
    }
}

/// An HTTP answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The refusal that an answer is. Its body must be `{"error": …}`.
    pub(crate) fn failed(&self) -> Failed {
        let body = self.json();
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let retry = self.header("retry-after-ms").map(|ms| Duration::from_millis(ms.parse().unwrap()));
        let text = body["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned();
        Failed::Told { status: Refused::Http(self.status.as_u16()), text, retry }
    }

    /// The status of a gRPC answer: from its trailers, or its head when there is nothing else.
    pub(crate) fn grpc_status(&self) -> Status {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        Status::from_header_map(&self.trailers)
            .or_else(|| Status::from_header_map(&self.headers))
            .unwrap_or_else(|| panic!("no grpc-status: {self:?}"))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?} ", self.status, self.headers, self.trailers)?;
        write!(f, "{}", String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]))
    }
}

/// An HTTP/1 client with one connection, made anew when the server has closed it.
pub(crate) struct Http {
    address: SocketAddr,
    open: Option<http1::SendRequest<Full<Bytes>>>,
    connections: JoinSet<()>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, open: None, connections: JoinSet::new() }
    }

    /// A request with nothing but what is given; `host` and `content-length` come by themselves.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, Failed> {
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answered = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        answered.unwrap_or_else(|_| panic!("no answer to {method} {path}"))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], Bytes::new()).await.unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body).await.unwrap()
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Failed> {
        let lost = |error: &dyn fmt::Debug| Failed::Lost(format!("{error:?}"));
        let mut kept = self.open.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await.map_err(|error| lost(&error))?;
                stream.set_nodelay(true).unwrap();
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
                self.connections.spawn(async move { drop(connection.await) });
                sender
            }
        };
        let reply = collect(sender.send_request(request).await).await.map_err(|error| lost(&error))?;
        self.open = Some(sender);
        Ok(reply)
    }
}

async fn collect(answer: hyper::Result<http::Response<hyper::body::Incoming>>) -> hyper::Result<Reply> {
    let (parts, body) = answer?.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Reply { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers })
}

/// One HTTP/2 request with exactly this body, as gRPC or whatever the headers say.
pub(crate) async fn http2_post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let mut request = Request::post(format!("http://{address}{path}")).version(Version::HTTP_2);
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let answer = tokio::time::timeout(PATIENCE, async { collect(sender.send_request(request).await).await }).await;
    answer.unwrap_or_else(|_| panic!("no answer to {path}")).unwrap()
}

/// A message with its gRPC prefix.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut out).unwrap();
    out.freeze()
}

pub(crate) type Grpc = GrpcInferenceServiceClient<Channel>;

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(PATIENCE).connect_lazy()
}

pub(crate) fn grpc(address: SocketAddr) -> Grpc {
    Grpc::new(channel(address)).max_decoding_message_size(MAX_ANSWER).max_encoding_message_size(MAX_ANSWER)
}

/// A caller that speaks both protocols, over one connection each.
pub(crate) struct Client {
    pub(crate) http: Http,
    pub(crate) grpc: Grpc,
}

impl Client {
    pub(crate) fn new(http: SocketAddr, grpc_address: SocketAddr) -> Self {
        Self { http: Http::new(http), grpc: grpc(grpc_address) }
    }

    pub(crate) async fn ask(&mut self, way: Way, ask: &Ask) -> Result<Answer, Failed> {
        match way {
            Way::Typed | Way::Raw => {
                let message = ask.message(way == Way::Raw);
                Ok(from_message(self.grpc.model_infer(message).await?.into_inner(), way == Way::Raw))
            }
            Way::Json | Way::Binary => {
                let reply = self.ask_http(way == Way::Binary, ask).await?;
                if reply.status != StatusCode::OK {
                    return Err(reply.failed());
                }
                Ok(from_body(reply.status, &reply.headers, &reply.body))
            }
        }
    }

    /// The request over HTTP, whatever the answer.
    pub(crate) async fn ask_http(&mut self, binary: bool, ask: &Ask) -> Result<Reply, Failed> {
        let (body, json_len) = ask.body(binary);
        let length = json_len.map(|length| length.to_string());
        let mut headers = vec![("content-type", "application/json")];
        if let Some(length) = &length {
            headers = vec![("content-type", "application/octet-stream"), (HEADER_LENGTH, length)];
        }
        self.http.send("POST", &ask.path(), &headers, body).await
    }

    /// The answer to a request that must be answered.
    pub(crate) async fn answer(&mut self, way: Way, ask: &Ask) -> Answer {
        let shown = || format!("{way:?} {} {:.300}", ask.model, format!("{:?}", ask.inputs));
        self.ask(way, ask).await.unwrap_or_else(|failed| panic!("{failed:?} to {}", shown()))
    }

    /// The refusal of a request that must be refused.
    pub(crate) async fn refused(&mut self, way: Way, ask: &Ask) -> Failed {
        self.ask(way, ask).await.expect_err(&format!("{way:?} was answered: {ask:?}"))
    }

    pub(crate) async fn index(&mut self) -> Vec<pb::repository_index_response::ModelIndex> {
        self.grpc.repository_index(pb::RepositoryIndexRequest::default()).await.unwrap().into_inner().models
    }

    /// State and reason of a version in the index; `None` when it is not there.
    pub(crate) async fn state(&mut self, model: &str, version: &str) -> Option<(String, String)> {
        let index = self.index().await;
        let found = index.into_iter().find(|entry| entry.name == model && entry.version == version);
        found.map(|entry| (entry.state, entry.reason))
    }

    pub(crate) async fn statistics(&mut self, model: &str) -> pb::ModelStatistics {
        let request = pb::ModelStatisticsRequest { name: model.to_owned(), version: String::new() };
        let mut answer = self.grpc.model_statistics(request).await.unwrap().into_inner();
        assert_eq!(answer.model_stats.len(), 1, "{answer:?}");
        answer.model_stats.remove(0)
    }
}
