//! Decides whether an answer is the right one. Every answer is compared, but an answer that is byte for byte one that
//! was found right before is not decoded again: this keeps `--verify all` cheap enough to leave on while measuring.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::case::Case;
use crate::error::Result;
use crate::sender::{Answer, Call};
use crate::tag::Tag;
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
    /// With the first difference, and whether it is the right answer to another request.
    Wrong {
        what: String,
        swapped: bool,
    },
}

/// Checks answers against the cases' expected outputs.
#[derive(Debug)]
pub(crate) struct Checker {
    verify: Verify,
    tolerance: Tolerance,
    expected: Vec<Expected>,
    tag: Option<Tag>,
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
        let expected = cases.iter().map(expected).collect();
        Self { verify, tolerance, expected, tag: None, seen: AtomicU64::new(0) }
    }

    /// The same, for requests that carry tags.
    pub(crate) fn tagged(self, tag: Option<Tag>) -> Self {
        Self { tag, ..self }
    }

    /// Checks one answer.
    pub(crate) fn check(&self, call: Call, answer: &Answer) -> Verdict {
        let case = call.case;
        let looked_at = match self.verify {
            Verify::All => true,
            Verify::Sample => self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE_EVERY),
            Verify::None => false,
        };
        let known = |known: &&Expected| looked_at && (!known.outputs.is_empty() || self.tag.is_some());
        let Some(expected) = self.expected.get(case).filter(known) else {
            return Verdict::Unchecked;
        };
        if self.tag.is_none() && expected.right.lock().contains(answer) {
            return Verdict::Right;
        }
        let outputs = match decode(answer) {
            Ok(outputs) => outputs,
            Err(fault) => return Verdict::Wrong { what: format!("case {case}: {fault}"), swapped: false },
        };
        if let Some(what) = self.tag.as_ref().and_then(|tag| tag.difference(call.number, &outputs)) {
            return Verdict::Wrong { what: format!("case {case}: {what}"), swapped: true };
        }
        if let Some(what) = difference(&expected.outputs, &outputs, self.tolerance) {
            let swapped = self.is_of_another(case, &outputs);
            return Verdict::Wrong { what: format!("case {case}: {what}"), swapped };
        }
        if self.tag.is_none() {
            expected.remember(answer);
        }
        Verdict::Right
    }

    /// Whether these are the outputs that another case expects.
    fn is_of_another(&self, case: usize, outputs: &[Tensor]) -> bool {
        let others = self.expected.iter().enumerate().filter(|(at, other)| *at != case && !other.outputs.is_empty());
        others.take(COMPARED).any(|(_, other)| difference(&other.outputs, outputs, self.tolerance).is_none())
    }
}

/// Cases that a wrong answer is compared with, at most.
const COMPARED: usize = 4096;

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

/// The outputs of an answer.
pub(crate) fn decode(answer: &Answer) -> Result<Vec<Tensor>> {
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
#[path = "verify_tests.rs"]
mod tests;
