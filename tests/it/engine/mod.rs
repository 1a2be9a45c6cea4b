//! The engine against ONNX Runtime's answers: every model of the demo registry, every fixture and every operator that has
//! answers must agree within the tolerance, at every batch size its cases use. What is refused is in `refusals`, how sessions
//! behave in `sessions`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;
use weir::{
    engine::{
        Artifact, ArtifactKind, Engine as _, EngineError, InputBuffer, Limits, LoadError, Model, OutputData, Session,
        TractEngine,
    },
    types::{Batch, DType, Data, Shape, Signature, Tensor, TensorSpec, Tolerance},
};

mod conformance;
mod exporters;
pub(crate) mod forests;
mod manners;
mod mutants;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod refusals;
mod sessions;
mod widths;

const LIMITS: Limits = Limits { max_output_bytes: 1 << 28 };

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A model file and everything beside it.
fn artifact(folder: &Path) -> Artifact {
    let mut side_files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        side_files.insert(name, Bytes::from(fs::read(path).unwrap()));
    }
    let bytes = side_files.remove("model.onnx").unwrap();
    side_files.retain(|name, _| !name.ends_with(".json"));
    Artifact { kind: ArtifactKind::Onnx, bytes, side_files }
}

fn load(folder: &Path) -> Result<Box<dyn Model>, LoadError> {
    TractEngine::new().load(&artifact(folder), &LIMITS)
}

