//! Reads `model.toml`, the optional file beside a model's versions. Every key is optional; every problem is reported at once.
//! Called by the registry's scan and by `weir check`.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::types::{BatchLimit, EngineChoice, ModelSpec, ScoreKind, ScoreSpec, Version, VersionPolicy, VersionRef};

use super::{
    partial::{Key, PartialSpec, Placed, SpecFile},
    problem::Problem,
    toml_reader::{Document, Node, in_range},
};

/// Every key, by its full path.
pub(super) const KEYS: [&str; 21] = [
    "versions",
    "labels",
    "engine",
    "required",
    "deadline_ms",
    "deadline_max_ms",
    "batching.max_batch_size",
    "batching.max_queue_delay_microseconds",
    "batching.preferred_batch_size",
    "batching.max_queue_rows",
    "batching.priority_levels",
    "batching.default_priority_level",
    "score.output",
    "score.kind",
    "score.bounds",
    "resources.max_parallel_batches",
    "resources.max_output_bytes",
    "resources.max_plan_bytes",
    "resources.circuit_failures",
    "resources.circuit_pause_ms",
    "resources.stuck_after_ms",
];

/// The most rows that a batch may have.
pub(super) const MAX_BATCH_ROWS: u64 = 1 << 20;
/// The most rows that a queue may hold.
pub(super) const MAX_QUEUE_ROWS: u64 = 1 << 24;
/// The most priority levels.
pub(super) const MAX_PRIORITY_LEVELS: u64 = 1000;
/// The longest that a batch may wait: a minute.
pub(super) const MAX_DELAY_MICROSECONDS: u64 = 60_000_000;
/// Failures in a row that may open a circuit.
const MAX_FAILURES: u64 = 1_000_000;
/// The longest pause of a circuit: a minute.
const MAX_PAUSE_MS: u64 = 60_000;
/// The longest deadline: a day.
pub(super) const MAX_DEADLINE_MS: u64 = 86_400_000;
const MAX_LATEST: u64 = 1_000_000;
const MAX_PARALLEL: u64 = 4096;
const MAX_BYTES: u64 = 1 << 50;

const ENGINES: [(&str, EngineChoice); 3] =
    [("auto", EngineChoice::Auto), ("tract", EngineChoice::Tract), ("onnxruntime", EngineChoice::OnnxRuntime)];
const SCORE_KINDS: [(&str, ScoreKind); 4] = [
    ("probability", ScoreKind::Probability),
    ("logit", ScoreKind::Logit),
    ("regression", ScoreKind::Regression),
    ("label", ScoreKind::Label),
];

/// Reads a `model.toml` that stands alone.
///
/// # Errors
/// Every problem of the text, in its order.
pub fn parse_model_toml(text: &str) -> Result<ModelSpec, Vec<Problem>> {
    parse_model_toml_keys(text).map(PartialSpec::into_spec)
}

/// Reads the keys that a `model.toml` sets, to be merged with a `config.pbtxt`.
///
/// # Errors
/// Every problem of the text, in its order.
pub fn parse_model_toml_keys(text: &str) -> Result<PartialSpec, Vec<Problem>> {
    let document = Document::parse(text, &KEYS);
    let keys = read_keys(&document);
    for (_, problem) in keys.contradictions() {
        document.push(problem);
    }
    document.finish(keys)
}

fn read_keys(document: &Document<'_>) -> PartialSpec {
    PartialSpec {
        versions: key(document, "versions", read_versions),
        labels: key(document, "labels", read_labels),
        engine: key(document, "engine", |node| node.word(&ENGINES)),
        required: key(document, "required", |node| node.boolean()),
        deadline: key(document, "deadline_ms", read_deadline),
        deadline_max: key(document, "deadline_max_ms", read_deadline),
        max_batch_size: key(document, "batching.max_batch_size", read_batch_limit),
        max_queue_delay: key(document, "batching.max_queue_delay_microseconds", |node| {
            node.integer(0..=MAX_DELAY_MICROSECONDS).map(Duration::from_micros)
        }),
        preferred_batch_size: key(document, "batching.preferred_batch_size", read_batch_sizes),
        max_queue_rows: key(document, "batching.max_queue_rows", |node| node.count(1..=MAX_QUEUE_ROWS)),
        priority_levels: key(document, "batching.priority_levels", read_level),
        default_priority_level: key(document, "batching.default_priority_level", read_level),
        score: key(document, "score", read_score),
        max_parallel_batches: key(document, "resources.max_parallel_batches", |node| node.count(0..=MAX_PARALLEL)),
        max_output_bytes: key(document, "resources.max_output_bytes", |node| node.count(1..=MAX_BYTES)),
        max_plan_bytes: key(document, "resources.max_plan_bytes", |node| node.count(0..=MAX_BYTES)),
        circuit_failures: key(document, "resources.circuit_failures", |node| {
            node.integer(0..=MAX_FAILURES).and_then(|failures| failures.try_into().ok())
        }),
        circuit_pause: key(document, "resources.circuit_pause_ms", |node| {
            node.integer(1..=MAX_PAUSE_MS).map(Duration::from_millis)
        }),
        stuck_after: key(document, "resources.stuck_after_ms", read_deadline),
        max_request_rows: None,
        model_filename: None,
    }
}

fn key<'t, T>(document: &Document<'t>, path: &str, read: impl FnOnce(&Node<'_, 't>) -> Option<T>) -> Key<T> {
    document.get(path, read).map(|(place, value)| Placed { value, file: SpecFile::ModelToml, place })
}

