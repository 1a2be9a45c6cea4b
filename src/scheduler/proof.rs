//! Merging is proved, not assumed. At load, rows are run alone, together, permuted and padded; if any row's answer moves beyond
//! the tolerance, requests to that model are never merged, padded or split. Called by the registry's loader.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Merging, batch::run_once};
use crate::{
    engine::{EngineError, LoadError, Model, Plan},
    types::{Batch, DType, Shape, Signature, Tensor, TensorSpec, Tolerance},
};

/// Rows in a trial: few, because every one costs load time, and more than two, so that a permutation is not a swap.
const ROWS: usize = 4;

/// Every row of a trial has its own magnitude: a scale taken over the whole batch (dynamic quantisation) shows at once.
const SCALES: [f32; ROWS] = [1.0, 0.01, 30.0, 0.3];

/// How often each row is run alone: twice tells whether chance has a part in it.
const ALONE: usize = 2;
/// In how many batches all rows are run.
const BATCHES: usize = 3;

/// What the runs of a proof may take together, by the quickest so far: any other may have been put aside by the system.
const MOST_WORK: Duration = Duration::from_secs(2);
/// When nothing more is begun, whatever it was that took the time.
const MOST: Duration = Duration::from_secs(10);

/// What to do about a model that is too slow for a proof.
const ADVICE: &str = "a number as batching.max_batch_size in model.toml vouches for them";

/// Finds out whether the rows of a model are independent. `samples` are inputs that the model is known to take, in its order
/// (golden inputs, say); generated ones are tried as well, where there is time. `compile`: what a plan is expected to take.
///
/// # Errors
/// When the model cannot be compiled for the trial's sizes.
pub fn prove(model: &dyn Model, samples: &[Vec<Tensor>], compile: Duration) -> Result<Merging, LoadError> {
    let begun = Instant::now();
    let elapsed = || begun.elapsed();
    prove_in_time(model, samples, &mut Watch { elapsed: &elapsed, compile, least: None, runs: 0, rows: 0 })
}

/// The same by any clock.
fn prove_in_time(model: &dyn Model, samples: &[Vec<Tensor>], watch: &mut Watch<'_>) -> Result<Merging, LoadError> {
    let signature = model.signature();
    if signature.batch == Batch::None {
        return Ok(Merging::NoBatch);
    }
    if let Some(operator) = model.order_dependent().first() {
        return Ok(Merging::Off(format!("operator {operator} makes rows depend on each other or on chance").into()));
    }
    let (mut proved, mut late) = (false, None);
    for rows in [known_rows(signature, samples), Some(generated_rows(signature))].into_iter().flatten() {
        match trial(model, &rows, watch) {
            Ok(None) => proved = true,
            Ok(Some(reason)) => return Ok(Merging::Off(reason.into())),
            Err(Trial::Compile(error)) => return Err(error),
            // Generated values may lie outside of what the model takes (an index, say); known ones may not.
            Err(Trial::Run(error)) => tracing::debug!(%error, "a trial of rows could not be run"),
            Err(Trial::Late(reason)) => {
                tracing::debug!(proved, reason, "a trial of rows was given up");
                late = Some(reason);
                break;
            }
        }
    }
    if proved {
        return Ok(Merging::Proved);
    }
    let reason = late.unwrap_or_else(|| "no rows could be run to prove that they are independent".to_owned());
    Ok(Merging::Off(reason.into()))
}

enum Trial {
    Compile(LoadError),
    Run(EngineError),
    /// There is no time for it: how slow the model is, and what to do.
    Late(String),
}

/// Sees to it that a proof does not take longer than it may.
struct Watch<'a> {
    /// Since the proof's beginning.
    elapsed: &'a dyn Fn() -> Duration,
    /// What a plan is expected to take.
    compile: Duration,
    /// What a row took in the quickest run so far.
    least: Option<Duration>,
    runs: u32,
    /// Of all sets that were begun.
    rows: u32,
}

