//! Small numeric operators: Det, CumProd, BitCast and AffineGrid.

use tract_onnx::{model::ParsingContext, pb::NodeProto, prelude::tract_num_traits::One, tract_hir::internal::*};

use super::{
    super::operator::{Built, Fact, Known, Operator, axis_of, ints, need, node},
    moves::indices,
};

/// `Det`: determinants of the matrices in the last two dimensions.
pub(super) fn determinant(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, Determinant), vec![]))
}

#[derive(Debug)]
struct Determinant;

/// By elimination with the largest pivot of each column.
fn eliminate(matrix: &mut [f64], size: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..size {
        let rows = column..size;
        let size_of = |row: &usize| matrix[row * size + column].abs();
        let Some(pivot) = rows.max_by(|a, b| size_of(a).total_cmp(&size_of(b))) else { break };
        if pivot != column {
            (0..size).for_each(|at| matrix.swap(pivot * size + at, column * size + at));
            product = -product;
        }
        let diagonal = matrix[column * size + column];
        product *= diagonal;
        if diagonal == 0.0 {
            return 0.0;
        }
        for row in column + 1..size {
            let factor = matrix[row * size + column] / diagonal;
            for at in column..size {
                matrix[row * size + at] -= factor * matrix[column * size + at];
            }
        }
    }
    product
}

impl Operator for Determinant {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let [outer @ .., rows, columns] = &input.shape[..] else {
            bail!("expected an input of at least 2 dimensions, got {}", input.rank());
        };
        ensure!(rows == columns, "expected square matrices, got {rows} by {columns}");
        Ok(vec![(input.datum, outer.into())])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let (outer, square) = input.shape().split_at(input.rank() - 2);
        let mut values = input.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
        let count: usize = outer.iter().product();
        let size = square[0] * square[0];
        let determinants: Vec<f64> =
            (0..count).map(|at| eliminate(&mut values[at * size..(at + 1) * size], square[0])).collect();
        Ok(vec![Tensor::from_shape(outer, &determinants)?.cast_to_dt(input.datum_type())?.into_owned()])
    }
}

/// `CumProd`: products along an axis up to each element.
pub(super) fn cumulative_product(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let flag = |name: &str| -> TractResult<bool> { Ok(proto.get_attr_opt(name)?.unwrap_or(0_i64) != 0) };
    Ok((node(proto, CumulativeProduct { exclusive: flag("exclusive")?, reverse: flag("reverse")? }), vec![]))
}

#[derive(Debug)]
struct CumulativeProduct {
    /// Without the element itself.
    exclusive: bool,
    reverse: bool,
}

/// Products that do not panic when they overflow.
trait Times: Datum + Copy + One {
    fn times(self, other: Self) -> Self;
}

macro_rules! times {
    ($($kind:ty: $times:expr;)*) => { $(impl Times for $kind {
        fn times(self, other: Self) -> Self {
            $times(self, other)
        }
    })* };
}

times! {
    f16: |a, b| a * b;
    f32: |a, b| a * b;
    f64: |a, b| a * b;
    i32: i32::wrapping_mul;
    i64: i64::wrapping_mul;
    u32: u32::wrapping_mul;
    u64: u64::wrapping_mul;
}

impl CumulativeProduct {
    fn run_in<T: Times>(&self, input: &Tensor, axis: usize) -> TractResult<Tensor> {
        let mut out = input.try_as_plain_ram()?.as_slice::<T>()?.to_vec();
        let size = input.shape()[axis];
        let inside: usize = input.shape()[axis + 1..].iter().product();
        for block in out.chunks_exact_mut((size * inside).max(1)) {
            for lane in 0..inside {
                let mut product = T::one();
                for step in 0..size {
                    let step = if self.reverse { size - 1 - step } else { step };
                    let value = &mut block[step * inside + lane];
                    let before = product;
                    product = product.times(*value);
                    *value = if self.exclusive { before } else { product };
                }
            }
        }
        Tensor::from_shape(input.shape(), &out)
    }
}

