//! `POST /v2/models/{m}[/versions/{v}]/infer`: JSON, JSON with binary tensors, or nothing but binary.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{
    body::{compressed, take},
    reply::{Failed, typed},
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
    let arrived = Instant::now();
    let taken = async {
        let deadline = http_deadline(&headers, arrived)?;
        Ok((deadline, take(&shared.options.intake, &headers, body).await?))
    };
    let (deadline, (bytes, share)) = taken.await.inspect_err(|failed: &Failed| {
        infer::refuse(&shared.gateway, Protocol::Http, &target.name, failed.error());
    })?;
    let accepts = headers.get(header::ACCEPT_ENCODING).cloned();
    let length = headers.get(&HEADER_LENGTH).cloned();
    let origin = Origin { protocol: Protocol::Http, deadline, headers };
    let done = infer::run(
        &shared.gateway,
        origin,
        |context, name| {
            let decoded = decode(&shared.gateway, &target, bytes, length.as_ref(), context);
            decoded.inspect_err(|_| name.push_str(&target.name))
        },
        json::encode,
    );
    let answer = write(done.await?, accepts.as_ref());
    Ok(answer.map(|body| body.holding(Some(share))))
}

fn decode(
    gateway: &Gateway,
    target: &Target<'_>,
    bytes: Bytes,
    length: Option<&HeaderValue>,
    context: RequestContext,
) -> Result<(InferRequest, ReplyForm), Error> {
    let version = VersionRef::parse(&target.version)?;
    let length = length.map(|value| json::header_length(value.as_bytes(), bytes.len())).transpose()?;
    match json::decode(&target.name, version.clone(), bytes, length, context)? {
        InferBody::Request(request, form) => Ok((request, form)),
        InferBody::Raw(raw) => {
            let metadata = gateway.metadata(&target.name, &version)?;
            json::raw_request(raw, &metadata.signature)
        }
    }
}

fn write(done: Done<EncodedBody>, accepts: Option<&HeaderValue>) -> Response<Body> {
    let EncodedBody { body, header_len, content_type } = done.answer;
    let mut headers = HeaderMap::with_capacity(8);
    if let Some(length) = header_len {
        headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    infer::parameter_headers(&done.params, &mut headers);
    let body = compressed(accepts, body, &mut headers);
    let mut response = typed(StatusCode::OK, HeaderValue::from_static(content_type), body);
    response.headers_mut().extend(headers);
    response
}
