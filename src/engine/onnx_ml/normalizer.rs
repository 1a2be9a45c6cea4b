//! Normalizer and ZipMap, which stand at the end of most exported classifiers.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{
    Built, Fact,
    kernel::{Kernel, node, table},
};

/// `ai.onnx.ml.Normalizer`: each row divided by its norm; rows without any stay as they are.
pub(super) fn normalizer(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let norm: Option<String> = proto.get_attr_opt("norm")?;
    let norm = match norm.as_deref().unwrap_or("MAX") {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => bail!("attribute 'norm': there is no norm '{other}'"),
    };
    Ok((node(Normalizer(norm)), vec![]))
}

#[derive(Clone, Copy, Debug)]
enum Norm {
    Max,
    L1,
    L2,
}

impl Norm {
    fn of(self, row: &[f32]) -> f32 {
        match self {
            Norm::Max => row.iter().copied().fold(f32::MIN, f32::max),
            Norm::L1 => row.iter().map(|x| x.abs()).sum(),
            Norm::L2 => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
        }
    }
}

#[derive(Debug)]
struct Normalizer(Norm);

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        ensure!((1..=2).contains(&shape.len()), "expected an input of 1 or 2 dimensions, got {}", shape.len());
        Ok(vec![(DatumType::F32, shape.into())])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (_, features) = table(input)?;
        let mut values = input.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        for row in values.chunks_exact_mut(features.max(1)) {
            let norm = self.0.of(row);
            if norm != 0.0 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        Ok(tvec![tensor1(&values).into_shape(input.shape())?])
    }
}

/// `ai.onnx.ml.ZipMap`: maps from class to probability. Answers are tensors here, so the probabilities come as they are, in
/// the order of the classes.
pub(super) fn zip_map(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(ZipMap), vec![]))
}

#[derive(Clone, Debug)]
struct ZipMap;

impl Expansion for ZipMap {
    fn name(&self) -> StaticName {
        "ZipMap".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, _: &str, _: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        Ok(inputs.into())
    }
}