impl Watch<'_> {
    /// So many rows are to be run as often as a trial does, in a batch that has yet to be compiled.
    fn begin(&mut self, rows: usize) -> Result<(), Trial> {
        self.rows += u32::try_from(rows * (ALONE + BATCHES)).unwrap_or(u32::MAX);
        self.allow(self.compile)
    }

    /// Whether something may be begun that is expected to take so long.
    fn allow(&self, expected: Duration) -> Result<(), Trial> {
        let least = self.least.unwrap_or_default();
        // One run alone says little: it fills caches as well.
        if self.runs >= 2 && least.saturating_mul(self.rows) > MOST_WORK {
            let text =
                format!("too slow to prove within {MOST_WORK:?} that rows are independent (a row takes {least:.1?})");
            return Err(Trial::Late(format!("{text}: {ADVICE}")));
        }
        if (self.elapsed)().saturating_add(expected) > MOST {
            let text = format!("it cannot be proved within {MOST:?} that rows are independent");
            return Err(Trial::Late(format!("{text}: {ADVICE}")));
        }
        Ok(())
    }

    /// Runs so many rows, if there is time for it.
    fn run(&mut self, (model, plan): Compiled<'_>, inputs: &[Tensor], rows: usize) -> Result<Vec<Tensor>, Trial> {
        let rows = u32::try_from(rows.max(1)).unwrap_or(u32::MAX);
        self.allow(self.least.unwrap_or_default().saturating_mul(rows))?;
        let begun = (self.elapsed)();
        let outputs = run_once(model, plan, inputs)?;
        let took = (self.elapsed)().saturating_sub(begun) / rows;
        self.least = Some(self.least.map_or(took, |least| least.min(took)));
        self.runs += 1;
        Ok(outputs)
    }
}

/// A model, and a plan of it.
type Compiled<'a> = (&'a dyn Model, &'a Arc<dyn Plan>);

impl From<EngineError> for Trial {
    fn from(error: EngineError) -> Self {
        Trial::Run(error)
    }
}

/// Inputs of single rows, in the model's input order.
type Row = Vec<Tensor>;

/// The reason why rows are not independent; `None` when they are.
fn trial(model: &dyn Model, rows: &[Row], watch: &mut Watch<'_>) -> Result<Option<String>, Trial> {
    watch.begin(rows.len())?;
    let alone = model.plan(Some(1)).map_err(Trial::Compile)?;
    let together = match model.plan(Some(rows.len())) {
        Ok(plan) => plan,
        Err(error) => return Ok(Some(format!("it cannot be compiled for {} rows: {error}", rows.len()))),
    };
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let runs: [Vec<Tensor>; ALONE] = [watch.run((model, &alone), row, 1)?, watch.run((model, &alone), row, 1)?];
        let [first, again] = runs;
        if let Some(reason) = difference(model.signature(), &again, &first) {
            return Ok(Some(format!("two runs on one row differ in {reason}")));
        }
        answers.push(first);
    }
    let straight: Vec<usize> = (0..rows.len()).collect();
    let reversed: Vec<usize> = straight.iter().rev().copied().collect();
    let padded: Vec<usize> = straight.iter().map(|row| row / 2 * 2).collect();
    let orders: [Vec<usize>; BATCHES] = [straight, reversed, padded];
    for order in orders {
        let batch: Vec<&Row> = order.iter().map(|row| &rows[*row]).collect();
        let outputs = match watch.run((model, &together), &stack(&batch)?, rows.len()) {
            Ok(outputs) => outputs,
            Err(Trial::Run(error)) => return Ok(Some(format!("it cannot run {} rows: {error}", rows.len()))),
            Err(late) => return Err(late),
        };
        for (at, row) in order.iter().enumerate() {
            let got: Result<Vec<_>, _> = outputs.iter().map(|output| output.slice_rows(at, 1)).collect();
            let Ok(got) = got else { return Ok(Some("an output does not have one row per input row".to_owned())) };
            if let Some(output) = difference(model.signature(), &got, &answers[*row]) {
                return Ok(Some(format!("row {at} of {output} depends on its neighbours")));
            }
        }
    }
    Ok(None)
}

/// The first output in which two answers differ.
fn difference(signature: &Signature, got: &[Tensor], want: &[Tensor]) -> Option<String> {
    let differs = got.iter().zip(want).position(|(got, want)| Tolerance::first_difference(got, want).is_some())?;
    Some(format!("output '{}'", signature.outputs.get(differs).map_or("?", |spec| &spec.name)))
}

/// Single rows as one batch.
fn stack(rows: &[&Row]) -> Result<Vec<Tensor>, EngineError> {
    let inputs = rows.first().map_or(0, |row| row.len());
    (0..inputs)
        .map(|index| {
            let parts: Vec<&Tensor> = rows.iter().filter_map(|row| row.get(index)).collect();
            concat(&parts)
        })
        .collect()
}

