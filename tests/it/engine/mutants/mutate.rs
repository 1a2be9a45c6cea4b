//! Mutations of ONNX models that know their structure: each takes something that a file may say and says it otherwise. What
//! comes out decodes, mostly, and is wrong in one place or a few; or is right, and means something else. One mutation in eight is
//! of bytes instead.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto, type_proto,
};

use super::{random::Random, values};

/// Graphs in graphs that mutations go into.
const MAX_DEPTH: usize = 3;

/// Graphs that are copied into their own nodes have at most so many bytes.
const MAX_NESTED_BYTES: usize = 20_000;

/// The mutant of a seed: bytes of one of the sources, changed in one to three places.
pub(super) fn mutant(source: &[u8], random: &mut Random) -> Vec<u8> {
    let model = if random.one_in(8) { None } else { ModelProto::decode(source).ok() };
    let Some(mut model) = model else { return bytes(source.to_vec(), random) };
    for _ in 0..=random.pick(&[0, 0, 1, 2]) {
        change(&mut model, random);
    }
    model.encode_to_vec()
}

/// Bits flipped, an end cut off, or a piece written over another.
fn bytes(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 if bytes.len() > 16 => {
            let length = 1 + random.below(16);
            let (from, to) = (random.below(bytes.len() - length), random.below(bytes.len() - length));
            bytes.copy_within(from..from + length, to);
        }
        _ => {
            for _ in 0..=random.below(4) {
                let Some(at) = random.at(&bytes) else { break };
                bytes[at] ^= 1 << random.below(8);
            }
        }
    }
    bytes
}

fn change(model: &mut ModelProto, random: &mut Random) {
    if random.one_in(30) {
        return versions(model, random);
    }
    if let Some(graph) = &mut model.graph {
        in_graph(graph, random, MAX_DEPTH);
    }
}

