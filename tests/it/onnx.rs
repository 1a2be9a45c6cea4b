//! ONNX files made in code, of graphs that nobody should have lying about as files: every test that looks at all of those would
//! load them. Used by `failing`, `load_probe`, `engine::refusals` and `engine::widths`.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension::Value as Size, type_proto,
};

/// The file of a graph with one input and one output.
pub(crate) fn file(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    [input, output]: [ValueInfoProto; 2],
) -> Vec<u8> {
    let graph = GraphProto {
        name: "made".to_owned(),
        node,
        initializer,
        input: vec![input],
        output: vec![output],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    let model = ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    model.encode_to_vec()
}

pub(crate) fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

/// An attribute of one integer.
pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

/// An attribute of several.
pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let (name, r#type) = (name.to_owned(), AttributeType::Ints as i32);
    AttributeProto { name, r#type, ints: ints.into(), ..AttributeProto::default() }
}

/// An attribute of several floats.
pub(crate) fn reals(name: &str, floats: &[f32]) -> AttributeProto {
    let (name, r#type) = (name.to_owned(), AttributeType::Floats as i32);
    AttributeProto { name, r#type, floats: floats.into(), ..AttributeProto::default() }
}

/// A constant vector of INT64.
pub(crate) fn sizes(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.into(), ..tensor(name, DataType::Int64, values.len()) }
}

/// A constant vector of FP32.
pub(crate) fn floats(name: &str, values: &[f32]) -> TensorProto {
    TensorProto { float_data: values.into(), ..tensor(name, DataType::Float, values.len()) }
}

fn tensor(name: &str, kind: DataType, len: usize) -> TensorProto {
    let dims = vec![i64::try_from(len).unwrap()];
    TensorProto { name: name.to_owned(), data_type: kind as i32, dims, ..TensorProto::default() }
}

/// An input or output; a size that is `None` is the number of rows, and without any the shape is not said.
pub(crate) fn value(name: &str, kind: DataType, shape: &[Option<i64>]) -> ValueInfoProto {
    let size = |size: &Option<i64>| size.map_or_else(|| Size::DimParam("N".to_owned()), Size::DimValue);
    let dims = shape.iter().map(|dim| Dimension { value: Some(size(dim)), ..Dimension::default() });
    let shape = (!shape.is_empty()).then(|| TensorShapeProto { dim: dims.collect() });
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}
