//! Replaces what a graph spends its time in by operators of ours, on the kernels of the crate `weir-kernels`, before the graph
//! library compiles the rest. Only what is known to the last size is replaced; anything else stays as it is. Called by `plan`.
//!
//! | file | what it is |
//! |---|---|
//! | `convolution.rs` | convolutions of 32-bit floats over images |
//! | `product.rs` | products with a constant matrix, however their axes are named |
//! | `pairs.rs` | products of which neither side is constant |
//! | `rowwise.rs` | softmax, normalization, sums, pooling, tensors put together |
//! | `follow.rs` | what comes after either and is done in the same go: bias, residual, activation |
//! | `operators.rs` | the operators that are put in |
//! | `packings.rs` | packed weights, shared by the plans of all sizes |

mod convolution;
mod follow;
mod operators;
mod packings;
mod pairs;
mod product;
mod rowwise;
#[cfg(test)]
mod rowwise_tests;
#[cfg(test)]
mod tests;

use tract_onnx::{
    prelude::{DatumType, OutletId, TVec, TractResult, TypedModel},
    tract_core::{
        model::{Rewriter, TypedModelPatch, TypedOp},
        ops::{
            array::TypedConcat,
            binary::TypedBinOp,
            cnn::{Conv, MaxPool},
            downsample::Downsample,
            einsum::EinSum,
            element_wise::ElementWiseOp,
            nn::{Reduce, RmsNorm, Softmax},
        },
    },
};

pub(crate) use packings::Packings;

/// Replaces what there is to replace.
///
/// # Errors
/// When the graph does not hold together.
pub(crate) fn rewrite(graph: &mut TypedModel, packings: &Packings) -> TractResult<()> {
    // Before the sums in them are replaced.
    let norms = Rewriter::<()>::default()
        .with_rule_for::<RmsNorm>("norm", |(), graph, node, _, op| rowwise::norm(graph, node, op));
    norms.rewrite(&(), graph)?;
    let rewriter = Rewriter::<Packings>::default()
        .with_rule_for::<Conv>("convolution", |packings, graph, node, _, op| {
            convolution::replace(packings, graph, node, op)
        })
        .with_rule_for::<EinSum>("product", |packings, graph, node, _, op| product::replace(packings, graph, node, op))
        .with_rule_for::<Softmax>("softmax", |_, graph, node, _, op| rowwise::softmax(graph, node, op))
        .with_rule_for::<Reduce>("sums", |_, graph, node, _, op| rowwise::sums(graph, node, op))
        .with_rule_for::<MaxPool>("max pool", |_, graph, node, _, op| rowwise::max_pool(graph, node, op))
        .with_rule_for::<Downsample>("every second", |_, graph, node, _, op| rowwise::thinned(graph, node, op))
        .with_rule_for::<TypedConcat>("concat", |_, graph, node, _, op| rowwise::concat(graph, node, op));
    rewriter.rewrite(packings, graph)?;
    // What has not become part of something else.
    let maps = Rewriter::<()>::default()
        .with_rule_for::<ElementWiseOp>("map", |(), graph, node, _, op| rowwise::map(graph, node, op))
        .with_rule_for::<TypedBinOp>("scale", |(), graph, node, _, _| rowwise::scale(graph, node));
    maps.rewrite(&(), graph)
}

/// Where what one of the operators here holds is, and its bytes; `None` for all others.
pub(crate) fn part(op: &dyn TypedOp) -> Option<(usize, usize)> {
    op.downcast_ref::<operators::Fused>().and_then(|fused| fused.kernel.part())
}

/// Floats that an operator may put aside while it runs; larger images are left to the graph library.
const MAX_SCRATCH: usize = 16 << 20;

/// A patch for the node at the start of a chain, or none.
type Replaced = TractResult<Option<TypedModelPatch>>;

/// Puts an operator in the place of everything from its inputs to `end`.
fn patch(graph: &TypedModel, inputs: &[OutletId], end: OutletId, fused: operators::Fused) -> Replaced {
    let mut patch = TypedModelPatch::new("faster");
    let inputs = inputs.iter().map(|input| patch.tap_model(graph, *input)).collect::<TractResult<TVec<_>>>()?;
    let made = patch.wire_node(&graph.node(end.node).name, fused, &inputs)?[0];
    patch.shunt_outside(graph, end, made)?;
    Ok(Some(patch))
}

/// The sizes of a tensor of 32-bit floats, if they are known and it is not constant or empty.
fn floats(graph: &TypedModel, outlet: OutletId) -> TractResult<Option<&[usize]>> {
    let fact = graph.outlet_fact(outlet)?;
    let float = fact.datum_type == DatumType::F32 && fact.is_plain() && fact.konst.is_none();
    Ok(fact.shape.as_concrete().filter(|shape| float && !shape.contains(&0)))
}
