//! What no fixture file shows: names, orders, side files and small constants, on graphs built by hand.

use tract_onnx::pb::{
    AttributeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

use super::*;

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { op_type: op.into(), input: strings(inputs), output: strings(outputs), ..NodeProto::default() }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |size: &i64| Dimension { value: Some(dimension::Value::DimValue(*size)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn floats(name: &str, dims: &[i64], bytes: usize) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: vec![0; bytes],
        ..TensorProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// `x` [1, 4] to `y` through these nodes.
fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![value("x", &[1, 4])],
        output: vec![value("y", &[1, 4])],
        ..GraphProto::default()
    };
    ModelProto { graph: Some(graph), ..ModelProto::default() }
}

fn checked(model: &mut ModelProto) -> Result<(), String> {
    check(model, &BTreeMap::new(), &|node| in_domain(node) && node.op_type != "Loop").map_err(|error| error.to_string())
}

fn refused(mut model: ModelProto) -> String {
    checked(&mut model).unwrap_err()
}

#[test]
fn nodes_are_sorted() {
    let mut unsorted = model(vec![node("Add", &["a", "x"], &["y"]), node("Relu", &["x"], &["a"])], vec![]);
    checked(&mut unsorted).unwrap();
    let ops: Vec<_> = unsorted.graph.unwrap().node.into_iter().map(|node| node.op_type).collect();
    assert_eq!(ops, ["Relu", "Add"]);
}

#[test]
fn names_are_defined_once() {
    let relu = || node("Relu", &["x"], &["y"]);
    assert_eq!(refused(model(vec![relu(), relu()], vec![])), "node 'y' (Relu): output 'y' is defined twice");
    let twice = model(vec![relu()], vec![floats("w", &[1], 4), floats("w", &[1], 4)]);
    assert_eq!(refused(twice), "initializer 'w': is given twice");
    let mut outputs = model(vec![relu()], vec![]);
    outputs.graph.as_mut().unwrap().output.push(value("y", &[]));
    assert_eq!(refused(outputs), "output 'y': is given twice");
}

#[test]
fn inner_graphs_are_checked_too() {
    let branch = |node: NodeProto| {
        let inner = GraphProto { node: vec![node], output: vec![value("z", &[])], ..GraphProto::default() };
        let mut outer = self::node("If", &["c"], &["y"]);
        outer.attribute.push(AttributeProto { name: "then_branch".into(), g: Some(inner), ..Default::default() });
        model(vec![self::node("Cast", &["x"], &["c"]), outer], vec![])
    };
    assert_eq!(checked(&mut branch(node("Relu", &["x"], &["z"]))), Ok(()));
    assert_eq!(refused(branch(node("Relu", &["w"], &["z"]))), "node 'z' (Relu): input 'w' is defined by nothing");
    assert_eq!(refused(branch(node("Relu", &["x"], &["v"]))), "output 'z': is defined by nothing");
    let text = "operator 'Loop' (domain 'ai.onnx') of node 'z' is not supported";
    assert_eq!(refused(branch(node("Loop", &["x"], &["z"]))), text);
}

#[test]
fn operators_belong_to_their_domain() {
    let of = |domain: &str, op: &str| {
        let mut only = node(op, &["x"], &["y"]);
        only.domain = domain.into();
        checked(&mut model(vec![only], vec![]))
    };
    assert_eq!(of("ai.onnx.ml", "Scaler"), Ok(()));
    assert_eq!(of("com.microsoft", "FastGelu"), Ok(()));
    assert!(of("ai.onnx.ml", "Relu").is_err());
    assert!(of("ai.onnx", "Scaler").is_err());
    assert!(of("com.microsoft", "Range").is_err());
    let two = vec![node("Loop", &["x"], &["a"]), node("Scaler", &["a"], &["y"])];
    let text = "operator 'Loop' (domain 'ai.onnx') of node 'a' is not supported; nor are ai.onnx.Scaler";
    assert_eq!(refused(model(two, vec![])), text);
}

/// What takes a map is refused with the reason, also where an engine would know the operator.
#[test]
fn operators_of_maps_are_refused() {
    for op in ["CastMap", "DictVectorizer"] {
        let mut maps = node(op, &["x"], &["y"]);
        (maps.domain, maps.name) = ("ai.onnx.ml".into(), "dict".into());
        let text = format!(
            "node 'dict' ({op}): takes a map, and requests carry tensors: export the model without it, with its keys as columns"
        );
        assert_eq!(refused(model(vec![maps.clone()], vec![])), text);
        maps.domain.clear();
        assert_ne!(refused(model(vec![maps], vec![])), text);
    }
}

#[test]
fn constants_are_followed_to_where_they_expand() {
    let chain = |op: &str| {
        let mut one = node("Constant", &[], &["big"]);
        one.attribute.push(AttributeProto { name: "value_ints".into(), ints: vec![1 << 20], ..Default::default() });
        model(
            vec![
                one,
                node("Concat", &["big", "big"], &["shape"]),
                node("Expand", &["x", "shape"], &["wide"]),
                node(op, &["wide"], &["y"]),
            ],
            vec![],
        )
    };
    let text = "node 'wide' (Expand): expected at most 134217728 elements, got 1.100e12";
    assert_eq!(refused(chain("ReduceSum")), text);
    let range = |limit: i64| {
        let scalars = vec![ints("from", &[0]), ints("to", &[limit]), ints("by", &[1])];
        checked(&mut model(vec![node("Range", &["from", "to", "by"], &["y"])], scalars))
    };
    assert_eq!(range(1000), Ok(()));
    assert!(range(1 << 40).is_err());
    let padded = model(vec![node("Pad", &["x", "pads"], &["y"])], vec![ints("pads", &[0, 0, 1 << 20, 1 << 20])]);
    assert!(refused(padded).starts_with("node 'y' (Pad): expected at most"));
}

#[test]
fn side_files_are_brought_in() {
    let outside = |location: &str, offset: &str, length: &str| {
        let mut tensor = floats("w", &[2], 0);
        tensor.data_location = Some(1);
        for (key, value) in [("location", location), ("offset", offset), ("length", length)] {
            tensor.external_data.push(StringStringEntryProto { key: key.into(), value: value.into() });
        }
        let mut model = model(vec![node("Add", &["x", "w"], &["y"])], vec![tensor]);
        let files = BTreeMap::from([("w.bin".to_owned(), Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8, 9]))]);
        check(&mut model, &files, &|_| true)
            .map_err(|error| error.to_string())
            .map(|()| model.graph.unwrap().initializer.remove(0).raw_data)
    };
    assert_eq!(outside("w.bin", "1", "8"), Ok(vec![2, 3, 4, 5, 6, 7, 8, 9]));
    assert_eq!(outside("./w.bin", "0", "8"), Ok(vec![1, 2, 3, 4, 5, 6, 7, 8]));
    let all = "initializer 'w': external data: expected 8 bytes at 2 in 'w.bin', got 9 in all";
    assert_eq!(outside("w.bin", "2", "8").unwrap_err(), all);
    assert!(outside("w.bin", "18446744073709551615", "8").unwrap_err().ends_with("got 9 in all"));
    assert!(outside("w.bin", "0", "4").unwrap_err().ends_with("expected 8 bytes, got a length of 4"));
    assert!(outside("w.bin", "-1", "8").unwrap_err().ends_with("offset: not a number"));
    for escape in ["../w.bin", "/w.bin", "a/w.bin", "..", "", "a\\w.bin"] {
        assert!(outside(escape, "0", "8").unwrap_err().contains("expected the name of a file"), "{escape}");
    }
}

