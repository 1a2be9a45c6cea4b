//! Which rows of a stage's answer are kept: a confidence measure per row, held against a threshold. Pure; called by cascades for
//! every answer of a stage, and by the calibration, which chooses the thresholds from the same numbers.
//!
//! All arithmetic is in double precision and in the plain order (divide by the temperature, subtract the largest, exponentiate,
//! divide by the sum), so that the same rule written with NumPy gives the same decisions.

use smallvec::SmallVec;

use crate::types::{Accept, DType, Error, Measure, Tensor};

/// When a stage's answer for a row is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    measure: Measure,
    /// Divides logits before softmax; `None` = the scores are probabilities already.
    temperature: Option<f64>,
}

/// What became of the rows of an answer. Kept by the caller and filled anew, so that deciding allocates nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The measure of every row; of a band the score itself.
    pub measures: SmallVec<[f64; 8]>,
    /// The rows that go on to the next stage, ascending.
    pub escalated: SmallVec<[usize; 8]>,
    /// How many rows were kept only because the threshold in force is lower than the configured one.
    pub relaxed: usize,
}

impl Gate {
    /// The gate of a stage.
    pub fn new(accept: &Accept) -> Self {
        Self { measure: accept.measure, temperature: accept.softmax.then_some(accept.temperature) }
    }

    /// Whether an output can be measured; `shape` includes the dimension of the rows, `None` = not known before it runs.
    ///
    /// # Errors
    /// What was expected of the output instead.
    pub fn fits(&self, dtype: DType, shape: &[Option<usize>]) -> Result<(), String> {
        let (columns, wanted) = match self.measure {
            Measure::Band { .. } => (1..=1, "[rows, 1] or [rows]"),
            _ => (1..=usize::MAX, "[rows, K] or [rows]"),
        };
        let fits = match shape {
            [_] => true,
            [_, width] => width.is_none_or(|width| columns.contains(&width)),
            _ => false,
        };
        if fits && dtype.is_float() {
            return Ok(());
        }
        let sizes: Vec<String> =
            shape.iter().map(|size| size.map_or_else(|| "-1".to_owned(), |size| size.to_string())).collect();
        Err(format!("expected a floating-point output {wanted}, got {dtype} [{}]", sizes.join(", ")))
    }

    /// The measure of every row, in `out` instead of what was there. Rows with a NaN have the measure NaN.
    ///
    /// # Errors
    /// `Internal` when the tensor is not what [`Gate::fits`] asks for.
    pub fn measures(&self, scores: &Tensor, out: &mut SmallVec<[f64; 8]>) -> Result<(), Error> {
        out.clear();
        let shape: SmallVec<[Option<usize>; 4]> = scores.shape().iter().map(|size| Some(*size)).collect();
        self.fits(scores.dtype(), &shape)
            .map_err(|what| Error::internal("cascade: a stage's score is unusable", what))?;
        let columns = scores.shape().get(1).copied().unwrap_or(1);
        match scores.dtype() {
            DType::Fp16 => self.each(scores, columns, |b| half::f16::from_le_bytes(b).to_f64(), out),
            DType::Bf16 => self.each(scores, columns, |b| half::bf16::from_le_bytes(b).to_f64(), out),
            DType::Fp32 => self.each(scores, columns, |b| f64::from(f32::from_le_bytes(b)), out),
            _ => self.each(scores, columns, f64::from_le_bytes, out),
        }
        Ok(())
    }

    /// Decides about every row. `in_force` replaces the configured threshold, which a budget may have moved; a band has none.
    ///
    /// # Errors
    /// As [`Gate::measures`].
    pub fn decide(&self, scores: &Tensor, in_force: Option<f64>, verdict: &mut Verdict) -> Result<(), Error> {
        self.measures(scores, &mut verdict.measures)?;
        verdict.escalated.clear();
        verdict.relaxed = 0;
        let moved =
            in_force.map_or(*self, |threshold| Self { measure: self.measure.with_threshold(threshold), ..*self });
        for (row, measure) in verdict.measures.iter().enumerate() {
            if !moved.accepts(*measure) {
                verdict.escalated.push(row);
            } else if !self.accepts(*measure) {
                verdict.relaxed += 1;
            }
        }
        Ok(())
    }

    /// Whether a row of this measure is kept. NaN is not.
    pub fn accepts(&self, measure: f64) -> bool {
        match self.measure {
            Measure::MaxProb { at_least } | Measure::Margin { at_least } | Measure::Certainty { at_least } => {
                measure >= at_least
            }
            Measure::Band { below, above } => measure <= below || measure >= above,
        }
    }

    fn each<const N: usize>(
        &self,
        scores: &Tensor,
        columns: usize,
        read: impl Fn([u8; N]) -> f64,
        out: &mut SmallVec<[f64; 8]>,
    ) {
        let elements = scores.bytes().as_chunks::<N>().0;
        let rows = elements.chunks_exact(columns.max(1));
        if columns == 1 {
            out.extend(elements.iter().map(|element| self.single(read(*element))));
        } else {
            out.extend(rows.map(|row| self.row(row.iter().map(|element| read(*element)))));
        }
    }

    /// The measure of a row of one score: the probability of the second of two classes.
    fn single(&self, score: f64) -> f64 {
        let p = self.temperature.map_or(score, |temperature| 1.0 / (1.0 + (-score / temperature).exp()));
        match self.measure {
            Measure::Band { .. } => p,
            measure => of_probabilities(measure, [1.0 - p, p].into_iter(), 2),
        }
    }

    /// The measure of a row of several scores.
    fn row(&self, scores: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
        let classes = scores.len();
        let Some(temperature) = self.temperature else { return of_probabilities(self.measure, scores, classes) };
        let logits = scores.map(|score| score / temperature);
        let (first, second) = top_two(logits.clone());
        let powers = logits.map(|logit| (logit - first).exp());
        let sum: f64 = powers.clone().sum();
        match self.measure {
            // The largest power is exp(0) = 1; the others need not be computed twice.
            Measure::MaxProb { .. } => 1.0 / sum,
            Measure::Margin { .. } => 1.0 / sum - (second - first).exp() / sum,
            measure => of_probabilities(measure, powers.map(|power| power / sum), classes),
        }
    }
}

fn of_probabilities(measure: Measure, row: impl Iterator<Item = f64> + Clone, classes: usize) -> f64 {
    match measure {
        Measure::MaxProb { .. } => top_two(row).0,
        Measure::Margin { .. } => {
            let (first, second) = top_two(row);
            first - second
        }
        Measure::Certainty { .. } => {
            // p ln p goes to 0 with p; a negative p makes the sum NaN.
            let entropy: f64 = -row.map(|p| if p == 0.0 { 0.0 } else { p * p.ln() }).sum::<f64>();
            1.0 - entropy / (classes as f64).ln()
        }
        // A band has one column, which never comes here.
        Measure::Band { .. } => f64::NAN,
    }
}

/// The two largest values, equal ones counted apart; both NaN when any value is.
fn top_two(row: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for value in row {
        if value.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        if value > first {
            (first, second) = (value, first);
        } else if value > second {
            second = value;
        }
    }
    (first, second)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
