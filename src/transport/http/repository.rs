//! The repository extension: the index, load and unload.

use bytes::Bytes;

use crate::{
    gateway::Gateway,
    protocol::json::{self, views},
    transport::{policy::Action, service::Shared},
    types::Error,
};

/// The index; the body may ask for models that answer only.
pub(super) fn index(gateway: &Gateway, body: &[u8]) -> Result<Bytes, Error> {
    views::index(&gateway.index(json::index_request(body)?))
}

/// Loads a model.
pub(super) async fn load(shared: &Shared, name: &str, body: &[u8]) -> Result<Bytes, Error> {
    // What no server of ours does is said before what this one does not allow.
    json::control_request(body)?;
    shared.decide(Action::Control)?;
    shared.gateway.load(name).await.map(|()| Bytes::new())
}

/// Unloads a model.
pub(super) async fn unload(shared: &Shared, name: &str, body: &[u8]) -> Result<Bytes, Error> {
    // What no server of ours does is said before what this one does not allow.
    json::control_request(body)?;
    shared.decide(Action::Control)?;
    shared.gateway.unload(name).await.map(|()| Bytes::new())
}
