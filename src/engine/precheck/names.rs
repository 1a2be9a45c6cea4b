//! What refers to what: every name that is used is defined, and defined once. The graph library indexes with these names and
//! panics on those that are missing.

use std::collections::HashSet;

use tract_onnx::pb::{
    GraphProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto::Value,
};

use super::{
    super::LoadError,
    label, quoted, subgraphs,
    tensors::{elements, is_supported},
};

/// Elements that the fixed dimensions of an input may have.
const MAX_INPUT_ELEMENTS: u64 = 1 << 32;

/// Checks all names of a graph.
///
/// # Errors
/// Naming the node, input or output whose name is missing or given twice.
pub(super) fn check(graph: &GraphProto) -> Result<(), LoadError> {
    check_inputs(graph)?;
    check_graph(graph, &mut Vec::new())
}

/// The interface of the model itself: tensors with a shape.
fn check_inputs(graph: &GraphProto) -> Result<(), LoadError> {
    for input in &graph.input {
        let refuse = |text: &str| LoadError::new(format!("input {}: {text}", quoted(&input.name)));
        let Some(Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
            return Err(refuse("is not a tensor"));
        };
        let Some(shape) = &tensor.shape else { return Err(refuse("has no shape")) };
        is_supported(tensor.elem_type).map_err(|text| refuse(&text))?;
        let fixed = shape.dim.iter().filter_map(|dim| match dim.value {
            Some(dimension::Value::DimValue(size)) => Some(size.max(1)),
            _ => None,
        });
        let count = elements(&fixed.collect::<Vec<_>>()).map_err(|text| refuse(&text))?;
        if count > MAX_INPUT_ELEMENTS {
            return Err(refuse(&format!("expected at most {MAX_INPUT_ELEMENTS} elements, got {count}")));
        }
    }
    // The graph library would lose the input's type.
    if let Some(output) = graph.output.iter().find(|output| graph.input.iter().any(|input| input.name == output.name)) {
        return Err(LoadError::new(format!("output {}: is an input, which is not supported", quoted(&output.name))));
    }
    if graph.output.is_empty() {
        return Err(LoadError::new("model: the graph has no outputs"));
    }
    graph.output.iter().try_for_each(|output| check_constant(graph, output))
}

/// An output that is a constant has the type that it is declared with: ONNX Runtime goes by the one, the graph library by the other.
fn check_constant(graph: &GraphProto, output: &ValueInfoProto) -> Result<(), LoadError> {
    let Some(tensor) = graph.initializer.iter().find(|tensor| tensor.name == output.name) else { return Ok(()) };
    let declared = match output.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(Value::TensorType(declared)) => declared.elem_type,
        _ => return Ok(()),
    };
    if declared == tensor.data_type {
        return Ok(());
    }
    let name = |kind: i32| DataType::try_from(kind).map_or_else(|_| kind.to_string(), |kind| kind.as_str_name().into());
    let (output, declared, is) = (quoted(&output.name), name(declared), name(tensor.data_type));
    Err(LoadError::new(format!("output {output}: declared as {declared}, is {is}")))
}

/// `outer` holds the names that the graphs around this one define.
fn check_graph<'a>(graph: &'a GraphProto, outer: &mut Vec<HashSet<&'a str>>) -> Result<(), LoadError> {
    let own = definitions(graph)?;
    for node in &graph.node {
        let defined =
            |name: &&String| own.contains(name.as_str()) || outer.iter().any(|names| names.contains(name.as_str()));
        if let Some(missing) = node.input.iter().filter(|name| !name.is_empty()).find(|name| !defined(name)) {
            return Err(LoadError::new(format!("{}: input {} is defined by nothing", label(node), quoted(missing))));
        }
    }
    let mut outputs = HashSet::new();
    for ValueInfoProto { name, .. } in &graph.output {
        if !own.contains(name.as_str()) {
            return Err(LoadError::new(format!("output {}: is defined by nothing", quoted(name))));
        }
        if !outputs.insert(name) {
            return Err(LoadError::new(format!("output {}: is given twice", quoted(name))));
        }
    }
    outer.push(own);
    for inner in graph.node.iter().flat_map(subgraphs) {
        check_graph(inner, outer)?;
    }
    outer.pop();
    Ok(())
}

fn definitions(graph: &GraphProto) -> Result<HashSet<&str>, LoadError> {
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if !inputs.insert(input.name.as_str()) {
            return Err(LoadError::new(format!("input {}: is given twice", quoted(&input.name))));
        }
    }
    let mut initial = HashSet::new();
    for tensor in &graph.initializer {
        if !initial.insert(tensor.name.as_str()) {
            return Err(LoadError::new(format!("initializer {}: is given twice", quoted(&tensor.name))));
        }
    }
    // An input may have an initial value.
    inputs.extend(initial);
    for node in &graph.node {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !inputs.insert(output) {
                let text = format!("{}: output {} is defined twice", label(node), quoted(output));
                return Err(LoadError::new(text));
            }
        }
    }
    Ok(inputs)
}
