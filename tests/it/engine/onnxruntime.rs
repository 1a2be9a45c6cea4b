//! The engine over ONNX Runtime, held to the same answers and the same manners as the embedded one. Skipped, with a line that
//! says why, where the library is not.

use std::thread;

use prost::Message as _;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension::Value as Size, type_proto,
};
use weir::engine::{
    Engine,
    onnxruntime::{Absent, Opened, open},
};

use super::{
    manners::{fill, plain},
    *,
};

/// The engine; `None`, and a line, where there is no library.
pub(super) fn opened() -> Option<Opened> {
    match open(None) {
        Ok(opened) => Some(opened),
        Err(absent @ Absent::NotFound) => {
            println!("skipped: {absent}");
            None
        }
        Err(absent) => panic!("{absent}"),
    }
}

fn folder(path: &str) -> PathBuf {
    root().join("tests").join(path).join("1")
}

/// Every model with answers: the demo registry, fixtures, operators, exported models.
fn answered() -> Vec<(PathBuf, PathBuf)> {
    let lists = [
        ("models", "golden.json"),
        ("tests/fixtures", "expected.json"),
        ("tests/operators", "expected.json"),
        ("tests/exporters", "expected.json"),
    ];
    let files = lists
        .into_iter()
        .flat_map(|(path, name)| versions(&root().join(path)).into_iter().map(move |f| (f.clone(), f.join(name))));
    files.filter(|(_, answers)| answers.is_file()).collect()
}

#[test]
fn answers_are_those_that_are_expected() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let (mut checked, mut problems) = (0, Vec::new());
    for (folder, answers) in answered() {
        let loaded = engine.load(&artifact(&folder), &LIMITS).map_err(|error| error.to_string());
        if let Err(problem) = loaded.and_then(|model| check_model(&*model, &answers)) {
            problems.push(format!("{}: {problem}", folder.display()));
        }
        checked += 1;
    }
    assert!(problems.is_empty(), "{} of {checked} disagree:\n{}", problems.len(), problems.join("\n"));
    assert!(checked >= 145, "{checked}");
}

