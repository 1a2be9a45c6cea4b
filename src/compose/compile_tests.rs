//! Routes that do not resolve or fit, and what is said of them.

use super::lab::{Lab, floats, name};
use crate::types::{ServableId, Version};

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.binary("a", 1, |x| x);
    lab.binary("b", 1, |x| x);
    lab.model("wide", 1, (vec![floats("x", 2)], vec![floats("p", 2)]), |_, rows| Ok(vec![vec![0.0; rows * 2]]));
    lab.model("three", 1, (vec![floats("x", 1)], vec![floats("p", 3)]), |_, rows| Ok(vec![vec![0.0; rows * 3]]));
    lab
}

fn split_of(models: &[&str]) -> String {
    let variants =
        models.iter().enumerate().map(|(i, model)| format!("[[variant]]\nname = \"v{i}\"\n{model}\nweight = 1\n"));
    format!("kind = \"split\"\n{}", variants.collect::<String>())
}

fn part(model: &str) -> String {
    format!("model = \"{model}\"")
}

/// Routes and what is wrong with the first of them.
#[test]
fn what_does_not_resolve_or_fit_is_refused() {
    let ensemble = |combine: &str| {
        format!("kind = \"ensemble\"\ncombine = \"{combine}\"\n[[member]]\nmodel = \"a\"\n[[member]]\nmodel = \"b\"\n")
    };
    let cascade = |accept: &str, last: &str| {
        format!("kind = \"cascade\"\n[[stage]]\nmodel = \"a\"\naccept = {accept}\n[[stage]]\nmodel = \"{last}\"\n")
    };
    let good = "{ output = \"p\", measure = \"max_prob\", at_least = 0.9 }";
    let switch = |class: &str, case: &str| {
        format!(
            "kind = \"switch\"\nselector = {{ model = \"a\", output = \"p\"{class} }}\n[[case]]\nname = \"x\"\n{case}\n\
             model = \"a\"\n[[case]]\nname = \"y\"\nmodel = \"b\"\n"
        )
    };
    for (text, problems) in [
        (split_of(&[&part("aa")]), vec!["variant[0].model: no model or route 'aa'; did you mean 'a'?"]),
        (
            split_of(&["model = \"a\"\nversion = \"7\"", "model = \"b\"\nversion = \"stable\""]),
            vec![
                "variant[0].version: model 'a' has no version 7, only 1",
                "variant[1].version: model 'b' has no label 'stable'",
            ],
        ),
        (
            split_of(&[&part("a"), &part("wide")]),
            vec![
                "variant[1].model: input 'x': expected FP32 [-1, 1] as 'a' in variant[0] takes, got FP32 [-1, 2] of \
                 'wide'",
            ],
        ),
        (
            cascade(good, "three"),
            vec![
                "outputs: no output is alike in all parts: 'a' (stage[0]) gives 'p' FP32 [-1, 2]; 'three' (stage[1]) \
                 gives 'p' FP32 [-1, 3]",
            ],
        ),
        (
            format!("outputs = [\"q\", \"p\"]\n{}", cascade(good, "three")),
            vec![
                "outputs: 'q' is no output of 'a' in stage[0], which gives 'p' FP32 [-1, 2]",
                "stage[1].model: output 'p': expected FP32 [-1, 2] as 'a' in stage[0] gives, got FP32 [-1, 3] of \
                 'three'",
            ],
        ),
        (
            cascade("{ output = \"q\", measure = \"max_prob\", at_least = 0.9 }", "b"),
            vec!["stage[0].accept.output: 'q' is no output of 'a': expected one of 'p'"],
        ),
        (
            switch("", "at_least = 0.5"),
            vec!["selector.output: expected one value per row, or the key 'class', got FP32 [-1, 2] of 'a'"],
        ),
        (
            switch(", class = 2", "at_least = 0.5"),
            vec!["selector.output: expected [rows, more than 2], got FP32 [-1, 2] of 'a'"],
        ),
        (switch(", class = 1", "equals = [1]"), vec!["case[0]: does not fit FP32 of output 'p' of 'a'"]),
        (format!("outputs = [\"p\"]\n{}", ensemble("vote")), vec!["outputs: 'p' FP32 [-1, 2]: "]),
        (
            format!(
                "{}[calibration]\nalpha = 0.01\ndelta = 0.05\nn = 1000\nmethod = \"net\"\ndate = \"2026-01-01\"\n\
                 thresholds = [0.9]\ndigests = [\"{}\", \"{}\"]\n",
                cascade(good, "b"),
                "d".repeat(64),
                "e".repeat(64)
            ),
            vec![
                "calibration.digests: stage[1] is 'b/1', which is not the model it was made with: recalibrate or \
                 remove [calibration]",
            ],
        ),
        (
            format!("{}[shadow]\nmodel = \"wide\"\nsample = 0.5\n", split_of(&[&part("a")])),
            vec!["shadow.model: input 'x': expected FP32 [-1, 1] as the route takes, got FP32 [-1, 2] of 'wide'"],
        ),
    ] {
        let mut lab = lab();
        lab.route("r", &text);
        let got = lab.problems("r");
        let same = got.len() == problems.len() && got.iter().zip(&problems).all(|(got, want)| got.starts_with(want));
        assert!(same, "{text}\n{got:#?}\n{problems:#?}");
    }
}

