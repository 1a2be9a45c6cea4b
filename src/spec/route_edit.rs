//! Edits of a `route.toml` that keep its comments and its layout: new weights of a split, the result of a calibration. Called by
//! the keeper of the routes and by the calibration; whoever calls writes the text.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use crate::types::{Calibration, RouteKind, RouteSpec, Version};

use super::{
    nearest,
    problem::{Problem, quoted},
    route_text,
    route_toml::parse_route_toml,
};

const CALIBRATION: &str = "calibration";

/// The text with these weights by name of variant; the others keep theirs. Whole numbers are written as integers.
///
/// # Errors
/// What is wrong with the text, with its place; else what is wrong with the weights or with the route that they would make.
pub fn with_weights(text: &str, weights: &[(Box<str>, f64)]) -> Result<String, Vec<Problem>> {
    let route = parse_route_toml(text)?;
    let RouteKind::Split(split) = &route.kind else {
        return Err(vec![Problem::general(not_a("split", &route))]);
    };
    let names: Vec<&str> = split.variants.iter().map(|variant| &*variant.name).collect();
    let mut problems = Vec::new();
    let mut document = document(text)?;
    let mut variants = parts(&mut document, "variant");
    for (i, (name, weight)) in weights.iter().enumerate() {
        if weights[..i].iter().any(|(earlier, _)| earlier == name) {
            problems.push(Problem::of("weights", format!("variant {} is named twice", quoted(name))));
        } else if let Some(at) = names.iter().position(|known| *known == &**name) {
            if let Some(variant) = variants.get_mut(at) {
                set(&mut **variant, "weight", route_text::weight(*weight));
            }
        } else {
            problems.push(Problem::of("weights", nearest::unknown_name("variant", name, &names)));
        }
    }
    drop(variants);
    if problems.is_empty() { checked(text, &document) } else { Err(problems) }
}

