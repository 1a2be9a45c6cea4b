//! Scenario files: several classes of requests in one run, as TOML. The command line gives the load and what a class leaves
//! out. Used by `plan`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::bench::Cancel;
use crate::class::{ClassSpec, Source, TimeoutBy};
use crate::error::{Fault, Result};
use crate::input::InputSpec;
use crate::mix::MAX_WEIGHT;
use crate::parameter::Value;
use crate::tag::Tag;
use crate::target::Protocol;

/// Classes of a scenario, at most: each has histograms of its own.
const MAX_CLASSES: usize = 64;
/// The longest deadline, as on the command line.
const MAX_TIMEOUT_MS: u64 = 3_600_000;
const MAX_VARIANTS: u32 = 65_536;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "class")]
    classes: Vec<Class>,
}

/// One `[[class]]`. What is absent is as on the command line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    name: Option<String>,
    url: Option<String>,
    model: Option<String>,
    models: Option<u32>,
    protocol: Option<Protocol>,
    connections: Option<u32>,
    #[serde(default = "one")]
    weight: u32,
    golden: Option<PathBuf>,
    inputs: Option<Vec<String>>,
    rows: Option<u32>,
    variants: Option<u32>,
    ask_first: Option<bool>,
    timeout_ms: Option<u64>,
    timeout_by: Option<TimeoutBy>,
    priority: Option<i64>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    /// The class once per value of a header, with its weight shared among them.
    tenants: Option<Tenants>,
    tag: Option<String>,
    cancel_share: Option<f64>,
    cancel_after_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenants {
    header: String,
    values: Vec<String>,
}

fn one() -> u32 {
    1
}

/// The classes of a scenario file; `base` is what the command line says of each.
///
/// # Errors
/// A file that cannot be read, with the place and the key that is wrong.
pub(crate) fn read(path: &Path, base: &ClassSpec) -> Result<Vec<ClassSpec>> {
    let text = fs::read_to_string(path).map_err(|e| Fault::new(path.display(), e))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(&text, folder, base).map_err(|e| Fault::new(path.display(), e))
}

fn parse(text: &str, folder: &Path, base: &ClassSpec) -> Result<Vec<ClassSpec>> {
    let file: File = toml::from_str(text).map_err(|e| Fault::new("scenario", e.to_string().trim_end()))?;
    let mut classes = Vec::new();
    for class in file.classes {
        classes.extend(class.specs(folder, base)?);
    }
    if classes.is_empty() || classes.len() > MAX_CLASSES {
        return Err(Fault::new("class", format_args!("expected 1 to {MAX_CLASSES}, got {}", classes.len())));
    }
    let weights: u64 = classes.iter().map(|class| u64::from(class.weight)).sum();
    if weights == 0 || weights > u64::from(MAX_WEIGHT) {
        return Err(Fault::new("weight", format_args!("expected a sum of 1 to {MAX_WEIGHT}, got {weights}")));
    }
    Ok(classes)
}

impl Class {
    fn specs(self, folder: &Path, base: &ClassSpec) -> Result<Vec<ClassSpec>> {
        let Some(tenants) = self.tenants.clone() else { return Ok(vec![self.spec(folder, base)?]) };
        let spec = self.spec(folder, base)?;
        let count = u32::try_from(tenants.values.len()).unwrap_or(u32::MAX);
        if count == 0 || !spec.weight.is_multiple_of(count) {
            let what = format!("expected a weight that {count} tenants can share, got {}", spec.weight);
            return Err(Fault::new(format_args!("class {}", spec.name), what));
        }
        let tenant = |value: &String| {
            let mut own = spec.clone();
            own.name = format!("{}/{value}", spec.name);
            own.weight = spec.weight / count;
            own.headers.push(header(&tenants.header, value)?);
            Ok(own)
        };
        tenants.values.iter().map(tenant).collect()
    }

    fn spec(self, folder: &Path, base: &ClassSpec) -> Result<ClassSpec> {
        let model = self.model.unwrap_or_else(|| base.model.clone());
        let name = self.name.unwrap_or_else(|| model.clone());
        let fault = |what: &str| Fault::new(format_args!("class {name}"), what);
        let mut spec = ClassSpec { weight: self.weight, ..base.clone() };
        spec.url = self.url.unwrap_or_else(|| base.url.clone());
        if model.is_empty() || spec.url.is_empty() {
            return Err(fault("expected a model and a url, here or on the command line"));
        }
        if self.timeout_ms.is_some_and(|ms| ms == 0 || ms > MAX_TIMEOUT_MS) {
            return Err(fault("timeout_ms: expected 1 to 3600000"));
        }
        let variants = self.variants.unwrap_or(base.variants);
        spec.models = self.models.unwrap_or(base.models);
        let connections = self.connections.or(base.connections);
        if !(1..=MAX_VARIANTS).contains(&variants) || self.rows == Some(0) || connections == Some(0) {
            return Err(fault("expected at least 1 of variants (at most 65536), rows and connections"));
        }
        if let (Some(_), Some(_)) = (&self.golden, &self.inputs) {
            return Err(fault("expected golden or inputs, not both"));
        }
        let inputs = |texts: Vec<String>| texts.iter().map(|text| InputSpec::parse(text)).collect::<Result<_>>();
        match (self.golden, self.inputs) {
            (Some(path), _) => spec.source = Source::Golden(folder.join(path)),
            (None, Some(texts)) => spec.source = Source::Inputs(inputs(texts)?),
            (None, None) => {}
        }
        for (key, value) in &self.headers {
            spec.headers.push(header(key, value)?);
        }
        spec.parameters.extend(self.parameters);
        spec.parameters.extend(self.priority.map(|priority| ("priority".to_owned(), Value::Int(priority))));
        spec.cancel = match (self.cancel_share, self.cancel_after_ms) {
            (None, None) => base.cancel,
            (share, Some(ms)) if share.is_none_or(|share| (0.0..=1.0).contains(&share)) => {
                Some(Cancel { share: share.unwrap_or(1.0), after: Duration::from_millis(ms) })
            }
            _ => return Err(fault("expected cancel_share from 0 to 1 and cancel_after_ms")),
        };
        spec.tag = self.tag.map(|text| Tag::parse(&text)).transpose()?.or(spec.tag);
        spec.timeout = self.timeout_ms.map(Duration::from_millis).or(base.timeout);
        spec.timeout_by = self.timeout_by.unwrap_or(base.timeout_by);
        spec.protocol = self.protocol.unwrap_or(base.protocol);
        spec.ask_first = self.ask_first.unwrap_or(base.ask_first);
        spec.rows = self.rows.or(base.rows);
        Ok(ClassSpec { name, model, variants, connections, ..spec })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let name = HeaderName::try_from(name).map_err(|e| Fault::new("header", e))?;
    let value = HeaderValue::try_from(value).map_err(|e| Fault::new("header", e))?;
    Ok((name, value))
}

#[cfg(test)]
#[path = "scenario_tests.rs"]
mod tests;
