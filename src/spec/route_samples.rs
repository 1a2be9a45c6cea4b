//! Arbitrary sound routes for property tests: of every kind, with every key present and absent.

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::types::{
    Accept, Calibration, CascadeSpec, Case, CaseTest, Combine, EnsembleSpec, Escalation, KeySource, Measure, Member,
    ModelName, OnOverload, PartRef, RouteKind, RouteSpec, Rule, Selector, Shadow, SplitSpec, Stage, SwitchSpec,
    TextTest, Variant, Version, VersionRef,
};

pub(super) fn routes() -> impl Strategy<Value = RouteSpec> {
    let kinds = prop_oneof![
        splits().prop_map(|split| (RouteKind::Split(split), None)),
        cascades().prop_map(|(cascade, calibration)| (RouteKind::Cascade(cascade), calibration)),
        switches().prop_map(|switch| (RouteKind::Switch(switch), None)),
        ensembles().prop_map(|ensemble| (RouteKind::Ensemble(ensemble), None)),
    ];
    (kinds, option::of(distinct(words(), 1..4))).prop_map(|((kind, calibration), outputs)| RouteSpec {
        kind,
        outputs,
        calibration,
    })
}

/// Texts that are names: quotes, backslashes, dots, what is not ASCII; no control characters.
fn words() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[a-z_]{1,8}", "[\"'\\\\.# a-zé\u{1f600}]{1,12}", "\\PC{1,20}"]
        .prop_map(|text| Box::from(text.replace(char::is_control, "?").as_str()))
}

/// Any text at all.
fn any_texts() -> impl Strategy<Value = Box<str>> {
    prop_oneof![any::<String>(), "[\\n\\r\\t\\x7f\\x00\"'\\\\]{0,6}"].prop_map(|text| Box::from(text.as_str()))
}

fn names() -> impl Strategy<Value = Box<str>> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,20}".prop_map(|name| Box::from(name.as_str()))
}

fn distinct<T: PartialEq + std::fmt::Debug>(
    of: impl Strategy<Value = T>,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<T>> {
    let least = size.start;
    vec(of, size)
        .prop_map(|all| {
            all.into_iter().fold(Vec::new(), |mut kept, one| {
                if !kept.contains(&one) {
                    kept.push(one);
                }
                kept
            })
        })
        .prop_filter("too few", move |kept| kept.len() >= least)
}

fn parts() -> impl Strategy<Value = PartRef> {
    let version = prop_oneof![
        Just(VersionRef::Policy),
        (1..1_000_000_000_000_000_000_u64).prop_map(|number| VersionRef::Exact(Version::new(number).unwrap())),
        "[A-Za-z][A-Za-z0-9_-]{0,8}"
            .prop_filter("reserved", |label| label != "latest")
            .prop_map(|label| VersionRef::Label(label.as_str().into())),
    ];
    ("[A-Za-z0-9][A-Za-z0-9._-]{0,20}", version)
        .prop_map(|(name, version)| PartRef { name: ModelName::parse(&name).unwrap(), version })
}

/// 0 to 1, the ends and the smallest numbers included.
fn shares() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0, select(&[0.0, 1.0, 0.1, 5e-324, 1e-9, 0.999_999_999_999_999_9][..])]
}

fn weights() -> impl Strategy<Value = f64> {
    let magnitudes = any::<f64>().prop_map(|x| if x.is_finite() { (x / 1e4).abs() } else { 1.0 });
    prop_oneof![(0..200_u32).prop_map(f64::from), 0.0..10.0, magnitudes, Just(9_007_199_254_740_993.0)]
}

fn splits() -> impl Strategy<Value = SplitSpec> {
    let key = prop_oneof![
        words().prop_map(KeySource::Parameter),
        words().prop_map(KeySource::Input),
        "[a-z0-9!#$%&'*+.^_`|~-]{1,12}"
            .prop_filter("not text", |name| !name.ends_with("-bin"))
            .prop_map(|name| KeySource::Header(name.as_str().into())),
    ];
    let key = key.boxed();
    let test = prop_oneof![
        any_texts().prop_map(TextTest::Equals),
        vec(any_texts(), 1..3).prop_map(TextTest::In),
        any_texts().prop_filter("empty", |text| !text.is_empty()).prop_map(TextTest::Prefix),
    ];
    let source = key.clone().prop_filter("no input", |key| !matches!(key, KeySource::Input(_)));
    let rules = vec((source, test, any::<prop::sample::Index>()), 0..4);
    let shadow = option::of((parts(), shares()).prop_map(|(part, sample)| Shadow { part, sample }));
    let variants = (distinct(names(), 1..5), vec((parts(), weights()), 5));
    (distinct(key, 0..4), option::of(words()), variants, rules, shadow)
        .prop_map(|(keys, salt, (names, values), rules, shadow)| {
            let variant = |(name, (part, weight))| Variant { name, part, weight };
            let variants: Vec<_> = names.into_iter().zip(values).map(variant).collect();
            let rule = |(source, test, at): (_, _, prop::sample::Index)| Rule {
                source,
                test,
                variant: at.index(variants.len()),
            };
            let rules = rules.into_iter().map(rule).collect();
            SplitSpec { keys, salt, variants, rules, shadow }
        })
        .prop_filter("no weight", |split| split.variants.iter().any(|variant| variant.weight > 0.0))
}

