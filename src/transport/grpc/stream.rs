//! `ModelStreamInfer`: many requests on one stream. Several are worked on at once, their answers keep the requests' order, and a
//! request that fails is told so in its answer while the stream goes on. Nothing is spawned: the stream is polled by its
//! connection, so a caller that leaves takes everything along.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{
    Code, Status, Streaming,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use super::unary::{Call, refusal};
use crate::{
    gateway::Gateway,
    protocol::{grpc, pb, status},
    scheduler::{Guest, Guests},
    transport::{
        body::Body,
        infer::{self, Origin},
        intake::Intake,
        middleware::{Echo, guarded},
        service::Shared,
    },
    types::{Error, Protocol},
};

/// Requests of one stream that are worked on at once.
const AT_ONCE: usize = 16;

/// Takes messages as bytes: they are parsed where they are counted, and only after they have been found safe to parse.
struct Raw;

impl Codec for Raw {
    type Encode = pb::ModelStreamInferResponse;
    type Decode = Bytes;
    type Encoder = ProstEncoder<pb::ModelStreamInferResponse>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

type Answer = Result<pb::ModelStreamInferResponse, Status>;
type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers the call.
pub(super) async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let call = match Call::of(request.headers()) {
        Ok(call) => call,
        Err(error) => return refusal(Echo::of(request.headers()), &error),
    };
    let desk = Desk {
        gateway: Arc::clone(&shared.gateway),
        intake: shared.options.intake.clone(),
        deadline: call.deadline,
        real_status: request.headers().get("triton_grpc_error").is_some_and(|value| value == "true"),
        headers: request.headers().clone(),
    };
    let stopping = shared.stopping.clone();
    let mut codec = tonic::server::Grpc::new(Raw)
        .max_decoding_message_size(shared.options.intake.max_body)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    let service = tower::service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
        let answers = Answers::new(request.into_inner(), desk.clone(), stopping.clone());
        std::future::ready(Ok(tonic::Response::new(answers)))
    });
    let mut response = codec.streaming(service, request).await.map(Body::from);
    call.echo.write(response.headers_mut());
    response
}

/// What every request of a stream needs.
#[derive(Clone)]
struct Desk {
    gateway: Arc<Gateway>,
    intake: Intake,
    deadline: Option<Instant>,
    headers: HeaderMap,
    /// Failures end the stream with their own status, as the caller asked.
    real_status: bool,
}

impl Desk {
    async fn work(self, message: Bytes) -> Answer {
        let mut id = String::new();
        match guarded(self.infer(message, &mut id)).await.and_then(|outcome| outcome) {
            Ok(answers) => Ok(answers),
            Err(error) => {
                Echo::of(&self.headers).log(&error);
                if self.real_status { Err(status::grpc(&error)) } else { Ok(grpc::stream_error(&error, &id)) }
            }
        }
    }

    async fn infer(&self, message: Bytes, id: &mut String) -> Result<pb::ModelStreamInferResponse, Error> {
        let mut share = self.intake.budget.share();
        if let Err(error) = self.intake.admit(&mut share, message.len()) {
            infer::refuse(&self.gateway, Protocol::Grpc, "", &error);
            return Err(error);
        }
        let origin = Origin { protocol: Protocol::Grpc, deadline: self.deadline, headers: self.headers.clone() };
        let done = infer::run(
            &self.gateway,
            origin,
            |context, name| {
                let message = grpc::parse(message)?;
                id.clone_from(&message.id);
                name.clone_from(&message.model_name);
                grpc::decode(message, context)
            },
            |response, form| Ok(grpc::encode(response, form)),
        );
        Ok(grpc::stream_answer(done.await?.answer))
    }
}

/// A request that is worked on, or its answer that waits for its turn.
enum Slot {
    Working(Work),
    Done(Answer),
}

/// The requests of a stream that have been read and not been answered, in their order. Each is a guest of its thread, as if it
/// had come by itself: this is how those that came together find each other in a batch.
struct Line {
    guests: Guests,
    slots: VecDeque<(Slot, Guest)>,
}

impl Line {
    /// One on the calling thread.
    fn here() -> Self {
        Self { guests: Guests::current(), slots: VecDeque::new() }
    }

    fn push(&mut self, work: Work) {
        self.slots.push_back((Slot::Working(work), self.guests.came()));
    }

    /// Works on all of them. The answer to the first, or `None` when there is none.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        for (slot, _) in &mut self.slots {
            if let Slot::Working(work) = slot
                && let Poll::Ready(answer) = work.as_mut().poll(cx)
            {
                *slot = Slot::Done(answer);
            }
        }
        match self.slots.pop_front() {
            Some((Slot::Done(answer), _)) => Poll::Ready(Some(answer)),
            Some(working) => {
                self.slots.push_front(working);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// The answers of a stream.
struct Answers {
    requests: Option<Streaming<Bytes>>,
    desk: Desk,
    line: Line,
    /// How the stream ends, once that is known.
    end: Option<Status>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Answers {
    fn new(requests: Streaming<Bytes>, desk: Desk, stopping: CancellationToken) -> Self {
        Self {
            requests: Some(requests),
            desk,
            line: Line::here(),
            end: None,
            stopping: Box::pin(stopping.cancelled_owned()),
        }
    }

    /// Takes requests while there is room for them.
    fn take(&mut self, cx: &mut Context<'_>) {
        while self.line.slots.len() < AT_ONCE
            && let Some(requests) = &mut self.requests
        {
            match Pin::new(requests).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.line.push(Box::pin(self.desk.clone().work(message))),
                Poll::Ready(Some(Err(status))) => self.close(Some(honest(status))),
                Poll::Ready(None) => self.close(None),
                Poll::Pending => break,
            }
        }
        if self.requests.is_some() && self.stopping.as_mut().poll(cx).is_ready() {
            self.close(Some(Status::unavailable("server: shutting down")));
        }
    }

    fn close(&mut self, end: Option<Status>) {
        self.requests = None;
        self.end = end;
    }
}

impl Stream for Answers {
    type Item = Result<pb::ModelStreamInferResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.take(cx);
        match this.line.poll(cx) {
            Poll::Ready(Some(Ok(answer))) => Poll::Ready(Some(Ok(answer))),
            Poll::Ready(Some(Err(status))) => {
                this.line.slots.clear();
                this.close(None);
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) if this.requests.is_none() => Poll::Ready(this.end.take().map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// tonic calls a message above the limit OUT_OF_RANGE; everybody else says RESOURCE_EXHAUSTED.
fn honest(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Status::resource_exhausted(status.message()),
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn done() -> Work {
        Box::pin(std::future::ready(Ok(pb::ModelStreamInferResponse::default())))
    }

    #[test]
    fn every_message_is_a_guest_until_it_is_answered_or_dropped() {
        let mut cx = Context::from_waker(Waker::noop());
        let guests = Guests::default();
        let mut line = Line { guests: guests.clone(), slots: VecDeque::new() };
        assert!(line.poll(&mut cx).is_ready());
        assert_eq!(guests.here(), 0, "an open stream is none");
        for work in [done(), Box::pin(std::future::pending()), done()] {
            line.push(work);
        }
        assert_eq!(guests.here(), 3, "before any of them is worked on");
        assert!(matches!(line.poll(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert_eq!(guests.here(), 2);
        assert!(line.poll(&mut cx).is_pending());
        assert_eq!(guests.here(), 2, "an answer that waits for its turn has not been handed over");
        drop(line);
        assert_eq!(guests.here(), 0);
    }
}
