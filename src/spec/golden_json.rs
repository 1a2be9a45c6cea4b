//! Reads `golden.json`: rows with the answers that a version must give before it may serve. Tensors are written as in the HTTP
//! JSON, except that floats which JSON cannot hold are `null` or `"NaN"` (a NaN), `"Infinity"` and `"-Infinity"`. Called by
//! the registry's loader.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::types::{DType, NamedTensor, Tensor};

use super::{
    json_elements::{Fault, read_tensor},
    json_text::{self, START},
    problem::{Lines, MAX_PROBLEMS, Place, Problem, quoted},
};

/// Inputs and the outputs they must give.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What goes in.
    pub inputs: Vec<NamedTensor>,
    /// What must come out, within the tolerance; outputs that are not listed are not compared.
    pub outputs: Vec<NamedTensor>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'cases'")]
struct RawFile<'t> {
    #[serde(borrow)]
    cases: Vec<RawCase<'t>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'inputs' and 'outputs'")]
struct RawCase<'t> {
    #[serde(borrow)]
    inputs: Vec<RawTensor<'t>>,
    #[serde(borrow)]
    outputs: Vec<RawTensor<'t>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'name', 'shape', 'datatype' and 'data'")]
struct RawTensor<'t> {
    #[serde(borrow)]
    name: Cow<'t, str>,
    shape: Vec<usize>,
    #[serde(borrow)]
    datatype: Cow<'t, str>,
    /// Kept as text until the datatype is known, whichever comes first.
    #[serde(borrow)]
    data: &'t RawValue,
}

/// Reads a `golden.json`.
///
/// # Errors
/// Where the text is no JSON of that form, or every tensor that does not fit its shape and datatype.
pub fn parse_golden_json(text: &str) -> Result<Vec<Case>, Vec<Problem>> {
    let file: RawFile<'_> = serde_json::from_str(text).map_err(|error| vec![json_text::problem(&error, START, "")])?;
    if file.cases.is_empty() {
        return Err(vec![START.problem("cases", "expected at least one case")]);
    }
    let mut reader = Reader { text, lines: Lines::new(text), problems: Vec::new() };
    let mut cases = Vec::with_capacity(file.cases.len());
    for (i, case) in file.cases.iter().enumerate() {
        let inputs = reader.tensors(&format!("cases[{i}].inputs"), &case.inputs);
        let outputs = reader.tensors(&format!("cases[{i}].outputs"), &case.outputs);
        if case.outputs.is_empty() {
            reader.problems.push(START.problem(format!("cases[{i}].outputs"), "expected at least one output"));
        }
        cases.push(Case { inputs, outputs });
        if reader.problems.len() >= MAX_PROBLEMS {
            break;
        }
    }
    if reader.problems.is_empty() { Ok(cases) } else { Err(reader.problems) }
}

