//! ReduceLogSumExp that does not overflow: the largest value is taken out before the exponential and added after the
//! logarithm. Naive Bayes models are made of it.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{
        internal::*,
        tract_core::ops::{
            math::{add, exp, ln, max, min, sub},
            nn::{Reduce, Reducer},
        },
    },
};

use super::{
    Built,
    amended::{Rewire, Wired, amended},
    original,
};

/// `ReduceLogSumExp`, with axes as an attribute or, since opset 18, as an input.
pub(super) fn reduce(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let op = LogSumExp {
        axes: node.get_attr_opt_vec("axes")?,
        keep: node.get_attr_opt("keepdims")?.unwrap_or(1_i64) == 1,
        noop_without_axes: node.get_attr_opt("noop_with_empty_axes")?.unwrap_or(0_i64) == 1,
    };
    Ok((amended(original(context, node)?, op), vec![]))
}

#[derive(Clone, Debug)]
struct LogSumExp {
    axes: Option<Vec<i64>>,
    keep: bool,
    noop_without_axes: bool,
}

impl LogSumExp {
    /// The axes in order; `None` when they are not known before the run.
    fn axes(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<Option<TVec<usize>>> {
        let rank = model.outlet_fact(inputs[0])?.rank();
        let mut axes = self.axes.clone().unwrap_or_default();
        if let Some(input) = inputs.get(1) {
            let Some(given) = model.outlet_fact(*input)?.konst.clone() else { return Ok(None) };
            axes = given.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
        }
        if axes.is_empty() && !self.noop_without_axes {
            return Ok(Some((0..rank).collect()));
        }
        let inside = |axis: &i64| {
            let axis = if *axis < 0 { *axis + rank as i64 } else { *axis };
            usize::try_from(axis).ok().filter(|axis| *axis < rank)
        };
        let axes: Option<TVec<usize>> = axes.iter().map(inside).collect();
        let mut axes = axes.with_context(|| format!("axes: expected less than {rank}"))?;
        axes.sort_unstable();
        axes.dedup();
        Ok(Some(axes))
    }
}

impl Rewire for LogSumExp {
    fn wire(&self, original: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let axes = self.axes(model, inputs)?;
        let (Some(axes), true) = (axes, fact.datum_type.is_float()) else {
            return original.wire(prefix, model, inputs);
        };
        let name = |part: &str| format!("{prefix}.{part}");
        let x = inputs[0];
        let largest = model.wire_node(name("max"), Reduce::new(axes.clone(), Reducer::Max), &[x])?[0];
        // An infinity taken from itself would be no number.
        let bound = |value: f32| -> TractResult<Tensor> {
            let value = if fact.datum_type == DatumType::F16 { value.clamp(-65504.0, 65504.0) } else { value };
            tensor0(value).cast_to_dt(fact.datum_type)?.into_owned().broadcast_into_rank(fact.rank())
        };
        let lowest = model.add_const(name("lowest"), bound(f32::MIN)?)?;
        let highest = model.add_const(name("highest"), bound(f32::MAX)?)?;
        let largest = model.wire_node(name("above"), max(), &[largest, lowest])?[0];
        let largest = model.wire_node(name("below"), min(), &[largest, highest])?[0];
        let less = model.wire_node(name("less"), sub(), &[x, largest])?[0];
        let exponential = model.wire_node(name("exp"), exp(), &[less])?[0];
        let sum = model.wire_node(name("sum"), Reduce::new(axes.clone(), Reducer::Sum), &[exponential])?[0];
        let logarithm = model.wire_node(name("ln"), ln(), &[sum])?[0];
        let mut wire = model.wire_node(prefix, add(), &[logarithm, largest])?;
        if !self.keep {
            for axis in axes.into_iter().rev() {
                wire = model.wire_node(name(&format!("without-{axis}")), AxisOp::Rm(axis), &wire)?;
            }
        }
        Ok(wire)
    }
}
