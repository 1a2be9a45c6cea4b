//! Values of the options of `weir serve`: how each kind is read, and what is said when it cannot be. Used by `flags` and
//! `layers`.

use std::ops::RangeInclusive;

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A number within a range. What is said of another one is what a file is told.
pub(super) fn count_u64(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = u64> {
    number(range)
}

/// The same, as a size.
pub(super) fn count(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = usize> {
    number(range)
}

fn number<T>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("expected an integer from {} to {}", range.start(), range.end()))
    }
}

/// One of a few words, which the help lists.
pub(super) fn words<T: Copy + Send + Sync + 'static>(
    words: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(words.iter().map(|(word, _)| *word));
    names.try_map(|name| {
        let found = words.iter().find(|(word, _)| *word == name);
        found.map(|(_, value)| *value).ok_or("unknown word")
    })
}

/// True or false in any of four words.
pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected true, false, 1 or 0"),
    }
}

/// A host name, in lower case.
pub(super) fn host_name(text: &str) -> Result<String, &'static str> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
    if good { Ok(text.to_ascii_lowercase()) } else { Err("expected a host name") }
}

/// A level alone must be one: the filter would take any other word for the name of a module, and log nothing.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |text: &str| LEVELS.contains(&text.trim().to_ascii_lowercase().as_str());
    if let Some(word) = text.split(',').find(|part| !part.contains('=') && !known(part)) {
        return Err(format!("expected {} or module=level, got '{word}'", LEVELS.join(", ")));
    }
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_that_are_none_are_refused() {
        for good in ["info", "WARN", "off", "info,weir::registry=debug", "weir=trace"] {
            assert_eq!(log_level(good).as_deref(), Ok(good));
        }
        assert_eq!(
            log_level("inof").unwrap_err(),
            "expected off, error, warn, info, debug, trace or module=level, got 'inof'"
        );
        assert!(log_level("weir=loud").is_err());
        assert!(log_level("").is_err());
    }
}
