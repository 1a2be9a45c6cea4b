//! Rows times a weight matrix, plus a bias, through an activation. The matrix is packed once, in panels one vector wide, so
//! that all batch sizes share it. Called by the engine `tract` of the gateway.

use std::sync::Arc;

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{Activation, aligned::Aligned, block::Block, lanes, level};

/// Bytes of the left operand that are worked off before the next ones, so that they stay in the second cache.
const LEFT_BYTES: usize = 256 << 10;

/// A weight matrix of `inner` times `outer` numbers, in panels one vector wide.
#[derive(Debug)]
pub struct DenseWeights {
    inner: usize,
    outer: usize,
    lanes: usize,
    panels: Aligned,
}

impl DenseWeights {
    /// Packs a row-major matrix of `inner` rows and `outer` columns.
    ///
    /// # Panics
    /// When the matrix has another size.
    pub fn new(matrix: &[f32], inner: usize, outer: usize) -> Self {
        assert_eq!(matrix.len(), inner * outer, "the matrix has inner times outer numbers");
        let lanes = lanes();
        let mut panels = Aligned::zeros(outer.div_ceil(lanes) * inner * lanes);
        for (p, panel) in panels.as_mut_slice().chunks_exact_mut((inner * lanes).max(1)).enumerate() {
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
        size_of_val(self.panels.as_slice())
    }
}

/// Packed weights with a bias.
#[derive(Debug)]
pub struct Dense {
    weights: Arc<DenseWeights>,
    bias: Aligned,
}

impl Dense {
    /// `bias` is empty or has one number per column.
    ///
    /// # Panics
    /// When the bias has another size.
    pub fn new(weights: Arc<DenseWeights>, bias: &[f32]) -> Self {
        assert!(bias.is_empty() || bias.len() == weights.outer, "the bias has one number per column");
        let mut padded = Aligned::zeros(weights.outer.div_ceil(weights.lanes) * weights.lanes);
        padded.as_mut_slice()[..bias.len()].copy_from_slice(bias);
        Self { weights, bias: padded }
    }

    /// The packed weights, which products may share.
    pub fn weights(&self) -> &Arc<DenseWeights> {
        &self.weights
    }

    /// Multiplies row-major rows of `inner` numbers and overwrites rows of `outer` numbers; `other`, if any, has the size of
    /// the output and is added before the activation.
    ///
    /// # Panics
    /// When they do not have the same number of whole rows.
    pub fn run(&self, rows: &[f32], other: Option<&[f32]>, out: &mut [f32], activation: Activation) {
        if out.is_empty() {
            return;
        }
        let DenseWeights { inner, outer, .. } = *self.weights;
        let count = out.len() / outer;
        assert_eq!((rows.len(), out.len()), (count * inner, count * outer), "rows in and rows out agree");
        assert!(other.is_none_or(|other| other.len() == out.len()), "what is added has the size of the output");
        dispatch!(level(), simd => blocks(simd, self, (rows, other, out), activation));
    }
}

type InOut<'a> = (&'a [f32], Option<&'a [f32]>, &'a mut [f32]);

#[inline(always)]
fn blocks<S: Simd>(simd: S, dense: &Dense, (left, other, out): InOut<'_>, activation: Activation) {
    let DenseWeights { inner, outer, lanes, .. } = *dense.weights;
    if lanes != S::f32s::LEN {
        return;
    }
    let count = out.len() / outer;
    let per_block = (LEFT_BYTES / 4 / inner.max(1)).clamp(64, 4096);
    let mut row = 0;
    while row < count {
        let rows = per_block.min(count - row);
        let out = &mut out[row * outer..(row + rows) * outer];
        let block = Block {
            rows,
            inner,
            outer,
            left: &left[row * inner..(row + rows) * inner],
            left_step: inner,
            panels: dense.weights.panels.as_slice(),
            bias: dense.bias.as_slice(),
            other: other.map(|other| &other[row * outer..(row + rows) * outer]),
            out_step: outer,
            factor: 1.0,
            activation,
        };
        block.run(simd, out);
        activation.finish(simd, out);
        row += rows;
    }
}
