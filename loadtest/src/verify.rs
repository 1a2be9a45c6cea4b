//! Decides whether an answer is the right one. Every answer is compared, but an answer that is byte for byte one that
//! was found right before is not decoded again: this keeps `--verify all` cheap enough to leave on while measuring.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::case::Case;
use crate::error::Result;
use crate::sender::Answer;
use crate::tensor::Tensor;
use crate::{wire_grpc, wire_http};

/// How many answers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verify {
    /// Every answer.
    All,
    /// Every 64th answer.
    Sample,
    /// Only the status.
    None,
}

/// How far a floating point value may be from the expected one: `absolute + relative * |expected|`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

/// What the check of one answer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// Nothing was known about the answer, or it was not sampled.
    Unchecked,
    /// With the first difference.
    Wrong(String),
}

/// Checks answers against the cases' expected outputs.
#[derive(Debug)]
pub(crate) struct Checker {
    verify: Verify,
    tolerance: Tolerance,
    expected: Vec<Expected>,
    /// Answers seen, for sampling.
    seen: AtomicU64,
}

#[derive(Debug)]
struct Expected {
    outputs: Vec<Tensor>,
    /// Answers found right; see the top of the file.
    right: Mutex<Vec<Answer>>,
}

const SAMPLE_EVERY: u64 = 64;
/// Results may differ in the last bits with the batch they were computed in, so a case has several right answers.
const REMEMBERED: usize = 8;
/// Memory bound of what is remembered: larger answers are decoded every time.
const REMEMBERED_BYTES: usize = 1 << 20;

impl Checker {
    pub(crate) fn new(cases: &[Case], verify: Verify, tolerance: Tolerance) -> Self {
        let expected = |case: &Case| Expected { outputs: case.outputs.clone(), right: Mutex::default() };
        Self { verify, tolerance, expected: cases.iter().map(expected).collect(), seen: AtomicU64::new(0) }
    }

    /// Checks one answer to case number `case`.
    pub(crate) fn check(&self, case: usize, answer: &Answer) -> Verdict {
        let looked_at = match self.verify {
            Verify::All => true,
            Verify::Sample => self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE_EVERY),
            Verify::None => false,
        };
        let Some(expected) = self.expected.get(case).filter(|known| looked_at && !known.outputs.is_empty()) else {
            return Verdict::Unchecked;
        };
        if expected.right.lock().contains(answer) {
            return Verdict::Right;
        }
        match decode(answer) {
            Ok(outputs) => match difference(&expected.outputs, &outputs, self.tolerance) {
                None => {
                    expected.remember(answer);
                    Verdict::Right
                }
                Some(what) => Verdict::Wrong(format!("case {case}: {what}")),
            },
            Err(fault) => Verdict::Wrong(format!("case {case}: {fault}")),
        }
    }
}

impl Expected {
    fn remember(&self, answer: &Answer) {
        let size = match answer {
            Answer::Grpc(frame) => frame.len(),
            Answer::Http(body) => body.bytes.len(),
        };
        let mut right = self.right.lock();
        if right.len() < REMEMBERED && size <= REMEMBERED_BYTES {
            right.push(answer.clone());
        }
    }
}

fn decode(answer: &Answer) -> Result<Vec<Tensor>> {
    match answer {
        Answer::Grpc(frame) => wire_grpc::decode(frame),
        Answer::Http(body) => wire_http::decode(body),
    }
}

/// The first difference between what was expected and what came; outputs nobody expected are ignored.
fn difference(expected: &[Tensor], got: &[Tensor], tolerance: Tolerance) -> Option<String> {
    expected.iter().find_map(|wanted| {
        let name = &wanted.name;
        let Some(got) = got.iter().find(|tensor| tensor.name == *name) else {
            return Some(format!("output {name}: missing"));
        };
        if got.datatype != wanted.datatype || got.shape != wanted.shape {
            let (want_type, got_type) = (wanted.datatype.name(), got.datatype.name());
            let (want_shape, got_shape) = (&wanted.shape, &got.shape);
            return Some(format!("output {name}: expected {want_type} {want_shape:?}, got {got_type} {got_shape:?}"));
        }
        if got.raw == wanted.raw {
            return None;
        }
        value_difference(wanted, got, tolerance).map(|what| format!("output {name}: {what}"))
    })
}

