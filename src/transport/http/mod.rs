//! HTTP: which handler answers which route, and what every answer has in common.

pub(super) mod body;
pub(super) mod health;
mod infer;
mod models;
pub(super) mod reply;
mod repository;
pub(super) mod route;
mod settings;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, request::Parts};
use hyper::body::Incoming;

use self::{
    reply::{Failed, allows, json, not_allowed, not_found},
    route::{Aspect, Route, parse},
};
use super::{body::Body, given::Given, middleware::Echo, policy::Action, service::Shared};
use crate::protocol::json::views;
pub(super) use reply::refusal;

/// Answers a request that is not gRPC.
pub(super) fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send {
    // Neither this nor what it calls for a prediction is an `async fn`: those keep twice what they are given.
    let (Parts { method, uri, headers, .. }, body) = request.into_parts();
    async move {
        let shared = &*shared;
        let given = Given::of(&headers);
        let mut echo = Echo::given(&headers, given);
        let outcome = match parse(uri.path()) {
            None => Ok(not_found()),
            Some(route) if !allows(route.methods(), &method) => Ok(not_allowed(route.methods())),
            // The hot path: not boxed.
            Some(Route::Model(Aspect::Infer, target)) => infer::answer(shared, target, (headers, given), body).await,
            Some(route) => Box::pin(other(shared, route, &method, (&headers, given), body)).await,
        };
        let mut response = outcome.unwrap_or_else(|failed| failed.answer(&mut echo));
        if method == Method::HEAD {
            response = reply::without_body(response);
        }
        echo.write(response.headers_mut());
        response
    }
}

/// Everything but predictions.
async fn other(
    shared: &Shared,
    route: Route<'_>,
    method: &Method,
    headers: (&HeaderMap, Given),
    body: Incoming,
) -> Result<Response<Body>, Failed> {
    let gateway = &shared.gateway;
    let (body, _share) = body::take(&shared.options.intake.small(), headers, body).await?;
    let answer: Bytes = match route {
        Route::Live => return Ok(health::live(gateway)),
        Route::Ready => return Ok(health::ready(gateway)),
        Route::Model(aspect, target) => models::about(gateway, aspect, &target)?,
        Route::Server => views::server_metadata(&gateway.server_metadata())?,
        Route::Models => models::names(gateway)?,
        Route::Statistics => models::statistics(gateway)?,
        Route::Index => repository::index(gateway, &body)?,
        Route::Load(name) => repository::load(shared, &name, &body).await?,
        Route::Unload(name) => repository::unload(shared, &name, &body).await?,
        Route::TraceSettings => settings::trace(shared, method)?,
        Route::LogSettings => settings::log(shared, method)?,
        Route::SharedMemoryStatus | Route::SharedMemory => {
            shared.decide(Action::SharedMemory)?;
            Bytes::new()
        }
    };
    // Never compressed: tritonclient's asynchronous HTTP client announces that it accepts compression and reads metadata as is.
    Ok(json(answer))
}
