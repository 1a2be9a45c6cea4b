//! Loops of a known length: as many copies of the body, one behind the other.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType};

use super::{
    super::{LoadError, precheck::label},
    AXES_ARE_INPUTS, MAX_NODES,
    constants::{Constants, boolean, integers},
    names::{defined, rename},
};

/// Unrolls all loops of a graph, those inside of others included.
///
/// # Errors
/// When the length of a loop, or whether it goes on, is only known once a request comes.
pub(super) fn unroll(graph: &mut GraphProto, version: i64) -> Result<(), LoadError> {
    Unroller { version, made: 0, loops: 0 }.graph(graph, &Constants::default())
}

struct Unroller {
    version: i64,
    made: usize,
    loops: usize,
}

/// A loop whose length is known.
struct Known<'a> {
    node: &'a NodeProto,
    body: &'a GraphProto,
    count: usize,
}

impl Unroller {
    fn graph(&mut self, graph: &mut GraphProto, outer: &Constants) -> Result<(), LoadError> {
        let constants = Constants::of(graph, outer);
        let mut out = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            // Inner loops first: their lengths must not depend on how far the outer one is.
            for inner in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
                self.graph(inner, &constants)?;
            }
            if node.op_type == "Loop" {
                let known = known(&node, &constants)?;
                self.copies(&known, graph, &mut out)?;
            } else {
                out.push(node);
            }
        }
        graph.node = out;
        Ok(())
    }

    /// Adds the copies of a body, and what makes the loop's outputs of theirs.
    fn copies(&mut self, known: &Known<'_>, graph: &mut GraphProto, out: &mut Vec<NodeProto>) -> Result<(), LoadError> {
        let Known { node, body, count } = *known;
        self.loops += 1;
        self.made = self.made.saturating_add(count.saturating_mul(body.node.len() + 1));
        if self.made > MAX_NODES {
            return Err(fail(node, &format!("expected at most {MAX_NODES} nodes in all turns")));
        }
        let carried = body.input.len() - 2;
        let loop_name = format!("{}#loop{}", node.output.first().map_or("", String::as_str), self.loops);
        let mut inside = HashSet::new();
        defined(&body.node, &mut inside);
        // Constants of the body are there once.
        let mut shared = HashMap::new();
        for tensor in &body.initializer {
            let name = format!("{loop_name}/{}", tensor.name);
            shared.insert(tensor.name.clone(), name.clone());
            graph.initializer.push(TensorProto { name, ..tensor.clone() });
        }
        let mut state: Vec<String> = node.input[2..].to_vec();
        let mut scans: Vec<Vec<String>> = vec![Vec::new(); body.output.len() - 1 - carried];
        for turn in 0..count {
            let prefix = format!("{loop_name}.{turn}");
            let mut names: HashMap<String, String> =
                inside.iter().map(|name| (name.clone(), format!("{prefix}/{name}"))).collect();
            let (number, goes_on) = (format!("{prefix}#turn"), format!("{prefix}#goes-on"));
            graph.initializer.push(integers(number.clone(), &[turn as i64], true));
            graph.initializer.push(boolean(goes_on.clone(), true));
            names.extend(shared.iter().map(|(name, outer)| (name.clone(), outer.clone())));
            let given = [number, goes_on].into_iter().chain(state.iter().cloned());
            names.extend(body.input.iter().map(|input| input.name.clone()).zip(given));
            let mut nodes = body.node.clone();
            rename(&mut nodes, &names);
            nodes.iter_mut().for_each(|node| node.name = format!("{prefix}/{}", node.name));
            out.extend(nodes);
            let end = |name: &String| names.get(name).unwrap_or(name).clone();
            let mut ends = body.output[1..].iter().map(|output| end(&output.name));
            state = ends.by_ref().take(carried).collect();
            for (scan, value) in scans.iter_mut().zip(ends) {
                let added = format!("{value}#{}.{turn}", scan.len());
                out.push(self.unsqueeze(&value, &added, graph));
                scan.push(added);
            }
        }
        self.ends(node, &state, &scans, out)
    }

    fn ends(
        &self,
        node: &NodeProto,
        state: &[String],
        scans: &[Vec<String>],
        out: &mut Vec<NodeProto>,
    ) -> Result<(), LoadError> {
        let (last, scanned) = node.output.split_at(state.len().min(node.output.len()));
        for (name, value) in last.iter().zip(state).filter(|(name, _)| !name.is_empty()) {
            out.push(one("Identity", vec![value.clone()], name, vec![]));
        }
        for (name, values) in scanned.iter().zip(scans).filter(|(name, _)| !name.is_empty()) {
            if values.is_empty() {
                return Err(fail(node, &format!("output '{name}': the loop has no turns")));
            }
            out.push(one("Concat", values.clone(), name, vec![integer("axis", 0)]));
        }
        Ok(())
    }

    /// A node that adds a first dimension.
    fn unsqueeze(&self, from: &str, to: &str, graph: &mut GraphProto) -> NodeProto {
        if self.version < AXES_ARE_INPUTS {
            let axes = AttributeProto { ints: vec![0], r#type: AttributeType::Ints as i32, ..integer("axes", 0) };
            return one("Unsqueeze", vec![from.to_owned()], to, vec![axes]);
        }
        let axes = format!("{to}#axes");
        graph.initializer.push(integers(axes.clone(), &[0], false));
        one("Unsqueeze", vec![from.to_owned(), axes], to, vec![])
    }
}

/// A node with one output, which it is named after.
pub(super) fn one(operator: &str, input: Vec<String>, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let (name, output) = (output.to_owned(), vec![output.to_owned()]);
    NodeProto { name, input, output, op_type: operator.to_owned(), attribute, ..NodeProto::default() }
}

/// An attribute that is a number.
pub(super) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i: value, ..AttributeProto::default() }
}

/// What is known of a loop.
fn known<'a>(node: &'a NodeProto, constants: &Constants) -> Result<Known<'a>, LoadError> {
    let body = node.attribute.iter().find(|attribute| attribute.name == "body").and_then(|body| body.g.as_ref());
    let Some(body) = body else { return Err(fail(node, "has no body")) };
    let (inputs, outputs) = (body.input.len(), body.output.len());
    if inputs < 2 || node.input.len() != inputs || outputs + 1 < inputs {
        return Err(fail(node, "its inputs are not those of its body"));
    }
    let given = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
    let starts = given(1).is_none_or(|name| constants.one(name) == Some(1));
    if !starts || !goes_on(body, constants) {
        return Err(fail(node, "whether it goes on depends on the request, which is not supported"));
    }
    let count = given(0).and_then(|name| constants.one(name)).and_then(|count| usize::try_from(count.max(0)).ok());
    let Some(count) = count else {
        return Err(fail(node, "how often it turns is not a constant, which is not supported"));
    };
    Ok(Known { node, body, count })
}

/// True when a body says, whatever comes, that there is another turn.
fn goes_on(body: &GraphProto, outer: &Constants) -> bool {
    let constants = Constants::of(body, outer);
    let Some(mut name) = body.output.first().map(|output| output.name.as_str()) else { return false };
    loop {
        if name == body.input[1].name || constants.one(name) == Some(1) {
            return true;
        }
        let made = body.node.iter().find(|node| node.output.iter().any(|output| output == name));
        match made {
            Some(node) if node.op_type == "Identity" && node.input.len() == 1 && node.input[0] != name => {
                name = &node.input[0];
            }
            _ => return false,
        }
    }
}

fn fail(node: &NodeProto, text: &str) -> LoadError {
    LoadError::new(format!("{}: {text}", label(node)))
}
