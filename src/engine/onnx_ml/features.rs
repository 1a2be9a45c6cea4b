//! What pipelines do to features before a model sees them: OneHotEncoder, Imputer, Binarizer and FeatureVectorizer.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{
        internal::*,
        ops::array::TypedConcat,
        tract_core::ops::{
            array::{Pad, PadMode, Slice},
            cast::cast,
        },
    },
};

use super::{
    Built, Fact,
    kernel::{Kernel, Width, node, rows_and_features, table},
    keys::{Keys, Twice},
};

/// `ai.onnx.ml.OneHotEncoder`: a new last dimension with a one where the category is.
pub(super) fn one_hot(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let ints: Vec<i64> = proto.get_attr_opt_vec("cats_int64s")?.unwrap_or_default();
    let strings: Vec<String> = proto.get_attr_opt_vec("cats_strings")?.unwrap_or_default();
    ensure!(ints.is_empty() != strings.is_empty(), "attributes 'cats_…': expected integers or texts");
    let categories = ints.len() + strings.len();
    let keys = if strings.is_empty() { Keys::ints(ints, Twice::Last) } else { Keys::strings(strings, Twice::Last) };
    let zeros = proto.get_attr_opt("zeros")?.unwrap_or(1_i64) != 0;
    Ok((node(OneHot { keys, categories, zeros }), vec![]))
}

#[derive(Debug)]
struct OneHot {
    keys: Keys,
    categories: usize,
    /// Unknown categories are all zeros; else they are errors.
    zeros: bool,
}

impl Kernel for OneHot {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        self.keys.check(datum)?;
        let mut shape: TVec<TDim> = shape.into();
        shape.push(self.categories.to_dim());
        Ok(vec![(DatumType::F32, shape)])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let mut ones = vec![0_f32; input.len() * self.categories];
        for (place, ones) in self.keys.find(input)?.into_iter().zip(ones.chunks_exact_mut(self.categories)) {
            match place {
                Some(place) => ones[place] = 1.0,
                None => ensure!(self.zeros, "a value is of no category"),
            }
        }
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(self.categories);
        Ok(tvec![tensor1(&ones).into_shape(&shape)?])
    }
}

/// `ai.onnx.ml.Imputer`: one value, often NaN, becomes another, per feature or for all alike.
pub(super) fn imputer(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let floats: Vec<f32> = proto.get_attr_opt_vec("imputed_value_floats")?.unwrap_or_default();
    let ints: Vec<i64> = proto.get_attr_opt_vec("imputed_value_int64s")?.unwrap_or_default();
    ensure!(floats.is_empty() != ints.is_empty(), "attributes 'imputed_value_…': expected floats or integers");
    let kernel = if ints.is_empty() {
        Imputer::Floats { replaced: proto.get_attr_opt("replaced_value_float")?.unwrap_or(0.0), by: floats }
    } else {
        Imputer::Ints { replaced: proto.get_attr_opt("replaced_value_int64")?.unwrap_or(0), by: ints }
    };
    Ok((node(kernel), vec![]))
}

#[derive(Debug)]
enum Imputer {
    Floats { replaced: f32, by: Vec<f32> },
    Ints { replaced: i64, by: Vec<i64> },
}

impl Imputer {
    fn count(&self) -> usize {
        match self {
            Self::Floats { by, .. } => by.len(),
            Self::Ints { by, .. } => by.len(),
        }
    }

    fn datum(&self) -> DatumType {
        match self {
            Self::Floats { .. } => DatumType::F32,
            Self::Ints { .. } => DatumType::I64,
        }
    }
}

/// Every value of rows of `features` that is to go, by the one for its feature.
fn impute<T: Copy>(values: &[T], features: usize, by: &[T], goes: impl Fn(T) -> bool) -> Vec<T> {
    let instead = |at: usize| by[if by.len() == 1 { 0 } else { at % features }];
    values.iter().enumerate().map(|(at, value)| if goes(*value) { instead(at) } else { *value }).collect()
}

