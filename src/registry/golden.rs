//! The golden gate: a version may serve when it gives the answers that came with it. Called by the loader, which also takes the
//! golden inputs as samples for the proof that rows may be merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    answers::{Difference, difference},
    bundle::GOLDEN_JSON,
};
use crate::{
    engine::{LoadError, Model, Plan},
    scheduler::run_once,
    spec::golden_json::{Case, parse_golden_json},
    types::{Batch, Signature, Tensor},
};

/// Cases of one version, and rows of all of them together: a load runs them all.
const MAX_CASES: usize = 1_000;
const MAX_ROWS: usize = 10_000;

/// Different numbers of rows: a plan is compiled for each.
const MAX_SIZES: usize = 16;

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
    /// What is wrong with the text, what there is too much of, or which case does not fit the model.
    pub fn read(text: &str, signature: &Signature) -> Result<Self, LoadError> {
        let cases = parse_golden_json(text).map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            LoadError::new(format!("{GOLDEN_JSON}: {first}"))
        })?;
        at_most("cases", cases.len(), MAX_CASES)?;
        let cases = cases.into_iter().enumerate();
        let cases: Result<Vec<_>, _> = cases.map(|(index, case)| prepare(index, case, signature)).collect();
        let cases = cases?;
        at_most("rows", cases.iter().map(|case| case.rows).fold(0, usize::saturating_add), MAX_ROWS)?;
        let sizes: BTreeSet<usize> = cases.iter().map(|case| case.rows).collect();
        at_most("different numbers of rows", sizes.len(), MAX_SIZES)?;
        Ok(Self { cases })
    }

    /// The inputs of every case, in the model's order.
    pub fn inputs(&self) -> Vec<Vec<Tensor>> {
        self.cases.iter().map(|case| case.inputs.clone()).collect()
    }

    /// Whether every case says what this output must be.
    pub fn covers(&self, output: usize) -> bool {
        self.cases.iter().all(|case| case.outputs.iter().any(|(index, _)| *index == output))
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
                if let Some(difference) = different(got, want, case) {
                    return Err(fail(format!("output '{name}', {difference}")));
                }
            }
            first.get_or_insert(outputs);
        }
        Ok(first.unwrap_or_default())
    }
}

fn at_most(what: &str, count: usize, most: usize) -> Result<(), LoadError> {
    if count > most {
        return Err(LoadError::new(format!("{GOLDEN_JSON}: {what}: expected at most {most}, got {count}")));
    }
    Ok(())
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
fn different(got: &Tensor, want: &Tensor, case: &GoldenCase) -> Option<String> {
    let scores: Vec<&Tensor> = case.outputs.iter().map(|(_, tensor)| tensor).collect();
    let Difference { place, want, got, .. } = difference(got, want, case.rows, &scores)?;
    Some(format!("{place}: expected {want}, got {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, Script};

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
    fn what_a_load_has_to_run_is_bounded() {
        let case = |rows: usize| {
            let (x, y) = (vec!["0"; 2 * rows].join(","), vec!["1"; 2 * rows].join(","));
            case(&format!("[{x}]"), &format!("[{y}]")).replace("[2,2]", &format!("[{rows},2]"))
        };
        let checked = |rows: &[usize]| {
            let cases: Vec<String> = rows.iter().map(|rows| case(*rows)).collect();
            check(&format!(r#"{{"cases":[{}]}}"#, cases.join(","))).map(drop)
        };
        assert_eq!(checked(&[1; MAX_CASES]), Ok(()));
        let error = "golden.json: cases: expected at most 1000, got 1001";
        assert_eq!(checked(&[1; MAX_CASES + 1]).unwrap_err(), error);
        assert_eq!(checked(&[MAX_ROWS - 1, 1]), Ok(()));
        let error = "golden.json: rows: expected at most 10000, got 10001";
        assert_eq!(checked(&[MAX_ROWS, 1]).unwrap_err(), error);
        let sizes: Vec<usize> = (1..=MAX_SIZES + 1).collect();
        assert_eq!(checked(&sizes[..MAX_SIZES]), Ok(()));
        let error = "golden.json: different numbers of rows: expected at most 16, got 17";
        assert_eq!(checked(&sizes).unwrap_err(), error);
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
}
