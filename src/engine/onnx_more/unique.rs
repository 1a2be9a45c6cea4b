//! Unique: each different element, or slice along an axis, once; with where it was and how often.

use std::cmp::Ordering;

use tract_onnx::{model::ParsingContext, pb::NodeProto, prelude::Symbol, tract_hir::internal::*};

use super::{
    super::operator::{Built, Fact, Known, Operator, axis_of, need, node},
    moves::{indices, picked, place, strides},
};

/// `Unique`.
pub(super) fn unique(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let op = Unique {
        axis: proto.get_attr_opt("axis")?,
        sorted: proto.get_attr_opt("sorted")?.unwrap_or(1_i64) != 0,
        count: context.template.symbols.new_with_prefix("unique"),
    };
    Ok((node(proto, op), vec![]))
}

#[derive(Debug)]
struct Unique {
    /// The elements themselves where there is none.
    axis: Option<i64>,
    /// In order of their values; else of their first places.
    sorted: bool,
    /// How many are different.
    count: Symbol,
}

/// Values with an order; all that are no number are one, after all others.
trait Ordered: Datum + Clone {
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! ordered {
    ($($kind:ty)*) => { $(impl Ordered for $kind {
        fn order(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    })* };
}

macro_rules! ordered_floats {
    ($($kind:ty)*) => { $(impl Ordered for $kind {
        fn order(&self, other: &Self) -> Ordering {
            self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
        }
    })* };
}

ordered! { bool u8 u16 u32 u64 i8 i16 i32 i64 String }
ordered_floats! { f16 f32 f64 }

/// What was found: where each is first, which one each element is, and how often each is there.
struct Found {
    first: Vec<usize>,
    which: Vec<usize>,
    count: Vec<i64>,
}

impl Unique {
    /// Compares slices of `size` elements.
    fn find<T: Ordered>(&self, input: &Tensor, size: usize, slices: usize) -> TractResult<Found> {
        let view = input.try_as_plain_ram()?;
        let values = view.as_slice::<T>()?;
        let slice = |at: usize| &values[at * size..][..size];
        let compare = |a: &usize, b: &usize| {
            let pairs = slice(*a).iter().zip(slice(*b));
            pairs.map(|(a, b)| a.order(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..slices).collect();
        order.sort_by(compare);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for at in order {
            match groups.last_mut() {
                Some(group) if group.first().is_some_and(|first| compare(first, &at).is_eq()) => group.push(at),
                _ => groups.push(vec![at]),
            }
        }
        if !self.sorted {
            // Sorting was stable, so that the first of a group is its first place.
            groups.sort_by_key(|group| group.first().copied());
        }
        let mut which = vec![0; slices];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|at| which[*at] = number);
        }
        let first = groups.iter().filter_map(|group| group.first().copied()).collect();
        Ok(Found { first, which, count: groups.iter().map(|group| group.len() as i64).collect() })
    }
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let count = self.count.to_dim();
        let (shape, all) = match self.axis {
            Some(axis) => {
                let (axis, mut shape) = (axis_of(axis, input.rank())?, input.shape.clone());
                let all = std::mem::replace(&mut shape[axis], count.clone());
                (shape, all)
            }
            None => (tvec![count.clone()], input.shape.iter().product()),
        };
        let places = (DatumType::I64, tvec![count]);
        Ok(vec![(input.datum, shape), places.clone(), (DatumType::I64, tvec![all]), places])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let flat = [input.len()];
        let (had, axis) = match self.axis {
            Some(axis) => (input.shape(), axis_of(axis, input.rank())?),
            None => (&flat[..], 0),
        };
        let slices = had[axis];
        let moved = if axis == 0 {
            input.clone()
        } else {
            let order: Vec<usize> =
                std::iter::once(axis).chain((0..had.len()).filter(|other| *other != axis)).collect();
            input.clone().permute_axes(&order)?
        };
        let size = input.len().checked_div(slices).unwrap_or(0);
        let find = match input.datum_type() {
            DatumType::Bool => Self::find::<bool>,
            DatumType::U8 => Self::find::<u8>,
            DatumType::U16 => Self::find::<u16>,
            DatumType::U32 => Self::find::<u32>,
            DatumType::U64 => Self::find::<u64>,
            DatumType::I8 => Self::find::<i8>,
            DatumType::I16 => Self::find::<i16>,
            DatumType::I32 => Self::find::<i32>,
            DatumType::I64 => Self::find::<i64>,
            DatumType::F16 => Self::find::<f16>,
            DatumType::F32 => Self::find::<f32>,
            DatumType::F64 => Self::find::<f64>,
            DatumType::String => Self::find::<String>,
            other => bail!("elements of type {other:?} are not supported"),
        };
        let found = find(self, &moved, size, slices)?;
        let mut shape = had.to_vec();
        shape[axis] = found.first.len();
        let strides = strides(had);
        let from = |mut index: Vec<usize>| {
            index[axis] = found.first[index[axis]];
            Some(place(&index, &strides))
        };
        let numbers = |places: &[usize]| tensor1(&places.iter().map(|at| *at as i64).collect::<Vec<_>>());
        Ok(vec![
            picked(input, &indices(&shape).map(from).collect::<Vec<_>>(), &shape)?,
            numbers(&found.first),
            numbers(&found.which),
            tensor1(&found.count),
        ])
    }
}
