//! Operators that only move elements: ReverseSequence, CenterCropPad and Compress.

use tract_onnx::{model::ParsingContext, pb::NodeProto, prelude::Symbol, tract_hir::internal::*};

use super::{
    super::operator::{Built, Fact, Known, Operator, axis_of, ints, need, node},
    moves::{indices, picked, place, strides},
};

/// `ReverseSequence`: the first elements along time, as many as its length says, of each sequence in reverse.
pub(super) fn reverse_sequence(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let axis = |name: &str, usual: usize| -> TractResult<usize> { Ok(proto.get_attr_opt(name)?.unwrap_or(usual)) };
    let (time, batch) = (axis("time_axis", 0)?, axis("batch_axis", 1)?);
    ensure!(time < 2 && batch < 2 && time != batch, "axes of time and batch: expected 0 and 1, got {time} and {batch}");
    Ok((node(proto, ReverseSequence { time, batch }), vec![]))
}

#[derive(Debug)]
struct ReverseSequence {
    time: usize,
    batch: usize,
}

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        ensure!(input.rank() >= 2, "expected an input of at least 2 dimensions, got {}", input.rank());
        Ok(vec![(input.datum, input.shape.clone())])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (input, lengths) = (*need(inputs, 0)?, ints(need(inputs, 1)?)?);
        let shape = input.shape();
        let fits = |length: &i64| usize::try_from(*length).is_ok_and(|length| length <= shape[self.time]);
        ensure!(lengths.len() == shape[self.batch] && lengths.iter().all(fits), "sequence_lens: do not fit {shape:?}");
        let strides = strides(shape);
        let from = |mut index: Vec<usize>| {
            let length = lengths[index[self.batch]] as usize;
            if index[self.time] < length {
                index[self.time] = length - 1 - index[self.time];
            }
            Some(place(&index, &strides))
        };
        Ok(vec![picked(input, &indices(shape).map(from).collect::<Vec<_>>(), shape)?])
    }
}

/// `CenterCropPad`: what is in the middle stays in the middle.
pub(super) fn center_crop_pad(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, CenterCropPad { axes: proto.get_attr_opt_vec("axes")? }), vec![]))
}

#[derive(Debug)]
struct CenterCropPad {
    axes: Option<Vec<i64>>,
}

impl CenterCropPad {
    /// The new sizes of the axes that change.
    fn sizes(&self, rank: usize, shape: &[i64]) -> TractResult<Vec<(usize, usize)>> {
        let axes = self.axes.clone().unwrap_or_else(|| (0..rank as i64).collect());
        ensure!(axes.len() == shape.len(), "shape: expected {} sizes, got {}", axes.len(), shape.len());
        let one = |(axis, size): (&i64, &i64)| Ok((axis_of(*axis, rank)?, usize::try_from(*size)?));
        axes.iter().zip(shape).map(one).collect()
    }
}

impl Operator for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn wants(&self, input: usize) -> bool {
        input == 1
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let mut shape = input.shape.clone();
        for (axis, size) in self.sizes(input.rank(), &need(inputs, 1)?.ints("shape")?)? {
            shape[axis] = size.to_dim();
        }
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let mut shape = input.shape().to_vec();
        for (axis, size) in self.sizes(shape.len(), &ints(need(inputs, 1)?)?)? {
            shape[axis] = size;
        }
        let strides = strides(input.shape());
        // Half of the difference is before; of an odd one the smaller half.
        let source = |to: usize, size: usize, had: usize| {
            if size < had {
                Some(to + (had - size) / 2)
            } else {
                to.checked_sub((size - had) / 2).filter(|at| *at < had)
            }
        };
        let from = |index: Vec<usize>| {
            let axes = index.iter().zip(shape.iter().zip(input.shape()));
            let index: Option<Vec<usize>> = axes.map(|(to, (size, had))| source(*to, *size, *had)).collect();
            index.map(|index| place(&index, &strides))
        };
        Ok(vec![picked(input, &indices(&shape).map(from).collect::<Vec<_>>(), &shape)?])
    }
}

/// `Compress`: the slices whose condition is true.
pub(super) fn compress(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let left = context.template.symbols.new_with_prefix("left");
    Ok((node(proto, Compress { axis: proto.get_attr_opt("axis")?, left }), vec![]))
}

#[derive(Debug)]
struct Compress {
    /// The whole tensor in one row where there is none.
    axis: Option<i64>,
    /// How many slices are left.
    left: Symbol,
}

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let left = self.left.to_dim();
        let Some(axis) = self.axis else { return Ok(vec![(input.datum, tvec![left])]) };
        let mut shape = input.shape.clone();
        shape[axis_of(axis, input.rank())?] = left;
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (input, condition) = (*need(inputs, 0)?, *need(inputs, 1)?);
        let flat = [input.len()];
        let (had, axis) = match self.axis {
            Some(axis) => (input.shape(), axis_of(axis, input.rank())?),
            None => (&flat[..], 0),
        };
        let condition = condition.try_as_plain_ram()?;
        let kept = condition.as_slice::<bool>()?.iter().enumerate().filter(|(_, kept)| **kept).map(|(at, _)| at);
        let kept: Vec<usize> = kept.collect();
        let mut shape = had.to_vec();
        shape[axis] = kept.len();
        let strides = strides(had);
        let from = |mut index: Vec<usize>| {
            index[axis] = kept[index[axis]];
            (index[axis] < had[axis]).then(|| place(&index, &strides))
        };
        ensure!(kept.last().is_none_or(|last| *last < had[axis]), "condition: is longer than the axis");
        Ok(vec![picked(input, &indices(&shape).map(from).collect::<Vec<_>>(), &shape)?])
    }
}
