//! How the outputs of an ensemble's members become one, and how far apart they are. Pure; called by ensembles with the members
//! that answered, in the order of the file. Weights need not sum to 1: they are divided by the sum of those that answered.
//!
//! All arithmetic is in double precision; the result has the datatype of the members' outputs. NaN propagates.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};
use smallvec::SmallVec;

use crate::types::{Combine, DType, Data, Error, Shape, Tensor};

/// Probabilities are kept this far from 0 and 1 before their logarithm is taken, so that one member that is certain does not
/// overrule all others.
pub const EPSILON: f64 = 1e-7;

/// Sums of weights that differ by less than this share are the same: 0.1 + 0.2 is no more than 0.3.
const SAME_WEIGHT: f64 = 1e-12;

/// What a member said.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// One of its outputs; of the same datatype and shape for all members.
    pub output: &'a Tensor,
    /// Its weight, positive and finite. Only `weighted_mean`, `logit_mean` and `vote` look at it.
    pub weight: f64,
}

/// Whether outputs of a datatype and shape can be combined so; `shape` includes the dimension of the rows, `None` = not known
/// before it runs.
///
/// # Errors
/// What was expected of the output instead.
pub fn fits(how: Combine, dtype: DType, shape: &[Option<usize>]) -> Result<(), String> {
    let word = how.as_str();
    match how {
        Combine::Vote if dtype.is_float() => {
            Err(format!("combine '{word}': expected an output of integers, booleans or strings, got {dtype}"))
        }
        Combine::Vote => Ok(()),
        _ if !dtype.is_float() => {
            Err(format!("combine '{word}': expected a floating-point output, got {dtype}, which can only be voted on"))
        }
        Combine::LogitMean if !matches!(shape.len(), 1 | 2) => {
            let got = shape.len();
            Err(format!("combine '{word}': expected an output [rows, K] or [rows], got {got} dimensions"))
        }
        _ => Ok(()),
    }
}

/// One output from those of the members that answered, at least one.
///
/// - `mean`, `weighted_mean`, `median`: element by element.
/// - `logit_mean` of one column p: the mean of ln(p / (1 - p)), and back. Of K columns: the mean of ln p of each class, and back,
///   divided by the row's sum (the logarithmic opinion pool). Probabilities are first clamped to [`EPSILON`]..1 - [`EPSILON`].
/// - `vote`: for each element the value that most weight stands behind; on a tie the one whose first member comes first.
///
/// # Errors
/// `Internal` when there is no member, their outputs differ in datatype or shape, or [`fits`] refuses them.
pub fn combine(how: Combine, said: &[Said<'_>]) -> Result<Tensor, Error> {
    let first = alike(how, said)?;
    let members = Members::new(how, said);
    if how == Combine::Vote {
        return vote(first, &members);
    }
    let (elements, columns) = (first.elements(), columns(first));
    let mut values: Vec<f64> = match how {
        Combine::Median => (0..elements).map(|at| members.median(at)).collect(),
        Combine::LogitMean if columns == 1 => (0..elements).map(|at| logistic(members.mean(at, log_odds))).collect(),
        Combine::LogitMean => (0..elements).map(|at| members.mean(at, |p| clamped(p).ln()).exp()).collect(),
        _ => (0..elements).map(|at| members.mean(at, |value| value)).collect(),
    };
    if how == Combine::LogitMean && columns > 1 {
        for row in values.chunks_mut(columns) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= sum);
        }
    }
    floats(first.dtype(), first.shape().into(), values)
}

/// How far the members are apart, FP32 `[rows]`, 0 = they agree. Members count as they do in [`combine`].
///
/// - Floating-point outputs of several elements a row: the mean total variation distance, half the sum of absolute differences,
///   of the members from their mean; between 0 and 1 for probabilities.
/// - Floating-point outputs of one element a row: the standard deviation of the members, divided by their number and not by one
///   less.
/// - Votes: 1 less the winner's share of the weight, averaged over the row's elements.
///
/// # Errors
/// As [`combine`].
pub fn disagreement(how: Combine, said: &[Said<'_>]) -> Result<Tensor, Error> {
    let first = alike(how, said)?;
    let rows = first.shape().first().copied().unwrap_or(1);
    let columns = first.elements().checked_div(rows).unwrap_or(0);
    let members = Members::new(how, said);
    let mean = |at: usize| members.mean(at, |value| value);
    let apart = |row: usize| {
        let elements = row * columns..(row + 1) * columns;
        match (how, columns) {
            (Combine::Vote, _) => elements.map(|at| 1.0 - members.winner(at).1).sum::<f64>() / columns.max(1) as f64,
            (_, 1) => {
                let mean = mean(row);
                members.mean(row, |value| (value - mean).powi(2)).sqrt()
            }
            _ => elements.map(|at| (at, mean(at))).map(|(at, mean)| members.mean(at, |v| (v - mean).abs()) / 2.0).sum(),
        }
    };
    // Rounding may leave a trace below zero; a NaN stays.
    let values = (0..rows).map(apart).map(|apart| if apart < 0.0 { 0.0 } else { apart }).collect();
    floats(DType::Fp32, Shape::from_slice(&[rows]), values)
}

/// The first member's output, after making sure that all are of its kind.
fn alike<'a>(how: Combine, said: &[Said<'a>]) -> Result<&'a Tensor, Error> {
    let failed =
        |detail: Cow<'static, str>| Error::internal("ensemble: the members' outputs cannot be combined", detail);
    let Some(first) = said.first() else { return Err(failed("no member answered".into())) };
    let output = first.output;
    if let Some(other) = said
        .iter()
        .map(|member| member.output)
        .find(|other| (other.dtype(), other.shape()) != (output.dtype(), output.shape()))
    {
        let kind = |tensor: &Tensor| format!("{} {:?}", tensor.dtype(), tensor.shape());
        return Err(failed(format!("expected {}, got {}", kind(output), kind(other)).into()));
    }
    let shape: SmallVec<[Option<usize>; 4]> = output.shape().iter().map(|size| Some(*size)).collect();
    fits(how, output.dtype(), &shape).map_err(|what| failed(what.into()))?;
    Ok(output)
}

