//! Writes a route as the text of a `route.toml`: one canonical form, read back as the same route. Called by the keeper of the
//! routes for configurations that come as JSON, and by `route_json` for those that leave as JSON.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use crate::types::{
    Accept, Calibration, CascadeSpec, CaseTest, EnsembleSpec, KeySource, Measure, OnOverload, PartRef, RouteKind,
    RouteSpec, Rule, SplitSpec, SwitchSpec, TextTest, VersionRef,
};

/// Up to here every integer is a number of its own in 64-bit floating point.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// The text of a `route.toml` with this configuration. It is read back as the same route.
pub fn route_to_toml(route: &RouteSpec) -> String {
    document(route).to_string()
}

/// The route as a document with keys in the order of the documentation.
pub(super) fn document(route: &RouteSpec) -> DocumentMut {
    let mut document = DocumentMut::new();
    let root = document.as_table_mut();
    root.insert("kind", value(route.kind.as_str()));
    if let Some(outputs) = &route.outputs {
        root.insert("outputs", value(texts(outputs)));
    }
    match &route.kind {
        RouteKind::Split(split) => write_split(root, split),
        RouteKind::Cascade(cascade) => write_cascade(root, cascade),
        RouteKind::Switch(switch) => write_switch(root, switch),
        RouteKind::Ensemble(ensemble) => write_ensemble(root, ensemble),
    }
    if let Some(calibration) = &route.calibration {
        let mut table = Table::new();
        for (key, field) in calibration_fields(calibration) {
            table.insert(key, Item::Value(field));
        }
        root.insert("calibration", Item::Table(table));
    }
    document
}

fn write_split(root: &mut Table, split: &SplitSpec) {
    if !split.keys.is_empty() {
        let keys = split.keys.iter().map(|key| {
            let (place, name) = source(key);
            format!("{place}:{name}")
        });
        root.insert("key", value(keys.collect::<Array>()));
    }
    if let Some(salt) = &split.salt {
        root.insert("salt", value(&**salt));
    }
    let variants = split.variants.iter().map(|variant| {
        let mut table = Table::new();
        table.insert("name", value(&*variant.name));
        write_part(&mut table, &variant.part);
        table.insert("weight", value(weight(variant.weight)));
        table
    });
    root.insert("variant", tables(variants));
    if !split.rules.is_empty() {
        root.insert("rule", tables(split.rules.iter().map(|rule| rule_table(rule, split))));
    }
    if let Some(shadow) = &split.shadow {
        let mut table = Table::new();
        write_part(&mut table, &shadow.part);
        table.insert("sample", value(shadow.sample));
        root.insert("shadow", Item::Table(table));
    }
}

fn rule_table(rule: &Rule, split: &SplitSpec) -> Table {
    let mut when = InlineTable::new();
    let (place, name) = source(&rule.source);
    when.insert(place, name.into());
    match &rule.test {
        TextTest::Equals(text) => when.insert("equals", (&**text).into()),
        TextTest::In(list) => when.insert("in", texts(list).into()),
        TextTest::Prefix(text) => when.insert("prefix", (&**text).into()),
    };
    let mut table = Table::new();
    table.insert("when", value(when));
    let variant = split.variants.get(rule.variant).map_or("", |variant| &*variant.name);
    table.insert("variant", value(variant));
    table
}

fn source(key: &KeySource) -> (&'static str, &str) {
    match key {
        KeySource::Parameter(name) => ("parameter", name),
        KeySource::Header(name) => ("header", name),
        KeySource::Input(name) => ("input", name),
    }
}

fn write_cascade(root: &mut Table, cascade: &CascadeSpec) {
    let stages = cascade.stages.iter().map(|stage| {
        let mut table = Table::new();
        write_part(&mut table, &stage.part);
        if let Some(accept) = &stage.accept {
            table.insert("accept", value(accept_table(accept)));
        }
        table
    });
    root.insert("stage", tables(stages));
    let mut budget = Table::new();
    if let Some(escalation) = cascade.escalation {
        budget.insert("escalate_at_most", value(escalation.at_most));
        budget.insert("floor", value(escalation.floor));
    }
    if cascade.on_overload == OnOverload::BestSoFar {
        budget.insert("on_overload", value("best_so_far"));
    }
    if !budget.is_empty() {
        root.insert("budget", Item::Table(budget));
    }
}

