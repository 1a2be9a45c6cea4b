//! OneHot. The library's own writes outside of the tensor when an index is outside of the range.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::super::operator::{Built, Fact, Known, Operator, axis_of, ints, need, node};

/// `OneHot`: indices outside of the range have no place that is on.
pub(super) fn one_hot(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, OneHot { axis: proto.get_attr_opt("axis")?.unwrap_or(-1) }), vec![]))
}

#[derive(Debug)]
struct OneHot {
    axis: i64,
}

/// The number of places.
fn depth(values: &[i64]) -> TractResult<usize> {
    let depth = values.first().and_then(|depth| usize::try_from(*depth).ok());
    depth.with_context(|| format!("depth: expected a positive number, got {values:?}"))
}

impl OneHot {
    fn run_in<T: Datum + Copy>(&self, indices: &Tensor, depth: usize, values: &Tensor) -> TractResult<Tensor> {
        let values = values.try_as_plain_ram()?;
        let [off, on] = values.as_slice::<T>()? else { bail!("values: expected two values, off and on") };
        let axis = axis_of(self.axis, indices.rank() + 1)?;
        let inside: usize = indices.shape()[axis..].iter().product();
        let mut shape: TVec<usize> = indices.shape().into();
        shape.insert(axis, depth);
        let mut out = vec![*off; indices.len() * depth];
        for (at, index) in ints(indices)?.into_iter().enumerate() {
            let place = if index < 0 { index + depth as i64 } else { index };
            if let Some(place) = usize::try_from(place).ok().filter(|place| *place < depth) {
                out[(at / inside * depth + place) * inside + at % inside] = *on;
            }
        }
        Tensor::from_shape(&shape, &out)
    }
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn wants(&self, input: usize) -> bool {
        input == 1
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (indices, values) = (need(inputs, 0)?, need(inputs, 2)?);
        let depth = depth(&need(inputs, 1)?.ints("depth")?)?;
        let mut shape = indices.shape.clone();
        shape.insert(axis_of(self.axis, indices.rank() + 1)?, depth.to_dim());
        Ok(vec![(values.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (indices, values) = (*need(inputs, 0)?, *need(inputs, 2)?);
        let depth = depth(&ints(need(inputs, 1)?)?)?;
        Ok(vec![match values.datum_type() {
            DatumType::Bool => self.run_in::<bool>(indices, depth, values)?,
            DatumType::F16 => self.run_in::<f16>(indices, depth, values)?,
            datum => dispatch_numbers!(Self::run_in(datum)(self, indices, depth, values))?,
        }])
    }
}
