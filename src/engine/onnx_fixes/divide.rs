//! Division whose result is rounded afterwards. The library multiplies by the reciprocal, which may end just below a whole
//! number: 49 * (1 / 49) is not 1. Where somebody looks at the whole part only, it has to be exact.

use tract_onnx::{
    model::ParsingContext,
    pb::{GraphProto, NodeProto},
    prelude::tract_num_traits::Float,
    tract_hir::{internal::*, tract_core::broadcast::multi_broadcast},
};

use super::super::operator::{Built, Fact, Known, Operator, need, typed};
use super::{
    amended::{Rewire, Wired, amended},
    built, original,
};

/// Operators that make whole numbers of what they are given.
const ROUNDING: [&str; 9] =
    ["Cast", "CastLike", "Ceil", "DynamicQuantizeLinear", "Floor", "Mod", "QLinearMatMul", "QuantizeLinear", "Round"];

/// `Div`.
pub(super) fn divide(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let graphs = context.model.graph.iter().chain(context.parent_graphs.iter().copied());
    let output = node.output.first().map_or("", String::as_str);
    let rounds =
        |user: &NodeProto| ROUNDING.contains(&user.op_type.as_str()) && user.input.iter().any(|input| input == output);
    if graphs.flat_map(|graph: &GraphProto| &graph.node).any(rounds) {
        return Ok((amended(original(context, node)?, Divide), vec![]));
    }
    built(context, node)
}

/// The exact quotient of two wires of floats.
pub(super) fn exact(
    model: &mut TypedModel,
    name: impl Into<String>,
    wires: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    model.wire_node(name, typed(Quotient, 2), wires)
}

#[derive(Clone, Debug)]
struct Divide;

impl Rewire for Divide {
    fn wire(&self, original: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired {
        let datum = |input: &OutletId| Ok(model.outlet_fact(*input)?.datum_type);
        let datums = inputs.iter().map(datum).collect::<TractResult<Vec<_>>>()?;
        if datums.iter().all(|datum| datum.is_float() && *datum == datums[0]) {
            exact(model, prefix, inputs)
        } else {
            original.wire(prefix, model, inputs)
        }
    }
}

#[derive(Debug)]
struct Quotient;

impl Quotient {
    fn run_in<T: Datum + Float>(&self, a: &Tensor, b: &Tensor) -> TractResult<Tensor> {
        let shape = multi_broadcast(&[a.shape(), b.shape()])?;
        let (a, b) = (a.to_plain_array_view::<T>()?, b.to_plain_array_view::<T>()?);
        let (a, b) = a.broadcast(&*shape).zip(b.broadcast(&*shape)).context("shapes that were checked fit")?;
        let quotients: Vec<T> = a.iter().zip(b.iter()).map(|(a, b)| *a / *b).collect();
        Tensor::from_shape(&shape, &quotients)
    }
}

impl Operator for Quotient {
    fn name(&self) -> &'static str {
        "Quotient"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (a, b) = (need(inputs, 0)?, need(inputs, 1)?);
        Ok(vec![(a.datum, multi_broadcast(&[&a.shape, &b.shape])?)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (a, b) = (*need(inputs, 0)?, *need(inputs, 1)?);
        Ok(vec![match a.datum_type() {
            DatumType::F16 => self.run_in::<f16>(a, b)?,
            DatumType::F64 => self.run_in::<f64>(a, b)?,
            _ => self.run_in::<f32>(a, b)?,
        }])
    }
}
