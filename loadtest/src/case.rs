//! Cases: what is asked and, if known, what must come back. Made from `--golden` or `--input`; cycled through by the
//! runs, verified by `verify`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Fault, Result};
use crate::input::InputSpec;
use crate::json::TensorJson;
use crate::tensor::Tensor;

/// Cases are held encoded in memory for the whole run; together with their answers they may not exceed this.
const MAX_CASE_BYTES: usize = 4 << 30;

/// One request and the answer expected to it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) inputs: Vec<Tensor>,
    /// Empty when nothing is known about the answer.
    pub(crate) outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct GoldenJson<'a> {
    #[serde(borrow)]
    cases: Vec<CaseJson<'a>>,
}

#[derive(Deserialize)]
struct CaseJson<'a> {
    #[serde(borrow)]
    inputs: Vec<TensorJson<'a>>,
    #[serde(borrow, default)]
    outputs: Vec<TensorJson<'a>>,
}

/// The cases of a golden file, in its order.
///
/// # Errors
/// A file that cannot be read, is not of the form `{"cases":[{"inputs":[…],"outputs":[…]}]}`, or has no case.
pub(crate) fn from_golden(path: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(path).map_err(|e| Fault::new(path.display(), e))?;
    parse_golden(&text).map_err(|e| Fault::new(path.display(), e))
}

fn parse_golden(text: &str) -> Result<Vec<Case>> {
    let golden: GoldenJson<'_> = serde_json::from_str(text).map_err(|e| Fault::new("golden", e))?;
    let tensors = |list: Vec<TensorJson<'_>>| list.into_iter().map(TensorJson::tensor).collect::<Result<Vec<_>>>();
    let mut cases = Vec::with_capacity(golden.cases.len());
    for (index, case) in golden.cases.into_iter().enumerate() {
        let read = || Ok(Case { inputs: tensors(case.inputs)?, outputs: tensors(case.outputs)? });
        let case = read().map_err(|e: Fault| Fault::new(format_args!("case {index}"), e))?;
        if case.inputs.is_empty() {
            return Err(Fault::new(format_args!("case {index}"), "no inputs"));
        }
        cases.push(case);
    }
    if cases.is_empty() {
        return Err(Fault::new("golden", "no cases"));
    }
    Ok(cases)
}

/// `variants` cases from `--input` specs, random ones with different values; nothing is known about their answers.
///
/// # Errors
/// No spec, two specs of one name, a spec that yields no tensor, or more bytes than a run may hold.
pub(crate) fn from_specs(specs: &[InputSpec], seed: u64, variants: u32) -> Result<Vec<Case>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cases = Vec::new();
    let mut bytes = 0_usize;
    for _ in 0..variants {
        let inputs: Vec<Tensor> = specs.iter().map(|spec| spec.tensor(&mut rng)).collect::<Result<_>>()?;
        bytes = inputs.iter().map(|input| input.raw.len()).fold(bytes, usize::saturating_add);
        if bytes > MAX_CASE_BYTES {
            return Err(Fault::new(
                "--variants",
                format_args!("the cases would be larger than {MAX_CASE_BYTES} bytes"),
            ));
        }
        cases.push(Case { inputs, outputs: Vec::new() });
    }
    let inputs = cases.first().map_or(&[][..], |case| &case.inputs);
    for (index, input) in inputs.iter().enumerate() {
        if inputs[..index].iter().any(|earlier| earlier.name == input.name) {
            return Err(Fault::new(format_args!("input {}", input.name), "given twice"));
        }
    }
    if inputs.is_empty() {
        return Err(Fault::new("inputs", "give --golden or at least one --input"));
    }
    Ok(cases)
}

/// Every case with `rows` rows, inputs and expected outputs alike.
///
/// # Errors
/// A tensor without rows, or more bytes than a run may hold.
pub(crate) fn with_rows(cases: &[Case], rows: usize) -> Result<Vec<Case>> {
    let mut bytes = 0_usize;
    let mut repeat = |tensor: &Tensor| {
        let have = tensor.shape.first().map_or(1, |have| usize::try_from(*have).unwrap_or(1)).max(1);
        bytes = bytes.saturating_add((tensor.raw.len() / have).saturating_mul(rows));
        if bytes > MAX_CASE_BYTES {
            return Err(Fault::new("--rows", format_args!("the cases would be larger than {MAX_CASE_BYTES} bytes")));
        }
        tensor.with_rows(rows)
    };
    let mut grown = Vec::with_capacity(cases.len());
    for case in cases {
        let inputs = case.inputs.iter().map(&mut repeat).collect::<Result<_>>()?;
        let outputs = case.outputs.iter().map(&mut repeat).collect::<Result<_>>()?;
        grown.push(Case { inputs, outputs });
    }
    Ok(grown)
}

/// Rows of one request: dimension 0 of the first input, 1 for a scalar. For the report.
pub(crate) fn rows(cases: &[Case]) -> u64 {
    let first = cases.first().and_then(|case| case.inputs.first()).and_then(|input| input.shape.first());
    first.map_or(1, |rows| u64::try_from(*rows).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = r#"{"model":"ignored","cases":[
        {"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}],
         "outputs":[{"name":"y","shape":[1],"datatype":"INT64","data":[7]}]},
        {"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[3,4]]}]}]}"#;

    #[test]
    fn golden_files_are_read() {
        let cases = parse_golden(GOLDEN).unwrap();
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].outputs[0].name, "y");
        assert_eq!(cases[1].inputs[0].floats(), [3.0, 4.0]);
        assert!(cases[1].outputs.is_empty());
    }

    #[test]
    fn golden_faults_name_the_case() {
        let broken = GOLDEN.replace("[7]", "[7,8]");
        assert!(parse_golden(&broken).unwrap_err().to_string().starts_with("case 0: tensor y"));
        assert!(parse_golden(r#"{"cases":[]}"#).is_err());
        assert!(parse_golden(r#"{"cases":[{"inputs":[]}]}"#).is_err());
    }

    #[test]
    fn rows_grow_inputs_and_outputs() {
        let grown = with_rows(&parse_golden(GOLDEN).unwrap(), 3).unwrap();
        assert_eq!(grown[0].inputs[0].shape, [3, 2]);
        assert_eq!(grown[0].outputs[0].shape, [3]);
        assert_eq!(rows(&grown), 3);
        assert!(with_rows(&grown, 1 << 40).is_err());
    }

    #[test]
    fn specs_make_cases_that_differ() {
        let specs = [InputSpec::parse("x:FP32:1x3").unwrap(), InputSpec::parse("y:INT64:1").unwrap()];
        let cases = from_specs(&specs, 1, 2).unwrap();
        assert_eq!((cases.len(), cases[0].inputs.len()), (2, 2));
        assert_ne!(cases[0].inputs, cases[1].inputs);
        assert!(from_specs(&[specs[0].clone(), specs[0].clone()], 1, 1).is_err());
        assert!(from_specs(&[], 1, 1).is_err());
    }
}
