//! Trace and log settings: they are shown here and changed elsewhere.

use bytes::Bytes;
use http::Method;

use crate::{
    protocol::{json::views, settings::LogSettings},
    transport::policy::{Action, decide_data},
    types::Error,
};

/// The trace settings.
pub(super) fn trace(method: &Method) -> Result<Bytes, Error> {
    decide_data(action(method))?;
    views::trace_settings()
}

/// The log settings.
pub(super) fn log(method: &Method, settings: &LogSettings) -> Result<Bytes, Error> {
    decide_data(action(method))?;
    views::log_settings(settings)
}

fn action(method: &Method) -> Action {
    if method == Method::POST { Action::WriteSettings } else { Action::Read }
}
