//! Operators over `[rows, channels, …]` that look at dimensions which a tensor may not have, or go over it with a window that
//! does not fit, without checking: the number of dimensions and their sizes are checked before they look.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{
    super::operator::expansion,
    Built,
    amended::{Rewire, Wired, amended},
    built,
};

/// The operators, and how many dimensions the first input must have.
pub(super) const OPERATORS: [(&str, i64); 17] = [
    ("AveragePool", 3),
    ("BatchNormalization", 2),
    ("Conv", 3),
    ("ConvInteger", 3),
    ("ConvTranspose", 3),
    ("GlobalAveragePool", 3),
    ("GlobalLpPool", 3),
    ("GlobalMaxPool", 3),
    ("GroupNormalization", 3),
    ("InstanceNormalization", 3),
    ("LayerNormalization", 1),
    ("LpNormalization", 1),
    ("LRN", 3),
    ("MaxPool", 3),
    ("QLinearConv", 3),
    ("RMSNormalization", 1),
    ("SimplifiedLayerNormalization", 1),
];

/// Those of them that go over the dimensions after two with windows.
const WINDOWED: [&str; 5] = ["AveragePool", "Conv", "ConvInteger", "MaxPool", "QLinearConv"];

/// The library's operator, behind the check.
pub(super) fn ranked(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (op, closures) = built(context, node)?;
    let Some(original) = expansion(&*op) else { return Ok((op, closures)) };
    let least = OPERATORS.iter().find(|(name, _)| *name == node.op_type).map_or(0, |(_, least)| *least);
    let window = if WINDOWED.contains(&node.op_type.as_str()) { window(node)? } else { Vec::new() };
    Ok((amended(original, Ranked { least, window }), closures))
}

/// How large the dimensions after two must be for one whole window; empty where a part of one will do, or it is not known.
fn window(node: &NodeProto) -> TractResult<Vec<i64>> {
    let list = |name: &str| -> TractResult<Vec<i64>> { Ok(node.get_attr_opt_vec(name)?.unwrap_or_default()) };
    let auto: Option<String> = node.get_attr_opt("auto_pad")?;
    let partly = node.get_attr_opt("ceil_mode")?.unwrap_or(0_i64) != 0;
    if partly || auto.as_deref().is_some_and(|auto| auto.starts_with("SAME")) {
        return Ok(Vec::new());
    }
    let (kernel, dilations) = (list("kernel_shape")?, list("dilations")?);
    let pads = if auto.as_deref() == Some("VALID") { Vec::new() } else { list("pads")? };
    let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
    let least = |(axis, size): (usize, &i64)| {
        let reach = (size - 1).saturating_mul(dilations.get(axis).copied().unwrap_or(1));
        reach.saturating_add(1).saturating_sub(pad(axis)).saturating_sub(pad(kernel.len() + axis))
    };
    Ok(kernel.iter().enumerate().map(least).collect())
}

#[derive(Clone, Debug)]
struct Ranked {
    least: i64,
    /// How large the dimensions after two must be at least.
    window: Vec<i64>,
}

impl Ranked {
    fn check(&self, rank: i64) -> TractResult<()> {
        ensure!(rank >= self.least, "expected an input of at least {} dimensions, got {rank}", self.least);
        Ok(())
    }
}

impl Rewire for Ranked {
    fn require<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy]) -> InferenceResult {
        let first = inputs.first().context("expected an input, got none")?;
        s.given(&first.rank, move |_, rank| self.check(rank))
    }

    /// With the sizes that are known. The library and ONNX Runtime both round the number of windows to zero and answer with one
    /// that is not there, each with another value.
    fn wire(&self, original: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired {
        let first = inputs.first().context("expected an input, got none")?;
        let shape = &model.outlet_fact(*first)?.shape;
        self.check(i64::try_from(shape.rank())?)?;
        for (axis, (size, least)) in shape.iter().skip(2).zip(&self.window).enumerate() {
            let fits = size.to_i64().map_or(true, |size| size >= *least);
            ensure!(fits, "expected at least {least} along dimension {}, got {size}", axis + 2);
        }
        original.wire(prefix, model, inputs)
    }
}
