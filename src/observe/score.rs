//! Which output of a model is its score, and what the score of each row is. Decided once at load, from the configuration or
//! from an answer seen there; applied to every answer by the score series.

use std::sync::Arc;

use crate::types::{Batch, DType, Error, ScoreKind, ScoreSpec, Signature, Tensor, TensorSpec};

/// How far the sum of a row may be from 1 for it to be read as probabilities.
const SUM_TOLERANCE: f32 = 1e-3;

/// The score of a model: which output, what its numbers mean, which range they cover.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedScore {
    /// Index of the output in the signature.
    pub output: usize,
    /// Its name.
    pub name: Arc<str>,
    /// What its values are.
    pub kind: ScoreKind,
    /// Numbers per row.
    pub columns: usize,
    /// The configured range of the values.
    pub bounds: Option<(f64, f64)>,
    /// Class names by index, where they are known.
    pub class_names: Arc<[Box<str>]>,
}

/// What one row says. What does not apply to the kind of score is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowScore {
    /// Probability of the most probable class.
    pub confidence: Option<f32>,
    /// Probability of class 1 of two.
    pub positive: Option<f32>,
    /// The predicted number.
    pub value: Option<f32>,
    /// Index of the most probable class.
    pub class: Option<usize>,
}

impl ResolvedScore {
    /// Finds the score output. Without configuration it is the first float output `[N, K >= 2]` whose rows in `sample` (the
    /// outputs of any run, in the signature's order) are probabilities; else the first float output of one column, as a
    /// number; else there is none.
    ///
    /// # Errors
    /// `InvalidArgument` when the configuration names an output that does not exist or cannot be what it says.
    pub fn resolve(signature: &Signature, spec: Option<&ScoreSpec>, sample: &[Tensor]) -> Result<Option<Self>, Error> {
        match spec {
            Some(spec) => configured(signature, spec, sample).map(Some),
            None => Ok(inferred(signature, sample)),
        }
    }

    /// With the names of the classes, for the class counters.
    #[must_use]
    pub fn with_class_names(mut self, names: &[Box<str>]) -> Self {
        self.class_names = names.into();
        self
    }

    /// The score of each row of the score output. Calls `each` once per row; not at all for a tensor of text or of another
    /// shape than the model promised.
    pub fn rows(&self, output: &Tensor, mut each: impl FnMut(RowScore)) {
        let columns = self.columns.max(1);
        if !output.elements().is_multiple_of(columns) || self.kind == ScoreKind::Label {
            return;
        }
        if output.dtype() == DType::Fp32 {
            let mut row = [0.0; 16];
            if let Some(row) = row.get_mut(..columns) {
                for bytes in output.bytes().chunks_exact(columns * size_of::<f32>()) {
                    for (to, from) in row.iter_mut().zip(bytes.as_chunks().0) {
                        *to = f32::from_le_bytes(*from);
                    }
                    each(self.row(row));
                }
                return;
            }
        }
        for row in output.to_f32().iter().flat_map(|values| values.chunks_exact(columns)) {
            each(self.row(row));
        }
    }

    fn row(&self, row: &[f32]) -> RowScore {
        match (self.kind, row) {
            (ScoreKind::Label, _) | (_, []) => RowScore::default(),
            (ScoreKind::Regression, [value, ..]) => RowScore { value: Some(*value), ..RowScore::default() },
            (ScoreKind::Probability, [p]) => binary(*p),
            (ScoreKind::Logit, [x]) => binary(1.0 / (1.0 + (-x).exp())),
            (ScoreKind::Probability, _) => {
                let class = argmax(row);
                RowScore {
                    confidence: Some(unit(row[class])),
                    positive: (row.len() == 2).then(|| unit(row[1])),
                    value: None,
                    class: known(class, row[class]),
                }
            }
            (ScoreKind::Logit, _) => {
                let class = argmax(row);
                let total: f32 = row.iter().map(|x| (x - row[class]).exp()).sum();
                RowScore {
                    confidence: Some(unit(1.0 / total)),
                    positive: (row.len() == 2).then(|| unit((row[1] - row[class]).exp() / total)),
                    value: None,
                    class: known(class, row[class]),
                }
            }
        }
    }
}

/// One column p stands for the classes [1 - p, p].
fn binary(p: f32) -> RowScore {
    let p = unit(p);
    RowScore { confidence: Some(p.max(1.0 - p)), positive: Some(p), value: None, class: known(usize::from(p > 0.5), p) }
}

/// Rounding may take a probability just beyond [0, 1]. NaN stays NaN.
fn unit(p: f32) -> f32 {
    p.clamp(0.0, 1.0)
}

/// A row of NaN has no class.
fn known(class: usize, score: f32) -> Option<usize> {
    (!score.is_nan()).then_some(class)
}

