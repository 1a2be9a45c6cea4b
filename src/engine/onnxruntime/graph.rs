//! What ONNX Runtime is given: the file after our own check, with everything in it that refers to the outside brought in, so that
//! what was checked is what is run. Dimensions are named as the embedded engine names them, so that both see the same batch, and
//! shapes that the file only claims are left out: exporters leave stale ones. Called by the engine's `load`.

use std::collections::HashSet;

use prost::Message as _;
use tract_onnx::pb::{
    GraphProto, ModelProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension::Value as Size},
    type_proto::{self, Value as Kind},
};

use super::super::{Artifact, LoadError, class_names::class_names, precheck};
use crate::types::ClassNames;

/// The largest message of the format.
const MAX_BYTES: usize = i32::MAX as usize;

/// A graph that may be given to the library.
pub(super) struct Prepared {
    /// The encoded model.
    pub(super) bytes: Vec<u8>,
    /// The name of dimension 0 of every input; `None` when some input has a fixed or no dimension 0, or they differ.
    pub(super) rows: Option<String>,
    /// What the file says of the outputs' shapes; `None` where it says nothing.
    pub(super) claimed: Vec<Option<Vec<Claim>>>,
    /// Every output is made by an operator of the graph itself: none is an input or initial value, nor made by a
    /// graph or function inside it.
    pub(super) straight: bool,
    /// As [`super::super::Model::order_dependent`].
    pub(super) order_dependent: Vec<String>,
    /// As [`super::super::Model::class_names`].
    pub(super) class_names: ClassNames,
}

/// A dimension as a file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Of this size.
    Size(usize),
    /// Of any size, under this name; empty for none.
    Named(String),
}

/// Decodes, checks and prepares a model.
///
/// # Errors
/// What is wrong with the file; that it is too large to be given from memory.
pub(super) fn prepare(artifact: &Artifact) -> Result<Prepared, LoadError> {
    let proto = ModelProto::decode(&artifact.bytes[..]);
    let mut proto = match proto {
        Ok(proto) if proto.graph.is_some() => proto,
        Ok(_) => return Err(precheck::not_a_model(&artifact.bytes, "has no graph")),
        Err(error) => return Err(precheck::not_a_model(&artifact.bytes, &error.to_string())),
    };
    // Which operators there are is the library's to say.
    precheck::check(&mut proto, &artifact.side_files, &|_| true)?;
    proto.training_info.clear();
    let Some(graph) = proto.graph.as_mut() else { return Err(LoadError::new("model: has no graph")) };
    let order_dependent = precheck::order_dependent(graph);
    let class_names = class_names(graph);
    maps_as_tensors(graph);
    let rows = name_dimensions(graph);
    graph.value_info.clear();
    let straight = is_straight(graph) && proto.functions.is_empty();
    let claimed = graph.output.iter_mut().map(take_shape).collect();
    let size = proto.encoded_len();
    if size > MAX_BYTES {
        return Err(LoadError::new(format!("model: expected at most {MAX_BYTES} bytes with its data, got {size}")));
    }
    Ok(Prepared { bytes: proto.encode_to_vec(), rows, claimed, straight, order_dependent, class_names })
}

fn is_straight(graph: &GraphProto) -> bool {
    let mut attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let nested = attributes.any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
    let made: HashSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    !nested && graph.output.iter().all(|output| made.contains(&output.name))
}

/// Answers are tensors: the probabilities instead of maps from classes to them.
fn maps_as_tensors(graph: &mut GraphProto) {
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ZipMap" && node.domain == "ai.onnx.ml") {
        node.op_type = "Identity".to_owned();
        node.domain.clear();
        node.attribute.clear();
        let zipped: Vec<_> = graph.output.iter_mut().filter(|output| node.output.contains(&output.name)).collect();
        for output in zipped {
            output.r#type = None;
        }
    }
}

/// Gives dimension 0 of every input a name: the declared one where all that have one agree. Returns the name when every input
/// has it there, and nowhere else.
fn name_dimensions(graph: &mut GraphProto) -> Option<String> {
    let initial: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let given = graph.input.iter_mut().filter(|input| !initial.contains(input.name.as_str()));
    let mut shapes: Vec<&mut Vec<Dimension>> = given.filter_map(dimensions).collect();
    for dim in shapes.iter_mut().flat_map(|dims| dims.iter_mut()) {
        if matches!(dim.value, Some(Size::DimValue(size)) if size < 0) {
            dim.value = None;
        }
    }
    let mut declared: Vec<&str> = shapes.iter().filter_map(|dims| name_of(dims.first()?)).collect();
    declared.sort_unstable();
    declared.dedup();
    let rows = match declared[..] {
        [only] => only.to_owned(),
        _ => unused_name(&shapes),
    };
    let mut same = !shapes.is_empty();
    for dims in &mut shapes {
        let mut dims = dims.iter_mut();
        let first = dims.next();
        same &= first.is_some_and(|dim| {
            if name_of(dim).is_none() && !matches!(dim.value, Some(Size::DimValue(_))) {
                dim.value = Some(Size::DimParam(rows.clone()));
            }
            name_of(dim) == Some(&rows)
        });
        same &= dims.all(|dim| name_of(dim) != Some(&rows));
    }
    same.then_some(rows)
}

fn unused_name(shapes: &[&mut Vec<Dimension>]) -> String {
    let mut name = "rows".to_owned();
    while shapes.iter().flat_map(|dims| dims.iter()).any(|dim| name_of(dim) == Some(&name)) {
        name.push('_');
    }
    name
}

/// The name of a dimension of any size, if it has one.
fn name_of(dim: &Dimension) -> Option<&str> {
    match &dim.value {
        Some(Size::DimParam(name)) if !name.is_empty() => Some(name),
        _ => None,
    }
}

fn tensor(value: &mut ValueInfoProto) -> Option<&mut type_proto::Tensor> {
    match value.r#type.as_mut() {
        Some(TypeProto { value: Some(Kind::TensorType(tensor)), .. }) => Some(tensor),
        _ => None,
    }
}

fn dimensions(value: &mut ValueInfoProto) -> Option<&mut Vec<Dimension>> {
    Some(&mut tensor(value)?.shape.as_mut()?.dim)
}

/// Takes the shape that an output is declared with.
fn take_shape(output: &mut ValueInfoProto) -> Option<Vec<Claim>> {
    let shape = tensor(output)?.shape.take()?;
    let claim = |dim: Dimension| match dim.value {
        Some(Size::DimValue(size)) => usize::try_from(size).map_or_else(|_| Claim::Named(String::new()), Claim::Size),
        Some(Size::DimParam(name)) => Claim::Named(name),
        None => Claim::Named(String::new()),
    };
    Some(shape.dim.into_iter().map(claim).collect())
}
