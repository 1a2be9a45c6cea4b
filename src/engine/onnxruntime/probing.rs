//! What the outputs of a graph look like when the library cannot infer it: the graph is run on zeros, with two numbers of rows and
//! two sizes of every other free dimension. Called when a graph is loaded.

use std::sync::Arc;

use ort::{session::SessionInputValue, value::DynValue};

use super::{
    super::{
        EngineError,
        trials::{Learnt, learn},
    },
    pool::Pool,
    values::{self, Input},
};
use crate::types::{Shape, TensorSpec};

/// What an output's dimension 0 is, as far as it is known without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The rows of the inputs.
    Rows,
    /// Something else.
    Fixed,
    /// It cannot be told.
    Unknown,
}

/// Runs the graph; `None` when it takes none of the sizes, or its inputs have none that could vary and it fails on zeros.
/// `batched`: dimension 0 of every input is one number of rows.
pub(super) fn probe(pool: &Arc<Pool>, inputs: &[TensorSpec], batched: bool) -> Option<Learnt> {
    learn(batched, |rows, other| {
        let shapes = run(pool, inputs, &shapes(inputs, batched, (rows, other)))?;
        Ok::<_, EngineError>(shapes.iter().map(|shape| shape.iter().copied().map(Some).collect()).collect())
    })
}

fn shapes(inputs: &[TensorSpec], batched: bool, (rows, other): (usize, usize)) -> Vec<Shape> {
    let size = |(axis, dim): (usize, &Option<usize>)| dim.unwrap_or(if batched && axis == 0 { rows } else { other });
    inputs.iter().map(|spec| spec.shape.iter().enumerate().map(size).collect()).collect()
}

/// The shapes of the outputs for zeros of these shapes.
fn run(pool: &Arc<Pool>, inputs: &[TensorSpec], shapes: &[Shape]) -> Result<Vec<Shape>, EngineError> {
    let mut given: Vec<SessionInputValue<'_>> = Vec::with_capacity(inputs.len());
    for (spec, shape) in inputs.iter().zip(shapes) {
        let input = Input::new(spec.dtype, shape)?;
        let converted = input.converted(shape)?;
        let value: Option<DynValue> = if let Input::Plain(value) = input { Some(value) } else { converted };
        given.push(value.ok_or_else(|| EngineError::new("no tensor"))?.into());
    }
    let outputs = pool.lend()?.run(&given, None)?;
    outputs.iter().map(values::sizes).collect()
}
