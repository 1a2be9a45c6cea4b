//! What the checker of `verify` lets through and what it does not.

use bytes::Bytes;

use super::*;
use crate::wire_http::HttpBody;

const TOLERANCE: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };

fn answer(output: &str) -> Answer {
    let text = format!(r#"{{"model_name":"m","outputs":[{output}]}}"#);
    Answer::Http(HttpBody { bytes: Bytes::from(text), json_length: None })
}

/// Answer with one FP32 output `y` of these elements.
fn floats(elements: &str, count: usize) -> Answer {
    answer(&format!(r#"{{"name":"y","datatype":"FP32","shape":[{count}],"data":{elements}}}"#))
}

fn checker(expected: &Answer, verify: Verify) -> Checker {
    let case = Case { inputs: Vec::new(), outputs: decode(expected).unwrap() };
    Checker::new(&[case], verify, TOLERANCE)
}

fn call(case: usize) -> Call {
    Call { case, number: 0 }
}

fn is_wrong(verdict: Verdict, part: &str) -> bool {
    matches!(verdict, Verdict::Wrong { what, .. } if what.contains(part))
}

#[test]
fn a_wrong_value_is_caught_and_named() {
    let checker = checker(&floats("[1.0,100.0]", 2), Verify::All);
    assert_eq!(checker.check(call(0), &floats("[1.0,100.0]", 2)), Verdict::Right);
    assert_eq!(checker.check(call(0), &floats("[1.00015,100.005]", 2)), Verdict::Right);
    assert!(is_wrong(checker.check(call(0), &floats("[1.0,100.02]", 2)), "element 1: expected 100, got 100.0"));
    assert!(is_wrong(checker.check(call(0), &floats("[1.0,null]", 2)), "element 1"));
    assert!(is_wrong(checker.check(call(0), &floats("[1.0]", 1)), "expected FP32 [2], got FP32 [1]"));
    assert!(is_wrong(checker.check(call(0), &answer("")), "output y: missing"));
    assert!(is_wrong(checker.check(call(0), &floats("[1.0]", 2)), "expected 2 elements, got 1"));
}

#[test]
fn remembering_right_answers_does_not_let_wrong_ones_through() {
    let checker = checker(&floats("[1.0]", 1), Verify::All);
    for _ in 0..3 {
        assert_eq!(checker.check(call(0), &floats("[1.00001]", 1)), Verdict::Right);
        assert!(is_wrong(checker.check(call(0), &floats("[2.0]", 1)), "element 0"));
    }
    assert_eq!(checker.expected[0].right.lock().len(), 1);
}

#[test]
fn nan_and_infinity_equal_only_themselves() {
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    assert!(close(nan, nan, TOLERANCE) && close(infinity, infinity, TOLERANCE));
    for (a, b) in [(nan, 1.0), (1.0, nan), (infinity, 1.0), (1.0, infinity), (infinity, -infinity)] {
        assert!(!close(a, b, TOLERANCE), "{a} {b}");
    }
}

#[test]
fn integers_and_strings_must_be_equal() {
    let integers = |data| answer(&format!(r#"{{"name":"y","datatype":"INT64","shape":[2],"data":{data}}}"#));
    let strings = |data| answer(&format!(r#"{{"name":"y","datatype":"BYTES","shape":[2],"data":{data}}}"#));
    let checker_of_integers = checker(&integers("[1,2]"), Verify::All);
    assert!(is_wrong(checker_of_integers.check(call(0), &integers("[1,3]")), "element 1"));
    let checker_of_strings = checker(&strings(r#"["a","b"]"#), Verify::All);
    assert!(is_wrong(checker_of_strings.check(call(0), &strings(r#"["a","c"]"#)), "element 1"));
    assert_eq!(checker_of_strings.check(call(0), &strings(r#"["a","b"]"#)), Verdict::Right);
}

#[test]
fn sampling_looks_at_every_64th() {
    let right = floats("[1.0]", 1);
    let sampled = checker(&right, Verify::Sample);
    let checked = (0..640).filter(|_| sampled.check(call(0), &right) == Verdict::Right).count();
    assert_eq!(checked, 10);
    assert_eq!(checker(&right, Verify::None).check(call(0), &floats("[2.0]", 1)), Verdict::Unchecked);
}
#[test]
fn an_answer_to_another_case_is_told_apart_from_a_wrong_one() {
    let case = |text| Case { inputs: Vec::new(), outputs: decode(&floats(text, 1)).unwrap() };
    let checker = Checker::new(&[case("[1.0]"), case("[2.0]")], Verify::All, TOLERANCE);
    let swapped = |verdict| matches!(verdict, Verdict::Wrong { swapped: true, .. });
    assert!(swapped(checker.check(call(0), &floats("[2.0]", 1))));
    assert!(!swapped(checker.check(call(0), &floats("[3.0]", 1))));
    assert_eq!(checker.check(call(1), &floats("[2.0]", 1)), Verdict::Right);
}

#[test]
fn tags_are_checked_on_every_answer() {
    let expected = Case { inputs: Vec::new(), outputs: Vec::new() };
    let checker = Checker::new(&[expected], Verify::All, TOLERANCE).tagged(Some(Tag::parse("x:y").unwrap()));
    let number = |number| Call { case: 0, number };
    assert_eq!(checker.check(number(7), &floats("[7.0]", 1)), Verdict::Right);
    assert!(matches!(checker.check(number(8), &floats("[7.0]", 1)), Verdict::Wrong { swapped: true, .. }));
}
