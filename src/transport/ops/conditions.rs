//! What a write expects the route to be: `If-Match` and `If-None-Match` after RFC 9110, section 13, where a route's entity tag is
//! its revision in quotes. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{compose::Expect, types::Error};

/// The entity tag of a revision.
pub(super) fn etag(revision: u64) -> HeaderValue {
    // Digits in quotes always are a header value.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The condition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// No header says anything.
    None,
    /// `If-None-Match: *`: the route must not exist.
    Absent,
    /// `If-Match: *`: it must exist.
    Present,
    /// `If-Match` with a list: it must be at one of these revisions. Tags that are weak or no revision's are not among them.
    OneOf(Vec<u64>),
}

/// The condition does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

impl Condition {
    /// Reads both headers.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no list of entity tags, for `If-None-Match` with anything but `*`, and for both at once.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let if_match = text(headers, header::IF_MATCH)?;
        let if_none_match = text(headers, header::IF_NONE_MATCH)?;
        match (if_match, if_none_match) {
            (None, None) => Ok(Condition::None),
            (Some(_), Some(_)) => Err(Error::invalid("if-match: expected it without if-none-match")),
            (None, Some(text)) if text.trim() == "*" => Ok(Condition::Absent),
            (None, Some(text)) => Err(Error::expected("if-none-match", "*", shown(&text))),
            (Some(text), None) if text.trim() == "*" => Ok(Condition::Present),
            (Some(text), None) => match tags(&text) {
                Some(revisions) => Ok(Condition::OneOf(revisions)),
                None => {
                    Err(Error::expected("if-match", "a revision in double quotes, such as \"12\", or *", shown(&text)))
                }
            },
        }
    }

    /// What the keeper of the routes is to hold the change to, given what the route is now: `None` when there is no such
    /// route, `Some(None)` when there is one that has no revision yet.
    ///
    /// # Errors
    /// [`Failed`] when the condition does not hold already.
    pub(super) fn expect(&self, live: Option<Option<u64>>) -> Result<Expect, Failed> {
        match (self, live) {
            (Condition::None, _) => Ok(Expect::Any),
            (Condition::Absent, _) => Ok(Expect::Absent),
            (Condition::Present, Some(Some(revision))) => Ok(Expect::Revision(revision)),
            (Condition::Present, Some(None)) => Ok(Expect::Any),
            (Condition::OneOf(revisions), Some(Some(revision))) if revisions.contains(&revision) => {
                Ok(Expect::Revision(revision))
            }
            (Condition::Present | Condition::OneOf(_), _) => Err(Failed),
        }
    }
}

/// All lines of a header as one list.
fn text(headers: &HeaderMap, name: HeaderName) -> Result<Option<String>, Error> {
    let mut lines = headers.get_all(&name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let lines: Result<Vec<_>, _> = lines.map(HeaderValue::to_str).collect();
    lines.map(|lines| Some(lines.join(","))).map_err(|_| Error::expected(name, "ASCII", "other bytes"))
}

/// The revisions that a list of entity tags names; `None` when it is none. Strong comparison: a weak tag matches nothing.
fn tags(list: &str) -> Option<Vec<u64>> {
    let (mut revisions, mut rest, mut some) = (Vec::new(), list, false);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return some.then_some(revisions);
        }
        let weak = rest.strip_prefix("W/");
        let (opaque, tail) = weak.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if !opaque.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        if weak.is_none()
            && let Some(revision) = revision(opaque)
        {
            revisions.push(revision);
        }
        rest = tail.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
        some = true;
    }
}

/// Only the one spelling that [`etag`] has.
fn revision(opaque: &str) -> Option<u64> {
    opaque.parse().ok().filter(|revision: &u64| revision.to_string() == opaque)
}

fn shown(text: &str) -> String {
    format!("'{}'", text.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Result<Condition, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Condition::read(&headers).map_err(|error| error.text().to_owned())
    }

    #[test]
    fn conditions_as_clients_write_them() {
        let one_of = |revisions: &[u64]| Ok(Condition::OneOf(revisions.to_vec()));
        for (lines, want) in [
            (&[] as &[(&'static str, &str)], Ok(Condition::None)),
            (&[("if-none-match", "*")], Ok(Condition::Absent)),
            (&[("if-none-match", " * ")], Ok(Condition::Absent)),
            (&[("if-match", "*")], Ok(Condition::Present)),
            (&[("if-match", "\"12\"")], one_of(&[12])),
            (&[("if-match", "\"1\", \"2\",\"3\"")], one_of(&[1, 2, 3])),
            (&[("if-match", ", \"1\" ,, \"2\",")], one_of(&[1, 2])),
            (&[("if-match", "\"1\""), ("if-match", "\"2\"")], one_of(&[1, 2])),
            (&[("if-match", "W/\"1\"")], one_of(&[])),
            (&[("if-match", "W/\"1\", \"2\"")], one_of(&[2])),
            (&[("if-match", "\"abc\", \"a,b\", \"\", \"01\", \"+1\", \"99999999999999999999\"")], one_of(&[])),
        ] {
            assert_eq!(read(lines), want, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_condition() {
        let example = "if-match: expected a revision in double quotes, such as \"12\", or *, got ";
        for bad in [
            "",
            " ",
            ",",
            "12",
            "\"12",
            "12\"",
            "'12'",
            "w/\"1\"",
            "W/1",
            "\"1\" \"2\"",
            "*, \"1\"",
            "\"1\", *",
            "\"a b\"",
        ] {
            assert_eq!(read(&[("if-match", bad)]), Err(format!("{example}'{bad}'")));
        }
        assert_eq!(read(&[("if-none-match", "\"1\"")]), Err("if-none-match: expected *, got '\"1\"'".to_owned()));
        let both = [("if-match", "\"1\""), ("if-none-match", "*")];
        assert_eq!(read(&both), Err("if-match: expected it without if-none-match".to_owned()));
        assert_eq!(read(&[("if-match", "\"\u{e9}\"")]), Err("if-match: expected ASCII, got other bytes".to_owned()));
    }

    #[test]
    fn what_the_keeper_is_told() {
        let (absent, broken, live) = (None, Some(None), Some(Some(12)));
        let one_of = |revision| Condition::OneOf(vec![3, revision]);
        for (condition, on_absent, on_broken, on_live) in [
            (Condition::None, Ok(Expect::Any), Ok(Expect::Any), Ok(Expect::Any)),
            (Condition::Absent, Ok(Expect::Absent), Ok(Expect::Absent), Ok(Expect::Absent)),
            (Condition::Present, Err(Failed), Ok(Expect::Any), Ok(Expect::Revision(12))),
            (one_of(12), Err(Failed), Err(Failed), Ok(Expect::Revision(12))),
            (one_of(13), Err(Failed), Err(Failed), Err(Failed)),
        ] {
            let got = [absent, broken, live].map(|live| condition.expect(live));
            assert_eq!(got, [on_absent, on_broken, on_live], "{condition:?}");
        }
    }

    proptest! {
        #[test]
        fn every_tag_is_read_back(revisions in prop::collection::vec(any::<u64>(), 1..5)) {
            let mut headers = HeaderMap::new();
            for revision in &revisions {
                headers.append(header::IF_MATCH, etag(*revision));
            }
            prop_assert_eq!(Condition::read(&headers), Ok(Condition::OneOf(revisions)));
        }

        #[test]
        fn no_text_panics(text in "[\"*W/, 0-9a-z]{0,20}") {
            let _ = read(&[("if-match", &text)]);
        }
    }
}
