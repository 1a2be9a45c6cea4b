//! What `weir split` shows. Pure.

use serde_json::Value;

use super::{
    bar::Bars,
    state::{Assignment, Changed, History, Route, Routes, Weights},
};
use crate::cli::table::{Cell, Paint, Table, Tone, clean};

/// Cells of a bar.
const WIDTH: usize = 20;

/// A change, from and to.
#[derive(Debug)]
pub(super) struct Change<'c> {
    /// `None`: the route was not there.
    pub(super) before: Option<&'c Route>,
    pub(super) after: &'c Changed,
    pub(super) dry_run: bool,
}

/// All routes, a line each.
pub(super) fn overview(routes: &Routes, paint: Paint) -> String {
    let mut table = Table::new(&["ROUTE", "KIND", "REVISION", "WEIGHTS", "AT", "WHO", "WHY"]);
    for route in &routes.routes {
        let weights: Vec<_> = route.weights.0.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
        let kind = match route.kind.as_deref() {
            Some(kind) => Cell::from(kind),
            None => Cell::new("not served", Tone::Bad),
        };
        let text = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or_default());
        table.row([
            route.name.as_str().into(),
            kind,
            route.revision.map(|revision| revision.to_string()).unwrap_or_default().into(),
            weights.join(" ").into(),
            text(&route.at),
            text(&route.who),
            text(&route.why),
        ]);
    }
    let problems = routes.routes.iter().flat_map(|route| &route.problems);
    format!("{}{}", table.render(paint), self::problems(problems, paint))
}

/// One split: what it does, and its weights.
pub(super) fn split(route: &Route, paint: Paint, bars: Bars) -> String {
    let heading = format!("{} revision {}", clean(&route.name), route.revision.unwrap_or(0));
    let mut text = format!("{}\n", paint.paint(Tone::Strong, &heading));
    for (name, value) in facts(route) {
        text.push_str(&format!("  {name:<6} {}\n", clean(&value)));
    }
    let mut table = Table::new(&["VARIANT", "MODEL", "VERSION", "WEIGHT", "SHARE", "BAR"]);
    for variant in route.route.iter().flat_map(|spec| &spec.variant) {
        let [weight, share, bar] = weight(route.weights.of(&variant.name), bars);
        table.row([
            variant.name.as_str().into(),
            variant.model.as_str().into(),
            version(variant.version.as_ref()).into(),
            weight,
            share,
            bar,
        ]);
    }
    text.push_str(&table.render(paint));
    if !route.writable {
        text.push_str("its folder cannot be written to: changes are lost when the gateway ends\n");
    }
    text.push_str(&problems(&route.problems, paint));
    text
}

fn facts(route: &Route) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>| facts.extend(value.filter(|v| !v.is_empty()).map(|v| (name, v)));
    fact("at", route.at.clone());
    fact("who", route.who.clone());
    fact("why", route.why.clone());
    if let Some(spec) = &route.route {
        let random = || "none: every request is assigned at random".to_owned();
        fact("key", Some(if spec.key.is_empty() { random() } else { spec.key.join(", ") }));
        let rules = spec.rule.len();
        fact("rules", (rules > 0).then(|| format!("{rules}, looked at before the weights")));
        fact(
            "shadow",
            spec.shadow.as_ref().map(|shadow| {
                let version = shadow.version.as_ref().map(|v| format!(" version {}", self::version(Some(v))));
                format!("{}{} sees {}", shadow.model, version.unwrap_or_default(), percent(shadow.sample))
            }),
        );
    }
    facts
}

/// Both sides of a change, and what it does to keys and models.
pub(super) fn change(change: &Change<'_>, paint: Paint, bars: Bars) -> String {
    let Change { before, after, dry_run } = change;
    let was = match before.map(|route| route.revision) {
        Some(Some(revision)) => format!("was {revision}"),
        Some(None) => "was not served".to_owned(),
        None => "was not there".to_owned(),
    };
    let heading = if *dry_run {
        format!("would be revision {}, {was}; nothing has been changed", after.revision)
    } else {
        format!("revision {}, {was}", after.revision)
    };
    let mut text = format!("{}\n", paint.paint(Tone::Strong, &heading));
    let none = Weights::default();
    let old = before.map_or(&none, |route| &route.weights);
    let gone = old.0.iter().filter(|(name, _)| after.weights.of(name).is_none());
    let mut table = Table::new(&["VARIANT", "BEFORE", "SHARE", "BAR", "AFTER", "SHARE", "BAR"]);
    for (name, _) in after.weights.0.iter().chain(gone) {
        let (before, after) = (weight(old.of(name), bars), weight(after.weights.of(name), bars));
        table.row([name.as_str().into()].into_iter().chain(before).chain(after));
    }
    if !after.weights.0.is_empty() || !old.0.is_empty() {
        text.push_str(&table.render(paint));
        text.push_str(&format!("moves    {} of the keys\n", percent(after.moved)));
    }
    for (name, versions) in [("loads", &after.loads), ("unloads", &after.unloads)] {
        if !versions.is_empty() {
            text.push_str(&format!("{name:<8} {}\n", clean(&versions.join(", "))));
        }
    }
    text.push_str(&problems(&after.problems, paint));
    text
}

/// Every revision, a line each.
pub(super) fn history(history: &History, paint: Paint) -> String {
    let mut table = Table::new(&["REVISION", "AT", "WHO", "FROM", "WHY"]);
    for revision in &history.revisions {
        let from = if revision.from == 0 { String::new() } else { revision.from.to_string() };
        let (at, who, why) = (revision.at.as_str(), revision.who.as_str(), revision.why.as_str());
        table.row([revision.revision.into(), at.into(), who.into(), from.into(), why.into()]);
    }
    table.render(paint)
}

/// Every key, a line each.
pub(super) fn assignments(assignments: &[Assignment], paint: Paint) -> String {
    let mut table = Table::new(&["KEY", "VARIANT", "U", "REVISION"]);
    for Assignment { key, variant, u, revision, .. } in assignments {
        table.row([key.as_str().into(), variant.as_str().into(), format!("{u:.6}").into(), (*revision).into()]);
    }
    let random = assignments.iter().any(|assignment| !assignment.sticky);
    let note = if random { "the split looks at no key: requests are assigned at random\n" } else { "" };
    format!("{}{note}", table.render(paint))
}

fn weight(found: Option<(f64, f64)>, bars: Bars) -> [Cell; 3] {
    let Some((weight, share)) = found else { return ["", "", ""].map(Cell::from) };
    [weight.to_string().into(), percent(share).into(), Cell::new(bars.draw(share, WIDTH), Tone::Good)]
}

/// Two decimals at most, and none that say nothing.
fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.00005 {
        return "< 0.01 %".to_owned();
    }
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn version(version: Option<&Value>) -> String {
    match version {
        None | Some(Value::Null) => "by policy".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn problems<'p>(problems: impl IntoIterator<Item = &'p String>, paint: Paint) -> String {
    let line = |problem| format!("{} {}\n", paint.paint(Tone::Bad, "problem:"), clean(problem));
    problems.into_iter().map(|problem| line(problem)).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