impl Operator for CumulativeProduct {
    fn name(&self) -> &'static str {
        "CumProd"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        Ok(vec![(input.datum, input.shape.clone())])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (input, axis) = (*need(inputs, 0)?, ints(need(inputs, 1)?)?);
        let axis = axis_of(axis.first().copied().unwrap_or_default(), input.rank())?;
        Ok(vec![match input.datum_type() {
            DatumType::F32 => self.run_in::<f32>(input, axis)?,
            DatumType::F64 => self.run_in::<f64>(input, axis)?,
            DatumType::F16 => self.run_in::<f16>(input, axis)?,
            DatumType::I32 => self.run_in::<i32>(input, axis)?,
            DatumType::I64 => self.run_in::<i64>(input, axis)?,
            DatumType::U32 => self.run_in::<u32>(input, axis)?,
            DatumType::U64 => self.run_in::<u64>(input, axis)?,
            other => bail!("elements of type {other:?} are not supported"),
        }])
    }
}

/// `BitCast`: the same bits as another type of the same size.
pub(super) fn bit_cast(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, BitCast { to: proto.get_attr("to")? }), vec![]))
}

#[derive(Debug)]
struct BitCast {
    to: DatumType,
}

impl Operator for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let plain = |datum: DatumType| datum.is_number() || datum == DatumType::Bool;
        let fits = plain(input.datum) && plain(self.to) && input.datum.size_of() == self.to.size_of();
        // Not every byte is a boolean.
        ensure!(fits && self.to != DatumType::Bool, "cannot take the bits of {:?} as {:?}", input.datum, self.to);
        Ok(vec![(self.to, input.shape.clone())])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let mut out = Tensor::zero_dt(self.to, input.shape())?;
        out.as_bytes_mut().copy_from_slice(input.as_bytes());
        Ok(vec![out])
    }
}

/// `AffineGrid`: where each point of an output lies in an input that is turned, scaled and moved.
pub(super) fn affine_grid(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let corners = proto.get_attr_opt("align_corners")?.unwrap_or(0_i64) != 0;
    Ok((node(proto, AffineGrid { corners }), vec![]))
}

#[derive(Debug)]
struct AffineGrid {
    /// -1 and 1 are the centres of the outermost points, not their outer edges.
    corners: bool,
}

impl AffineGrid {
    /// Sizes of the points' dimensions: two, or three.
    fn sizes(size: &[i64]) -> TractResult<&[i64]> {
        let sizes = size.get(2..).filter(|sizes| matches!(sizes.len(), 2 | 3) && sizes.iter().all(|size| *size > 0));
        sizes.with_context(|| format!("size: expected 4 or 5 sizes, got {size:?}"))
    }

    fn coordinate(&self, at: usize, size: usize) -> f32 {
        if self.corners {
            // One point alone is at the left.
            2.0 * at as f32 / (size.max(2) - 1) as f32 - 1.0
        } else {
            (2 * at + 1) as f32 / size as f32 - 1.0
        }
    }
}

impl Operator for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn wants(&self, input: usize) -> bool {
        input == 1
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (theta, size) = (need(inputs, 0)?, need(inputs, 1)?.ints("size")?);
        let sizes = Self::sizes(&size)?;
        let dims = sizes.len();
        let fits =
            matches!(&theta.shape[..], [_, rows, columns] if *rows == dims.to_dim() && *columns == (dims + 1).to_dim());
        ensure!(fits, "theta: expected [N, {dims}, {}]", dims + 1);
        let mut shape = tvec![theta.shape[0].clone()];
        shape.extend(sizes.iter().map(ToDim::to_dim));
        shape.push(dims.to_dim());
        Ok(vec![(theta.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (theta, size) = (*need(inputs, 0)?, ints(need(inputs, 1)?)?);
        let sizes: Vec<usize> = Self::sizes(&size)?.iter().map(|size| *size as usize).collect();
        let dims = sizes.len();
        let matrices = theta.cast_to::<f32>()?;
        let matrices = matrices.try_as_plain_ram()?;
        let mut out = Vec::new();
        for matrix in matrices.as_slice::<f32>()?.chunks_exact(dims * (dims + 1)) {
            for index in indices(&sizes) {
                // x first, which is the last dimension.
                let point: Vec<f32> =
                    index.iter().zip(&sizes).map(|(at, size)| self.coordinate(*at, *size)).rev().collect();
                for row in matrix.chunks_exact(dims + 1) {
                    out.push(point.iter().zip(row).map(|(x, weight)| x * weight).sum::<f32>() + row[dims]);
                }
            }
        }
        let mut shape = vec![theta.shape()[0]];
        shape.extend(&sizes);
        shape.push(dims);
        Ok(vec![Tensor::from_shape(&shape, &out)?.cast_to_dt(theta.datum_type())?.into_owned()])
    }
}
