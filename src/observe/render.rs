//! The Prometheus text format (0.0.4): puts what the recorders and the histograms hold into one document, grouped by family,
//! in an order that does not change between scrapes. Used by `Metrics::render` only.

use std::collections::BTreeMap;

use metrics::{Key, Label};
use metrics_exporter_prometheus::{
    LabelSet, PrometheusHandle,
    formatting::{write_help_line, write_metric_line, write_type_line},
};

use super::{
    histogram::Snapshot,
    names::{self, Family},
};

/// The series of one scrape, by family.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: BTreeMap<&'static str, Vec<String>>,
}

impl Exposition {
    /// Adds the counters and gauges of a recorder.
    pub(super) fn recorder(&mut self, handle: &PrometheusHandle) {
        for line in handle.render().lines() {
            let name = line.split(['{', ' ']).next().unwrap_or("");
            // Comment lines start with '#', which no family does; HELP and TYPE are written once, by `finish`.
            if let Some(family) = names::find(name) {
                self.add(family, format!("{line}\n"));
            }
        }
    }

    /// Adds a single value.
    pub(super) fn value(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut line = String::new();
        write_metric_line::<&str, f64>(&mut line, family.name, None, &label_set(family, labels), None, value, None);
        self.add(family, line);
    }

    /// Adds a histogram: cumulative buckets, sum, count.
    pub(super) fn histogram(&mut self, family: &'static Family, labels: &[&str], snapshot: &Snapshot) {
        let set = label_set(family, labels);
        let mut text = String::new();
        let mut total = 0;
        for (i, count) in snapshot.counts.iter().enumerate() {
            total += count;
            let le = snapshot.bounds.get(i).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            write_metric_line(&mut text, family.name, Some("bucket"), &set, Some(("le", le)), total, None);
        }
        write_metric_line::<&str, f64>(&mut text, family.name, Some("sum"), &set, None, snapshot.sum, None);
        write_metric_line::<&str, u64>(&mut text, family.name, Some("count"), &set, None, total, None);
        self.add(family, text);
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        let mut out = String::new();
        for (name, mut series) in self.families {
            series.sort_unstable();
            if let Some(family) = names::find(name) {
                write_help_line(&mut out, name, None, None, family.help);
                write_type_line(&mut out, name, None, None, family.kind.as_str());
            }
            out.extend(series);
        }
        out
    }

    fn add(&mut self, family: &'static Family, text: String) {
        self.families.entry(family.name).or_default().push(text);
    }
}

/// A series' identity: the family's label names with these values, in order.
pub(super) fn key(family: &'static Family, labels: &[&str]) -> Key {
    debug_assert_eq!(family.labels.len(), labels.len(), "labels of {}", family.name);
    let labels: Vec<_> =
        family.labels.iter().zip(labels).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(family.name, labels)
}

fn label_set(family: &'static Family, labels: &[&str]) -> LabelSet {
    LabelSet::from_key_and_global(&key(family, labels), &Default::default())
}
