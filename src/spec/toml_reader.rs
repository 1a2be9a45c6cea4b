//! Reads TOML texts key by key and collects every problem with its line and column: syntax errors, keys that nobody knows,
//! values of the wrong type or out of range. `model_toml` and `weir_toml` are lists of keys on top of this.

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
    root: DeTable<'t>,
    problems: RefCell<Vec<Problem>>,
    /// Lines with a syntax error: what the parser made of them is a guess, so nothing else is said about them.
    broken: Vec<usize>,
}

/// A value being read: what it is, where it is, and the path of its key.
pub(super) struct Node<'n, 't> {
    document: &'n Document<'t>,
    path: String,
    value: &'n DeValue<'t>,
    offset: usize,
}

impl<'t> Document<'t> {
    /// Parses the text and reports every key that is not in `known` (full paths of leaves; a leaf may be a table).
    pub(super) fn parse(text: &'t str, known: &[&str]) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::new(text);
        let mut problems = Vec::new();
        for error in errors.into_iter().take(MAX_PROBLEMS) {
            let place = lines.place(error.span().map_or(text.len(), |span| span.start));
            problems.push(place.problem("", error.message().trim()));
        }
        let broken = problems.iter().map(|problem| problem.line).collect();
        let document = Self { lines, root: root.into_inner(), problems: RefCell::new(problems), broken };
        document.check_keys(&document.root, "", known);
        document
    }

    fn check_keys(&self, table: &DeTable<'t>, prefix: &str, known: &[&str]) {
        for (key, value) in table {
            let path = join(prefix, key.get_ref());
            if known.contains(&path.as_str()) {
                continue;
            }
            let is_section = known.iter().any(|known| known.strip_prefix(&path).is_some_and(|k| k.starts_with('.')));
            match value.get_ref() {
                DeValue::Table(inner) if is_section => self.check_keys(inner, &path, known),
                other if is_section => {
                    self.report(value.span().start, &path, format!("expected a table, got {}", describe(other)));
                }
                _ => self.report(key.span().start, &path, nearest::unknown_key(&path, known)),
            }
        }
    }

    /// Reads one key; `None` when it is absent or wrong (then the problem is noted).
    pub(super) fn get<T>(&self, path: &str, read: impl FnOnce(&Node<'_, 't>) -> Option<T>) -> Option<(Place, T)> {
        let mut value: Option<&Spanned<DeValue<'t>>> = None;
        for part in path.split('.') {
            let table = match value {
                None => &self.root,
                Some(value) => value.get_ref().as_table()?,
            };
            value = Some(table.get(part)?);
        }
        let value = value?;
        let node = Node { document: self, path: path.to_owned(), value: value.get_ref(), offset: value.span().start };
        let place = self.lines.place(node.offset);
        read(&node).map(|read| (place, read))
    }

    /// Every problem in the order of the text; `Ok` when there is none.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        if problems.is_empty() { Ok(value) } else { Err(problems) }
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
fn join(prefix: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let key = if bare { key.to_owned() } else { quoted(key) };
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}
