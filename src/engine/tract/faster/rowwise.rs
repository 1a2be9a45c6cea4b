//! What is done row by row or plane by plane: softmax with the mask before it, normalization, sums, pooling, and tensors put
//! together. Called by the parent.

use std::sync::Arc;

use tract_onnx::tract_core::ops::{
    array::TypedConcat,
    binary::TypedBinOp,
    cnn::MaxPool,
    downsample::Downsample,
    element_wise::ElementWiseOp,
    nn::{DataFormat, Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind},
};
use tract_onnx::tract_hir::internal::*;
use weir_kernels::{Norm, Sums};

use super::{
    Replaced,
    convolution::axes,
    floats,
    follow::{Chain, activation_of, uniform},
    operators::{self, Fused, Kernel},
    patch,
};

/// Rows of a softmax, beyond which a mask is not taken along.
const MAX_ROWS: usize = 1 << 20;

/// The node before, if nobody else reads what it gives.
fn only_for_me(graph: &TypedModel, outlet: OutletId) -> Option<&TypedNode> {
    let alone = graph.outlet_successors(outlet).len() == 1 && !graph.outputs.contains(&outlet);
    alone.then(|| graph.node(outlet.node))
}

/// The operands of a binary operator of this name.
fn operands(node: &TypedNode, name: &str) -> Option<[OutletId; 2]> {
    let op = node.op_as::<TypedBinOp>()?;
    let [a, b] = node.inputs[..] else { return None };
    (op.0.name() == name && op.1.is_none()).then_some([a, b])
}

/// Replaces a softmax over the last axis, with a mask that is added before.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn softmax(graph: &TypedModel, node: &TypedNode, op: &Softmax) -> Replaced {
    let [input] = node.inputs[..] else { return Ok(None) };
    let Some(shape) = floats(graph, input)? else { return Ok(None) };
    let plain = op.kind == SoftmaxKind::Softmax && op.quant_output_dt.is_none();
    if !plain || op.axes[..] != [shape.len() - 1] {
        return Ok(None);
    }
    let len = shape[shape.len() - 1];
    let mut inputs = tvec![input];
    let mut starts = Vec::new();
    if let Some([a, b]) = only_for_me(graph, input).and_then(|before| operands(before, "Add")) {
        for (scores, mask) in [(a, b), (b, a)] {
            let is_whole = floats(graph, scores)? == Some(shape);
            let fact = graph.outlet_fact(mask)?;
            let is_float = fact.datum_type == f32::datum_type() && fact.is_plain();
            let mask_shape = fact.shape.as_concrete().filter(|_| is_whole && is_float && starts.is_empty());
            if let Some(found) = mask_shape.and_then(|mask| mask_starts(shape, mask)) {
                starts = found;
                inputs = tvec![scores, mask];
            }
        }
    }
    let kernel = Kernel::Softmax(Arc::new(operators::Softmax { len, starts }));
    patch(graph, &inputs, OutletId::new(node.id, 0), Fused::alone(kernel, shape))
}

/// Where the mask of each row starts, when the mask has whole rows and is one or as long as the scores along the other axes.
fn mask_starts(shape: &[usize], mask: &[usize]) -> Option<Vec<usize>> {
    let (len, outer) = shape.split_last()?;
    let fits = mask.len() == shape.len() && mask.last() == Some(len);
    if !fits || outer.iter().product::<usize>() > MAX_ROWS {
        return None;
    }
    let mut starts = vec![0];
    for (axis, size) in outer.iter().enumerate() {
        let step = match mask[axis] {
            1 => 0,
            own if own == *size => mask[axis + 1..].iter().product(),
            _ => return None,
        };
        starts = starts.iter().flat_map(|start| (0..*size).map(move |at| start + at * step)).collect();
    }
    Some(starts)
}

/// Replaces a normalization over the last axis, with the mean that is taken away before and the constants that follow.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn norm(graph: &TypedModel, node: &TypedNode, op: &RmsNorm) -> Replaced {
    let [input] = node.inputs[..] else { return Ok(None) };
    let Some(shape) = floats(graph, input)? else { return Ok(None) };
    let Some(epsilon) = uniform(&op.eps).filter(|_| op.axis + 1 == shape.len()) else { return Ok(None) };
    let centered = centered(graph, input, shape)?;
    let len = shape[op.axis];
    let mut chain = Chain::new(graph, node, op.axis..op.axis + 1, vec![0.0; len]);
    let factors = chain.factors(len)?;
    chain.add_constants()?;
    let addends = if chain.bias.iter().all(|addend| *addend == 0.0) { Vec::new() } else { chain.bias.clone() };
    let norm = Norm { len, epsilon, centered: centered.is_some(), factors, addends };
    let fused = Fused::alone(Kernel::Norm(Arc::new(norm)), shape);
    patch(graph, &[centered.unwrap_or(input)], chain.end, fused)
}

/// What rows are taken from, when `input` is that less the mean of each row.
fn centered(graph: &TypedModel, input: OutletId, shape: &[usize]) -> TractResult<Option<OutletId>> {
    let last = shape.len() - 1;
    let Some([rows, mean]) = only_for_me(graph, input).and_then(|node| operands(node, "Sub")) else { return Ok(None) };
    let Some([a, b]) = operands(graph.node(mean.node), "Mul") else { return Ok(None) };
    for (sum, share) in [(a, b), (b, a)] {
        let factor = graph.outlet_fact(share)?.konst.as_ref().and_then(|share| uniform(share));
        let is_share = factor.is_some_and(|factor| (factor * shape[last] as f32 - 1.0).abs() < 1e-6);
        let reduce = graph.node(sum.node);
        let sums = reduce.op_as::<Reduce>().is_some_and(|op| op.reducer == Reducer::Sum && op.axes[..] == [last]);
        if is_share && sums && reduce.inputs[..] == [rows] && floats(graph, rows)? == Some(shape) {
            return Ok(Some(rows));
        }
    }
    Ok(None)
}

