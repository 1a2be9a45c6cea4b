//! The gRPC client: HTTP/2 connections with requests that were framed before the run, so that a request costs a header
//! copy and two frames. Answers are not decoded here. Used through `sender::Client`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Version, header};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::{Fault, Result};
use crate::message::Message;
use crate::sender::{ATTEMPTS, Call, Code, Failure};
use crate::target::{MAX_ANSWER_BYTES, Target, dial};

/// What a request asks for.
pub(crate) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
pub(crate) const METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
/// Large enough that no answer of ordinary size waits for a window update.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;

/// A fixed set of connections that are opened when first used and again when they break.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    target: Target,
    /// One framed message per case.
    messages: Vec<Message>,
    request: Request<()>,
    slots: Vec<Slot>,
    next_slot: AtomicUsize,
    /// The tasks that drive the connections; they end with the client.
    drivers: Mutex<JoinSet<()>>,
    resent: AtomicU64,
}

/// One connection's place.
#[derive(Debug, Default)]
struct Slot {
    sender: Mutex<Option<SendRequest<Bytes>>>,
    /// Held while dialling, so that one caller dials and the others wait for it.
    dialling: tokio::sync::Mutex<()>,
}

/// Why an attempt got no message.
enum Miss {
    /// The server said that it did not look at the request.
    Unprocessed(h2::Error),
    Failed(Failure),
}

impl From<h2::Error> for Miss {
    fn from(error: h2::Error) -> Self {
        let said_by_server = error.is_remote();
        match error.reason() {
            Some(Reason::NO_ERROR) if said_by_server && error.is_go_away() => Self::Unprocessed(error),
            Some(Reason::REFUSED_STREAM) if said_by_server && error.is_reset() => Self::Unprocessed(error),
            _ => Self::Failed(Failure::transport(error)),
        }
    }
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl GrpcClient {
    /// A client that has not connected yet and asks for `path`; `timeout` is sent along as the deadline.
    ///
    /// # Errors
    /// A header that HTTP does not allow.
    pub(crate) fn new(target: Target, path: &str, messages: Vec<Message>, timeout: Option<Duration>) -> Result<Self> {
        let mut request = Request::post(format!("http://{}{path}", target.authority))
            .version(Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("weir-loadtest/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|e| Fault::new("request", e))?;
        if let Some(timeout) = timeout {
            // The protocol allows eight digits and a unit.
            let text = format!("{}m", timeout.as_millis().clamp(1, 99_999_999));
            request
                .headers_mut()
                .insert("grpc-timeout", HeaderValue::try_from(text).map_err(|e| Fault::new("timeout", e))?);
        }
        for (name, value) in &target.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let slots = (0..target.connections).map(|_| Slot::default()).collect();
        let (next_slot, resent) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Self { target, messages, request, slots, next_slot, drivers: Mutex::default(), resent })
    }

    /// Sends one request; the answer is the framed message.
    pub(crate) async fn send(&self, call: Call) -> Result<Bytes, Failure> {
        let slot = &self.slots[self.next_slot.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        for _ in 1..ATTEMPTS {
            match self.attempt(slot, call).await {
                Err(Miss::Unprocessed(_)) => self.resent.fetch_add(1, Ordering::Relaxed),
                Err(Miss::Failed(failure)) => return Err(failure),
                Ok(message) => return Ok(message),
            };
        }
        self.attempt(slot, call).await.map_err(|miss| match miss {
            Miss::Unprocessed(error) => Failure::transport(error),
            Miss::Failed(failure) => failure,
        })
    }

    /// How many requests went out again; see [`ATTEMPTS`].
    pub(crate) fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    async fn attempt(&self, slot: &Slot, call: Call) -> Result<Bytes, Miss> {
        let mut sender = self.sender(slot).await?;
        let (answer, mut stream) = sender.send_request(self.request.clone(), false)?;
        stream.send_data(self.messages[call.case].of(call.number), true)?;
        let (head, mut body) = answer.await?.into_parts();
        if head.status != http::StatusCode::OK {
            let failure = Failure { code: Code::Http(head.status.as_u16()), text: head.status.to_string() };
            return Err(failure.into());
        }
        if let Some(status) = head.headers.get("grpc-status") {
            // No message follows: the only headers are the trailers.
            grpc_status(status, &head.headers)?;
        }
        let message = read_to_end(&mut body).await?;
        let trailers = body.trailers().await?.unwrap_or_default();
        match trailers.get("grpc-status") {
            Some(status) => Ok(grpc_status(status, &trailers).map(|()| message)?),
            None => Err(Failure::transport("answer without grpc-status").into()),
        }
    }

    /// The slot's connection, opened if there is none or it takes no more requests.
    async fn sender(&self, slot: &Slot) -> Result<SendRequest<Bytes>, Failure> {
        if let Some(sender) = live(slot).await {
            return Ok(sender);
        }
        let _dialling = slot.dialling.lock().await;
        if let Some(sender) = live(slot).await {
            return Ok(sender);
        }
        let socket = dial(self.target.address).await?;
        let (sender, driver) = handshake(socket).await.map_err(Failure::connect)?;
        let mut drivers = self.drivers.lock();
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            // A broken connection shows in every request on it; its own error adds nothing.
            let _ = driver.await;
        });
        *slot.sender.lock() = Some(sender.clone());
        Ok(sender)
    }
}

/// The slot's connection if it still takes requests.
async fn live(slot: &Slot) -> Option<SendRequest<Bytes>> {
    let sender = slot.sender.lock().clone()?;
    sender.ready().await.ok()
}

async fn handshake(
    socket: TcpStream,
) -> Result<(SendRequest<Bytes>, impl Future<Output = Result<(), h2::Error>> + Send), h2::Error> {
    Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_push(false)
        .handshake(socket)
        .await
}

/// The body's bytes; a body of one frame, the usual one, is not copied.
async fn read_to_end(body: &mut RecvStream) -> Result<Bytes, Miss> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        if rest.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::transport(format_args!("answer over {MAX_ANSWER_BYTES} bytes")).into());
        }
        rest.extend_from_slice(&chunk);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn grpc_status(status: &HeaderValue, headers: &HeaderMap) -> Result<(), Failure> {
    let code = status.to_str().ok().and_then(|text| text.parse::<u8>().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let text = headers.get("grpc-message").map_or_else(String::new, |text| percent_decoded(text.as_bytes()));
            Err(Failure { code: Code::Grpc(code), text })
        }
        None => Err(Failure::transport("grpc-status is not a number")),
    }
}

