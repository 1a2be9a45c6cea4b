//! What the bodies of writes say: JSON objects read member by member, so that a key given twice is seen and every problem is
//! told at once with its place. Pure.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    spec::{Problem, route_from_json},
    types::RouteSpec,
};

/// Characters of the longest reason.
const MAX_WHY: usize = 1000;

/// A whole number as JSON has it: 12.0 and 1.2e1 are 12.
fn whole(text: &str) -> Option<u64> {
    /// Up to here every whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = || text.parse().ok().filter(|number: &f64| number.fract() == 0.0 && (0.0..=EXACT).contains(number));
    text.parse().ok().or_else(|| float().map(|number| number as u64))
}

/// The largest number of a revision: 18 digits, as for versions.
pub(super) const MAX_REVISION: u64 = 999_999_999_999_999_999;

/// Whether a reason is not too long.
pub(super) fn is_why(text: &str) -> bool {
    text.chars().nth(MAX_WHY).is_none()
}

/// What a reason is to be.
pub(super) const WHY: &str = "a text of at most 1000 characters";

/// A body that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said<T> {
    pub(super) what: T,
    /// The reason, if the body has one.
    pub(super) why: Option<Box<str>>,
}

/// Weights by name of variant, in the order of the body.
pub(super) type Weights = Vec<(Box<str>, f64)>;

/// Reads the body of `PUT`: a route as JSON, which may have a reason beside the route's own keys.
///
/// # Errors
/// Where it is no JSON, or everything that is wrong with the route and the reason.
pub(super) fn route(body: &[u8]) -> Result<Said<RouteSpec>, Vec<Problem>> {
    let text = text(body)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let mut value = read.map_err(|error| vec![malformed(text, text, &error)])?;
    let why = value.as_object_mut().and_then(|members| members.remove("why"));
    let mut problems = Vec::new();
    let why = match why {
        None => None,
        Some(Value::String(why)) if is_why(&why) => Some(why.into()),
        Some(other) => {
            let text = format!("expected {WHY}, got {}", shown(&other.to_string()));
            problems.push(Problem { line: 0, column: 0, key: "why".to_owned(), text });
            None
        }
    };
    match route_from_json(&value) {
        Ok(what) if problems.is_empty() => Ok(Said { what, why }),
        Ok(_) => Err(problems),
        Err(found) => Err(problems.into_iter().chain(found).collect()),
    }
}

/// Reads the body of `PATCH …/weights`: `{"weights":{…},"why":"…"}`, or the weights and the reason side by side.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn weights(body: &[u8]) -> Result<Said<Weights>, Vec<Problem>> {
    let text = text(body)?;
    let mut reader = Reader::new(text);
    let members = reader.object(text);
    let why = reader.why(&members);
    let mut weights = Vec::new();
    if let Some((_, nested)) = members.iter().find(|(key, _)| key == "weights") {
        reader.only(&members, &["weights", "why"]);
        for (name, raw) in reader.object(nested.get()) {
            reader.weight(format!("weights.{name}"), name, raw, &mut weights);
        }
    } else {
        for (name, raw) in members.into_iter().filter(|(key, _)| key != "why") {
            reader.weight(name.clone(), name, raw, &mut weights);
        }
    }
    if weights.is_empty() && reader.problems.is_empty() {
        reader.problem(text, "weights", "expected at least one weight by name of variant");
    }
    reader.done(Said { what: weights, why })
}

/// Reads the body of `POST …/rollback`: `{"to":12,"why":"…"}`.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn rollback(body: &[u8]) -> Result<Said<u64>, Vec<Problem>> {
    const EXPECTED: &str = "expected the number of a revision";
    let text = text(body)?;
    let mut reader = Reader::new(text);
    let members = reader.object(text);
    let why = reader.why(&members);
    reader.only(&members, &["to", "why"]);
    let mut to = 0;
    match members.iter().find(|(key, _)| key == "to") {
        None => reader.problem(text, "to", EXPECTED),
        Some((_, raw)) => match whole(raw.get()) {
            Some(number) if (1..=MAX_REVISION).contains(&number) => to = number,
            _ => reader.problem(raw.get(), "to", format!("{EXPECTED}, got {}", shown(raw.get()))),
        },
    }
    reader.done(Said { what: to, why })
}

