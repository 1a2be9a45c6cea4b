//! A parser of the exposition format that knows nothing of the writer; it panics on whatever is not valid.

use std::collections::BTreeMap;

use super::super::Metrics;

pub(super) type Labels = BTreeMap<String, String>;

/// A parsed scrape: values by metric name and labels.
pub(super) struct Scrape {
    pub(super) values: Vec<(String, Labels, f64)>,
    pub(super) text: String,
}

impl Scrape {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let text = metrics.render();
        let mut values: Vec<(String, Labels, f64)> = Vec::new();
        let mut family: Option<(String, String)> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (keyword, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                match keyword {
                    "HELP" => assert!(!rest.is_empty()),
                    "TYPE" => family = Some((name.to_owned(), rest.to_owned())),
                    other => panic!("unknown comment {other}"),
                }
                continue;
            }
            let (name, labels, value) = sample(line);
            let (family, kind) = family.as_ref().expect("TYPE comes first");
            let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{name} under {family}"));
            match kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{name}"),
                "counter" | "gauge" => assert_eq!(suffix, ""),
                other => panic!("unknown type {other}"),
            }
            assert!(!values.iter().any(|(n, l, _)| *n == name && *l == labels), "twice: {line}");
            values.push((name, labels, value));
        }
        Self { values, text }
    }

    pub(super) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.values.iter().find(|(n, l, _)| n == name && *l == wanted).map(|(_, _, value)| *value)
    }

    pub(super) fn series(&self, name: &str) -> Vec<&Labels> {
        self.values.iter().filter(|(n, _, _)| n == name).map(|(_, labels, _)| labels).collect()
    }
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap();
            let (value, after) = quoted(after);
            assert!(labels.insert(key.to_owned(), value).is_none(), "label twice: {line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    (name.to_owned(), labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                other => panic!("unknown escape {other}"),
            },
            c => value.push(c),
        }
    }
    panic!("label value without end: {text}")
}
