//! A cursor over JSON text, for bodies that are mostly numbers: values go from the text straight into flat typed vectors, without
//! a tree and without a detour over `f64`. It accepts exactly what RFC 8259 accepts, up to a depth of 64. Used by the decoders
//! of this folder only.

use std::borrow::Cow;

use super::{number::Number, row};
use crate::types::Error;

/// How deep arrays and objects may be nested.
const MAX_DEPTH: usize = 64;

/// A position in JSON text.
#[derive(Clone)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Scanner<'t> {
    /// At the start of a text.
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Bytes not yet read.
    pub(super) fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// The next byte that is not white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes a byte if it is the next one.
    #[inline]
    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Reads an array; `each` must read one element.
    #[inline]
    pub(super) fn array<E: From<Error>>(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.enter(b'[', "an array")?;
        if self.peek() != Some(b']') {
            loop {
                each(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return Err(self.malformed("',' or ']'").into()),
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads an object; `each` is given a key and must read its value.
    pub(super) fn object<E: From<Error>>(
        &mut self,
        each: &mut dyn FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.enter(b'{', "an object")?;
        if self.peek() != Some(b'}') {
            loop {
                let key = self.string()?;
                if !self.eat(b':') {
                    return Err(self.malformed("':'").into());
                }
                each(self, &key)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return Err(self.malformed("',' or '}'").into()),
                }
            }
        }
        self.leave();
        Ok(())
    }

    fn enter(&mut self, open: u8, what: &str) -> Result<(), Error> {
        if !self.eat(open) {
            return Err(self.malformed(what));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::invalid(format!("body: JSON nesting depth exceeds {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// Reads a string: a slice of the text unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'t, str>, Error> {
        if !self.eat(b'"') {
            return Err(self.malformed("a string"));
        }
        let start = self.at;
        let bytes = self.text.as_bytes();
        let plain = bytes[start..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
        self.at += plain;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(self.text.get(start..start + plain).unwrap_or_default()));
        }
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(0x20..) => self.at += 1,
                Some(_) => return Err(self.malformed("an escaped control character")),
                None => {
                    self.at = self.text.len();
                    return Err(self.malformed("'\"'"));
                }
            }
        }
        let end = self.at;
        self.at += 1;
        // A backslash may have stepped into the middle of a character; then this is no slice and the escape is not one.
        let quoted = self.text.get(start - 1..=end).unwrap_or_default();
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| {
            self.at = start - 1;
            self.malformed("a string with valid escapes")
        })
    }

    /// Reads a number; `None`, without moving, when the next value is not one.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Option<Number<'t>> {
        self.peek();
        let number = Number::read(&self.text.as_bytes()[self.at..])?;
        self.at += number.len();
        Some(number)
    }

    /// Passes numbers with the comma behind each, as long as `take` takes them. It stops in front of everything else, of what is
    /// not taken, and near the end: only the ordinary way can say what that is.
    #[inline]
    pub(super) fn numbers(&mut self, mut take: impl FnMut(Number<'t>) -> bool) {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        loop {
            let start = past_space(bytes, at);
            // Both calls of `take` are there for the first to be compiled apart, with what is known there.
            if let Some(number) = row::plain(bytes, start) {
                if !take(number) {
                    break;
                }
                at = start + number.len() + 1;
                continue;
            }
            let Some(number) = bytes.get(start..).and_then(Number::read) else { break };
            let end = past_space(bytes, start + number.len());
            if bytes.get(end) != Some(&b',') || !take(number) {
                break;
            }
            at = end + 1;
        }
        self.at = at;
    }

    /// Reads `true` or `false`; `None`, without moving, when the next value is neither.
    pub(super) fn boolean(&mut self) -> Option<bool> {
        match self.peek() {
            Some(b't') if self.word("true") => Some(true),
            Some(b'f') if self.word("false") => Some(false),
            _ => None,
        }
    }

    /// Reads `null`, if that is next.
    #[inline]
    pub(super) fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.word("null")
    }

    /// Passes a word that would have to be the next thing.
    fn word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    /// Passes one value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'{') => self.object(&mut |scanner, _| scanner.skip()),
            Some(b'[') => self.array(Self::skip),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') if self.number().is_some() => Ok(()),
            Some(b't' | b'f') if self.boolean().is_some() => Ok(()),
            Some(b'n') if self.null() => Ok(()),
            _ => Err(self.malformed("a value")),
        }
    }

    /// True at an array whose first element is an array.
    pub(super) fn opens_array_in_array(mut self) -> bool {
        self.eat(b'[') && self.peek() == Some(b'[')
    }

    /// Passes one value, of an array or object only its opening: enough to tell whether it is JSON so far.
    pub(super) fn skip_shallow(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'[' | b'{') => Ok(()),
            _ => self.skip(),
        }
    }

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("the end")),
        }
    }

    /// The error of a text that is not JSON here.
    #[cold]
    pub(super) fn malformed(&mut self, expected: &str) -> Error {
        let found = self.found();
        Error::expected(format_args!("body: malformed JSON at byte {}", self.at), expected, found)
    }

    /// What comes next, in words short enough for an error.
    pub(super) fn found(&mut self) -> String {
        match self.peek() {
            None => "the end".to_owned(),
            Some(b'"') => "a string".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'{') => "an object".to_owned(),
            Some(_) => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                let token: String = rest.chars().take_while(|c| part(*c)).take(24).collect();
                if token.is_empty() { format!("'{}'", rest.chars().next().unwrap_or(' ')) } else { token }
            }
        }
    }
}

