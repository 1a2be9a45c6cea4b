//! Reads what only a split has: sticky keys, variants with weights, rules and a shadow. A part of `route_toml`.

use crate::types::{KeySource, PartRef, Rule, Shadow, SplitSpec, TextTest, Variant};

use super::{
    nearest,
    route_keys::{MAX_PARTS, MAX_RULES},
    route_toml::{is_word, read_name, read_part, read_word},
    toml_reader::Node,
    toml_tables::unique,
};

/// The most places where a key is looked for.
const MAX_KEYS: usize = 16;

pub(super) fn read(root: &Node<'_, '_>) -> Option<SplitSpec> {
    let keys = root.optional("key", read_keys);
    let salt = root.optional("salt", read_word);
    let tables = root.tables("variant", 1..=MAX_PARTS);
    let names: Option<Vec<_>> = tables.as_ref().map(|tables| tables.iter().map(variant_name).collect());
    let variants = tables.zip(names.as_ref()).and_then(|(tables, names)| read_variants(root, &tables, names));
    let rules = root.tables("rule", 0..=MAX_RULES).map(|rules| {
        let read: Vec<_> = rules.iter().map(|rule| read_rule(rule, names.as_deref())).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let shadow = root.section("shadow").map(|shadow| shadow.map(|shadow| read_shadow(&shadow)));
    let shadow = match shadow? {
        Some(shadow) => Some(shadow?),
        None => None,
    };
    Some(SplitSpec { keys: keys?.unwrap_or_default(), salt: salt?, variants: variants?, rules: rules??, shadow })
}

fn read_keys(node: &Node<'_, '_>) -> Option<Vec<KeySource>> {
    const OF: &str = "places, for example [\"parameter:user_id\", \"header:x-user-id\", \"input:user_id\"]";
    let keys = node.distinct(OF, read_key)?;
    if keys.len() > MAX_KEYS {
        return node.wrong(format!("expected at most {MAX_KEYS} places, got {}", keys.len()));
    }
    Some(keys)
}

fn read_key(node: &Node<'_, '_>) -> Option<KeySource> {
    let Some((kind, name)) = node.as_str().and_then(|text| text.split_once(':')) else {
        return node.expected("parameter:NAME, header:NAME or input:NAME");
    };
    match kind {
        "header" if is_header_name(name) => Some(KeySource::Header(name.to_ascii_lowercase().into())),
        "header" => node.expected("header: and the name of a header"),
        "parameter" if is_word(name) => Some(KeySource::Parameter(name.into())),
        "parameter" => node.expected("parameter: and the name of a request parameter"),
        "input" if is_word(name) => Some(KeySource::Input(name.into())),
        "input" => node.expected("input: and the name of an input"),
        _ => node.expected("parameter:NAME, header:NAME or input:NAME"),
    }
}

/// True for what HTTP calls a token. Metadata whose name ends in `-bin` is not text and cannot be a key.
fn is_header_name(name: &str) -> bool {
    is_word(name)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        && !name.to_ascii_lowercase().ends_with("-bin")
}

fn variant_name(variant: &Node<'_, '_>) -> Option<Box<str>> {
    variant.required("name", "what the variant is called", read_name)
}

fn read_variants(root: &Node<'_, '_>, tables: &[Node<'_, '_>], names: &[Option<Box<str>>]) -> Option<Vec<Variant>> {
    let distinct = unique(names, tables, "name");
    let parts: Vec<Option<PartRef>> = tables.iter().map(read_part).collect();
    let weights: Vec<_> = tables.iter().map(read_weight).collect();
    let sum: Option<f64> = weights.iter().copied().sum();
    if let Some(sum) = sum.filter(|sum| *sum <= 0.0 || !sum.is_finite()) {
        return root.get("variant")?.wrong(format!("expected weights with a positive, finite sum, got {sum}"));
    }
    distinct?;
    let variants = names.iter().zip(parts).zip(weights);
    variants.map(|((name, part), weight)| Some(Variant { name: name.clone()?, part: part?, weight: weight? })).collect()
}

fn read_weight(variant: &Node<'_, '_>) -> Option<f64> {
    variant.required("weight", "its share relative to the other variants", |node| {
        let weight = node.number()?;
        // The sum makes a zero of a negative one.
        if weight >= 0.0 { Some(weight + 0.0) } else { node.expected("a weight of at least 0") }
    })
}

fn read_rule(rule: &Node<'_, '_>, names: Option<&[Option<Box<str>>]>) -> Option<Rule> {
    let when =
        rule.required("when", "what the rule looks at and for", |node| node.is_table().then(|| rule.get("when"))?);
    let source = when.as_ref().and_then(read_source);
    let test = when.as_ref().and_then(read_test);
    let variant = rule.required("variant", "the name of the variant that answers", |node| {
        let name = node.text()?;
        let names = names?;
        let at = names.iter().position(|known| known.as_deref() == Some(name));
        // A name that could not be read may be the one that is meant.
        let known: Vec<_> = names.iter().map(Option::as_deref).collect::<Option<_>>()?;
        at.or_else(|| node.wrong(nearest::unknown_name("variant", name, &known)))
    });
    Some(Rule { source: source?, test: test?, variant: variant? })
}

fn read_source(when: &Node<'_, '_>) -> Option<KeySource> {
    match when.exactly_one(&["header", "parameter"])? {
        ("header", node) => {
            let name = node.as_str().filter(|name| is_header_name(name));
            let Some(name) = name else { return node.expected("the name of a header") };
            Some(KeySource::Header(name.to_ascii_lowercase().into()))
        }
        (_, node) => read_word(&node).map(KeySource::Parameter),
    }
}

fn read_test(when: &Node<'_, '_>) -> Option<TextTest> {
    let text = |node: &Node<'_, '_>| -> Option<Box<str>> {
        node.as_str().map(Into::into).or_else(|| node.expected("a string"))
    };
    match when.exactly_one(&["equals", "in", "prefix"])? {
        ("equals", node) => text(&node).map(TextTest::Equals),
        ("in", node) => node.list("strings", text).map(TextTest::In),
        (_, node) => node.text().map(|prefix| TextTest::Prefix(prefix.into())),
    }
}

fn read_shadow(shadow: &Node<'_, '_>) -> Option<Shadow> {
    let part = read_part(shadow);
    let sample = shadow.required("sample", "the share of the keys that is mirrored", |node| node.number_in(0.0..=1.0));
    Some(Shadow { part: part?, sample: sample? })
}
