//! `POST /v2/models/{m}[/versions/{v}]/infer`: JSON, JSON with binary tensors, or nothing but binary.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::body::Incoming;

use super::{
    body::{compressed, take},
    reply::Failed,
    route::Target,
};
use crate::{
    gateway::Gateway,
    protocol::{
        ReplyForm,
        json::{self, EncodedBody, InferBody},
    },
    transport::{
        body::Body,
        infer::{self, Done, Origin},
        middleware::http_deadline,
        service::Shared,
    },
    types::{Error, InferRequest, Protocol, RequestContext, VersionRef},
};

const HEADER_LENGTH: HeaderName = HeaderName::from_static(json::HEADER_LENGTH);

/// Answers a prediction request.
pub(super) async fn answer(
    shared: &Shared,
    target: Target<'_>,
    headers: HeaderMap,
    body: Incoming,
) -> Result<Response<Body>, Failed> {
    let taken = async {
        let deadline = http_deadline(&headers, Instant::now)?;
        Ok((deadline, take(&shared.options.intake, &headers, body).await?))
    };
    let (deadline, (bytes, share)) = taken.await.inspect_err(|failed: &Failed| {
        infer::refuse(&shared.gateway, Protocol::Http, &target.name, failed.error());
    })?;
    let accepts = headers.get(header::ACCEPT_ENCODING).cloned();
    let length =
        headers.get(&HEADER_LENGTH).map(|value| json::header_length(value.as_bytes(), bytes.len())).transpose();
    let origin = Origin { protocol: Protocol::Http, deadline, headers };
    let begun = infer::begin(&shared.gateway, origin, |context, name| {
        let decoded = decode(&shared.gateway, &target, bytes, length, context);
        decoded.inspect_err(|_| name.push_str(&target.name))
    })?;
    let (mut ticket, form) = (begun.ticket, begun.form);
    let outcome = shared.gateway.answer(begun.asked, &mut ticket).await;
    let done = infer::end(ticket, &form, outcome, json::encode)?;
    let answer = write(done, accepts.as_ref());
    Ok(answer.map(|body| body.holding(Some(share))))
}

fn decode(
    gateway: &Gateway,
    target: &Target<'_>,
    bytes: Bytes,
    length: Result<Option<usize>, Error>,
    context: RequestContext,
) -> Result<(InferRequest, ReplyForm), Error> {
    let version = VersionRef::parse(&target.version)?;
    match json::decode(&target.name, version.clone(), bytes, length?, context)? {
        InferBody::Request(request, form) => Ok((request, form)),
        InferBody::Raw(raw) => {
            let metadata = gateway.metadata(&target.name, &version)?;
            json::raw_request(raw, &metadata.signature)
        }
    }
}

fn write(done: Done<EncodedBody>, accepts: Option<&HeaderValue>) -> Response<Body> {
    let EncodedBody { body, header_len, content_type } = done.answer;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = header_len {
        headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    infer::parameter_headers(&done.params, headers);
    let body = compressed(accepts, body, headers);
    *response.body_mut() = Body::from(body);
    response
}
