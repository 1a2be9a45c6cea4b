//! What a file spells in ways that the graph library cannot read, spelled out: functions of the file's own become their
//! nodes, loops of a known length become so many copies of their body, and sequences whose elements are known become those.
//! Called by `TractEngine::load`, before and after the pre-check.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::LoadError;

mod constants;
mod functions;
mod loops;
mod names;
mod sequences;

#[cfg(test)]
mod tests;

pub(super) use {functions::inline, names::tell_apart};

/// Nodes that a graph may have once everything is spelled out.
const MAX_NODES: usize = 100_000;

/// Operators that [`spell_out`] takes away, or refuses.
const REWRITTEN: [&str; 12] = [
    "ConcatFromSequence",
    "Loop",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
];

/// True for operators that are known here, though the graph library does not have them.
pub(super) fn knows(operator: &str) -> bool {
    REWRITTEN.contains(&operator)
}

/// Spells out loops and sequences of a graph whose names have been checked and whose nodes are in order. True when something
/// has changed.
///
/// # Errors
/// `node 'x' (Loop): …`: what is only known once a request comes.
pub(super) fn spell_out(model: &mut ModelProto) -> Result<bool, LoadError> {
    let version = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let version = version.map_or(1, |set| set.version);
    let Some(graph) = model.graph.as_mut() else { return Ok(false) };
    if !uses(graph) {
        return Ok(false);
    }
    loops::unroll(graph, version)?;
    sequences::resolve(graph, version)?;
    Ok(true)
}

fn uses(graph: &GraphProto) -> bool {
    let inner = |node: &NodeProto| node.attribute.iter().any(|attribute| attribute.g.iter().any(uses));
    graph.node.iter().any(|node| knows(&node.op_type) || inner(node))
}

/// The version since which `Squeeze`, `Unsqueeze` and `Split` take axes and sizes as inputs.
const AXES_ARE_INPUTS: i64 = 13;
