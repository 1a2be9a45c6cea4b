//! A JSON number, read once: the digits are gathered while the token is measured, and become an integer or a float of the
//! wanted width directly. Floats are the nearest value of their own width: going through `f64` would round twice.

/// Powers of ten that are exact as `f64`.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// What up to eight digits are shifted by.
const POWERS_U64: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// Digits that always fit `u64`.
const EXACT_DIGITS: usize = 19;
/// Whole numbers up to here are exact as `f64`.
const EXACT_F64: u64 = 1 << 53;
/// Where an exponent stops growing: far beyond every float.
const EXPONENT_CAP: i32 = 1 << 20;
/// The bits of an `f64` beyond an `f32`'s precision, and their value half-way between two `f32`.
const BELOW_F32: u64 = (1 << 29) - 1;
const HALF_WAY: u64 = 1 << 28;

/// A number's token and its digits.
#[derive(Clone, Copy)]
pub(super) struct Number<'t> {
    text: &'t str,
    mantissa: u64,
    digits: usize,
    exponent: i32,
    integer: bool,
}

impl<'t> Number<'t> {
    /// Reads the number at the start of a text; `None` when there is none.
    #[inline(always)]
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut digits = Digits { bytes, at: usize::from(bytes.first() == Some(&b'-')), mantissa: 0 };
        let start = digits.at;
        if bytes.get(start) == Some(&b'0') {
            digits.at += 1;
        } else if digits.run() == 0 {
            return None;
        }
        let mut count = digits.at - start;
        let mut exponent = 0;
        let mut integer = true;
        if bytes.get(digits.at) == Some(&b'.') {
            digits.at += 1;
            let fraction = digits.run();
            if fraction == 0 {
                return None;
            }
            count += fraction;
            exponent = i32::try_from(fraction).map_or(-EXPONENT_CAP, |fraction| -fraction);
            integer = false;
        }
        let mut at = digits.at;
        if let Some(b'e' | b'E') = bytes.get(at) {
            let (value, end) = written_exponent(bytes, at + 1)?;
            exponent = exponent.saturating_add(value);
            at = end;
            integer = false;
        }
        Some(Self { text: &text[..at], mantissa: digits.mantissa, digits: count, exponent, integer })
    }

    /// Bytes of the token.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    #[inline]
    fn negative(&self) -> bool {
        self.text.starts_with('-')
    }

    /// The nearest `f64`; infinite when it is out of range.
    #[inline]
    pub(super) fn to_f64(self) -> f64 {
        match self.scaled() {
            Some(value) if self.mantissa <= EXACT_F64 => self.signed(value),
            _ => self.text.parse().unwrap_or(f64::NAN),
        }
    }

    /// The nearest `f32`; infinite when it is out of range.
    #[inline]
    pub(super) fn to_f32(self) -> f32 {
        if let Some(value) = self.scaled() {
            // `value` is at most two units of its last place off. Only where that could reach the middle between two
            // neighbouring `f32` does it not tell which of them is the nearest.
            if (value.to_bits() & BELOW_F32).abs_diff(HALF_WAY) > 3 {
                return self.signed(value) as f32;
            }
        }
        self.text.parse().unwrap_or(f32::NAN)
    }

    /// Mantissa times power of ten, where few digits and a small exponent allow it. The power is exact, so there is one
    /// rounding, or two when the mantissa is above [`EXACT_F64`].
    #[inline]
    fn scaled(&self) -> Option<f64> {
        let power = *POWERS.get(self.exponent.unsigned_abs() as usize)?;
        let mantissa = self.mantissa as f64;
        let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
        (self.digits <= EXACT_DIGITS).then_some(value)
    }

    #[inline]
    fn signed(&self, value: f64) -> f64 {
        if self.negative() { -value } else { value }
    }

    /// True when it is written without fraction and exponent.
    pub(super) fn is_integer(&self) -> bool {
        self.integer
    }

    /// Its value as an integer of some width; `None` when that cannot hold it or it is not written as an integer.
    #[inline]
    pub(super) fn to_integer<T: TryFrom<i128>>(self) -> Option<T> {
        if !self.integer {
            return None;
        }
        let value = if self.digits <= EXACT_DIGITS {
            let magnitude = i128::from(self.mantissa);
            if self.negative() { -magnitude } else { magnitude }
        } else {
            self.text.parse().ok()?
        };
        T::try_from(value).ok()
    }
}

/// Decimal digits on their way into a number that wraps when there are too many.
struct Digits<'t> {
    bytes: &'t [u8],
    at: usize,
    mantissa: u64,
}

impl Digits<'_> {
    /// Reads digits and says how many there were: eight bytes at a time while there are eight.
    #[inline]
    fn run(&mut self) -> usize {
        let start = self.at;
        while let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let (count, value) = leading_digits(*chunk);
            self.mantissa = self.mantissa.wrapping_mul(POWERS_U64[count]).wrapping_add(value);
            self.at += count;
            if count < 8 {
                return self.at - start;
            }
        }
        while let Some(digit) = self.bytes.get(self.at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
        {
            self.mantissa = self.mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        self.at - start
    }
}

