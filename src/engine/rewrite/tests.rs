//! Functions, loops and sequences, read from their text form and looked at as nodes.

use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};

use super::{
    constants::{boolean, integers},
    *,
};

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto { op_type: operator.to_owned(), input: own(inputs), output: own(outputs), ..NodeProto::default() }
}

fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() }
}

fn model(nodes: Vec<NodeProto>, constants: Vec<TensorProto>, output: &str) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer: constants,
        input: vec![value("x")],
        output: vec![value(output)],
        ..GraphProto::default()
    };
    ModelProto {
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..ModelProto::default()
    }
}

/// `Op(inputs) -> outputs` for every node.
fn shown(model: &ModelProto) -> Vec<String> {
    let nodes = &model.graph.as_ref().unwrap().node;
    nodes
        .iter()
        .map(|node| format!("{}({}) -> {}", node.op_type, node.input.join(", "), node.output.join(", ")))
        .collect()
}

fn with_function(nodes: Vec<NodeProto>, body: Vec<NodeProto>) -> ModelProto {
    let mut model = model(nodes, vec![], "y");
    model.functions.push(FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("own".to_owned()),
        input: vec!["a".to_owned(), "b".to_owned()],
        output: vec!["r".to_owned()],
        node: body,
        ..FunctionProto::default()
    });
    model
}

fn call(inputs: &[&str], output: &str) -> NodeProto {
    NodeProto { domain: "own".to_owned(), ..node("Twice", inputs, &[output]) }
}

#[test]
fn a_call_becomes_the_nodes_of_the_function() {
    let body = vec![node("Add", &["a", "a"], &["t"]), node("Clip", &["t", "b"], &["r"])];
    let mut model = with_function(vec![call(&["x"], "m"), call(&["m", "x"], "y")], body);
    inline(&mut model).unwrap();
    let want = ["Add(x, x) -> m#0/t", "Clip(m#0/t, ) -> m", "Add(m, m) -> y#1/t", "Clip(y#1/t, x) -> y"];
    assert_eq!(shown(&model), want);
    assert!(model.functions.is_empty());
}

#[test]
fn functions_take_attributes_and_do_not_call_themselves() {
    let mut inner = node("Elu", &["a"], &["r"]);
    inner.attribute.push(AttributeProto {
        name: "alpha".to_owned(),
        ref_attr_name: "slope".to_owned(),
        ..AttributeProto::default()
    });
    let mut given = call(&["x"], "y");
    given.attribute.push(AttributeProto { name: "slope".to_owned(), f: 0.5, ..AttributeProto::default() });
    let mut model = with_function(vec![given], vec![inner.clone()]);
    inline(&mut model).unwrap();
    let attribute = &model.graph.as_ref().unwrap().node[0].attribute[0];
    assert_eq!((attribute.name.as_str(), attribute.f), ("alpha", 0.5));

    let missing = inline(&mut with_function(vec![call(&["x"], "y")], vec![inner])).unwrap_err().to_string();
    assert_eq!(missing, "node 'y' (Twice): attribute 'slope': is not given");
    let endless = inline(&mut with_function(vec![call(&["x"], "y")], vec![call(&["a"], "r")])).unwrap_err().to_string();
    assert!(endless.contains("without end"), "{endless}");
    let wide = (0..40).map(|at| call(&["a"], &format!("r{at}"))).collect();
    let wide = inline(&mut with_function(vec![call(&["x"], "y")], wide)).unwrap_err().to_string();
    assert!(wide.contains("too many nodes"), "{wide}");
}

fn looped(goes_on: &str) -> ModelProto {
    let body = GraphProto {
        input: vec![value("turn"), value("on"), value("state")],
        output: vec![value(goes_on), value("next"), value("scan")],
        node: vec![
            node("Add", &["state", "x"], &["next"]),
            node("Mul", &["next", "half"], &["scan"]),
            node("Less", &["turn", "turn"], &["less"]),
        ],
        initializer: vec![integers("half".to_owned(), &[2], true)],
        ..GraphProto::default()
    };
    let mut turns = node("Loop", &["count", "yes", "x"], &["last", "y"]);
    turns.attribute.push(AttributeProto { name: "body".to_owned(), g: Some(body), ..AttributeProto::default() });
    model(vec![turns], vec![integers("count".to_owned(), &[2], true), boolean("yes".to_owned(), true)], "y")
}

