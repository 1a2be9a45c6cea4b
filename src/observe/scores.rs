//! The score histograms and class counters of one variant of a loaded version. The gateway records every answer's score
//! output here; who holds a route's variant keeps its `ScoreSeries`.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use metrics::Counter;
use smallvec::SmallVec;

use super::{
    group::{Budget, Group, Permit},
    histogram::{Histogram, Snapshot, probability_bounds, range_bounds, signed_log_bounds},
    lanes::Lanes,
    names::{self, MAX_CLASSES, OTHER_CLASS},
    render::Exposition,
    score::ResolvedScore,
};
use crate::types::{DType, Data, ScoreKind, ServableId, Tensor};

/// Rows whose scores are recorded together.
const CHUNK: usize = 64;

/// A kind of score and its label value.
#[derive(Clone, Copy, Debug)]
enum Part {
    Confidence,
    Positive,
    Value,
}

impl Part {
    const ALL: [Part; 3] = [Part::Confidence, Part::Positive, Part::Value];

    fn as_str(self) -> &'static str {
        match self {
            Part::Confidence => "confidence",
            Part::Positive => "positive",
            Part::Value => "value",
        }
    }

    fn applies(self, score: &ResolvedScore) -> bool {
        match (self, score.kind) {
            (_, ScoreKind::Label) => false,
            (Part::Value, kind) => kind == ScoreKind::Regression,
            (Part::Confidence, kind) => kind != ScoreKind::Regression,
            (Part::Positive, kind) => kind != ScoreKind::Regression && score.columns <= 2,
        }
    }

    fn bounds(self, score: &ResolvedScore) -> Arc<[f64]> {
        match (self, score.kind, score.bounds) {
            (Part::Value, _, None) => signed_log_bounds(),
            (Part::Confidence | Part::Positive, ScoreKind::Logit, _) | (_, _, None) => probability_bounds(),
            (Part::Confidence | Part::Positive, _, Some((0.0, 1.0))) => probability_bounds(),
            (_, _, Some((low, high))) => range_bounds(low, high),
        }
    }
}

/// A histogram with the right to be shown, or without when the limit on series had been reached.
#[derive(Debug)]
struct Shown {
    histogram: Histogram,
    permit: Option<Permit>,
}

/// A class: its label, and its counter once there is something to show.
#[derive(Debug)]
struct Class {
    label: Box<str>,
    rows: OnceLock<Counter>,
}

/// Scores and classes of one variant.
#[derive(Debug)]
pub struct ScoreSeries {
    id: ServableId,
    variant: Box<str>,
    score: Option<Arc<ResolvedScore>>,
    parts: [Option<Shown>; 3],
    /// By class index, or in the order in which labels were first seen; the last one is for all others.
    classes: Box<[OnceLock<Class>]>,
    /// Rows by place in `classes`.
    counts: Lanes<Box<[AtomicU64]>>,
    group: Group,
}

/// What one variant's answers were, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreReport {
    /// `route/variant`; empty for requests that came by no split.
    pub variant: Box<str>,
    /// By kind of score: `confidence`, `positive`, `value`; only those that the model has.
    pub histograms: Vec<(&'static str, Snapshot)>,
    /// Rows by predicted class, without classes that were never predicted.
    pub classes: Vec<(Box<str>, u64)>,
}

impl ScoreSeries {
    pub(super) fn new(id: ServableId, variant: &str, score: Option<Arc<ResolvedScore>>, budget: &Arc<Budget>) -> Self {
        let part = |part: Part| {
            let score = score.as_deref().filter(|score| part.applies(score))?;
            Some(Shown { histogram: Histogram::new(part.bounds(score)), permit: Permit::take(budget) })
        };
        let parts = Part::ALL.map(part);
        let slots = match score.as_deref() {
            None => 0,
            Some(score) => match score.kind {
                ScoreKind::Regression => 0,
                ScoreKind::Label => MAX_CLASSES + 1,
                ScoreKind::Probability | ScoreKind::Logit => score.columns.clamp(2, MAX_CLASSES) + 1,
            },
        };
        let classes = (0..slots).map(|_| OnceLock::new()).collect();
        let (variant, counts, group) = (variant.into(), Lanes::default(), Group::new(budget));
        Self { id, variant, score, parts, classes, counts, group }
    }

    /// Which output holds the score.
    pub fn score(&self) -> Option<&ResolvedScore> {
        self.score.as_deref()
    }

    /// Records every row of an answer's score output.
    pub fn record(&self, output: &Tensor) {
        let Some(score) = self.score.as_deref() else { return };
        if score.kind == ScoreKind::Label {
            return self.record_labels(output);
        }
        let mut chunk = Chunk::default();
        score.rows(output, |row| {
            for (values, value) in chunk.parts.iter_mut().zip([row.confidence, row.positive, row.value]) {
                values.extend(value);
            }
            chunk.classes.extend(row.class);
            chunk.rows += 1;
            if chunk.rows == CHUNK {
                self.flush(&mut chunk);
            }
        });
        self.flush(&mut chunk);
    }