/// Tensors joined along dimension 0.
///
/// # Errors
/// When their other dimensions or datatypes differ.
pub(crate) fn concat(parts: &[&Tensor]) -> Result<Tensor, EngineError> {
    use crate::types::Data;
    let Some(first) = parts.first() else { return Err(EngineError::new("nothing to join")) };
    let alike = |part: &&&Tensor| part.dtype() == first.dtype() && part.shape().get(1..) == first.shape().get(1..);
    if !parts.iter().all(|part| alike(&part)) {
        return Err(EngineError::new("rows of different shapes"));
    }
    let mut shape: Shape = first.shape().into();
    if let Some(rows) = shape.first_mut() {
        *rows = parts.iter().filter_map(|part| part.shape().first()).sum();
    }
    let joined = match first.data() {
        Data::Plain(_) => {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes().iter().copied()).collect();
            Tensor::plain(first.dtype(), shape, bytes.into())
        }
        Data::Strings(_) => {
            let items: Vec<Bytes> = parts.iter().flat_map(|part| strings(part)).cloned().collect();
            Tensor::strings(shape, items.into())
        }
    };
    joined.map_err(EngineError::new)
}

fn strings(tensor: &Tensor) -> &[Bytes] {
    match tensor.data() {
        crate::types::Data::Strings(items) => items,
        crate::types::Data::Plain(_) => &[],
    }
}

/// Up to [`ROWS`] single rows out of samples of one row shape; `None` when there are fewer than two.
fn known_rows(signature: &Signature, samples: &[Vec<Tensor>]) -> Option<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.len() == signature.inputs.len()) {
        let count = sample.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0);
        for at in 0..count {
            let row: Result<Row, _> = sample.iter().map(|tensor| tensor.slice_rows(at, 1)).collect();
            let Ok(row) = row else { continue };
            let alike = rows
                .first()
                .is_none_or(|known| known.iter().zip(&row).all(|(known, tensor)| known.shape() == tensor.shape()));
            if alike && rows.len() < ROWS {
                rows.push(row);
            }
        }
    }
    (rows.len() >= 2).then_some(rows)
}

/// Rows of made-up values, each of another magnitude.
fn generated_rows(signature: &Signature) -> Vec<Row> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    SCALES
        .iter()
        .map(|scale| signature.inputs.iter().filter_map(|spec| generate(spec, 1, &mut || next() * scale)).collect())
        .collect()
}

/// A tensor of `rows` rows of zeros per input; `None` when another dimension than the rows is free.
pub(crate) fn zeros(signature: &Signature, rows: usize) -> Option<Vec<Tensor>> {
    let skip = usize::from(signature.batch == Batch::Rows);
    let fixed = signature.inputs.iter().all(|spec| spec.shape.iter().skip(skip).all(Option::is_some));
    let inputs = || signature.inputs.iter().map(|spec| generate(spec, rows, &mut || 0.0)).collect();
    if fixed { inputs() } else { None }
}

/// A tensor of the spec's shape (free dimensions 1, the first `rows`), filled from `next`.
fn generate(spec: &TensorSpec, rows: usize, next: &mut dyn FnMut() -> f32) -> Option<Tensor> {
    let mut shape: Shape = spec.shape.iter().map(|dim| dim.unwrap_or(1)).collect();
    if spec.shape.first() == Some(&None) {
        shape[0] = rows;
    }
    let count: usize = shape.iter().product();
    let mut values = (0..count).map(|_| next());
    // Integers are often indices or class numbers: small ones are the likeliest to be taken.
    let small = |value: f32| if value > 0.0 { 1_u8 } else { 0 };
    let tensor = match spec.dtype {
        DType::Fp32 => Tensor::from_vec(DType::Fp32, shape, values.collect::<Vec<_>>()),
        DType::Fp64 => Tensor::from_vec(DType::Fp64, shape, values.map(f64::from).collect::<Vec<_>>()),
        DType::Fp16 => Tensor::from_vec(DType::Fp16, shape, values.map(half::f16::from_f32).collect::<Vec<_>>()),
        DType::Bf16 => Tensor::from_vec(DType::Bf16, shape, values.map(half::bf16::from_f32).collect::<Vec<_>>()),
        DType::Bool | DType::Uint8 | DType::Int8 => {
            Tensor::from_vec(spec.dtype, shape, values.map(small).collect::<Vec<_>>())
        }
        DType::Uint16 | DType::Int16 => {
            Tensor::from_vec(spec.dtype, shape, values.map(|v| u16::from(small(v))).collect::<Vec<_>>())
        }
        DType::Uint32 | DType::Int32 => {
            Tensor::from_vec(spec.dtype, shape, values.map(|v| u32::from(small(v))).collect::<Vec<_>>())
        }
        DType::Uint64 | DType::Int64 => {
            Tensor::from_vec(spec.dtype, shape, values.map(|v| u64::from(small(v))).collect::<Vec<_>>())
        }
        DType::Bytes => {
            let words: Arc<[Bytes]> =
                values.by_ref().map(|v| Bytes::from_static(if v > 0.0 { b"b" } else { b"a" })).collect();
            Tensor::strings(shape, words)
        }
    };
    tensor.ok()
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