#[test]
fn unsigned_numbers_are_found() {
    let mut tensor = floats("w", &[2], 0);
    tensor.data_type = DataType::Uint32 as i32;
    tensor.uint64_data = vec![1, u64::from(u32::MAX)];
    let mut good = model(vec![node("Cast", &["w"], &["y"])], vec![tensor.clone()]);
    checked(&mut good).unwrap();
    assert_eq!(good.graph.unwrap().initializer[0].raw_data, [1, 0, 0, 0, 255, 255, 255, 255]);
    tensor.uint64_data[1] += 1;
    let text = "initializer 'w': has values that are not UINT32";
    assert_eq!(refused(model(vec![node("Cast", &["w"], &["y"])], vec![tensor])), text);
}

#[test]
fn types_and_shapes_of_inputs_are_checked() {
    let mut bf16 = model(vec![node("Relu", &["x"], &["y"])], vec![]);
    bf16.graph.as_mut().unwrap().input[0] = {
        let mut input = value("x", &[1]);
        let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().unwrap().value.as_mut() else {
            panic!()
        };
        tensor.elem_type = DataType::Bfloat16 as i32;
        input
    };
    assert_eq!(refused(bf16), "input 'x': datatype BFLOAT16 is not supported");
    let mut huge = model(vec![node("Relu", &["x"], &["y"])], vec![]);
    huge.graph.as_mut().unwrap().input[0] = value("x", &[1 << 40, 1 << 40]);
    assert!(refused(huge).starts_with("input 'x': dimensions"));
}

