//! Operators over `[rows, channels, …]` that look at dimensions which a tensor may not have, without checking: the number of
//! dimensions is checked before they look.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{Built, built};

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

/// The library's operator, behind the check.
pub(super) fn ranked(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (op, closures) = built(context, node)?;
    let Some(original) = op.as_op().downcast_ref::<Box<dyn Expansion>>().cloned() else { return Ok((op, closures)) };
    let least = OPERATORS.iter().find(|(name, _)| *name == node.op_type).map_or(0, |(_, least)| *least);
    Ok((expand(Ranked { original, least }), closures))
}

#[derive(Clone, Debug)]
struct Ranked {
    original: Box<dyn Expansion>,
    least: i64,
}

impl Ranked {
    fn check(&self, rank: i64) -> TractResult<()> {
        ensure!(rank >= self.least, "expected an input of at least {} dimensions, got {rank}", self.least);
        Ok(())
    }
}

impl Expansion for Ranked {
    fn name(&self) -> StaticName {
        self.original.as_ref().name()
    }

    fn validation(&self) -> Validation {
        self.original.as_ref().validation()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.original.as_ref().nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let first = inputs.first().context("expected an input, got none")?;
        s.given(&first.rank, move |_, rank| self.check(rank))?;
        self.original.as_ref().rules(s, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let first = inputs.first().context("expected an input, got none")?;
        self.check(i64::try_from(model.outlet_fact(*first)?.rank())?)?;
        self.original.wire(prefix, model, inputs)
    }

    fn wire_with_inference_model_and_node(
        &self,
        prefix: &str,
        model: &InferenceModel,
        node: &InferenceNode,
        typed: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let first = inputs.first().context("expected an input, got none")?;
        self.check(i64::try_from(typed.outlet_fact(*first)?.rank())?)?;
        self.original.wire_with_inference_model_and_node(prefix, model, node, typed, inputs)
    }
}
