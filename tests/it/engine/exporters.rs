//! What people export, family by family: every model of `tests/exporters` is loaded and asked for one, three and 32 rows, and
//! its answers are those of ONNX Runtime. `tests/exporters/README.md` says how they are made.

use super::*;

/// Families that are refused, each with what is missing; all others must agree.
const REFUSED: [(&str, &str); 1] = [(
    "knn-imputer",
    "node 'Opset-N12' (dist_nan_euclidean): the function wants version 16 of ai.onnx, the model another",
)];

/// Families there must be, and how many of them may be refused.
const LEAST: usize = 40;
const MOST_REFUSED: usize = 6;

#[test]
fn exported_models_agree_with_onnx_runtime() {
    let folders = versions(&root().join("tests/exporters"));
    let mut problems = Vec::new();
    let mut refused = Vec::new();
    for folder in &folders {
        let name = folder.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let expected = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (check(folder, &folder.join("expected.json")), expected) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => problems.push(format!("{name}: is answered now; take it off the list")),
            (Err(text), Some((_, reason))) if text.contains(reason) => refused.push(name),
            (Err(text), _) => problems.push(format!("{name}: {text}")),
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), folders.len(), problems.join("\n"));
    assert!(folders.len() >= LEAST, "only {} families", folders.len());
    assert!(refused.len() <= MOST_REFUSED, "refused: {refused:?}");
}
