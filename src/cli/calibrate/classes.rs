//! Which class a stage predicts for a row: what its label output says, or the column of its scores that is largest.

use std::fmt;

use super::{
    data::Classes,
    npz::{Number, numbers},
};
use crate::types::{Accept, DType, Data, Signature, Tensor, TensorSpec};

/// Names that exporters give to the predicted class; any other output of integers or text will do where these are absent.
const LABEL_OUTPUTS: [&str; 2] = ["label", "output_label"];

/// Where a stage's predicted class is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An output of one integer or text a row.
    Label {
        /// Its index.
        output: usize,
        /// Its name.
        name: Box<str>,
        /// Whether it is text.
        text: bool,
    },
    /// The column of an output of scores that is largest; of one column p the second of [1 - p, p].
    Largest {
        /// Its index.
        output: usize,
        /// Its name.
        name: Box<str>,
        /// Whether they are logits.
        logits: bool,
    },
}

/// The source of a stage's classes: an output of labels, else the scores that the stage is accepted by or, for the last stage,
/// those of the stage before it by name. `accept` is the stage's own or that one's.
///
/// # Errors
/// When there is neither.
pub(super) fn source(signature: &Signature, accept: Option<&Accept>) -> Result<Source, String> {
    let per_row = |spec: &TensorSpec| matches!(&*spec.shape, [_] | [_, Some(1)]);
    let outputs = || signature.outputs.iter().enumerate();
    let labels = || outputs().filter(|(_, spec)| !spec.dtype.is_float() && per_row(spec));
    let named = LABEL_OUTPUTS.iter().find_map(|name| labels().find(|(_, spec)| *spec.name == **name));
    if let Some((output, spec)) = named.or_else(|| labels().next()) {
        return Ok(Source::Label { output, name: (*spec.name).into(), text: spec.dtype == DType::Bytes });
    }
    let scores = |spec: &TensorSpec| spec.dtype.is_float() && matches!(spec.shape.len(), 1 | 2);
    let of_accept = accept.and_then(|accept| {
        let found = outputs().find(|(_, spec)| *spec.name == *accept.output && scores(spec))?;
        Some((found, accept.softmax))
    });
    let mut all = outputs().filter(|(_, spec)| scores(spec));
    let only = || all.next().filter(|_| all.next().is_none()).map(|found| (found, false));
    let ((output, spec), logits) = of_accept.or_else(only).ok_or_else(|| {
        let names: Vec<&str> = signature.outputs.iter().map(|spec| &*spec.name).collect();
        format!(
            "outputs: expected one of integers or text, or scores, to know the predicted class, got '{}'",
            names.join("', '")
        )
    })?;
    Ok(Source::Largest { output, name: (*spec.name).into(), logits })
}

impl Source {
    /// No classes yet.
    pub(super) fn none(&self) -> Classes {
        match self {
            Source::Label { text: true, .. } => Classes::Texts(Vec::new()),
            _ => Classes::Numbers(Vec::new()),
        }
    }

    /// Appends the classes of an answer.
    pub(super) fn read(&self, outputs: &[Tensor], classes: &mut Classes) {
        match (self, classes) {
            (Source::Label { output, .. }, Classes::Texts(classes)) => {
                if let Data::Strings(items) = outputs[*output].data() {
                    classes.extend(items.iter().map(|item| String::from_utf8_lossy(item).into_owned()));
                }
            }
            (Source::Label { output, .. }, Classes::Numbers(classes)) => {
                classes.extend(numbers(&outputs[*output]).into_iter().map(|number| match number {
                    Number::Integer(class) => Some(class),
                    Number::Float(_) => None,
                }));
            }
            (Source::Largest { output, logits, .. }, Classes::Numbers(classes)) => {
                classes.extend(largest(&outputs[*output], *logits));
            }
            (Source::Largest { .. }, Classes::Texts(_)) => {}
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Label { name, .. } => f.write_str(name),
            Source::Largest { name, .. } => write!(f, "largest of {name}"),
        }
    }
}

/// The first largest column of each row; a row with NaN has none.
fn largest(scores: &Tensor, logits: bool) -> Vec<Option<i128>> {
    let columns = scores.shape().get(1).copied().unwrap_or(1);
    let values = scores.to_f32().unwrap_or_default();
    let class = |row: &[f32]| {
        if row.iter().any(|score| score.is_nan()) {
            return None;
        }
        if let [score] = row {
            return Some(i128::from(*score > if logits { 0.0 } else { 0.5 }));
        }
        let mut best = 0;
        for (at, score) in row.iter().enumerate() {
            if *score > row[best] {
                best = at;
            }
        }
        i128::try_from(best).ok()
    };
    values.chunks(columns.max(1)).map(class).collect()
}

#[cfg(test)]
#[path = "classes_tests.rs"]
mod tests;
