//! Scaler: `(x - offset) * scale`, for all features alike or for each its own. Becomes two operators of the graph library,
//! which it can then fuse with others.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{
        internal::*,
        tract_core::ops::{
            cast::cast,
            math::{mul, sub},
        },
    },
};

use super::Built;

/// `ai.onnx.ml.Scaler`: floats of the input's shape.
pub(super) fn scaler(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let offset: Vec<f32> = node.get_attr_opt_vec("offset")?.unwrap_or_default();
    let scale: Vec<f32> = node.get_attr_opt_vec("scale")?.unwrap_or_default();
    ensure!(!scale.is_empty(), "attribute 'scale': is empty");
    ensure!(
        offset.len() == scale.len(),
        "attribute 'offset': expected {} values as in 'scale', got {}",
        scale.len(),
        offset.len()
    );
    Ok((expand(Scaler { offset: tensor1(&offset), scale: tensor1(&scale) }), vec![]))
}

#[derive(Clone, Debug)]
struct Scaler {
    offset: Tensor,
    scale: Tensor,
}

impl Scaler {
    /// The axis that features are on.
    fn axis(&self, shape: &[TDim]) -> TractResult<usize> {
        let axis = match shape.len() {
            0 => bail!("expected an input of at least 1 dimension, got 0"),
            1 => 0,
            _ => 1,
        };
        let features = self.scale.len();
        let fits = features == 1 || shape[axis].as_i64().is_none_or(|got| got == features as i64);
        ensure!(fits, "expected {features} features, got {}", shape[axis]);
        // Beyond two dimensions the features would not be those of the second.
        ensure!(features == 1 || shape.len() <= 2, "expected an input of 1 or 2 dimensions, got {}", shape.len());
        Ok(axis)
    }
}

impl Expansion for Scaler {
    fn name(&self) -> StaticName {
        "Scaler".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, DatumType::F32)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        s.given(&inputs[0].rank, move |s, rank| {
            // Where the model leaves the number of features open, this is where it is learnt.
            match usize::try_from(rank)? {
                rank @ 1..=2 if self.scale.len() > 1 => s.equals(&inputs[0].shape[rank - 1], self.scale.len().to_dim()),
                _ => Ok(()),
            }
        })?;
        s.given(&inputs[0].shape, move |_, shape| self.axis(&shape).map(drop))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let axis = self.axis(fact.shape.dims())?;
        // Doubles are scaled as doubles.
        let within = if fact.datum_type == DatumType::F64 { DatumType::F64 } else { DatumType::F32 };
        let mut shape: TVec<usize> = tvec![1; fact.rank()];
        shape[axis] = self.scale.len();
        let aligned = |values: &Tensor| values.cast_to_dt(within)?.into_owned().into_shape(&shape);
        let mut x = inputs[0];
        if fact.datum_type != within {
            x = model.wire_node(format!("{prefix}.float"), cast(within), &[x])?[0];
        }
        let offset = model.add_const(format!("{prefix}.offset"), aligned(&self.offset)?)?;
        x = model.wire_node(format!("{prefix}.shifted"), sub(), &[x, offset])?[0];
        let scale = model.add_const(format!("{prefix}.scale"), aligned(&self.scale)?)?;
        if within == DatumType::F32 {
            return model.wire_node(prefix, mul(), &[x, scale]);
        }
        x = model.wire_node(format!("{prefix}.scaled"), mul(), &[x, scale])?[0];
        model.wire_node(prefix, cast(DatumType::F32), &[x])
    }
}