/// How many of eight bytes are digits before the first that is not, and their value; all eight are worked on at once.
#[inline]
fn leading_digits(chunk: [u8; 8]) -> (usize, u64) {
    // A digit becomes its value; every other byte gets its highest bit set, and may spoil only bytes behind it.
    let digits = u64::from_le_bytes(chunk) ^ 0x3030_3030_3030_3030;
    let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() / 8;
    if count == 0 {
        return (0, 0);
    }
    // Pushed to the end of the eight, they have zeros in front; then neighbours are joined to pairs, fours and eight.
    let aligned = digits << (64 - 8 * count);
    let pairs = (aligned & 0x000f_000f_000f_000f).wrapping_mul(10) + ((aligned >> 8) & 0x000f_000f_000f_000f);
    let fours = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100) + ((pairs >> 16) & 0x0000_00ff_0000_00ff);
    let eight = (fours & 0xffff).wrapping_mul(10_000) + (fours >> 32);
    (count as usize, eight)
}

/// The exponent behind an `e`, and where it ends.
fn written_exponent(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let sign = bytes.get(at).copied().filter(|byte| matches!(byte, b'+' | b'-'));
    at += usize::from(sign.is_some());
    let start = at;
    let mut value = 0_i32;
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = (value * 10 + i32::from(digit)).min(EXPONENT_CAP);
        at += 1;
    }
    (at > start).then_some((if sign == Some(b'-') { -value } else { value }, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(text: &str) -> Result<(), TestCaseError> {
        let number = Number::read(text).unwrap();
        prop_assert_eq!(number.len(), text.len());
        prop_assert_eq!(number.to_f32().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{}", text);
        prop_assert_eq!(number.to_f64().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        Ok(())
    }

    #[test]
    fn hard_floats() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "0e5",
            "1e999",
            "-1e999",
            "1e-400",
            "1e-45",
            "1.4e-45",
            "7e-46",
            "1.17549435e-38",
            "5e-324",
            "2.2250738585072011e-308",
            "3.4028234e38",
            "3.4028235677973366e38",
            "3.4028235677973365e38",
            "9007199254740993",
            "16777217",
            "16777217.0000000001",
            "16777216.9999999999",
            "0.1",
            "8.5e22",
            "123456789012345678901234567890",
            "18446744073709551615",
            "1.00000017881393432617187499",
            "1.00000017881393432617187500",
            "1.00000017881393432617187501",
            "1e22",
            "1e23",
            "1e-22",
            "1e-23",
            "9999999999999999999e22",
            "0.000000000000000000000000000000000000011754943508222875",
        ] {
            same(text).unwrap();
        }
    }

    #[test]
    fn integers() {
        fn read(text: &str) -> Number<'_> {
            Number::read(text).unwrap()
        }
        assert_eq!(read("-128").to_integer::<i8>(), Some(-128));
        assert_eq!(read("128").to_integer::<i8>(), None);
        assert_eq!(read("-0").to_integer::<u8>(), Some(0));
        assert_eq!(read("18446744073709551615").to_integer::<u64>(), Some(u64::MAX));
        assert_eq!(read("18446744073709551616").to_integer::<u64>(), None);
        assert_eq!(read("-9223372036854775808").to_integer::<i64>(), Some(i64::MIN));
        assert_eq!(read("9223372036854775808").to_integer::<i64>(), None);
        assert_eq!(read(&"9".repeat(60)).to_integer::<u64>(), None);
        assert_eq!(read("1.0").to_integer::<i64>(), None);
        assert_eq!(read("1e2").to_integer::<i64>(), None);
        assert!(!read("1e2").is_integer());
    }

    #[test]
    fn tokens() {
        for (text, length) in
            [("1,2", Some(1)), ("01", Some(1)), ("-", None), ("1.", None), ("1.x", None), ("1e", None)]
        {
            assert_eq!(Number::read(text).map(|number| number.len()), length, "{text}");
        }
        for text in ["", "+1", ".5", "e1", "NaN", "-Infinity", "1e+", "--1"] {
            assert!(Number::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn digits_are_counted_and_read() {
        for (text, want) in [
            ("12345678", (8, 12_345_678)),
            ("1234567.", (7, 1_234_567)),
            ("0,123456", (1, 0)),
            ("x2345678", (0, 0)),
            ("12é\u{7f}/:0", (2, 12)),
            ("99999999", (8, 99_999_999)),
            ("00000001", (8, 1)),
            ("5ÿÿ900", (1, 5)),
        ] {
            assert_eq!(leading_digits(*text.as_bytes().first_chunk().unwrap()), want, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn every_float_is_the_nearest(
            bits in any::<u32>(), wide in any::<u64>(), digits in "[1-9][0-9]{0,24}", point in 0_usize..25, exponent in -60..60_i32,
        ) {
            let narrow = f32::from_bits(bits);
            let double = f64::from_bits(wide);
            if narrow.is_finite() {
                same(&format!("{narrow:?}"))?;
                same(&format!("{:?}", f64::from(narrow)))?;
                // The middle between two neighbours, and just beside it.
                let middle = (f64::from(narrow) + f64::from(f32::from_bits(bits ^ 1))) / 2.0;
                same(&format!("{middle:?}"))?;
                same(&format!("{:?}", f64::from_bits(middle.to_bits() + 1)))?;
                same(&format!("{:?}", f64::from_bits(middle.to_bits().wrapping_sub(1))))?;
            }
            if double.is_finite() {
                same(&format!("{double:?}"))?;
            }
            let point = point.min(digits.len());
            let (whole, fraction) = digits.split_at(point);
            let whole = if whole.is_empty() { "0" } else { whole };
            let text = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
            same(&text)?;
            same(&format!("{text}e{exponent}"))?;
        }

        #[test]
        fn every_integer(value in any::<i64>(), unsigned in any::<u64>()) {
            prop_assert_eq!(Number::read(&value.to_string()).unwrap().to_integer(), Some(value));
            prop_assert_eq!(Number::read(&unsigned.to_string()).unwrap().to_integer(), Some(unsigned));
        }
    }
}
