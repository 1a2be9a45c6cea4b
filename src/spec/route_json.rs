//! A route as JSON, for the ops API: the keys, the checks and the problems are those of `route.toml`, because both ways lead
//! through its text. Called by the ops API for the body of a PUT and for what it shows.

use serde_json::Value as Json;
use toml_edit::{Item, Key, Value};

use crate::types::RouteSpec;

use super::{problem::Problem, route_text::document, route_toml::parse_route_toml, toml_reader::join};

/// Reads a route from JSON with the keys of `route.toml`.
///
/// # Errors
/// Every problem, by the key's path and without a place.
pub fn route_from_json(json: &Json) -> Result<RouteSpec, Vec<Problem>> {
    let Json::Object(keys) = json else {
        return Err(vec![Problem::general(format!("expected an object, got {}", describe(json)))]);
    };
    let mut writer = TomlText::default();
    for (key, value) in keys {
        writer.key(key);
        writer.value(value, &join("", key));
        writer.text.push('\n');
    }
    let TomlText { text, nulls } = writer;
    let problems = match parse_route_toml(&text) {
        Ok(route) if nulls.is_empty() => return Ok(route),
        read => read.err().unwrap_or_default(),
    };
    let of_null = |problem: &Problem| nulls.contains(&problem.key);
    let others = problems.into_iter().filter(|problem| !of_null(problem)).map(Problem::without_place);
    let null = |path: &String| Problem::of(path, "expected a value, got null: leave the key out");
    Err(nulls.iter().map(null).chain(others).collect())
}

/// The route as JSON with the keys of `route.toml`. It is read back as the same route.
pub fn route_to_json(route: &RouteSpec) -> Json {
    let document = document(route);
    Json::Object(document.iter().map(|(key, item)| (key.to_owned(), json_of_item(item))).collect())
}

fn json_of_item(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Value(value) => json_of_value(value),
        Item::Table(table) => {
            Json::Object(table.iter().map(|(key, item)| (key.to_owned(), json_of_item(item))).collect())
        }
        Item::ArrayOfTables(tables) => {
            let object = |table: &toml_edit::Table| {
                table.iter().map(|(key, item)| (key.to_owned(), json_of_item(item))).collect()
            };
            Json::Array(tables.iter().map(|table| Json::Object(object(table))).collect())
        }
    }
}

fn json_of_value(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::String(text.value().clone()),
        Value::Integer(number) => (*number.value()).into(),
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(flag) => Json::Bool(*flag.value()),
        Value::Datetime(date) => Json::String(date.value().to_string()),
        Value::Array(array) => Json::Array(array.iter().map(json_of_value).collect()),
        Value::InlineTable(table) => {
            Json::Object(table.iter().map(|(key, value)| (key.to_owned(), json_of_value(value))).collect())
        }
    }
}

/// JSON written as TOML: one key a line, everything else inline.
#[derive(Default)]
struct TomlText {
    text: String,
    /// Paths of nulls, which TOML does not have: an empty list stands for each, so that indices stay what they are.
    nulls: Vec<String>,
}

impl TomlText {
    fn key(&mut self, key: &str) {
        self.text.push_str(&Key::new(key).to_string());
        self.text.push_str(" = ");
    }

    fn value(&mut self, value: &Json, path: &str) {
        match value {
            Json::Null => {
                self.nulls.push(path.to_owned());
                self.text.push_str("[]");
            }
            Json::Bool(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Json::Number(number) => self.text.push_str(&number.to_string()),
            Json::String(text) => self.text.push_str(&Value::from(text).to_string()),
            Json::Array(items) => {
                self.text.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.text.push_str(if i == 0 { "" } else { ", " });
                    self.value(item, &format!("{path}[{i}]"));
                }
                self.text.push(']');
            }
            Json::Object(keys) => {
                self.text.push('{');
                for (i, (key, value)) in keys.iter().enumerate() {
                    self.text.push_str(if i == 0 { " " } else { ", " });
                    self.key(key);
                    self.value(value, &join(path, key));
                }
                self.text.push_str(" }");
            }
        }
    }
}

fn describe(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "route_json_tests.rs"]
mod tests;