impl Kernel for Imputer {
    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn width(&self) -> Width {
        match self.count() {
            1 => Width::Any,
            count => Width::Exactly(count),
        }
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        rows_and_features(shape)?;
        let fits = datum == self.datum() || (datum == DatumType::TDim && self.datum() == DatumType::I64);
        ensure!(fits, "expected an input of type {:?}, got {datum:?}", self.datum());
        Ok(vec![(self.datum(), shape.into())])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (_, features) = table(input)?;
        let input = input.cast_to_dt(self.datum())?;
        let values = input.try_as_plain_ram()?;
        let imputed = match self {
            Self::Floats { replaced, by } => {
                let goes = |value: f32| value == *replaced || (value.is_nan() && replaced.is_nan());
                tensor1(&impute(values.as_slice()?, features, by, goes))
            }
            Self::Ints { replaced, by } => {
                tensor1(&impute(values.as_slice()?, features, by, |value| value == *replaced))
            }
        };
        Ok(tvec![imputed.into_shape(input.shape())?])
    }
}

/// `ai.onnx.ml.Binarizer`: 1 above a threshold, else 0.
pub(super) fn binarizer(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(Binarizer { threshold: proto.get_attr_opt("threshold")?.unwrap_or(0.0) }), vec![]))
}

#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

impl Kernel for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        ensure!(datum == DatumType::F32, "expected an input of type F32, got {datum:?}");
        Ok(vec![(datum, shape.into())])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let view = input.try_as_plain_ram()?;
        let above: Vec<_> = view.as_slice::<f32>()?.iter().map(|x| f32::from(u8::from(*x > self.threshold))).collect();
        Ok(tvec![tensor1(&above).into_shape(input.shape())?])
    }
}

/// Features of a row: a file of a few bytes may ask for any number of zeros.
const MAX_FEATURES: usize = 1 << 24;

/// `ai.onnx.ml.FeatureVectorizer`: the features of several inputs beside each other, each as many as the node says: the rest of
/// a wider input is left out, and a narrower one has zeros behind it, as with ONNX Runtime.
pub(super) fn feature_vectorizer(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let widths: Vec<usize> = proto.get_attr_opt_vec("inputdimensions")?.unwrap_or_default();
    let inputs = proto.input.len();
    ensure!(widths.len() == inputs, "attribute 'inputdimensions': expected {inputs} values, got {}", widths.len());
    let all = widths.iter().try_fold(0_usize, |all, width| all.checked_add(*width));
    let fits = all.is_some_and(|all| all <= MAX_FEATURES);
    ensure!(fits, "attribute 'inputdimensions': expected at most {MAX_FEATURES} features in all");
    Ok((expand(FeatureVectorizer { widths }), vec![]))
}

#[derive(Clone, Debug)]
struct FeatureVectorizer {
    widths: Vec<usize>,
}

impl Expansion for FeatureVectorizer {
    fn name(&self) -> StaticName {
        "FeatureVectorizer".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.widths.len())?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, DatumType::F32)?;
        s.equals(&outputs[0].rank, 2)?;
        s.equals(&outputs[0].shape[1], self.widths.iter().sum::<usize>().to_dim())?;
        s.given(&inputs[0].shape, move |s, shape| {
            let (rows, _) = rows_and_features(&shape)?;
            s.equals(&outputs[0].shape[0], rows)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut parts = TVec::new();
        for (number, (input, width)) in inputs.iter().zip(&self.widths).enumerate() {
            let name = |step: &str| format!("{prefix}.{number}.{step}");
            let mut part = model.wire_node(name("float"), cast(DatumType::F32), &[*input])?[0];
            if model.outlet_fact(part)?.rank() == 1 {
                part = model.wire_node(name("row"), AxisOp::Add(0), &[part])?[0];
            }
            let (_, features) = rows_and_features(model.outlet_fact(part)?.shape.dims())?;
            let features = features.to_usize()?;
            if features > *width {
                part = model.wire_node(name("cut"), Slice::new(1, 0, *width), &[part])?[0];
            } else if features < *width {
                let zero = PadMode::Constant(tensor0(0_f32).into_arc_tensor());
                let pad = Pad { pads: vec![(0, 0), (0, *width - features)], mode: zero };
                part = model.wire_node(name("pad"), pad, &[part])?[0];
            }
            parts.push(part);
        }
        model.wire_node(prefix, TypedConcat::new(1), &parts)
    }
}