/// One tensor of an answers file. A float that JSON cannot write is `null`: any value that is not finite.
fn tensor(json: &Value) -> Tensor {
    let dtype = DType::parse(json["datatype"].as_str().unwrap()).unwrap();
    let shape: Shape = json["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
    let data = json["data"].as_array().unwrap();
    if dtype == DType::Bytes {
        let items: Vec<_> = data.iter().map(|item| Bytes::from(item.as_str().unwrap().to_owned())).collect();
        return Tensor::strings(shape, items.into()).unwrap();
    }
    let mut bytes = Vec::new();
    for item in data {
        push(&mut bytes, dtype, item);
    }
    Tensor::plain(dtype, shape, bytes.into()).unwrap()
}

fn push(bytes: &mut Vec<u8>, dtype: DType, item: &Value) {
    let float = || item.as_f64().unwrap_or(f64::NAN);
    let int = || item.as_i64().unwrap();
    match dtype {
        DType::Bool => bytes.push(u8::from(item.as_bool().unwrap())),
        DType::Uint8 => bytes.push(int() as u8),
        DType::Uint16 => bytes.extend((int() as u16).to_le_bytes()),
        DType::Uint32 => bytes.extend((int() as u32).to_le_bytes()),
        DType::Uint64 => bytes.extend(item.as_u64().unwrap().to_le_bytes()),
        DType::Int8 => bytes.extend((int() as i8).to_le_bytes()),
        DType::Int16 => bytes.extend((int() as i16).to_le_bytes()),
        DType::Int32 => bytes.extend((int() as i32).to_le_bytes()),
        DType::Int64 => bytes.extend(int().to_le_bytes()),
        DType::Fp16 => bytes.extend(half::f16::from_f64(float()).to_le_bytes()),
        DType::Fp32 => bytes.extend((float() as f32).to_le_bytes()),
        DType::Fp64 => bytes.extend(float().to_le_bytes()),
        DType::Bf16 | DType::Bytes => panic!("no {dtype} in answers"),
    }
}

/// Gathers, runs and reads back.
fn run(session: &mut dyn Session, inputs: &[Tensor], outputs: usize) -> Result<Vec<Tensor>, EngineError> {
    for (index, input) in inputs.iter().enumerate() {
        match (session.input(index, input.shape())?, input.data()) {
            (InputBuffer::Plain(buffer), Data::Plain(bytes)) => buffer.copy_from_slice(bytes),
            (InputBuffer::Strings(buffer), Data::Strings(items)) => {
                for (slot, item) in buffer.iter_mut().zip(items.iter()) {
                    *slot = String::from_utf8(item.to_vec()).unwrap();
                }
            }
            _ => panic!("input {index}: texts and numbers are mixed up"),
        }
    }
    session.run()?;
    (0..outputs).map(|index| Ok(read(session.output(index)?))).collect()
}

fn read(view: weir::engine::OutputView<'_>) -> Tensor {
    match view.data {
        OutputData::Plain(bytes) => {
            Tensor::plain(view.dtype, view.shape.into(), Bytes::copy_from_slice(bytes)).unwrap()
        }
        OutputData::Strings(items) => {
            let items: Arc<[Bytes]> = items.iter().map(|item| Bytes::from(item.clone())).collect();
            Tensor::strings(view.shape.into(), items).unwrap()
        }
    }
}

/// The first non-finite value of an answers file stands for any: `null` has lost which one it was.
fn same(got: &Tensor, want: &Tensor) -> bool {
    if !want.dtype().is_float() || got.dtype() != want.dtype() || got.shape() != want.shape() {
        return got.shape() == want.shape() && Tolerance::first_difference(got, want).is_none();
    }
    let tolerance = Tolerance::of(want.dtype());
    let (got, want) = (floats(got), floats(want));
    got.iter()
        .zip(&want)
        .all(|(got, want)| if want.is_nan() { !got.is_finite() } else { tolerance.accepts(*got, *want) })
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype() {
        DType::Fp64 => tensor.bytes().as_chunks().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect(),
        _ => tensor.to_f32().unwrap().into_iter().map(f64::from).collect(),
    }
}

/// Checks every case of an answers file several times in one session, and with another request in between; returns what is wrong.
fn check(folder: &Path, answers: &Path) -> Result<(), String> {
    check_model(&*load(folder).map_err(|error| error.to_string())?, answers)
}

/// As [`check`], of a model that is loaded.
fn check_model(model: &dyn Model, answers: &Path) -> Result<(), String> {
    let signature = model.signature();
    let answers: Value = serde_json::from_slice(&fs::read(answers).unwrap()).unwrap();
    for (number, case) in answers["cases"].as_array().unwrap().iter().enumerate() {
        let named = |list: &Value, name: &str| {
            let list = list.as_array().unwrap();
            list.iter().find(|tensor| tensor["name"] == name).map(tensor).unwrap_or_else(|| panic!("no '{name}'"))
        };
        let inputs: Vec<_> = signature.inputs.iter().map(|spec| named(&case["inputs"], &spec.name)).collect();
        let rows = (signature.batch == Batch::Rows).then(|| inputs[0].shape()[0]);
        let plan = model.plan(rows).map_err(|error| error.to_string())?;
        let mut session = plan.session().map_err(|error| error.to_string())?;
        for turn in 0..3 {
            if turn == 2 {
                // Whether the model takes zeros is its own affair.
                drop(run(&mut *session, &inputs.iter().map(nothing).collect::<Vec<_>>(), signature.outputs.len()));
            }
            let got = run(&mut *session, &inputs, signature.outputs.len())
                .map_err(|error| format!("case {number}: {error}"))?;
            for (got, spec) in got.iter().zip(&signature.outputs) {
                let want = named(&case["outputs"], &spec.name);
                let fits = spec.shape.len() == got.shape().len()
                    && spec.shape.iter().zip(got.shape()).all(|(spec, got)| spec.is_none_or(|spec| spec == *got));
                if !fits {
                    return Err(format!("case {number}: '{}' has shape {:?}, not {:?}", spec.name, got.shape(), spec));
                }
                if !same(got, &want) {
                    return Err(format!("case {number}: '{}': want {want:?}, got {got:?}", spec.name));
                }
            }
        }
    }
    Ok(())
}

/// Zeros, or empty texts, in the place of a tensor.
fn nothing(tensor: &Tensor) -> Tensor {
    match tensor.data() {
        Data::Plain(bytes) => {
            Tensor::plain(tensor.dtype(), tensor.shape().into(), Bytes::from(vec![0; bytes.len()])).unwrap()
        }
        Data::Strings(items) => {
            Tensor::strings(tensor.shape().into(), items.iter().map(|_| Bytes::new()).collect()).unwrap()
        }
    }
}

fn check_all(folders: impl Iterator<Item = PathBuf>, answers: &str) -> usize {
    let mut problems = Vec::new();
    let mut checked = 0;
    for folder in folders {
        let file = folder.join(answers);
        if file.exists() {
            checked += 1;
            if let Err(problem) = check(&folder, &file) {
                problems.push(format!("{}: {problem}", folder.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{} of {checked} disagree:\n{}", problems.len(), problems.join("\n"));
    checked
}

/// `<root>/<name>/<version>` folders, in order.
fn versions(root: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.is_dir());
        paths.sort();
        paths
    };
    list(root).iter().flat_map(|model| list(model)).collect()
}

#[test]
fn demo_models_agree_with_their_golden_answers() {
    assert!(check_all(versions(&root().join("models")).into_iter(), "golden.json") >= 10);
}

#[test]
fn fixtures_agree_with_the_expected_answers() {
    assert!(check_all(versions(&root().join("tests/fixtures")).into_iter(), "expected.json") >= 39);
}

/// `WEIR_OPERATORS` names another folder of the same form.
#[test]
fn operators_agree_with_the_expected_answers() {
    let operators = std::env::var_os("WEIR_OPERATORS").map_or_else(|| root().join("tests/operators"), PathBuf::from);
    assert!(check_all(versions(&operators).into_iter(), "expected.json") >= 100);
}
