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
    shared.decide(Action::Control)?;
    json::control_request(body)?;
    shared.gateway.load(name).await.map(|()| Bytes::new())
}

/// Unloads a model.
pub(super) async fn unload(shared: &Shared, name: &str, body: &[u8]) -> Result<Bytes, Error> {
    shared.decide(Action::Control)?;
    json::control_request(body)?;
    shared.gateway.unload(name).await.map(|()| Bytes::new())
}
