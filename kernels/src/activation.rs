//! Functions of one number that kernels apply to what they computed, before it is stored. Called by the kernels of this folder.

use fearless_simd::{Simd, prelude::*};

/// What happens to each element before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// Values below the first become the first, above the second the second.
    Clip(f32, f32),
    /// x times x/6 + 1/2 between 0 and 1.
    HardSwish,
}

impl Activation {
    /// Nothing below zero.
    pub const RELU: Self = Self::Clip(0.0, f32::INFINITY);

    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self {
            Self::Linear => x,
            Self::Clip(low, high) => x.max(S::f32s::splat(simd, low)).min(S::f32s::splat(simd, high)),
            Self::HardSwish => {
                let (zero, one) = (S::f32s::splat(simd, 0.0), S::f32s::splat(simd, 1.0));
                let gate = (x * (1.0 / 6.0) + 0.5).max(zero).min(one);
                x * gate
            }
        }
    }

    /// The same for one number.
    #[cfg(test)]
    pub(crate) fn of(self, x: f32) -> f32 {
        match self {
            Self::Linear => x,
            Self::Clip(low, high) => x.max(low).min(high),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}