/// A status text as it was meant: gRPC sends everything but printable ASCII as `%xx`.
fn percent_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let pair = tail.get(..2).filter(|_| *first == b'%').and_then(|pair| str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use h2::server::SendResponse;
    use http::Response;
    use tokio::net::TcpListener;

    use super::*;
    use crate::target::Protocol;
    use crate::wire_grpc::ModelName;

    const CALL: Call = Call { case: 0, number: 0 };
    const ANSWER: &[u8] = &[0, 0, 0, 0, 1, 7];

    /// Answers `answers` requests on a new connection, each with `status` in the trailers, then says goodbye; requests
    /// that cross the goodbye are not answered.
    async fn serve_and_leave(listener: &TcpListener, answers: usize, status: &'static str) {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        for _ in 0..answers {
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            answer(&mut respond, status);
        }
        connection.graceful_shutdown();
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    }

    fn answer(respond: &mut SendResponse<Bytes>, status: &str) {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(ANSWER), false).unwrap();
        let trailers = [("grpc-status", status), ("grpc-message", "said")];
        let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        stream.send_trailers(trailers.into_iter().collect()).unwrap();
    }

    async fn client_of(listener: &TcpListener) -> GrpcClient {
        let address = listener.local_addr().unwrap();
        let target = Target {
            address,
            authority: address.to_string(),
            protocol: Protocol::GrpcRaw,
            model: ModelName::default(),
            connections: 1,
            headers: Vec::new(),
        };
        GrpcClient::new(target, INFER, vec![Bytes::from_static(&[0; 5]).into()], None).unwrap()
    }

    #[test]
    fn status_texts_are_readable() {
        assert_eq!(percent_decoded(b"model%20'm':%20%C3%A9 100% %zz"), "model 'm': \u{e9} 100% %zz");
    }

    #[tokio::test]
    async fn requests_that_a_leaving_server_did_not_process_go_out_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(&listener).await;
        let server = async {
            for _ in 0..3 {
                serve_and_leave(&listener, 2, "0").await;
            }
        };
        let calls = async {
            for _ in 0..6 {
                assert_eq!(client.send(CALL).await.unwrap(), ANSWER);
            }
            // Lets the server's last connection end.
            drop(client);
        };
        tokio::join!(server, calls);
    }

    #[tokio::test]
    async fn a_refused_stream_goes_out_again_and_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(&listener).await;
        let server = async {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let mut refuse = true;
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                match std::mem::take(&mut refuse) {
                    true => respond.send_reset(Reason::REFUSED_STREAM),
                    false => answer(&mut respond, "0"),
                }
            }
        };
        let calls = async {
            assert_eq!(client.send(CALL).await.unwrap(), ANSWER);
            assert_eq!(client.resent(), 1);
            drop(client);
        };
        tokio::join!(server, calls);
    }

    #[tokio::test]
    async fn statuses_are_failures_with_their_text() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(&listener).await;
        let calls = async {
            let failure = client.send(CALL).await.unwrap_err();
            assert_eq!(failure, Failure { code: Code::Grpc(14), text: "said".into() });
            assert_eq!(client.resent(), 0);
            drop(client);
        };
        tokio::join!(serve_and_leave(&listener, 1, "14"), calls);
    }
}
