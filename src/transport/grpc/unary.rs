//! One unary call from headers to trailers: body in, message out, status. `inference` and the health service say what happens
//! in between. Every bound and every header that a call has is handled here, once.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::body::Incoming;

use super::frame::{Codings, PREFIX, announced, frame, frame_with, unframe};
use crate::{
    protocol::{ReplyForm, grpc, status},
    transport::{
        body::Body,
        budget::Share,
        given::{Given, Known},
        intake::{Intake, Refused},
        middleware::{Echo, grpc_deadline},
    },
    types::{Error, InferResponse},
};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What the headers of a call say.
#[derive(Debug)]
pub(in crate::transport) struct Call {
    pub(super) echo: Echo,
    pub(super) deadline: Option<Instant>,
    pub(super) codings: Codings,
}

impl Call {
    /// # Errors
    /// `InvalidArgument` for a bad `grpc-timeout`, `Unimplemented` for an unknown compression.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let given = Given::of(headers);
        let deadline = grpc_deadline(given.get(headers, Known::GrpcTimeout), Instant::now)?;
        Ok(Self { echo: Echo::given(headers, given), deadline, codings: Codings::of(headers, given)? })
    }

    /// Reads the message's bytes; parsing them is part of what is measured as decoding. The share is to be held as long as
    /// the bytes are.
    ///
    /// # Errors
    /// Everything that a body can be refused for.
    pub(super) async fn bytes(&self, body: Incoming, intake: &Intake) -> Result<(Bytes, Share), Error> {
        let collected = intake.collect(body, PREFIX, announced).await;
        let (body, mut share) = collected.map_err(Refused::into_error)?;
        let bytes = unframe(body, self.codings.request, intake, &mut share).await?;
        Ok((bytes, share))
    }

    /// The frame of an answer.
    ///
    /// # Errors
    /// When it is larger than gRPC allows.
    pub(super) fn frame(&self, message: &impl prost::Message) -> Result<Bytes, Error> {
        frame(message, self.codings.answer)
    }

    /// The frame of a prediction.
    ///
    /// # Errors
    /// As [`Call::frame`].
    pub(super) fn frame_answer(&self, response: &InferResponse, form: &ReplyForm) -> Result<Bytes, Error> {
        match grpc::RawAnswer::of(response, form) {
            Some(answer) => frame_with(answer.len(), |out| answer.write(out), self.codings.answer),
            None => self.frame(&grpc::encode(response, form)),
        }
    }

    /// The answer to the call: a framed message, or an error.
    pub(super) fn answer(self, outcome: Result<(Bytes, HeaderMap), Error>) -> Response<Body> {
        match outcome {
            Ok((frame, headers)) => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
                let mut response = Response::new(Body::grpc(frame, trailers));
                *response.headers_mut() = headers;
                response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
                self.codings.write(response.headers_mut());
                self.echo.write(response.headers_mut());
                response
            }
            Err(error) => refusal(self.echo, &error),
        }
    }
}

/// Parses a message.
///
/// # Errors
/// `InvalidArgument` when it is none.
pub(super) fn parse<Q: prost::Message + Default>(bytes: Bytes) -> Result<Q, Error> {
    Q::decode(bytes).map_err(|error| Error::invalid(format!("message: {error}")))
}

/// An error as the whole answer.
pub(in crate::transport) fn refusal(mut echo: Echo, error: &Error) -> Response<Body> {
    echo.log(error);
    let mut response = status::grpc(error).into_http::<Body>();
    echo.write(response.headers_mut());
    response
}