    /// Everything recorded so far, whether or not it is shown in the metrics.
    pub fn report(&self) -> ScoreReport {
        let histogram = |(part, shown): (&Part, &Option<Shown>)| {
            shown.as_ref().map(|shown| (part.as_str(), shown.histogram.snapshot()))
        };
        let class = |(place, slot): (usize, &OnceLock<Class>)| {
            let rows = self.counts.sum(|counts| &counts[place]);
            let label = || slot.get().map_or_else(|| self.label(place), |class| class.label.clone());
            (rows > 0).then(|| (label(), rows))
        };
        ScoreReport {
            variant: self.variant.clone(),
            histograms: Part::ALL.iter().zip(&self.parts).filter_map(histogram).collect(),
            classes: self.classes.iter().enumerate().filter_map(class).collect(),
        }
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        let (version, output) = (self.id.version.to_string(), self.score.as_deref().map_or("", |score| &score.name));
        for (part, shown) in Part::ALL.iter().zip(&self.parts) {
            let Some(shown) = shown.as_ref().filter(|shown| shown.permit.is_some()) else { continue };
            let labels = [self.id.model.as_str(), &version, &self.variant, output, part.as_str()];
            out.histogram(&names::SCORE, &labels, &shown.histogram.snapshot());
        }
        for (place, slot) in self.classes.iter().enumerate() {
            let rows = self.counts.sum(|counts| &counts[place]);
            if rows > 0 {
                let class = slot.get_or_init(|| Class::new(self.label(place)));
                let labels = [self.id.model.as_str(), &version, &self.variant, &class.label];
                class.rows.get_or_init(|| self.group.counter(&names::PREDICTED_CLASS, &labels)).absolute(rows);
            }
        }
        self.group.collect(out);
    }

    fn flush(&self, chunk: &mut Chunk) {
        for (shown, values) in self.parts.iter().zip(&mut chunk.parts) {
            if let Some(shown) = shown
                && !values.is_empty()
            {
                shown.histogram.record_many(values);
            }
            values.clear();
        }
        // Equal classes are added together.
        chunk.classes.sort_unstable();
        for run in chunk.classes.chunk_by(|a, b| a == b) {
            self.count_class(run[0], run.len() as u64);
        }
        chunk.classes.clear();
        chunk.rows = 0;
    }

    /// Counts rows of a class; of the last place when there is no place of its own.
    fn count_class(&self, class: usize, rows: u64) {
        let Some(last) = self.classes.len().checked_sub(1) else { return };
        let (mine, writer) = self.counts.mine(|| (0..=last).map(|_| AtomicU64::new(0)).collect());
        writer.add(&mine[class.min(last)], rows);
    }

    /// The label of a class of probabilities.
    fn label(&self, place: usize) -> Box<str> {
        let names = self.score.as_deref().map(|score| &*score.class_names).unwrap_or_default();
        match names.get(place) {
            _ if place + 1 == self.classes.len() => OTHER_CLASS.into(),
            // Two series of one name would spoil the whole page.
            Some(name) if **name == *OTHER_CLASS => format!("{name}#{place}").into(),
            Some(name) => name.clone(),
            None => place.to_string().into(),
        }
    }

    fn record_labels(&self, output: &Tensor) {
        match output.data() {
            Data::Strings(items) => items.iter().for_each(|item| self.count_label(&String::from_utf8_lossy(item))),
            Data::Plain(bytes) => match output.dtype() {
                DType::Int64 => {
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .for_each(|item| self.count_label(&i64::from_le_bytes(*item).to_string()));
                }
                _ => {
                    for value in output.to_f32().iter().flatten() {
                        self.count_label(&value.to_string());
                    }
                }
            },
        }
    }

    /// Counts a label, which gets the first free place when it is new.
    fn count_label(&self, label: &str) {
        let Some((_, own)) = self.classes.split_last() else { return };
        let is = |slot: &OnceLock<Class>| *slot.get_or_init(|| Class::new(label.into())).label == *label;
        self.count_class(own.iter().position(is).unwrap_or(own.len()), 1);
    }
}

impl Class {
    fn new(label: Box<str>) -> Self {
        Self { label, rows: OnceLock::new() }
    }
}

/// Scores of some rows, to be recorded together.
#[derive(Default)]
struct Chunk {
    rows: usize,
    parts: [SmallVec<[f32; CHUNK]>; 3],
    classes: SmallVec<[usize; CHUNK]>,
}
