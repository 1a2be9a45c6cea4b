//! Graphs that cannot be typed with symbols: some shapes are only understood as numbers. Such a graph is typed for a few
//! sizes to learn what its outputs look like, and again for every size that comes. Called by `typing` and `model`.

use tract_onnx::{
    prelude::{OutletId, Symbol, SymbolValues, TDim, TractResult, TypedModel},
    tract_hir::{
        infer::{Factoid as _, InferenceModel},
        internal::{DatumType, DimLike as _, ToDim as _, bail},
    },
};

use super::{
    super::trials::{Learnt, Sizes, learn},
    typing::declutter,
};
use crate::types::Shape;

/// A graph to be typed by size.
pub(super) struct Probed {
    model: InferenceModel,
    pub(super) outputs: Vec<Fact>,
    /// True when every output has as many rows as the inputs, and nothing else follows them.
    pub(super) row_wise: bool,
}

/// Type and sizes of an input or output; `None` where a size varies.
pub(super) type Fact = (DatumType, Sizes);

/// What a typed graph says of some of its tensors.
///
/// # Errors
/// When one is not there.
pub(super) fn facts(graph: &TypedModel, outlets: &[OutletId]) -> TractResult<Vec<Fact>> {
    let one = |outlet: &OutletId| {
        let fact = graph.outlet_fact(*outlet)?;
        Ok((fact.datum_type, fact.shape.iter().map(|dim| dim.to_usize().ok()).collect()))
    };
    outlets.iter().map(one).collect()
}

/// Types a graph for several sizes; `None` when it takes none of them.
pub(super) fn probe(model: InferenceModel, rows: Option<Symbol>) -> Option<Probed> {
    let mut datums = Vec::new();
    let Learnt { shapes, row_wise } = learn(rows.is_some(), |count, other| {
        let graph = at(&model, rows.as_ref(), count, other)?;
        let outputs = facts(&graph, &graph.outputs)?;
        let shapes;
        (datums, shapes) = outputs.into_iter().unzip();
        TractResult::Ok(shapes)
    })?;
    Some(Probed { model, outputs: datums.into_iter().zip(shapes).collect(), row_wise })
}

/// The graph with `rows` rows and every other dynamic dimension of one size.
fn at(model: &InferenceModel, rows: Option<&Symbol>, count: usize, other: usize) -> TractResult<TypedModel> {
    let mut values = SymbolValues::default();
    for input in 0..model.inputs.len() {
        for dim in model.input_fact(input)?.shape.dims().filter_map(|dim| dim.concretize()) {
            for symbol in dim.symbols() {
                values.set(&symbol, if Some(&symbol) == rows { count } else { other } as i64);
            }
        }
    }
    sized(model, |_, dim| Ok(dim.eval(&values)))
}

/// The graph with input sizes as `size` gives them for an input's index and declared dimension.
fn sized(model: &InferenceModel, size: impl Fn((usize, usize), &TDim) -> TractResult<TDim>) -> TractResult<TypedModel> {
    let mut model = model.clone();
    for input in 0..model.inputs.len() {
        let mut fact = model.input_fact(input)?.clone();
        let dims: Vec<_> = fact.shape.dims().map(|dim| dim.concretize()).collect();
        for (axis, dim) in dims.into_iter().enumerate() {
            let Some(dim) = dim else { bail!("input {input}: dimension {axis} is unknown") };
            fact.shape.set_dim(axis, size((input, axis), &dim)?);
        }
        model.set_input_fact(input, fact)?;
    }
    declutter(model)
}

impl Probed {
    /// The graph's inputs as declared.
    pub(super) fn inputs(&self) -> TractResult<Vec<Fact>> {
        let one = |input| {
            let fact = self.model.input_fact(input)?;
            let Some(datum) = fact.datum_type.concretize() else { bail!("input {input}: has no type") };
            let sizes = fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok()));
            Ok((datum, sizes.collect()))
        };
        (0..self.model.inputs.len()).map(one).collect()
    }

    /// The graph typed for inputs of these shapes.
    ///
    /// # Errors
    /// When it cannot take them.
    pub(super) fn typed(&self, shapes: &[Shape]) -> TractResult<TypedModel> {
        sized(&self.model, |(input, axis), _| match shapes.get(input).and_then(|shape| shape.get(axis)) {
            Some(size) => Ok(size.to_dim()),
            None => bail!("input {input}: expected a size for dimension {axis}, got none"),
        })
    }
}
