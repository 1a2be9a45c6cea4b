//! The part of a URL after the question mark: a few known names, each at most once, decoded as forms are. Pure.

use std::borrow::Cow;

use crate::{transport::http::route::decoded, types::Error};

/// What a query may say here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    /// The query of a request, which may have only these names.
    ///
    /// # Errors
    /// `InvalidArgument` for any other name, and for one that comes twice.
    pub(super) fn read(query: Option<&'q str>, known: &[&str]) -> Result<Self, Error> {
        let query = Self(query.unwrap_or(""));
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in query.pairs() {
            if !known.contains(&name) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Error::expected("query", known, format_args!("'{}'", shown(name))));
            }
            if seen.contains(&name) {
                return Err(Error::invalid(format!("query: '{name}' is given twice")));
            }
            seen.push(name);
        }
        Ok(query)
    }

    /// `true`, `1` or the bare name, `false`, `0` or nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for any other value.
    pub(super) fn flag(self, name: &str) -> Result<bool, Error> {
        match self.value(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => {
                Err(Error::expected(format_args!("query: {name}"), "true or false", format_args!("'{}'", shown(other))))
            }
        }
    }

    /// The text of a name; `None` when it is not there.
    ///
    /// # Errors
    /// `InvalidArgument` when its percent-encoding is damaged or not of UTF-8.
    pub(super) fn text(self, name: &str) -> Result<Option<Cow<'q, str>>, Error> {
        let Some(value) = self.value(name) else { return Ok(None) };
        if value.is_empty() {
            return Ok(Some(Cow::Borrowed("")));
        }
        let wrong = || Error::invalid(format!("query: {name}: expected percent-encoded UTF-8"));
        if !value.contains('+') {
            return decoded(value).map(Some).ok_or_else(wrong);
        }
        // A plus that is meant is %2B, so all of these are spaces.
        let spaced = value.replace('+', "%20");
        decoded(&spaced).map(|text| Some(Cow::Owned(text.into_owned()))).ok_or_else(wrong)
    }

    fn value(self, name: &str) -> Option<&'q str> {
        self.pairs().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn pairs(self) -> impl Iterator<Item = (&'q str, &'q str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        for (query, want) in [
            (None, false),
            (Some(""), false),
            (Some("dry_run"), true),
            (Some("dry_run="), true),
            (Some("dry_run=true"), true),
            (Some("&dry_run=1&"), true),
            (Some("dry_run=false"), false),
            (Some("dry_run=0"), false),
        ] {
            assert_eq!(Query::read(query, &["dry_run"]).unwrap().flag("dry_run"), Ok(want), "{query:?}");
        }
        let error = Query::read(Some("dry_run=yes"), &["dry_run"]).unwrap().flag("dry_run").unwrap_err();
        assert_eq!(error.text(), "query: dry_run: expected true or false, got 'yes'");
    }

    #[test]
    fn texts() {
        for (query, want) in [
            ("", Ok(None)),
            ("key", Ok(Some(""))),
            ("key=u17", Ok(Some("u17"))),
            ("key=a=b", Ok(Some("a=b"))),
            ("key=a+b%20c%2B", Ok(Some("a b c+"))),
            ("key=%C3%A9", Ok(Some("é"))),
            ("key=%ff", Err("query: key: expected percent-encoded UTF-8")),
            ("key=%4", Err("query: key: expected percent-encoded UTF-8")),
            ("key=+%zz", Err("query: key: expected percent-encoded UTF-8")),
        ] {
            let got = Query::read(Some(query), &["key"]).unwrap().text("key");
            let got = got.map_err(|error| error.text().to_owned());
            assert_eq!(got.as_ref().map(|text| text.as_deref()).map_err(String::as_str), want, "{query}");
        }
    }

    #[test]
    fn names_that_are_not_known() {
        let read = |query, known: &[&str]| Query::read(Some(query), known).unwrap_err().text().to_owned();
        assert_eq!(read("dryrun=true", &["dry_run"]), "query: expected dry_run, got 'dryrun'");
        assert_eq!(read("key=1", &[]), "query: expected none, got 'key'");
        assert_eq!(read("key=1&key=1", &["key"]), "query: 'key' is given twice");
    }
}
