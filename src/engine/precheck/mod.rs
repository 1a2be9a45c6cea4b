//! Our own walk over a decoded model before the graph library sees it. That library trusts its files: impossible dimensions,
//! data that does not fit them, names that nothing defines or a constant of a terabyte make it panic, abort or read memory
//! that is not the tensor's. ONNX Runtime is given only what has passed, too. Called by the engines when they load.

use std::collections::BTreeMap;

use bytes::Bytes;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::LoadError;

mod attributes;
mod file;
mod names;
mod operators;
mod order;
mod sizes;
mod tensors;

pub(super) use file::not_a_model;
pub(super) use operators::{in_domain, order_dependent};
pub(super) use tensors::numbers;

/// Characters of a name that an error text shows.
const MAX_NAME_CHARS: usize = 80;

/// Checks a model, sorts its nodes, and brings the data of side files into its tensors. `known` says whether the engine has a
/// node's operator.
///
/// # Errors
/// The first thing that is wrong, named by tensor, or by node and operator.
pub(super) fn check(
    model: &mut ModelProto,
    side_files: &BTreeMap<String, Bytes>,
    known: &dyn Fn(&NodeProto) -> bool,
) -> Result<(), LoadError> {
    for function in &mut model.functions {
        let mut body = GraphProto { node: std::mem::take(&mut function.node), ..GraphProto::default() };
        attributes::settle(&mut body)?;
        tensors::settle(&mut body, side_files)?;
        function.node = body.node;
    }
    let Some(graph) = model.graph.as_mut() else { return Err(LoadError::new("model: has no graph")) };
    operators::check(graph, known)?;
    attributes::settle(graph)?;
    tensors::settle(graph, side_files)?;
    names::check(graph)?;
    order::sort(graph)?;
    sizes::check(graph)
}

/// `node 'name' (Op)`; nodes without a name go by their first output.
pub(super) fn label(node: &NodeProto) -> String {
    let first = node.output.first().map_or("", String::as_str);
    let name = if node.name.is_empty() { first } else { &node.name };
    format!("node {} ({})", quoted(name), shown(&node.op_type))
}

fn quoted(name: &str) -> String {
    format!("'{}'", shown(name))
}

/// A name from the file, without control characters and of bounded length.
fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).flat_map(char::escape_debug).collect()
}

/// The graphs inside a node's attributes.
pub(super) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The same, to be changed.
pub(super) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

#[cfg(test)]
mod tests;
