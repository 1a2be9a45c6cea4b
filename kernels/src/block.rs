//! Rows times columns that were packed in panels one vector wide, stored together with what follows: a bias, something added, a
//! factor, an activation. Called by `dense` and `batched`.

use fearless_simd::{Simd, prelude::*};

use crate::{
    Activation,
    tile::{Panels, Rows, multiply},
    turn::load_some,
    window::copy_short,
};

/// What a block is made of. Rows of the left operand and of the result start `left_step` and `out_step` after each other.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) rows: usize,
    pub(crate) inner: usize,
    pub(crate) outer: usize,
    pub(crate) left: &'a [f32],
    pub(crate) left_step: usize,
    pub(crate) panels: &'a [f32],
    /// One number per lane of all panels; empty for none.
    pub(crate) bias: &'a [f32],
    /// Added before the activation; lies as the result does.
    pub(crate) other: Option<&'a [f32]>,
    pub(crate) out_step: usize,
    pub(crate) factor: f32,
    pub(crate) activation: Activation,
}

impl Block<'_> {
    /// Computes all of it. Activations that are left to [`Activation::finish`] are not applied.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(self, simd: S, out: &mut [f32]) {
        let vectors = self.outer.div_ceil(S::f32s::LEN);
        // Few rows: wide tiles hide the latency of the sums. Many: tall ones use each weight often.
        let wide = match self.rows {
            1 => 8,
            2..4 => 4,
            _ => 3,
        };
        let mut at = 0;
        while at < vectors {
            at += match vectors - at {
                left if left >= 8 && wide == 8 => self.column::<S, 8>(simd, at, out),
                left if left >= 4 && wide >= 4 => self.column::<S, 4>(simd, at, out),
                left if left >= 3 => self.column::<S, 3>(simd, at, out),
                2 => self.column::<S, 2>(simd, at, out),
                _ => self.column::<S, 1>(simd, at, out),
            };
        }
    }

    /// All rows of `NV` vectors of columns.
    #[inline(always)]
    fn column<S: Simd, const NV: usize>(self, simd: S, at: usize, out: &mut [f32]) -> usize {
        let count = self.rows;
        let mut row = 0;
        if S::f32s::LEN >= 16 && NV <= 3 {
            while count - row >= 8 {
                // One vector wide, a row left over by itself would take as long as eight.
                if NV == 1 && count - row == 9 {
                    self.tile::<S, 9, NV>(simd, (row, at), out);
                    return NV;
                }
                self.tile::<S, 8, NV>(simd, (row, at), out);
                row += 8;
            }
        }
        if NV <= 3 || S::f32s::LEN >= 16 {
            while NV <= 4 && count - row >= 4 {
                self.tile::<S, 4, NV>(simd, (row, at), out);
                row += 4;
            }
        }
        while NV <= 4 && count - row >= 2 {
            self.tile::<S, 2, NV>(simd, (row, at), out);
            row += 2;
        }
        while count > row {
            self.tile::<S, 1, NV>(simd, (row, at), out);
            row += 1;
        }
        NV
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(self, simd: S, (row, at): (usize, usize), out: &mut [f32]) {
        let lanes = S::f32s::LEN;
        let mut start = [S::f32s::splat(simd, 0.0); NV];
        if !self.bias.is_empty() {
            for v in 0..NV {
                start[v] = S::f32s::from_slice(simd, &self.bias[(at + v) * lanes..][..lanes]);
            }
        }
        let mut sums = [start; MR];
        let left = Rows::<MR>::new(&self.left[row * self.left_step..], self.left_step, self.inner);
        let right =
            Panels { data: &self.panels[at * self.inner * lanes..][..NV * self.inner * lanes], len: self.inner };
        multiply(simd, left, right, &mut sums);
        if self.factor != 1.0 {
            for r in 0..MR {
                for v in 0..NV {
                    sums[r][v] *= self.factor;
                }
            }
        }
        let columns = (self.outer - at * lanes).min(NV * lanes);
        for r in 0..MR {
            let place = (row + r) * self.out_step + at * lanes;
            let target = &mut out[place..place + columns];
            let other = self.other.map(|other| &other[place..place + columns]);
            self.store(simd, &sums[r], other, target);
        }
    }

    /// Stores as many numbers as `target` has.
    #[inline(always)]
    fn store<S: Simd, const NV: usize>(self, simd: S, sums: &[S::f32s; NV], other: Option<&[f32]>, target: &mut [f32]) {
        let lanes = S::f32s::LEN;
        for v in 0..NV {
            let place = v * lanes..target.len().min((v + 1) * lanes);
            let sum = match other {
                Some(other) => sums[v] + load_some(simd, &other[place.clone()]),
                None => sums[v],
            };
            let result = self.activation.apply(simd, sum);
            let target = &mut target[place];
            if target.len() == lanes {
                result.store_slice(target);
            } else {
                copy_short(&result.as_slice()[..target.len()], target);
            }
        }
    }
}
