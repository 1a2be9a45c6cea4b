//! Standard operators that the graph library gets wrong, does not check, or only runs when an input is a constant. Each wraps the library's
//! own operator, which keeps inferring shapes and does the work where it does it well. Called once, by `TractEngine::new`.

use std::sync::LazyLock;

use tract_onnx::{
    model::{OnnxOpRegister, ParsingContext},
    pb::NodeProto,
    prelude::TractResult,
    tract_hir::internal::{Expansion, TractErrorContext as _},
};

mod activations;
mod amended;
mod attention;
mod bit_shift;
mod divide;
mod extremes;
mod log_sum_exp;
mod one_hot;
mod quantize;
mod ranked;
mod recurrent;
mod space_to_depth;

use super::operator::{Built, expansion};

/// The library's own operators.
static ORIGINALS: LazyLock<OnnxOpRegister> = LazyLock::new(|| tract_onnx::onnx().op_register);

/// Puts the repaired operators in place of the library's.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("Attention", attention::attention);
    operators.insert("BitShift", bit_shift::bit_shift);
    operators.insert("Celu", activations::celu);
    operators.insert("DequantizeLinear", quantize::dequantize);
    operators.insert("Div", divide::divide);
    operators.insert("GRU", recurrent::recurrent);
    operators.insert("LSTM", recurrent::recurrent);
    operators.insert("OneHot", one_hot::one_hot);
    operators.insert("QuantizeLinear", quantize::quantize);
    operators.insert("RandomNormalLike", random_like);
    operators.insert("RandomUniformLike", random_like);
    for (name, _) in ranked::OPERATORS {
        operators.insert(name, ranked::ranked);
    }
    operators.insert("ReduceLogSumExp", log_sum_exp::reduce);
    operators.insert("ReduceMax", extremes::reduce);
    operators.insert("ReduceMin", extremes::reduce);
    operators.insert("RNN", recurrent::recurrent);
    operators.insert("SpaceToDepth", space_to_depth::space_to_depth);
    operators.insert("SwiGLU", activations::swiglu);
    operators.insert("Swish", activations::swish);
}

/// Puts our own cells in place of the library's for all recurrent operators.
pub(super) fn own_recurrence(operators: &mut OnnxOpRegister) {
    for name in ["GRU", "LSTM", "RNN"] {
        operators.insert(name, recurrent::own);
    }
}

/// The library takes these for the operators without `Like`, unless the node's name ends in it.
fn random_like(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let mut named = node.clone();
    named.name.push_str("Like");
    built(context, &named)
}

pub(super) fn built(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let build = ORIGINALS.0.get(&node.op_type).with_context(|| format!("there is no operator {}", node.op_type))?;
    build(context, node)
}

/// The library's own version of a node.
pub(super) fn original(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Box<dyn Expansion>> {
    let (op, _) = built(context, node)?;
    expansion(&*op).with_context(|| format!("operator {} is not an expansion", node.op_type))
}