fn cascades() -> impl Strategy<Value = (CascadeSpec, Option<Calibration>)> {
    let measure = prop_oneof![
        3 => (select(&[Measure::MaxProb { at_least: 0.0 }, Measure::Margin { at_least: 0.0 }, Measure::Certainty { at_least: 0.0 }][..]), shares())
            .prop_map(|(measure, at_least)| measure.with_threshold(at_least)),
        1 => (any::<f64>(), any::<f64>()).prop_filter("finite", |(a, b)| a.is_finite() && b.is_finite())
            .prop_map(|(a, b)| Measure::Band { below: a.min(b), above: a.max(b) }),
    ];
    let softmax = prop_oneof![Just((false, 1.0)), (1e-6..1e6).prop_map(|temperature| (true, temperature))];
    let accept = (words(), measure, softmax).prop_map(|(output, measure, (softmax, temperature))| Accept {
        output,
        measure,
        softmax,
        temperature,
    });
    let stages = (vec((parts(), accept), 1..4), parts()).prop_map(|(first, last)| {
        let stages = first.into_iter().map(|(part, accept)| Stage { part, accept: Some(accept) });
        stages.chain([Stage { part: last, accept: None }]).collect::<Vec<_>>()
    });
    let on_overload = select(&[OnOverload::Fail, OnOverload::BestSoFar][..]);
    let calibration = (
        shares(),
        shares(),
        1..1_000_000_u64,
        select(&["harm", "net"][..]),
        "2[0-9]{3}-(0[1-9]|1[0-2])-[0-2][1-9]",
        vec("[0-9a-f]{64}", 4),
    );
    (stages, option::of((shares(), shares())), on_overload, option::of(calibration)).prop_map(
        |(stages, budget, on_overload, calibration)| {
            let thresholds = |stage: &Stage| stage.accept.as_ref().map(|accept| accept.measure.at_least());
            let thresholds: Vec<Option<f64>> = stages.iter().filter_map(thresholds).collect();
            let escalation = budget
                .zip(thresholds[0])
                .map(|((at_most, floor), at_least)| Escalation { at_most, floor: floor * at_least });
            let calibration = calibration.zip(thresholds.into_iter().collect()).map(
                |((alpha, delta, n, method, date, digests), thresholds)| Calibration {
                    alpha,
                    delta,
                    n,
                    method: method.into(),
                    date: date.as_str().into(),
                    thresholds,
                    digests: digests.iter().take(stages.len()).map(|digest| digest.as_str().into()).collect(),
                },
            );
            (CascadeSpec { stages, escalation, on_overload }, calibration)
        },
    )
}

fn switches() -> impl Strategy<Value = SwitchSpec> {
    let selector = (parts(), words(), option::of(0..1000_usize)).prop_map(|(part, output, class)| Selector {
        part,
        output,
        class,
    });
    let when = prop_oneof![
        any::<f64>().prop_filter("finite", |bound| bound.is_finite()).prop_map(CaseTest::AtLeast),
        vec(any::<i64>(), 1..4).prop_map(CaseTest::Integers),
        vec(any_texts(), 1..4).prop_map(CaseTest::Texts),
    ];
    (selector, distinct(names(), 1..5), vec((parts(), when), 5)).prop_map(|(selector, names, values)| {
        let last = names.len() - 1;
        let case = |(i, (name, (part, when)))| Case { name, when: (i != last).then_some(when), part };
        SwitchSpec { selector, cases: names.into_iter().zip(values).enumerate().map(case).collect() }
    })
}

fn ensembles() -> impl Strategy<Value = EnsembleSpec> {
    let weight = weights().prop_map(|weight| if weight > 0.0 { weight } else { 1.0 });
    let combine = select(&Combine::ALL[..]).prop_map(|(_, combine)| combine);
    (combine, vec((parts(), weight), 1..5), option::of(any::<prop::sample::Index>()), any::<bool>()).prop_map(
        |(combine, members, quorum, disagreement)| {
            let weighs = !matches!(combine, Combine::Mean | Combine::Median);
            let quorum = quorum.map(|index| index.index(members.len()) + 1);
            let member = |(part, weight)| Member { part, weight: if weighs { weight } else { 1.0 } };
            EnsembleSpec { combine, quorum, members: members.into_iter().map(member).collect(), disagreement }
        },
    )
}