/// The index of the largest value, the first on a tie. A NaN anywhere in the row is taken for the largest, so that the row
/// counts as one without an answer.
fn argmax(row: &[f32]) -> usize {
    let (mut best, mut place) = (f32::NEG_INFINITY, 0);
    for (i, value) in row.iter().enumerate() {
        if value.is_nan() {
            return i;
        }
        if *value > best {
            (best, place) = (*value, i);
        }
    }
    place
}

/// Numbers per row, or `None` when the output is no table of rows.
fn columns(spec: &TensorSpec, batch: Batch, sample: Option<&Tensor>) -> Option<usize> {
    let last = |shape: &[Option<usize>]| {
        let seen = sample.filter(|sample| sample.shape().len() == shape.len()).and_then(|sample| sample.shape().last());
        shape.last().copied().flatten().or(seen.copied()).filter(|columns| *columns > 0)
    };
    match (batch, &*spec.shape) {
        (Batch::Rows, [_]) | (Batch::None, []) => Some(1),
        (Batch::Rows, shape @ [_, _]) | (Batch::None, shape @ ([_] | [Some(1), _])) => last(shape),
        _ => None,
    }
}

fn configured(signature: &Signature, spec: &ScoreSpec, sample: &[Tensor]) -> Result<ResolvedScore, Error> {
    let output = signature.output(&spec.output)?;
    let tensor = &signature.outputs[output];
    let columns = columns(tensor, signature.batch, sample.get(output));
    let fits = columns.is_some() && (tensor.dtype.is_float() || spec.kind == ScoreKind::Label);
    let Some(columns) = columns.filter(|_| fits) else {
        let got = format!("{} {:?}", tensor.dtype, tensor.wire_shape());
        return Err(Error::expected(format_args!("score output '{}'", spec.output), "a table of numbers", got));
    };
    Ok(resolved(tensor, output, spec.kind, columns, spec.bounds))
}

fn inferred(signature: &Signature, sample: &[Tensor]) -> Option<ResolvedScore> {
    let floats = || {
        signature.outputs.iter().enumerate().filter(|(_, spec)| spec.dtype.is_float()).filter_map(|(i, spec)| {
            let columns = columns(spec, signature.batch, sample.get(i))?;
            Some((i, spec, columns))
        })
    };
    let probability = floats().find(|(i, _, columns)| {
        *columns >= 2
            && sample.get(*i).and_then(Tensor::to_f32).is_some_and(|values| are_probabilities(&values, *columns))
    });
    if let Some((i, spec, columns)) = probability {
        return Some(resolved(spec, i, ScoreKind::Probability, columns, None));
    }
    let (i, spec, columns) = floats().find(|(_, _, columns)| *columns == 1)?;
    Some(resolved(spec, i, ScoreKind::Regression, columns, None))
}

fn are_probabilities(values: &[f32], columns: usize) -> bool {
    let range = -SUM_TOLERANCE..=1.0 + SUM_TOLERANCE;
    let good =
        |row: &[f32]| row.iter().all(|p| range.contains(p)) && (row.iter().sum::<f32>() - 1.0).abs() <= SUM_TOLERANCE;
    !values.is_empty() && values.chunks(columns).all(good)
}