#[test]
fn both_engines_see_the_same_signature() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let mut problems = Vec::new();
    for (folder, _) in answered() {
        let Ok(ours) = load(&folder) else { continue };
        let theirs = engine.load(&artifact(&folder), &LIMITS).unwrap();
        let (ours, theirs) = (ours.signature(), theirs.signature());
        let sides = [(&ours.inputs, &theirs.inputs), (&ours.outputs, &theirs.outputs)];
        let alike = sides.iter().all(|(ours, theirs)| {
            ours.len() == theirs.len()
                && ours.iter().zip(*theirs).all(|(a, b)| {
                    let dims = a.shape.iter().zip(&b.shape);
                    (&a.name, a.dtype, a.shape.len()) == (&b.name, b.dtype, b.shape.len())
                        && dims.into_iter().all(|(a, b)| a.is_none() || b.is_none() || a == b)
                })
        });
        if !alike || ours.batch != theirs.batch {
            problems.push(format!("{}: {ours:?}\n  {theirs:?}", folder.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_our_own_check_refuses_never_gets_there() {
    let Some(Opened { engine, .. }) = opened() else { return };
    for name in [
        "empty",
        "truncated",
        "text",
        "no-graph",
        "cycle",
        "dangling-input",
        "dangling-output",
        "negative-dim",
        "overflow-dim",
        "overflow-product",
        "data-mismatch",
        "huge-constant",
        "huge-expand",
        "huge-tile",
        "external-escape",
        "external-absolute",
        "external-missing",
    ] {
        let artifact = artifact(&folder(&format!("fixtures/{name}")));
        let ours = TractEngine::new().load(&artifact, &LIMITS).err().unwrap().to_string();
        let theirs = engine.load(&artifact, &LIMITS).err().unwrap().to_string();
        // The words of the two decoders differ.
        let head = |text: &str| text.split(" bytes): ").next().unwrap().to_owned();
        assert_eq!(head(&theirs), head(&ours), "{name}");
    }
    for (name, part) in [("unknown-op", "FancyOp"), ("unknown-domain", "Relu"), ("shape-mismatch", "graph: ")] {
        let text = engine.load(&artifact(&folder(&format!("fixtures/{name}"))), &LIMITS).err().unwrap().to_string();
        assert!(text.starts_with("graph: ") && text.contains(part), "{name}: {text}");
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }
}

#[test]
fn shapes_and_sizes_are_checked_as_by_the_embedded_engine() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let load = |name: &str, limits: &Limits| engine.load(&artifact(&folder(name)), limits).unwrap();
    manners::refuse_shapes_that_do_not_fit(&*load("fixtures/unnamed-batch", &LIMITS));
    let limits = Limits { max_output_bytes: 64 };
    manners::limit_outputs(&*load("fixtures/unnamed-batch", &limits), &*load("operators/range", &limits));
}

#[test]
fn buffers_are_used_again_and_failed_runs_leave_no_trace() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let load = |name: &str| engine.load(&artifact(&folder(name)), &LIMITS).unwrap();
    manners::use_buffers_again(&*load("fixtures/unnamed-batch"));
    let model = load("operators/gather");
    let mut session = model.plan(Some(2)).unwrap().session().unwrap();
    for (index, good) in [(100, false), (2, true), (1, true), (100, false), (100, false), (0, true), (1, true)] {
        let InputBuffer::Plain(buffer) = session.input(0, &[2]).unwrap() else { panic!("not numbers") };
        buffer.copy_from_slice(bytemuck::cast_slice(&[1_i64, index]));
        let outcome = session.run().map_err(|error| error.to_string());
        assert_eq!(outcome.is_ok(), good, "{outcome:?}");
        assert_eq!(session.output(0).is_ok(), good);
    }
}

/// Graphs whose outputs are not simply what an operator computes, run again and again by one worker.
#[test]
fn outputs_are_those_of_the_last_run() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let nodes = || {
        vec![
            node("Identity", &["x"], "same"),
            node("Identity", &["same"], "again"),
            node("Add", &["x", "w"], "sum"),
            node("Identity", &["w"], "constant"),
            node("Add", &["w", "w"], "folded"),
        ]
    };
    let computed = ["same", "again", "sum", "constant", "folded"];
    let given = ["w", "sum", "same"];
    for outputs in [&computed[..], &given, &computed[..2]] {
        let model = model(nodes(), "x", &outputs.iter().map(|name| (*name, 4)).collect::<Vec<_>>());
        let model = engine.load(&model, &LIMITS).unwrap();
        let mut session = model.plan(None).unwrap().session().unwrap();
        for turn in 0..5 {
            let x = [0.0, 1.0, 2.0, 3.0].map(|at| at + 10.0 * turn as f32);
            fill(&mut *session, &[4], &x);
            session.run().unwrap();
            for (at, name) in outputs.iter().enumerate() {
                let want = match *name {
                    "same" | "again" => x,
                    "sum" => x.map(|x| x + 1.0),
                    "folded" => [2.0; 4],
                    _ => [1.0; 4],
                };
                assert_eq!(floats(&read(session.output(at).unwrap())), want.map(f64::from), "{name}, run {turn}");
            }
        }
    }
}

/// A file may claim a size that follows from values.
#[test]
fn sizes_that_follow_from_values_may_change() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let nodes = vec![node("Greater", &["x", "w"], "large"), node("Compress", &["x", "large"], "y")];
    let model = engine.load(&model(nodes, "x", &[("y", 0)]), &LIMITS).unwrap();
    assert_eq!(model.signature().outputs[0].shape, [Some(0)]);
    let mut session = model.plan(None).unwrap().session().unwrap();
    let runs: [&[f32]; 6] = [&[], &[], &[3.0, 2.0], &[], &[4.0], &[5.0, 6.0, 7.0, 8.0]];
    for large in runs {
        let mut x = [0.0; 4];
        x[..large.len()].copy_from_slice(large);
        fill(&mut *session, &[4], &x);
        session.run().unwrap();
        assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(large));
    }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// A graph of one input of four floats, with four ones named `w`.