/// Elements per row of an output of at most two dimensions.
fn columns(output: &Tensor) -> usize {
    output.shape().get(1).copied().unwrap_or(1)
}

/// Members that are alike, each with its share of the weight.
struct Members<'a>(SmallVec<[(&'a Tensor, f64); 8]>);

impl<'a> Members<'a> {
    fn new(how: Combine, said: &[Said<'a>]) -> Self {
        let weighted = matches!(how, Combine::WeightedMean | Combine::LogitMean | Combine::Vote);
        let weight = |member: &Said<'_>| if weighted { member.weight } else { 1.0 };
        // Divided by the largest first: the sum of very large weights would overflow.
        let most = said.iter().map(weight).fold(0.0, f64::max);
        let total: f64 = said.iter().map(|member| weight(member) / most).sum();
        Self(said.iter().map(|member| (member.output, weight(member) / most / total)).collect())
    }

    /// What the members say about an element, with their shares.
    fn values(&self, at: usize) -> impl Iterator<Item = (f64, f64)> {
        self.0.iter().map(move |(output, share)| (number(output, at), *share))
    }

    /// The first member that said what most weight stands behind, and the share of that weight.
    fn winner(&self, at: usize) -> (usize, f64) {
        let mut best = (0, 0.0);
        for (member, (output, _)) in self.0.iter().enumerate() {
            let value = element(output, at);
            if self.0[..member].iter().any(|(earlier, _)| element(earlier, at) == value) {
                continue;
            }
            let behind = self.0[member..].iter().filter(|(other, _)| element(other, at) == value);
            let share = behind.map(|(_, share)| share).sum::<f64>();
            if share > best.1 * (1.0 + SAME_WEIGHT) {
                best = (member, share);
            }
        }
        best
    }

    fn mean(&self, at: usize, of: impl Fn(f64) -> f64) -> f64 {
        self.values(at).map(|(value, share)| share * of(value)).sum()
    }

    fn median(&self, at: usize) -> f64 {
        let mut values: SmallVec<[f64; 8]> = self.values(at).map(|(value, _)| value).collect();
        if values.iter().any(|value| value.is_nan()) {
            return f64::NAN;
        }
        values.sort_unstable_by(f64::total_cmp);
        let (upper, lower) = (values.len() / 2, (values.len() - 1) / 2);
        if upper == lower { values[upper] } else { values[lower].midpoint(values[upper]) }
    }
}

fn clamped(p: f64) -> f64 {
    p.clamp(EPSILON, 1.0 - EPSILON)
}

fn log_odds(p: f64) -> f64 {
    let p = clamped(p);
    (p / (1.0 - p)).ln()
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

fn floats(dtype: DType, shape: Shape, values: Vec<f64>) -> Result<Tensor, Error> {
    match dtype {
        DType::Fp16 => Tensor::from_vec(dtype, shape, values.into_iter().map(f16::from_f64).collect()),
        DType::Bf16 => Tensor::from_vec(dtype, shape, values.into_iter().map(bf16::from_f64).collect()),
        DType::Fp32 => Tensor::from_vec(dtype, shape, values.into_iter().map(|value| value as f32).collect()),
        _ => Tensor::from_vec(dtype, shape, values),
    }
}

/// The bytes of an element, whatever its datatype.
fn element(tensor: &Tensor, at: usize) -> &[u8] {
    match tensor.data() {
        Data::Strings(items) => items.get(at).map_or(&[], |item| item),
        Data::Plain(bytes) => {
            let width = tensor.dtype().size().unwrap_or(1);
            bytes.get(at * width..(at + 1) * width).unwrap_or(&[])
        }
    }
}

/// An element of a floating-point tensor.
fn number(tensor: &Tensor, at: usize) -> f64 {
    // The index is within the shape that all members share.
    fn read<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        bytes.as_chunks::<N>().0[at]
    }
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::Fp16 => f16::from_le_bytes(read(bytes, at)).to_f64(),
        DType::Bf16 => bf16::from_le_bytes(read(bytes, at)).to_f64(),
        DType::Fp32 => f64::from(f32::from_le_bytes(read(bytes, at))),
        _ => f64::from_le_bytes(read(bytes, at)),
    }
}

fn vote(first: &Tensor, members: &Members<'_>) -> Result<Tensor, Error> {
    let chosen = (0..first.elements()).map(|at| (at, members.0[members.winner(at).0].0));
    if first.dtype() == DType::Bytes {
        let text = |(at, output): (usize, &Tensor)| match output.data() {
            Data::Strings(items) => items[at].clone(),
            Data::Plain(_) => Bytes::new(),
        };
        return Tensor::strings(first.shape().into(), chosen.map(text).collect::<Vec<_>>().into());
    }
    let mut bytes = Vec::with_capacity(first.byte_len());
    chosen.for_each(|(at, output)| bytes.extend_from_slice(element(output, at)));
    Tensor::plain(first.dtype(), first.shape().into(), bytes.into())
}

#[cfg(test)]
#[path = "combine_tests.rs"]
mod tests;
