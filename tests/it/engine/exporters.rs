//! What people export, family by family: every model of `tests/exporters` is loaded and asked for one, three and 32 rows, and
//! its answers are those of ONNX Runtime: with the embedded engine, but for what it refuses, and with ONNX Runtime behind the same
//! traits, without exception. `tests/exporters/README.md` says how they are made.

use super::*;

/// Families that the embedded engine refuses, each with what is missing; all others must agree.
const REFUSED: [(&str, &str); 1] = [(
    "knn-imputer",
    "node 'Opset-N12' (dist_nan_euclidean): the function wants version 16 of ai.onnx, the model another",
)];

/// Families whose rows are no batch (the labels of all rows are one row); all others are asked for batches of these sizes.
const WHOLE: [&str; 1] = ["qda"];
const SIZES: [u64; 3] = [1, 3, 32];

/// Families there must be, and how many of them may be refused.
const LEAST: usize = 40;
const MOST_REFUSED: usize = 6;

/// Checks all families in one engine; returns how many are refused as they should be.
fn check_families(engine: &dyn weir::engine::Engine, refused: &[(&str, &str)]) -> usize {
    let folders = versions(&root().join("tests/exporters"));
    let mut problems = Vec::new();
    let mut count = 0;
    for folder in &folders {
        let name = folder.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let expected = refused.iter().find(|(refused, _)| *refused == name);
        let loaded = engine.load(&artifact(folder), &LIMITS).map_err(|error| error.to_string());
        let checked = loaded.and_then(|model| {
            let answers = folder.join("expected.json");
            check_batches(&*model, &answers, WHOLE.contains(&name))?;
            check_model(&*model, &answers)
        });
        match (checked, expected) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => problems.push(format!("{name}: is answered now; take it off the list")),
            (Err(text), Some((_, reason))) if text.contains(reason) => count += 1,
            (Err(text), _) => problems.push(format!("{name}: {text}")),
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), folders.len(), problems.join("\n"));
    assert!(folders.len() >= LEAST, "only {} families", folders.len());
    count
}

/// Whether there is an answer for every batch size, and a model sees the batch that it has.
fn check_batches(model: &dyn Model, answers: &Path, whole: bool) -> Result<(), String> {
    let answers: Value = serde_json::from_slice(&fs::read(answers).unwrap()).unwrap();
    let cases = answers["cases"].as_array().unwrap().iter();
    let rows = |input: &Value| input["shape"][0].as_u64();
    let sizes: Vec<Vec<_>> = cases.map(|case| case["inputs"].as_array().unwrap().iter().map(rows).collect()).collect();
    let right = sizes.len() == SIZES.len()
        && sizes.iter().zip(SIZES).all(|(rows, size)| !rows.is_empty() && rows.iter().all(|rows| *rows == Some(size)));
    if !right {
        return Err(format!("answers: expected batches of {SIZES:?}, got {sizes:?}"));
    }
    match (model.signature().batch, whole) {
        (Batch::Rows, false) | (Batch::None, true) => Ok(()),
        (batch, _) => {
            Err(format!("batch: {batch:?}: take it off the list of those without, or find out what was lost"))
        }
    }
}

#[test]
fn exported_models_agree_with_onnx_runtime() {
    assert!(check_families(&TractEngine::new(), &REFUSED) <= MOST_REFUSED);
}

#[cfg(feature = "onnxruntime")]
#[test]
fn with_onnx_runtime_every_exported_model_is_served() {
    let Some(opened) = onnxruntime::opened() else { return };
    assert_eq!(check_families(&*opened.engine, &[]), 0);
}

/// What may lie in the repository for this: bytes of a model, and of everything.
const MAX_MODEL: u64 = 200_000;
const MAX_ALL: u64 = 12_000_000;

#[test]
fn exported_models_are_small() {
    let mut all = 0;
    for folder in versions(&root().join("tests/exporters")) {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (bytes, name) = (entry.metadata().unwrap().len(), entry.path());
            let model = name.extension().is_none_or(|extension| extension != "json");
            assert!(!model || bytes <= MAX_MODEL, "{}: {bytes} bytes", name.display());
            all += bytes;
        }
    }
    assert!(all <= MAX_ALL, "{all} bytes");
}
