//! Numbers as unsigned integers of the same order. On them every comparison of the standard is one `<=`, and so is the
//! question where a missing value goes: it is the least or the greatest integer, and every branch picks the row that suits it.

use std::fmt;

use tract_onnx::prelude::tract_num_traits::Float;

/// The precision that a forest compares and adds in.
pub(super) trait Number: Float + fmt::Debug + Send + Sync + 'static {
    /// Integers of as many bits.
    type Key: Key;

    /// The integer of a number, which is neither the least nor the two greatest; a NaN gives `missing`. Both zeros are one.
    fn key(self, missing: Self::Key) -> Self::Key;

    /// The number with these bits.
    fn from_key_bits(bits: Self::Key) -> Self;

    /// The bits, as they are: not [`Number::key`].
    fn key_bits(self) -> Self::Key;
}

/// An integer that stands for a number.
pub(super) trait Key: Copy + Ord + Default + fmt::Debug + Send + Sync + 'static {
    const LEAST: Self;
    const GREATEST: Self;

    /// The integer before this one, which is not the least.
    fn before(self) -> Self;

    /// An integer that stands for itself.
    fn index(index: u32) -> Self;

    /// The same back.
    fn to_index(self) -> usize;
}

macro_rules! number {
    ($float:ty, $key:ty, $signed:ty) => {
        impl Number for $float {
            type Key = $key;

            #[inline(always)]
            fn key(self, missing: $key) -> $key {
                // Adding zero makes the negative one positive.
                let bits = (self + 0.0).to_bits();
                // Negative numbers are ordered backwards, below the positive ones.
                let negative = (bits as $signed >> (<$key>::BITS - 1)) as $key;
                let ordered = bits ^ (negative | 1 << (<$key>::BITS - 1));
                if self.is_nan() { missing } else { ordered }
            }

            #[inline(always)]
            fn from_key_bits(bits: $key) -> Self {
                Self::from_bits(bits)
            }

            fn key_bits(self) -> $key {
                self.to_bits()
            }
        }

        impl Key for $key {
            const LEAST: Self = Self::MIN;
            const GREATEST: Self = Self::MAX;

            fn before(self) -> Self {
                self - 1
            }

            fn index(index: u32) -> Self {
                index.into()
            }

            #[inline(always)]
            fn to_index(self) -> usize {
                self as usize
            }
        }
    };
}

number!(f32, u32, i32);
number!(f64, u64, i64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_ordered_like_their_numbers(a in any::<f32>(), b in any::<f32>()) {
            let (least, greatest) = (u32::LEAST, u32::GREATEST);
            prop_assert_eq!(a.key(least) == b.key(least), a == b || (a.is_nan() && b.is_nan()));
            if !a.is_nan() && !b.is_nan() {
                prop_assert_eq!(a.key(0).cmp(&b.key(0)), a.partial_cmp(&b).unwrap());
                prop_assert_eq!(f64::from(a).key(0).cmp(&f64::from(b).key(0)), a.partial_cmp(&b).unwrap());
                prop_assert!(a.key(0) > least + 1 && a.key(0) < greatest - 1);
            }
        }
    }

    #[test]
    fn zeros_are_one_and_missing_is_what_it_is_told_to_be() {
        assert_eq!((-0.0_f32).key(0), 0.0_f32.key(0));
        assert_eq!(f32::NAN.key(7), 7);
        assert_eq!((-f64::NAN).key(7), 7);
        assert!(f32::NEG_INFINITY.key(0) < f32::MIN.key(0) && f32::MAX.key(0) < f32::INFINITY.key(0));
        assert!(f64::NEG_INFINITY.key(0) > 1 && f64::INFINITY.key(0) < u64::MAX - 1);
    }
}
