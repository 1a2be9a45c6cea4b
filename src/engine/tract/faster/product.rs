//! Products with a constant matrix. Their axes may come in any order and number; what counts is which of them are summed over
//! and where the others end up. Called by the parent.

use std::sync::Arc;

use tract_onnx::tract_core::{axes::Axis, ops::einsum::EinSum};
use tract_onnx::tract_hir::internal::*;

use super::{
    Replaced,
    follow::Chain,
    operators::{Fused, Kernel},
    packings::{Form, Packings},
    pairs, patch,
};
use weir_kernels::{self as kernels, Conv, ConvWeights, Dense, DenseWeights, Window, WindowAxis};

/// Replaces a product and what follows it.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn replace(packings: &Packings, graph: &TypedModel, node: &TypedNode, op: &EinSum) -> Replaced {
    if !kernels::has_wide_vectors() {
        return Ok(None);
    }
    let Some(seen) = See::new(graph, node, op)? else { return pairs::replace(graph, node, op) };
    let Some(roles) = Roles::new(op, &seen) else { return Ok(None) };
    let (inner, outer) = (size(&roles.summed), size(&roles.outer));
    let mut chain = Chain::new(graph, node, roles.channels(), vec![0.0; outer]);
    chain.follow(true)?;
    let matrix = &seen.matrix;
    let kernel = if roles.after.is_empty() {
        let form = Form { axes: roles.order(matrix.rank(), [&roles.summed, &roles.outer]), groups: 0 };
        let weights = packings.dense(matrix, form, |matrix| DenseWeights::new(matrix, inner, outer))?;
        Kernel::Dense(Arc::new(Dense::new(weights, &chain.bias)))
    } else {
        let form = Form { axes: roles.order(matrix.rank(), [&roles.outer, &roles.summed]), groups: 1 };
        let weights = packings.conv(matrix, form, |matrix| ConvWeights::new(matrix, 1, outer))?;
        let window = Window::new(WindowAxis::pointwise(1), WindowAxis::pointwise(size(&roles.after)));
        Kernel::Conv(Arc::new(Conv::new(window, weights, chain.bias.clone())))
    };
    let images = if roles.after.is_empty() { 1 } else { size(&roles.before) };
    let fused = Fused { kernel, activation: chain.activation, images, shape: seen.shape.clone() };
    patch(graph, &chain.inputs(node.inputs[1 - seen.at]), chain.end, fused)
}

/// What is to be known of a product.
struct See {
    matrix: Arc<Tensor>,
    /// Which input the matrix is.
    at: usize,
    input: TVec<usize>,
    shape: TVec<usize>,
}

impl See {
    fn new(graph: &TypedModel, node: &TypedNode, op: &EinSum) -> TractResult<Option<Self>> {
        let [a, b] = node.inputs[..] else { return Ok(None) };
        let facts = [graph.outlet_fact(a)?, graph.outlet_fact(b)?];
        let output = graph.outlet_fact(OutletId::new(node.id, 0))?;
        let float = f32::datum_type();
        let floats = facts.iter().all(|fact| fact.datum_type == float && fact.is_plain());
        if !floats || output.datum_type != float || op.operating_dt != float || op.q_params.is_some() {
            return Ok(None);
        }
        let (at, matrix) = match (&facts[0].konst, &facts[1].konst) {
            (None, Some(matrix)) => (1, matrix),
            (Some(matrix), None) => (0, matrix),
            _ => return Ok(None),
        };
        let (Some(input), Some(shape)) = (facts[1 - at].shape.as_concrete(), output.shape.as_concrete()) else {
            return Ok(None);
        };
        let empty = input.iter().chain(shape).chain(matrix.shape()).any(|size| *size == 0);
        let seen = Self { matrix: Arc::clone(matrix), at, input: input.into(), shape: shape.into() };
        Ok((!empty).then_some(seen))
    }
}

/// An axis that is longer than one: where it is in the input, the matrix, the output, and how long.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    input: Option<usize>,
    matrix: Option<usize>,
    output: Option<usize>,
    size: usize,
}

/// How many elements these axes have together.
fn size(places: &[Place]) -> usize {
    places.iter().map(|place| place.size).product()
}

/// The axes of the input are `before`, `summed`, `after`, those of the output `before`, `outer`, `after`.
struct Roles {
    before: Vec<Place>,
    summed: Vec<Place>,
    outer: Vec<Place>,
    after: Vec<Place>,
}

impl Roles {
    /// `None` when the product is of another kind.
    fn new(op: &EinSum, seen: &See) -> Option<Self> {
        let places: Option<Vec<_>> = op.axes.iter_all_axes().map(|axis| place(axis, seen)).collect();
        let mut places: Vec<_> = places?.into_iter().filter(|place| place.size > 1).collect();
        places.sort_by_key(|place| place.input);
        let (mut before, mut summed, mut outer, mut after) = (vec![], vec![], vec![], vec![]);
        for place in places {
            match (place.input, place.matrix, place.output) {
                (Some(_), Some(_), None) if after.is_empty() => summed.push(place),
                (Some(_), None, Some(_)) if summed.is_empty() => before.push(place),
                (Some(_), None, Some(_)) => after.push(place),
                (None, Some(_), Some(_)) => outer.push(place),
                _ => return None,
            }
        }
        outer.sort_by_key(|place| place.output);
        let roles = Self { before, summed, outer, after };
        let outputs = roles.before.iter().chain(&roles.outer).chain(&roles.after).map(|place| place.output);
        let ordered = outputs.is_sorted();
        let columns = !roles.outer.is_empty() || roles.after.is_empty();
        (ordered && !roles.summed.is_empty() && columns).then_some(roles)
    }

    /// The axes of the output that the columns of the matrix become.
    fn channels(&self) -> std::ops::Range<usize> {
        let at = |place: Option<&Place>| place.and_then(|place| place.output).unwrap_or_default();
        at(self.outer.first())..at(self.outer.last()) + 1
    }

    /// All axes of the matrix, those of `parts` last, in their order.
    fn order(&self, rank: usize, parts: [&[Place]; 2]) -> Vec<usize> {
        let wanted: Vec<_> = parts.into_iter().flatten().filter_map(|place| place.matrix).collect();
        (0..rank).filter(|axis| !wanted.contains(axis)).chain(wanted.iter().copied()).collect()
    }
}

/// `None` when an axis is repeated, or has two sizes.
fn place(axis: &Axis, seen: &See) -> Option<Place> {
    let only = |at: &[usize]| match *at {
        [] => Some(None),
        [at] => Some(Some(at)),
        _ => None,
    };
    let input = only(&axis.inputs[1 - seen.at])?;
    let matrix = only(&axis.inputs[seen.at])?;
    let output = only(&axis.outputs[0])?;
    let sizes =
        [input.map(|at| seen.input[at]), matrix.map(|at| seen.matrix.shape()[at]), output.map(|at| seen.shape[at])];
    let size = sizes.iter().flatten().copied().max()?;
    sizes.iter().flatten().all(|other| *other == size).then_some(Place { input, matrix, output, size })
}
