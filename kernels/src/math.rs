//! Functions of vectors that processors do not have: powers of e and what is made of them. They are as close as 32-bit floats
//! allow (a few units in the last place where the result is near one), keep what is not a number, and take lanes one by one, so
//! that a number's result does not depend on its neighbours. Called by `activation` and `rows`.

use fearless_simd::{Simd, prelude::*};

/// The power of e: 0 far below, infinity above 88.73. The reduction by the logarithm of two in two parts and the polynomial are
/// those of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |number| S::f32s::splat(simd, number);
    let bounded = x.max(splat(-104.0)).min(splat(89.0));
    let power = (bounded * std::f32::consts::LOG2_E).round_ties_even();
    let rest = power.mul_add(splat(-0.693_359_4), bounded);
    let rest = power.mul_add(splat(2.121_944_4e-4), rest);
    let mut sum = splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum.mul_add(rest, splat(coefficient));
    }
    let sum = sum.mul_add(rest * rest, rest + 1.0);
    // In two halves, each of which is a power of two that a float can be.
    let half = (power * 0.5).floor();
    let result = sum * power_of_two::<S>(half) * power_of_two::<S>(power - half);
    x.simd_eq(x).select(result, x)
}

/// Two to a whole power between -126 and 127: the number is written into the exponent.
#[inline(always)]
fn power_of_two<S: Simd>(power: S::f32s) -> S::f32s {
    // Beyond two to the 23rd the last bits of a float are its whole part.
    const SHIFT: f32 = 8_388_608.0 + 127.0;
    let bits: <S::f32s as SimdFloat<S>>::Bits = (power + SHIFT).bitcast();
    (bits << 23).bitcast()
}

/// One by one plus the power of e to -x.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = S::f32s::splat(simd, 1.0);
    one / (exp(simd, -x) + one)
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = S::f32s::splat(simd, 1.0);
    let power = exp(simd, x.abs() * -2.0);
    ((one - power) / (one + power)).copysign(x)
}

/// The error function, to 2e-7; Abramowitz and Stegun, 7.1.26.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = S::f32s::splat(simd, 1.0);
    let size = x.abs();
    let t = one / size.mul_add(S::f32s::splat(simd, 0.327_591_1), one);
    let mut sum = S::f32s::splat(simd, 1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_8, -0.284_496_73, 0.254_829_6] {
        sum = sum.mul_add(t, S::f32s::splat(simd, coefficient));
    }
    (one - sum * t * exp(simd, -(size * size))).copysign(x)
}
