//! Moments as text: RFC 3339 in UTC with milliseconds, as revisions, audit lines and the ops API carry them; and durations as
//! whole numbers, as atomics hold them. Pure; nothing here reads a clock. Moments are written and read by the `compose` layer
//! and shown by the `transport` layer; durations are counted by all that measure.

use std::time::{Duration, SystemTime};

const SECONDS_PER_DAY: u64 = 86_400;

/// Whole nanoseconds; of more than 584 years, as many as can be counted.
#[inline]
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A moment as `2026-11-21T10:50:03.250Z`. Parts of a millisecond are cut off; moments before 1970 are shown as its beginning,
/// moments after the year 9999 as its end.
pub fn rfc3339(at: SystemTime) -> String {
    const LAST: Duration = Duration::new(253_402_300_799, 999_000_000);
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST);
    let (days, second) = (since.as_secs() / SECONDS_PER_DAY, since.as_secs() % SECONDS_PER_DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Reads what [`rfc3339`] writes: UTC as `Z`, any number of decimals up to nine, none before 1970. `None` for anything else.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    let nanos = match fraction {
        None => 0,
        Some(digits) if (1..=9).contains(&digits.len()) => number(&format!("{digits:0<9}"))?,
        Some(_) => return None,
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).ok()?))
}

fn fields(text: &str, separator: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut values = [0; 3];
    for (value, width) in values.iter_mut().zip(widths) {
        *value = number(parts.next().filter(|part| part.len() == width)?)?;
    }
    parts.next().is_none().then_some(values)
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, by whole eras of 400 years that begin in March, so that the leap
/// day is the last of its year (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year) = (year / 400, year % 400);
    let day = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day - 719_468
}

/// The date of a day since 1970-01-01; the inverse of [`days`].
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64, millis: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000)
    }

    #[test]
    fn known_moments() {
        for (seconds, millis, text) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.001Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, 0, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400, 999, "2100-03-01T00:00:00.999Z"),
            (253_402_300_799, 999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, millis)), text);
            assert_eq!(parse_rfc3339(text), Some(at(seconds, millis)));
        }
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(at(253_402_300_800, 5)), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse_rfc3339("2000-01-01T00:00:00Z"), Some(at(946_684_800, 0)));
        assert_eq!(parse_rfc3339("2000-01-01T00:00:00.5Z"), Some(at(946_684_800, 500)));
    }

    #[test]
    fn anything_else_is_no_moment() {
        for text in [
            "",
            "Z",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00+00:00",
            "2000-01-01 00:00:00Z",
            "2000-1-01T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-00-01T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "1900-02-28T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2000-01-00T00:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:60:00Z",
            "2000-01-01T00:00:60Z",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T00:00:00.0000000000Z",
            "2000-01-01T00:00:00.-1Z",
            "+200-01-01T00:00:00Z",
            "2000-01-01T00:00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0_u64..253_402_300_800, millis in 0_u32..1000) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(at(seconds, millis))), Some(at(seconds, millis)));
        }

        #[test]
        fn days_follow_each_other(day in 0_u64..2_932_896) {
            let (now, next) = (date(day), date(day + 1));
            prop_assert!(now < next);
            prop_assert_eq!(days(now.0, now.1, now.2), day);
        }
    }
}
