//! Reads what only a switch has: the selector and the cases with their conditions. A part of `route_toml`.

use crate::types::{Case, CaseTest, Selector, SwitchSpec};

use super::{
    route_keys::MAX_PARTS,
    route_toml::{read_name, read_part, read_word},
    toml_reader::Node,
    toml_tables::unique,
};

/// The most columns that an output is expected to have.
const MAX_CLASS: u64 = 1 << 24;

pub(super) fn read(root: &Node<'_, '_>) -> Option<SwitchSpec> {
    let selector = match root.section("selector") {
        Some(Some(selector)) => read_selector(&selector),
        Some(None) => root.wrong("expected the key 'selector': the model that chooses a case"),
        None => None,
    };
    let cases = root.tables("case", 1..=MAX_PARTS).and_then(|tables| read_cases(&tables));
    Some(SwitchSpec { selector: selector?, cases: cases? })
}

fn read_selector(selector: &Node<'_, '_>) -> Option<Selector> {
    let part = read_part(selector);
    let output = selector.required("output", "the output that chooses", read_word);
    let class = selector.optional("class", |node| node.count(0..=MAX_CLASS));
    Some(Selector { part: part?, output: output?, class: class? })
}

fn read_cases(tables: &[Node<'_, '_>]) -> Option<Vec<Case>> {
    let name = |case: &Node<'_, '_>| case.required("name", "what the case is called", read_name);
    let names: Vec<_> = tables.iter().map(name).collect();
    let distinct = unique(&names, tables, "name");
    let last = tables.len() - 1;
    let case = |(i, (case, name)): (usize, (&Node<'_, '_>, Option<Box<str>>))| {
        let part = read_part(case);
        let when = if i == last { no_condition(case).map(|()| None) } else { read_condition(case).map(Some) };
        Some(Case { name: name?, when: when?, part: part? })
    };
    let cases: Vec<_> = tables.iter().zip(names).enumerate().map(case).collect();
    distinct?;
    cases.into_iter().collect()
}

fn no_condition(case: &Node<'_, '_>) -> Option<()> {
    let mut good = Some(());
    for node in ["at_least", "equals"].iter().filter_map(|key| case.get(key)) {
        good = node.wrong("the last case takes every row that is left: expected no condition");
    }
    good
}

fn read_condition(case: &Node<'_, '_>) -> Option<CaseTest> {
    match case.exactly_one(&["at_least", "equals"])? {
        ("at_least", node) => node.number().map(CaseTest::AtLeast),
        (_, node) => read_equals(&node),
    }
}

/// Integers or strings, by what the first one is.
fn read_equals(node: &Node<'_, '_>) -> Option<CaseTest> {
    let items = node.items().unwrap_or_default();
    if items.first().is_some_and(|first| first.as_str().is_some()) {
        let text =
            |item: &Node<'_, '_>| item.as_str().map(Into::into).or_else(|| item.expected("a string as the first one"));
        return node.list("strings", text).map(CaseTest::Texts);
    }
    let like = if items.first().is_some_and(|first| first.as_integer().is_some()) {
        " as the first one"
    } else {
        " or a string"
    };
    let number = |item: &Node<'_, '_>| {
        let number = item.as_integer().and_then(|number| i64::try_from(number).ok());
        number.or_else(|| item.expected(format_args!("an integer{like}")))
    };
    node.list("integers or of strings", number).map(CaseTest::Integers)
}
