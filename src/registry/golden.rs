//! The golden gate: a version may serve when it gives the answers that came with it. Called by the loader, which also takes the
//! golden inputs as samples for the proof that rows may be merged.

use std::{collections::BTreeMap, sync::Arc};

use super::bundle::GOLDEN_JSON;
use crate::{
    engine::{LoadError, Model, Plan},
    scheduler::run_once,
    spec::golden_json::{Case, parse_golden_json},
    types::{Batch, DType, Data, Signature, TIE, Tensor, Tolerance},
};

/// Elements of a text that an error shows.
const MAX_SHOWN: usize = 40;

/// The cases of a version, checked against its signature.
#[derive(Debug)]
pub struct Golden {
    cases: Vec<GoldenCase>,
}

#[derive(Debug)]
struct GoldenCase {
    /// In the model's order.
    inputs: Vec<Tensor>,
    rows: usize,
    /// Output index and what it must be.
    outputs: Vec<(usize, Tensor)>,
}

impl Golden {
    /// Reads the cases and puts their inputs into the model's order.
    ///
    /// # Errors
    /// What is wrong with the text, or which case does not fit the model.
    pub fn read(text: &str, signature: &Signature) -> Result<Self, LoadError> {
        let cases = parse_golden_json(text).map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            LoadError::new(format!("{GOLDEN_JSON}: {first}"))
        })?;
        let cases = cases.into_iter().enumerate();
        let cases: Result<_, _> = cases.map(|(index, case)| prepare(index, case, signature)).collect();
        Ok(Self { cases: cases? })
    }

    /// The inputs of every case, in the model's order.
    pub fn inputs(&self) -> Vec<Vec<Tensor>> {
        self.cases.iter().map(|case| case.inputs.clone()).collect()
    }

    /// Runs every case. Returns the outputs of the first.
    ///
    /// # Errors
    /// `golden.json: case 3, output 'y', element 7: expected 0.1, got 0.2`, or why a case could not be run.
    pub fn check(&self, model: &dyn Model) -> Result<Vec<Tensor>, LoadError> {
        let mut plans: BTreeMap<usize, Arc<dyn Plan>> = BTreeMap::new();
        let mut first = None;
        for (index, case) in self.cases.iter().enumerate() {
            let fail = |what: String| LoadError::new(format!("{GOLDEN_JSON}: case {index}, {what}"));
            let plan = match plans.get(&case.rows) {
                Some(plan) => plan,
                None => {
                    let plan = model.plan((model.signature().batch == Batch::Rows).then_some(case.rows))?;
                    plans.entry(case.rows).or_insert(plan)
                }
            };
            let outputs = run_once(model, plan, &case.inputs).map_err(|error| fail(format!("run: {error}")))?;
            for (output, want) in &case.outputs {
                let name = model.signature().outputs.get(*output).map_or("", |spec| &spec.name);
                let got = outputs.get(*output).ok_or_else(|| fail(format!("output '{name}': missing")))?;
                if let Some(difference) = difference(got, want, case) {
                    return Err(fail(format!("output '{name}', {difference}")));
                }
            }
            first.get_or_insert(outputs);
        }
        Ok(first.unwrap_or_default())
    }
}

fn prepare(index: usize, case: Case, signature: &Signature) -> Result<GoldenCase, LoadError> {
    let fail = |what: String| LoadError::new(format!("{GOLDEN_JSON}: case {index}, {what}"));
    let rows = signature.accept(&case.inputs, usize::MAX).map_err(|error| fail(error.text().to_owned()))?;
    let outputs: Result<_, LoadError> = case
        .outputs
        .into_iter()
        .map(|output| {
            let index = signature.output(&output.name).map_err(|error| fail(error.text().to_owned()))?;
            Ok((index, output.tensor))
        })
        .collect();
    Ok(GoldenCase { inputs: rows.inputs.to_vec(), rows: rows.rows, outputs: outputs? })
}

/// The first element that differs beyond the tolerance, as text.
fn difference(got: &Tensor, want: &Tensor, case: &GoldenCase) -> Option<String> {
    if got.dtype() != want.dtype() {
        return Some(format!("datatype: expected {}, got {}", want.dtype(), got.dtype()));
    }
    if got.shape() != want.shape() {
        return Some(format!("shape: expected {:?}, got {:?}", want.shape(), got.shape()));
    }
    let at = Tolerance::first_difference(got, want)?;
    if got.dtype().is_float() || got.shape().first() != Some(&case.rows) {
        return Some(at_element(at, got, want));
    }
    // Classes: a row where two scores are level may fall either way.
    let per_row = got.elements() / case.rows.max(1);
    (0..case.rows).find_map(|row| {
        let (got_row, want_row) = (got.slice_rows(row, 1).ok()?, want.slice_rows(row, 1).ok()?);
        let at = Tolerance::first_difference(&got_row, &want_row)?;
        (!is_tie(case, row)).then(|| at_element(row * per_row + at, got, want))
    })
}

fn at_element(at: usize, got: &Tensor, want: &Tensor) -> String {
    format!("element {at}: expected {}, got {}", element(want, at), element(got, at))
}

