//! The keys of `route.toml` by kind of route, and the limits that hold for all of them. `route_toml` checks texts against this
//! list; the documentation is held to it by a test.

/// The most bytes that a `route.toml` may have.
pub(super) const MAX_TEXT_BYTES: usize = 256 * 1024;
/// The most variants, stages, cases or members.
pub(super) const MAX_PARTS: usize = 64;
/// The most rules of a split.
pub(super) const MAX_RULES: usize = 256;

/// A kind of route: its word, and the array of tables that only it has, and must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Split,
    Cascade,
    Switch,
    Ensemble,
}

impl Kind {
    /// Every kind with its word.
    pub(super) const WORDS: [(&'static str, Kind); 4] =
        [("split", Kind::Split), ("cascade", Kind::Cascade), ("switch", Kind::Switch), ("ensemble", Kind::Ensemble)];

    /// The word in `kind = "…"`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Split => "split",
            Kind::Cascade => "cascade",
            Kind::Switch => "switch",
            Kind::Ensemble => "ensemble",
        }
    }

    /// The array of tables that only this kind has, and must have.
    pub(super) fn parts(self) -> &'static str {
        match self {
            Kind::Split => "variant",
            Kind::Cascade => "stage",
            Kind::Switch => "case",
            Kind::Ensemble => "member",
        }
    }

    /// Every key, by its full path; `name[]` is an array of tables.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Split => &SPLIT,
            Kind::Cascade => &CASCADE,
            Kind::Switch => &SWITCH,
            Kind::Ensemble => &ENSEMBLE,
        }
    }

    /// The kind that has this key, or keys below it.
    pub(super) fn having(path: &str) -> Option<Kind> {
        let below = |key: &str| {
            let rest = key.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("[]."))
        };
        Self::WORDS.iter().map(|(_, kind)| *kind).find(|kind| kind.keys().iter().any(|key| below(key)))
    }
}

const SPLIT: [&str; 17] = [
    "kind",
    "outputs",
    "key",
    "salt",
    "variant[].name",
    "variant[].model",
    "variant[].version",
    "variant[].weight",
    "rule[].when.header",
    "rule[].when.parameter",
    "rule[].when.equals",
    "rule[].when.in",
    "rule[].when.prefix",
    "rule[].variant",
    "shadow.model",
    "shadow.version",
    "shadow.sample",
];

const CASCADE: [&str; 21] = [
    "kind",
    "outputs",
    "stage[].model",
    "stage[].version",
    "stage[].accept.output",
    "stage[].accept.measure",
    "stage[].accept.at_least",
    "stage[].accept.below",
    "stage[].accept.above",
    "stage[].accept.softmax",
    "stage[].accept.temperature",
    "budget.escalate_at_most",
    "budget.floor",
    "budget.on_overload",
    "calibration.alpha",
    "calibration.delta",
    "calibration.n",
    "calibration.method",
    "calibration.date",
    "calibration.thresholds",
    "calibration.digests",
];

const SWITCH: [&str; 11] = [
    "kind",
    "outputs",
    "selector.model",
    "selector.version",
    "selector.output",
    "selector.class",
    "case[].name",
    "case[].at_least",
    "case[].equals",
    "case[].model",
    "case[].version",
];

const ENSEMBLE: [&str; 8] =
    ["kind", "outputs", "combine", "quorum", "disagreement", "member[].model", "member[].version", "member[].weight"];
