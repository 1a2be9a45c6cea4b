//! Reads TOML texts key by key and collects every problem with its line and column: syntax errors, keys that nobody knows,
//! values of the wrong type or out of range. `model_toml`, `weir_toml` and `route_toml` are lists of keys on top of this;
//! `toml_tables` adds what tables within tables need.

use std::{cell::RefCell, ops::RangeInclusive};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    nearest,
    problem::{Lines, MAX_PROBLEMS, Place, Problem, quoted},
};

/// A TOML document whose keys are being read. Problems pile up inside until [`Document::finish`].
pub(super) struct Document<'t> {
    lines: Lines<'t>,
    root: DeValue<'t>,
    problems: RefCell<Vec<Problem>>,
    /// Lines with a syntax error: what the parser made of them is a guess, so nothing else is said about them.
    broken: Vec<usize>,
}

/// The keys that a text may have.
struct Known<'k> {
    keys: &'k [&'k str],
    elsewhere: &'k dyn Fn(&str) -> Option<String>,
}

impl Known<'_> {
    /// Whether a key is known whose path is `path`, then `separator`, then something.
    fn has_below(&self, path: &str, separator: &str) -> bool {
        self.keys.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with(separator)))
    }
}

/// A value being read: what it is, where it is, and the path of its key.
pub(super) struct Node<'n, 't> {
    document: &'n Document<'t>,
    path: String,
    value: &'n DeValue<'t>,
    offset: usize,
}

impl<'t> Document<'t> {
    /// Parses the text and reports every key that is not in `known` (full paths of leaves; a leaf may be a table; `name[]` is
    /// an array of tables).
    pub(super) fn parse(text: &'t str, known: &[&str]) -> Self {
        let document = Self::read(text);
        document.check_known(known, &|_| None);
        document
    }

    /// Parses the text; its keys are still to be checked with [`Document::check_known`].
    pub(super) fn read(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::new(text);
        let mut problems = Vec::new();
        for error in errors.into_iter().take(MAX_PROBLEMS) {
            let span = error.span().unwrap_or(text.len()..text.len());
            let what = error.message().trim();
            // The parser points at the key and does not name it.
            let key = text.get(span.clone()).filter(|_| what == "duplicate key").unwrap_or_default();
            problems.push(lines.place(span.start).problem(key, what));
        }
        let broken = problems.iter().map(|problem| problem.line).collect();
        let root = DeValue::Table(root.into_inner());
        Self { lines, root, problems: RefCell::new(problems), broken }
    }

    /// Reports every key that is not in `known`, as [`Document::parse`] does. `elsewhere` may know better what to say about a
    /// key, given its path with `[]` for every index.
    pub(super) fn check_known(&self, known: &[&str], elsewhere: &dyn Fn(&str) -> Option<String>) {
        self.check_keys(&self.root, "", &Known { keys: known, elsewhere });
    }

    fn check_keys(&self, table: &DeValue<'t>, prefix: &str, known: &Known<'_>) {
        for (key, value) in table.as_table().into_iter().flatten() {
            let path = join(prefix, key.get_ref());
            let pattern = nearest::without_indices(&path);
            if known.keys.contains(&pattern.as_str()) {
                continue;
            }
            if known.has_below(&pattern, ".") {
                self.check_table(value, &path, known);
            } else if known.has_below(&pattern, "[].") {
                let Some(items) = value.get_ref().as_array() else {
                    let got = describe(value.get_ref());
                    self.report(
                        value.span().start,
                        &path,
                        format!("expected tables, each under [[{path}]], got {got}"),
                    );
                    continue;
                };
                for (i, item) in items.iter().enumerate() {
                    self.check_table(item, &format!("{path}[{i}]"), known);
                }
            } else {
                let text = (known.elsewhere)(&pattern).unwrap_or_else(|| nearest::unknown_key(&path, known.keys));
                self.report(key.span().start, &path, text);
            }
        }
    }

    fn check_table(&self, value: &Spanned<DeValue<'t>>, path: &str, known: &Known<'_>) {
        match value.get_ref() {
            table @ DeValue::Table(_) => self.check_keys(table, path, known),
            other => self.report(value.span().start, path, format!("expected a table, got {}", describe(other))),
        }
    }

    /// The whole text as a table.
    pub(super) fn root(&self) -> Node<'_, 't> {
        Node { document: self, path: String::new(), value: &self.root, offset: 0 }
    }

    /// Reads one key; `None` when it is absent or wrong (then the problem is noted).
    pub(super) fn get<T>(&self, path: &str, read: impl FnOnce(&Node<'_, 't>) -> Option<T>) -> Option<(Place, T)> {
        let node = path.split('.').try_fold(self.root(), |node, key| node.get(key))?;
        let place = self.lines.place(node.offset);
        read(&node).map(|read| (place, read))
    }

