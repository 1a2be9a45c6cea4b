//! A revision as a file: five comment lines that say which one it is, when, by whom and why it was made and where it came from,
//! and then the text as it was given, byte for byte. Pure; the store writes and reads these.
//!
//! ```text
//! # revision = 12
//! # at = 2026-11-21T10:50:03.250Z
//! # who = "anna"
//! # why = "candidate is ahead"
//! # from = 11
//! kind = "split"
//! …
//! ```
//! The values are quoted so that nothing in them can end a line. A revision without text is a deletion.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    compose::{Author, Revision},
    types::{parse_rfc3339, rfc3339},
};

/// Bytes that are recorded of who and why; escaped, each may take six times as many.
const MAX_WHO: usize = 256;
const MAX_WHY: usize = 4096;
/// More than the five lines need.
pub(super) const MAX_HEADER: u64 = 64 << 10;

/// The highest number that a revision may have: 18 digits, as of versions.
pub(super) const LAST: u64 = 999_999_999_999_999_999;

const FOLLOWS: &str = ".toml";

/// A revision with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compose) struct Entry {
    /// Which one, by whom and why.
    pub(in crate::compose) revision: Revision,
    /// What `route.toml` says; empty = there is none.
    pub(in crate::compose) text: Arc<str>,
}

/// What is recorded with a revision.
#[derive(Clone, Debug)]
pub(in crate::compose) struct Note {
    /// Who makes it and why.
    pub(in crate::compose) author: Author,
    /// The revision that it comes from.
    pub(in crate::compose) from: u64,
    /// When.
    pub(in crate::compose) at: SystemTime,
}

impl Entry {
    /// A revision as it will be read: its time in whole milliseconds, its author cut to what the header has room for.
    pub(in crate::compose) fn new(number: u64, note: Note, text: Arc<str>) -> Self {
        let Note { author: Author { who, why }, from, at } = note;
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(since).unwrap_or(0));
        let cut = |text: &str, bytes: usize| text[..text.floor_char_boundary(bytes)].to_owned();
        let author = Author { who: cut(&who, MAX_WHO).into(), why: cut(&why, MAX_WHY).into() };
        Self { revision: Revision { number, at, author, from }, text }
    }

    /// Whether the route was deleted.
    pub(in crate::compose) fn is_deletion(&self) -> bool {
        self.text.is_empty()
    }

    /// The file's content.
    pub(super) fn encode(&self) -> String {
        let Revision { number, at, author, from } = &self.revision;
        let (at, who, why) = (rfc3339(*at), quoted(&author.who), quoted(&author.why));
        format!(
            "# revision = {number}\n# at = {at}\n# who = {who}\n# why = {why}\n# from = {from}\n{text}",
            text = self.text
        )
    }

    /// Reads a file's content; `number` is what its name says.
    ///
    /// # Errors
    /// What is not as [`Entry::encode`] writes it.
    pub(super) fn decode(number: u64, bytes: Vec<u8>) -> Result<Self, String> {
        let content = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let mut rest = content.as_str();
        let mut value = |key: &str| {
            let (line, after) = rest.split_once('\n').ok_or_else(|| wrong(key))?;
            rest = after;
            let (found, value) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")).ok_or(wrong(key))?;
            if found == key { Ok(value) } else { Err(wrong(key)) }
        };
        let (says, at) = (value("revision")?, value("at")?);
        let (who, why, from) = (value("who")?, value("why")?, value("from")?);
        if says.parse() != Ok(number) {
            return Err(format!("revision: expected {number}, got {}", quoted(says)));
        }
        let at = parse_rfc3339(at).ok_or_else(|| wrong("at"))?;
        let who = unquoted(who).ok_or_else(|| wrong("who"))?.into();
        let why = unquoted(why).ok_or_else(|| wrong("why"))?.into();
        let from = from.parse().map_err(|_| wrong("from"))?;
        Ok(Self { revision: Revision { number, at, author: Author { who, why }, from }, text: rest.into() })
    }
}

fn wrong(key: &str) -> String {
    format!("the header is not in order: expected '# {key} = …'")
}

/// A basic TOML string on one line: every control character is escaped, and so is what some editors take for a line's end.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What is written above is also a JSON string.
fn unquoted(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// The name of a revision's file: at least six digits.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:06}{FOLLOWS}")
}

