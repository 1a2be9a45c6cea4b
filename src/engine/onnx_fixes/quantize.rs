//! QuantizeLinear and DequantizeLinear whose scale or zero point is computed, and 16-bit ones.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{
        internal::*,
        tract_core::ops::{
            cast::cast,
            math::{add, max, min, mul, round_half_to_even, sub},
        },
    },
};

use super::{
    Built,
    amended::{Rewire, Wired, amended},
    divide, original,
};

/// `QuantizeLinear`: `saturate(round(x / scale) + zero_point)`.
pub(super) fn quantize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    build(context, node, true)
}

/// `DequantizeLinear`: `(x - zero_point) * scale`.
pub(super) fn dequantize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    build(context, node, false)
}

fn build(context: &ParsingContext<'_>, node: &NodeProto, forward: bool) -> Built {
    let axis = node.get_attr_opt("axis")?.unwrap_or(1);
    Ok((amended(original(context, node)?, Linear { forward, axis }), vec![]))
}

#[derive(Clone, Debug)]
struct Linear {
    forward: bool,
    axis: i64,
}

impl Linear {
    /// The library's own wants constants of 8 bits, or of 32 to go back from.
    fn is_original(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<bool> {
        for input in &inputs[1..] {
            if model.outlet_fact(*input)?.konst.is_none() {
                return Ok(false);
            }
        }
        let Some(zero) = inputs.get(2) else { return Ok(true) };
        let datum = model.outlet_fact(*zero)?.datum_type;
        Ok(matches!(datum, DatumType::U8 | DatumType::I8) || (datum == DatumType::I32 && !self.forward))
    }

    /// A parameter as floats, with its values along the axis of `rank` dimensions.
    fn aligned(&self, name: String, model: &mut TypedModel, wire: OutletId, rank: usize) -> TractResult<OutletId> {
        let own = model.outlet_fact(wire)?.rank();
        let mut wire = model.wire_node(format!("{name}.float"), cast(DatumType::F32), &[wire])?[0];
        let axis = if self.axis < 0 { self.axis + rank as i64 } else { self.axis };
        let axis = if own == 0 || rank == 0 { 0 } else { usize::try_from(axis)? };
        ensure!(own <= 1 && (own == 0 || axis < rank), "expected a scale of at most 1 dimension for axis {axis}");
        for step in 0..rank - own.min(rank) {
            let at = if step < axis { 0 } else { model.outlet_fact(wire)?.rank() };
            wire = model.wire_node(format!("{name}.axis-{step}"), AxisOp::Add(at), &[wire])?[0];
        }
        Ok(wire)
    }
}

impl Rewire for Linear {
    fn wire(&self, original: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired {
        if self.is_original(model, inputs)? {
            return original.wire(prefix, model, inputs);
        }
        let name = |part: &str| format!("{prefix}.{part}");
        let rank = model.outlet_fact(inputs[0])?.rank();
        let scale = self.aligned(name("scale"), model, inputs[1], rank)?;
        let zero = inputs.get(2).map(|zero| self.aligned(name("zero"), model, *zero, rank)).transpose()?;
        let mut x = model.wire_node(name("float"), cast(DatumType::F32), &inputs[..1])?[0];
        if !self.forward {
            if let Some(zero) = zero {
                x = model.wire_node(name("shifted"), sub(), &[x, zero])?[0];
            }
            return model.wire_node(prefix, mul(), &[x, scale]);
        }
        let datum =
            inputs.get(2).map_or(Ok(DatumType::U8), |zero| model.outlet_fact(*zero).map(|fact| fact.datum_type))?;
        let (lowest, highest) = match datum {
            DatumType::U8 => (0.0, 255.0),
            DatumType::I8 => (-128.0, 127.0),
            DatumType::U16 => (0.0, 65535.0),
            DatumType::I16 => (-32768.0, 32767.0),
            _ => bail!("cannot quantise to {datum:?}"),
        };
        let bound = |value: f32| tensor0(value).broadcast_into_rank(rank);
        let lowest = model.add_const(name("lowest"), bound(lowest)?)?;
        let highest = model.add_const(name("highest"), bound(highest)?)?;
        x = divide::exact(model, name("scaled"), &[x, scale])?[0];
        x = model.wire_node(name("rounded"), round_half_to_even(), &[x])?[0];
        if let Some(zero) = zero {
            x = model.wire_node(name("shifted"), add(), &[x, zero])?[0];
        }
        x = model.wire_node(name("above"), max(), &[x, lowest])?[0];
        x = model.wire_node(name("below"), min(), &[x, highest])?[0];
        model.wire_node(prefix, cast(datum), &[x])
    }
}