fn model(node: Vec<NodeProto>, input: &str, outputs: &[(&str, i64)]) -> Artifact {
    let value = |name: &str, size| {
        let dim = vec![Dimension { value: Some(Size::DimValue(size)), ..Dimension::default() }];
        let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
        let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
    };
    let ones =
        TensorProto { name: "w".into(), data_type: 1, dims: vec![4], float_data: vec![1.0; 4], ..Default::default() };
    let graph = GraphProto {
        node,
        name: "g".into(),
        input: vec![value(input, 4)],
        output: outputs.iter().map(|(name, size)| value(name, *size)).collect(),
        initializer: vec![ones],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() };
    let model = ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    Artifact { kind: ArtifactKind::Onnx, bytes: model.encode_to_vec().into(), side_files: BTreeMap::new() }
}

#[test]
fn booleans_and_texts_come_through() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let load = |name: &str| engine.load(&artifact(&folder(name)), &LIMITS).unwrap();
    let model = load("operators/not");
    let mut session = model.plan(Some(1)).unwrap().session().unwrap();
    let InputBuffer::Plain(buffer) = session.input(0, &[1, 2]).unwrap() else { panic!("not bytes") };
    buffer.copy_from_slice(&[255, 0]);
    session.run().unwrap();
    assert_eq!(plain(&*session), [0, 1]);
    let model = load("fixtures/identity-string");
    let mut session = model.plan(Some(1)).unwrap().session().unwrap();
    for (text, good) in [("żółw 🐢", true), ("", true), ("a\0b", false)] {
        let InputBuffer::Strings(items) = session.input(0, &[1, 4]).unwrap() else { panic!("not texts") };
        items.fill(text.to_owned());
        match session.run() {
            Ok(()) => {
                let OutputData::Strings(items) = session.output(0).unwrap().data else { panic!("not texts") };
                assert!(good && items.iter().all(|item| item == text), "{items:?}");
            }
            Err(error) => {
                assert!(!good, "{error}");
                let text = "input 'x': a text with a zero byte cannot be given to onnxruntime";
                assert_eq!(error.to_string(), text);
            }
        }
    }
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let model = engine.load(&artifact(&folder("fixtures/unnamed-batch")), &LIMITS).unwrap();
    let plan = model.plan(Some(2)).unwrap();
    thread::scope(|scope| {
        for thread in 0..6 {
            let plan = &plan;
            scope.spawn(move || {
                let mut session = plan.session().unwrap();
                for run in 0..200 {
                    let value = (thread * 1000 + run) as f32;
                    fill(&mut *session, &[2, 4], &[value; 8]);
                    session.run().unwrap();
                    assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[value * 2.0; 8]));
                }
            });
        }
    });
}

#[test]
fn operators_that_mix_rows_are_named() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let named = |name: &str| engine.load(&artifact(&folder(name)), &LIMITS).unwrap().order_dependent();
    assert_eq!(named("fixtures/random-normal"), ["node 'randomnormallike_noise' (RandomNormalLike)"]);
    assert!(named("fixtures/softmax-dim0").is_empty());
}

#[test]
fn a_library_that_is_named_must_be_one() {
    let text = |path: &Path| open(Some(path)).err().unwrap().to_string();
    assert_eq!(text(Path::new("/no/such/library.so")), "onnxruntime: library '/no/such/library.so': not found");
    let file = root().join("README.md");
    let refused = text(&file);
    assert!(refused.starts_with(&format!("onnxruntime: library '{}': ", file.display())), "{refused}");
}