/// Where white space that begins at a place ends.
#[inline(always)]
fn past_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(text: &str) -> Result<(), Error> {
        let mut scanner = Scanner::new(text);
        scanner.skip()?;
        scanner.end()
    }

    #[test]
    fn depth_is_bounded_in_arrays_and_objects() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(valid(&nested(64)), Ok(()));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65));
        for text in [nested(65), nested(100), nested(250_000), objects, "[".repeat(100_000)] {
            assert_eq!(valid(&text).unwrap_err().text(), "body: JSON nesting depth exceeds 64");
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, want) in [
            ("", "byte 0: expected a value, got the end"),
            ("[1,]", "byte 3: expected a value, got ']'"),
            ("[1 2]", "byte 3: expected ',' or ']', got 2"),
            ("[NaN]", "byte 1: expected a value, got NaN"),
            ("[-Infinity]", "byte 1: expected a value, got -Infinity"),
            ("[01]", "byte 2: expected ',' or ']', got 1"),
            ("[0x10]", "byte 2: expected ',' or ']', got x10"),
            ("[1.]", "byte 1: expected a value, got 1."),
            ("{\"a\" 1}", "byte 5: expected ':', got 1"),
            ("{a:1}", "byte 1: expected a string, got a"),
            ("{\"a\":1", "byte 6: expected ',' or '}', got the end"),
            ("\"a", "byte 2: expected '\"', got the end"),
            ("\"a\\", "byte 3: expected '\"', got the end"),
            ("\"\u{1}\"", "byte 1: expected an escaped control character, got '\\u{1}'"),
            ("\"\\ud800\"", "byte 0: expected a string with valid escapes, got a string"),
            ("\"\\é\"", "byte 0: expected a string with valid escapes, got a string"),
            ("[1] x", "byte 4: expected the end, got x"),
            ("é", "byte 0: expected a value, got 'é'"),
        ] {
            assert_eq!(valid(text).unwrap_err().text(), format!("body: malformed JSON at {want}"), "{text}");
        }
    }

    #[test]
    fn strings() {
        let read = |text: &str| Scanner::new(text).string().map(Cow::into_owned);
        assert_eq!(read(r#" "plain é""#).unwrap(), "plain é");
        assert_eq!(read(r#""a\"\\\u0000\ud83d\ude00""#).unwrap(), "a\"\\\0😀");
        assert!(matches!(Scanner::new("\"x\"").string(), Ok(Cow::Borrowed("x"))));
    }

    /// JSON texts, half of them damaged in one place.
    fn texts() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<i64>().prop_map(|v| v.to_string()),
            any::<i32>().prop_map(|v| format!("{:e}", f64::from(v) / 7.0)),
            "[-+0-9.eE]{1,6}",
            "\"[a-z\\\\u0-9é]{0,6}\"",
        ];
        let value = leaf.prop_recursive(4, 24, 4, |inner| {
            let pair = inner.clone().prop_map(|v| format!("\"k\": {v}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(","))),
                proptest::collection::vec(pair, 0..4).prop_map(|v| format!("{{{}}}", v.join(" ,\n"))),
            ]
        });
        (value, any::<proptest::sample::Index>(), "[\\[\\]{},:\"0-9eE.+ -]?", any::<bool>()).prop_map(
            |(mut text, at, with, damage)| {
                let (start, old) = text.char_indices().nth(at.index(text.chars().count())).unwrap();
                if damage {
                    text.replace_range(start..start + old.len_utf8(), &with);
                }
                text
            },
        )
    }

    /// Whether another reader takes it, which knows numbers only up to the range of `f64`.
    fn known(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn accepts_what_json_is(text in texts()) {
            prop_assert_eq!(valid(&text).is_ok(), known(&text), "{}", text);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}") {
            prop_assert_eq!(valid(&text).is_ok(), known(&text), "{}", text);
        }
    }
}
