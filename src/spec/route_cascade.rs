//! Reads what only a cascade has: stages with their measures and bounds, the budget and the calibration. A part of
//! `route_toml`.

use crate::types::{Accept, Calibration, CascadeSpec, Escalation, Measure, OnOverload, Stage};

use super::{
    route_keys::MAX_PARTS,
    route_toml::{read_part, read_word},
    toml_reader::Node,
};

const ON_OVERLOAD: [(&str, OnOverload); 2] = [("fail", OnOverload::Fail), ("best_so_far", OnOverload::BestSoFar)];
/// `cost` promises nothing: its alpha is the bound that was found.
const METHODS: [(&str, &str); 3] = [("harm", "harm"), ("net", "net"), ("cost", "cost")];
const SHA256_HEX: usize = 64;

/// The words of `measure`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    MaxProb,
    Margin,
    Certainty,
    Band,
}

const MEASURES: [(&str, Word); 4] =
    [("max_prob", Word::MaxProb), ("margin", Word::Margin), ("certainty", Word::Certainty), ("band", Word::Band)];

/// The cascade and its calibration.
pub(super) fn read(root: &Node<'_, '_>) -> (Option<CascadeSpec>, Option<Option<Calibration>>) {
    let stages = root.tables("stage", 2..=MAX_PARTS).and_then(|tables| {
        let last = tables.len() - 1;
        let read: Vec<_> = tables.iter().enumerate().map(|(i, table)| read_stage(table, i == last)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let budget = root.section("budget").and_then(|budget| match budget {
        Some(budget) => read_budget(&budget, stages.as_deref().and_then(<[Stage]>::first)),
        None => Some((None, OnOverload::default())),
    });
    let calibration = root.section("calibration").and_then(|calibration| match calibration {
        Some(calibration) => read_calibration(&calibration, stages.as_deref()).map(Some),
        None => Some(None),
    });
    let cascade = stages.zip(budget);
    (cascade.map(|(stages, (escalation, on_overload))| CascadeSpec { stages, escalation, on_overload }), calibration)
}

fn read_stage(stage: &Node<'_, '_>, last: bool) -> Option<Stage> {
    let part = read_part(stage);
    let accept = match (last, stage.section("accept")?) {
        (false, Some(accept)) => read_accept(&accept).map(Some),
        (true, None) => Some(None),
        (true, Some(accept)) => accept.wrong("the last stage answers every row: expected no 'accept'"),
        (false, None) => stage.wrong("expected the key 'accept': only the last stage answers every row"),
    };
    Some(Stage { part: part?, accept: accept? })
}

fn read_accept(accept: &Node<'_, '_>) -> Option<Accept> {
    let output = accept.required("output", "the output that is looked at", read_word);
    let measure =
        accept.required("measure", "\"max_prob\", \"margin\", \"certainty\" or \"band\"", |node| node.word(&MEASURES));
    let measure = measure.and_then(|word| read_measure(accept, word));
    let softmax = accept.optional("softmax", |node| node.boolean());
    let temperature = accept.optional("temperature", |node| {
        let temperature = node.number()?;
        if temperature <= 0.0 {
            return node.expected("a temperature above 0");
        }
        #[expect(clippy::float_cmp, reason = "exactly 1 is the temperature that changes nothing")]
        if temperature != 1.0 && matches!(softmax, Some(None | Some(false))) {
            return node.wrong("a temperature divides logits: expected softmax = true beside it");
        }
        Some(temperature)
    });
    Some(Accept {
        output: output?,
        measure: measure?,
        softmax: softmax?.unwrap_or(false),
        temperature: temperature?.unwrap_or(1.0),
    })
}

/// The bounds of a measure, and no others.
fn read_measure(accept: &Node<'_, '_>, word: Word) -> Option<Measure> {
    if word == Word::Band {
        let foreign = no_other_bound(accept, &["at_least"], "band");
        let below = accept.required("below", "a sure no up to here", |node| node.number());
        let above = accept.required("above", "a sure yes from here on", |node| node.number());
        let (below, above) = (below?, above?);
        if below > above {
            return accept.wrong(format!("expected below at most above, got below = {below} and above = {above}"));
        }
        foreign?;
        return Some(Measure::Band { below, above });
    }
    let name = MEASURES.iter().find(|(_, measure)| *measure == word).map_or("", |(name, _)| *name);
    let foreign = no_other_bound(accept, &["below", "above"], name);
    let at_least = accept.required("at_least", "accepted from here on", |node| node.number_in(0.0..=1.0));
    foreign?;
    let at_least = at_least?;
    Some(match word {
        Word::MaxProb => Measure::MaxProb { at_least },
        Word::Margin => Measure::Margin { at_least },
        Word::Certainty | Word::Band => Measure::Certainty { at_least },
    })
}

fn no_other_bound(accept: &Node<'_, '_>, others: &[&str], measure: &str) -> Option<()> {
    let own = if measure == "band" { "'below' and 'above'" } else { "'at_least'" };
    let mut good = Some(());
    for other in others.iter().filter_map(|key| accept.get(key)) {
        good = other.wrong(format!("not a bound of measure = \"{measure}\": expected {own}"));
    }
    good
}

fn read_budget(budget: &Node<'_, '_>, first: Option<&Stage>) -> Option<(Option<Escalation>, OnOverload)> {
    let at_most = budget.optional("escalate_at_most", |node| node.number_in(0.0..=1.0));
    let floor = budget.optional("floor", |node| {
        let floor = node.number_in(0.0..=1.0)?;
        match first.and_then(|stage| stage.accept.as_ref()?.measure.at_least()) {
            Some(at_least) if floor > at_least => {
                node.wrong(format!("expected at most stage[0].accept.at_least = {at_least}, got {floor}"))
            }
            _ => Some(floor),
        }
    });
    let on_overload = budget.optional("on_overload", |node| node.word(&ON_OVERLOAD));
    let escalation = match (budget.get("escalate_at_most"), budget.get("floor")) {
        (None, None) => Some(None),
        (Some(_), None) => budget.wrong("expected the key 'floor': how low the threshold may be moved"),
        (None, Some(floor)) => floor.wrong("a floor alone does nothing: expected escalate_at_most beside it"),
        (Some(share), Some(_)) if first.and_then(|stage| stage.accept.as_ref()).is_some_and(is_band) => {
            share.wrong("the first stage has measure = \"band\": expected one with a threshold that can be moved")
        }
        (Some(_), Some(_)) => match (at_most, floor) {
            (Some(Some(at_most)), Some(Some(floor))) => Some(Some(Escalation { at_most, floor })),
            _ => None,
        },
    };
    Some((escalation?, on_overload?.unwrap_or_default()))
}

fn is_band(accept: &Accept) -> bool {
    accept.measure.at_least().is_none()
}

fn read_calibration(calibration: &Node<'_, '_>, stages: Option<&[Stage]>) -> Option<Calibration> {
    let alpha = calibration.required("alpha", "the loss that is allowed", |node| node.number_in(0.0..=1.0));
    let delta = calibration.required("delta", "the chance that more is lost", |node| node.number_in(0.0..=1.0));
    let n = calibration.required("n", "the number of labelled rows", |node| node.integer(1..=u64::from(u32::MAX)));
    let method = calibration.required("method", "\"harm\", \"net\" or \"cost\"", |node| node.word(&METHODS));
    let date = calibration.required("date", "when, as \"YYYY-MM-DD\"", read_date);
    let thresholds = calibration.required("thresholds", "at_least of every stage but the last", |node| {
        let thresholds = node.list("thresholds", |item| item.number_in(0.0..=1.0))?;
        if stages.is_some_and(|stages| !same_thresholds(&thresholds, stages)) {
            return node.wrong("thresholds differ from the stages': recalibrate or remove [calibration]");
        }
        Some(thresholds)
    });
    let digests = calibration.required("digests", "the SHA-256 of every stage's model file", |node| {
        let digests = node.list("digests", read_digest)?;
        match stages.map(<[Stage]>::len) {
            Some(count) if count != digests.len() => node.wrong(format!(
                "expected a digest for each of the {count} stages, got {}: recalibrate or remove [calibration]",
                digests.len()
            )),
            _ => Some(digests),
        }
    });
    Some(Calibration {
        alpha: alpha?,
        delta: delta?,
        n: n?,
        method: method?.into(),
        date: date?,
        thresholds: thresholds?,
        digests: digests?,
    })
}

/// Bit for bit: a threshold that was edited, however little, is not the one that was calibrated.
fn same_thresholds(thresholds: &[f64], stages: &[Stage]) -> bool {
    let bits = |value: f64| Some(value.to_bits());
    let accepts = stages.iter().filter_map(|stage| stage.accept.as_ref());
    let own = accepts.map(|accept| accept.measure.at_least().and_then(bits));
    own.eq(thresholds.iter().map(|threshold| bits(*threshold)))
}

/// `YYYY-MM-DD`, as a string.
fn read_date(node: &Node<'_, '_>) -> Option<Box<str>> {
    let is_date = |text: &&str| {
        let form = text.len() == 10
            && text.bytes().enumerate().all(|(i, b)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
        let field = |range| text.get(range).and_then(|field: &str| field.parse::<u8>().ok()).unwrap_or(0);
        form && (1..=12).contains(&field(5..7)) && (1..=31).contains(&field(8..10))
    };
    node.as_str().filter(is_date).map(Into::into).or_else(|| node.expected("a date as a string \"YYYY-MM-DD\""))
}

fn read_digest(node: &Node<'_, '_>) -> Option<Box<str>> {
    let is_digest = |text: &&str| {
        text.len() == SHA256_HEX && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let digest = node.as_str().filter(is_digest).map(Into::into);
    digest.or_else(|| node.expected(format_args!("a SHA-256 of {SHA256_HEX} lower-case hexadecimal digits")))
}