/// Replaces a sum over neighbouring axes and a factor that follows it.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn sums(graph: &TypedModel, node: &TypedNode, op: &Reduce) -> Replaced {
    let [input] = node.inputs[..] else { return Ok(None) };
    let Some(shape) = floats(graph, input)? else { return Ok(None) };
    let (Some(first), Some(last)) = (op.axes.first(), op.axes.last()) else { return Ok(None) };
    let neighbours = op.reducer == Reducer::Sum && op.axes.iter().copied().eq(*first..last + 1);
    if !neighbours || *last >= shape.len() {
        return Ok(None);
    }
    let len: usize = shape[*first..=*last].iter().product();
    let inner: usize = shape[last + 1..].iter().product();
    if len == 1 {
        return Ok(None);
    }
    let mut chain = Chain::new(graph, node, 0..0, Vec::new());
    let factor = chain.factor()?;
    let Some(shape) = floats(graph, chain.end)? else { return Ok(None) };
    patch(graph, &[input], chain.end, Fused::alone(Kernel::Sums(Sums { len, inner, factor }), shape))
}

/// Replaces a tensor times another one that has a number for each plane of it.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn scale(graph: &TypedModel, node: &TypedNode) -> Replaced {
    let Some([a, b]) = operands(node, "Mul") else { return Ok(None) };
    let end = OutletId::new(node.id, 0);
    let Some(shape) = floats(graph, end)? else { return Ok(None) };
    for (planes, factors) in [(a, b), (b, a)] {
        let (Some(whole), Some(few)) = (floats(graph, planes)?, floats(graph, factors)?) else { return Ok(None) };
        let same = few.iter().zip(shape).take_while(|(few, whole)| few == whole).count();
        let len: usize = shape[same..].iter().product();
        let fits = whole == shape && few.len() == shape.len() && few[same..].iter().all(|size| *size == 1);
        if fits && len > 1 && same > 0 {
            return patch(graph, &[planes, factors], end, Fused::alone(Kernel::Scale(len), shape));
        }
    }
    Ok(None)
}

/// Replaces every so many of an axis.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn thinned(graph: &TypedModel, node: &TypedNode, op: &Downsample) -> Replaced {
    let ([input], end) = (&node.inputs[..], OutletId::new(node.id, 0)) else { return Ok(None) };
    let (Some(given), Some(shape)) = (floats(graph, *input)?, floats(graph, end)?) else { return Ok(None) };
    let (Ok(step @ 1..), 0) = (usize::try_from(op.stride), op.modulo) else { return Ok(None) };
    let inner = given[op.axis + 1..].iter().product();
    let thinned = operators::Thinned { given: given[op.axis], inner, step };
    patch(graph, &[*input], end, Fused::alone(Kernel::Thinned(thinned), shape))
}

/// Replaces the largest of each window of an image or a series, channels first.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn max_pool(graph: &TypedModel, node: &TypedNode, op: &MaxPool) -> Replaced {
    let ([input], 1) = (&node.inputs[..], node.outputs.len()) else { return Ok(None) };
    let end = OutletId::new(node.id, 0);
    let (Some(given), Some(shape)) = (floats(graph, *input)?, floats(graph, end)?) else { return Ok(None) };
    let spec = &op.pool_spec;
    let first = matches!(spec.data_format, DataFormat::NCHW | DataFormat::CHW);
    let near = spec.dilations().iter().all(|step| *step == 1) && spec.strides().iter().all(|step| *step > 0);
    if !first || !near || op.with_index_outputs.is_some() || !matches!(spec.rank(), 1 | 2) {
        return Ok(None);
    }
    let [y, x] = axes(spec, spec.data_format.shape(given)?.hw_dims());
    let rows = if spec.rank() == 2 { shape[shape.len() - 2] } else { 1 };
    let output = (rows, shape[shape.len() - 1]);
    let planes: usize = given.iter().product::<usize>() / (y.input * x.input);
    if planes * output.0 * output.1 != shape.iter().product::<usize>() {
        return Ok(None);
    }
    let pool = weir_kernels::MaxPool { y, x, output };
    patch(graph, &[*input], end, Fused::alone(Kernel::MaxPool(Arc::new(pool)), shape))
}

/// Replaces tensors put together along an axis.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn concat(graph: &TypedModel, node: &TypedNode, op: &TypedConcat) -> Replaced {
    let end = OutletId::new(node.id, 0);
    let Some(shape) = floats(graph, end)? else { return Ok(None) };
    let mut lens = Vec::new();
    for input in &node.inputs {
        let Some(piece) = floats(graph, *input)? else { return Ok(None) };
        lens.push(piece[op.axis..].iter().product());
    }
    patch(graph, &node.inputs, end, Fused::alone(Kernel::Concat(Arc::new(lens)), shape))
}

/// Replaces functions of each number that the graph library computes one by one.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn map(graph: &TypedModel, node: &TypedNode, op: &ElementWiseOp) -> Replaced {
    let ([input], true) = (&node.inputs[..], op.1.is_none()) else { return Ok(None) };
    let (Some(shape), Some(activation)) = (floats(graph, *input)?, activation_of(&op.0.name())) else {
        return Ok(None);
    };
    let fused = Fused { activation, ..Fused::alone(Kernel::Map, shape) };
    patch(graph, &[*input], OutletId::new(node.id, 0), fused)
}