/// `"latest"`, `"latest:2"`, `"all"` or `[1, 3]`.
fn read_versions(node: &Node<'_, '_>) -> Option<VersionPolicy> {
    const EXPECTED: &str = "\"latest\", \"latest:2\", \"all\" or a list of versions";
    if let Some(items) = node.items() {
        return read_version_list(node, &items);
    }
    match node.as_str() {
        Some("latest") => Some(VersionPolicy::Latest(1)),
        Some("all") => Some(VersionPolicy::All),
        Some(text) => {
            let Some(digits) = text.strip_prefix("latest:") else { return node.expected(EXPECTED) };
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse().ok().filter(|n| plain && (1..=MAX_LATEST).contains(n));
            let number = number.and_then(|n| usize::try_from(n).ok());
            number
                .map(VersionPolicy::Latest)
                .or_else(|| node.expected(format_args!("\"latest:\" and a number from 1 to {MAX_LATEST}")))
        }
        None => node.expected(EXPECTED),
    }
}

fn read_version_list(node: &Node<'_, '_>, items: &[Node<'_, '_>]) -> Option<VersionPolicy> {
    if items.is_empty() {
        return node.wrong("expected at least one version");
    }
    let read: Vec<_> = items.iter().map(read_version).collect();
    let mut versions = read.into_iter().collect::<Option<Vec<_>>>()?;
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            return items[i].wrong(format!("version {version} is listed twice"));
        }
    }
    versions.sort_unstable();
    Some(VersionPolicy::Only(versions))
}

fn read_version(node: &Node<'_, '_>) -> Option<Version> {
    let number = node.as_integer().and_then(|number| u64::try_from(number).ok());
    number.and_then(Version::new).or_else(|| node.expected("a version: an integer from 1 with at most 18 digits"))
}

fn read_labels(node: &Node<'_, '_>) -> Option<BTreeMap<Box<str>, Version>> {
    let Some(entries) = node.entries() else {
        return node.expected("a table of labels, for example { stable = 1 }");
    };
    let mut labels = BTreeMap::new();
    let mut complete = true;
    for (label, node) in entries {
        let good = match VersionRef::parse(label) {
            Ok(VersionRef::Label(label)) => read_version(&node).map(|version| labels.insert(label, version)).is_some(),
            Ok(VersionRef::Policy) if label == "latest" => {
                node.wrong::<()>("the label 'latest' is reserved: it means \"by policy\"").is_some()
            }
            _ => node.wrong::<()>("expected a label of the form [A-Za-z][A-Za-z0-9_-]{0,63}").is_some(),
        };
        complete &= good;
    }
    complete.then_some(labels)
}

/// Milliseconds; 0 = none.
fn read_deadline(node: &Node<'_, '_>) -> Option<Option<Duration>> {
    let ms = node.integer(0..=MAX_DEADLINE_MS)?;
    Some((ms > 0).then_some(Duration::from_millis(ms)))
}

/// `"auto"`, 0 (never merged, never split) or a number of rows.
fn read_batch_limit(node: &Node<'_, '_>) -> Option<BatchLimit> {
    if node.as_str() == Some("auto") {
        return Some(BatchLimit::Auto);
    }
    let range: RangeInclusive<u64> = 0..=MAX_BATCH_ROWS;
    let number = node.as_integer().and_then(|number| u64::try_from(number).ok());
    match number.filter(|number| range.contains(number)).map(usize::try_from) {
        Some(Ok(0)) => Some(BatchLimit::Whole),
        Some(Ok(rows)) => Some(BatchLimit::Rows(rows)),
        _ => node.expected(format_args!("\"auto\" or {}", in_range(&range))),
    }
}

fn read_batch_sizes(node: &Node<'_, '_>) -> Option<Vec<usize>> {
    let Some(items) = node.items() else { return node.expected("a list of batch sizes, for example [4, 8]") };
    let read: Vec<_> = items.iter().map(|item| item.count(1..=MAX_BATCH_ROWS)).collect();
    let mut sizes = read.into_iter().collect::<Option<Vec<_>>>()?;
    sizes.sort_unstable();
    sizes.dedup();
    Some(sizes)
}

fn read_level(node: &Node<'_, '_>) -> Option<u32> {
    node.integer(0..=MAX_PRIORITY_LEVELS).and_then(|level| u32::try_from(level).ok())
}

fn read_score(node: &Node<'_, '_>) -> Option<ScoreSpec> {
    // A score that is no table was reported with the unknown keys.
    let entries = node.entries()?;
    let entry = |name: &str| entries.iter().find(|(key, _)| *key == name).map(|(_, node)| node);
    let output = match entry("output") {
        Some(output) => output.text().map(Into::into),
        None => node.wrong("expected the key 'output': the name of the output that is the score"),
    };
    let kind = match entry("kind") {
        Some(kind) => kind.word(&SCORE_KINDS),
        None => node.wrong("expected the key 'kind': \"probability\", \"logit\", \"regression\" or \"label\""),
    };
    let bounds = match entry("bounds") {
        Some(bounds) => Some(read_bounds(bounds)?),
        None => None,
    };
    Some(ScoreSpec { output: output?, kind: kind?, bounds })
}

fn read_bounds(node: &Node<'_, '_>) -> Option<(f64, f64)> {
    let items = node.items();
    let Some([low, high]) = items.as_deref() else {
        return node.expected("two numbers, for example [0.0, 1.0]");
    };
    let (low, high) = (low.number(), high.number());
    let (low, high) = (low?, high?);
    if low < high { Some((low, high)) } else { node.wrong(format!("expected [low, high], got [{low}, {high}]")) }
}

#[cfg(test)]
#[path = "model_toml_tests.rs"]
mod tests;