fn resolved(
    spec: &TensorSpec,
    output: usize,
    kind: ScoreKind,
    columns: usize,
    bounds: Option<(f64, f64)>,
) -> ResolvedScore {
    ResolvedScore { output, name: Arc::clone(&spec.name), kind, columns, bounds, class_names: Arc::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::SmallVec;

    fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn signature(outputs: Vec<TensorSpec>) -> Signature {
        Signature { inputs: Vec::new(), outputs, batch: Batch::Rows }
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_vec(DType::Fp32, SmallVec::from_slice(shape), values.to_vec()).unwrap()
    }

    fn scores(score: &ResolvedScore, tensor: &Tensor) -> Vec<RowScore> {
        let mut rows = Vec::new();
        score.rows(tensor, |row| rows.push(row));
        rows
    }

    fn score(kind: ScoreKind, columns: usize) -> ResolvedScore {
        resolved(&spec("y", DType::Fp32, &[None, Some(columns)]), 0, kind, columns, None)
    }

    #[test]
    fn probabilities_are_recognised_by_their_sum() {
        let label = spec("label", DType::Int64, &[None]);
        let scores = spec("scores", DType::Fp32, &[None, Some(3)]);
        let probabilities = spec("probabilities", DType::Fp32, &[None, Some(2)]);
        let signature = signature(vec![label, scores, probabilities]);
        let sample = [
            Tensor::from_vec(DType::Int64, SmallVec::from_slice(&[2]), vec![1_i64, 0]).unwrap(),
            floats(&[2, 3], &[2.0, -1.0, 0.0, 1.0, 0.0, 0.0]),
            floats(&[2, 2], &[0.3, 0.7, 0.9995, 0.0]),
        ];
        let found = ResolvedScore::resolve(&signature, None, &sample).unwrap().unwrap();
        assert_eq!((found.output, &*found.name, found.columns), (2, "probabilities", 2));
        assert_eq!(found.kind, ScoreKind::Probability);
    }

    #[test]
    fn one_float_column_is_a_number_and_other_outputs_are_nothing() {
        let flat = signature(vec![spec("y", DType::Fp32, &[None])]);
        let found = ResolvedScore::resolve(&flat, None, &[floats(&[2], &[1.0, 2.0])]).unwrap().unwrap();
        assert_eq!((found.kind, found.columns), (ScoreKind::Regression, 1));
        for outputs in [
            vec![spec("image", DType::Fp32, &[None, Some(3), Some(8), Some(8)])],
            vec![spec("embedding", DType::Fp32, &[None, Some(2)])],
            vec![spec("label", DType::Int64, &[None])],
        ] {
            let sample = [floats(&[1, 2], &[3.0, 4.0])];
            assert_eq!(ResolvedScore::resolve(&signature(outputs), None, &sample), Ok(None));
        }
    }

    #[test]
    fn configuration_is_checked() {
        let signature = signature(vec![spec("y", DType::Bytes, &[None]), spec("z", DType::Fp32, &[None, Some(2)])]);
        let resolve = |output: &str, kind| {
            let spec = ScoreSpec { output: output.into(), kind, bounds: None };
            ResolvedScore::resolve(&signature, Some(&spec), &[])
        };
        assert_eq!(
            resolve("x", ScoreKind::Logit).unwrap_err().text(),
            "outputs: expected 'y', 'z', got unknown output 'x'"
        );
        let text = "score output 'y': expected a table of numbers, got BYTES [-1]";
        assert_eq!(resolve("y", ScoreKind::Probability).unwrap_err().text(), text);
        assert!(resolve("y", ScoreKind::Label).unwrap().is_some());
        assert_eq!(resolve("z", ScoreKind::Logit).unwrap().unwrap().columns, 2);
    }

    #[test]
    fn rows_of_every_kind() {
        let p = |confidence, positive, class| RowScore {
            confidence: Some(confidence),
            positive,
            value: None,
            class: Some(class),
        };
        let three = floats(&[2, 3], &[0.25, 0.5, 0.25, 0.5, 0.5, 0.0]);
        assert_eq!(scores(&score(ScoreKind::Probability, 3), &three), [p(0.5, None, 1), p(0.5, None, 0)]);
        let two = floats(&[1, 2], &[0.25, 0.75]);
        assert_eq!(scores(&score(ScoreKind::Probability, 2), &two), [p(0.75, Some(0.75), 1)]);
        let one = floats(&[2, 1], &[0.25, 0.75]);
        assert_eq!(scores(&score(ScoreKind::Probability, 1), &one), [p(0.75, Some(0.25), 0), p(0.75, Some(0.75), 1)]);
        let logits = floats(&[1, 2], &[0.0, 0.0]);
        assert_eq!(scores(&score(ScoreKind::Logit, 2), &logits), [p(0.5, Some(0.5), 0)]);
        assert_eq!(scores(&score(ScoreKind::Logit, 1), &floats(&[1, 1], &[0.0])), [p(0.5, Some(0.5), 0)]);
        let value = scores(&score(ScoreKind::Regression, 1), &floats(&[1], &[-7.5]));
        assert_eq!(value, [RowScore { value: Some(-7.5), ..RowScore::default() }]);
    }

    #[test]
    fn wide_rows_and_other_datatypes_give_the_same() {
        let mut wide = vec![0.0_f32; 40];
        wide[33] = 1.0;
        let rows = scores(&score(ScoreKind::Probability, 40), &floats(&[1, 40], &wide));
        assert_eq!(rows[0].class, Some(33));
        let doubles = Tensor::from_vec(DType::Fp64, SmallVec::from_slice(&[1, 2]), vec![0.25_f64, 0.75]).unwrap();
        assert_eq!(scores(&score(ScoreKind::Probability, 2), &doubles)[0].positive, Some(0.75));
    }

    #[test]
    fn not_a_number_has_no_class() {
        for row in [[f32::NAN, 0.5], [0.5, f32::NAN], [f32::NAN, f32::NAN]] {
            let rows = scores(&score(ScoreKind::Probability, 2), &floats(&[1, 2], &row));
            assert_eq!(rows[0].class, None);
            assert!(rows[0].confidence.unwrap().is_nan());
        }
        let rows = scores(&score(ScoreKind::Probability, 1), &floats(&[1, 1], &[f32::NAN]));
        assert_eq!(rows[0].class, None);
        assert!(rows[0].confidence.unwrap().is_nan());
    }
}
