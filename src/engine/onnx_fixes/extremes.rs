//! ReduceMax and ReduceMin. The library starts from the largest finite number, so that a row of infinities, or of nothing,
//! comes out finite, and it cannot reduce booleans.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::super::operator::{Built, Fact, Known, Operator, axis_of, ints, need, node};

/// `ReduceMax` and `ReduceMin`, with axes as an attribute or, since version 18, as an input.
pub(super) fn reduce(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let op = Extreme {
        largest: proto.op_type == "ReduceMax",
        axes: proto.get_attr_opt_vec("axes")?,
        keep: proto.get_attr_opt("keepdims")?.unwrap_or(1_i64) == 1,
        noop_without_axes: proto.get_attr_opt("noop_with_empty_axes")?.unwrap_or(0_i64) == 1,
    };
    Ok((node(proto, op), vec![]))
}

#[derive(Debug)]
struct Extreme {
    largest: bool,
    axes: Option<Vec<i64>>,
    keep: bool,
    noop_without_axes: bool,
}

/// The value that nothing has.
trait Ends: Datum + Copy + PartialOrd {
    /// Lowest and highest.
    const ENDS: (Self, Self);
}

macro_rules! ends {
    ($($kind:ty: $low:expr, $high:expr;)*) => { $(impl Ends for $kind { const ENDS: (Self, Self) = ($low, $high); })* };
}

ends! {
    bool: false, true;
    u8: u8::MIN, u8::MAX;
    u16: u16::MIN, u16::MAX;
    u32: u32::MIN, u32::MAX;
    u64: u64::MIN, u64::MAX;
    i8: i8::MIN, i8::MAX;
    i16: i16::MIN, i16::MAX;
    i32: i32::MIN, i32::MAX;
    i64: i64::MIN, i64::MAX;
    f16: f16::NEG_INFINITY, f16::INFINITY;
    f32: f32::NEG_INFINITY, f32::INFINITY;
    f64: f64::NEG_INFINITY, f64::INFINITY;
}

impl Extreme {
    /// The axes in order.
    fn axes(&self, given: Option<Vec<i64>>, rank: usize) -> TractResult<Vec<usize>> {
        let axes = given.or_else(|| self.axes.clone()).unwrap_or_default();
        if axes.is_empty() && !self.noop_without_axes {
            return Ok((0..rank).collect());
        }
        let mut axes = axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    fn shape<D: Clone>(&self, shape: &[D], axes: &[usize], one: D) -> TVec<D> {
        let kept = shape.iter().enumerate().filter(|(axis, _)| self.keep || !axes.contains(axis));
        kept.map(|(axis, dim)| if axes.contains(&axis) { one.clone() } else { dim.clone() }).collect()
    }

    fn run_in<T: Ends>(&self, input: &Tensor, axes: &[usize]) -> TractResult<Tensor> {
        let rank = input.rank();
        let shape = self.shape(input.shape(), axes, 1);
        let order: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).chain(axes.iter().copied()).collect();
        let moved;
        let input = if order.is_sorted() {
            input
        } else {
            moved = input.clone().permute_axes(&order)?;
            &moved
        };
        let outside: usize = shape.iter().product();
        let inside = input.len().checked_div(outside).unwrap_or(0);
        let values = input.try_as_plain_ram()?;
        let values = values.as_slice::<T>()?;
        let reduced: Vec<T> = (0..outside).map(|row| self.extreme(&values[row * inside..][..inside])).collect();
        Tensor::from_shape(&shape, &reduced)
    }

    /// A number that is none is the extreme of all.
    #[expect(clippy::eq_op, reason = "not a number compares to nothing")]
    fn extreme<T: Ends>(&self, values: &[T]) -> T {
        let (low, high) = T::ENDS;
        let start = if self.largest { low } else { high };
        values.iter().fold(start, |a, b| {
            let stays = a != a || (if self.largest { *b <= a } else { *b >= a });
            if stays { a } else { *b }
        })
    }
}

impl Operator for Extreme {
    fn name(&self) -> &'static str {
        if self.largest { "ReduceMax" } else { "ReduceMin" }
    }

    fn wants(&self, input: usize) -> bool {
        input == 1
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let given = inputs.get(1).and_then(Option::as_ref).map(|axes| axes.ints("axes")).transpose()?;
        let axes = self.axes(given, input.rank())?;
        Ok(vec![(input.datum, self.shape(&input.shape, &axes, 1.to_dim()))])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let given = inputs.get(1).copied().flatten().map(ints).transpose()?;
        let axes = self.axes(given, input.rank())?;
        Ok(vec![match input.datum_type() {
            DatumType::Bool => self.run_in::<bool>(input, &axes)?,
            DatumType::F16 => self.run_in::<f16>(input, &axes)?,
            datum => dispatch_numbers!(Self::run_in(datum)(self, input, &axes))?,
        }])
    }
}
