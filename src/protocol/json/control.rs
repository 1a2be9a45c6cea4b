//! The bodies of requests that are not predictions: the repository index, load and unload.

use super::{
    scan::Scanner,
    value::{self, Fault, body_text, once},
};
use crate::{protocol::params, types::Error};

/// Reads the body of an index request, `{"ready": bool}` or nothing: whether only models that answer are wanted.
///
/// # Errors
/// `InvalidArgument` when it is something else.
pub fn index_request(body: &[u8]) -> Result<bool, Error> {
    let mut ready = None;
    object(body, &mut |scanner, key| match key {
        "ready" => once(&mut ready, scanner, key, |scanner| {
            scanner.boolean().ok_or_else(|| value::kind(scanner, "ready", "a boolean"))
        }),
        _ => Ok(scanner.skip()?),
    })?;
    Ok(ready.unwrap_or(false))
}

/// Checks the body of a repository load or unload, `{"parameters": {…}}` or nothing: a configuration or files in the request
/// are never taken.
///
/// # Errors
/// `Unimplemented` for `config` and `file:…`; `InvalidArgument` when it is not such a body.
pub fn control_request(body: &[u8]) -> Result<(), Error> {
    let mut seen = None;
    object(body, &mut |scanner, key| match key {
        "parameters" => {
            once(&mut seen, scanner, key, |scanner| value::params(scanner, &mut |name, _| params::check_control(name)))
        }
        _ => Ok(scanner.skip()?),
    })
}

/// Reads an object that may be left out.
fn object(
    body: &[u8],
    field: &mut dyn for<'t> FnMut(&mut Scanner<'t>, &str) -> Result<(), Fault>,
) -> Result<(), Error> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let mut scanner = Scanner::new(body_text(body)?);
    value::expect_object(&mut scanner, "body").map_err(Fault::plain)?;
    scanner.object(&mut |scanner, key| field(scanner, key)).map_err(Fault::plain)?;
    scanner.end()
}