/// Whether the golden scores of a row are too close for its class to be certain.
fn is_tie(case: &GoldenCase, row: usize) -> bool {
    case.outputs.iter().any(|(_, scores)| {
        let is_scores = scores.dtype().is_float() && scores.shape().len() == 2 && scores.shape()[0] == case.rows;
        let values = if is_scores { scores.slice_rows(row, 1).ok().and_then(|row| row.to_f32()) } else { None };
        let mut values = values.unwrap_or_default();
        values.sort_by(|a, b| b.total_cmp(a));
        matches!(values.as_slice(), [best, second, ..] if best - second < TIE)
    })
}

/// An element as an error text shows it.
fn element(tensor: &Tensor, at: usize) -> String {
    if let Data::Strings(items) = tensor.data() {
        let text = items.get(at).map(|item| String::from_utf8_lossy(item)).unwrap_or_default();
        return format!("'{}'", text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect::<String>());
    }
    let size = tensor.dtype().size().unwrap_or(1);
    let Some(bytes) = tensor.bytes().get(at * size..(at + 1) * size) else { return "nothing".to_owned() };
    fn read<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match tensor.dtype() {
        DType::Bool => (bytes != [0]).to_string(),
        DType::Uint8 => u8::from_le_bytes(read(bytes)).to_string(),
        DType::Uint16 => u16::from_le_bytes(read(bytes)).to_string(),
        DType::Uint32 => u32::from_le_bytes(read(bytes)).to_string(),
        DType::Uint64 => u64::from_le_bytes(read(bytes)).to_string(),
        DType::Int8 => i8::from_le_bytes(read(bytes)).to_string(),
        DType::Int16 => i16::from_le_bytes(read(bytes)).to_string(),
        DType::Int32 => i32::from_le_bytes(read(bytes)).to_string(),
        DType::Int64 => i64::from_le_bytes(read(bytes)).to_string(),
        DType::Fp16 => half::f16::from_le_bytes(read(bytes)).to_string(),
        DType::Bf16 => half::bf16::from_le_bytes(read(bytes)).to_string(),
        DType::Fp32 => f32::from_le_bytes(read(bytes)).to_string(),
        DType::Fp64 => f64::from_le_bytes(read(bytes)).to_string(),
        DType::Bytes => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, Script};
    use smallvec::smallvec;

    fn check(text: &str) -> Result<Vec<Tensor>, String> {
        let model = FakeEngine::new(Script::default(), 2).model();
        let golden = Golden::read(text, model.signature()).map_err(|error| error.to_string())?;
        golden.check(&*model).map_err(|error| error.to_string())
    }

    fn case(x: &str, y: &str) -> String {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":[2,2],"datatype":"FP32","data":{x}}}],
                 "outputs":[{{"name":"y","shape":[2,2],"datatype":"FP32","data":{y}}}]}}"#
        )
    }

    #[test]
    fn the_first_difference_is_told() {
        let good = case("[0, 1, 2, 3]", "[1, 3, 5, 7.0001]");
        let outputs = check(&format!(r#"{{"cases":[{good}]}}"#)).unwrap();
        assert_eq!(outputs[0].to_f32().unwrap(), [1., 3., 5., 7.]);
        let bad = case("[0, 1, 2, 3]", "[1, 3, 0.1, 7]");
        let error = check(&format!(r#"{{"cases":[{good},{bad}]}}"#)).unwrap_err();
        assert_eq!(error, "golden.json: case 1, output 'y', element 2: expected 0.1, got 5");
    }

    #[test]
    fn cases_must_fit_the_model() {
        let good = case("[0, 1, 2, 3]", "[1, 3, 5, 7]");
        let other =
            |from: &str, to: &str| check(&format!(r#"{{"cases":[{}]}}"#, good.replacen(from, to, 1))).unwrap_err();
        assert_eq!(other(r#""x""#, r#""z""#), "golden.json: case 0, inputs: expected 'x', got unknown input 'z'");
        assert_eq!(other(r#""y""#, r#""z""#), "golden.json: case 0, outputs: expected 'y', got unknown output 'z'");
        assert_eq!(
            other(r#""name":"y","shape":[2,2]"#, r#""name":"y","shape":[4]"#),
            "golden.json: case 0, output 'y', shape: expected [4], got [2, 2]"
        );
        assert!(check("{").unwrap_err().starts_with("golden.json: line 1"));
        let poisoned = case("[-666, 1, 2, 3]", "[1, 3, 5, 7]");
        let error = check(&format!(r#"{{"cases":[{poisoned}]}}"#)).unwrap_err();
        assert_eq!(error, "golden.json: case 0, run: poisoned row");
    }

    #[test]
    fn classes_may_differ_where_scores_are_level() {
        let labels = |values: Vec<i64>| Tensor::from_vec(DType::Int64, smallvec![3], values).unwrap();
        let scores =
            Tensor::from_vec(DType::Fp32, smallvec![3, 2], vec![0.5_f32, 0.50005, 0.9, 0.1, 0.5, 0.5]).unwrap();
        let case = GoldenCase { inputs: Vec::new(), rows: 3, outputs: vec![(1, scores)] };
        let want = labels(vec![1, 0, 0]);
        assert_eq!(difference(&labels(vec![0, 0, 1]), &want, &case), None);
        let second = difference(&labels(vec![0, 1, 1]), &want, &case);
        assert_eq!(second.as_deref(), Some("element 1: expected 0, got 1"));
        let strict = GoldenCase { outputs: Vec::new(), ..case };
        let first = difference(&labels(vec![0, 0, 1]), &want, &strict);
        assert_eq!(first.as_deref(), Some("element 0: expected 1, got 0"));
    }
}
