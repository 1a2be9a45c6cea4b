//! Tags: every row of every request carries a number of its own in one input, and the model gives it back in one output.
//! An answer that went to the wrong caller, or a row that changed places in a batch, cannot hide. Used by `message`
//! (writing) and `verify` (reading).

use crate::case::Case;
use crate::error::{Fault, Result};
use crate::tensor::{DataType, Tensor};

/// Which input carries the tag and which output gives it back: FP32, one element per row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) input: String,
    pub(crate) output: String,
}

/// Tags are integers below this: exact in FP32.
pub(crate) const TAGS: u64 = 1 << 24;
/// What stands in an encoded request until it is sent: values that no ordinary tensor begins with.
const PLACEHOLDER: u64 = 11_184_810;
/// Rows of a tagged request, at most.
const MAX_ROWS: usize = 4096;

/// The tag of row `row` in request `number` of `rows` rows each.
pub(crate) fn value(number: u64, row: usize, rows: usize) -> f32 {
    (number.wrapping_mul(rows as u64).wrapping_add(row as u64) % TAGS) as f32
}

/// What stands in row `row` of an encoded request.
pub(crate) fn placeholder(row: usize) -> f32 {
    (PLACEHOLDER + row as u64) as f32
}

impl Tag {
    /// `INPUT:OUTPUT`; used as clap's parser.
    ///
    /// # Errors
    /// Another form.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let names = text.split_once(':').filter(|(input, output)| !input.is_empty() && !output.is_empty());
        let (input, output) = names.ok_or_else(|| Fault::new("tag", "expected INPUT:OUTPUT"))?;
        Ok(Self { input: input.to_owned(), output: output.to_owned() })
    }

    /// Puts the placeholders into a case and takes the tag out of what is expected; returns its rows.
    ///
    /// # Errors
    /// No such input, or one that has not one FP32 element per row.
    pub(crate) fn prepare(&self, case: &mut Case) -> Result<usize> {
        let fault = |what: &str| Fault::new(format_args!("tag input {}", self.input), what);
        case.outputs.retain(|output| output.name != self.output);
        let tensor = case.inputs.iter_mut().find(|input| input.name == self.input);
        let tensor = tensor.ok_or_else(|| fault("no such input"))?;
        let rows = tensor.raw.len() / 4;
        let one_per_row = tensor.shape.first().is_some_and(|first| usize::try_from(*first) == Ok(rows));
        if tensor.datatype != DataType::Fp32 || !one_per_row || rows == 0 {
            return Err(fault("expected one FP32 element per row"));
        }
        if rows > MAX_ROWS {
            return Err(fault("expected at most 4096 rows"));
        }
        tensor.raw = (0..rows).flat_map(|row| placeholder(row).to_le_bytes()).collect::<Vec<u8>>().into();
        Ok(rows)
    }

    /// What is wrong with the tags that came back for request `number`; nothing if they are its own.
    pub(crate) fn difference(&self, number: u64, outputs: &[Tensor]) -> Option<String> {
        let Some(output) = outputs.iter().find(|output| output.name == self.output) else {
            return Some(format!("tag output {}: missing", self.output));
        };
        let (got, rows) = (output.floats(), output.raw.len() / 4);
        let wrong = got.iter().enumerate().find(|(row, got)| **got != f64::from(value(number, *row, rows)));
        if let Some((row, got)) = wrong {
            let expected = value(number, row, rows);
            return Some(format!(
                "tag output {}: row {row} is of another request: expected {expected}, got {got}",
                self.output
            ));
        }
        got.is_empty().then(|| format!("tag output {}: no rows", self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::InputSpec;

    fn case(spec: &str) -> Case {
        let tensor = InputSpec::parse(spec).unwrap().tensor(&mut fastrand::Rng::with_seed(1)).unwrap();
        Case { inputs: vec![tensor.clone()], outputs: vec![Tensor { name: "t".into(), ..tensor }] }
    }

    #[test]
    fn a_case_is_prepared_once_for_all_requests() {
        let tag = Tag::parse("x:t").unwrap();
        let mut good = case("x:FP32:3x1");
        assert_eq!(tag.prepare(&mut good).unwrap(), 3);
        assert_eq!(good.inputs[0].floats()[2], f64::from(placeholder(2)));
        assert!(good.outputs.is_empty());
        for spec in ["x:FP32:3x2", "x:INT64:3", "y:FP32:3", "x:FP32:", "x:FP32:0"] {
            assert!(tag.prepare(&mut case(spec)).is_err(), "{spec}");
        }
        assert!(Tag::parse("x").is_err() && Tag::parse(":x").is_err());
    }

    #[test]
    fn rows_of_another_request_are_seen() {
        let tag = Tag::parse("x:t").unwrap();
        let answer = |values: [f32; 2]| {
            let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            [Tensor::new("t".into(), DataType::Fp32, vec![2, 1], raw.into()).unwrap()]
        };
        assert_eq!(tag.difference(5, &answer([10.0, 11.0])), None);
        assert!(tag.difference(5, &answer([11.0, 10.0])).unwrap().contains("row 0"));
        assert!(tag.difference(5, &answer([10.0, 13.0])).unwrap().contains("row 1"));
        assert!(tag.difference(5, &[]).unwrap().contains("missing"));
    }
}
