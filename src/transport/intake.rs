//! Takes in a request's body under every bound that there is: its size, the memory of all requests together, and the patience
//! with a peer that sends slowly. Used by the handlers of both protocols before anything is decoded.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::budget::{Budget, Share};
use crate::types::{Error, ErrorCode};

/// Bytes that must come while [`Intake::patience`] lasts.
const LEAST_BYTES: usize = 1024;
/// Pieces whose average size is not checked.
const FREE_PIECES: usize = 4096;
/// Memory that an announced length gets before its bytes have come.
const MOST_TRUSTED: usize = 1 << 20;
/// Average bytes of a piece beyond those: a million one-byte chunks cost us more than the sender.
const LEAST_PIECE: usize = 16;

/// The bounds on request bodies.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Bytes that a body may have, before and after decompression.
    pub max_body: usize,
    /// How long the peer may take for each KiB.
    pub patience: Duration,
    /// The memory of all requests together.
    pub budget: Arc<Budget>,
}

/// Why a body was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// It broke a bound or a rule before it was complete.
    Unread(Error),
    /// The caller sent too slowly.
    Slow(Error),
    /// The caller left.
    Left(Error),
}

impl Refused {
    /// The refusal as an error.
    pub(super) fn error(&self) -> &Error {
        let (Refused::Unread(error) | Refused::Slow(error) | Refused::Left(error)) = self;
        error
    }

    /// The refusal as an error.
    pub(super) fn into_error(self) -> Error {
        let (Refused::Unread(error) | Refused::Slow(error) | Refused::Left(error)) = self;
        error
    }

    fn left() -> Self {
        Refused::Left(Error::new(ErrorCode::Cancelled, "body: the caller left before it was complete"))
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Unread(error)
    }
}

/// Bytes that a request which is not a prediction may have: its parsed form may be many times as large.
const SMALL: usize = 1 << 20;

impl Intake {
    /// The bounds for requests that are not predictions.
    pub(super) fn small(&self) -> Self {
        Self { max_body: self.max_body.min(SMALL), ..self.clone() }
    }

    /// The error for a body above the limit.
    pub(super) fn too_large(&self) -> Error {
        Error::new(ErrorCode::TooLarge, format!("body: expected at most {} bytes, got more", self.max_body))
    }

    /// Makes a share large enough for `bytes`.
    ///
    /// # Errors
    /// `TooLarge` above the body limit, `Overloaded` when all requests together would hold too much.
    pub(super) fn admit(&self, share: &mut Share, bytes: usize) -> Result<(), Error> {
        if bytes > self.max_body {
            return Err(self.too_large());
        }
        if share.grow_to(bytes) {
            return Ok(());
        }
        Err(Error::new(ErrorCode::Overloaded, "server: request bodies in flight exceed the memory for them"))
    }

    /// Reads a whole body. One that comes in one piece is not copied. `framing` bytes more than the limit are allowed, and
    /// `announces` reads the length off the first piece, for protocols that wrap the message in the body.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) async fn collect(
        &self,
        mut body: Incoming,
        framing: usize,
        announces: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<(Bytes, Share), Refused> {
        let mut share = self.budget.share();
        // A length that is announced is checked before a byte is read.
        let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if announced.is_some_and(|bytes| bytes.saturating_sub(framing) > self.max_body) {
            return Err(self.too_large().into());
        }
        let mut taken = Taken::new(self.patience, announced.unwrap_or(0));
        while !body.is_end_stream() {
            let Some(frame) = taken.next(&mut body).await? else { break };
            let Ok(piece) = frame.into_data() else { continue };
            self.admit(&mut share, (taken.len() + piece.len()).saturating_sub(framing))?;
            if taken.pieces == 0
                && let Some(bytes) = announces(&piece)
            {
                taken.expected = bytes;
            }
            taken.keep(piece)?;
        }
        Ok((taken.whole(), share))
    }
}

/// What has come so far.
struct Taken {
    patience: Duration,
    /// Made only when the body is waited for, which small requests never are.
    sleep: Option<Pin<Box<Sleep>>>,
    /// What had come when `sleep` was last set.
    mark: usize,
    pieces: usize,
    /// Length announced; 0 = unknown.
    expected: usize,
    first: Bytes,
    rest: Option<BytesMut>,
}

impl Taken {
    fn new(patience: Duration, expected: usize) -> Self {
        Self { patience, sleep: None, mark: 0, pieces: 0, expected, first: Bytes::new(), rest: None }
    }

    fn len(&self) -> usize {
        self.rest.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    fn keep(&mut self, piece: Bytes) -> Result<(), Error> {
        self.pieces += 1;
        if self.pieces > FREE_PIECES && self.len() < self.pieces * LEAST_PIECE {
            return Err(Error::invalid(format!("body: {} bytes in {} pieces", self.len(), self.pieces)));
        }
        if self.len() == 0 {
            self.first = piece;
            return Ok(());
        }
        let rest = self.rest.get_or_insert_with(|| {
            let least = 2 * (self.first.len() + piece.len());
            let mut rest = BytesMut::with_capacity(least.max(self.expected.min(MOST_TRUSTED)));
            rest.extend_from_slice(&self.first);
            rest
        });
        rest.extend_from_slice(&piece);
        Ok(())
    }

    /// All that has come.
    fn whole(self) -> Bytes {
        self.rest.map_or(self.first, BytesMut::freeze)
    }

    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Frame<Bytes>>, Refused> {
        let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => self.poll_patience(cx).map(Err),
        });
        match frame.await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame)),
            Ok(Some(Err(error))) if is_malformed(&error) => Err(Error::invalid("body: malformed chunks").into()),
            Ok(Some(Err(_))) => Err(Refused::left()),
            Err(slow) => Err(Refused::Slow(slow)),
        }
    }

    /// Ready when the peer has sent too little for too long.
    fn poll_patience(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Error> {
        let (patience, len) = (self.patience, self.len());
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        while sleep.as_mut().poll(cx).is_ready() {
            if len - self.mark < LEAST_BYTES {
                let text = format!("body: fewer than {LEAST_BYTES} bytes came in {} ms", patience.as_millis());
                return Poll::Ready(Error::new(ErrorCode::DeadlineExceeded, text));
            }
            self.mark = len;
            sleep.as_mut().reset(Instant::now() + patience);
        }
        Poll::Pending
    }
}

/// Tells a body that breaks the rules of HTTP/1 chunks from a peer that left.
fn is_malformed(error: &hyper::Error) -> bool {
    error.is_parse()
        || std::error::Error::source(error).is_some_and(|source| {
            let io = source.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            matches!(io, Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData))
        })
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
