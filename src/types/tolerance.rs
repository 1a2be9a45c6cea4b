//! The one rule by which two answers count as the same: golden gates, the proof that rows may be merged, and tests use it.

use bytes::Bytes;

use super::{DType, Data, Tensor};

/// Two scores of a row that are closer than this are level: which class comes out on top may then depend on the last bits.
pub const TIE: f32 = 1e-4;

/// `|a - b| <= absolute + relative * |b|` for floats; equality for everything else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    /// The tolerance for a datatype: 1e-4 for FP32, 1e-2 for FP16 and BF16, 1e-9 for FP64, nothing for the rest.
    pub fn of(dtype: DType) -> Self {
        let size = match dtype {
            DType::Fp32 => 1e-4,
            DType::Fp16 | DType::Bf16 => 1e-2,
            DType::Fp64 => 1e-9,
            _ => 0.0,
        };
        Self { absolute: size, relative: size }
    }

    /// True when `got` may stand for `want`. NaN stands for NaN, an infinity for itself.
    pub fn accepts(self, got: f64, want: f64) -> bool {
        if !got.is_finite() || !want.is_finite() {
            return got == want || (got.is_nan() && want.is_nan());
        }
        (got - want).abs() <= self.absolute + self.relative * want.abs()
    }

    /// The index of the first element in which two tensors of one datatype differ beyond the tolerance; `Some(0)` when
    /// their datatypes or element counts differ.
    pub fn first_difference(got: &Tensor, want: &Tensor) -> Option<usize> {
        if got.dtype() != want.dtype() || got.elements() != want.elements() {
            return Some(0);
        }
        match (got.data(), want.data()) {
            (Data::Plain(a), Data::Plain(b)) => plain_difference(got.dtype(), a, b),
            (Data::Strings(a), Data::Strings(b)) => a.iter().zip(b.iter()).position(|(a, b)| a != b),
            _ => Some(0),
        }
    }
}

fn plain_difference(dtype: DType, got: &Bytes, want: &Bytes) -> Option<usize> {
    if got == want {
        return None;
    }
    let tolerance = Tolerance::of(dtype);
    fn find<const N: usize>(a: &[u8], b: &[u8], same: impl Fn([u8; N], [u8; N]) -> bool) -> Option<usize> {
        let (a, b) = (a.as_chunks::<N>().0, b.as_chunks::<N>().0);
        a.iter().zip(b).position(|(a, b)| !same(*a, *b))
    }
    match dtype {
        DType::Fp32 => find(got, want, |a, b| {
            tolerance.accepts(f64::from(f32::from_le_bytes(a)), f64::from(f32::from_le_bytes(b)))
        }),
        DType::Fp64 => find(got, want, |a, b| tolerance.accepts(f64::from_le_bytes(a), f64::from_le_bytes(b))),
        DType::Fp16 => find(got, want, |a, b| {
            tolerance.accepts(half::f16::from_le_bytes(a).to_f64(), half::f16::from_le_bytes(b).to_f64())
        }),
        DType::Bf16 => find(got, want, |a, b| {
            tolerance.accepts(half::bf16::from_le_bytes(a).to_f64(), half::bf16::from_le_bytes(b).to_f64())
        }),
        _ => {
            let size = dtype.size().unwrap_or(1);
            got.iter().zip(want.iter()).position(|(a, b)| a != b).map(|byte| byte / size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn floats_by_tolerance_and_integers_exactly() {
        let a = Tensor::from_vec(DType::Fp32, smallvec![3], vec![1.0_f32, f32::NAN, 1e6]).unwrap();
        let b = Tensor::from_vec(DType::Fp32, smallvec![3], vec![1.0001_f32, f32::NAN, 1e6 + 50.0]).unwrap();
        assert_eq!(Tolerance::first_difference(&a, &b), None);
        let c = Tensor::from_vec(DType::Fp32, smallvec![3], vec![1.0_f32, 0.0, 1e6]).unwrap();
        assert_eq!(Tolerance::first_difference(&a, &c), Some(1));
        let i = Tensor::from_vec(DType::Int64, smallvec![2], vec![1_i64, 2]).unwrap();
        let j = Tensor::from_vec(DType::Int64, smallvec![2], vec![1_i64, 3]).unwrap();
        assert_eq!(Tolerance::first_difference(&i, &j), Some(1));
        assert_eq!(Tolerance::first_difference(&a, &i), Some(0));
    }

    #[test]
    fn infinities_equal_only_themselves() {
        let tolerance = Tolerance::of(DType::Fp32);
        assert!(tolerance.accepts(f64::INFINITY, f64::INFINITY));
        assert!(!tolerance.accepts(f64::INFINITY, f64::NEG_INFINITY));
        assert!(!tolerance.accepts(1.0, f64::NAN));
    }
}
