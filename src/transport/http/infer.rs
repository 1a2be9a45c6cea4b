//! `POST /v2/models/{m}[/versions/{v}]/infer`: JSON, JSON with binary tensors, or nothing but binary.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::body::Incoming;

use super::{
    body::{compressed, take},
    reply::Failed,
    route::Target,
};
use crate::{
    gateway::Gateway,
    protocol::json::{self, EncodedBody, InferBody},
    transport::{
        body::Body,
        given::{Given, Known},
        infer::{self, Begun, Done, Origin},
        middleware::http_deadline,
        service::Shared,
    },
    types::{Error, Protocol, VersionRef},
};

/// Answers a prediction request.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps twice what it is given")]
pub(super) fn answer<'a>(
    shared: &'a Shared,
    target: Target<'a>,
    (headers, given): (HeaderMap, Given),
    body: Incoming,
) -> impl Future<Output = Result<Response<Body>, Failed>> + Send + 'a {
    async move {
        let taken = async {
            let deadline = http_deadline(given.get(&headers, Known::RequestTimeout), Instant::now)?;
            Ok((deadline, take(&shared.options.intake, (&headers, given), body).await?))
        };
        let (deadline, (bytes, share)) = taken.await.inspect_err(|failed: &Failed| {
            infer::refuse(&shared.gateway, Protocol::Http, &target.name, failed.error());
        })?;
        let accepts = given.get(&headers, Known::AcceptEncoding).cloned();
        let length = given.get(&headers, Known::JsonLength);
        let length = length.map(|value| json::header_length(value.as_bytes(), bytes.len())).transpose();
        let origin = Origin { protocol: Protocol::Http, deadline, headers };
        let Begun { mut ticket, form, asked } = begin(&shared.gateway, &target, &bytes, length, origin)?;
        drop(bytes);
        let outcome = shared.gateway.answer(asked, &mut ticket).await;
        let done = infer::end(ticket, &form, outcome, json::encode)?;
        let answer = write(done, accepts.as_ref());
        Ok(answer.map(|body| body.holding(Some(share))))
    }
}

/// Everything before the wait: in a plain request's short way, else in the long one.
fn begin<'g>(
    gateway: &'g Gateway,
    target: &Target<'_>,
    bytes: &Bytes,
    length: Result<Option<usize>, Error>,
    origin: Origin,
) -> Result<Begun<'g>, Error> {
    let mut ticket = gateway.begin(Protocol::Http);
    let version = VersionRef::parse(&target.version);
    let mut body = version.and_then(|version| json::decode(&target.name, version, bytes, length?));
    if let Some((plain, form)) = body.as_mut().ok().and_then(InferBody::plain)
        && let Some(asked) = gateway.ask_plain(plain, origin.deadline, &mut ticket)
    {
        return Ok(Begun { ticket, form: form.clone(), asked });
    }
    infer::begin(gateway, ticket, origin, |context, name| {
        let signature = || Ok(gateway.metadata(&target.name, &VersionRef::parse(&target.version)?)?.signature);
        let request = body.and_then(|body| body.request(context, signature));
        request.inspect_err(|_| name.push_str(&target.name))
    })
}

fn write(done: Done<EncodedBody>, accepts: Option<&HeaderValue>) -> Response<Body> {
    let EncodedBody { body, header_len, content_type } = done.answer;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = header_len {
        headers.insert(Known::JsonLength.name(), HeaderValue::from(length));
    }
    infer::parameter_headers(&done.params, headers);
    let body = compressed(accepts, body, headers);
    *response.body_mut() = Body::from(body);
    response
}
