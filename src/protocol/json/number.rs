//! A JSON number, read once: the digits are gathered while the token is measured, and become an integer or a float of the
//! wanted width directly. Floats are the nearest value of their own width: going through `f64` would round twice.

/// Powers of ten that are exact as `f64`.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// What digits are shifted by.
pub(super) const POWERS_U64: [u64; 20] = {
    let mut powers = [1; 20];
    let mut place = 1;
    while place < powers.len() {
        powers[place] = powers[place - 1] * 10;
        place += 1;
    }
    powers
};
/// Eight zeros as text.
pub(super) const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
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
    /// As it is written.
    pub(super) token: &'t [u8],
    /// All its digits as one integer, right if there are at most [`EXACT_DIGITS`] of them.
    pub(super) mantissa: u64,
    /// How many there are, not counting a zero in front of the point.
    pub(super) digits: usize,
    /// The power of ten that the mantissa is multiplied with.
    pub(super) exponent: i32,
    pub(super) negative: bool,
    /// Written without fraction and exponent.
    pub(super) integer: bool,
}

impl<'t> Number<'t> {
    /// Reads the number at the start of a text; `None` when there is none.
    #[inline(always)]
    pub(super) fn read(bytes: &'t [u8]) -> Option<Self> {
        let negative = bytes.first() == Some(&b'-');
        let mut digits = Digits { bytes, at: usize::from(negative), mantissa: 0 };
        let mut count = 0;
        if bytes.get(digits.at) == Some(&b'0') {
            digits.at += 1;
        } else {
            count = digits.run();
            if count == 0 {
                return None;
            }
        }
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
        Some(Self { token: &bytes[..at], mantissa: digits.mantissa, digits: count, exponent, negative, integer })
    }

    /// Bytes of the token.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.token.len()
    }

    /// The nearest `f64`; infinite when it is out of range.
    #[inline]
    pub(super) fn to_f64(self) -> f64 {
        match self.scaled() {
            Some(value) if self.mantissa <= EXACT_F64 => self.signed(value),
            _ => parse(self.token).unwrap_or(f64::NAN),
        }
    }

    /// The nearest `f32`; infinite when it is out of range.
    #[inline]
    pub(super) fn to_f32(self) -> f32 {
        if let Some(value) = self.scaled() {
            // `value` is at most two units of its last place off. Only where that could reach the middle between two
            // neighbouring `f32` does it not tell which of them is the nearest.
            if value.to_bits().wrapping_sub(HALF_WAY - 3) & BELOW_F32 > 6 {
                return self.signed(value) as f32;
            }
        }
        parse(self.token).unwrap_or(f32::NAN)
    }

    /// Mantissa times power of ten, where few digits and a small exponent allow it. The power is exact, so there is one
    /// rounding, or two when the mantissa is above [`EXACT_F64`].
    #[inline]
    fn scaled(&self) -> Option<f64> {
        let power = *POWERS.get(self.exponent.unsigned_abs() as usize)?;
        let mantissa = as_float(self.mantissa);
        let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
        (self.digits <= EXACT_DIGITS).then_some(value)
    }

    #[inline]
    fn signed(&self, value: f64) -> f64 {
        // Signs come as they please: a branch would be foretold wrong every other time.
        f64::from_bits(value.to_bits() | u64::from(self.negative) << 63)
    }

    /// Its value as an integer of some width; `None` when that cannot hold it or it is not written as an integer.
    #[inline]
    pub(super) fn to_integer<T: TryFrom<i128>>(self) -> Option<T> {
        if !self.integer {
            return None;
        }
        let value = if self.digits <= EXACT_DIGITS {
            let magnitude = i128::from(self.mantissa);
            if self.negative { -magnitude } else { magnitude }
        } else {
            parse(self.token)?
        };
        T::try_from(value).ok()
    }
}

/// The nearest float. Below 2^52 an integer is the lower part of the bits of 2^52 plus itself; the processor's own instruction is
/// avoided, because it waits for what was in its register before, the number before this one.
#[inline(always)]
fn as_float(value: u64) -> f64 {
    const BIT_52: f64 = (1_u64 << 52) as f64;
    if value < 1 << 52 { f64::from_bits(BIT_52.to_bits() | value) - BIT_52 } else { value as f64 }
}

/// A value as the standard library reads it: for what the quick ways cannot tell.
#[cold]
#[inline(never)]
fn parse<T: std::str::FromStr>(token: &[u8]) -> Option<T> {
    str::from_utf8(token).ok()?.parse().ok()
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
            let digits = u64::from_le_bytes(*chunk) ^ ZEROS;
            let count = places(others(digits));
            // Pushed to the end of the eight, they have zeros in front.
            let value = if count > 0 { joined(digits << (64 - 8 * count)) } else { 0 };
            self.mantissa = self.mantissa.wrapping_mul(POWERS_U64[count]).wrapping_add(value);
            self.at += count;
            if count < 8 {
                return self.at - start;
            }
        }
        while let Some(digit) = digit(self.bytes, self.at) {
            self.mantissa = self.mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        self.at - start
    }
}

/// The value of the digit at a place.
#[inline(always)]
fn digit(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
}

/// How many of eight bytes are in front of the first that is marked.
#[inline(always)]
pub(super) fn places(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Of eight bytes at once: those that are no value of a digit get their highest bit set, and may spoil only bytes behind them.
#[inline(always)]
pub(super) fn others(digits: u64) -> u64 {
    (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080
}

/// The number that eight digits make, the first in the lowest byte: neighbours are joined to pairs, fours and eight.
#[inline(always)]
pub(super) fn joined(digits: u64) -> u64 {
    let pairs = digits * 10 + (digits >> 8);
    let (high, low) = (pairs & 0x0000_00ff_0000_00ff, (pairs >> 16) & 0x0000_00ff_0000_00ff);
    let factor = |upper: u64, lower: u64| upper << 32 | lower;
    high.wrapping_mul(factor(1_000_000, 100)).wrapping_add(low.wrapping_mul(factor(10_000, 1))) >> 32
}

/// The exponent behind an `e`, and where it ends.
fn written_exponent(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let sign = bytes.get(at).copied().filter(|byte| matches!(byte, b'+' | b'-'));
    at += usize::from(sign.is_some());
    let start = at;
    let mut value = 0_i32;
    while let Some(digit) = digit(bytes, at) {
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
        let number = Number::read(text.as_bytes()).unwrap();
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
            Number::read(text.as_bytes()).unwrap()
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
        assert!(!read("1e2").integer);
    }

    #[test]
    fn tokens() {
        for (text, length) in
            [("1,2", Some(1)), ("01", Some(1)), ("-", None), ("1.", None), ("1.x", None), ("1e", None)]
        {
            assert_eq!(Number::read(text.as_bytes()).map(|number| number.len()), length, "{text}");
        }
        for text in ["", "+1", ".5", "e1", "NaN", "-Infinity", "1e+", "--1"] {
            assert!(Number::read(text.as_bytes()).is_none(), "{text}");
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
            let mut digits = Digits { bytes: text.as_bytes(), at: 0, mantissa: 0 };
            let count = places(others(u64::from_le_bytes(*text.as_bytes().first_chunk().unwrap()) ^ ZEROS));
            assert_eq!((digits.run(), count), (want.0, want.0), "{text}");
            assert_eq!(digits.mantissa, want.1, "{text}");
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
            prop_assert_eq!(Number::read(value.to_string().as_bytes()).unwrap().to_integer(), Some(value));
            prop_assert_eq!(Number::read(unsigned.to_string().as_bytes()).unwrap().to_integer(), Some(unsigned));
        }
    }
}
