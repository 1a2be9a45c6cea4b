//! The block of a matrix product that stays in registers: `MR` rows times `NV` vectors, summed over all of the inner dimension
//! in one go, always in the same order, so that an element does not depend on the size of the batch. Called by `block` and
//! `conv`.

use fearless_simd::{Simd, prelude::*};

/// The left operand: `MR` numbers for each step of the inner dimension.
pub(crate) trait Left<const MR: usize>: Copy {
    /// Whether numbers are loaded after the vectors of a step: then they are spread over vectors as they are loaded.
    const LAST: bool;
    /// Steps of the inner dimension.
    fn len(self) -> usize;
    /// The numbers of one step.
    fn at(self, k: usize) -> [f32; MR];
}

/// The right operand: `NV` vectors for each step.
pub(crate) trait Right<S: Simd, const NV: usize>: Copy {
    /// The vectors of one step.
    fn load(self, simd: S, k: usize) -> [S::f32s; NV];
}

/// Weights packed so that the numbers of one step are neighbours.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, const MR: usize>(pub(crate) &'a [[f32; MR]]);

impl<const MR: usize> Left<MR> for Packed<'_, MR> {
    const LAST: bool = true;

    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn at(self, k: usize) -> [f32; MR] {
        self.0[k]
    }
}

/// Rows of a matrix where they lie, all of one length.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, const MR: usize>([&'a [f32]; MR]);

impl<'a, const MR: usize> Rows<'a, MR> {
    /// The first `MR` rows, each the first `len` numbers of `step`.
    #[inline(always)]
    pub(crate) fn new(matrix: &'a [f32], step: usize, len: usize) -> Self {
        let mut rows = [&matrix[..0]; MR];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &matrix[r * step..][..len];
        }
        Self(rows)
    }
}

impl<const MR: usize> Left<MR> for Rows<'_, MR> {
    // Each row is checked for its end; done together, that costs least.
    const LAST: bool = false;

    #[inline(always)]
    fn len(self) -> usize {
        self.0[0].len()
    }

    #[inline(always)]
    fn at(self, k: usize) -> [f32; MR] {
        let mut numbers = [0.0; MR];
        for r in 0..MR {
            numbers[r] = self.0[r][k];
        }
        numbers
    }
}

/// Panels one vector wide, one after the other, `len` vectors each.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) len: usize,
}

impl<S: Simd, const NV: usize> Right<S, NV> for Panels<'_> {
    #[inline(always)]
    fn load(self, simd: S, k: usize) -> [S::f32s; NV] {
        let lanes = S::f32s::LEN;
        let mut vectors = [S::f32s::splat(simd, 0.0); NV];
        for v in 0..NV {
            let at = (v * self.len + k) * lanes;
            vectors[v] = S::f32s::from_slice(simd, &self.data[at..at + lanes]);
        }
        vectors
    }
}

/// Neighbouring columns of a matrix whose rows start anywhere.
#[derive(Clone, Copy)]
pub(crate) struct Shifted<'a> {
    /// From the first column of the block on.
    pub(crate) data: &'a [f32],
    /// Where each row starts.
    pub(crate) starts: &'a [usize],
}

impl<S: Simd, const NV: usize> Right<S, NV> for Shifted<'_> {
    #[inline(always)]
    fn load(self, simd: S, k: usize) -> [S::f32s; NV] {
        let lanes = S::f32s::LEN;
        let row = &self.data[self.starts[k]..][..NV * lanes];
        let mut vectors = [S::f32s::splat(simd, 0.0); NV];
        for v in 0..NV {
            vectors[v] = S::f32s::from_slice(simd, &row[v * lanes..(v + 1) * lanes]);
        }
        vectors
    }
}

/// Adds the product to `sums`.
#[inline(always)]
pub(crate) fn multiply<S: Simd, L: Left<MR>, R: Right<S, NV>, const MR: usize, const NV: usize>(
    simd: S,
    left: L,
    right: R,
    sums: &mut [[S::f32s; NV]; MR],
) {
    let mut local = *sums;
    for k in 0..left.len() {
        let first = if L::LAST { [0.0; MR] } else { left.at(k) };
        let vectors = right.load(simd, k);
        let numbers = if L::LAST { left.at(k) } else { first };
        for r in 0..MR {
            let number = S::f32s::splat(simd, numbers[r]);
            for v in 0..NV {
                local[r][v] = number.mul_add(vectors[v], local[r][v]);
            }
        }
    }
    *sums = local;
}
