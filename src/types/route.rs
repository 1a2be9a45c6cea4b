//! What may be configured about a route: the values of `route.toml`. Written by the `spec` layer from text or JSON; compiled by
//! the `compose` layer against what is loaded.

use super::{ModelName, VersionRef};

/// The configuration of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// What it does with a request.
    pub kind: RouteKind,
    /// The outputs it answers, in this order; `None` = those that all parts share with the same datatype and shape.
    pub outputs: Option<Vec<Box<str>>>,
    /// What its thresholds were chosen with, if they were calibrated.
    pub calibration: Option<Calibration>,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteKind {
    /// Sends a request, or each of its rows, to one of several variants.
    Split(SplitSpec),
    /// Asks cheap models first and sends on only the rows that they are not sure of.
    Cascade(CascadeSpec),
    /// Sends each row to a specialist that a first model chooses.
    Switch(SwitchSpec),
    /// Asks several models and combines what they say.
    Ensemble(EnsembleSpec),
}

impl RouteKind {
    /// The word in `kind = "…"`.
    pub fn as_str(&self) -> &'static str {
        match self {
            RouteKind::Split(_) => "split",
            RouteKind::Cascade(_) => "cascade",
            RouteKind::Switch(_) => "switch",
            RouteKind::Ensemble(_) => "ensemble",
        }
    }

    /// The platform that metadata names.
    pub fn platform(&self) -> &'static str {
        match self {
            RouteKind::Split(_) => "weir_split",
            RouteKind::Cascade(_) => "weir_cascade",
            RouteKind::Switch(_) => "weir_switch",
            RouteKind::Ensemble(_) => "weir_ensemble",
        }
    }
}

impl RouteSpec {
    /// Every model or route that it names, with the key that names it (for example `stage[1]`), in the order of the text.
    pub fn parts(&self) -> Vec<(String, &PartRef)> {
        let numbered = |what: &str, i: usize| format!("{what}[{i}]");
        match &self.kind {
            RouteKind::Split(split) => {
                let variants = split.variants.iter().enumerate().map(|(i, v)| (numbered("variant", i), &v.part));
                variants.chain(split.shadow.iter().map(|shadow| ("shadow".to_owned(), &shadow.part))).collect()
            }
            RouteKind::Cascade(cascade) => {
                cascade.stages.iter().enumerate().map(|(i, s)| (numbered("stage", i), &s.part)).collect()
            }
            RouteKind::Switch(switch) => {
                let cases = switch.cases.iter().enumerate().map(|(i, c)| (numbered("case", i), &c.part));
                std::iter::once(("selector".to_owned(), &switch.selector.part)).chain(cases).collect()
            }
            RouteKind::Ensemble(ensemble) => {
                ensemble.members.iter().enumerate().map(|(i, m)| (numbered("member", i), &m.part)).collect()
            }
        }
    }
}

/// A model or route that a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRef {
    /// Its name.
    pub name: ModelName,
    /// Which version of the model; for a route always [`VersionRef::Policy`]: its live revision.
    pub version: VersionRef,
}

/// `kind = "split"`.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitSpec {
    /// Where the sticky key is looked for, first one present wins; empty = random per request.
    pub keys: Vec<KeySource>,
    /// Hashed in front of every key; `None` = the route's name. Different salts make experiments independent.
    pub salt: Option<Box<str>>,
    /// The arms, at least one, names unique.
    pub variants: Vec<Variant>,
    /// Looked at before the split, first match in this order.
    pub rules: Vec<Rule>,
    /// A model that sees a sample of the requests and whose answers are only compared.
    pub shadow: Option<Shadow>,
}

/// Where a sticky key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A request parameter.
    Parameter(Box<str>),
    /// An HTTP header or gRPC metadata, by lower-case name.
    Header(Box<str>),
    /// An input tensor with one element per row: every row is assigned by itself.
    Input(Box<str>),
}

/// One arm of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name; hashed with the key.
    pub name: Box<str>,
    /// Who answers.
    pub part: PartRef,
    /// Its share relative to the others: finite, at least 0, the sum positive; 0 = no traffic, stays loaded.
    pub weight: f64,
}

/// A targeting rule of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is looked at; never [`KeySource::Input`].
    pub source: KeySource,
    /// What it must be.
    pub test: TextTest,
    /// Index of the variant that then answers.
    pub variant: usize,
}

/// A test of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextTest {
    /// Exactly this.
    Equals(Box<str>),
    /// One of these.
    In(Vec<Box<str>>),
    /// Begins with this.
    Prefix(Box<str>),
}

/// A mirrored model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// Who is asked besides.
    pub part: PartRef,
    /// Share of the keys that are mirrored, 0 to 1.
    pub sample: f64,
}

/// `kind = "cascade"`.
#[derive(Clone, Debug, PartialEq)]
pub struct CascadeSpec {
    /// At least two; all but the last have [`Stage::accept`].
    pub stages: Vec<Stage>,
    /// How many rows may go on from the first stage.
    pub escalation: Option<Escalation>,
    /// What happens to rows that a later stage has no room or time for.
    pub on_overload: OnOverload,
}

/// One step of a cascade.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Who answers.
    pub part: PartRef,
    /// When its answer is kept; `None` = always (the last stage).
    pub accept: Option<Accept>,
}