    /// Every problem in the order of the text; `Ok` when there is none.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        if problems.is_empty() { Ok(value) } else { Err(problems) }
    }

    /// As [`Document::finish`], of a value that is `None` when a problem was noted.
    pub(super) fn finish_read<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match self.finish(value)? {
            Some(value) => Ok(value),
            None => Err(vec![Problem::general("cannot be read")]),
        }
    }

    /// Notes a problem that was found outside of a reader.
    pub(super) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    fn report(&self, offset: usize, path: &str, text: String) {
        if self.problems.borrow().len() >= MAX_PROBLEMS {
            return;
        }
        let place = self.lines.place(offset);
        if !self.broken.contains(&place.line) {
            self.push(place.problem(path, text));
        }
    }
}

impl<'n, 't> Node<'n, 't> {
    /// Notes `expected <expected>, got <value>`. Always `None`, so that readers can end with it.
    pub(super) fn expected<T>(&self, expected: impl std::fmt::Display) -> Option<T> {
        self.wrong(format!("expected {expected}, got {}", describe(self.value)))
    }

    /// Notes a problem with this value. Always `None`.
    pub(super) fn wrong<T>(&self, text: impl Into<String>) -> Option<T> {
        self.document.report(self.offset, &self.path, text.into());
        None
    }

    /// The value of a key; `None` when there is none, or when this is no table (not noted).
    pub(super) fn get(&self, key: &str) -> Option<Node<'n, 't>> {
        let value = self.value.as_table()?.get(key)?;
        Some(self.child(join(&self.path, key), value))
    }

    /// True for a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The value as an error text shows it.
    pub(super) fn shown(&self) -> String {
        describe(self.value)
    }

    /// The path of its key.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The entries of a table; `None` when it is none (not noted).
    pub(super) fn entries(&self) -> Option<Vec<(&'n str, Node<'n, 't>)>> {
        let entry = |(key, value): (&'n Spanned<_>, &'n Spanned<_>)| {
            let key: &'n std::borrow::Cow<'t, str> = key.get_ref();
            (key.as_ref(), self.child(join(&self.path, key), value))
        };
        Some(self.value.as_table()?.iter().map(entry).collect())
    }

    /// The elements of an array; `None` when it is none (not noted).
    pub(super) fn items(&self) -> Option<Vec<Node<'n, 't>>> {
        let item = |(i, value): (usize, &'n Spanned<_>)| self.child(format!("{}[{i}]", self.path), value);
        Some(self.value.as_array()?.iter().enumerate().map(item).collect())
    }

    fn child(&self, path: String, value: &'n Spanned<DeValue<'t>>) -> Self {
        Node { document: self.document, path, value: value.get_ref(), offset: value.span().start }
    }

    /// The text of a string; `None` when it is none (not noted).
    pub(super) fn as_str(&self) -> Option<&'n str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of an integer; `None` when it is none or does not fit 128 bits (not noted).
    pub(super) fn as_integer(&self) -> Option<i128> {
        match self.value {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    /// An integer within a range.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let fits = self.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|n| range.contains(n));
        fits.or_else(|| self.expected(in_range(&range)))
    }

    /// An integer within a range, as a count.
    pub(super) fn count(&self, range: RangeInclusive<u64>) -> Option<usize> {
        usize::try_from(self.integer(range)?).ok()
    }

    /// A finite number, written as an integer or a fraction.
    pub(super) fn number(&self) -> Option<f64> {
        let text = match self.value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return self.expected("a number"),
        };
        text.parse().ok().filter(|number: &f64| number.is_finite()).or_else(|| self.expected("a finite number"))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.expected("true or false"))
    }

    /// A string that is not empty.
    pub(super) fn text(&self) -> Option<&'n str> {
        self.as_str().filter(|text| !text.is_empty()).or_else(|| self.expected("a string that is not empty"))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let found = self.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, value)| *value).or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.expected(words.join(" or "))
        })
    }
}

/// `an integer from 1 to 5`.
pub(super) fn in_range(range: &RangeInclusive<u64>) -> String {
    format!("an integer from {} to {}", range.start(), range.end())
}

/// The value as an error text shows it.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    const MAX_CHARS: usize = 40;
    let cut = |text: &str| text.chars().take(MAX_CHARS).collect::<String>();
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => cut(&number.to_string()),
        DeValue::Float(number) => cut(number.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The path of a key below `prefix`; keys that need quotes in TOML are shown quoted and escaped.
pub(super) fn join(prefix: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let key = if bare { key.to_owned() } else { quoted(key) };
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}
