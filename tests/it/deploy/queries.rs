//! Which metrics and labels a Prometheus query speaks of: enough of the language to compare queries with the metrics that
//! exist.

use std::collections::BTreeSet;

use weir::observe::names::{self, Kind};

/// Labels that the scrape adds.
const SCRAPE_LABELS: [&str; 2] = ["instance", "job"];
/// What the scrape itself records.
const SCRAPE_METRICS: [&str; 1] = ["up"];
const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const KEYWORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];

/// What a query names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Query {
    /// Metrics, each with the labels that are matched.
    pub(super) metrics: Vec<(String, Vec<String>)>,
    /// Labels in `by (…)`, `on (…)` and their like.
    pub(super) grouping: Vec<String>,
}

/// Reads a query, or a dashboard variable's `label_values(query, label)`.
pub(super) fn read(text: &str) -> Query {
    if let Some(inside) = text.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) {
        let (query, label) = inside.rsplit_once(',').expect("label_values takes a query and a label");
        let mut query = read(query);
        query.grouping.push(label.trim().to_owned());
        return query;
    }
    let mut query = Query::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '"' | '\'' => rest = after_string(rest),
            '[' => rest = rest.split_once(']').expect("a range ends").1,
            '{' => {
                let (labels, after) = matchers(&rest[1..]);
                query.metrics.last_mut().expect("matchers follow a metric").1.extend(labels);
                rest = after;
            }
            c if c.is_ascii_digit() => rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            c if is_word(c) => rest = word(rest, &mut query),
            c => rest = &rest[c.len_utf8()..],
        }
    }
    query
}

/// Everything in a query that does not exist.
pub(super) fn unknown(query: &Query, more_labels: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut all: BTreeSet<&str> = BTreeSet::new();
    for (name, matched) in &query.metrics {
        let Some(known) = labels_of(name) else {
            wrong.push(format!("metric {name}"));
            continue;
        };
        wrong.extend(matched.iter().filter(|label| !known.contains(label.as_str())).map(|l| format!("{name}{{{l}}}")));
        all.extend(known);
    }
    let grouping = query.grouping.iter().map(String::as_str).chain(more_labels.iter().copied());
    wrong.extend(grouping.filter(|label| !all.contains(label)).map(|label| format!("label {label}")));
    wrong
}

/// The labels of a metric, or `None` when there is no such metric. Of a histogram only its parts can be asked for.
fn labels_of(name: &str) -> Option<BTreeSet<&'static str>> {
    let mut labels: BTreeSet<&str> = SCRAPE_LABELS.into();
    if SCRAPE_METRICS.contains(&name) {
        return Some(labels);
    }
    let family = names::find(name)?;
    if family.kind == Kind::Histogram && family.name == name {
        return None;
    }
    labels.extend(family.labels);
    if name.ends_with("_bucket") {
        labels.insert("le");
    }
    Some(labels)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

fn word<'a>(text: &'a str, query: &mut Query) -> &'a str {
    let (word, rest) = split_word(text);
    let next = rest.trim_start();
    if LABEL_LISTS.contains(&word) {
        let (list, after) = next.strip_prefix('(').and_then(|rest| rest.split_once(')')).expect("a list of labels");
        query.grouping.extend(list.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()));
        return after;
    }
    let aggregates = LABEL_LISTS.contains(&split_word(next).0) && matches!(split_word(next).0, "by" | "without");
    if !KEYWORDS.contains(&word) && !next.starts_with('(') && !aggregates {
        query.metrics.push((word.to_owned(), Vec::new()));
    }
    rest
}

/// The label names up to the closing brace, and what follows it.
fn matchers(text: &str) -> (Vec<String>, &str) {
    let (mut labels, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        match c {
            '}' => return (labels, &rest[1..]),
            '"' | '\'' => rest = after_string(rest),
            c if is_word(c) => {
                let (label, after) = split_word(rest);
                labels.push(label.to_owned());
                rest = after;
            }
            c => rest = &rest[c.len_utf8()..],
        }
    }
    panic!("matchers without end: {text}")
}

fn after_string(text: &str) -> &str {
    let quote = text.chars().next().expect("a quote");
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            c if c == quote && !escaped => return &text[at + 1..],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    panic!("string without end: {text}")
}

#[test]
fn reads_what_a_query_names() {
    let query = read(
        r#"histogram_quantile(0.5, sum by (le, model) (rate(weir_score_bucket{kind="a\"}b",model=~"$model"}[5m])))
           / on (model) group_left () scalar(count(up{job="weir"} == 1)) or weir_saturation offset 15m"#,
    );
    let of = |name: &str, labels: &[&str]| (name.to_owned(), labels.iter().map(|l| (*l).to_owned()).collect());
    let metrics = vec![of("weir_score_bucket", &["kind", "model"]), of("up", &["job"]), of("weir_saturation", &[])];
    assert_eq!(query, Query { metrics, grouping: ["le", "model", "model"].map(str::to_owned).to_vec() });
    assert_eq!(unknown(&query, &[]), Vec::<String>::new());
    assert_eq!(read("label_values(weir_requests_total{model=\"x\"}, version)").grouping, ["version"]);
}

#[test]
fn finds_what_does_not_exist() {
    for (text, wrong) in [
        ("weir_nothing_total", "metric weir_nothing_total"),
        ("weir_score{kind=\"value\"}", "metric weir_score"),
        ("weir_requests_total{variant=\"x\"}", "weir_requests_total{variant}"),
        ("sum by (phase) (weir_requests_total)", "label phase"),
        ("sum by (le) (weir_score_sum)", "label le"),
    ] {
        assert_eq!(unknown(&read(text), &[]), [wrong]);
    }
    assert_eq!(unknown(&read("weir_saturation"), &["model"]), ["label model"]);
}
