//! What is done row by row: softmax and normalization. Rows do not know of each other: a row's result is the same to the last
//! bit whatever it is together with. Called by the engine `tract` of the gateway; `pool`
//! sums as is done here.

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{MAX_LANES, level, math::exp, turn::load_some, window::copy_short};

/// What is added to rows before a softmax: a mask, a row of which serves many.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// All numbers.
    pub numbers: &'a [f32],
    /// Where the numbers of each row start.
    pub starts: &'a [usize],
}

/// Replaces each row of `len` numbers by its softmax, after adding `added`.
///
/// # Panics
/// When `added` does not have a start per row, or not enough numbers.
pub fn softmax(rows: &mut [f32], len: usize, added: Option<Added<'_>>) {
    if len == 0 || rows.is_empty() {
        return;
    }
    dispatch!(level(), simd => softmax_rows(simd, rows, len, added));
}

#[inline(always)]
fn softmax_rows<S: Simd>(simd: S, rows: &mut [f32], len: usize, added: Option<Added<'_>>) {
    if len < S::f32s::LEN && added.is_none() {
        for some in rows.chunks_mut(len * S::f32s::LEN) {
            short_rows(simd, some, len);
        }
        return;
    }
    for (at, row) in rows.chunks_exact_mut(len).enumerate() {
        let added = added.map(|added| &added.numbers[added.starts[at]..][..len]);
        long_row(simd, row, added);
    }
}

/// Up to a vector of rows that are shorter than one: each has a lane.
#[inline(always)]
fn short_rows<S: Simd>(simd: S, rows: &mut [f32], len: usize) {
    let lanes = S::f32s::LEN;
    let count = rows.len() / len;
    let mut columns = [[0.0_f32; MAX_LANES]; MAX_LANES];
    for row in 0..count {
        for column in 0..len {
            columns[column][row] = rows[row * len + column];
        }
    }
    let mut vectors = [S::f32s::splat(simd, 0.0); MAX_LANES];
    let mut top = S::f32s::splat(simd, f32::NEG_INFINITY);
    for column in 0..len {
        vectors[column] = S::f32s::from_slice(simd, &columns[column][..lanes]);
        top = top.max(vectors[column]);
    }
    let mut sum = S::f32s::splat(simd, 0.0);
    for column in 0..len {
        vectors[column] = exp(simd, vectors[column] - top);
        sum += vectors[column];
    }
    let share = S::f32s::splat(simd, 1.0) / sum;
    for column in 0..len {
        (vectors[column] * share).store_slice(&mut columns[column][..lanes]);
    }
    for row in 0..count {
        for column in 0..len {
            rows[row * len + column] = columns[column][row];
        }
    }
}

#[inline(always)]
fn long_row<S: Simd>(simd: S, row: &mut [f32], added: Option<&[f32]>) {
    let lanes = S::f32s::LEN;
    let whole = row.len() / lanes * lanes;
    let mut top = S::f32s::splat(simd, f32::NEG_INFINITY);
    let mut at = 0;
    while at < whole {
        let mut numbers = S::f32s::from_slice(simd, &row[at..at + lanes]);
        if let Some(added) = added {
            numbers += S::f32s::from_slice(simd, &added[at..at + lanes]);
            numbers.store_slice(&mut row[at..at + lanes]);
        }
        top = top.max(numbers);
        at += lanes;
    }
    let mut top = top.reduce_max();
    for at in whole..row.len() {
        row[at] += added.map_or(0.0, |added| added[at]);
        top = top.max(row[at]);
    }
    let mut sums = S::f32s::splat(simd, 0.0);
    at = 0;
    while at < whole {
        let place = &mut row[at..at + lanes];
        let power = exp(simd, S::f32s::from_slice(simd, place) - top);
        sums += power;
        power.store_slice(place);
        at += lanes;
    }
    let mut sum = sums.reduce_sum();
    let rest = &mut row[whole..];
    if !rest.is_empty() {
        let powers = exp(simd, load_some(simd, rest) - top);
        for (number, power) in rest.iter_mut().zip(powers.as_slice()) {
            *number = *power;
            sum += *power;
        }
    }
    let share = 1.0 / sum;
    at = 0;
    while at < whole {
        let place = &mut row[at..at + lanes];
        (S::f32s::from_slice(simd, place) * share).store_slice(place);
        at += lanes;
    }
    for number in &mut row[whole..] {
        *number *= share;
    }
}

/// Brings rows to a mean square of one, after taking their mean away if they are centered; then a factor and an addend per
/// column.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Numbers of a row.
    pub len: usize,
    /// Added to the mean square, so that nothing is divided by zero.
    pub epsilon: f32,
    /// Whether the mean of a row is taken away.
    pub centered: bool,
    /// A factor per column; empty for none.
    pub factors: Vec<f32>,
    /// An addend per column; empty for none.
    pub addends: Vec<f32>,
}

impl Norm {
    /// Overwrites `out` with the rows, normalized.
    ///
    /// # Panics
    /// When the sizes do not fit.
    pub fn run(&self, rows: &[f32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "as many numbers come out as go in");
        if self.len > 0 && !rows.is_empty() {
            dispatch!(level(), simd => normalize(simd, self, (rows, out)));
        }
    }
}

#[inline(always)]
fn normalize<S: Simd>(simd: S, norm: &Norm, (rows, out): (&[f32], &mut [f32])) {
    let (lanes, len) = (S::f32s::LEN, norm.len);
    let whole = len / lanes * lanes;
    for (row, out) in rows.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let mean = if norm.centered {
            total(
                simd,
                row,
                #[inline(always)]
                |x| x,
            ) / len as f32
        } else {
            0.0
        };
        let square = total(
            simd,
            row,
            #[inline(always)]
            |x| (x - mean) * (x - mean),
        ) / len as f32;
        let factor = 1.0 / (square + norm.epsilon).sqrt();
        let mut at = 0;
        while at < len {
            let end = if at < whole { at + lanes } else { len };
            let mut x = (load_some(simd, &row[at..end]) - mean) * factor;
            if !norm.factors.is_empty() {
                x *= load_some(simd, &norm.factors[at..end]);
            }
            if !norm.addends.is_empty() {
                x += load_some(simd, &norm.addends[at..end]);
            }
            copy_short(&x.as_slice()[..end - at], &mut out[at..end]);
            at = end;
        }
    }
}

/// The sum of a function of each number, in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn total<S: Simd>(simd: S, numbers: &[f32], function: impl Fn(S::f32s) -> S::f32s) -> f32 {
    let lanes = S::f32s::LEN;
    let whole = numbers.len() / lanes * lanes;
    let mut sums = [S::f32s::splat(simd, 0.0); 2];
    let mut at = 0;
    while at < whole {
        let number = function(S::f32s::from_slice(simd, &numbers[at..at + lanes]));
        sums = [sums[1], sums[0] + number];
        at += lanes;
    }
    let mut sum = (sums[0] + sums[1]).reduce_sum();
    let rest = &numbers[whole..];
    if !rest.is_empty() {
        for number in &function(load_some(simd, rest)).as_slice()[..rest.len()] {
            sum += *number;
        }
    }
    sum
}
