//! Texts of every kind of route and the values they are read as, with every default; and the promise that no text makes the
//! reader panic.

use proptest::prelude::*;

use super::*;
use crate::types::{
    Accept, Calibration, CascadeSpec, Case, CaseTest, Combine, EnsembleSpec, Escalation, KeySource, Measure, Member,
    OnOverload, Rule, Selector, Shadow, SplitSpec, Stage, SwitchSpec, TextTest, Variant, Version,
};

fn spec(text: &str) -> RouteSpec {
    parse_route_toml(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

fn route(kind: RouteKind) -> RouteSpec {
    RouteSpec { kind, outputs: None, calibration: None }
}

fn part(name: &str, version: Option<u64>) -> PartRef {
    let version = version.map_or(VersionRef::Policy, |number| VersionRef::Exact(Version::new(number).unwrap()));
    PartRef { name: ModelName::parse(name).unwrap(), version }
}

#[test]
fn a_split() {
    let text = r#"
kind = "split"
key  = ["parameter:user_id", "header:X-User-Id", "input:user_id"]
salt = "checkout-2026-11"
[[variant]]
name = "control"
model = "fraud"
version = "1"
weight = 90
[[variant]]
name = "candidate"
model = "fraud"
version = 2
weight = 10.5
[[rule]]
when = { header = "X-Tier", equals = "gold" }
variant = "candidate"
[[rule]]
when = { parameter = "Tier", in = ["a", ""] }
variant = "control"
[[rule]]
variant = "candidate"
when.header = "x-id"
when.prefix = "test-"
[shadow]
model = "fraud-next"
version = "canary"
sample = 0.10
"#;
    let expected = SplitSpec {
        keys: vec![
            KeySource::Parameter("user_id".into()),
            KeySource::Header("x-user-id".into()),
            KeySource::Input("user_id".into()),
        ],
        salt: Some("checkout-2026-11".into()),
        variants: vec![
            Variant { name: "control".into(), part: part("fraud", Some(1)), weight: 90.0 },
            Variant { name: "candidate".into(), part: part("fraud", Some(2)), weight: 10.5 },
        ],
        rules: vec![
            Rule { source: KeySource::Header("x-tier".into()), test: TextTest::Equals("gold".into()), variant: 1 },
            Rule {
                source: KeySource::Parameter("Tier".into()),
                test: TextTest::In(vec!["a".into(), "".into()]),
                variant: 0,
            },
            Rule { source: KeySource::Header("x-id".into()), test: TextTest::Prefix("test-".into()), variant: 1 },
        ],
        shadow: Some(Shadow {
            part: PartRef {
                name: ModelName::parse("fraud-next").unwrap(),
                version: VersionRef::Label("canary".into()),
            },
            sample: 0.1,
        }),
    };
    assert_eq!(spec(text), route(RouteKind::Split(expected)));
}

#[test]
fn the_least_split() {
    let variants = vec![Variant { name: "a".into(), part: part("m", None), weight: 1.0 }];
    let expected = SplitSpec { keys: vec![], salt: None, variants, rules: vec![], shadow: None };
    for version in ["", ", version = 'latest'", ", version = ''", ", version = '-1'", ", version = -1"] {
        let text = format!(
            "kind = 'split'\nvariant = [{{ name = 'a', model = 'm', weight = 1{version} }}]\nkey = []\nrule = []"
        );
        assert_eq!(spec(&text), route(RouteKind::Split(expected.clone())), "{version}");
    }
}

#[test]
fn a_cascade() {
    let digest = "0123456789abcdef".repeat(4);
    let text = format!(
        r#"
kind = "cascade"
outputs = ["label", "probabilities"]
[[stage]]
model = "digits-linear"
version = 3
accept = {{ output = "probabilities", measure = "max_prob", at_least = 0.95 }}
[[stage]]
model = "digits-mid"
[stage.accept]
output = "logits"
measure = "certainty"
at_least = 1
softmax = true
temperature = 1.5
[[stage]]
model = "digits-cnn"
[budget]
escalate_at_most = 0.25
floor = 0.80
on_overload = "best_so_far"
[calibration]
alpha = 0.01
delta = 0.05
n = 2000
method = "net"
date = "2026-11-21"
thresholds = [0.95, 1.0]
digests = ["{digest}", "{digest}", "{digest}"]
"#
    );
    let accept = |output: &str, measure| Accept { output: output.into(), measure, softmax: false, temperature: 1.0 };
    let stages = vec![
        Stage {
            part: part("digits-linear", Some(3)),
            accept: Some(accept("probabilities", Measure::MaxProb { at_least: 0.95 })),
        },
        Stage {
            part: part("digits-mid", None),
            accept: Some(Accept {
                softmax: true,
                temperature: 1.5,
                ..accept("logits", Measure::Certainty { at_least: 1.0 })
            }),
        },
        Stage { part: part("digits-cnn", None), accept: None },
    ];
    let escalation = Some(Escalation { at_most: 0.25, floor: 0.8 });
    let expected = RouteSpec {
        kind: RouteKind::Cascade(CascadeSpec { stages, escalation, on_overload: OnOverload::BestSoFar }),
        outputs: Some(vec!["label".into(), "probabilities".into()]),
        calibration: Some(Calibration {
            alpha: 0.01,
            delta: 0.05,
            n: 2000,
            method: "net".into(),
            date: "2026-11-21".into(),
            thresholds: vec![0.95, 1.0],
            digests: vec![digest.as_str().into(); 3],
        }),
    };
    assert_eq!(spec(&text), expected);
}

#[test]
fn measures_and_budgets_of_a_cascade() {
    let cascade = |accept: &str, rest: &str| {
        let text = format!(
            "kind = 'cascade'\n[[stage]]\nmodel = 'a'\naccept = {{ output = 'p', {accept} }}\n[[stage]]\nmodel = 'b'\n{rest}"
        );
        match spec(&text).kind {
            RouteKind::Cascade(cascade) => cascade,
            other => panic!("{other:?}"),
        }
    };
    for (text, expected) in [
        ("measure = 'margin', at_least = 0", Measure::Margin { at_least: 0.0 }),
        ("measure = 'band', below = -1.5, above = 2", Measure::Band { below: -1.5, above: 2.0 }),
        ("measure = 'band', below = 0.5, above = 0.5", Measure::Band { below: 0.5, above: 0.5 }),
    ] {
        let read = cascade(text, "");
        assert_eq!(read.stages[0].accept.as_ref().unwrap().measure, expected, "{text}");
        assert_eq!((read.escalation, read.on_overload), (None, OnOverload::Fail), "{text}");
    }
    let band = cascade("measure = 'band', below = 0, above = 1", "[budget]\non_overload = 'fail'");
    assert_eq!((band.escalation, band.on_overload), (None, OnOverload::Fail));
    let same = cascade("measure = 'max_prob', at_least = 0.9", "[budget]\nescalate_at_most = 0\nfloor = 0.9");
    assert_eq!(same.escalation, Some(Escalation { at_most: 0.0, floor: 0.9 }));
    assert_eq!(cascade("measure = 'max_prob', at_least = 0.9", "[budget]").escalation, None);
}

#[test]
fn a_switch() {
    let text = r#"
kind = "switch"
selector = { model = "is-reseller", output = "probabilities", class = 1 }
[[case]]
name = "reseller"
at_least = 0.5
model = "returns-reseller"
[[case]]
name = "some"
equals = [-1, 2]
model = "m"
[[case]]
name = "named"
equals = ["a", ""]
model = "m"
[[case]]
name = "consumer"
model = "returns-consumer"
version = "7"
"#;
    let case = |name: &str, when, part| Case { name: name.into(), when, part };
    let expected = SwitchSpec {
        selector: Selector { part: part("is-reseller", None), output: "probabilities".into(), class: Some(1) },
        cases: vec![
            case("reseller", Some(CaseTest::AtLeast(0.5)), part("returns-reseller", None)),
            case("some", Some(CaseTest::Integers(vec![-1, 2])), part("m", None)),
            case("named", Some(CaseTest::Texts(vec!["a".into(), "".into()])), part("m", None)),
            case("consumer", None, part("returns-consumer", Some(7))),
        ],
    };
    assert_eq!(spec(text), route(RouteKind::Switch(expected)));
    let least = "kind = 'switch'\n[selector]\nmodel = 's'\noutput = 'y'\n[[case]]\nname = 'all'\nmodel = 'm'\n";
    let RouteKind::Switch(switch) = spec(least).kind else { panic!("{least}") };
    assert_eq!((switch.selector.class, switch.cases.len()), (None, 1));
}

#[test]
fn an_ensemble() {
    let text = r#"
kind = "ensemble"
combine = "weighted_mean"
quorum = 2
disagreement = true
[[member]]
model = "credit-gbdt"
weight = 0.7
[[member]]
model = "credit-mlp"
weight = 0.3
"#;
    let member = |name: &str, weight| Member { part: part(name, None), weight };
    let members = vec![member("credit-gbdt", 0.7), member("credit-mlp", 0.3)];
    let combine = Combine::WeightedMean;
    let expected = EnsembleSpec { combine, quorum: Some(2), members, disagreement: true };
    assert_eq!(spec(text), route(RouteKind::Ensemble(expected)));
    for (word, combine) in Combine::ALL {
        let text = format!("kind = 'ensemble'\ncombine = '{word}'\n[[member]]\nmodel = 'm'\nweight = 1\n");
        let expected = EnsembleSpec { combine, quorum: None, members: vec![member("m", 1.0)], disagreement: false };
        assert_eq!(spec(&text), route(RouteKind::Ensemble(expected)), "{word}");
    }
}

#[test]
fn as_many_parts_as_are_allowed() {
    let variants: String =
        (0..64).map(|i| format!("[[variant]]\nname = 'v{i}'\nmodel = 'm'\nweight = {i}\n")).collect();
    let rules = "[[rule]]\nwhen = { header = 'h', equals = 'x' }\nvariant = 'v9'\n".repeat(256);
    let RouteKind::Split(split) = spec(&format!("kind = 'split'\n{variants}{rules}")).kind else { panic!() };
    assert_eq!((split.variants.len(), split.rules.len()), (64, 256));
}

/// Texts like routes: the real keys in the real tables, with values of every kind, sound and broken.
fn route_like() -> impl Strategy<Value = String> {
    let keys: Vec<String> =
        Kind::WORDS.iter().flat_map(|(_, kind)| kind.keys()).map(|key| key.replace("[]", "")).collect();
    let heads = ["variant", "rule", "stage", "case", "member"].map(|name| format!("[[{name}]]")).to_vec();
    let tables =
        ["budget", "shadow", "selector", "calibration", "stage.accept"].map(|name| format!("[{name}]")).to_vec();
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
        "[a-z:0-9]{0,10}".prop_map(|text| format!("\"{text}\"")),
        Just("[1, \"a\"]".to_owned()),
        Just("{ output = 'p', measure = 'band', header = 'h', equals = 'x' }".to_owned()),
        "\\PC{0,12}",
    ];
    let leaf = proptest::sample::select(keys).prop_map(|key| key.rsplit('.').next().unwrap_or_default().to_owned());
    let line = prop_oneof![
        2 => proptest::sample::select([heads, tables].concat()),
        4 => (leaf, value).prop_map(|(key, value)| format!("{key} = {value}")),
    ];
    let kind = proptest::sample::select(
        &["kind = 'split'", "kind = 'cascade'", "kind = 'switch'", "kind = 'ensemble'", ""][..],
    );
    (kind, proptest::collection::vec(line, 0..16)).prop_map(|(kind, lines)| format!("{kind}\n{}", lines.join("\n")))
}

proptest! {
    #[test]
    fn never_panics_on_any_text(text in "\\PC{0,200}") {
        let _ = parse_route_toml(&text);
    }

    #[test]
    fn never_panics_and_problems_have_places(text in route_like()) {
        for problem in parse_route_toml(&text).err().into_iter().flatten() {
            prop_assert!(problem.line >= 1 && problem.line <= text.split('\n').count(), "{problem}");
            prop_assert!(problem.column >= 1, "{problem}");
        }
    }
}
