//! Rows times a weight matrix, plus a bias, through an activation. The matrix is packed once, in panels one vector wide, so
//! that all batch sizes share it. Called by the engine `tract` of the gateway.

use std::sync::Arc;

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{
    Activation, level,
    tile::{Panels, Rows, multiply},
};

/// Bytes of the left operand that are worked off before the next ones, so that they stay in the second cache.
const LEFT_BYTES: usize = 256 << 10;

/// A weight matrix of `inner` times `outer` numbers, in panels one vector wide.
#[derive(Debug)]
pub struct DenseWeights {
    inner: usize,
    outer: usize,
    lanes: usize,
    panels: Vec<f32>,
}

impl DenseWeights {
    /// Packs a row-major matrix of `inner` rows and `outer` columns.
    ///
    /// # Panics
    /// When the matrix has another size.
    pub fn new(matrix: &[f32], inner: usize, outer: usize) -> Self {
        assert_eq!(matrix.len(), inner * outer, "the matrix has inner times outer numbers");
        let lanes = dispatch!(level(), simd => lanes(simd));
        let mut panels = vec![0.0; outer.div_ceil(lanes) * inner * lanes];
        for (p, panel) in panels.chunks_exact_mut((inner * lanes).max(1)).enumerate() {
            let columns = lanes.min(outer - p * lanes);
            for (k, vector) in panel.chunks_exact_mut(lanes).enumerate() {
                let row = &matrix[k * outer + p * lanes..];
                vector[..columns].copy_from_slice(&row[..columns]);
            }
        }
        Self { inner, outer, lanes, panels }
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.panels[..])
    }
}

/// Packed weights with a bias.
#[derive(Debug)]
pub struct Dense {
    weights: Arc<DenseWeights>,
    bias: Vec<f32>,
}

impl Dense {
    /// `bias` is empty or has one number per column.
    ///
    /// # Panics
    /// When the bias has another size.
    pub fn new(weights: Arc<DenseWeights>, bias: &[f32]) -> Self {
        assert!(bias.is_empty() || bias.len() == weights.outer, "the bias has one number per column");
        let mut padded = vec![0.0; weights.outer.div_ceil(weights.lanes) * weights.lanes];
        padded[..bias.len()].copy_from_slice(bias);
        Self { weights, bias: padded }
    }

    /// The packed weights, which products may share.
    pub fn weights(&self) -> &Arc<DenseWeights> {
        &self.weights
    }

    /// Multiplies row-major rows of `inner` numbers and overwrites rows of `outer` numbers.
    ///
    /// # Panics
    /// When the two do not have the same number of whole rows.
    pub fn run(&self, rows: &[f32], out: &mut [f32], activation: Activation) {
        if out.is_empty() {
            return;
        }
        let DenseWeights { inner, outer, .. } = *self.weights;
        let count = out.len() / outer;
        assert_eq!((rows.len(), out.len()), (count * inner, count * outer), "rows in and rows out agree");
        dispatch!(level(), simd => blocks(simd, self, (rows, out), activation));
    }
}

#[inline(always)]
fn lanes<S: Simd>(_: S) -> usize {
    S::f32s::LEN
}

type InOut<'a> = (&'a [f32], &'a mut [f32]);

#[inline(always)]
fn blocks<S: Simd>(simd: S, dense: &Dense, (mut rows, mut out): InOut<'_>, activation: Activation) {
    let DenseWeights { inner, outer, .. } = *dense.weights;
    let per_block = (LEFT_BYTES / 4 / inner.max(1)).clamp(64, 4096);
    while !out.is_empty() {
        let count = (out.len() / outer).min(per_block);
        let (here, rest) = rows.split_at(count * inner);
        rows = rest;
        let (here_out, rest) = std::mem::take(&mut out).split_at_mut(count * outer);
        out = rest;
        block(simd, dense, (here, here_out), activation);
    }
}

#[inline(always)]
fn block<S: Simd>(simd: S, dense: &Dense, (rows, out): InOut<'_>, activation: Activation) {
    let count = out.len() / dense.weights.outer;
    let vectors = dense.bias.len() / dense.weights.lanes;
    let mut work = Work { simd, dense, rows, out, activation };
    // Few rows: wide tiles hide the latency of the sums. Many: tall ones use each weight often.
    let wide = if count == 1 {
        8
    } else if count < 4 {
        4
    } else {
        3
    };
    let mut at = 0;
    while at < vectors {
        at += match vectors - at {
            left if left >= 8 && wide == 8 => work.column::<8>(at),
            left if left >= 4 && wide >= 4 => work.column::<4>(at),
            left if left >= 3 => work.column::<3>(at),
            2 => work.column::<2>(at),
            _ => work.column::<1>(at),
        };
    }
}

struct Work<'a, S> {
    simd: S,
    dense: &'a Dense,
    rows: &'a [f32],
    out: &'a mut [f32],
    activation: Activation,
}

impl<S: Simd> Work<'_, S> {
    /// All rows of `NV` vectors of columns.
    #[inline(always)]
    fn column<const NV: usize>(&mut self, at: usize) -> usize {
        let count = self.out.len() / self.dense.weights.outer;
        let mut row = 0;
        if S::f32s::LEN >= 16 && NV <= 3 {
            while count - row >= 8 {
                self.tile::<8, NV>(row, at);
                row += 8;
            }
        }
        if NV <= 3 || S::f32s::LEN >= 16 {
            while NV <= 4 && count - row >= 4 {
                self.tile::<4, NV>(row, at);
                row += 4;
            }
        }
        while NV <= 4 && count - row >= 2 {
            self.tile::<2, NV>(row, at);
            row += 2;
        }
        while count > row {
            self.tile::<1, NV>(row, at);
            row += 1;
        }
        NV
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "constant bounds keep the arrays in registers")]
    fn tile<const MR: usize, const NV: usize>(&mut self, row: usize, at: usize) {
        let DenseWeights { inner, outer, lanes, ref panels } = *self.dense.weights;
        if lanes != S::f32s::LEN {
            return;
        }
        let mut start = [S::f32s::splat(self.simd, 0.0); NV];
        for v in 0..NV {
            start[v] = S::f32s::from_slice(self.simd, &self.dense.bias[(at + v) * lanes..][..lanes]);
        }
        let mut sums = [start; MR];
        let left = Rows::<MR>::new(&self.rows[row * inner..], inner);
        let right = Panels { data: &panels[at * inner * lanes..][..NV * inner * lanes], len: inner };
        multiply(self.simd, left, right, &mut sums);
        for r in 0..MR {
            let target = &mut self.out[(row + r) * outer + at * lanes..(row + r + 1) * outer];
            for v in 0..NV {
                let result = self.activation.apply(self.simd, sums[r][v]);
                let left = target.len().saturating_sub(v * lanes);
                if left >= lanes {
                    result.store_slice(&mut target[v * lanes..(v + 1) * lanes]);
                } else {
                    target[v * lanes..].copy_from_slice(&result.as_slice()[..left]);
                }
            }
        }
    }
}