/// When a stage's answer for a row is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Accept {
    /// The output that is looked at: floating point, `[rows, K]` or `[rows]`.
    pub output: Box<str>,
    /// What is computed from a row's scores, and the bound that it is held against.
    pub measure: Measure,
    /// True when the scores are logits: they go through softmax (one column: through the logistic function).
    pub softmax: bool,
    /// Divides the logits before softmax; 1 = none. Other values need `softmax`.
    pub temperature: f64,
}

/// A confidence measure and its bound. NaN is never accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The largest probability.
    MaxProb {
        /// Accepted from here on.
        at_least: f64,
    },
    /// The largest less the second largest.
    Margin {
        /// Accepted from here on.
        at_least: f64,
    },
    /// 1 - H / ln K, with H the entropy in nats.
    Certainty {
        /// Accepted from here on.
        at_least: f64,
    },
    /// One column: accepted at or below `below` and at or above `above`.
    Band {
        /// Sure "no" up to here.
        below: f64,
        /// Sure "yes" from here on.
        above: f64,
    },
}

impl Measure {
    /// The word in `measure = "…"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::MaxProb { .. } => "max_prob",
            Measure::Margin { .. } => "margin",
            Measure::Certainty { .. } => "certainty",
            Measure::Band { .. } => "band",
        }
    }

    /// The threshold, for the measures that have one.
    pub fn at_least(self) -> Option<f64> {
        match self {
            Measure::MaxProb { at_least } | Measure::Margin { at_least } | Measure::Certainty { at_least } => {
                Some(at_least)
            }
            Measure::Band { .. } => None,
        }
    }

    /// The same measure with another threshold; a band stays as it is.
    #[must_use]
    pub fn with_threshold(self, at_least: f64) -> Self {
        match self {
            Measure::MaxProb { .. } => Measure::MaxProb { at_least },
            Measure::Margin { .. } => Measure::Margin { at_least },
            Measure::Certainty { .. } => Measure::Certainty { at_least },
            band @ Measure::Band { .. } => band,
        }
    }
}

/// How many rows may go on from the first stage of a cascade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Escalation {
    /// The share of rows that is held, 0 to 1.
    pub at_most: f64,
    /// How low the first stage's threshold may be moved to hold it.
    pub floor: f64,
}

/// What happens to rows that a later stage has no room or time for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOverload {
    /// The request fails.
    #[default]
    Fail,
    /// The last answer there is, flagged.
    BestSoFar,
}

/// `kind = "switch"`.
#[derive(Clone, Debug, PartialEq)]
pub struct SwitchSpec {
    /// The model that is asked first.
    pub selector: Selector,
    /// First match in this order; the last has no condition. Names unique.
    pub cases: Vec<Case>,
}

/// The model that chooses a case, and the value it chooses by.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// Who is asked.
    pub part: PartRef,
    /// The output that decides.
    pub output: Box<str>,
    /// The column of that output; `None` = the output's own value, one per row.
    pub class: Option<usize>,
}

/// One branch of a switch.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: Box<str>,
    /// When it is taken; `None` = otherwise.
    pub when: Option<CaseTest>,
    /// Who answers.
    pub part: PartRef,
}

/// A test of a selector's value.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseTest {
    /// A number of at least this; never NaN.
    AtLeast(f64),
    /// One of these integers.
    Integers(Vec<i64>),
    /// One of these texts.
    Texts(Vec<Box<str>>),
}

/// `kind = "ensemble"`.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleSpec {
    /// How the members' outputs become one.
    pub combine: Combine,
    /// Members that must answer; `None` = all.
    pub quorum: Option<usize>,
    /// The members, at least one.
    pub members: Vec<Member>,
    /// Adds an output `weir_disagreement` FP32 `[rows]`: how far apart the members are.
    pub disagreement: bool,
}

/// How the members' outputs become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Arithmetic mean.
    Mean,
    /// Mean with the members' weights.
    WeightedMean,
    /// Weighted mean of log-odds or log-probabilities, and back.
    LogitMean,
    /// Middle value; of an even number the mean of the two middle ones.
    Median,
    /// The value that most weight stands behind; of several the one whose first member comes first.
    Vote,
}

impl Combine {
    /// Every way, with its word in `combine = "…"`.
    pub const ALL: [(&'static str, Combine); 5] = [
        ("mean", Combine::Mean),
        ("weighted_mean", Combine::WeightedMean),
        ("logit_mean", Combine::LogitMean),
        ("median", Combine::Median),
        ("vote", Combine::Vote),
    ];

    /// The word in `combine = "…"`.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, combine)| *combine == self).map_or("mean", |(word, _)| word)
    }
}

/// One model of an ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Who answers.
    pub part: PartRef,
    /// Its weight, positive and finite; 1 unless given.
    pub weight: f64,
}

/// What a cascade's thresholds were chosen with. A route whose thresholds or models no longer match is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The accuracy that may be lost, or the share of rows that may be harmed.
    pub alpha: f64,
    /// The chance that more is lost.
    pub delta: f64,
    /// Labelled rows.
    pub n: u64,
    /// How the guarantee is made: `harm` (exact binomial bound) or `net` (fixed-sequence test). `cost`: the thresholds were
    /// chosen for a share of rows, and alpha is no promise but the bound of the harm that was found.
    pub method: Box<str>,
    /// When, as `YYYY-MM-DD`.
    pub date: Box<str>,
    /// `at_least` of every stage but the last.
    pub thresholds: Vec<f64>,
    /// SHA-256 of every stage's model file.
    pub digests: Vec<Box<str>>,
}
