//! Numbers in a row, as large arrays of them are written: each directly behind the comma of the one before. Nothing here branches
//! on what differs from number to number, the sign and how many digits, because that is what the time would go for. Whatever is
//! not of the plainest kind is left to `number`, which reads everything. Called by `scan`.

use super::number::{Number, POWERS_U64, ZEROS, joined, others, places};

/// Bytes that are looked at.
const WINDOW: usize = 32;

/// Reads the number at a place of a text, if a comma follows it at once and it is of one of two kinds: a digit in front of the
/// point and up to 17 behind it, or up to seven digits. `None` says nothing about all others.
#[inline(always)]
pub(super) fn plain(bytes: &[u8], at: usize) -> Option<Number<'_>> {
    // One look at the bounds is enough for everything.
    let all: &[u8; WINDOW + 1] = bytes.get(at..)?.first_chunk()?;
    let negative = all[0] == b'-';
    let window: &[u8; WINDOW] = all[usize::from(negative)..].first_chunk()?;
    let whole = window[0].wrapping_sub(b'0');
    if whole > 9 {
        return None;
    }
    let (mantissa, count, integer) = if window[1] == b'.' {
        let (mantissa, count) = behind_point(window, u64::from(whole))?;
        (mantissa, count, false)
    } else {
        let (digits, count) = some_digits::<0>(window);
        if count == 0 || count == 8 || (whole == 0 && count > 1) {
            return None;
        }
        (digits, count, true)
    };
    let end = count + if integer { 0 } else { 2 };
    if window[end] != b',' {
        return None;
    }
    let exponent = if integer { 0 } else { -(count as i32) };
    // A zero in front of the point does not count.
    let digits = count + usize::from(!integer) - usize::from(whole == 0);
    let token = &all[..usize::from(negative) + end];
    Some(Number { token, mantissa, digits, exponent, negative, integer })
}

/// The digits behind the point together with the one in front of it, and how many there are behind it: one to 17.
#[inline(always)]
fn behind_point(window: &[u8; WINDOW], whole: u64) -> Option<(u64, usize)> {
    let (first, second) = (eight::<2>(window), eight::<10>(window));
    let (ends_first, ends_second) = (others(first), others(second));
    if ends_first | ends_second == 0 {
        let (rest, count) = some_digits::<18>(window);
        let many = (whole * POWERS_U64[8] + joined(first)) * POWERS_U64[8] + joined(second);
        return (count < 2).then(|| (many * POWERS_U64[count] + rest, 16 + count));
    }
    let here = places(ends_first);
    let there = if here == 8 { places(ends_second) } else { 0 };
    if here == 0 {
        return None;
    }
    // Pushed to the end of the eight, they have zeros in front.
    let high = whole * POWERS_U64[here] + joined(first << (64 - 8 * here));
    // Behind the shortest digits of FP32 there are never more than four.
    let low = if there <= 4 {
        let four = u64::from((second << (32 - 8 * there)) as u32);
        let pairs = four * 10 + (four >> 8);
        (pairs & 0xff) * 100 + (pairs >> 16 & 0xff)
    } else {
        joined(second << (64 - 8 * there))
    };
    Some((high * POWERS_U64[there] + low, here + there))
}

/// The digits among eight bytes as a number, up to the first byte that is none, and how many there are; wrong if all eight are.
#[inline(always)]
fn some_digits<const FROM: usize>(window: &[u8; WINDOW]) -> (u64, usize) {
    let digits = eight::<FROM>(window);
    let count = places(others(digits));
    (joined(digits << 8 << (56_usize.saturating_sub(8 * count))), count)
}

/// Eight bytes of text, digits as their values.
#[inline(always)]
fn eight<const FROM: usize>(window: &[u8; WINDOW]) -> u64 {
    window[FROM..].first_chunk().map_or(u64::MAX, |chunk| u64::from_le_bytes(*chunk) ^ ZEROS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is told of a number, but for its token.
    fn told(number: Option<Number<'_>>) -> Option<(usize, u64, usize, i32, bool, bool)> {
        number.map(|n| (n.len(), n.mantissa, n.digits, n.exponent, n.negative, n.integer))
    }

    /// The number in the middle of a longer text.
    fn read(text: &str) -> Option<(usize, u64, usize, i32, bool, bool)> {
        let row = format!("[0.5,{text},9.876543210123456789,9.876543210123456789]");
        told(plain(row.as_bytes(), 5))
    }

    #[test]
    fn plain_numbers_are_read_and_no_others() {
        for text in ["0", "7", "-0", "1234567", "-255", "0.5", "-9.12345678901234567", "0.01234567890123456", "1.0"] {
            assert_eq!(read(text), told(Number::read(text.as_bytes())), "{text}");
            assert!(read(text).is_some(), "{text}");
        }
        for text in [
            "",
            "-",
            ".5",
            "-.5",
            "1.",
            "01",
            "-00",
            "12345678",
            "12.5",
            "1e5",
            "1.5e5",
            "1.5 ",
            " 1.5",
            "1.2.3",
            "1.-5",
            "--1",
            "x.5",
            "1.5]",
            "1234]",
            "nan",
            "true",
            "1.0000000000000000000",
            "0.000000000000000000",
            "1.2\u{e9}",
            "\u{e9}.5",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_text() {
        assert!(plain(b"", 0).is_none());
        assert!(plain(b"1", 0).is_none());
        assert!(plain(b"1,", 5).is_none());
        assert!(plain(b"-", 0).is_none());
        let row = b"0.5,                             ";
        assert!(plain(row, 0).is_some());
        assert!(plain(&row[..WINDOW], 0).is_none());
    }

    proptest! {
        #[test]
        fn both_ways_agree(text in "-?[0-9]{1,9}(\\.[0-9]{0,20})?|[-+0-9.eE ]{0,12}") {
            if let Some(got) = read(&text) {
                prop_assert_eq!(Some(got), told(Number::read(text.as_bytes())), "{}", text);
                prop_assert_eq!(got.0, text.len());
            }
        }
    }
}
