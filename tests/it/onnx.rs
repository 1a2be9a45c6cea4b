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
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    let opset_import = vec![opset("", 17), opset("ai.onnx.ml", 3)];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() };
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

/// An attribute of several texts.
pub(crate) fn texts(name: &str, texts: &[&str]) -> AttributeProto {
    let (name, r#type) = (name.to_owned(), AttributeType::Strings as i32);
    let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { name, r#type, strings, ..AttributeProto::default() }
}

/// An operator of `ai.onnx.ml` from `input` to `y`.
pub(crate) fn learned(operator: &str, input: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    let (name, domain) = (operator.to_lowercase(), "ai.onnx.ml".to_owned());
    NodeProto { name, domain, ..node(operator, &[input], "y", attributes) }
}

/// A tree with one branch: `y` is 1 for rows whose feature `feature` is at most a half, else 2.
pub(crate) fn tree(input: &str, feature: i64) -> NodeProto {
    let attributes = vec![
        ints("nodes_treeids", &[0; 3]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[feature, 0, 0]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        reals("nodes_values", &[0.5, 0.0, 0.0]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        ints("target_treeids", &[0; 2]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0; 2]),
        reals("target_weights", &[1.0, 2.0]),
        int("n_targets", 1),
    ];
    learned("TreeEnsembleRegressor", input, attributes)
}

/// An input of FP32 whose rows have a width that is not said, or has a name.
pub(crate) fn open_rows(name: &str, width: Option<&str>) -> ValueInfoProto {
    let mut input = value(name, DataType::Float, &[None, Some(1)]);
    if let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        && let Some(shape) = &mut tensor.shape
    {
        shape.dim[1].value = width.map(|name| Size::DimParam(name.to_owned()));
    }
    input
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
