//! Files that must be refused, each with a reason that names what is wrong.

use super::{load, root};

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
