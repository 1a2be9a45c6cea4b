//! Giving names new ones: those inside of a graph that is copied into another, and those of nodes that share theirs. The
//! standard lets a node be called like a tensor or like another node, the graph library does not.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::super::precheck::{subgraphs, subgraphs_mut};

/// Gives a node that is called like an input, a constant or a node before it a name of its own, here and in the graphs inside.
pub(in crate::engine) fn tell_apart(graph: &mut GraphProto) {
    let constants = graph.initializer.iter().map(|tensor| &tensor.name);
    let mut taken: HashSet<String> = graph.input.iter().map(|input| &input.name).chain(constants).cloned().collect();
    for node in &mut graph.node {
        // A node without name is called like its first output.
        let called = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        if let Some(called) = called.filter(|name| !name.is_empty() && !taken.insert((*name).clone())) {
            let plain = format!("{called} ({})", node.op_type);
            let numbered = (2_usize..).map(|number| format!("{plain} {number}"));
            let free = std::iter::once(plain.clone()).chain(numbered).find(|name| taken.insert(name.clone()));
            node.name = free.unwrap_or(plain);
        }
        subgraphs_mut(node).for_each(tell_apart);
    }
}

/// Collects the names that nodes define, and the graphs inside of them.
pub(super) fn defined(nodes: &[NodeProto], names: &mut HashSet<String>) {
    for node in nodes {
        names.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
        for graph in subgraphs(node) {
            names.extend(graph.input.iter().map(|input| input.name.clone()));
            names.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
            defined(&graph.node, names);
        }
    }
}

/// Replaces names everywhere in nodes; those that are not in the map stay.
pub(super) fn rename(nodes: &mut [NodeProto], names: &HashMap<String, String>) {
    let replace = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    for node in nodes {
        node.input.iter_mut().chain(&mut node.output).for_each(replace);
        for graph in subgraphs_mut(node) {
            graph.input.iter_mut().chain(&mut graph.output).for_each(|value| replace(&mut value.name));
            graph.initializer.iter_mut().for_each(|tensor| replace(&mut tensor.name));
            // Shapes that were declared are of no use under other names.
            graph.value_info.clear();
            rename(&mut graph.node, names);
        }
    }
}
