//! Functions: operators that a file defines itself, out of others. Every call becomes the nodes of the function.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::{
    super::{
        LoadError,
        precheck::{label, subgraphs_mut},
    },
    MAX_NODES,
    names::{defined, rename},
};

/// Calls within calls.
const MAX_DEPTH: usize = 32;

/// Replaces all calls of a model's own functions.
///
/// # Errors
/// When functions call each other without end, leave something open that the file does not say, or make too many nodes.
pub(in super::super) fn inline(model: &mut ModelProto) -> Result<(), LoadError> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let mut functions: HashMap<(String, String), Vec<FunctionProto>> = HashMap::new();
    for function in std::mem::take(&mut model.functions) {
        let name = (function.domain().to_owned(), function.name().to_owned());
        functions.entry(name).or_default().push(function);
    }
    let versions = model.opset_import.iter().map(|set| (standard(&set.domain).to_owned(), set.version)).collect();
    let mut inliner = Inliner { functions, versions, calls: 0, made: 0 };
    match model.graph.as_mut() {
        Some(graph) => inliner.graph(graph, 0),
        None => Ok(()),
    }
}

struct Inliner {
    functions: HashMap<(String, String), Vec<FunctionProto>>,
    /// Operator sets of the model.
    versions: HashMap<String, i64>,
    calls: usize,
    made: usize,
}

/// A domain under one of its names.
fn standard(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

impl Inliner {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), LoadError> {
        graph.node = self.nodes(std::mem::take(&mut graph.node), depth)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Result<Vec<NodeProto>, LoadError> {
        let mut out = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            subgraphs_mut(&mut node).try_for_each(|graph| self.graph(graph, depth))?;
            let function = self.functions.get(&(node.domain.clone(), node.op_type.clone()));
            let body = match function.map(Vec::as_slice) {
                None => {
                    out.push(node);
                    continue;
                }
                Some([function]) => self.body(&node, function)?,
                Some(_) => return Err(fail(&node, "the function is defined more than once")),
            };
            self.calls += 1;
            self.made += body.len();
            if depth >= MAX_DEPTH || self.made > MAX_NODES {
                return Err(fail(&node, "functions make too many nodes, or call each other without end"));
            }
            out.extend(self.nodes(body, depth + 1)?);
        }
        Ok(out)
    }

    /// The nodes of a function, under names that nothing else has, with the attributes of a call.
    fn body(&self, call: &NodeProto, function: &FunctionProto) -> Result<Vec<NodeProto>, LoadError> {
        for set in &function.opset_import {
            let own = self.versions.get(standard(&set.domain));
            if own.is_some_and(|own| *own != set.version) {
                let text = format!(
                    "the function wants version {} of {}, the model another",
                    set.version,
                    standard(&set.domain)
                );
                return Err(fail(call, &text));
            }
        }
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            return Err(fail(call, "expected no more inputs and outputs than the function has"));
        }
        let mut inside = HashSet::new();
        defined(&function.node, &mut inside);
        inside.extend(function.input.iter().cloned());
        let prefix = format!("{}#{}", call.output.first().map_or("", String::as_str), self.calls);
        let mut names: HashMap<String, String> =
            inside.into_iter().map(|name| (name.clone(), format!("{prefix}/{name}"))).collect();
        // An input that is left out has no name.
        let given = call.input.iter().map(String::as_str).chain(std::iter::repeat(""));
        names.extend(function.input.iter().cloned().zip(given.map(str::to_owned)));
        let mut nodes = function.node.clone();
        let mut ends = Vec::new();
        for (inner, outer) in function.output.iter().zip(&call.output).filter(|(_, outer)| !outer.is_empty()) {
            if function.input.contains(inner) || ends.iter().any(|(known, _)| known == inner) {
                // Handed through: the name is taken already.
                let from = names.get(inner).cloned().unwrap_or_default();
                nodes.push(identity(from, outer.clone()));
            } else {
                ends.push((inner.clone(), outer.clone()));
            }
        }
        names.extend(ends);
        rename(&mut nodes, &names);
        for node in &mut nodes {
            node.name = format!("{prefix}/{}", node.name);
            give_attributes(node, call)?;
        }
        Ok(nodes)
    }
}

fn identity(from: String, to: String) -> NodeProto {
    NodeProto { input: vec![from], output: vec![to], op_type: "Identity".to_owned(), ..NodeProto::default() }
}

/// Attributes that refer to those of the call get their values.
fn give_attributes(node: &mut NodeProto, call: &NodeProto) -> Result<(), LoadError> {
    for attribute in &mut node.attribute {
        if !attribute.ref_attr_name.is_empty() {
            let given = call.attribute.iter().find(|given| given.name == attribute.ref_attr_name);
            let Some(given) = given else {
                return Err(fail(call, &format!("attribute '{}': is not given", attribute.ref_attr_name)));
            };
            *attribute = AttributeProto { name: std::mem::take(&mut attribute.name), ..given.clone() };
        }
        let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
        for inner in graphs.flat_map(|graph| &mut graph.node) {
            give_attributes(inner, call)?;
        }
    }
    Ok(())
}

fn fail(call: &NodeProto, text: &str) -> LoadError {
    LoadError::new(format!("{}: {text}", label(call)))
}
