//! The order of nodes. A file ought to be sorted so that a node comes after those it takes from; some tools do not care.
//! Sorting here finds cycles and lets the checks after it go through the nodes once.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::{super::LoadError, label, subgraphs};

/// Sorts the nodes of a graph, and of those inside it, leaving what is in order where it is.
///
/// # Errors
/// Naming a node that takes from itself through others.
pub(super) fn sort(graph: &mut GraphProto) -> Result<(), LoadError> {
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(sort)?;
    }
    let order = order(&graph.node)?;
    let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
    graph.node = order.into_iter().filter_map(|index| nodes[index].take()).collect();
    Ok(())
}

fn order(nodes: &[NodeProto]) -> Result<Vec<usize>, LoadError> {
    let outputs = nodes.iter().enumerate().flat_map(|(index, node)| node.output.iter().map(move |name| (name, index)));
    let makers: HashMap<&str, usize> =
        outputs.filter(|(name, _)| !name.is_empty()).map(|(name, index)| (name.as_str(), index)).collect();
    let mut waiting = vec![0_usize; nodes.len()];
    let mut takers = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        takes(node, &mut |name| {
            if let Some(maker) = makers.get(name) {
                waiting[index] += 1;
                takers[*maker].push(index);
            }
        });
    }
    let mut ready: BinaryHeap<_> = (0..nodes.len()).filter(|index| waiting[*index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for taker in &takers[index] {
            waiting[*taker] -= 1;
            if waiting[*taker] == 0 {
                ready.push(Reverse(*taker));
            }
        }
    }
    match (0..nodes.len()).find(|index| waiting[*index] > 0) {
        Some(stuck) => Err(LoadError::new(format!("{}: is part of, or behind, a cycle", label(&nodes[stuck])))),
        None => Ok(order),
    }
}

/// Calls `each` for every name a node takes, those that its inner graphs take from outside included.
fn takes(node: &NodeProto, each: &mut impl FnMut(&str)) {
    node.input.iter().for_each(|name| each(name));
    for graph in subgraphs(node) {
        graph.node.iter().for_each(|inner| takes(inner, each));
    }
}
