//! How far two models' answers to the same rows are apart: which rows are the same within the tolerance, the largest differences
//! per row, and in how many rows another class comes out on top. Pure; called by shadows.

use crate::types::{DType, Data, TIE, Tensor, Tolerance};

/// An output that both have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    /// What the caller got.
    pub(crate) primary: &'a Tensor,
    /// What the other said.
    pub(crate) shadow: &'a Tensor,
}

/// Two answers beside each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    /// Per row, whether all outputs are the same.
    pub(crate) same: Vec<bool>,
    /// Per output.
    pub(crate) outputs: Vec<Difference>,
}

/// One output beside the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// Per row the largest absolute difference and the largest difference relative to the larger of the two values;
    /// infinite where one of them is no finite number and the other is not the same. Empty unless floating-point.
    pub(crate) rows: Vec<(f64, f64)>,
    /// Rows of at least two scores, `[rows, K]`, none of them NaN.
    pub(crate) ranked: usize,
    /// Those of them whose highest score is in another column. Columns that are closer than [`TIE`] on either side are level.
    pub(crate) flips: usize,
}

/// Compares answers of `rows` rows. Floats are the same within the tolerance of their datatype; everything else when equal, and
/// in rows in which the two highest scores of either side are closer than [`TIE`] also otherwise: then a class may fall either
/// way. `None` when an output has another datatype or shape on the other side, or does not consist of so many rows.
pub(crate) fn compare(pairs: &[Pair<'_>], rows: usize) -> Option<Comparison> {
    if !pairs.iter().all(|pair| comparable(pair, rows)) {
        return None;
    }
    let mut level = vec![false; rows];
    let mut same = vec![true; rows];
    let mut outputs = vec![Difference::default(); pairs.len()];
    for (pair, difference) in pairs.iter().zip(&mut outputs) {
        if let (Some(primary), Some(shadow)) = (floats(pair.primary), floats(pair.shadow)) {
            let tolerance = Tolerance::of(pair.primary.dtype());
            let width = pair.primary.elements() / rows.max(1);
            let ranked = width >= 2 && matches!(pair.primary.shape(), [count, _] if *count == rows);
            for row in 0..rows {
                let own = row * width..(row + 1) * width;
                let (p, s) = (&primary[own.clone()], &shadow[own]);
                same[row] &= s.iter().zip(p).all(|(s, p)| tolerance.accepts(*s, *p));
                difference.rows.push(largest(p, s));
                if ranked {
                    level[row] |= difference.rank(p, s);
                }
            }
        }
    }
    for pair in pairs.iter().filter(|pair| !pair.primary.dtype().is_float()) {
        for (row, same) in same.iter_mut().enumerate() {
            *same &= level[row] || equal(pair, row, rows);
        }
    }
    Some(Comparison { same, outputs })
}

impl Difference {
    /// Counts a row of scores; true when the two highest of either side are level.
    fn rank(&mut self, primary: &[f64], shadow: &[f64]) -> bool {
        let (Some((p, p_level)), Some((s, s_level))) = (top(primary), top(shadow)) else { return false };
        self.ranked += 1;
        let apart = |scores: &[f64]| (scores[p] - scores[s]).abs() >= f64::from(TIE);
        self.flips += usize::from(p != s && apart(primary) && apart(shadow));
        p_level || s_level
    }
}

/// The column of the highest score, the first of equal ones, and whether the second highest is level; `None` with a NaN.
fn top(scores: &[f64]) -> Option<(usize, bool)> {
    let mut best = (0, *scores.first()?);
    let mut second = f64::NEG_INFINITY;
    for (column, score) in scores.iter().copied().enumerate().skip(1) {
        if score > best.1 {
            second = best.1;
            best = (column, score);
        } else {
            second = second.max(score);
        }
    }
    (!scores.iter().any(|score| score.is_nan())).then(|| (best.0, best.1 - second < f64::from(TIE)))
}

/// The largest absolute and relative difference.
fn largest(primary: &[f64], shadow: &[f64]) -> (f64, f64) {
    primary.iter().zip(shadow).fold((0.0, 0.0), |(absolute, relative): (f64, f64), (p, s)| {
        if p == s || (p.is_nan() && s.is_nan()) {
            return (absolute, relative);
        }
        if !p.is_finite() || !s.is_finite() {
            return (f64::INFINITY, f64::INFINITY);
        }
        let size = p.abs().max(s.abs());
        (absolute.max((p - s).abs()), relative.max((p / size - s / size).abs()))
    })
}

fn comparable(pair: &Pair<'_>, rows: usize) -> bool {
    let (primary, shadow) = (pair.primary, pair.shadow);
    let of_rows = rows == 1 || primary.shape().first() == Some(&rows);
    primary.dtype() == shadow.dtype() && primary.shape() == shadow.shape() && of_rows
}

fn equal(pair: &Pair<'_>, row: usize, rows: usize) -> bool {
    let elements = pair.primary.elements() / rows.max(1);
    match (pair.primary.data(), pair.shadow.data()) {
        (Data::Plain(primary), Data::Plain(shadow)) => {
            let width = elements * pair.primary.dtype().size().unwrap_or(0);
            let own = row * width..(row + 1) * width;
            primary.get(own.clone()) == shadow.get(own)
        }
        (Data::Strings(primary), Data::Strings(shadow)) => {
            let own = row * elements..(row + 1) * elements;
            primary.get(own.clone()) == shadow.get(own)
        }
        _ => false,
    }
}

/// The elements in double precision; `None` unless floating-point.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    let bytes = tensor.bytes();
    Some(match tensor.dtype() {
        DType::Fp16 => each(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        DType::Bf16 => each(bytes, |b| half::bf16::from_le_bytes(b).to_f64()),
        DType::Fp32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        DType::Fp64 => each(bytes, f64::from_le_bytes),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