#[test]
fn a_loop_becomes_copies_of_its_body() {
    let mut model = looped("on");
    assert!(spell_out(&mut model).unwrap());
    let want = [
        "Add(x, x) -> last#loop1.0/next",
        "Mul(last#loop1.0/next, last#loop1/half) -> last#loop1.0/scan",
        "Less(last#loop1.0#turn, last#loop1.0#turn) -> last#loop1.0/less",
        "Unsqueeze(last#loop1.0/scan, last#loop1.0/scan#0.0#axes) -> last#loop1.0/scan#0.0",
        "Add(last#loop1.0/next, x) -> last#loop1.1/next",
        "Mul(last#loop1.1/next, last#loop1/half) -> last#loop1.1/scan",
        "Less(last#loop1.1#turn, last#loop1.1#turn) -> last#loop1.1/less",
        "Unsqueeze(last#loop1.1/scan, last#loop1.1/scan#1.1#axes) -> last#loop1.1/scan#1.1",
        "Identity(last#loop1.1/next) -> last",
        "Concat(last#loop1.0/scan#0.0, last#loop1.1/scan#1.1) -> y",
    ];
    assert_eq!(shown(&model), want);
    let text = spell_out(&mut looped("less")).unwrap_err().to_string();
    assert_eq!(text, "node 'last' (Loop): whether it goes on depends on the request, which is not supported");
}

#[test]
fn loops_without_a_known_or_reasonable_length_are_refused() {
    for (count, text) in [
        (integers("other".to_owned(), &[2], true), "how often it turns"),
        (integers("count".to_owned(), &[1 << 40], true), "expected at most"),
    ] {
        let mut model = looped("on");
        model.graph.as_mut().unwrap().initializer[0] = count;
        let error = spell_out(&mut model).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn sequences_become_their_elements() {
    let nodes = vec![
        node("SequenceConstruct", &["x", "x"], &["s"]),
        node("Relu", &["x"], &["z"]),
        node("SequenceInsert", &["s", "z", "one"], &["t"]),
        node("SequenceAt", &["t", "one"], &["at"]),
        node("SequenceLength", &["t"], &["three"]),
        node("SequenceErase", &["t"], &["u"]),
        node("ConcatFromSequence", &["u"], &["y"]),
    ];
    let mut model = model(nodes, vec![integers("one".to_owned(), &[1], true)], "y");
    assert!(spell_out(&mut model).unwrap());
    assert_eq!(shown(&model), ["Relu(x) -> z", "Identity(z) -> at", "Concat(x, z) -> y"]);
    let three = model.graph.as_ref().unwrap().initializer.iter().find(|tensor| tensor.name == "three").unwrap();
    assert_eq!(three.raw_data, 3_i64.to_le_bytes());
}

#[test]
fn sequences_that_requests_decide_on_are_refused() {
    for (nodes, text) in [
        (vec![node("SequenceAt", &["x", "x"], &["y"])], "its sequence comes with the request"),
        (vec![node("SequenceEmpty", &[], &["s"]), node("SequenceAt", &["s", "x"], &["y"])], "is not a constant"),
        (vec![node("SplitToSequence", &["x"], &["s"]), node("SequenceLength", &["s"], &["y"])], "how many elements"),
        (vec![node("SequenceConstruct", &["x"], &["y"])], "output 'y': is a sequence"),
    ] {
        let error = spell_out(&mut model(nodes, vec![], "y")).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn nodes_may_be_called_like_tensors_and_each_other() {
    let named = |name: &str, node: NodeProto| NodeProto { name: name.to_owned(), ..node };
    let nodes = vec![
        named("x", node("Relu", &["x"], &["a"])),
        named("x", node("Relu", &["a"], &["b"])),
        named("c", node("Neg", &["b"], &["d"])),
        node("Neg", &["d"], &["c"]),
        named("alone", node("Neg", &["c"], &["y"])),
    ];
    let mut model = model(nodes, vec![], "y");
    let graph = model.graph.as_mut().unwrap();
    tell_apart(graph);
    let names: Vec<_> = graph.node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["x (Relu)", "x (Relu) 2", "c", "c (Neg)", "alone"]);
}
