//! Recorded answers: reads `golden.json` and `expected.json`, takes them apart into rows, and compares answers with them by the
//! project's one tolerance, written down here once more on purpose. Used by the modules that check what models answer.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{array::Array, harness::repository};

/// One request and the answer of ONNX Runtime.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) inputs: Vec<Array>,
    pub(crate) outputs: Vec<Array>,
}

#[derive(Deserialize)]
struct File {
    cases: Vec<FileCase>,
}

#[derive(Deserialize)]
struct FileCase {
    inputs: Vec<FileTensor>,
    outputs: Vec<FileTensor>,
}

#[derive(Deserialize)]
struct FileTensor {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    data: Vec<Box<RawValue>>,
}

/// The cases of a file of this repository.
pub(crate) fn cases(path: &str) -> Vec<Case> {
    read(&repository(path))
}

fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File = serde_json::from_str(&text).unwrap();
    let arrays = |tensors: Vec<FileTensor>| {
        let array = |tensor: FileTensor| Array::from_json(&tensor.name, &tensor.datatype, &tensor.shape, &tensor.data);
        tensors.into_iter().map(array).collect()
    };
    file.cases.into_iter().map(|case| Case { inputs: arrays(case.inputs), outputs: arrays(case.outputs) }).collect()
}

/// The cases of a file as single rows.
pub(crate) fn rows(path: &str) -> Vec<Case> {
    cases(path).iter().flat_map(|case| (0..case.inputs[0].rows()).map(|row| case.row(row))).collect()
}

impl Case {
    fn row(&self, row: usize) -> Case {
        let pick = |arrays: &[Array]| arrays.iter().map(|array| array.split().swap_remove(row)).collect();
        Case { inputs: pick(&self.inputs), outputs: pick(&self.outputs) }
    }

    /// `count` rows as one request, taken in turn from `from` on.
    pub(crate) fn batch(rows: &[Case], from: usize, count: usize) -> Case {
        let taken: Vec<&Case> = rows.iter().cycle().skip(from).take(count).collect();
        let join = |arrays: fn(&Case) -> &[Array]| {
            let places = 0..arrays(taken[0]).len();
            places.map(|place| Array::join(&taken.iter().map(|row| &arrays(row)[place]).collect::<Vec<_>>())).collect()
        };
        Case { inputs: join(|case| &case.inputs), outputs: join(|case| &case.outputs) }
    }

    /// Panics unless these outputs are the recorded ones.
    pub(crate) fn check(&self, got: &[Array], what: &str) {
        if let Err(difference) = agree(got, &self.outputs) {
            panic!("{what}: {difference}\ngot  {got:?}\nwant {:?}", self.outputs);
        }
    }
}

/// Whether two answers are the same: |a-b| <= t + t |b| with t = 1e-4 for FP32, 1e-2 for FP16, 1e-9 for FP64; everything else
/// equal, except a label whose row's two best scores are closer than 1e-4.
pub(crate) fn agree(got: &[Array], want: &[Array]) -> Result<(), String> {
    let heads = |arrays: &[Array]| -> Vec<_> {
        arrays.iter().map(|array| (array.name.clone(), array.dtype.clone(), array.shape.clone())).collect()
    };
    if heads(got) != heads(want) {
        return Err("names, datatypes or shapes differ".to_owned());
    }
    for (got, expected) in got.iter().zip(want) {
        let size = match &*got.dtype {
            "FP32" => 1e-4,
            "FP16" => 1e-2,
            "FP64" => 1e-9,
            _ => {
                exact(got, expected, want)?;
                continue;
            }
        };
        for (place, (a, b)) in got.numbers().into_iter().zip(expected.numbers()).enumerate() {
            // JSON has one word for all that is not a number.
            let same = if b.is_finite() { (a - b).abs() <= size + size * b.abs() } else { !a.is_finite() };
            if !same {
                return Err(format!("'{}' element {place}: got {a}, want {b}", got.name));
            }
        }
    }
    Ok(())
}

fn exact(got: &Array, want: &Array, all: &[Array]) -> Result<(), String> {
    if got.raw == want.raw {
        return Ok(());
    }
    for (row, (got, want)) in got.split().iter().zip(want.split()).enumerate() {
        if got.raw != want.raw && !undecided(all, row) {
            return Err(format!("'{}' row {row}: got {got:?}, want {want:?}", want.name));
        }
    }
    Ok(())
}

/// Whether the two best scores of a row are too close to tell.
fn undecided(outputs: &[Array], row: usize) -> bool {
    let scores =
        outputs.iter().find(|output| output.dtype == "FP32" && output.shape.len() == 2 && output.shape[1] >= 2);
    let Some(scores) = scores else { return false };
    let mut scores = scores.split()[row].numbers();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores[0] - scores[1] < 1e-4
}

#[test]
fn the_comparison_can_fail() {
    let label = |label| Array::i64("label", &[1], &[label]);
    let scores = |a, b| Array::f32("scores", &[1, 2], &[a, b]);
    let want = [label(0), scores(0.6, 0.4)];
    assert_eq!(agree(&want, &want), Ok(()));
    assert_eq!(agree(&[label(0), scores(0.60015, 0.4)], &want), Ok(()));
    assert!(agree(&[label(0), scores(0.6003, 0.4)], &want).is_err());
    assert!(agree(&[label(0), scores(f32::NAN, 0.4)], &want).is_err());
    assert!(agree(&[label(1), scores(0.6, 0.4)], &want).is_err());
    assert!(agree(&[label(0)], &want).is_err());
    let close = [label(0), scores(0.50003, 0.49997)];
    assert_eq!(agree(&[label(1), scores(0.49999, 0.50001)], &close), Ok(()));
}
