//! Models that nobody should load in a process that serves.

use tract_onnx::pb::{NodeProto, TensorProto, tensor_proto::DataType};

use crate::onnx::{file, ints, node, sizes, value};

/// Asks for 512 MiB of zeros.
pub(super) fn hungry() -> Vec<u8> {
    let nodes = vec![
        node("ConstantOfShape", &["many"], "zeros", vec![]),
        node("ReduceSum", &["zeros", "first"], "zero", vec![]),
        node("Add", &["x", "zero"], "y", vec![]),
    ];
    model(nodes, vec![sizes("many", &[1 << 27]), sizes("first", &[0])])
}

/// Multiplies matrices of 2048 rows and columns, two hundred of them: minutes of computing.
pub(super) fn endless() -> Vec<u8> {
    let mut nodes = vec![
        node("ConstantOfShape", &["square"], "w", vec![]),
        node("ReduceMean", &["x"], "mean", vec![ints("axes", &[1])]),
        node("Add", &["mean", "w"], "h0", vec![]),
    ];
    for at in 0..200 {
        nodes.push(node("MatMul", &[&format!("h{at}"), "w"], &format!("m{at}"), vec![]));
        nodes.push(node("Sin", &[&format!("m{at}")], &format!("h{}", at + 1), vec![]));
    }
    nodes.push(node("ReduceMean", &["h200"], "end", vec![ints("axes", &[0, 1])]));
    nodes.push(node("Add", &["x", "end"], "y", vec![]));
    model(nodes, vec![sizes("square", &[2048, 2048])])
}

/// Halves the number of rows and adds one, three hundred times: seven kilobytes that the embedded engine's arithmetic of unknown sizes
/// goes down without end.
pub(super) fn deep() -> Vec<u8> {
    let mut nodes = vec![node("Shape", &["x"], "shape", vec![]), node("Gather", &["shape", "first"], "d0", vec![])];
    for at in 0..300 {
        let (operator, other) = if at % 2 == 0 { ("Div", "two") } else { ("Add", "one") };
        nodes.push(node(operator, &[&format!("d{at}"), other], &format!("d{}", at + 1), vec![]));
    }
    nodes.push(node("ConstantOfShape", &["d300"], "zeros", vec![]));
    nodes.push(node("ReduceSum", &["zeros", "first"], "zero", vec![]));
    nodes.push(node("Add", &["x", "zero"], "y", vec![]));
    model(nodes, vec![sizes("first", &[0]), sizes("one", &[1]), sizes("two", &[2])])
}

/// From FP32 [N, 4] to the same.
fn model(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> Vec<u8> {
    file(nodes, constants, ["x", "y"].map(|name| value(name, DataType::Float, &[None, Some(4)])))
}
