//! The same cases through the graph library as it is, to see what it would answer without what Weir adds. Run by hand, since it
//! changes with the library only; `tests/conformance/plain.txt` keeps what came of it, and no case of it may be lost.

use tract_onnx::{
    prelude::{
        DatumType, Framework as _, InferenceModelExt as _, TValue, TVec, Tensor as TractTensor, TractResult,
        tract_ndarray::ArrayD,
    },
    tract_hir::internal::{IntoRunnable as _, IntoTValue as _, bail, format_err},
};

use super::{archive::Ready, *};

/// Cases that the library answers: name and forms.
pub(super) const PLAIN: &str = "tests/conformance/plain.txt";

/// What becomes of a case.
pub(super) fn outcome(ready: &Ready, drawn: bool) -> Outcome {
    let all = std::panic::catch_unwind(|| {
        let model = tract_onnx::onnx().model_for_read(&mut &ready.file.bytes[..])?;
        let plan = model.into_optimized()?.into_runnable()?;
        ready.requests.iter().map(|request| plan.run(given(request)?)).collect::<TractResult<Vec<_>>>()
    });
    let all = match all {
        Ok(Ok(all)) => all,
        Ok(Err(error)) => return Outcome::Refused(format!("{error:#}")),
        Err(_) => return Outcome::Failed("panicked".to_owned()),
    };
    for (values, request) in all.into_iter().zip(&ready.requests) {
        let got = match values.iter().map(|value| tensor_of(value)).collect::<TractResult<Vec<_>>>() {
            Ok(got) => got,
            Err(error) => return Outcome::Failed(format!("{error:#}")),
        };
        if let Err(text) = compare(&got, request, (ready.rtol, ready.atol), drawn) {
            return Outcome::Wrong(text);
        }
    }
    Outcome::Pass
}

fn given(request: &Request) -> TractResult<TVec<TValue>> {
    let tensors = request.inputs.iter().map(|(name, tensor)| match tensor {
        Some(tensor) => Ok(value_of(tensor)?.into_tvalue()),
        None => Err(format_err!("input '{name}': is not a tensor in the case")),
    });
    tensors.collect()
}

const TYPES: [(DType, DatumType); 13] = [
    (DType::Bool, DatumType::Bool),
    (DType::Uint8, DatumType::U8),
    (DType::Uint16, DatumType::U16),
    (DType::Uint32, DatumType::U32),
    (DType::Uint64, DatumType::U64),
    (DType::Int8, DatumType::I8),
    (DType::Int16, DatumType::I16),
    (DType::Int32, DatumType::I32),
    (DType::Int64, DatumType::I64),
    (DType::Fp16, DatumType::F16),
    (DType::Fp32, DatumType::F32),
    (DType::Fp64, DatumType::F64),
    (DType::Bytes, DatumType::String),
];

fn value_of(tensor: &Tensor) -> TractResult<TractTensor> {
    let datum = TYPES.iter().find(|(dtype, _)| *dtype == tensor.dtype()).map(|(_, datum)| *datum);
    let Some(datum) = datum else { bail!("{}: has no tensors", tensor.dtype()) };
    match tensor.data() {
        Data::Plain(bytes) => {
            let mut value = TractTensor::zero_dt(datum, tensor.shape())?;
            value.as_bytes_mut().copy_from_slice(bytes);
            Ok(value)
        }
        Data::Strings(items) => {
            let items = items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect();
            Ok(ArrayD::from_shape_vec(tensor.shape(), items)?.into())
        }
    }
}

/// Sizes that the library tells are integers.
fn tensor_of(value: &TractTensor) -> TractResult<Tensor> {
    let value = match value.datum_type() {
        DatumType::TDim => value.cast_to::<i64>()?.into_owned(),
        _ => value.clone(),
    };
    let dtype = TYPES.iter().find(|(_, datum)| *datum == value.datum_type()).map(|(dtype, _)| *dtype);
    let Some(dtype) = dtype else { bail!("{:?}: has no tensors", value.datum_type()) };
    let view = value.try_as_plain_ram()?;
    let tensor = if dtype == DType::Bytes {
        let items: Vec<Bytes> = view.as_slice::<String>()?.iter().map(|text| text.clone().into()).collect();
        Tensor::strings(value.shape().into(), items.into())
    } else {
        Tensor::plain(dtype, value.shape().into(), view.as_bytes().to_vec().into())
    };
    tensor.map_err(|error| format_err!("{error}"))
}

/// The list of what the library answers, as it is kept.
pub(super) fn list(rows: &[Row]) -> String {
    let mut text = String::from("# Cases that plain tract answers right: given, constants. See README.md.\n");
    for Row { name, outcomes: [given, constants, _], .. } in rows {
        if *given == Outcome::Pass || *constants == Outcome::Pass {
            text.push_str(&format!("{name} {} {}\n", given.word(), constants.word()));
        }
    }
    text
}

/// How many cases the library answers, by operator; and all together under the empty name.
pub(super) fn counts(rows: &[Row]) -> BTreeMap<String, [usize; 2]> {
    let kept = kept();
    let mut counts = BTreeMap::<String, [usize; 2]>::new();
    for row in rows {
        let Some(passes) = kept.get(&row.name) else { continue };
        for operator in ["", &row.operator] {
            let counts = counts.entry(operator.to_owned()).or_default();
            for (count, pass) in counts.iter_mut().zip(passes) {
                *count += usize::from(*pass);
            }
        }
    }
    counts
}

fn kept() -> BTreeMap<String, [bool; 2]> {
    let text = fs::read_to_string(root().join(PLAIN)).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    words.map(|words| (words[0].to_owned(), [words[1] == "pass", words[2] == "pass"])).collect()
}

/// Panics when a case is lost that the library answers by itself.
pub(super) fn check(rows: &[Row]) {
    let kept = kept();
    assert!(kept.len() > 1000, "{PLAIN}: {} cases", kept.len());
    let mut lost = Vec::new();
    for (name, passes) in &kept {
        let row =
            rows.iter().find(|row| row.name == *name).unwrap_or_else(|| panic!("{PLAIN}: there is no case {name}"));
        let ours = row.outcomes.iter().zip(passes).all(|(outcome, pass)| !pass || *outcome == Outcome::Pass);
        if !ours {
            let texts: Vec<_> =
                row.outcomes.iter().map(|outcome| format!("{} {}", outcome.word(), outcome.text())).collect();
            lost.push(format!("{name}: {}", texts.join(" / ")));
        }
    }
    assert!(lost.is_empty(), "{} cases that plain tract answers:\n{}", lost.len(), lost.join("\n"));
}
