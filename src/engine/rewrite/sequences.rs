//! Sequences whose elements are known: every operator on them becomes operators on the elements.

use std::collections::HashMap;

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, attribute_proto::AttributeType, tensor_shape_proto::dimension,
    type_proto::Value,
};

use super::{
    super::{LoadError, precheck::label},
    AXES_ARE_INPUTS,
    constants::{Constants, boolean, integers},
    knows,
    loops::{integer, one},
};

/// Elements that a sequence may have.
const MAX_ELEMENTS: i64 = 10_000;

/// Takes all operators on sequences and optional values out of a graph.
///
/// # Errors
/// When elements, their number, or which one is asked for are only known once a request comes.
pub(super) fn resolve(graph: &mut GraphProto, version: i64) -> Result<(), LoadError> {
    let mut resolver = Resolver {
        version,
        constants: Constants::of(graph, &Constants::default()),
        sizes: fixed_sizes(graph),
        sequences: HashMap::new(),
        out: Vec::with_capacity(graph.node.len()),
        initializer: Vec::new(),
    };
    for node in std::mem::take(&mut graph.node) {
        resolver.node(node)?;
    }
    graph.node = resolver.out;
    graph.initializer.extend(resolver.initializer);
    match graph.output.iter().find(|output| resolver.sequences.contains_key(&output.name)) {
        Some(output) => Err(LoadError::new(format!("output '{}': is a sequence, which is not supported", output.name))),
        None => Ok(()),
    }
}

struct Resolver {
    version: i64,
    constants: Constants,
    /// Sizes of inputs, where they are numbers.
    sizes: HashMap<String, Vec<Option<i64>>>,
    /// Names of the elements by name of the sequence.
    sequences: HashMap<String, Vec<String>>,
    out: Vec<NodeProto>,
    initializer: Vec<tract_onnx::pb::TensorProto>,
}

fn fixed_sizes(graph: &GraphProto) -> HashMap<String, Vec<Option<i64>>> {
    let mut sizes = HashMap::new();
    for value in &graph.input {
        let Some(Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
            continue;
        };
        let Some(shape) = &tensor.shape else { continue };
        let dims = shape.dim.iter().map(|dim| match dim.value {
            Some(dimension::Value::DimValue(size)) => Some(size),
            _ => None,
        });
        sizes.insert(value.name.clone(), dims.collect());
    }
    sizes
}

impl Resolver {
    fn node(&mut self, node: NodeProto) -> Result<(), LoadError> {
        let takes = node.input.iter().any(|name| self.sequences.contains_key(name));
        let inner = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        if inner.flat_map(|graph| &graph.node).any(|node| knows(&node.op_type)) {
            return Err(fail(&node, "sequences inside of it are not supported"));
        }
        let output = node.output.first().cloned().unwrap_or_default();
        match node.op_type.as_str() {
            "SequenceEmpty" => self.define(output, Vec::new()),
            "SequenceConstruct" => self.define(output, node.input.clone()),
            "SequenceInsert" | "SequenceErase" => self.change(&node, output)?,
            "SequenceAt" => {
                let element = self.element(&node)?;
                self.out.push(one("Identity", vec![element], &output, vec![]));
            }
            "SequenceLength" => {
                let length = self.sequence(&node)?.len() as i64;
                self.initializer.push(integers(output, &[length], true));
            }
            "SplitToSequence" => self.split(&node, output)?,
            "ConcatFromSequence" => self.concat(&node, &output)?,
            "Identity" if takes => {
                let elements = self.sequence(&node)?.clone();
                self.define(output, elements);
            }
            "Optional" | "OptionalGetElement" if node.input.len() == 1 && !takes => {
                self.out.push(one("Identity", node.input, &output, vec![]));
            }
            "OptionalHasElement" => {
                let has = node.input.first().is_some_and(|name| !name.is_empty());
                self.initializer.push(boolean(output, has));
            }
            name if takes || knows(name) => {
                return Err(fail(&node, "sequences and optional values are not supported here"));
            }
            _ => {
                self.constants.learn(&node);
                self.out.push(node);
            }
        }
        Ok(())
    }

    fn define(&mut self, name: String, elements: Vec<String>) {
        self.sequences.insert(name, elements);
    }

    /// The elements of a node's first input.
    fn sequence(&self, node: &NodeProto) -> Result<&Vec<String>, LoadError> {
        let found = node.input.first().and_then(|name| self.sequences.get(name));
        found.ok_or_else(|| fail(node, "its sequence comes with the request, which is not supported"))
    }

    /// A place of a sequence that a constant names; `None` when the node names none.
    fn place(&self, node: &NodeProto, input: usize, count: usize) -> Result<Option<usize>, LoadError> {
        let Some(name) = node.input.get(input).filter(|name| !name.is_empty()) else { return Ok(None) };
        let Some(place) = self.constants.one(name) else {
            return Err(fail(node, "which element it means is not a constant, which is not supported"));
        };
        let place = if place < 0 { place + count as i64 } else { place };
        let inside = usize::try_from(place).ok().filter(|place| *place <= count);
        inside.map(Some).ok_or_else(|| fail(node, &format!("there is no element {place} of {count}")))
    }