/// The revision that a file's name means.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(FOLLOWS)?.parse().ok().filter(|number| (1..=LAST).contains(number))?;
    (file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64, who: &str, why: &str, text: &str) -> Entry {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_250);
        let author = Author { who: who.into(), why: why.into() };
        Entry { revision: Revision { number, at, author, from: number - 1 }, text: text.into() }
    }

    #[test]
    fn as_documented() {
        let text = entry(12, "anna", "more \"candidate\"\nrm -rf", "kind = \"split\"\n").encode();
        assert_eq!(
            text,
            "# revision = 12\n# at = 2025-11-24T16:00:00.250Z\n# who = \"anna\"\n\
             # why = \"more \\\"candidate\\\"\\u000arm -rf\"\n# from = 11\nkind = \"split\"\n"
        );
        assert!(entry(1, "", "", "").is_deletion());
    }

    #[test]
    fn the_whole_file_is_toml() {
        let hostile = "a\"b\\c\u{7f}\u{0}\r\n]\u{85}\u{2028}é";
        let text = entry(3, hostile, hostile, "kind = \"split\"\n").encode();
        assert_eq!(text.lines().count(), 6);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table.len(), 1);
        let header: String =
            text.lines().take(5).filter(|l| !l.contains("at = ")).map(|l| format!("{}\n", &l[2..])).collect();
        let header: toml::Table = header.parse().unwrap();
        assert_eq!(header["who"].as_str(), Some(hostile));
    }

    #[test]
    fn what_is_not_in_order_is_said() {
        let good = entry(7, "a", "b", "x = 1\n").encode();
        assert!(Entry::decode(7, good.clone().into_bytes()).is_ok());
        let decode = |text: &str| Entry::decode(7, text.to_owned().into_bytes()).unwrap_err();
        assert_eq!(decode(&good.replace("= 7", "= 8")), "revision: expected 7, got \"8\"");
        assert_eq!(decode(""), "the header is not in order: expected '# revision = …'");
        assert_eq!(decode("x = 1\n"), "the header is not in order: expected '# revision = …'");
        assert_eq!(decode(&good.replace("# at = 2", "# at = x")), "the header is not in order: expected '# at = …'");
        assert_eq!(decode(&good.replace("\"a\"", "a")), "the header is not in order: expected '# who = …'");
        assert_eq!(decode(&good.replace("# why", "# who")), "the header is not in order: expected '# why = …'");
        assert_eq!(decode(&good.replace("from = 6", "from = -6")), "the header is not in order: expected '# from = …'");
        let cut = good.split_once("\n# from").unwrap().0;
        assert_eq!(decode(cut), "the header is not in order: expected '# why = …'");
        assert_eq!(Entry::decode(7, vec![0xff]).unwrap_err(), "is not UTF-8");
    }

    #[test]
    fn what_is_recorded_has_a_limit() {
        let author = Author { who: "ä".repeat(500).into(), why: "\u{1}".repeat(5000).into() };
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999_999);
        let entry = Entry::new(1, Note { author, from: 0, at }, "x".into());
        let Revision { author: Author { who, why }, at, .. } = &entry.revision;
        assert_eq!((who.len(), why.len()), (MAX_WHO, MAX_WHY));
        assert_eq!(*at, SystemTime::UNIX_EPOCH + Duration::from_millis(1));
        let file = entry.encode();
        assert!((file.len() as u64) < MAX_HEADER);
        assert_eq!(Entry::decode(1, file.into_bytes()), Ok(entry));
    }

    #[test]
    fn names_of_files() {
        assert_eq!(file_name(12), "000012.toml");
        assert_eq!(file_name(1_234_567), "1234567.toml");
        assert_eq!(number_of("1234567.toml"), Some(1_234_567));
        for other in
            ["12.toml", "0000012.toml", "000000.toml", "+00012.toml", "000012", ".lock", "1000000000000000000.toml"]
        {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1_u64..=LAST, who in any::<String>(), why in any::<String>(), text in any::<String>()) {
            let entry = entry(number, &who, &why, &text);
            prop_assert_eq!(Entry::decode(number, entry.encode().into_bytes()), Ok(entry));
            prop_assert_eq!(number_of(&file_name(number)), Some(number));
        }
    }
}
