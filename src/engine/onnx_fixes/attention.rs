//! Attention: what the library would answer wrong is refused.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{Built, built};

/// `Attention`.
pub(super) fn attention(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let causal = node.get_attr_opt("is_causal")?.unwrap_or(0_i64) != 0;
    let past = node.input.get(4).is_some_and(|name| !name.is_empty());
    ensure!(!(causal && past), "causal attention over keys of the past is not supported");
    for name in ["left_window_size", "right_window_size"] {
        ensure!(node.get_attr_opt::<i64>(name)?.is_none_or(|size| size < 0), "attribute '{name}': is not supported");
    }
    built(context, node)
}
