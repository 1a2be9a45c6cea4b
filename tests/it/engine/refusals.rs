//! Files that must be refused, each with a reason that names what is wrong.

use tract_onnx::pb::tensor_proto::DataType;

use super::*;
use crate::onnx::{file, int, ints, learned, node, value};

/// Every way of being broken is refused, and the text says which.
#[test]
fn broken_files_are_refused_with_a_reason() {
    let cases = [
        ("empty", "model: the file is empty"),
        ("truncated", "model: the file is truncated or not ONNX"),
        ("text", "model: the file is text, not ONNX"),
        ("no-graph", "model: the file is truncated or not ONNX (2 bytes): has no graph"),
        ("unknown-op", "operator 'FancyOp' (domain 'ai.onnx') of node 'fancyop_y' is not supported"),
        ("unknown-domain", "operator 'Relu' (domain 'com.example') of node 'relu_y' is not supported"),
        ("shape-mismatch", "graph: Failed analyse for node"),
        ("cycle", "node 'add_a' (Add): is part of, or behind, a cycle"),
        ("dangling-output", "output 'nowhere': is defined by nothing"),
        ("dangling-input", "node 'add_y' (Add): input 'nowhere' is defined by nothing"),
        ("negative-dim", "initializer 'w': dimensions [-4]: -4 is negative"),
        ("overflow-dim", "initializer 'w': dimensions [4611686018427387908] are too many bytes"),
        ("overflow-product", "initializer 'w': dimensions [4294967296, 4294967296, 4]: their product overflows"),
        ("data-mismatch", "initializer 'w': expected 64 bytes for [4, 4] FLOAT, got 16"),
        ("huge-constant", "node 'constantofshape_w' (ConstantOfShape): expected at most 134217728 elements, got 1.1"),
        ("huge-expand", "node 'expand_w' (Expand): expected at most 134217728 elements, got 1.1"),
        ("huge-tile", "node 'tile_w' (Tile): expected at most 134217728 elements, got 1.1"),
        ("external-escape", "initializer 'w': external data: expected the name of a file beside the model, got '../"),
        ("external-absolute", "initializer 'w': external data: expected the name of a file beside the model, got '/"),
        ("external-missing", "initializer 'w': external data: there is no file 'weights.bin'"),
    ];
    for (name, text) in cases {
        let folder = root().join("tests/fixtures").join(name).join("1");
        let Err(error) = load(&folder) else { panic!("{name}: was loaded") };
        assert!(error.to_string().starts_with(text), "{name}: {error}");
    }
}

/// A row that a few bytes ask for is not made larger than anybody means it to be.
#[test]
fn features_without_end_are_refused() {
    let vector = |widths: &[i64]| {
        let nodes = vec![learned("FeatureVectorizer", "x", vec![ints("inputdimensions", widths)])];
        let given = value("x", DataType::Float, &[None, Some(1)]);
        let bytes = file(nodes, Vec::new(), [given, value("y", DataType::Float, &[])]).into();
        let artifact = Artifact { kind: ArtifactKind::Onnx, bytes, side_files: BTreeMap::new() };
        TractEngine::new().load(&artifact, &LIMITS).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(vector(&[3]), Ok(()));
    for width in [1 << 29, i64::MAX] {
        let text = vector(&[width]).unwrap_err();
        assert!(text.contains("expected at most 16777216 features in all"), "{text}");
    }
}

/// Files with a few wrong bytes are refused, or load, plan and run; the process survives them all.
#[test]
fn damaged_files_do_no_harm() {
    let mut files = versions(&root().join("tests/operators"));
    files.extend(versions(&root().join("tests/fixtures")));
    let files: Vec<_> = files.iter().map(|folder| artifact(folder)).filter(|file| !file.bytes.is_empty()).collect();
    let engine = TractEngine::new();
    let mut ran = 0;
    for seed in 1..400_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut file = files[next(files.len())].clone();
        let mut bytes = file.bytes.to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            bytes[at] ^= 1 << next(8);
        }
        file.bytes = bytes.into();
        match engine.load(&file, &LIMITS) {
            Ok(model) => ran += usize::from(try_run(&*model)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(ran > 10, "only {ran} ran: the test has lost its models");
}

/// Runs a model once on zeros; false when it refuses.
fn try_run(model: &dyn Model) -> bool {
    let signature = model.signature();
    let rows = (signature.batch == Batch::Rows).then_some(2);
    let Ok(mut session) =
        model.plan(rows).and_then(|plan| plan.session().map_err(|error| LoadError::new(error.to_string())))
    else {
        return false;
    };
    for (index, input) in signature.inputs.iter().enumerate() {
        let shape: Vec<_> = input.shape.iter().map(|dim| dim.unwrap_or(2)).collect();
        if shape.iter().product::<usize>() > 1 << 20 {
            return false;
        }
        match session.input(index, &shape) {
            Ok(InputBuffer::Plain(buffer)) => buffer.fill(0),
            Ok(InputBuffer::Strings(buffer)) => buffer.fill(String::new()),
            Err(_) => return false,
        }
    }
    session.run().is_ok()
}

/// A window that does not fit once is refused where sizes are known; engines answer such with values of their own.
#[test]
fn windows_that_do_not_fit_are_refused() {
    let pool = |ceil: i64, width: i64| {
        let window = vec![
            ints("kernel_shape", &[2, 2]),
            ints("strides", &[2, 2]),
            ints("pads", &[1, 0, 0, 0]),
            int("ceil_mode", ceil),
        ];
        let given = value("x", DataType::Float, &[Some(1), Some(1), Some(1), Some(width)]);
        let nodes = vec![node("AveragePool", &["x"], "y", window)];
        let bytes = file(nodes, Vec::new(), [given, value("y", DataType::Float, &[])]).into();
        let artifact = Artifact { kind: ArtifactKind::Onnx, bytes, side_files: BTreeMap::new() };
        TractEngine::new().load(&artifact, &LIMITS).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(pool(0, 2), Ok(()));
    let text = pool(0, 1).unwrap_err();
    assert!(text.contains("expected at least 2 along dimension 3, got 1"), "{text}");
    assert_eq!(pool(1, 1), Ok(()), "a part of a window will do");
}