/// The text with a calibration's result: the version of every stage, `at_least` of every stage but the last, and the table
/// `[calibration]`, which is put at the end if there is none.
///
/// # Errors
/// What is wrong with the text, with its place; else what is wrong with the result or with the route that it would make.
pub fn with_calibration(
    text: &str,
    thresholds: &[f64],
    versions: &[Version],
    calibration: &Calibration,
) -> Result<String, Vec<Problem>> {
    let route = parse_but_calibration(text)?;
    let RouteKind::Cascade(cascade) = &route.kind else {
        return Err(vec![Problem::general(not_a("cascade", &route))]);
    };
    let mut problems = Vec::new();
    for (i, stage) in cascade.stages.iter().enumerate() {
        if stage.accept.as_ref().is_some_and(|accept| accept.measure.at_least().is_none()) {
            let text = "measure = \"band\" has no threshold: expected max_prob, margin or certainty";
            problems.push(Problem::of(format!("stage[{i}].accept"), text));
        }
    }
    let count = cascade.stages.len();
    if versions.len() != count || thresholds.len() + 1 != count {
        let got = format!("got {} and {}", versions.len(), thresholds.len());
        let text = format!("expected {count} versions and {} thresholds, {got}", count - 1);
        problems.push(Problem::of("stage", text));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut document = document(text)?;
    pin(&mut document, versions);
    for (stage, at_least) in parts(&mut document, "stage").into_iter().zip(thresholds) {
        if let Some(accept) = stage.get_mut("accept").and_then(Item::as_table_like_mut) {
            set(accept, "at_least", (*at_least).into());
        }
    }
    write_calibration(&mut document, calibration);
    checked(text, &document)
}

fn not_a(kind: &str, route: &RouteSpec) -> String {
    format!("expected a {kind}, got kind = \"{}\"", route.kind.as_str())
}

fn document(text: &str) -> Result<DocumentMut, Vec<Problem>> {
    text.parse().map_err(|error: toml_edit::TomlError| vec![Problem::general(error.message().trim())])
}

/// Reads the route; a `[calibration]` that no longer matches is as good as none, so that whoever calibrates anew need not remove
/// it.
///
/// # Errors
/// What else is wrong with the text, with its place.
pub fn parse_but_calibration(text: &str) -> Result<RouteSpec, Vec<Problem>> {
    let problems = match parse_route_toml(text) {
        Ok(route) => return Ok(route),
        Err(problems) => problems,
    };
    let is_of_calibration = |key: &str| key == CALIBRATION || key.starts_with("calibration.");
    let others: Vec<_> = problems.into_iter().filter(|problem| !is_of_calibration(&problem.key)).collect();
    if !others.is_empty() {
        return Err(others);
    }
    let mut document = document(text)?;
    document.remove(CALIBRATION);
    parse_route_toml(&document.to_string()).map_err(without_places)
}

/// The result, if it is a route. Lines end as they did in `original`; the document forgets that.
fn checked(original: &str, document: &DocumentMut) -> Result<String, Vec<Problem>> {
    let breaks = original.matches('\n').count();
    let mut text = document.to_string();
    if breaks > 0 && original.matches("\r\n").count() == breaks {
        text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    match parse_route_toml(&text) {
        Ok(_) => Ok(text),
        Err(problems) => Err(without_places(problems)),
    }
}

fn without_places(problems: Vec<Problem>) -> Vec<Problem> {
    problems.into_iter().map(Problem::without_place).collect()
}

/// The tables of an array, written as `[[key]]` or inline.
fn parts<'d>(document: &'d mut DocumentMut, key: &str) -> Vec<&'d mut dyn TableLike> {
    match document.get_mut(key) {
        Some(Item::ArrayOfTables(tables)) => tables.iter_mut().map(|table| table as &mut dyn TableLike).collect(),
        Some(Item::Value(Value::Array(array))) => {
            array.iter_mut().filter_map(Value::as_inline_table_mut).map(|table| table as &mut dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

/// Replaces a value and keeps the space and the comment around it; a new key goes to the end of the table.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(old) = table.get_mut(key).and_then(Item::as_value_mut) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
        return;
    }
    // The space before a closing brace belongs to the last value.
    let last = table.iter_mut().last().and_then(|(_, item)| item.as_value_mut().map(Value::decor_mut));
    if let Some(decor) = last
        && let Some(space) = decor.suffix().and_then(|space| space.as_str()).filter(|space| space.trim().is_empty())
    {
        value.decor_mut().set_suffix(space.to_owned());
        decor.set_suffix("");
    }
    table.insert(key, Item::Value(value));
}

/// Writes the version of every stage: as an integer if it was one, behind the model if there was none.
fn pin(document: &mut DocumentMut, versions: &[Version]) {
    let mut fresh = Vec::with_capacity(versions.len());
    for (stage, version) in parts(document, "stage").into_iter().zip(versions) {
        let old = stage.get("version");
        fresh.push(old.is_none());
        let number = i64::try_from(version.get()).ok().filter(|_| old.is_some_and(Item::is_integer));
        set(stage, "version", number.map_or_else(|| version.to_string().into(), Value::from));
    }
    let tables = document.get_mut("stage").and_then(Item::as_array_of_tables_mut);
    let tables = tables.into_iter().flat_map(toml_edit::ArrayOfTables::iter_mut).zip(fresh);
    for (stage, _) in tables.filter(|(_, fresh)| *fresh) {
        put_after(stage, "version", "model");
    }
}

/// Moves the last key of a table behind another one.
fn put_after(table: &mut Table, key: &str, before: &str) {
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    let Some(at) =
        keys.iter().position(|other| other == before).filter(|_| keys.last().is_some_and(|last| last == key))
    else {
        return;
    };
    let rank = |other: &str| match keys.iter().position(|known| known == other) {
        Some(_) if other == key => 2 * at + 1,
        Some(place) => 2 * place,
        None => usize::MAX,
    };
    table.sort_values_by(|a, _, b, _| rank(a).cmp(&rank(b)));
}

fn write_calibration(document: &mut DocumentMut, calibration: &Calibration) {
    let fields = route_text::calibration_fields(calibration);
    if let Some(table) = document.get_mut(CALIBRATION).and_then(Item::as_table_like_mut) {
        let unknown: Vec<_> = table.iter().map(|(key, _)| key.to_owned()).collect();
        for key in unknown.iter().filter(|key| !fields.iter().any(|(field, _)| field == key)) {
            table.remove(key);
        }
        for (key, field) in fields {
            set(table, key, field);
        }
        return;
    }
    document.remove(CALIBRATION);
    let mut table = Table::new();
    for (key, field) in fields {
        table.insert(key, Item::Value(field));
    }
    // What follows the last table stays before the new one.
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    table.decor_mut().set_prefix(if trailing.is_empty() { "\n".to_owned() } else { trailing + "\n" });
    document.set_trailing("");
    document.insert(CALIBRATION, Item::Table(table));
}

#[cfg(test)]
#[path = "route_edit_tests.rs"]
mod tests;
