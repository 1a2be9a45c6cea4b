//! The backend test cases of the standard, run through the engine in three forms: no answer may be wrong, and what is not
//! answered is exactly what `tests/conformance/expected.txt` says. `docs/operators.md` is written from the same run.
//!
//! `WEIR_CONFORMANCE=update` writes both files; `WEIR_CONFORMANCE=plain` asks the graph library by itself before; `WEIR_CONFORMANCE=<text>` prints what became of the cases with that name.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use archive::{Archive, Form, Ready, Request};

mod archive;
mod plain;
mod report;

/// Operators whose answers are drawn: only their types and shapes are compared.
const DRAWN: [&str; 1] = ["Bernoulli"];

/// What may come of rounding, as a part of the largest number of a tensor.
const ROUNDING: f64 = 4e-6;

/// What became of a case in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    /// As *rows*: the answer is right, but the rows are no batch, so that each request is run by itself.
    Whole,
    /// An answer that differs.
    Wrong(String),
    /// Not loaded.
    Refused(String),
    /// Loaded, but the request failed.
    Failed(String),
    /// The case does not have this form.
    Absent,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Whole => "whole",
            Outcome::Wrong(_) => "wrong",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
            Outcome::Absent => "-",
        }
    }

    fn text(&self) -> &str {
        match self {
            Outcome::Wrong(text) | Outcome::Refused(text) | Outcome::Failed(text) => text,
            Outcome::Pass | Outcome::Whole | Outcome::Absent => "",
        }
    }
}

/// A case and its outcomes, by form.
struct Row {
    name: String,
    operator: String,
    outcomes: [Outcome; 3],
}

