//! Upsample, and Resize as it was before it had modes. Both are later Resizes with some attributes set; the library has no
//! Upsample, and rounds the old Resize as the new ones do.

use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, NodeProto, attribute_proto::AttributeType},
    tract_hir::internal::*,
};

use super::super::{onnx_fixes::original, operator::Built};

/// The version of Resize that means the same.
const AS_VERSION: i64 = 10;

/// `Upsample`.
pub(super) fn upsample(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let scales: Option<Vec<f32>> = proto.get_attr_opt_vec("scales")?;
    ensure!(scales.is_some() != (proto.input.len() == 2), "expected scales either as an attribute or as an input");
    old_resize(context, proto, scales)
}

/// `Resize`.
pub(super) fn resize(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    if context.onnx_operator_set_version > AS_VERSION {
        return super::super::onnx_fixes::built(context, proto);
    }
    old_resize(context, proto, None)
}

fn old_resize(context: &ParsingContext<'_>, proto: &NodeProto, scales: Option<Vec<f32>>) -> Built {
    let mut resize = proto.clone();
    resize.op_type = "Resize".to_owned();
    // Points between two of the input take the one before.
    resize.attribute.push(AttributeProto {
        name: "nearest_mode".to_owned(),
        r#type: AttributeType::String as i32,
        s: b"floor".as_slice().into(),
        ..AttributeProto::default()
    });
    let context = ParsingContext {
        onnx_operator_set_version: AS_VERSION,
        framework: context.framework,
        model: context.model,
        parent_graphs: context.parent_graphs.clone(),
        model_dir: context.model_dir,
        template: context.template.clone(),
    };
    Ok((expand(OldResize { resize: original(&context, &resize)?, scales }), vec![]))
}

#[derive(Clone, Debug)]
struct OldResize {
    resize: Box<dyn Expansion>,
    /// Those of an attribute.
    scales: Option<Vec<f32>>,
}

/// Points that are left out are rounded otherwise by those who wrote such models.
fn check(scales: &[f32]) -> TractResult<()> {
    ensure!(scales.iter().all(|scale| *scale >= 1.0), "scales below 1 are not supported: {scales:?}");
    Ok(())
}

fn scaled(shape: &[TDim], scales: &[f32]) -> TractResult<TVec<TDim>> {
    check(scales)?;
    ensure!(shape.len() == scales.len(), "expected {} scales, got {}", shape.len(), scales.len());
    let one = |(dim, scale): (&TDim, &f32)| {
        if *scale == 1.0 {
            return Ok(dim.clone());
        }
        if scale.fract() == 0.0 {
            return Ok(dim.clone() * *scale as i64);
        }
        Ok(((dim.to_usize()? as f64 * f64::from(*scale)).floor() as i64).to_dim())
    };
    shape.iter().zip(scales).map(one).collect()
}

impl Expansion for OldResize {
    fn name(&self) -> StaticName {
        "Upsample".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1 + usize::from(self.scales.is_none()))?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.given(&inputs[0].shape, move |s, shape| {
            let Some(scales) = &self.scales else {
                return s.given(&inputs[1].value, move |s, scales| {
                    let scales = scales.cast_to::<f32>()?;
                    let scales = scaled(&shape, scales.try_as_plain_ram()?.as_slice::<f32>()?)?;
                    s.equals(&outputs[0].shape, ShapeFactoid::from(scales))
                });
            };
            s.equals(&outputs[0].shape, ShapeFactoid::from(scaled(&shape, scales)?))
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let scales = match &self.scales {
            Some(scales) => model.add_const(format!("{prefix}.scales"), tensor1(scales))?,
            None => inputs[1],
        };
        let value = model.outlet_fact(scales)?.konst.clone().context("scales: expected a constant")?;
        check(value.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?)?;
        self.resize.wire(prefix, model, &[inputs[0], scales])
    }
}
