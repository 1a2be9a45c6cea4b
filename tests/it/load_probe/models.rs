//! Models that nobody should load in a process that serves, made where they are needed: lying about as files, they would be
//! loaded by every test that looks at all of them.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension::Value, type_proto,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Asks for 512 MiB of zeros.
pub(super) fn hungry() -> Vec<u8> {
    let nodes = vec![
        node("ConstantOfShape", &["many"], "zeros", vec![]),
        node("ReduceSum", &["zeros", "first"], "zero", vec![]),
        node("Add", &["x", "zero"], "y", vec![]),
    ];
    model(nodes, vec![ints("many", &[1 << 27]), ints("first", &[0])])
}

/// Multiplies matrices of 2048 rows and columns, two hundred of them: minutes of computing.
pub(super) fn endless() -> Vec<u8> {
    let mut nodes = vec![
        node("ConstantOfShape", &["square"], "w", vec![]),
        node("ReduceMean", &["x"], "mean", vec![axes(&[1])]),
        node("Add", &["mean", "w"], "h0", vec![]),
    ];
    for at in 0..200 {
        nodes.push(node("MatMul", &[&format!("h{at}"), "w"], &format!("m{at}"), vec![]));
        nodes.push(node("Sin", &[&format!("m{at}")], &format!("h{}", at + 1), vec![]));
    }
    nodes.push(node("ReduceMean", &["h200"], "end", vec![axes(&[0, 1])]));
    nodes.push(node("Add", &["x", "end"], "y", vec![]));
    model(nodes, vec![ints("square", &[2048, 2048])])
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
    model(nodes, vec![ints("first", &[0]), ints("one", &[1]), ints("two", &[2])])
}

fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
    let graph = GraphProto {
        name: "wild".to_owned(),
        node,
        initializer,
        input: vec![rows("x")],
        output: vec![rows("y")],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    let model = ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn axes(axes: &[i64]) -> AttributeProto {
    let (name, r#type) = ("axes".to_owned(), AttributeType::Ints as i32);
    AttributeProto { name, r#type, ints: axes.into(), ..AttributeProto::default() }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: INT64,
        dims: vec![i64::try_from(values.len()).unwrap()],
        int64_data: values.into(),
        ..TensorProto::default()
    }
}

/// FP32 [N, 4].
fn rows(name: &str) -> ValueInfoProto {
    let sizes = [Value::DimParam("N".to_owned()), Value::DimValue(4)];
    let dim = sizes.map(|size| Dimension { denotation: String::new(), value: Some(size) }).into();
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { denotation: String::new(), value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), doc_string: String::new() }
}