    fn change(&mut self, node: &NodeProto, output: String) -> Result<(), LoadError> {
        let mut elements = self.sequence(node)?.clone();
        let insert = node.op_type == "SequenceInsert";
        let place = self.place(node, if insert { 2 } else { 1 }, elements.len())?;
        if insert {
            let Some(element) = node.input.get(1) else { return Err(fail(node, "has nothing to insert")) };
            elements.insert(place.unwrap_or(elements.len()), element.clone());
        } else if elements.is_empty() || place == Some(elements.len()) {
            return Err(fail(node, "there is no such element"));
        } else {
            elements.remove(place.unwrap_or(elements.len() - 1));
        }
        self.define(output, elements);
        Ok(())
    }

    fn element(&self, node: &NodeProto) -> Result<String, LoadError> {
        let elements = self.sequence(node)?;
        let place = self.place(node, 1, elements.len())?;
        let element = place.and_then(|place| elements.get(place));
        element.cloned().ok_or_else(|| fail(node, "there is no such element"))
    }

    fn split(&mut self, node: &NodeProto, output: String) -> Result<(), LoadError> {
        let flag = |name: &str, usual: i64| {
            node.attribute.iter().find(|attribute| attribute.name == name).map_or(usual, |attribute| attribute.i)
        };
        let (axis, keep) = (flag("axis", 0), flag("keepdims", 1) != 0);
        let given = node.input.get(1).filter(|name| !name.is_empty());
        let parts = given.map(|name| self.constants.get(name).cloned());
        let from = node.input.first().cloned().unwrap_or_default();
        let size = || {
            let dims = self.sizes.get(&from)?;
            let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
            dims.get(usize::try_from(axis).ok()?).copied().flatten()
        };
        let unknown = || fail(node, "how many elements it makes is not a constant, which is not supported");
        let sizes: Vec<i64> = match parts {
            Some(None) => return Err(unknown()),
            Some(Some(parts)) if !parts.scalar => parts.numbers.iter().map(|part| *part as i64).collect(),
            // One number is the size of all parts but the last.
            Some(Some(part)) => {
                let part = part.numbers.first().map_or(0, |part| *part as i64);
                let size = size().ok_or_else(unknown)?;
                if part < 1 || size / part > MAX_ELEMENTS {
                    return Err(unknown());
                }
                (0..size).step_by(part as usize).map(|at| part.min(size - at)).collect()
            }
            None => vec![1; usize::try_from(size().ok_or_else(unknown)?.clamp(0, MAX_ELEMENTS)).unwrap_or(0)],
        };
        let squeezed = given.is_none() && !keep;
        let names: Vec<String> = (0..sizes.len()).map(|part| format!("{output}#{part}")).collect();
        self.split_into(&from, &names, &sizes, axis);
        let names = if squeezed { names.iter().map(|name| self.squeeze(name, axis)).collect() } else { names };
        self.define(output, names);
        Ok(())
    }

    fn split_into(&mut self, from: &str, names: &[String], sizes: &[i64], axis: i64) {
        let (Some(first), mut input) = (names.first(), vec![from.to_owned()]) else { return };
        let mut attribute = vec![integer("axis", axis)];
        if self.version < AXES_ARE_INPUTS {
            let list =
                AttributeProto { ints: sizes.to_vec(), r#type: AttributeType::Ints as i32, ..integer("split", 0) };
            attribute.push(list);
        } else {
            let name = format!("{first}#sizes");
            self.initializer.push(integers(name.clone(), sizes, false));
            input.push(name);
        }
        self.out.push(NodeProto { output: names.to_vec(), ..one("Split", input, first, attribute) });
    }

    fn squeeze(&mut self, from: &str, axis: i64) -> String {
        let to = format!("{from}#squeezed");
        self.reshaped("Squeeze", from, &to, axis);
        to
    }

    /// A `Squeeze` or `Unsqueeze` of one axis.
    fn reshaped(&mut self, operator: &str, from: &str, to: &str, axis: i64) {
        if self.version < AXES_ARE_INPUTS {
            let axes = AttributeProto { ints: vec![axis], r#type: AttributeType::Ints as i32, ..integer("axes", 0) };
            self.out.push(one(operator, vec![from.to_owned()], to, vec![axes]));
            return;
        }
        let axes = format!("{to}#axes");
        self.initializer.push(integers(axes.clone(), &[axis], false));
        self.out.push(one(operator, vec![from.to_owned(), axes], to, vec![]));
    }

    fn concat(&mut self, node: &NodeProto, output: &str) -> Result<(), LoadError> {
        let flag =
            |name: &str| node.attribute.iter().find(|attribute| attribute.name == name).map_or(0, |found| found.i);
        let (axis, new) = (flag("axis"), flag("new_axis") != 0);
        let mut elements = self.sequence(node)?.clone();
        if elements.is_empty() {
            return Err(fail(node, "the sequence is empty"));
        }
        if new {
            let names = elements.iter().enumerate().map(|(at, from)| (from.clone(), format!("{output}#{at}")));
            let names: Vec<_> = names.collect();
            names.iter().for_each(|(from, to)| self.reshaped("Unsqueeze", from, to, axis));
            elements = names.into_iter().map(|(_, to)| to).collect();
        }
        self.out.push(one("Concat", elements, output, vec![integer("axis", axis)]));
        Ok(())
    }
}

fn fail(node: &NodeProto, text: &str) -> LoadError {
    LoadError::new(format!("{}: {text}", label(node)))
}
