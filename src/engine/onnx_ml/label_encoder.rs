//! LabelEncoder and CategoryMapper: each element becomes the value that its key has, or a default.

use tract_onnx::{
    model::ParsingContext,
    pb::{NodeProto, TensorProto},
    tract_hir::internal::*,
};

use super::{
    Built, Fact,
    kernel::{Kernel, node},
    keys::{Keys, Twice},
};

/// Since this version of `ai.onnx.ml` a NaN can be looked up.
const NAN_IS_A_KEY: i64 = 4;

/// `ai.onnx.ml.LabelEncoder`, in the spellings of all its versions: the first has a list of texts, which are numbered, and
/// works both ways.
pub(super) fn label_encoder(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let classes: Vec<String> = proto.get_attr_opt_vec("classes_strings")?.unwrap_or_default();
    if !classes.is_empty() {
        let numbers = (0_i64..).take(classes.len()).collect();
        return Ok((node(BothWays::new("LabelEncoder", proto, numbers, classes)?), vec![]));
    }
    let keys = list(context, proto, "keys")?.context("attributes 'keys_…': are missing")?;
    let values = list(context, proto, "values")?.context("attributes 'values_…': are missing")?;
    ensure!(keys.len() == values.len(), "attributes 'values_…': expected {} values, got {}", keys.len(), values.len());
    let default = default(context, proto, values.datum_type())?;
    let keys = match keys.datum_type() {
        DatumType::String => {
            Keys::strings(keys.try_as_plain_ram()?.as_slice::<String>()?.iter().cloned(), Twice::First)
        }
        datum if datum.is_float() => {
            let nan = version(context) >= NAN_IS_A_KEY;
            Keys::floats(keys.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.iter().copied(), nan)
        }
        _ => Keys::ints(keys.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.iter().copied(), Twice::First),
    };
    Ok((node(LabelEncoder { keys, values, default }), vec![]))
}

/// `ai.onnx.ml.CategoryMapper`: texts to integers, or integers to texts, whatever comes.
pub(super) fn category_mapper(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let numbers: Vec<i64> = proto.get_attr_vec("cats_int64s")?;
    let texts: Vec<String> = proto.get_attr_vec("cats_strings")?;
    ensure!(
        texts.len() == numbers.len(),
        "attribute 'cats_strings': expected {} values, got {}",
        numbers.len(),
        texts.len()
    );
    Ok((node(BothWays::new("CategoryMapper", proto, numbers, texts)?), vec![]))
}

/// Pairs of a number and a text, looked up either way.
#[derive(Debug)]
struct BothWays {
    name: &'static str,
    to_number: LabelEncoder,
    to_text: LabelEncoder,
}

impl BothWays {
    /// What has no partner becomes `default_int64` or `default_string`. As many numbers as texts.
    fn new(name: &'static str, proto: &NodeProto, numbers: Vec<i64>, texts: Vec<String>) -> TractResult<Self> {
        let text: Option<String> = proto.get_attr_opt("default_string")?;
        let to_text = LabelEncoder {
            keys: Keys::ints(numbers.iter().copied(), Twice::Last),
            values: tensor1(&texts),
            default: tensor1(&[text.unwrap_or_else(|| "_Unused".to_owned())]),
        };
        let to_number = LabelEncoder {
            keys: Keys::strings(texts, Twice::Last),
            values: tensor1(&numbers),
            default: tensor1(&[proto.get_attr_opt("default_int64")?.unwrap_or(-1_i64)]),
        };
        Ok(Self { name, to_number, to_text })
    }

    fn way(&self, datum: DatumType) -> &LabelEncoder {
        if datum == DatumType::String { &self.to_number } else { &self.to_text }
    }
}

impl Kernel for BothWays {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        self.way(datum).facts(datum, shape)
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        self.way(input.datum_type()).run(input)
    }
}

/// The version of the operator set that the model asks for.
fn version(context: &ParsingContext<'_>) -> i64 {
    let sets = &context.model.opset_import;
    sets.iter().find(|set| set.domain == "ai.onnx.ml").map_or(1, |set| set.version)
}

/// The list `<name>_tensor`, `<name>_int64s`, `<name>_floats` or `<name>_strings`.
fn list(context: &ParsingContext<'_>, proto: &NodeProto, name: &str) -> TractResult<Option<Tensor>> {
    if let Some(tensor) = proto.get_attr_opt::<&TensorProto>(&format!("{name}_tensor"))? {
        return context.load_tensor(tensor).map(Some);
    }
    if let Some(ints) = proto.get_attr_opt_slice::<i64>(&format!("{name}_int64s"))? {
        return Ok(Some(tensor1(ints)));
    }
    if let Some(floats) = proto.get_attr_opt_slice::<f32>(&format!("{name}_floats"))? {
        return Ok(Some(tensor1(floats)));
    }
    let strings: Option<Vec<String>> = proto.get_attr_opt_vec(&format!("{name}_strings"))?;
    Ok(strings.map(|strings| tensor1(&strings)))
}

/// What elements without a key become.
fn default(context: &ParsingContext<'_>, proto: &NodeProto, datum: DatumType) -> TractResult<Tensor> {
    if let Some(tensor) = proto.get_attr_opt::<&TensorProto>("default_tensor")? {
        let tensor = context.load_tensor(tensor)?;
        ensure!(
            tensor.len() == 1 && tensor.datum_type() == datum,
            "attribute 'default_tensor': expected one value of type {datum:?}"
        );
        return Ok(tensor);
    }
    if datum == DatumType::String {
        let default: Option<String> = proto.get_attr_opt("default_string")?;
        return Ok(tensor1(&[default.unwrap_or_else(|| "_Unused".to_owned())]));
    }
    let number = if datum.is_float() {
        tensor1(&[proto.get_attr_opt("default_float")?.unwrap_or(-0.0_f32)])
    } else {
        tensor1(&[proto.get_attr_opt("default_int64")?.unwrap_or(-1_i64)])
    };
    Ok(number.cast_to_dt(datum)?.into_owned())
}

#[derive(Debug)]
struct LabelEncoder {
    keys: Keys,
    values: Tensor,
    /// One element.
    default: Tensor,
}

impl LabelEncoder {
    fn picked<T: Datum>(&self, found: &[Option<usize>]) -> TractResult<Tensor> {
        let (values, default) = (self.values.try_as_plain_ram()?, self.default.try_as_plain_ram()?);
        let (values, default) = (values.as_slice::<T>()?, default.as_slice::<T>()?);
        let default = default.first().context("expected a default, got none")?;
        let pick = |place: &Option<usize>| place.and_then(|place| values.get(place)).unwrap_or(default).clone();
        Ok(tensor1(&found.iter().map(pick).collect::<Vec<_>>()))
    }
}

impl Kernel for LabelEncoder {
    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        self.keys.check(datum)?;
        Ok(vec![(self.values.datum_type(), shape.into())])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let found = self.keys.find(input)?;
        let picked = match self.values.datum_type() {
            DatumType::String => self.picked::<String>(&found)?,
            DatumType::F32 => self.picked::<f32>(&found)?,
            DatumType::F64 => self.picked::<f64>(&found)?,
            DatumType::I64 => self.picked::<i64>(&found)?,
            DatumType::I32 => self.picked::<i32>(&found)?,
            DatumType::I16 => self.picked::<i16>(&found)?,
            other => bail!("values of type {other:?} are not supported"),
        };
        Ok(tvec![picked.into_shape(input.shape())?])
    }
}
