//! One connection, from its first byte to its last: waits until the peer has said which protocol it speaks, serves HTTP/1 or
//! HTTP/2 with hyper, and follows the orders of its I/O thread. Run by `io_thread` as one task per connection.
//!
//! hyper's own header timer is off on purpose: it makes and drops a timer per request, and it doubles as the keep-alive
//! timeout, which would hang up on pooled clients after seconds. The I/O thread watches all its connections instead.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    body::Body,
    limits::Limits,
    middleware::Guarded,
    pulse::{InFlight, Order, Pulse, Speaks},
    timer::{LoopTimer, tick},
};
use crate::types::Error;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a preface that came in parts.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);

/// Bytes up to which what is to be written in pieces is written in one.
const ONE_PIECE: usize = 1024;

/// Answers requests. One value per listener, cloned per connection.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Called once on each of its threads, inside the thread's runtime, before it serves. Tasks go to `tracker` and end when
    /// `stop` is cancelled, which is when the last connection has gone.
    fn enter(&self, _tracker: &TaskTracker, _stop: CancellationToken) {}

    /// The answer to one request. Dropping the future means that the caller left.
    fn call(&self, request: Request<Incoming>, peer: SocketAddr) -> Answering;
}

/// An answer in the making. It is on the heap, because hyper moves what it is given several times before it first polls it.
pub struct Answering {
    future: Pin<Box<dyn Future<Output = Response<Body>> + Send>>,
    /// What is answered when it panics. Without, a panic ends the connection's task.
    panicked: Option<fn(Error) -> Response<Body>>,
}

impl Answering {
    /// What `future` answers.
    pub fn new(future: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self { future: Box::pin(future), panicked: None }
    }

    /// The same, with an answer of its own for a panic.
    pub(super) fn or_panicked(self, panicked: fn(Error) -> Response<Body>) -> Self {
        Self { panicked: Some(panicked), ..self }
    }
}

impl Future for Answering {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let Some(panicked) = self.panicked else { return self.future.as_mut().poll(cx) };
        let answer = Pin::new(&mut Guarded(self.future.as_mut())).poll(cx);
        answer.map(|answer| answer.unwrap_or_else(panicked))
    }
}

/// The same, with the connection's in-flight guard, as hyper wants it.
struct Serving {
    answer: Answering,
    guard: Option<InFlight>,
}

impl Future for Serving {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) else { return Poll::Pending };
        Poll::Ready(Ok(match self.guard.take() {
            Some(guard) => answer.map(|body| body.in_flight(guard)),
            None => answer,
        }))
    }
}

/// Spawns hyper's tasks (one per HTTP/2 request) on the thread's tracker.
#[derive(Clone, Debug)]
pub(super) struct Spawn(pub(super) TaskTracker);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// hyper's settings, made once per I/O thread.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<Spawn>,
}

impl Protocols {
    pub(super) fn new(limits: &Limits, spawn: Spawn) -> Self {
        let (mut http1, mut http2) = (http1::Builder::new(), http2::Builder::new(spawn));
        http1.header_read_timeout(None).max_buf_size(limits.http1_buffer.max(8192));
        http2
            .timer(LoopTimer)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout)
            .max_concurrent_streams(limits.streams)
            .initial_stream_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_frame_size(limits.frame)
            .max_header_list_size(limits.header_bytes)
            // Resets are cheap for the sender and dear for us: past these a connection is closed.
            .max_pending_accept_reset_streams(64)
            .max_local_error_reset_streams(256);
        Self { http1, http2 }
    }
}

/// Waits for the first bytes, without taking them. `None` when there is nobody to serve, or no time left to.
async fn greeting(stream: &TcpStream, patience: Duration, pulse: &Pulse) -> Option<Speaks> {
    let listen = tokio::time::timeout(patience, async {
        let mut seen = [0; PREFACE.len()];
        loop {
            let n = stream.peek(&mut seen).await.ok().filter(|n| *n > 0)?;
            if seen[..n] != PREFACE[..n] {
                return Some(Speaks::Http1);
            }
            if n == PREFACE.len() {
                return Some(Speaks::Http2);
            }
            tokio::time::sleep(PREFACE_PAUSE).await;
        }
    });
    let mut listen = pin!(listen);
    poll_fn(|cx| {
        let heard = listen.as_mut().poll(cx).map(|heard| heard.ok().flatten());
        // Silent connections do not delay a shutdown.
        if heard.is_pending() && pulse.order(cx.waker()) > Order::Serve { Poll::Ready(None) } else { heard }
    })
    .await
}

/// Serves a connection until it ends or is told to. `patience` is how long it may stay silent at first.
pub(super) async fn serve<H: Handler>(
    (stream, peer): (TcpStream, SocketAddr),
    protocols: &Protocols,
    handler: H,
    pulse: Arc<Pulse>,
    patience: Duration,
) {
    let Some(speaks) = greeting(&stream, patience, &pulse).await else { return };
    pulse.greeted(speaks);
    let io = Watched { inner: TokioIo::new(stream), pulse: Arc::clone(&pulse) };
    let signs = Arc::clone(&pulse);
    let service = service_fn(move |request| {
        let guard = Some(signs.begin());
        Serving { answer: handler.call(request, peer), guard }
    });
    let end = match speaks {
        Speaks::Http1 => {
            let connection = protocols.http1.serve_connection(io, service);
            follow(connection, http1::Connection::graceful_shutdown, &pulse).await
        }
        Speaks::Http2 => {
            let connection = protocols.http2.serve_connection(io, service);
            follow(connection, http2::Connection::graceful_shutdown, &pulse).await
        }
    };
    if let Err(error) = end {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Runs a connection until it ends or is told to. `finish` has it end by itself when it has answered what it has taken.
async fn follow<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    finish: fn(Pin<&mut C>),
    pulse: &Pulse,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    let mut finishing = false;
    poll_fn(|cx| {
        tick();
        loop {
            // First the connection: what has arrived already is served even if the order to finish came with it.
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            match pulse.order(cx.waker()) {
                Order::Abort => return Poll::Ready(Ok(())),
                Order::Finish if !finishing => {
                    finishing = true;
                    finish(connection.as_mut());
                }
                Order::Serve | Order::Finish => return Poll::Pending,
            }
        }
    })
    .await
}

/// A socket whose reads and writes are counted.
struct Watched {
    inner: TokioIo<TcpStream>,
    pulse: Arc<Pulse>,
}

impl Watched {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.wrote(written.is_ready());
        written
    }
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.pulse.read();
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One piece is sent faster than several, and a small answer is copied sooner than its pieces are counted.
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        let written = if bufs.len() > 1 && bytes <= ONE_PIECE {
            let mut piece = SmallVec::<[u8; ONE_PIECE]>::new();
            bufs.iter().for_each(|buf| piece.extend_from_slice(buf));
            Pin::new(&mut self.inner).poll_write(cx, &piece)
        } else {
            Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
        };
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
