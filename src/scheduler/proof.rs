//! Merging is proved, not assumed. At load, rows are run alone, together, permuted and padded; if any row's answer moves beyond
//! the tolerance, requests to that model are never merged, padded or split. Called by the registry's loader.

use std::sync::Arc;

use bytes::Bytes;

use super::{Merging, batch::run_once};
use crate::{
    engine::{EngineError, LoadError, Model},
    types::{Batch, DType, Shape, Signature, Tensor, TensorSpec, Tolerance},
};

/// Rows in a trial: few, because every one costs load time, and more than two, so that a permutation is not a swap.
const ROWS: usize = 4;

/// Every row of a trial has its own magnitude: a scale taken over the whole batch (dynamic quantisation) shows at once.
const SCALES: [f32; ROWS] = [1.0, 0.01, 30.0, 0.3];

/// Finds out whether the rows of a model are independent. `samples` are inputs that the model is known to take, in its order
/// (golden inputs, say); generated ones are tried as well.
///
/// # Errors
/// When the model cannot be compiled for the trial's sizes.
pub fn prove(model: &dyn Model, samples: &[Vec<Tensor>]) -> Result<Merging, LoadError> {
    let signature = model.signature();
    if signature.batch == Batch::None {
        return Ok(Merging::NoBatch);
    }
    if let Some(operator) = model.order_dependent().first() {
        return Ok(Merging::Off(format!("operator {operator} makes rows depend on each other or on chance").into()));
    }
    let mut tried = false;
    for rows in [known_rows(signature, samples), Some(generated_rows(signature))].into_iter().flatten() {
        match trial(model, &rows) {
            Ok(None) => tried = true,
            Ok(Some(reason)) => return Ok(Merging::Off(reason.into())),
            Err(Trial::Compile(error)) => return Err(error),
            // Generated values may lie outside of what the model takes (an index, say); known ones may not.
            Err(Trial::Run(error)) => tracing::debug!(%error, "a trial of rows could not be run"),
        }
    }
    if tried {
        Ok(Merging::Proved)
    } else {
        Ok(Merging::Off("no rows could be run to prove that they are independent".into()))
    }
}

enum Trial {
    Compile(LoadError),
    Run(EngineError),
}

impl From<EngineError> for Trial {
    fn from(error: EngineError) -> Self {
        Trial::Run(error)
    }
}

/// Inputs of single rows, in the model's input order.
type Row = Vec<Tensor>;

/// The reason why rows are not independent; `None` when they are.
fn trial(model: &dyn Model, rows: &[Row]) -> Result<Option<String>, Trial> {
    let alone = model.plan(Some(1)).map_err(Trial::Compile)?;
    let together = match model.plan(Some(rows.len())) {
        Ok(plan) => plan,
        Err(error) => return Ok(Some(format!("it cannot be compiled for {} rows: {error}", rows.len()))),
    };
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let first = run_once(model, &alone, row)?;
        let again = run_once(model, &alone, row)?;
        if let Some(reason) = difference(model.signature(), &again, &first) {
            return Ok(Some(format!("two runs on one row differ in {reason}")));
        }
        answers.push(first);
    }
    let straight: Vec<usize> = (0..rows.len()).collect();
    let reversed: Vec<usize> = straight.iter().rev().copied().collect();
    let padded: Vec<usize> = straight.iter().map(|row| row / 2 * 2).collect();
    for order in [straight, reversed, padded] {
        let batch: Vec<&Row> = order.iter().map(|row| &rows[*row]).collect();
        let outputs = match run_once(model, &together, &stack(&batch)?) {
            Ok(outputs) => outputs,
            Err(error) => return Ok(Some(format!("it cannot run {} rows: {error}", rows.len()))),
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
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, Script};

    #[test]
    fn an_elementwise_model_is_proved() {
        let model = FakeEngine::new(Script::default(), 3).model();
        assert_eq!(prove(model.as_ref(), &[]).unwrap(), Merging::Proved);
        let model = FakeEngine::new(Script::default(), 3).without_batch().model();
        assert_eq!(prove(model.as_ref(), &[]).unwrap(), Merging::NoBatch);
    }

    #[test]
    fn known_rows_are_cut_out_of_samples() {
        let model = FakeEngine::new(Script::default(), 2).model();
        let sample = |rows: usize| {
            vec![Tensor::from_vec(DType::Fp32, [rows, 2].as_slice().into(), vec![0_f32; rows * 2]).unwrap()]
        };
        assert!(known_rows(model.signature(), &[sample(1)]).is_none());
        assert_eq!(known_rows(model.signature(), &[sample(1), sample(7)]).unwrap().len(), ROWS);
    }
}