struct Reader<'t> {
    text: &'t str,
    lines: Lines<'t>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn tensors(&mut self, key: &str, raw: &[RawTensor<'_>]) -> Vec<NamedTensor> {
        let mut tensors = Vec::with_capacity(raw.len());
        for (i, tensor) in raw.iter().enumerate() {
            if raw[..i].iter().any(|other| other.name == tensor.name) {
                self.wrong(tensor, format!("{key}[{i}].name"), format!("{} is given twice", quoted(&tensor.name)));
                continue;
            }
            match self.tensor(&format!("{key}[{i}]"), tensor) {
                Ok(read) => tensors.push(NamedTensor { name: tensor.name.as_ref().into(), tensor: read }),
                Err(problem) => self.problems.push(problem),
            }
        }
        tensors
    }

    fn tensor(&self, key: &str, raw: &RawTensor<'_>) -> Result<Tensor, Problem> {
        let Some(dtype) = DType::parse(&raw.datatype) else {
            let names: Vec<_> = DType::ALL.into_iter().map(DType::as_str).collect();
            let text = format!("expected one of {}, got {}", names.join(", "), quoted(&raw.datatype));
            return Err(self.place(raw).problem(format!("{key}.datatype"), text));
        };
        let key = format!("{key}.data");
        read_tensor(dtype, raw.shape.as_slice().into(), raw.data.get()).map_err(|fault| match fault {
            Fault::Json(error) => json_text::problem(&error, self.place(raw), &key),
            Fault::Tensor(error) => self.place(raw).problem(key, error.text().to_owned()),
        })
    }

    fn wrong(&mut self, raw: &RawTensor<'_>, key: String, text: String) {
        self.problems.push(self.place(raw).problem(key, text));
    }

    /// Where the tensor's data begins: the raw value is a part of the text.
    fn place(&self, raw: &RawTensor<'_>) -> Place {
        let offset = raw.data.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        self.lines.place(offset)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use half::{bf16, f16};
    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;
    use crate::types::Data;

    fn tensor(datatype: &str, shape: &str, data: &str) -> Result<Tensor, String> {
        let text = format!(
            r#"{{"cases":[{{"inputs":[],"outputs":[{{"name":"y","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}]}}"#
        );
        match parse_golden_json(&text) {
            Ok(mut cases) => Ok(cases.remove(0).outputs.remove(0).tensor),
            Err(problems) => {
                Err(problems.iter().map(|p| format!("{}: {}", p.key, p.text)).collect::<Vec<_>>().join("\n"))
            }
        }
    }

    #[test]
    fn every_datatype() {
        let plain =
            |dtype: DType, shape: &str, data: &str| tensor(dtype.as_str(), shape, data).unwrap().bytes().to_vec();
        assert_eq!(plain(DType::Bool, "[2]", "[true, false]"), [1, 0]);
        assert_eq!(plain(DType::Uint8, "[2]", "[0, 255]"), [0, 255]);
        assert_eq!(plain(DType::Uint16, "[1]", "[65535]"), u16::MAX.to_le_bytes());
        assert_eq!(plain(DType::Uint32, "[1]", "[4294967295]"), u32::MAX.to_le_bytes());
        assert_eq!(plain(DType::Uint64, "[1]", "[18446744073709551615]"), u64::MAX.to_le_bytes());
        assert_eq!(plain(DType::Int8, "[1]", "[-128]"), i8::MIN.to_le_bytes());
        assert_eq!(plain(DType::Int16, "[1]", "[-32768]"), i16::MIN.to_le_bytes());
        assert_eq!(plain(DType::Int32, "[1]", "[-2147483648]"), i32::MIN.to_le_bytes());
        assert_eq!(plain(DType::Int64, "[1]", "[-9223372036854775808]"), i64::MIN.to_le_bytes());
        assert_eq!(plain(DType::Fp16, "[1]", "[0.1]"), f16::from_f64(0.1).to_le_bytes());
        assert_eq!(plain(DType::Bf16, "[1]", "[1]"), bf16::ONE.to_le_bytes());
        assert_eq!(
            plain(DType::Fp32, "[2]", "[-0.0, 1e-40]"),
            [(-0.0_f32).to_le_bytes(), 1e-40_f32.to_le_bytes()].concat()
        );
        assert_eq!(plain(DType::Fp64, "[1]", "[0.1]"), 0.1_f64.to_le_bytes());
        let text = tensor("BYTES", "[1,2]", r#"[["a", "\u00e9\n"]]"#).unwrap();
        let Data::Strings(items) = text.data() else { panic!("not strings") };
        assert_eq!(items[..], [Bytes::from_static(b"a"), Bytes::from("é\n")]);
    }

    #[test]
    fn nested_or_flat_scalars_and_nothing() {
        let flat = tensor("INT32", "[2,2]", "[1,2,3,4]").unwrap();
        assert_eq!(tensor("INT32", "[2,2]", "[[1,2],[3,4]]").unwrap(), flat);
        assert_eq!(flat, Tensor::from_vec(DType::Int32, smallvec![2, 2], vec![1_i32, 2, 3, 4]).unwrap());
        assert_eq!(tensor("FP32", "[0,3]", "[]").unwrap().elements(), 0);
        assert_eq!(tensor("FP32", "[]", "[7]").unwrap().shape(), [0_usize; 0]);
    }

    #[test]
    fn floats_that_json_lacks() {
        let values = tensor("FP32", "[4]", r#"[null, "NaN", "Infinity", "-Infinity"]"#).unwrap().to_f32().unwrap();
        assert!(values[0].is_nan() && values[1].is_nan());
        assert_eq!(values[2..], [f32::INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn what_does_not_fit() {
        let cases = [
            ("FP32", "[1]", "[1e39]", "expected a number that FP32 holds, got 1e39"),
            ("FP16", "[1]", "[70000]", "expected a number that FP16 holds, got 70000"),
            ("FP32", "[1]", "[\"1\"]", "expected a number that FP32 holds, got '1'"),
            ("FP64", "[1]", "[1e999]", "number out of range"),
            ("INT8", "[1]", "[128]", "expected an integer from -128 to 127, got 128"),
            ("INT64", "[1]", "[1.5]", "expected an integer of 64 bits, got 1.5"),
            ("UINT8", "[1]", "[-1]", "expected an integer from 0 to 255, got -1"),
            ("INT32", "[1]", "[null]", "expected an integer of 32 bits, got null"),
            ("BOOL", "[1]", "[1]", "expected true or false, got 1"),
            ("BYTES", "[1]", "[1]", "expected a string, got 1"),
            ("FP32", "[2]", "[1]", "elements: expected 2 as in the shape, got 1"),
            ("FP32", "[2]", "[1,2,3]", "expected 2 elements as in the shape, got more"),
            ("FP32", "[1]", "1", "expected an array, got 1"),
            ("FP32", "[1]", "[{}]", "invalid type: map, expected a number that FP32 holds"),
            ("FP32", "[9223372036854775807,4]", "[]", "shape: element count overflows"),
        ];
        for (datatype, shape, data, expected) in cases {
            let got = tensor(datatype, shape, data).unwrap_err();
            assert_eq!(got, format!("cases[0].outputs[0].data: {expected}"), "{datatype} {shape} {data}");
        }
        assert_eq!(
            tensor("FLOAT", "[1]", "[1]").unwrap_err(),
            "cases[0].outputs[0].datatype: expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, \
             FP16, BF16, FP32, FP64, BYTES, got 'FLOAT'"
        );
    }

    #[test]
    fn every_problem_with_its_place() {
        let text = r#"{"cases": [
  {"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [300]}],
   "outputs": [{"data": [1,
      "a"], "datatype": "FP32", "name": "y", "shape": [2]},
      {"name": "y", "shape": [0], "datatype": "FP32", "data": []}]},
  {"inputs": [], "outputs": []}
]}"#;
        let problems: Vec<_> = parse_golden_json(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "line 2, column 74: cases[0].inputs[0].data: expected an integer from -128 to 127, got 300",
                "line 4, column 9: cases[0].outputs[0].data: expected a number that FP32 holds, got 'a'",
                "line 5, column 63: cases[0].outputs[1].name: 'y' is given twice",
                "line 1, column 1: cases[1].outputs: expected at least one output",
            ]
        );
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_golden_json(text).unwrap_err()[0].to_string(), expected, "{text}");
        };
        check("", "line 1, column 1: EOF while parsing a value");
        check("{\"cases\":[]}", "line 1, column 1: cases: expected at least one case");
        check("{\"case\":[]}", "line 1, column 11: missing field `cases`");
        check("{\"cases\":[{\"inputs\":[]}]}", "line 1, column 23: missing field `outputs`");
        check("{\"cases\":[], \"cases\":[]}", "line 1, column 20: duplicate field `cases`");
        check("{\"cases\":\n[NaN]}", "line 2, column 2: expected value");
    }

    #[test]
    fn a_huge_claimed_shape_reserves_nothing() {
        assert!(tensor("FP64", "[1000000000000]", "[1]").is_err());
    }

    proptest! {
        #[test]
        fn floats_survive(values in proptest::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 0..20)) {
            let data = serde_json::to_string(&values).unwrap();
            let read = tensor("FP32", &format!("[{}]", values.len()), &data).unwrap();
            prop_assert_eq!(read, Tensor::from_vec(DType::Fp32, smallvec![values.len()], values).unwrap());
        }

        #[test]
        fn never_panics(text in "[\\[\\]{}\",:0-9a-z.eE-]{0,80}") {
            let _ = parse_golden_json(&text);
            let _ = tensor("FP32", "[2]", &text);
        }
    }
}
