//! ArrayFeatureExtractor: picks elements along the last dimension. Label look-ups of exported classifiers are made of it; the
//! graph library has it with other shapes.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{
        internal::*,
        tract_core::ops::{array::Gather, cast::cast},
    },
};

use super::Built;

/// `ai.onnx.ml.ArrayFeatureExtractor`: `x[…, indices]`; of a single dimension a row is made.
pub(super) fn extractor(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Extractor), vec![]))
}

#[derive(Clone, Debug)]
struct Extractor;

impl Expansion for Extractor {
    fn name(&self) -> StaticName {
        "ArrayFeatureExtractor".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.given_2(&inputs[0].shape, &inputs[1].shape, move |s, shape, indices| {
            let count: TDim = indices.iter().product();
            let mut shape = shape;
            shape.pop().context("expected an input of at least 1 dimension, got 0")?;
            if shape.is_empty() {
                shape.push(1.to_dim());
            }
            shape.push(count);
            s.equals(&outputs[0].shape, ShapeFactoid::from(shape))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let rank = model.outlet_fact(inputs[0])?.rank();
        ensure!(rank > 0, "expected an input of at least 1 dimension, got 0");
        let shape = model.outlet_fact(inputs[1])?.shape.to_tvec();
        let mut indices = model.wire_node(format!("{prefix}.whole"), cast(DatumType::I64), &inputs[1..2])?;
        if shape.len() != 1 {
            let flat = match shape.len() {
                0 => AxisOp::Add(0),
                _ => AxisOp::Reshape(0, shape.clone(), tvec![shape.iter().product()]),
            };
            indices = model.wire_node(format!("{prefix}.flat"), flat, &indices)?;
        }
        if rank > 1 {
            return model.wire_node(prefix, Gather::new(rank - 1), &[inputs[0], indices[0]]);
        }
        let picked = model.wire_node(format!("{prefix}.picked"), Gather::new(0), &[inputs[0], indices[0]])?;
        model.wire_node(prefix, AxisOp::Add(0), &picked)
    }
}
