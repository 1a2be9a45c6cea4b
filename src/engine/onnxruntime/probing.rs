//! What the outputs of a graph look like when the library cannot infer it: the graph is run on zeros, with two numbers of rows and
//! two sizes of every other free dimension. Called when a graph is loaded.

use std::sync::Arc;

use ort::{session::SessionInputValue, value::DynValue};

use super::{
    super::EngineError,
    pool::Pool,
    values::{self, Input},
};
use crate::types::{Shape, TensorSpec};

/// Rows that are tried.
const ROWS: [usize; 2] = [2, 3];

/// Sizes that are tried for all other free dimensions: two and two, until the graph takes both.
const OTHERS: [[usize; 2]; 3] = [[8, 16], [64, 96], [224, 256]];

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

/// Shapes that came out of runs.
pub(super) struct Probed {
    /// By output; `None` where a size varies.
    pub(super) shapes: Vec<Vec<Option<usize>>>,
    /// Every output has as many rows as the inputs, and nothing else follows them.
    pub(super) row_wise: bool,
}

/// Runs the graph; `None` when it takes none of the sizes, or its inputs have none that could vary and it fails on zeros.
/// `batched`: dimension 0 of every input is one number of rows.
pub(super) fn probe(pool: &Arc<Pool>, inputs: &[TensorSpec], batched: bool) -> Option<Probed> {
    let tried = OTHERS.iter().find_map(|others| {
        let run = |rows, other| run(pool, inputs, &shapes(inputs, batched, (rows, other)));
        Some([run(ROWS[0], others[0]).ok()?, run(ROWS[1], others[0]).ok()?, run(ROWS[0], others[1]).ok()?])
    });
    let [few, more, longer] = tried?;
    let has_rows = |shapes: &[Shape], rows| shapes.iter().all(|shape| shape.first() == Some(&rows));
    let same_rest = few.iter().zip(&more).all(|(few, more)| few.get(1..) == more.get(1..));
    let row_wise =
        batched && has_rows(&few, ROWS[0]) && has_rows(&more, ROWS[1]) && has_rows(&longer, ROWS[0]) && same_rest;
    let merged = few.iter().zip(more.iter().zip(&longer)).map(|(few, (more, longer))| {
        let fixed = |(axis, size): (usize, &usize)| {
            Some(*size).filter(|size| more.get(axis) == Some(size) && longer.get(axis) == Some(size))
        };
        few.iter().enumerate().map(fixed).collect()
    });
    Some(Probed { shapes: merged.collect(), row_wise })
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
    let outputs = pool.lend()?.run(&given)?;
    outputs.iter().map(values::sizes).collect()
}
