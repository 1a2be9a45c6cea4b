//! The body of every answer. One enum instead of a boxed trait object: the hot paths answer with [`Kind::Full`] or
//! [`Kind::Grpc`], only tonic's own services need a box. It carries what must live until the answer has left: the
//! connection's in-flight guard and the request's share of the memory budget.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{budget::Share, pulse::InFlight};

/// Answers from here on count as memory until the peer has taken them.
const LARGE: usize = 16 << 10;

/// The bytes of a large answer, with what must live as long as they do.
struct Held {
    bytes: Bytes,
    _guard: InFlight,
    _share: Option<Share>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer's body.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    in_flight: Option<InFlight>,
    share: Option<Share>,
}

#[derive(Debug)]
enum Kind {
    /// Nothing (left).
    Empty,
    /// One piece.
    Full(Bytes),
    /// One gRPC frame, then trailers.
    Grpc(Bytes, HeaderMap),
    /// The trailers that follow it.
    Trailers(HeaderMap),
    /// Whatever tonic made.
    Tonic(tonic::body::Body),
    /// The same, until the server stops: streams without end must not hold up a shutdown.
    Until(tonic::body::Body, Pin<Box<WaitForCancellationFutureOwned>>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Kind::Empty.into()
    }

    /// One gRPC frame followed by trailers.
    pub fn grpc(frame: Bytes, trailers: HeaderMap) -> Self {
        Kind::Grpc(frame, trailers).into()
    }

    /// Ends a stream when the server stops, with a status that tells the caller to look elsewhere.
    #[must_use]
    pub fn until(mut self, stop: CancellationToken) -> Self {
        self.kind = match self.kind {
            Kind::Tonic(body) => Kind::Until(body, Box::pin(stop.cancelled_owned())),
            other => other,
        };
        self
    }

    /// Holds the connection's guard until the answer has been sent or dropped. HTTP/2 takes a body at once and keeps its bytes
    /// until the peer makes room, so with a large answer the guard and the memory share travel inside the bytes.
    pub(super) fn in_flight(mut self, guard: InFlight) -> Self {
        let guard = match &self.kind {
            Kind::Tonic(_) | Kind::Until(..) => guard.stream(),
            _ => guard.deliver(),
        };
        match &mut self.kind {
            Kind::Full(bytes) | Kind::Grpc(bytes, _) if bytes.len() >= LARGE => {
                if let Some(share) = &mut self.share {
                    share.add(bytes.len());
                }
                let held = Held { bytes: std::mem::take(bytes), _guard: guard, _share: self.share.take() };
                *bytes = Bytes::from_owner(held);
            }
            _ => self.in_flight = Some(guard),
        }
        self
    }

    /// Holds a share of the memory budget until the body has been sent or dropped.
    #[must_use]
    pub fn holding(mut self, share: Option<Share>) -> Self {
        self.share = share;
        self
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, in_flight: None, share: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Kind::Empty.into() } else { Kind::Full(bytes).into() }
    }
}

impl From<tonic::body::Body> for Body {
    fn from(body: tonic::body::Body) -> Self {
        Kind::Tonic(body).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Kind::Grpc(frame, trailers) => {
                self.kind = Kind::Trailers(trailers);
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            Kind::Trailers(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Kind::Tonic(mut body) => {
                let frame = Pin::new(&mut body).poll_frame(cx);
                self.kind = Kind::Tonic(body);
                frame
            }
            Kind::Until(mut body, mut stop) => {
                let frame = Pin::new(&mut body).poll_frame(cx);
                if frame.is_pending() && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Ok(Frame::trailers(stopping()))));
                }
                self.kind = Kind::Until(body, stop);
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Tonic(body) | Kind::Until(body, _) => body.is_end_stream(),
            Kind::Full(_) | Kind::Grpc(..) | Kind::Trailers(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty | Kind::Trailers(_) => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // No exact size: hyper would announce it as content-length, which gRPC answers do not have.
            Kind::Grpc(..) => SizeHint::default(),
            Kind::Tonic(body) | Kind::Until(body, _) => body.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

/// The trailers of a stream that ends because the server does.
fn stopping() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Writing a status with a plain text into headers does not fail.
    let _ = tonic::Status::unavailable("server: shutting down").add_header(&mut trailers);
    trailers
}