fn versions(model: &mut ModelProto, random: &mut Random) {
    let Some(at) = random.at(&model.opset_import) else { return };
    let opset = &mut model.opset_import[at];
    match random.below(4) {
        0 => opset.version = random.int(),
        1 => opset.version += random.below(9) as i64 - 4,
        2 => opset.domain = random.pick(&["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "x"]).to_owned(),
        _ => drop(model.opset_import.remove(at)),
    }
}

/// One change in a graph, or in a graph inside it.
fn in_graph(graph: &mut GraphProto, random: &mut Random, depth: usize) {
    if depth > 0 && random.one_in(2) {
        let inner = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
        let mut inner: Vec<_> = inner.filter_map(|attribute| attribute.g.as_mut()).collect();
        if let Some(at) = random.at(&inner) {
            return in_graph(inner.swap_remove(at), random, depth - 1);
        }
    }
    match random.below(if graph.encoded_len() > MAX_NESTED_BYTES { 19 } else { 20 }) {
        0 | 1 => edges(graph, random),
        2 => nodes(graph, random),
        3 | 4 => operator(graph, random),
        5..=9 => attribute(graph, random),
        10..=13 => initializer(graph, random),
        14 => declared(&mut graph.input, random),
        15 => declared(&mut graph.output, random),
        16 => declared(&mut graph.value_info, random),
        17 | 18 => interface(graph, random),
        _ => nested(graph, random),
    }
}

/// Every name that a value of the graph may have.
fn names(graph: &GraphProto) -> Vec<String> {
    let nodes = graph.node.iter().flat_map(|node| &node.output);
    let inputs = graph.input.iter().map(|input| &input.name);
    let tensors = graph.initializer.iter().map(|tensor| &tensor.name);
    let mut names: Vec<_> = nodes.chain(inputs).chain(tensors).cloned().collect();
    names.extend([String::new(), "nowhere".to_owned()]);
    names
}

/// What nodes take and give: swapped, missing, doubled, another's, their own.
fn edges(graph: &mut GraphProto, random: &mut Random) {
    let names = names(graph);
    let Some(at) = random.at(&graph.node) else { return };
    let node = &mut graph.node[at];
    let inputs = node.input.len();
    match random.below(9) {
        0 if inputs > 1 => node.input.swap(random.below(inputs), random.below(inputs)),
        1 if inputs > 0 => drop(node.input.remove(random.below(inputs))),
        2 => node.input.push(random.pick(&names)),
        3 if inputs > 0 => node.input[random.below(inputs)] = random.pick(&names),
        4 if inputs > 0 && !node.output.is_empty() => node.input[random.below(inputs)] = random.pick(&node.output),
        5 if !node.output.is_empty() => drop(node.output.remove(random.below(node.output.len()))),
        6 => node.output.push(random.pick(&names)),
        7 if node.output.len() > 1 => node.output.swap(0, 1),
        _ if inputs > 0 => node.input.insert(random.below(inputs), random.pick(&names)),
        _ => {}
    }
}

/// Nodes that are missing, doubled, or in another order.
fn nodes(graph: &mut GraphProto, random: &mut Random) {
    let Some(at) = random.at(&graph.node) else { return };
    match random.below(5) {
        0 => drop(graph.node.remove(at)),
        1 => graph.node.insert(at, graph.node[at].clone()),
        2 => graph.node.reverse(),
        3 => {
            let other = random.below(graph.node.len());
            graph.node.swap(at, other);
        }
        _ => {
            let mut copy = graph.node[at].clone();
            copy.output = copy.output.iter().map(|name| format!("{name}_again")).collect();
            graph.node.push(copy);
        }
    }
}

/// Another operator, or the same from another place.
fn operator(graph: &mut GraphProto, random: &mut Random) {
    let Some(at) = random.at(&graph.node) else { return };
    let own: Vec<(String, String)> =
        graph.node.iter().map(|node| (node.op_type.clone(), node.domain.clone())).collect();
    let node = &mut graph.node[at];
    match random.below(6) {
        0 => node.domain = random.pick(&["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "x"]).to_owned(),
        1 => (node.op_type, node.domain) = random.pick(&own),
        2 => node.attribute.clear(),
        _ => {
            node.op_type = random.pick(&values::OPERATORS).to_owned();
            node.domain = String::new();
        }
    }
}

/// An attribute that is missing, doubled, of another type, or has other values.
fn attribute(graph: &mut GraphProto, random: &mut Random) {
    let with: Vec<usize> = (0..graph.node.len()).filter(|at| !graph.node[*at].attribute.is_empty()).collect();
    let Some(at) = random.at(&with) else { return edges(graph, random) };
    let node: &mut NodeProto = &mut graph.node[with[at]];
    let at = random.below(node.attribute.len());
    match random.below(12) {
        0 => drop(node.attribute.remove(at)),
        1 => node.attribute.push(node.attribute[at].clone()),
        2 => node.attribute[at].name = random.pick(&values::ATTRIBUTES).to_owned(),
        3 => node.attribute[at].r#type = random.below(15) as i32,
        4 => node.attribute.push(AttributeProto {
            name: random.pick(&values::ATTRIBUTES).to_owned(),
            r#type: AttributeType::Int as i32,
            i: random.int(),
            ..AttributeProto::default()
        }),
        _ => value(&mut node.attribute[at], random),
    }
}

fn value(attribute: &mut AttributeProto, random: &mut Random) {
    if let Some(tensor) = &mut attribute.t {
        return self::tensor(tensor, random);
    }
    if !attribute.ints.is_empty() {
        return list(&mut attribute.ints, random, |random, old| {
            if random.one_in(2) { random.int() } else { old.wrapping_add(random.pick(&[1, -1, 2])) }
        });
    }
    if !attribute.floats.is_empty() {
        return list(&mut attribute.floats, random, |random, _| random.float());
    }
    if !attribute.strings.is_empty() {
        return list(&mut attribute.strings, random, |random, old| text(old, random));
    }
    match attribute.r#type() {
        AttributeType::Float => attribute.f = random.float(),
        AttributeType::String => attribute.s = text(&attribute.s, random),
        _ => attribute.i = random.int(),
    }
}

/// A list with another element, another length, another order.
fn list<T: Clone>(list: &mut Vec<T>, random: &mut Random, change: impl Fn(&mut Random, &T) -> T) {
    let at = random.below(list.len());
    match random.below(10) {
        0 => drop(list.remove(at)),
        1 => list.truncate(at),
        2 => list.push(list[at].clone()),
        3 => list.clear(),
        4 => {
            let other = random.below(list.len());
            list.swap(at, other);
        }
        5 => list.extend_from_within(..),
        _ => list[at] = change(random, &list[at]),
    }
}

/// Another word: one that attributes know, none, no UTF-8.
fn text(old: &[u8], random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => Vec::new(),
        1 => vec![b'a', 0xff, 0xfe, b'z'],
        2 => [old, old].concat(),
        _ => random.pick(&values::WORDS).as_bytes().to_vec(),
    }
}

fn initializer(graph: &mut GraphProto, random: &mut Random) {
    let Some(at) = random.at(&graph.initializer) else { return attribute(graph, random) };
    match random.below(12) {
        0 => drop(graph.initializer.remove(at)),
        1 => graph.initializer.push(graph.initializer[at].clone()),
        2 => graph.initializer[at].name = random.pick(&names(graph)),
        _ => tensor(&mut graph.initializer[at], random),
    }
}

/// A tensor that says something else about its shape, type, data or where that is.
fn tensor(tensor: &mut TensorProto, random: &mut Random) {
    match random.below(12) {
        0 => tensor.data_type = random.below(24) as i32,
        1 => tensor.raw_data.truncate(random.below(tensor.raw_data.len() + 1)),
        2 => tensor.raw_data.extend([0; 4]),
        3 if !tensor.dims.is_empty() => list(&mut tensor.dims, random, |random, _| random.int()),
        4 => tensor.dims.push(random.int()),
        5 => tensor.dims.insert(0, 1),
        6 if tensor.dims.len() > 1 => tensor.dims.reverse(),
        7 => external(tensor, random),
        _ => numbers(tensor, random),
    }
}

/// Other numbers in a tensor, whatever field they are in.
fn numbers(tensor: &mut TensorProto, random: &mut Random) {
    let word = match tensor.data_type {
        7 | 11 => 8,
        _ => 4,
    };
    for _ in 0..=random.below(3) {
        let words = tensor.raw_data.len() / word;
        if words > 0 {
            let at = random.below(words) * word;
            let new = match tensor.data_type {
                7 => random.int().to_le_bytes().to_vec(),
                11 => f64::from(random.float()).to_le_bytes().to_vec(),
                6 => (random.int() as i32).to_le_bytes().to_vec(),
                _ => random.float().to_le_bytes().to_vec(),
            };
            tensor.raw_data[at..at + word].copy_from_slice(&new);
        } else if !tensor.float_data.is_empty() {
            list(&mut tensor.float_data, random, |random, _| random.float());
        } else if !tensor.string_data.is_empty() {
            list(&mut tensor.string_data, random, |random, old| text(old, random));
        } else if !tensor.int64_data.is_empty() {
            list(&mut tensor.int64_data, random, |random, _| random.int());
        } else if !tensor.int32_data.is_empty() {
            list(&mut tensor.int32_data, random, |random, _| random.int() as i32);
        } else if !tensor.double_data.is_empty() {
            list(&mut tensor.double_data, random, |random, _| f64::from(random.float()));
        }
    }
}

/// Data that is said to be in a file.
fn external(tensor: &mut TensorProto, random: &mut Random) {
    let paths = ["../../secret", "/etc/passwd", "model.onnx", "", ".", "a\0b", "weights.bin", "/dev/zero"];
    tensor.data_location = Some(1);
    let pair = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
    tensor.external_data = vec![pair("location", random.pick(&paths).to_owned())];
    if random.one_in(2) {
        tensor.external_data.push(pair("offset", random.int().to_string()));
        tensor.external_data.push(pair("length", random.int().to_string()));
    }
    if random.one_in(2) {
        tensor.raw_data.clear();
    }
}

/// Types and shapes that are declared otherwise than they are.
fn declared(values: &mut Vec<ValueInfoProto>, random: &mut Random) {
    let Some(at) = random.at(values) else { return };
    if random.one_in(12) {
        return drop(values.remove(at));
    }
    let Some(type_proto::Value::TensorType(tensor)) = values[at].r#type.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        return;
    };
    if random.one_in(5) {
        tensor.elem_type = random.below(24) as i32;
        return;
    }
    let shape = tensor.shape.get_or_insert_with(TensorShapeProto::default);
    let dim = |value| tensor_shape_proto::Dimension { denotation: String::new(), value: Some(value) };
    use tensor_shape_proto::dimension::Value;
    let new = match random.below(3) {
        0 => dim(Value::DimParam(random.pick(&["N", "M", "", "N*2", "-1"]).to_owned())),
        1 => dim(Value::DimValue(random.int())),
        _ => tensor_shape_proto::Dimension::default(),
    };
    match (random.below(5), random.at(&shape.dim)) {
        (0, _) => shape.dim.push(new),
        (1, Some(at)) => drop(shape.dim.remove(at)),
        (2, _) if random.one_in(3) => tensor.shape = None,
        (_, Some(at)) => shape.dim[at] = new,
        (_, None) => shape.dim.push(new),
    }
}

/// What the graph as a whole takes and gives.
fn interface(graph: &mut GraphProto, random: &mut Random) {
    let names = names(graph);
    match (random.below(6), random.at(&graph.output), random.at(&graph.input)) {
        (0, Some(at), _) => graph.output[at].name = random.pick(&names),
        (1, Some(at), _) => graph.output.push(graph.output[at].clone()),
        (2, Some(at), _) => graph.output[at].r#type = None,
        (3, _, Some(at)) => graph.input[at].name = random.pick(&names),
        (4, _, Some(at)) => graph.input.push(graph.input[at].clone()),
        (_, Some(at), _) => {
            let output = ValueInfoProto { name: random.pick(&names), ..graph.output[at].clone() };
            graph.output.push(output);
        }
        _ => {}
    }
}

/// The graph inside one of its own nodes, as a branch or body; at times many levels deep.
fn nested(graph: &mut GraphProto, random: &mut Random) {
    let inner = graph.clone();
    let Some(at) = random.at(&graph.node) else { return };
    let names = names(graph);
    let body = |name: &str, graph: GraphProto| AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Graph as i32,
        g: Some(graph),
        ..AttributeProto::default()
    };
    let branch = |graph: &GraphProto, condition: String| NodeProto {
        op_type: "If".to_owned(),
        input: vec![condition],
        output: graph.output.iter().map(|output| output.name.clone()).collect(),
        attribute: vec![body("then_branch", graph.clone()), body("else_branch", graph.clone())],
        ..NodeProto::default()
    };
    match random.below(3) {
        0 => graph.node[at].attribute.push(body(random.pick(&["body", "then_branch", "else_branch"]), inner)),
        1 => {
            let node = branch(&inner, random.pick(&names));
            graph.node = vec![node];
        }
        _ => {
            let mut deep = inner;
            for _ in 0..1 + random.below(5) {
                let outer = GraphProto { node: vec![branch(&deep, random.pick(&names))], ..deep.clone() };
                deep = outer;
            }
            *graph = deep;
        }
    }
}
