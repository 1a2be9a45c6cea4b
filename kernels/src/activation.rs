//! Functions of one number that kernels apply to what they computed, before or right after it is stored. Called by the kernels
//! of this crate.

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{
    level,
    math::{erf, sigmoid, tanh},
};

/// What happens to each element before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// Values below the first become the first, above the second the second.
    Clip(f32, f32),
    /// x times x/6 + 1/2 between 0 and 1.
    HardSwish,
    /// 1 by 1 plus e to -x.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// x times the sigmoid of x.
    Silu,
    /// x times the share of a normal distribution below x.
    Gelu,
}

impl Activation {
    /// Nothing below zero.
    pub const RELU: Self = Self::Clip(0.0, f32::INFINITY);

    /// Applies it to each number.
    pub fn run(self, numbers: &mut [f32]) {
        dispatch!(level(), simd => self.map(simd, numbers));
    }

    /// The cheap ones; the others leave it to [`Self::finish`].
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self {
            Self::Clip(low, high) => {
                let within = x.max(S::f32s::splat(simd, low)).min(S::f32s::splat(simd, high));
                // What is not a number stays so; the largest of it and zero would be zero.
                x.simd_eq(x).select(within, x)
            }
            Self::HardSwish => {
                let (zero, one) = (S::f32s::splat(simd, 0.0), S::f32s::splat(simd, 1.0));
                let gate = (x * (1.0 / 6.0) + 0.5).max(zero).min(one);
                x * gate
            }
            _ => x,
        }
    }

    /// What [`Self::apply`] has not done: functions that are too long to be compiled into every tile.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(self, simd: S, stored: &mut [f32]) {
        if matches!(self, Self::Sigmoid | Self::Tanh | Self::Silu | Self::Gelu) {
            self.map(simd, stored);
        }
    }

    #[inline(always)]
    fn map<S: Simd>(self, simd: S, numbers: &mut [f32]) {
        match self {
            Self::Linear => {}
            Self::Clip(..) | Self::HardSwish => map(
                simd,
                numbers,
                #[inline(always)]
                |x| self.apply(simd, x),
            ),
            Self::Sigmoid => map(
                simd,
                numbers,
                #[inline(always)]
                |x| sigmoid(simd, x),
            ),
            Self::Tanh => map(
                simd,
                numbers,
                #[inline(always)]
                |x| tanh(simd, x),
            ),
            Self::Silu => map(
                simd,
                numbers,
                #[inline(always)]
                |x| x * sigmoid(simd, x),
            ),
            Self::Gelu => map(
                simd,
                numbers,
                #[inline(always)]
                |x| {
                    let below = erf(simd, x * std::f32::consts::FRAC_1_SQRT_2) + 1.0;
                    x * 0.5 * below
                },
            ),
        }
    }

    /// The same for one number.
    #[cfg(test)]
    pub(crate) fn of(self, x: f32) -> f32 {
        match self {
            Self::Linear => x,
            Self::Clip(low, high) => x.max(low).min(high),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Gelu => {
                // The integral of the density, by the trapezoidal rule.
                let (x, steps) = (f64::from(x), 4000);
                let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
                let at = |step: i32| density(x * f64::from(step) / f64::from(steps));
                let inner: f64 = (1..steps).map(at).sum();
                let below = 0.5 + x / f64::from(steps) * (inner + (density(0.0) + density(x)) / 2.0);
                (x * below) as f32
            }
        }
    }
}

/// Vector by vector, the last one filled up.
#[inline(always)]
fn map<S: Simd>(simd: S, numbers: &mut [f32], function: impl Fn(S::f32s) -> S::f32s) {
    let lanes = S::f32s::LEN;
    let whole = numbers.len() / lanes * lanes;
    let mut at = 0;
    while at < whole {
        let place = &mut numbers[at..at + lanes];
        function(S::f32s::from_slice(simd, place)).store_slice(place);
        at += lanes;
    }
    let rest = &mut numbers[whole..];
    if !rest.is_empty() {
        let mut padded = S::f32s::splat(simd, 0.0);
        padded.as_mut_slice()[..rest.len()].copy_from_slice(rest);
        rest.copy_from_slice(&function(padded).as_slice()[..rest.len()]);
    }
}
