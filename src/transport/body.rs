//! The body of every answer. One enum instead of a boxed trait object: the hot paths answer with [`Kind::Full`] or
//! [`Kind::Grpc`], only tonic's own services need a box. It carries what must live until the answer has left: the
//! connection's in-flight guard and the request's share of the memory budget.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{budget::Share, pulse::InFlight};

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

    /// Holds the connection's guard until the body has been sent or dropped.
    pub(super) fn in_flight(mut self, guard: InFlight) -> Self {
        self.in_flight = Some(guard);
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Tonic(body) => body.is_end_stream(),
            Kind::Full(_) | Kind::Grpc(..) | Kind::Trailers(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty | Kind::Trailers(_) => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // No exact size: hyper would announce it as content-length, which gRPC answers do not have.
            Kind::Grpc(..) => SizeHint::default(),
            Kind::Tonic(body) => body.size_hint(),
        }
    }
}

/// The error of handlers, which do not fail: whatever goes wrong is an answer.
pub type Never = Infallible;
