//! gRPC: which handler answers which path. Unary calls of the inference service are framed here (`unary`, `frame`); streams,
//! health and reflection run on tonic's services.

mod frame;
mod health;
mod inference;
mod stream;
mod unary;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::{body::Body, connection::Answering, middleware::Echo, service::Shared};
use crate::types::{Error, ErrorCode};
pub(super) use health::Reflection;
#[cfg(test)]
pub(super) use inference::infer;
pub(super) use unary::refusal;

/// The service of the Open Inference Protocol.
const INFERENCE: &str = "/inference.GRPCInferenceService/";

/// Answers a request whose content type is gRPC's.
pub(super) fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answering {
    match request.uri().path().strip_prefix(INFERENCE) {
        // The hot path: a future of its own, of which the others' size is no part.
        Some("ModelInfer") => Answering::new(inference::infer(shared, request)),
        Some(_) => Answering::new(async move { inference::other(&shared, request).await }),
        None => Answering::new(async move { services(&shared, request).await }),
    }
}

async fn services(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let echo = Echo::of(request.headers());
    let path = request.uri().path();
    let answer = if path.starts_with("/grpc.health.v1.Health/") {
        health::answer(shared, request).await
    } else if path.starts_with("/grpc.reflection.v1.") || path.starts_with("/grpc.reflection.v1alpha.") {
        shared.reflection.answer(request).await
    } else {
        let text = format!("method '{path}': not known");
        return refusal(echo, &Error::new(ErrorCode::Unimplemented, text));
    };
    let mut answer = answer.map(|body| Body::from(body).until(shared.stopping.clone()));
    echo.write(answer.headers_mut());
    answer
}
