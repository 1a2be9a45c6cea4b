//! Reads tables within tables: keys that are required or optional, sections, arrays of tables, and keys of which exactly one
//! must be there. A second half of `toml_reader`, used by `route_toml` and its parts.
//!
//! A reader answers `None` when a problem was noted; an optional key answers `Some(None)` when it is absent.

use std::ops::RangeInclusive;

use super::toml_reader::Node;

impl<'n, 't> Node<'n, 't> {
    /// A key that must be there; `meaning` says what it is for.
    pub(super) fn required<T>(
        &self,
        key: &str,
        meaning: &str,
        read: impl FnOnce(&Node<'n, 't>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(node) => read(&node),
            None => self.wrong(format!("expected the key '{key}': {meaning}")),
        }
    }

    /// A key that may be absent.
    pub(super) fn optional<T>(&self, key: &str, read: impl FnOnce(&Node<'n, 't>) -> Option<T>) -> Option<Option<T>> {
        match self.get(key) {
            Some(node) => read(&node).map(Some),
            None => Some(None),
        }
    }

    /// A table that may be absent. Anything else in its place was noted when the keys were checked.
    pub(super) fn section(&self, key: &str) -> Option<Option<Node<'n, 't>>> {
        self.optional(key, |node| node.is_table().then(|| self.get(key))?)
    }

    /// An array of tables, written `[[key]]`, of as many as `range` allows; 0 at least means that it may be absent. What is no
    /// table was noted when the keys were checked.
    pub(super) fn tables(&self, key: &str, range: RangeInclusive<usize>) -> Option<Vec<Node<'n, 't>>> {
        let expected = format!("expected {} to {} [[{key}]]", range.start(), range.end());
        let Some(node) = self.get(key) else {
            return if range.contains(&0) { Some(Vec::new()) } else { self.wrong(format!("{expected}, got none")) };
        };
        let items = node.items()?;
        if !range.contains(&items.len()) {
            return node.wrong(format!("{expected}, got {}", items.len()));
        }
        items.iter().all(Node::is_table).then_some(items)
    }

    /// The one of `keys` that is there.
    pub(super) fn exactly_one<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, Node<'n, 't>)> {
        let mut there: Vec<_> = keys.iter().filter_map(|key| Some((*key, self.get(key)?))).collect();
        if there.len() == 1 {
            return there.pop();
        }
        let list = |keys: &[&str], word: &str| format!("'{}'", keys.join(&format!("' {word} '")));
        let names: Vec<_> = there.iter().map(|(key, _)| *key).collect();
        let got = if names.is_empty() { "none".to_owned() } else { list(&names, "and") };
        self.wrong(format!("expected exactly one of {}, got {got}", list(keys, "or")))
    }

    /// A finite number within a range.
    pub(super) fn number_in(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = self.number()?;
        if range.contains(&number) {
            Some(number)
        } else {
            self.expected(format_args!("a number from {} to {}", range.start(), range.end()))
        }
    }

    /// A list of things that differ, each read by `read`; it may be empty.
    pub(super) fn distinct<T: PartialEq>(&self, of: &str, read: impl Fn(&Node<'n, 't>) -> Option<T>) -> Option<Vec<T>> {
        let Some(items) = self.items() else { return self.expected(format_args!("a list of {of}")) };
        let read: Vec<_> = items.iter().map(read).collect();
        let mut good = Some(());
        for (i, thing) in read.iter().enumerate() {
            if thing.is_some() && read[..i].contains(thing) {
                good = items[i].wrong(format!("{} is listed twice", items[i].shown()));
            }
        }
        good?;
        read.into_iter().collect()
    }

    /// A list with at least one element, each read by `read`.
    pub(super) fn list<T>(&self, of: &str, read: impl Fn(&Node<'n, 't>) -> Option<T>) -> Option<Vec<T>> {
        let Some(items) = self.items() else { return self.expected(format_args!("a list of {of}")) };
        if items.is_empty() {
            return self.wrong(format!("expected a list of {of}, got an empty one"));
        }
        let read: Vec<_> = items.iter().map(read).collect();
        read.into_iter().collect()
    }
}

/// Notes every name that an earlier one of the list has; `None` when there is one. `whose` are the nodes of the names.
pub(super) fn unique<N: PartialEq>(names: &[Option<N>], whose: &[Node<'_, '_>], key: &str) -> Option<()> {
    let mut good = Some(());
    for (i, name) in names.iter().enumerate() {
        let earlier = names[..i].iter().position(|other| name.is_some() && other == name);
        if let Some(first) = earlier {
            let node = whose[i].get(key);
            good = node.as_ref().unwrap_or(&whose[i]).wrong(format!("{} has this name already", whose[first].path()));
        }
    }
    good
}
