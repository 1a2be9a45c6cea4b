//! Health over HTTP. The status is what probes look at; the bodies are what the KServe client parses.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::reply::{JSON, typed};
use crate::{
    gateway::Gateway,
    protocol::json::views,
    transport::body::Body,
    types::{Error, Readiness, VersionRef},
};

/// Whether the process answers at all.
pub(in crate::transport) fn live(gateway: &Gateway) -> Response<Body> {
    let live = gateway.live();
    typed(status(live), JSON, views::live(live))
}

/// Whether it should get traffic.
pub(in crate::transport) fn ready(gateway: &Gateway) -> Response<Body> {
    let ready = gateway.ready();
    typed(status(ready), JSON, views::ready(ready))
}

fn status(on: bool) -> StatusCode {
    if on { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Whether a model or version answers.
///
/// # Errors
/// `NotFound` when nothing has the name, `Unavailable` when it does not answer now.
pub(super) fn model_ready(gateway: &Gateway, name: &str, version: &VersionRef) -> Result<Bytes, Error> {
    match gateway.model_ready(name, version) {
        Readiness::Ready => views::model_ready(name, true),
        Readiness::NotReady(why) => Err(Error::unavailable(why)),
        Readiness::Unknown(what) => Err(Error::not_found(what)),
    }
}