fn accept_table(accept: &Accept) -> InlineTable {
    let mut table = InlineTable::new();
    table.insert("output", (&*accept.output).into());
    table.insert("measure", accept.measure.as_str().into());
    match accept.measure {
        Measure::MaxProb { at_least } | Measure::Margin { at_least } | Measure::Certainty { at_least } => {
            table.insert("at_least", at_least.into());
        }
        Measure::Band { below, above } => {
            table.insert("below", below.into());
            table.insert("above", above.into());
        }
    }
    if accept.softmax {
        table.insert("softmax", true.into());
        table.insert("temperature", accept.temperature.into());
    }
    table
}

fn write_switch(root: &mut Table, switch: &SwitchSpec) {
    let mut selector = Table::new();
    write_part(&mut selector, &switch.selector.part);
    selector.insert("output", value(&*switch.selector.output));
    if let Some(class) = switch.selector.class {
        selector.insert("class", value(integer(class)));
    }
    root.insert("selector", value(selector.into_inline_table()));
    let cases = switch.cases.iter().map(|case| {
        let mut table = Table::new();
        table.insert("name", value(&*case.name));
        match &case.when {
            Some(CaseTest::AtLeast(bound)) => table.insert("at_least", value(*bound)),
            Some(CaseTest::Integers(list)) => table.insert("equals", value(list.iter().copied().collect::<Array>())),
            Some(CaseTest::Texts(list)) => table.insert("equals", value(texts(list))),
            None => None,
        };
        write_part(&mut table, &case.part);
        table
    });
    root.insert("case", tables(cases));
}

fn write_ensemble(root: &mut Table, ensemble: &EnsembleSpec) {
    root.insert("combine", value(ensemble.combine.as_str()));
    if let Some(quorum) = ensemble.quorum {
        root.insert("quorum", value(integer(quorum)));
    }
    if ensemble.disagreement {
        root.insert("disagreement", value(true));
    }
    let members = ensemble.members.iter().map(|member| {
        let mut table = Table::new();
        write_part(&mut table, &member.part);
        #[expect(clippy::float_cmp, reason = "exactly 1 is the default")]
        if member.weight != 1.0 {
            table.insert("weight", value(weight(member.weight)));
        }
        table
    });
    root.insert("member", tables(members));
}

fn write_part(table: &mut Table, part: &PartRef) {
    table.insert("model", value(part.name.as_str()));
    if part.version != VersionRef::Policy {
        table.insert("version", value(part.version.to_string()));
    }
}

/// The keys of `[calibration]` in their order.
pub(super) fn calibration_fields(calibration: &Calibration) -> [(&'static str, Value); 7] {
    [
        ("alpha", calibration.alpha.into()),
        ("delta", calibration.delta.into()),
        ("n", i64::try_from(calibration.n).unwrap_or(i64::MAX).into()),
        ("method", (&*calibration.method).into()),
        ("date", (&*calibration.date).into()),
        ("thresholds", calibration.thresholds.iter().copied().collect::<Array>().into()),
        ("digests", texts(&calibration.digests).into()),
    ]
}

/// A weight as people write it: an integer where it is one.
pub(super) fn weight(weight: f64) -> Value {
    if weight.fract() == 0.0 && weight.abs() <= EXACT_INTEGERS {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53 fits")]
        let whole = weight as i64;
        whole.into()
    } else {
        weight.into()
    }
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn texts(list: &[Box<str>]) -> Array {
    list.iter().map(|text| &**text).collect()
}

fn tables(tables: impl Iterator<Item = Table>) -> Item {
    Item::ArrayOfTables(tables.collect::<ArrayOfTables>())
}

fn value(of: impl Into<Value>) -> Item {
    Item::Value(of.into())
}