#[test]
fn cycles_and_depth() {
    let mut lab = lab();
    lab.route("r1", &split_of(&[&part("r2")]));
    lab.route("r2", &split_of(&[&part("r3")]));
    lab.route("r3", &split_of(&[&part("a"), &part("r1")]));
    assert_eq!(
        lab.problems("r1"),
        ["variant[0]: route 'r2': variant[0]: route 'r3': variant[1].model: a cycle: r1 -> r2 -> r3 -> r1"]
    );
    lab.route("self", &split_of(&[&part("self")]));
    assert_eq!(lab.problems("self"), ["variant[0].model: a cycle: self -> self"]);
    for depth in 1..=9 {
        let inner = if depth == 1 { part("a") } else { part(&format!("d{}", depth - 1)) };
        lab.route(&format!("d{depth}"), &split_of(&[&inner]));
    }
    assert_eq!(lab.problems("d8"), [""; 0]);
    let problems = lab.problems("d9");
    assert!(problems[0].ends_with("routes may be 8 deep, 'd1' would be deeper"), "{problems:?}");
}

#[test]
fn a_route_that_names_too_much() {
    let mut lab = lab();
    let ten = |inner: &str| split_of(&vec![part(inner); 10].iter().map(String::as_str).collect::<Vec<_>>());
    lab.route("t1", &ten("a"));
    lab.route("t2", &ten("t1"));
    lab.route("t3", &ten("t2"));
    assert_eq!(lab.problems("t2"), [""; 0]);
    let problems = lab.problems("t3");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].ends_with("names more than 1024 models and routes in all"), "{problems:?}");
}

#[test]
fn a_route_has_no_version_to_choose_and_no_models_name() {
    let mut lab = lab();
    lab.route("inner", &split_of(&[&part("a")]));
    lab.route("r", &split_of(&["model = \"inner\"\nversion = \"1\""]));
    assert_eq!(
        lab.problems("r"),
        ["variant[0].version: 'inner' is a route, which is always asked at its live revision: remove the key"]
    );
    lab.route("b", &split_of(&[&part("a")]));
    assert_eq!(lab.problems("b"), ["name: 'b' is a model and a route: rename one of them"]);
}

#[test]
fn what_is_not_loaded_yet_is_waited_for() {
    let mut lab = lab();
    lab.route("r", &split_of(&["model = \"a\"\nversion = \"2\"", "model = \"a\"\nversion = \"1\""]));
    let entry = std::sync::Arc::make_mut(lab.snapshot.models.get_mut("a").unwrap());
    entry.present.push(Version::new(2).unwrap());
    let fit = lab.fit("r");
    let id = |version| ServableId { model: name("a"), version: Version::new(version).unwrap() };
    assert_eq!((fit.problems.len(), fit.waits_for), (0, vec!["a/2".to_owned()]));
    assert_eq!(fit.needs, [id(1), id(2)].into());
    lab.snapshot.started = false;
    lab.route("early", &split_of(&[&part("later")]));
    assert_eq!(lab.fit("early").waits_for, ["later"]);
}