#[test]
fn random_and_batch_wide_operators_are_named() {
    let mut training = node("BatchNormalization", &["x"], &["c"]);
    training.attribute.push(AttributeProto { name: "training_mode".into(), i: 1, ..Default::default() });
    let nodes = vec![
        node("RandomNormalLike", &["x"], &["a"]),
        node("Dropout", &["x"], &["b"]),
        training,
        node("Dropout", &["x", "ratio", "flag"], &["d"]),
        node("DynamicQuantizeLinear", &["x"], &["e"]),
    ];
    let found = order_dependent(&model(nodes, vec![]).graph.unwrap());
    let want = [
        "node 'a' (RandomNormalLike)",
        "node 'c' (BatchNormalization)",
        "node 'd' (Dropout)",
        "node 'e' (DynamicQuantizeLinear)",
    ];
    assert_eq!(found, want);
}

#[test]
fn sizes_in_attributes_are_bounded() {
    let with = |name: &str, ints: &[i64]| {
        let mut only = node("AveragePool", &["x"], &["y"]);
        only.attribute.push(AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() });
        checked(&mut model(vec![only], vec![]))
    };
    assert_eq!(with("kernel_shape", &[5, 5]), Ok(()));
    assert_eq!(with("starts", &[i64::MIN]), Ok(()), "not a size");
    let refused = |name: &str, ints: &[i64], text: &str| {
        assert_eq!(
            with(name, ints),
            Err(format!("node 'y' (AveragePool): attribute '{name}': expected at most {text}"))
        );
    };
    refused("kernel_shape", &[5, 1 << 40], "134217728, got 1099511627776");
    refused("kernel_shape", &[1 << 20, 1 << 20], "134217728, got 1099511627776");
    let perm = "node 'y' (AveragePool): attribute 'perm': expected each axis once, got [0, 1, 0]";
    assert_eq!(with("perm", &[0, 1, 0]), Err(perm.to_owned()));
    assert_eq!(with("perm", &[2, 0, 1]), Ok(()));
    refused("axes", &[65], "64, got 65");
    refused("axes", &[i64::MIN], "64, got -9223372036854775808");
}

#[test]
fn flags_are_0_or_1() {
    let flag = |name: &str, i| AttributeProto { name: name.into(), i, ..AttributeProto::default() };
    for (name, value) in [("keepdims", 2), ("linear_before_reset", -1)] {
        let mut relu = node("Relu", &["x"], &["y"]);
        relu.attribute = vec![flag("alpha", value), flag(name, 1), flag(name, value)];
        let text = refused(model(vec![relu], vec![]));
        assert_eq!(text, format!("node 'y' (Relu): attribute '{name}': expected 0 or 1, got {value}"));
    }
}

#[test]
fn constants_that_are_outputs_have_their_type() {
    let outputs = |declared: &str| {
        let mut constant = model(vec![node("Relu", &["x"], &["z"])], vec![ints("y", &[1, 2]), floats("w", &[1], 4)]);
        constant.graph.as_mut().unwrap().output = vec![value("z", &[1, 4]), value(declared, &[1])];
        constant
    };
    assert_eq!(refused(outputs("y")), "output 'y': declared as FLOAT, is INT64");
    checked(&mut outputs("w")).unwrap();
}
