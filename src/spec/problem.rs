//! What is wrong with a configuration text, and where: every reader of this layer answers with all problems at once, so that
//! a file is corrected in one go. Shown by `weir check`, at start-up and in the repository index.

use std::fmt;

/// Problems beyond these are left out: nobody reads them, and each costs time.
pub(super) const MAX_PROBLEMS: usize = 100;

/// One thing that is wrong (or worth a note) in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 when the problem has no place.
    pub line: usize,
    /// Column in characters, from 1; 0 when the problem has no place.
    pub column: usize,
    /// The key's full path, for example `batching.max_batch_size`; empty when the text cannot be read at all.
    pub key: String,
    /// What is wrong: `expected <e>, got <g>`.
    pub text: String,
}

impl Problem {
    /// A problem of the whole text.
    pub(super) fn general(text: impl Into<String>) -> Self {
        Self::of("", text)
    }

    /// A problem of a key without a place.
    pub(super) fn of(key: impl Into<String>, text: impl Into<String>) -> Self {
        Place::default().problem(key, text)
    }

    /// The problem without its place: of a text that its reader has never seen.
    #[must_use]
    pub(super) fn without_place(self) -> Self {
        Self { line: 0, column: 0, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// Says that something is wrong here.
    pub(super) fn problem(self, key: impl Into<String>, text: impl Into<String>) -> Problem {
        Problem { line: self.line, column: self.column, key: key.into(), text: text.into() }
    }
}

/// Turns byte offsets of a text into places.
#[derive(Clone, Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The place of a byte offset; an offset past the end, or inside a character, is taken down to the last good one.
    pub(super) fn place(&self, offset: usize) -> Place {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        Place { line, column: self.text[start..offset].chars().count() + 1 }
    }
}

/// Quotes text that came from a file, escaped and cut to a length that fits an error text.
pub(super) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut chars = text.chars();
    let cut: String = chars.by_ref().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("'{cut}{more}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let lines = Lines::new("a\nédé = 1\r\n\nz");
        let place = |offset| {
            let place = lines.place(offset);
            (place.line, place.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(1), (1, 2));
        assert_eq!(place(2), (2, 1));
        assert_eq!(place(4), (2, 2));
        assert_eq!(place(5), (2, 3));
        assert_eq!(place(3), (2, 1), "inside a character");
        assert_eq!(place(13), (3, 1));
        assert_eq!(place(999), (4, 2));
    }

    #[test]
    fn shown_with_place_and_key() {
        let problem = Place { line: 3, column: 7 }.problem("a.b", "unknown key");
        assert_eq!(problem.to_string(), "line 3, column 7: a.b: unknown key");
        assert_eq!(Place::default().problem("a", "missing").to_string(), "a: missing");
        assert_eq!(Place { line: 1, column: 1 }.problem("", "bad").to_string(), "line 1, column 1: bad");
    }

    #[test]
    fn quotes_cut_and_escape() {
        assert_eq!(quoted("a\u{1b}"), "'a\\u{1b}'");
        assert_eq!(quoted(&"x".repeat(61)), format!("'{}…'", "x".repeat(60)));
    }
}
