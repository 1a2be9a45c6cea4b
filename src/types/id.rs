//! Who is meant: model names, versions, and how a request refers to a version. Used by every layer.

use std::{fmt, sync::Arc};

use super::Error;

const MAX_NAME_BYTES: usize = 128;
const MAX_LABEL_BYTES: usize = 64;
const MAX_VERSION_DIGITS: usize = 18;

/// A model's or route's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// # Errors
    /// `InvalidArgument` when the text does not have the form above.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut bytes = text.bytes();
        let good = text.len() <= MAX_NAME_BYTES
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(Error::expected("model name", "[A-Za-z0-9][A-Za-z0-9._-]{0,127}", quoted(text)))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text, for answers that carry the name.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A version number, `[1-9][0-9]{0,17}`: also the name of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// The version of a bare `model.onnx` without version folder.
    pub const ONE: Version = Version(1);

    /// `None` unless the text is `[1-9][0-9]{0,17}`.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=MAX_VERSION_DIGITS).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.starts_with('0');
        if good { text.parse().ok().map(Self) } else { None }
    }

    /// `None` for 0 and for numbers of more than 18 digits.
    pub fn new(number: u64) -> Option<Self> {
        (1..1_000_000_000_000_000_000).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a request names a version.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum VersionRef {
    /// "", "-1" or "latest": the highest version that answers.
    #[default]
    Policy,
    /// That version and no other.
    Exact(Version),
    /// The version that carries the label.
    Label(Box<str>),
}

impl VersionRef {
    /// Reads the version text of a request.
    ///
    /// # Errors
    /// `InvalidArgument` `version: expected a positive integer or a label, got '1e3'`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if matches!(text, "" | "-1" | "latest") {
            return Ok(Self::Policy);
        }
        if let Some(version) = Version::parse(text) {
            return Ok(Self::Exact(version));
        }
        if is_label(text) {
            Ok(Self::Label(text.into()))
        } else {
            Err(Error::expected("version", "a positive integer or a label", quoted(text)))
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionRef::Policy => f.write_str("latest"),
            VersionRef::Exact(version) => version.fmt(f),
            VersionRef::Label(label) => f.write_str(label),
        }
    }
}

/// True for `[A-Za-z][A-Za-z0-9_-]{0,63}`, the form of a version label.
fn is_label(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= MAX_LABEL_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// A loaded version's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServableId {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
}

impl fmt::Display for ServableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.version)
    }
}

/// Quotes text that came from outside, cut to a length that fits an error text.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    format!("'{cut}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_text() {
        for latest in ["", "-1", "latest"] {
            assert_eq!(VersionRef::parse(latest), Ok(VersionRef::Policy));
        }
        assert_eq!(VersionRef::parse("7"), Ok(VersionRef::Exact(Version(7))));
        assert_eq!(VersionRef::parse("stable"), Ok(VersionRef::Label("stable".into())));
        for bad in ["0", "01", "1.0", "1e3", "+1", "-2", " 1", "9223372036854775808", "1234567890123456789", "_x", "é"]
        {
            let text = VersionRef::parse(bad).unwrap_err();
            assert_eq!(text.text(), format!("version: expected a positive integer or a label, got '{bad}'"));
        }
    }

    #[test]
    fn names() {
        for good in ["a", "9-x", "digits.v2_b", &"a".repeat(128)] {
            assert!(ModelName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "..", "é", &"a".repeat(129)] {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
    }
}
