//! Edits keep what they do not change: comments, order, space, other ways to write the same.

use proptest::prelude::*;

use super::*;
use crate::spec::{route_samples::routes, route_text::route_to_toml};

const SPLIT: &str = r#"# Who pays for what: ask Ada.
kind = "split"   # of the checkout

key = [
    "parameter:user_id",  # from the app
]
[[variant]]
name   = "control"
model  = "fraud"
weight = 90        # since May

# The new one.
[[variant]]
name = "candidate"
model = "fraud-next"
weight = 10

[[rule]]
when.header = 'x-tier'
when.equals = 'gold'
variant = "candidate"
# The end."#;

fn weights(list: &[(&str, f64)]) -> Vec<(Box<str>, f64)> {
    list.iter().map(|(name, weight)| ((*name).into(), *weight)).collect()
}

fn problems<T: std::fmt::Debug>(result: Result<T, Vec<Problem>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn weights_change_and_nothing_else() {
    let edited = with_weights(SPLIT, &weights(&[("candidate", 12.5), ("control", 80.0)])).unwrap();
    let expected = SPLIT
        .replace("weight = 90        # since May", "weight = 80        # since May")
        .replace("weight = 10", "weight = 12.5");
    assert_eq!(edited, expected);
    assert_eq!(with_weights(SPLIT, &weights(&[("candidate", 0.0)])).unwrap(), SPLIT.replace("= 10", "= 0"));
    assert_eq!(with_weights(SPLIT, &[]).unwrap(), SPLIT);
}

#[test]
fn line_ends_stay_what_they_are() {
    let text = SPLIT.replace('\n', "\r\n") + "\r\n";
    let edited = with_weights(&text, &weights(&[("control", 80.0)])).unwrap();
    assert_eq!(edited, text.replace("weight = 90", "weight = 80"));
}

#[test]
fn variants_written_inline() {
    let text = "kind = 'split'\nvariant = [{ name = 'a', model = 'm', weight = 1 }, # first\n  {weight=3.5,name='b',model='m'}]\n";
    let expected = text.replace("weight = 1 ", "weight = 2 ").replace("3.5", "4");
    assert_eq!(with_weights(text, &weights(&[("a", 2.0), ("b", 4.0)])), Ok(expected));
}

#[test]
fn weights_that_cannot_be() {
    let set = |list: &[(&str, f64)]| problems(with_weights(SPLIT, &weights(list)));
    assert_eq!(
        set(&[("controll", 1.0), ("b", 2.0), ("candidate", 3.0), ("candidate", 4.0)]),
        [
            "weights: unknown variant 'controll', did you mean 'control'?",
            "weights: unknown variant 'b': expected one of 'control', 'candidate'",
            "weights: variant 'candidate' is named twice",
        ]
    );
    assert_eq!(
        set(&[("control", f64::NAN), ("candidate", -1.0)]),
        [
            "variant[0].weight: expected a finite number, got nan",
            "variant[1].weight: expected a weight of at least 0, got -1",
        ]
    );
    assert_eq!(set(&[("control", f64::INFINITY)]), ["variant[0].weight: expected a finite number, got inf"]);
    assert_eq!(
        set(&[("control", 0.0), ("candidate", 0.0)]),
        ["variant: expected weights with a positive, finite sum, got 0"]
    );
    assert_eq!(problems(with_weights(CASCADE, &[])), ["expected a split, got kind = \"cascade\""]);
    assert_eq!(
        problems(with_weights("kind = 'split'\nsalt = ''", &[])),
        [
            "line 1, column 1: expected 1 to 64 [[variant]], got none",
            "line 2, column 8: salt: expected a string that is not empty, got ''"
        ]
    );
}

const CASCADE: &str = r#"kind = "cascade"

# Cheap.
[[stage]]
model = "linear"  # on every row
# Sure enough?
accept = { output = "probabilities", measure = "max_prob", at_least = 0.5 } # guessed

[[stage]]
model = "mid"
version = 4 # good
[stage.accept]
output = "p"
measure = "margin"
at_least = 0.9   # guessed too

[[stage]]
version = "latest"
model = "cnn"
# The end.
"#;

fn calibration(thresholds: &[f64]) -> Calibration {
    Calibration {
        alpha: 0.01,
        delta: 0.05,
        n: 2000,
        method: "net".into(),
        date: "2026-11-21".into(),
        thresholds: thresholds.into(),
        digests: ["0", "1", "2"].map(|digit| digit.repeat(64).into()).into(),
    }
}

fn versions(numbers: &[u64]) -> Vec<Version> {
    numbers.iter().map(|number| Version::new(*number).unwrap()).collect()
}

fn calibrate(text: &str) -> Result<String, Vec<Problem>> {
    with_calibration(text, &[0.875, 0.25], &versions(&[3, 5, 7]), &calibration(&[0.875, 0.25]))
}

fn calibrated() -> String {
    let zeros = "0".repeat(64);
    let digests = format!("\"{zeros}\", \"{}\", \"{}\"", zeros.replace('0', "1"), zeros.replace('0', "2"));
    format!(
        r#"kind = "cascade"

# Cheap.
[[stage]]
model = "linear"  # on every row
version = "3"
# Sure enough?
accept = {{ output = "probabilities", measure = "max_prob", at_least = 0.875 }} # guessed

[[stage]]
model = "mid"
version = 5 # good
[stage.accept]
output = "p"
measure = "margin"
at_least = 0.25   # guessed too

[[stage]]
version = "7"
model = "cnn"
# The end.

[calibration]
alpha = 0.01
delta = 0.05
n = 2000
method = "net"
date = "2026-11-21"
thresholds = [0.875, 0.25]
digests = [{digests}]
"#
    )
}

#[test]
fn a_calibration_is_written_into_the_route() {
    assert_eq!(calibrate(CASCADE), Ok(calibrated()));
    assert_eq!(calibrate(&calibrated()), Ok(calibrated()), "again");
}

#[test]
fn a_calibration_that_no_longer_matches_is_replaced() {
    let stale =
        calibrated().replace("at_least = 0.25", "at_least = 0.3").replace("n = 2000", "n = 1 # few\nold = true");
    assert!(parse_route_toml(&stale).is_err());
    assert_eq!(calibrate(&stale), Ok(calibrated().replace("n = 2000", "n = 2000 # few")));
    let odd = format!("calibration = 3\n{CASCADE}");
    assert_eq!(calibrate(&odd), Ok(calibrated()));
}

#[test]
fn stages_written_inline() {
    let text = "kind = 'cascade'\nstage = [{ model = 'a', accept = { output = 'p', measure = 'margin', at_least = 1 } }, { model = 'b' }]\n";
    let mut calibration = calibration(&[0.5]);
    calibration.digests.pop();
    let edited = with_calibration(text, &[0.5], &versions(&[1, 2]), &calibration).unwrap();
    let expected = "kind = 'cascade'\nstage = [{ model = 'a', accept = { output = 'p', measure = 'margin', at_least = 0.5 }, \
                    version = \"1\" }, { model = 'b', version = \"2\" }]\n\n[calibration]\n";
    assert_eq!(&edited[..expected.len()], expected);
}

#[test]
fn calibrations_that_cannot_be() {
    let result = |thresholds: &[f64], numbers: &[u64], of: &[f64]| {
        problems(with_calibration(CASCADE, thresholds, &versions(numbers), &calibration(of)))
    };
    assert_eq!(result(&[0.5], &[1, 2], &[0.5]), ["stage: expected 3 versions and 2 thresholds, got 2 and 1"]);
    assert_eq!(
        result(&[0.5, 1.5], &[1, 2, 3], &[0.5, 1.5]),
        [
            "stage[1].accept.at_least: expected a number from 0 to 1, got 1.5",
            "calibration.thresholds[1]: expected a number from 0 to 1, got 1.5",
        ]
    );
    assert_eq!(
        result(&[0.5, 0.25], &[1, 2, 3], &[0.5, 0.26]),
        ["calibration.thresholds: thresholds differ from the stages': recalibrate or remove [calibration]"]
    );
    assert_eq!(problems(calibrate(SPLIT)), ["expected a cascade, got kind = \"split\""]);
    let band = CASCADE.replace("measure = \"margin\"\nat_least = 0.9", "measure = \"band\"\nbelow = 0.1\nabove = 0.9");
    assert_eq!(
        problems(calibrate(&band)),
        ["stage[1].accept: measure = \"band\" has no threshold: expected max_prob, margin or certainty"]
    );
    let budget = CASCADE.replace("# The end.", "[budget]\nescalate_at_most = 0.1\nfloor = 0.4");
    let low = with_calibration(&budget, &[0.3, 0.2], &versions(&[1, 2, 3]), &calibration(&[0.3, 0.2]));
    assert_eq!(problems(low), ["budget.floor: expected at most stage[0].accept.at_least = 0.3, got 0.4"]);
    assert_eq!(
        problems(calibrate(&calibrated().replace("\"net\"", "net"))),
        ["line 27, column 10: invalid float, expected `nan`"]
    );
}

proptest! {
    #[test]
    fn weights_of_any_split(route in routes(), picked in proptest::collection::vec(0.0..1e6_f64, 5)) {
        if let RouteKind::Split(mut split) = route.kind.clone() {
            let new: Vec<_> = split.variants.iter().zip(&picked).map(|(variant, weight)| (variant.name.clone(), weight + 1.0)).collect();
            let text = with_weights(&route_to_toml(&route), &new).unwrap();
            for (variant, (_, weight)) in split.variants.iter_mut().zip(&new) {
                variant.weight = *weight;
            }
            let expected = RouteSpec { kind: RouteKind::Split(split), ..route };
            prop_assert!(parse_route_toml(&text).as_ref() == Ok(&expected), "{}", text);
        }
    }
}
