//! Reads `route.toml`, the configuration of a route: what its kind is, and the values that all kinds share. Every problem is
//! reported at once. `route_split`, `route_cascade`, `route_switch` and `route_ensemble` read what only one kind has. Called by
//! the keeper of the routes, by `weir check` and, through `route_json`, by the ops API.

use crate::types::{ModelName, PartRef, RouteKind, RouteSpec, VersionRef};

use super::{
    problem::Problem,
    route_cascade, route_ensemble,
    route_keys::{Kind, MAX_TEXT_BYTES},
    route_split, route_switch,
    toml_reader::{Document, Node},
};

/// The most bytes of a name, a salt or any other text in a route.
const MAX_WORD_BYTES: usize = 256;
const MAX_NAME_BYTES: usize = 64;

/// Reads a `route.toml`.
///
/// # Errors
/// Every problem of the text, in its order.
pub fn parse_route_toml(text: &str) -> Result<RouteSpec, Vec<Problem>> {
    if text.len() > MAX_TEXT_BYTES {
        let text = format!("expected a text of at most {MAX_TEXT_BYTES} bytes, got {}", text.len());
        return Err(vec![Problem::general(text)]);
    }
    let document = Document::read(text);
    let route = read_route(&document);
    document.finish_read(route)
}

fn read_route(document: &Document<'_>) -> Option<RouteSpec> {
    let root = document.root();
    let named =
        root.required("kind", "\"split\", \"cascade\", \"switch\" or \"ensemble\"", |kind| kind.word(&Kind::WORDS));
    let Some(kind) = named.or_else(|| guess(&root)) else {
        let all: Vec<_> = Kind::WORDS.iter().flat_map(|(_, kind)| kind.keys()).copied().collect();
        document.check_known(&all, &|_| None);
        return None;
    };
    document.check_known(kind.keys(), &|key| {
        let other = Kind::having(key)?.word();
        Some(format!("key of another kind: expected one of kind = \"{}\", got one of kind = \"{other}\"", kind.word()))
    });
    let outputs = root.optional("outputs", read_outputs);
    let (route, calibration) = match kind {
        Kind::Split => (route_split::read(&root).map(RouteKind::Split), Some(None)),
        Kind::Cascade => {
            let (cascade, calibration) = route_cascade::read(&root);
            (cascade.map(RouteKind::Cascade), calibration)
        }
        Kind::Switch => (route_switch::read(&root).map(RouteKind::Switch), Some(None)),
        Kind::Ensemble => (route_ensemble::read(&root).map(RouteKind::Ensemble), Some(None)),
    };
    Some(RouteSpec { kind: route?, outputs: outputs?, calibration: calibration? })
}

/// The kind that is probably meant where none is named, so that the rest of the text can be checked.
fn guess(root: &Node<'_, '_>) -> Option<Kind> {
    Kind::WORDS.iter().map(|(_, kind)| *kind).find(|kind| root.get(kind.parts()).is_some())
}

fn read_outputs(node: &Node<'_, '_>) -> Option<Vec<Box<str>>> {
    let outputs = node.distinct("names of outputs", read_word)?;
    if outputs.is_empty() { node.wrong("expected at least one output, or no such key") } else { Some(outputs) }
}

/// `model` and `version` of a table.
pub(super) fn read_part(node: &Node<'_, '_>) -> Option<PartRef> {
    let name = node.required("model", "the model or route that is asked", |node| {
        let name = node.as_str().and_then(|text| ModelName::parse(text).ok());
        name.or_else(|| node.expected("a name of the form [A-Za-z0-9][A-Za-z0-9._-]{0,127}"))
    });
    let version = node.optional("version", |node| {
        let number = node.as_integer().map(|number| number.to_string());
        let version = node.as_str().or(number.as_deref()).and_then(|text| VersionRef::parse(text).ok());
        version.or_else(|| node.expected("a positive integer or a label"))
    });
    Some(PartRef { name: name?, version: version?.unwrap_or_default() })
}

/// The `name` of a variant or a case: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub(super) fn read_name(node: &Node<'_, '_>) -> Option<Box<str>> {
    let form = |text: &&str| {
        let mut bytes = text.bytes();
        text.len() <= MAX_NAME_BYTES
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let name = node.as_str().filter(form).map(Into::into);
    name.or_else(|| node.expected("a name of the form [A-Za-z0-9][A-Za-z0-9._-]{0,63}"))
}

/// A name or a text that is looked for: not empty, not long, no control characters.
pub(super) fn read_word(node: &Node<'_, '_>) -> Option<Box<str>> {
    let text = node.text()?;
    if is_word(text) {
        Some(text.into())
    } else {
        node.expected(format_args!("at most {MAX_WORD_BYTES} bytes without control characters"))
    }
}

/// What [`read_word`] takes.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_WORD_BYTES && !text.chars().any(char::is_control)
}

#[cfg(test)]
#[path = "route_toml_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "route_refused_tests.rs"]
mod refused_tests;