fn outcome(engine: &TractEngine, ready: &Ready, drawn: bool) -> Outcome {
    let model = match engine.load(&ready.file, &LIMITS) {
        Ok(model) => model,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    for request in &ready.requests {
        match answer(&*model, request) {
            Ok(got) => {
                if let Err(text) = compare(&got, request, (ready.rtol, ready.atol), drawn) {
                    return Outcome::Wrong(text);
                }
            }
            Err(outcome) => return outcome,
        }
    }
    let shared = ready.form != Form::Rows || model.signature().batch == Batch::Rows;
    if shared { Outcome::Pass } else { Outcome::Whole }
}

/// The outputs for one request.
fn answer(model: &dyn Model, request: &Request) -> Result<Vec<Tensor>, Outcome> {
    let signature = model.signature();
    let mut inputs = Vec::new();
    for spec in &signature.inputs {
        let given = request.inputs.iter().find(|(name, _)| *name == *spec.name);
        let (_, Some(given)) =
            given.ok_or_else(|| Outcome::Wrong(format!("input '{}': is not in the case", spec.name)))?
        else {
            return Err(Outcome::Wrong(format!("input '{}': is not a tensor in the case", spec.name)));
        };
        if given.dtype() != spec.dtype {
            let text = format!("input '{}': is {} in the case, not {}", spec.name, given.dtype(), spec.dtype);
            return Err(Outcome::Wrong(text));
        }
        inputs.push(given.clone());
    }
    let rows = (signature.batch == Batch::Rows).then(|| inputs[0].shape()[0]);
    // A version whose first plan cannot be compiled is not published.
    let plan = model.plan(rows).map_err(|error| Outcome::Refused(error.to_string()))?;
    let mut session = plan.session().map_err(|error| Outcome::Refused(error.to_string()))?;
    run(&mut *session, &inputs, signature.outputs.len()).map_err(|error| Outcome::Failed(error.to_string()))
}

fn compare(got: &[Tensor], request: &Request, tolerance: (f64, f64), drawn: bool) -> Result<(), String> {
    if got.len() != request.outputs.len() {
        return Err(format!("expected {} outputs, got {}", request.outputs.len(), got.len()));
    }
    for (number, (got, want)) in got.iter().zip(&request.outputs).enumerate() {
        let Some(want) = want else { return Err(format!("output {number}: is not a tensor in the case")) };
        if (got.dtype(), got.shape()) != (want.dtype(), want.shape()) {
            return Err(format!("output {number}: want {}, got {}", shown(want), shown(got)));
        }
        if let (false, Some(at)) = (drawn, first_difference(got, want, tolerance)) {
            return Err(format!("output {number}, element {at}: want {}, got {}", shown(want), shown(got)));
        }
    }
    Ok(())
}

/// The first element and its values that are not the same. `tolerance` is what the case says, its absolute part last.
fn first_difference(got: &Tensor, want: &Tensor, (relative, absolute): (f64, f64)) -> Option<String> {
    if !got.dtype().is_float() {
        return (got.data() != want.data()).then(|| "?".to_owned());
    }
    let got_dtype = got.dtype();
    let own = Tolerance::of(got_dtype);
    let (got, want) = (floats(got), floats(want));
    // Sums of single-precision numbers are exact to some of the last bits of the largest, not of what is left of it.
    let largest = want.iter().copied().filter(|value| value.is_finite()).map(f64::abs).fold(0.0, f64::max);
    let absolute = absolute + largest * ROUNDING;
    let near = |got: f64, want: f64| {
        // The cases say the same for all types, which is less than half-precision numbers can tell apart.
        let same = got.is_finite() && (got - want).abs() <= absolute + relative * want.abs();
        same || ((!got.is_finite() || got_dtype == DType::Fp16) && own.accepts(got, want))
    };
    let mut pairs = got.into_iter().zip(want).enumerate();
    let (at, (got, want)) = pairs.find(|(_, (got, want))| !near(*got, *want))?;
    Some(format!("{at} ({got} for {want})"))
}

/// A tensor's type, shape and first values.
fn shown(tensor: &Tensor) -> String {
    let values =
        if tensor.dtype().is_float() { format!("{:?}", floats(tensor)) } else { format!("{:?}", tensor.data()) };
    format!("{} {:?} {}", tensor.dtype(), tensor.shape(), values.chars().take(200).collect::<String>())
}

/// Runs every case in every form, on as many threads as there are processors.
fn run_all(archive: &Archive, outcome: &(dyn Fn(&Ready, bool) -> Outcome + Sync)) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            // The library by itself needs more stack than threads are given.
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            let run = || {
                while let Some(case) = archive.cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let drawn = DRAWN.contains(&case.operator.as_str());
                    let outcomes = Form::ALL.map(|form| match archive.ready(case, form) {
                        Some(ready) => outcome(&ready, drawn),
                        None => Outcome::Absent,
                    });
                    let row = Row { name: case.name.clone(), operator: case.operator.clone(), outcomes };
                    rows.lock().unwrap().push(row);
                }
            };
            thread.spawn_scoped(scope, run).unwrap();
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

#[test]
fn backend_cases_are_answered_as_expected() {
    let archive = Archive::read();
    let wanted = std::env::var("WEIR_CONFORMANCE").unwrap_or_default();
    if wanted == "plain" {
        let rows = run_all(&archive, &plain::outcome);
        println!("plain tract: {}", report::summary(&rows));
        fs::write(root().join(plain::PLAIN), plain::list(&rows)).unwrap();
    }
    let engine = TractEngine::new();
    let rows = run_all(&archive, &|ready, drawn| outcome(&engine, ready, drawn));
    for row in rows.iter().filter(|row| !wanted.is_empty() && row.name.contains(&wanted)) {
        for (form, outcome) in Form::ALL.iter().zip(&row.outcomes) {
            println!("{} {form:?}: {} {}", row.name, outcome.word(), outcome.text());
        }
    }
    let (expected, page) = (report::expected(&rows), report::page(&archive.package, &rows));
    if wanted == "update" || wanted == "plain" {
        fs::write(root().join(report::EXPECTED), &expected).unwrap();
        fs::write(root().join(report::PAGE), &page).unwrap();
    }
    report::check(&rows, &expected, &page);
    plain::check(&rows);
}
