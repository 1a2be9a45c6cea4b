//! Small values of a request's JSON - texts, lists, parameters - and the two ways in which reading one fails. Used by every decoder
//! of this folder.

use std::borrow::Cow;

use super::{number::Number, scan::Scanner};
use crate::{
    protocol::params,
    types::{Error, ParamValue},
};

/// Why something cannot be read.
pub(super) enum Fault {
    /// The text is not JSON: the error says where.
    Body(Error),
    /// A value is not what it should be: its place belongs in front of the error's text.
    Value(Error),
}

impl From<Error> for Fault {
    /// What comes out of the scanner is about the text.
    fn from(error: Error) -> Self {
        Self::Body(error)
    }
}

impl Fault {
    /// A wrong value.
    pub(super) fn value(text: impl Into<String>) -> Self {
        Self::Value(Error::invalid(text.into()))
    }

    /// The error with a place in front of it, if it is about a value.
    pub(super) fn at(self, place: &str) -> Error {
        match self {
            Fault::Body(error) => error,
            Fault::Value(error) => Error::new(error.code(), format!("{place}{}", error.text())),
        }
    }

    /// The error as it is.
    pub(super) fn plain(self) -> Error {
        match self {
            Fault::Body(error) | Fault::Value(error) => error,
        }
    }
}

/// The fault of a value of the wrong kind; if it is not even JSON, that of the text.
#[cold]
pub(super) fn kind(scanner: &mut Scanner<'_>, subject: &str, expected: &str) -> Fault {
    let found = scanner.found();
    match scanner.clone().skip_shallow() {
        Ok(()) => Fault::Value(Error::expected(subject, expected, found)),
        Err(error) => Fault::Body(error),
    }
}

/// Reads a text to keep.
pub(super) fn text(scanner: &mut Scanner<'_>, subject: &str) -> Result<Box<str>, Fault> {
    Ok(borrowed(scanner, subject)?.into())
}

/// Reads a text: a slice of the body unless it has escapes.
pub(super) fn borrowed<'t>(scanner: &mut Scanner<'t>, subject: &str) -> Result<Cow<'t, str>, Fault> {
    match scanner.peek() {
        Some(b'"') => Ok(scanner.string()?),
        _ => Err(kind(scanner, subject, "a string")),
    }
}

/// Checks that an array comes next.
pub(super) fn expect_array(scanner: &mut Scanner<'_>, subject: &str) -> Result<(), Fault> {
    if scanner.peek() == Some(b'[') { Ok(()) } else { Err(kind(scanner, subject, "an array")) }
}

/// Checks that an object comes next.
pub(super) fn expect_object(scanner: &mut Scanner<'_>, subject: &str) -> Result<(), Fault> {
    if scanner.peek() == Some(b'{') { Ok(()) } else { Err(kind(scanner, subject, "an object")) }
}

/// Reads the value of a key that may be given once; `null` counts as absent.
pub(super) fn once<'t, T>(
    slot: &mut Option<T>,
    scanner: &mut Scanner<'t>,
    key: &str,
    read: impl FnOnce(&mut Scanner<'t>) -> Result<T, Fault>,
) -> Result<(), Fault> {
    if slot.is_some() {
        return Err(Fault::value(format!("'{key}' given twice")));
    }
    if !scanner.null() {
        *slot = Some(read(scanner)?);
    }
    Ok(())
}

/// Reads parameters one by one, checking their number and that no name comes twice.
pub(super) fn params(
    scanner: &mut Scanner<'_>,
    set: &mut dyn FnMut(&str, ParamValue) -> Result<(), Error>,
) -> Result<(), Fault> {
    expect_object(scanner, "parameters")?;
    let mut seen: Vec<Box<str>> = Vec::new();
    scanner.object(&mut |scanner, name| {
        params::check_count("", seen.len() + 1).map_err(Fault::Value)?;
        if seen.iter().any(|known| **known == *name) {
            return Err(Fault::value(format!("parameter '{name}': given twice")));
        }
        seen.push(name.into());
        let value = param_value(scanner, name)?;
        set(name, value).map_err(Fault::Value)
    })
}

fn param_value(scanner: &mut Scanner<'_>, name: &str) -> Result<ParamValue, Fault> {
    if scanner.peek() == Some(b'"') {
        return Ok(ParamValue::Text(scanner.string()?.into()));
    }
    if let Some(value) = scanner.boolean() {
        return Ok(ParamValue::Bool(value));
    }
    let mut before = scanner.clone();
    let Some(number) = scanner.number() else {
        return Err(kind(scanner, &format!("parameter '{name}'"), "a string, number or boolean"));
    };
    let integer = number.to_integer().map(ParamValue::Int).or_else(|| number.to_integer().map(ParamValue::Uint));
    match integer.or_else(|| fraction(number)) {
        Some(value) => Ok(value),
        None => Err(Fault::value(format!("parameter '{name}': out of range, got {}", before.found()))),
    }
}

fn fraction(number: Number<'_>) -> Option<ParamValue> {
    let value = number.to_f64();
    (!number.integer && value.is_finite()).then_some(ParamValue::Double(value))
}

/// A body's JSON as text.
///
/// # Errors
/// `InvalidArgument` when it is not UTF-8, is empty or has a byte order mark.
pub(super) fn body_text(json: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(json)
        .map_err(|error| Error::invalid(format!("body: not UTF-8 at byte {}", error.valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(Error::invalid("body: expected JSON without a byte order mark"));
    }
    if text.trim_ascii().is_empty() {
        return Err(Error::invalid("body: expected a JSON object, got nothing"));
    }
    Ok(text)
}