/// Reads the body of `DELETE`: nothing, or `{"why":"…"}`.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn reason(body: &[u8]) -> Result<Said<()>, Vec<Problem>> {
    if body.trim_ascii().is_empty() {
        return Ok(Said { what: (), why: None });
    }
    let text = text(body)?;
    let mut reader = Reader::new(text);
    let members = reader.object(text);
    let why = reader.why(&members);
    reader.only(&members, &["why"]);
    reader.done(Said { what: (), why })
}

fn text(body: &[u8]) -> Result<&str, Vec<Problem>> {
    std::str::from_utf8(body).map_err(|_| vec![problem_at("", 0, "", "expected JSON in UTF-8, got other bytes")])
}

type Members<'t> = Vec<(String, &'t RawValue)>;

/// Reads parts of one text and gathers what is wrong with them.
struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new() }
    }

    fn done<T>(self, read: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() { Ok(read) } else { Err(self.problems) }
    }

    /// Says that something is wrong with a part of the text.
    fn problem(&mut self, part: &str, key: &str, text: impl Into<String>) {
        let offset = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        self.problems.push(problem_at(self.text, offset, key, text));
    }

    /// The members of an object in their order. What is none is a problem and has no members.
    fn object(&mut self, part: &'t str) -> Members<'t> {
        let mut reader = serde_json::Deserializer::from_str(part);
        let read = Object.deserialize(&mut reader).and_then(|members| reader.end().map(|()| members));
        let members = read.unwrap_or_else(|error| {
            self.problems.push(malformed(self.text, part, &error));
            Members::new()
        });
        for (at, (key, raw)) in members.iter().enumerate() {
            if members[..at].iter().any(|(other, _)| other == key) {
                self.problem(raw.get(), key, "is given twice");
            }
        }
        members
    }

    fn only(&mut self, members: &Members<'t>, known: &[&str]) {
        for (key, raw) in members.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let names: Vec<_> = known.iter().map(|known| format!("'{known}'")).collect();
            self.problem(raw.get(), key, format!("unknown key, expected {}", names.join(" and ")));
        }
    }

    fn why(&mut self, members: &Members<'t>) -> Option<Box<str>> {
        let (_, raw) = members.iter().find(|(key, _)| key == "why")?;
        match serde_json::from_str::<String>(raw.get()) {
            Ok(why) if is_why(&why) => return Some(why.into()),
            _ => self.problem(raw.get(), "why", format!("expected {WHY}, got {}", shown(raw.get()))),
        }
        None
    }

    fn weight(&mut self, key: String, name: String, raw: &'t RawValue, weights: &mut Weights) {
        match serde_json::from_str::<f64>(raw.get()) {
            Ok(weight) if weight.is_finite() && weight >= 0.0 => weights.push((name.into(), weight.abs())),
            _ if name == "who" => self.problem(raw.get(), &key, "is told by the token, not by the body"),
            _ => {
                self.problem(raw.get(), &key, format!("expected a finite number, at least 0, got {}", shown(raw.get())))
            }
        }
    }
}

/// What a part of a text is not, with its place in the whole.
fn malformed(text: &str, part: &str, error: &serde_json::Error) -> Problem {
    let base = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let before: usize = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let what = error.to_string();
    let what = what.strip_suffix(&suffix).unwrap_or(&what);
    problem_at(text, base + before + error.column().saturating_sub(1), "", what)
}

fn problem_at(text: &str, offset: usize, key: &str, what: impl Into<String>) -> Problem {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.rsplit('\n').next().unwrap_or_default();
    let (line, column) = (before.matches('\n').count() + 1, line.chars().count() + 1);
    Problem { line, column, key: key.to_owned(), text: what.into() }
}

fn shown(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().nth(MOST).is_none() { text.to_owned() } else { text.chars().take(MOST).chain(['…']).collect() }
}

/// An object's members as they come: serde's own maps would keep only the last of two equal keys.
struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// Any JSON value, without a key that is given twice anywhere in it.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key '{}' is given twice", shown(&key))));
            }
            members.insert(key, map.next_value_seed(Strict)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
