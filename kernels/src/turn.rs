//! Vectors that are not whole, and blocks of vectors turned around: rows become columns. Called by `depthwise`, `batched`,
//! `block` and `rows`.

use fearless_simd::{Simd, prelude::*};

use crate::MAX_LANES;

/// A vector whose first lanes are these.
#[inline(always)]
pub(crate) fn load_some<S: Simd>(simd: S, numbers: &[f32]) -> S::f32s {
    if numbers.len() == S::f32s::LEN {
        return S::f32s::from_slice(simd, numbers);
    }
    let mut padded = [0.0; MAX_LANES];
    padded[..numbers.len()].copy_from_slice(numbers);
    S::f32s::from_slice(simd, &padded[..S::f32s::LEN])
}

/// Swaps rows and columns of the first `LEN` vectors: each round interleaves the upper half with the lower one.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(_: S, block: &mut [S::f32s; MAX_LANES]) {
    let half = S::f32s::LEN / 2;
    let mut round = 1;
    while round < S::f32s::LEN {
        let mut next = *block;
        for at in 0..half {
            next[2 * at] = block[at].zip_low(block[at + half]);
            next[2 * at + 1] = block[at].zip_high(block[at + half]);
        }
        *block = next;
        round *= 2;
    }
}
