//! How much memory a graph's tensors take. A request with long dynamic dimensions, or a graph that multiplies them, must be an
//! error and not an allocation that ends the process. Called by `typing`, `plan` and `session`.

use tract_onnx::{
    prelude::{SymbolValues, TDim, TValue, TVec, TractResult, TypedFact, TypedModel},
    tract_hir::{
        internal::{EvalContext, OpState, bail, ensure},
        tract_core::{
            model::{Node, TypedOp},
            plan,
        },
    },
};

/// Bytes that one tensor may have.
const MAX_TENSOR_BYTES: i64 = 4 << 30;

/// Elements that an operator may make because of the values, not the shapes, of a request.
const MAX_MADE_ELEMENTS: f64 = (1_u64 << 27) as f64;

/// Operators whose output size is decided by values.
const BY_VALUE: [&str; 2] = ["Range", "DynTile"];

/// Checks every tensor of a graph whose size is known once `symbols` have these values.
///
/// # Errors
/// `node 'x' (Op): would make a tensor of … bytes`.
pub(super) fn check(graph: &TypedModel, symbols: &SymbolValues) -> TractResult<()> {
    for node in &graph.nodes {
        for output in &node.outputs {
            let bytes = bytes(&output.fact, symbols);
            if bytes.is_some_and(|bytes| bytes > MAX_TENSOR_BYTES) {
                let shape = &output.fact.shape;
                bail!(
                    "node '{}' ({}): a tensor of {shape:?} is more than {MAX_TENSOR_BYTES} bytes",
                    node.name,
                    node.op.name()
                );
            }
        }
    }
    Ok(())
}

/// Bytes of a tensor; `None` when they are not known. More than can be counted is the highest number.
pub(super) fn bytes(fact: &TypedFact, symbols: &SymbolValues) -> Option<i64> {
    let mut bytes = i64::try_from(fact.datum_type.size_of()).ok()?;
    for dim in fact.shape.iter() {
        let TDim::Val(size) = dim.eval(symbols) else { return None };
        bytes = bytes.saturating_mul(size.max(0));
    }
    Some(bytes)
}

/// True when a graph has operators whose output size is decided by values, which `eval` has to look at.
pub(super) fn is_by_value(graph: &TypedModel) -> bool {
    graph.nodes.iter().any(|node| BY_VALUE.contains(&&*node.op.name()))
}

/// Runs a node, unless it would make too much.
pub(super) fn eval<'a>(
    context: &'a EvalContext<'a>,
    state: Option<&mut (dyn OpState + 'static)>,
    node: &Node<TypedFact, Box<dyn TypedOp>>,
    inputs: TVec<TValue>,
) -> TractResult<TVec<TValue>> {
    let made = match &*node.op.name() {
        "Range" => range(&inputs),
        "DynTile" => tile(&inputs),
        _ => None,
    };
    let made = made.unwrap_or(0.0);
    ensure!(
        made <= MAX_MADE_ELEMENTS,
        "node '{}': expected at most {MAX_MADE_ELEMENTS} elements, got {made}",
        node.name
    );
    plan::eval(context, state, node, inputs)
}

fn range(inputs: &[TValue]) -> Option<f64> {
    let [start, end, step] = inputs else { return None };
    let number = |value: &TValue| value.cast_to_scalar::<f64>().ok();
    Some(((number(end)? - number(start)?) / number(step)?).ceil())
}

fn tile(inputs: &[TValue]) -> Option<f64> {
    let [value, repeats] = inputs else { return None };
    let repeats = repeats.cast_to::<f64>().ok()?;
    let repeats = repeats.try_as_plain_ram().ok()?;
    Some(repeats.as_slice::<f64>().ok()?.iter().product::<f64>() * value.len() as f64)
}
