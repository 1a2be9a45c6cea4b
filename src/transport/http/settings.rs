//! Trace and log settings: they are shown here and changed elsewhere.

use bytes::Bytes;
use http::Method;

use crate::{
    protocol::json::views,
    transport::{policy::Action, service::Shared},
    types::Error,
};

/// The trace settings.
pub(super) fn trace(shared: &Shared, method: &Method) -> Result<Bytes, Error> {
    shared.decide(action(method))?;
    views::trace_settings()
}

/// The log settings.
pub(super) fn log(shared: &Shared, method: &Method) -> Result<Bytes, Error> {
    shared.decide(action(method))?;
    views::log_settings(&shared.options.log_settings)
}

fn action(method: &Method) -> Action {
    if method == Method::POST { Action::WriteSettings } else { Action::Read }
}
