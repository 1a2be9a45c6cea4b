//! Giving the names inside of a graph new ones, so that it can be copied into another.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// Collects the names that nodes define, and the graphs inside of them.
pub(super) fn defined(nodes: &[NodeProto], names: &mut HashSet<String>) {
    for node in nodes {
        names.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
        for graph in node.attribute.iter().flat_map(graphs) {
            names.extend(graph.input.iter().map(|input| input.name.clone()));
            names.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
            defined(&graph.node, names);
        }
    }
}

fn graphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
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
        for graph in node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
        {
            graph.input.iter_mut().chain(&mut graph.output).for_each(|value| replace(&mut value.name));
            graph.initializer.iter_mut().for_each(|tensor| replace(&mut tensor.name));
            // Shapes that were declared are of no use under other names.
            graph.value_info.clear();
            rename(&mut graph.node, names);
        }
    }
}
