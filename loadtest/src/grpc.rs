//! The gRPC client: HTTP/2 connections with requests that were framed before the run, so that a request costs a header
//! copy and two frames. Answers are not decoded here. Used through `sender::Client`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, HeaderValue, Request, Version, header};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::{Fault, Result};
use crate::sender::{Code, Failure};
use crate::target::{MAX_ANSWER_BYTES, Target, dial};

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Large enough that no answer of ordinary size waits for a window update.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;

/// A fixed set of connections that are opened when first used and again when they break.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    target: Target,
    /// One framed message per case.
    messages: Vec<Bytes>,
    request: Request<()>,
    slots: Vec<Slot>,
    next_slot: AtomicUsize,
    /// The tasks that drive the connections; they end with the client.
    drivers: Mutex<JoinSet<()>>,
}

/// One connection's place.
#[derive(Debug, Default)]
struct Slot {
    sender: Mutex<Option<SendRequest<Bytes>>>,
    /// Held while dialling, so that one caller dials and the others wait for it.
    dialling: tokio::sync::Mutex<()>,
}

impl GrpcClient {
    /// A client that has not connected yet; `timeout` is sent along as the deadline.
    ///
    /// # Errors
    /// A header that HTTP does not allow.
    pub(crate) fn new(target: Target, messages: Vec<Bytes>, timeout: Option<Duration>) -> Result<Self> {
        let mut request = Request::post(format!("http://{}{PATH}", target.authority))
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
        Ok(Self { target, messages, request, slots, next_slot: AtomicUsize::new(0), drivers: Mutex::default() })
    }

    /// Sends case `case`; the answer is the framed message.
    pub(crate) async fn send(&self, case: usize) -> Result<Bytes, Failure> {
        let slot = &self.slots[self.next_slot.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        let mut sender = self.sender(slot).await?;
        let (answer, mut stream) = sender.send_request(self.request.clone(), false).map_err(Failure::transport)?;
        stream.send_data(self.messages[case].clone(), true).map_err(Failure::transport)?;
        let (head, mut body) = answer.await.map_err(Failure::transport)?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Failure { code: Code::Http(head.status.as_u16()), text: head.status.to_string() });
        }
        if let Some(status) = head.headers.get("grpc-status") {
            // No message follows: the only headers are the trailers.
            grpc_status(status, &head.headers)?;
        }
        let message = read_to_end(&mut body).await?;
        let trailers = body.trailers().await.map_err(Failure::transport)?.unwrap_or_default();
        match trailers.get("grpc-status") {
            Some(status) => grpc_status(status, &trailers).map(|()| message),
            None => Err(Failure::transport("answer without grpc-status")),
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
async fn read_to_end(body: &mut RecvStream) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(Failure::transport)?;
        body.flow_control().release_capacity(chunk.len()).map_err(Failure::transport)?;
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        if rest.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::transport(format_args!("answer over {MAX_ANSWER_BYTES} bytes")));
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
            let text = headers.get("grpc-message").map_or("", |text| text.to_str().unwrap_or("")).to_owned();
            Err(Failure { code: Code::Grpc(code), text })
        }
        None => Err(Failure::transport("grpc-status is not a number")),
    }
}
