//! Products of two tensors of which neither is constant, as attention and crossed features have them: matrices anywhere in both,
//! one product for each place of the axes that all share. Called by `product`.

use std::sync::Arc;

use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::internal::*;
use weir_kernels::{Product, Products, Steps};

use super::{
    MAX_SCRATCH, Replaced, floats,
    follow::Chain,
    operators::{Fused, Kernel},
    patch,
};

/// Products of one run, beyond which where they are is not written down.
const MAX_PLACES: usize = 1 << 16;

/// Replaces a product and a factor that follows it.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn replace(graph: &TypedModel, node: &TypedNode, op: &EinSum) -> Replaced {
    let [a, b] = node.inputs[..] else { return Ok(None) };
    let output = OutletId::new(node.id, 0);
    let mut shapes: [&[usize]; 3] = [&[]; 3];
    for (shape, outlet) in shapes.iter_mut().zip([a, b, output]) {
        let Some(known) = floats(graph, outlet)? else { return Ok(None) };
        *shape = known;
    }
    if op.operating_dt != f32::datum_type() || op.q_params.is_some() {
        return Ok(None);
    }
    let Some(axes) = Axes::new(op, shapes) else { return Ok(None) };
    let mut chain = Chain::new(graph, node, 0..0, Vec::new());
    let factor = chain.factor()?;
    let products = axes.products(factor);
    if products.scratch_len() > MAX_SCRATCH {
        return Ok(None);
    }
    patch(graph, &[a, b], chain.end, Fused::alone(Kernel::Products(Arc::new(products)), shapes[2]))
}

/// An axis: its size, and its step in the left operand, the right one and the result; 0 where it is not.
#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    steps: [usize; 3],
}

/// One axis of each role but the shared ones, which may be any number.
struct Axes {
    rows: Axis,
    inner: Axis,
    outer: Axis,
    shared: Vec<Axis>,
}

impl Axes {
    /// `None` when the product is of another kind.
    fn new(op: &EinSum, shapes: [&[usize]; 3]) -> Option<Self> {
        let one = Axis { size: 1, steps: [1; 3] };
        let (mut rows, mut inner, mut outer, mut shared) = (None, None, None, Vec::new());
        for axis in op.axes.iter_all_axes() {
            let mut found = Axis { size: 1, steps: [0; 3] };
            let mut is_in = [false; 3];
            for (at, places) in [&axis.inputs[0], &axis.inputs[1], &axis.outputs[0]].into_iter().enumerate() {
                let [place] = places[..] else {
                    if places.is_empty() {
                        continue;
                    }
                    return None;
                };
                let size = shapes[at][place];
                if found.size > 1 && size != found.size {
                    return None;
                }
                is_in[at] = true;
                found.size = size;
                found.steps[at] = shapes[at][place + 1..].iter().product();
            }
            match (found.size, is_in) {
                (1, _) => {}
                (_, [true, true, true]) => shared.push(found),
                (_, [true, false, true]) if rows.is_none() => rows = Some(found),
                (_, [false, true, true]) if outer.is_none() => outer = Some(found),
                (_, [true, true, false]) if inner.is_none() => inner = Some(found),
                _ => return None,
            }
        }
        let places: usize = shared.iter().map(|axis| axis.size).product();
        let axes = Self { rows: rows.unwrap_or(one), inner: inner?, outer: outer.unwrap_or(one), shared };
        // Axes of one in one operand and of more in another are broadcast, which is not done here.
        let [left, right, out] = shapes.map(|shape| shape.iter().product::<usize>());
        let whole = places * axes.rows.size * axes.inner.size == left
            && places * axes.inner.size * axes.outer.size == right
            && places * axes.rows.size * axes.outer.size == out;
        (whole && places <= MAX_PLACES).then_some(axes)
    }

    fn products(&self, factor: f32) -> Products {
        let mut places = vec![Product { left: 0, right: 0, out: 0 }];
        for axis in &self.shared {
            let [left, right, out] = axis.steps;
            let along = |from: &Product, at: usize| Product {
                left: from.left + at * left,
                right: from.right + at * right,
                out: from.out + at * out,
            };
            places = places.iter().flat_map(|from| (0..axis.size).map(move |at| along(from, at))).collect();
        }
        Products {
            rows: self.rows.size,
            inner: self.inner.size,
            outer: self.outer.size,
            left: Steps { row: self.rows.steps[0], column: self.inner.steps[0] },
            right: Steps { row: self.inner.steps[1], column: self.outer.steps[1] },
            out: Steps { row: self.rows.steps[2], column: self.outer.steps[2] },
            factor,
            places,
        }
    }
}