/// The first element that differs, for tensors of one type and shape whose bytes differ.
fn value_difference(wanted: &Tensor, got: &Tensor, tolerance: Tolerance) -> Option<String> {
    if wanted.datatype.is_float() {
        let pairs = wanted.floats().into_iter().zip(got.floats()).enumerate();
        let mut far = pairs.filter(|(_, (wanted, got))| !close(*wanted, *got, tolerance));
        return far.next().map(|(index, (wanted, got))| format!("element {index}: expected {wanted}, got {got}"));
    }
    let index = wanted.datatype.size().map_or_else(
        || {
            let (wanted, got) = (wanted.strings().unwrap_or_default(), got.strings().unwrap_or_default());
            wanted.iter().zip(&got).position(|(wanted, got)| wanted != got)
        },
        |size| wanted.raw.iter().zip(&got.raw).position(|(wanted, got)| wanted != got).map(|at| at / size),
    );
    Some(format!("element {}: not equal", index.unwrap_or(0)))
}

fn close(wanted: f64, got: f64, tolerance: Tolerance) -> bool {
    // Equality first: the difference of two equal infinities is NaN.
    wanted == got
        || (wanted.is_nan() && got.is_nan())
        || (wanted - got).abs() <= tolerance.absolute + tolerance.relative * wanted.abs() && wanted.is_finite()
}

#[cfg(test)]
mod tests {
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

    fn is_wrong(verdict: Verdict, part: &str) -> bool {
        matches!(verdict, Verdict::Wrong(what) if what.contains(part))
    }

    #[test]
    fn a_wrong_value_is_caught_and_named() {
        let checker = checker(&floats("[1.0,100.0]", 2), Verify::All);
        assert_eq!(checker.check(0, &floats("[1.0,100.0]", 2)), Verdict::Right);
        assert_eq!(checker.check(0, &floats("[1.00015,100.005]", 2)), Verdict::Right);
        assert!(is_wrong(checker.check(0, &floats("[1.0,100.02]", 2)), "element 1: expected 100, got 100.0"));
        assert!(is_wrong(checker.check(0, &floats("[1.0,null]", 2)), "element 1"));
        assert!(is_wrong(checker.check(0, &floats("[1.0]", 1)), "expected FP32 [2], got FP32 [1]"));
        assert!(is_wrong(checker.check(0, &answer("")), "output y: missing"));
        assert!(is_wrong(checker.check(0, &floats("[1.0]", 2)), "expected 2 elements, got 1"));
    }

    #[test]
    fn remembering_right_answers_does_not_let_wrong_ones_through() {
        let checker = checker(&floats("[1.0]", 1), Verify::All);
        for _ in 0..3 {
            assert_eq!(checker.check(0, &floats("[1.00001]", 1)), Verdict::Right);
            assert!(is_wrong(checker.check(0, &floats("[2.0]", 1)), "element 0"));
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
        assert!(is_wrong(checker_of_integers.check(0, &integers("[1,3]")), "element 1"));
        let checker_of_strings = checker(&strings(r#"["a","b"]"#), Verify::All);
        assert!(is_wrong(checker_of_strings.check(0, &strings(r#"["a","c"]"#)), "element 1"));
        assert_eq!(checker_of_strings.check(0, &strings(r#"["a","b"]"#)), Verdict::Right);
    }

    #[test]
    fn sampling_looks_at_every_64th() {
        let right = floats("[1.0]", 1);
        let sampled = checker(&right, Verify::Sample);
        let checked = (0..640).filter(|_| sampled.check(0, &right) == Verdict::Right).count();
        assert_eq!(checked, 10);
        assert_eq!(checker(&right, Verify::None).check(0, &floats("[2.0]", 1)), Verdict::Unchecked);
    }
}
