//! Activations whose `alpha` the library leaves out of part of the formula.

use std::{fmt, sync::Arc};

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{
        internal::*,
        tract_core::ops::{
            math::{add, div, exp, max, min, mul, sub},
            nn::sigmoid,
        },
    },
};

use super::super::operator::Built;

/// `Celu`: `max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`.
pub(super) fn celu(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha: f32 = node.get_attr_opt("alpha")?.unwrap_or(1.0);
    elementwise("Celu", 1, move |wires| {
        let (x, zero) = (wires.inputs[0], wires.number(0.0)?);
        let (alpha, one) = (wires.number(alpha)?, wires.number(1.0)?);
        let scaled = wires.wire(div(), &[x, alpha])?;
        let power = wires.wire(exp(), &[scaled])?;
        let less = wires.wire(sub(), &[power, one])?;
        let less = wires.wire(mul(), &[less, alpha])?;
        let below = wires.wire(min(), &[less, zero])?;
        let above = wires.wire(max(), &[x, zero])?;
        wires.wire(add(), &[above, below])
    })
}

/// `Swish`: `x * sigmoid(alpha * x)`.
pub(super) fn swish(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha: f32 = node.get_attr_opt("alpha")?.unwrap_or(1.0);
    elementwise("Swish", 1, move |wires| {
        let (x, alpha) = (wires.inputs[0], wires.number(alpha)?);
        let scaled = wires.wire(mul(), &[x, alpha])?;
        let gate = wires.wire(sigmoid(), &[scaled])?;
        wires.wire(mul(), &[x, gate])
    })
}

/// `SwiGLU`: `a * sigmoid(alpha * a) * b`.
pub(in super::super) fn swiglu(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha: f32 = node.get_attr_opt("alpha")?.unwrap_or(1.0);
    elementwise("SwiGLU", 2, move |wires| {
        let (a, b, alpha) = (wires.inputs[0], wires.inputs[1], wires.number(alpha)?);
        let scaled = wires.wire(mul(), &[a, alpha])?;
        let gate = wires.wire(sigmoid(), &[scaled])?;
        let gated = wires.wire(mul(), &[a, gate])?;
        wires.wire(mul(), &[gated, b])
    })
}

/// Nodes being added.
struct Wires<'a> {
    prefix: &'a str,
    model: &'a mut TypedModel,
    inputs: &'a [OutletId],
    count: usize,
}

impl Wires<'_> {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("{}.{}", self.prefix, self.count)
    }

    /// A number of the first input's type and rank.
    fn number(&mut self, value: f32) -> TractResult<OutletId> {
        let (name, fact) = (self.name(), self.model.outlet_fact(self.inputs[0])?.clone());
        let value = tensor0(value).cast_to_dt(fact.datum_type)?.into_owned().broadcast_into_rank(fact.rank())?;
        self.model.add_const(name, value)
    }

    fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        let name = self.name();
        Ok(self.model.wire_node(name, op, inputs)?[0])
    }
}

type Wire = dyn Fn(&mut Wires<'_>) -> TractResult<OutletId> + Send + Sync;

/// An operator whose inputs and output all have one type and shape.
#[derive(Clone)]
struct Elementwise {
    name: &'static str,
    inputs: usize,
    wire: Arc<Wire>,
}

fn elementwise(
    name: &'static str,
    inputs: usize,
    wire: impl Fn(&mut Wires<'_>) -> TractResult<OutletId> + Send + Sync + 'static,
) -> Built {
    Ok((expand(Elementwise { name, inputs, wire: Arc::new(wire) }), vec![]))
}

impl fmt::Debug for Elementwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Expansion for Elementwise {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.inputs)?;
        check_output_arity(outputs, 1)?;
        for input in inputs {
            s.equals(&outputs[0].datum_type, &input.datum_type)?;
            s.equals(&outputs[0].shape, &input.shape)?;
        }
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut wires = Wires { prefix, model, inputs, count: 0 };
        Ok(tvec![(self.wire)(&mut wires)?])
    }
}
