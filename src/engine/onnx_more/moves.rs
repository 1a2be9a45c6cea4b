//! Moving elements of any type about: an output is a list of places in the input. Shared by the operators that compute nothing.

use tract_onnx::{
    prelude::{DatumType, Tensor, TractResult},
    tract_hir::internal::{Datum, TractErrorContext as _, bail, f16, tensor1},
};

/// The tensor of this shape whose elements are those at `places` of another; zero, false or empty where there is no place.
///
/// # Errors
/// When the type has no plain elements, or a place is outside.
pub(super) fn picked(input: &Tensor, places: &[Option<usize>], shape: &[usize]) -> TractResult<Tensor> {
    let pick = match input.datum_type() {
        DatumType::Bool => pick::<bool>,
        DatumType::U8 => pick::<u8>,
        DatumType::U16 => pick::<u16>,
        DatumType::U32 => pick::<u32>,
        DatumType::U64 => pick::<u64>,
        DatumType::I8 => pick::<i8>,
        DatumType::I16 => pick::<i16>,
        DatumType::I32 => pick::<i32>,
        DatumType::I64 => pick::<i64>,
        DatumType::F16 => pick::<f16>,
        DatumType::F32 => pick::<f32>,
        DatumType::F64 => pick::<f64>,
        DatumType::String => pick::<String>,
        other => bail!("elements of type {other:?} are not supported"),
    };
    pick(input, places, shape)
}

fn pick<T: Datum + Clone + Default>(input: &Tensor, places: &[Option<usize>], shape: &[usize]) -> TractResult<Tensor> {
    let view = input.try_as_plain_ram()?;
    let values = view.as_slice::<T>()?;
    let one = |place: &Option<usize>| match place {
        Some(place) => values.get(*place).cloned().with_context(|| format!("there is no element {place}")),
        None => Ok(T::default()),
    };
    let picked = places.iter().map(one).collect::<TractResult<Vec<T>>>()?;
    tensor1(&picked).into_shape(shape)
}

/// Elements from one index of each dimension to the next.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// All indices of a shape, in the order of the elements.
pub(super) fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let shape = shape.to_vec();
    let count: usize = shape.iter().product();
    (0..count).map(move |mut at| {
        let mut index = vec![0; shape.len()];
        for (place, size) in index.iter_mut().zip(&shape).rev() {
            *place = at % size;
            at /= size;
        }
        index
    })
}

/// The dot product that makes a place of an index.
pub(super) fn place(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(index, stride)| index * stride).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_in_the_order_of_elements() {
        let shape = [2, 3, 2];
        let strides = strides(&shape);
        let places: Vec<_> = indices(&shape).map(|index| place(&index, &strides)).collect();
        assert_eq!(places, (0..12).collect::<Vec<_>>());
        assert_eq!(indices(&[]).count(), 1);
        assert_eq!(indices(&[0, 3]).count(), 0);
    }
}
