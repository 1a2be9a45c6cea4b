//! Replaces what a graph spends its time in by operators of ours, on the kernels of the crate `weir-kernels`, before the graph
//! library compiles the rest. Only what is known to the last size is replaced; anything else stays as it is. Called by `plan`.
//!
//! | file | what it is |
//! |---|---|
//! | `convolution.rs` | convolutions of 32-bit floats over images |
//! | `product.rs` | products with a constant matrix, however their axes are named |
//! | `follow.rs` | what comes after either and is done in the same go: bias, residual, activation |
//! | `operators.rs` | the operators that are put in |
//! | `packings.rs` | packed weights, shared by the plans of all sizes |

mod convolution;
mod follow;
mod operators;
mod packings;
mod product;
#[cfg(test)]
mod tests;

use tract_onnx::{
    prelude::{TractResult, TypedModel},
    tract_core::{
        model::{Rewriter, TypedModelPatch, TypedOp},
        ops::{cnn::Conv, einsum::EinSum},
    },
};

pub(crate) use packings::Packings;

/// Replaces what there is to replace.
///
/// # Errors
/// When the graph does not hold together.
pub(crate) fn rewrite(graph: &mut TypedModel, packings: &Packings) -> TractResult<()> {
    let rewriter = Rewriter::<Packings>::default()
        .with_rule_for::<Conv>("convolution", |packings, graph, node, _, op| {
            convolution::replace(packings, graph, node, op)
        })
        .with_rule_for::<EinSum>("product", |packings, graph, node, _, op| product::replace(packings, graph, node, op));
    rewriter.rewrite(packings, graph)
}

/// Where the weights of one of the operators here are, and their bytes; `None` for all others.
pub(crate) fn part(op: &dyn TypedOp) -> Option<(usize, usize)> {
    op.downcast_ref::<operators::Fused>().map(|fused| fused.kernel.part())
}

/// Floats that an operator may put aside while it runs; larger images are left to the graph library.
const MAX_SCRATCH: usize = 16 << 20;

/// A patch for the node at the start of a chain, or none.
type Replaced = TractResult<Option<TypedModelPatch>>;
