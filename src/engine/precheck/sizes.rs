//! How much a graph makes out of nothing. Constants are computed while a model loads, so an operator that expands a few bytes
//! of the file into a terabyte would end the process before any request came. Small constants are followed through the
//! operators that shapes are usually computed with.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::{
    super::LoadError,
    label, subgraphs,
    tensors::{elements, numbers},
};

/// Elements that one operator may make out of constants.
const MAX_ELEMENTS: f64 = (1_u64 << 27) as f64;

/// Numbers of a constant that are followed.
const MAX_NUMBERS: usize = 64;

/// What is known about a value without running anything.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Number of elements.
    elements: Option<f64>,
    /// The elements, when they are few.
    numbers: Option<Vec<f64>>,
}

type Values = HashMap<String, Known>;

/// Checks every operator that can make more than it is given.
///
/// # Errors
/// `node 'x' (Expand): expected at most 134217728 elements, got 1.1e12`.
pub(super) fn check(graph: &GraphProto) -> Result<(), LoadError> {
    check_graph(graph, &mut Values::new())
}

fn check_graph(graph: &GraphProto, values: &mut Values) -> Result<(), LoadError> {
    for tensor in &graph.initializer {
        values.insert(tensor.name.clone(), known(tensor));
    }
    for node in &graph.node {
        if let Some(made) = made(node, values)
            && (made.is_nan() || made > MAX_ELEMENTS)
        {
            let text = format!("{}: expected at most {MAX_ELEMENTS} elements, got {made:.3e}", label(node));
            return Err(LoadError::new(text));
        }
        if let (Some(output), Some(result)) = (node.output.first(), result(node, values)) {
            values.insert(output.clone(), result);
        }
        subgraphs(node).try_for_each(|inner| check_graph(inner, values))?;
    }
    Ok(())
}

fn known(tensor: &TensorProto) -> Known {
    Known { elements: elements(&tensor.dims).ok().map(|count| count as f64), numbers: numbers(tensor) }
}

fn listed(numbers: Vec<f64>) -> Known {
    Known { elements: Some(numbers.len() as f64), numbers: Some(numbers) }
}

/// Elements that a node makes out of constants; `None` when it makes no more than it is given, or that is not known here.
fn made(node: &NodeProto, values: &Values) -> Option<f64> {
    let input = |index: usize| node.input.get(index).and_then(|name| values.get(name));
    let list = |index: usize| input(index).and_then(|known| known.numbers.as_deref());
    let count = |index: usize| input(index).and_then(|known| known.elements).unwrap_or(1.0);
    let ints = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name).map(|found| &found.ints);
    match node.op_type.as_str() {
        "ConstantOfShape" => list(0).map(product),
        "Expand" => list(1).map(|shape| product(shape).max(count(0))),
        "Tile" => list(1).map(|repeats| product(repeats) * count(0)),
        "Range" => Some(((list(1)?.first()? - list(0)?.first()?) / list(2)?.first()?).ceil().max(0.0)),
        "OneHot" => list(1).and_then(|depth| Some(depth.first()? * count(0))),
        "Pad" => match list(1) {
            Some(pads) => Some(grown(pads)),
            None => ints("pads").map(|pads| grown(&pads.iter().map(|pad| *pad as f64).collect::<Vec<_>>())),
        },
        "Resize" => list(3).map(product).or_else(|| list(2).map(|scales| product(scales) * count(0))),
        "RandomNormal" | "RandomUniform" => {
            ints("shape").map(|shape| product(&shape.iter().map(|dim| *dim as f64).collect::<Vec<_>>()))
        }
        "HannWindow" | "HammingWindow" | "BlackmanWindow" => list(0).and_then(|size| size.first().copied()),
        _ => None,
    }
}

/// Sizes of 0 and -1 ("as it is") do not grow anything.
fn product(dims: &[f64]) -> f64 {
    dims.iter().map(|dim| dim.abs().max(1.0)).product()
}

/// At least so many elements has what is padded by these: half of them are before, half after each axis.
fn grown(pads: &[f64]) -> f64 {
    let (before, after) = pads.split_at(pads.len() / 2);
    before.iter().zip(after).map(|(before, after)| (before.max(0.0) + after.max(0.0)).max(1.0)).product()
}

/// The value of a node's first output, for the operators that shapes are computed with.
fn result(node: &NodeProto, values: &Values) -> Option<Known> {
    let input = |index: usize| node.input.get(index).and_then(|name| values.get(name));
    let list = |index: usize| input(index).and_then(|known| known.numbers.as_deref());
    let pair = |apply: fn(f64, f64) -> f64| elementwise(list(0)?, list(1)?, apply);
    match node.op_type.as_str() {
        "Constant" => constant(node),
        "Identity" | "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" | "Transpose" => input(0).cloned(),
        "Concat" => {
            let parts: Option<Vec<_>> = (0..node.input.len()).map(list).collect();
            let numbers = parts?.concat();
            (numbers.len() <= MAX_NUMBERS).then(|| listed(numbers))
        }
        "Add" => pair(|a, b| a + b),
        "Sub" => pair(|a, b| a - b),
        "Mul" => pair(|a, b| a * b),
        "Div" => pair(|a, b| (a / b).trunc()),
        "Max" => pair(f64::max),
        "Min" => pair(f64::min),
        "Pow" => pair(f64::powf),
        "ReduceProd" => Some(listed(vec![list(0)?.iter().product()])),
        "Gather" => {
            let (from, at) = (list(0)?, list(1)?);
            let pick = |index: &f64| {
                let index = if *index < 0.0 { index + from.len() as f64 } else { *index };
                from.get(index as usize).copied()
            };
            at.iter().map(pick).collect::<Option<Vec<_>>>().map(listed)
        }
        _ => made(node, values).map(|made| Known { elements: Some(made), numbers: None }),
    }
}

fn elementwise(a: &[f64], b: &[f64], apply: fn(f64, f64) -> f64) -> Option<Known> {
    let count = if a.len() == 1 { b.len() } else { a.len() };
    let at = |list: &[f64], index: usize| list.get(if list.len() == 1 { 0 } else { index }).copied();
    (0..count).map(|index| Some(apply(at(a, index)?, at(b, index)?))).collect::<Option<Vec<_>>>().map(listed)
}

fn constant(node: &NodeProto) -> Option<Known> {
    let attribute = node.attribute.first()?;
    match attribute.name.as_str() {
        "value" => attribute.t.as_ref().map(known),
        "value_int" => Some(listed(vec![attribute.i as f64])),
        "value_float" => Some(listed(vec![f64::from(attribute.f)])),
        "value_ints" if attribute.ints.len() <= MAX_NUMBERS => {
            Some(listed(attribute.ints.iter().map(|value| *value as f64).collect()))
        }
        _ => None,
    }
}
