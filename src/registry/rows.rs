//! Made-up inputs, and inputs of a wanted number of rows: what engines are compared and timed on when nothing better is known.
//! Pure.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Batch, DType, Data, Shape, Signature, Tensor, TensorSpec};

/// The size of free dimensions besides the rows.
const FREE: usize = 8;

/// Inputs of `rows` rows in the model's order: numbers from -1 to 1, small integers, one of two words. Always the same ones.
/// `None` when a tensor cannot be made.
pub(super) fn made_up(signature: &Signature, rows: usize) -> Option<Vec<Tensor>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    signature.inputs.iter().map(|spec| make(spec, shape(spec, signature.batch, rows), &mut next)).collect()
}

/// The same with zeros and empty texts: indices that are in range if any are.
pub(super) fn zeros(signature: &Signature, rows: usize) -> Option<Vec<Tensor>> {
    signature.inputs.iter().map(|spec| make(spec, shape(spec, signature.batch, rows), &mut || 0.0)).collect()
}

/// Inputs of exactly `rows` rows, made by going through those of `inputs` again and again; `None` when they have none.
pub(super) fn repeated(inputs: &[Tensor], rows: usize) -> Option<Vec<Tensor>> {
    inputs.iter().map(|tensor| repeat(tensor, rows)).collect()
}

fn shape(spec: &TensorSpec, batch: Batch, rows: usize) -> Shape {
    let size = |(axis, dim): (usize, &Option<usize>)| match dim {
        Some(size) => *size,
        None if axis == 0 && batch == Batch::Rows => rows,
        None => FREE,
    };
    spec.shape.iter().enumerate().map(size).collect()
}

fn make(spec: &TensorSpec, shape: Shape, next: &mut dyn FnMut() -> f32) -> Option<Tensor> {
    let count = crate::types::element_count(&shape).ok()?;
    let mut values = (0..count).map(|_| next());
    // 0, 1, 2 or 3.
    let small = |value: f32| (value.abs() * 4.0).min(3.0) as u8;
    let tensor = match spec.dtype {
        DType::Fp32 => Tensor::from_vec(spec.dtype, shape, values.collect::<Vec<f32>>()),
        DType::Fp64 => Tensor::from_vec(spec.dtype, shape, values.map(f64::from).collect::<Vec<_>>()),
        DType::Fp16 => Tensor::from_vec(spec.dtype, shape, values.map(half::f16::from_f32).collect::<Vec<_>>()),
        DType::Bf16 => Tensor::from_vec(spec.dtype, shape, values.map(half::bf16::from_f32).collect::<Vec<_>>()),
        DType::Bool => {
            Tensor::from_vec(spec.dtype, shape, values.map(|value| u8::from(value > 0.0)).collect::<Vec<_>>())
        }
        DType::Uint8 | DType::Int8 => Tensor::from_vec(spec.dtype, shape, values.map(small).collect::<Vec<_>>()),
        DType::Uint16 | DType::Int16 => {
            Tensor::from_vec(spec.dtype, shape, values.map(|value| u16::from(small(value))).collect::<Vec<_>>())
        }
        DType::Uint32 | DType::Int32 => {
            Tensor::from_vec(spec.dtype, shape, values.map(|value| u32::from(small(value))).collect::<Vec<_>>())
        }
        DType::Uint64 | DType::Int64 => {
            Tensor::from_vec(spec.dtype, shape, values.map(|value| u64::from(small(value))).collect::<Vec<_>>())
        }
        DType::Bytes => {
            let word = |value: f32| {
                Bytes::from_static(if value > 0.0 {
                    b"b"
                } else if value < 0.0 {
                    b"a"
                } else {
                    b""
                })
            };
            let words: Arc<[Bytes]> = values.by_ref().map(word).collect();
            Tensor::strings(shape, words)
        }
    };
    tensor.ok()
}

fn repeat(tensor: &Tensor, rows: usize) -> Option<Tensor> {
    let mut shape: Shape = tensor.shape().into();
    let known = std::mem::replace(shape.first_mut()?, rows);
    if known == 0 {
        return None;
    }
    let order = (0..rows).map(|row| row % known);
    let made = match tensor.data() {
        Data::Plain(bytes) => {
            let width = bytes.len() / known;
            let bytes: Vec<u8> = order.flat_map(|row| bytes[row * width..(row + 1) * width].iter().copied()).collect();
            Tensor::plain(tensor.dtype(), shape, bytes.into())
        }
        Data::Strings(items) => {
            let width = items.len() / known;
            let items: Vec<Bytes> =
                order.flat_map(|row| items[row * width..(row + 1) * width].iter().cloned()).collect();
            Tensor::strings(shape, items.into())
        }
    };
    made.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(batch: Batch) -> Signature {
        let inputs = DType::ALL.into_iter().map(|dtype| TensorSpec {
            name: dtype.as_str().into(),
            dtype,
            shape: vec![None, Some(3), None],
        });
        Signature { inputs: inputs.collect(), outputs: Vec::new(), batch }
    }

    #[test]
    fn every_type_can_be_made_up() {
        for (batch, rows) in [(Batch::Rows, 5), (Batch::None, FREE)] {
            let inputs = made_up(&signature(batch), 5).unwrap();
            assert_eq!(inputs.len(), DType::ALL.len());
            assert!(inputs.iter().all(|input| input.shape() == [rows, 3, FREE]));
            let values = inputs.iter().filter(|input| input.dtype() == DType::Fp32).find_map(Tensor::to_f32).unwrap();
            assert!(values.iter().all(|value| (-1.0..=1.0).contains(value)) && values[0] != values[1], "{values:?}");
            let small = inputs.iter().find(|input| input.dtype() == DType::Int8).unwrap();
            assert!(small.bytes().iter().all(|value| *value < 4) && small.bytes().contains(&3));
        }
        let zeros = zeros(&signature(Batch::Rows), 2).unwrap();
        assert!(zeros.iter().all(|input| input.bytes().iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn rows_are_repeated_in_order() {
        let three = Tensor::from_vec(DType::Uint8, [3, 2].as_slice().into(), vec![0_u8, 1, 2, 3, 4, 5]).unwrap();
        let words = Tensor::strings([2].as_slice().into(), [Bytes::from("a"), Bytes::from("b")].into()).unwrap();
        let five = repeated(&[three.clone(), words], 5).unwrap();
        assert_eq!((five[0].shape(), &five[0].bytes()[..]), (&[5, 2][..], &[0, 1, 2, 3, 4, 5, 0, 1, 2, 3][..]));
        let Data::Strings(items) = five[1].data() else { panic!("not texts") };
        assert_eq!(items.iter().map(|item| &item[..]).collect::<Vec<_>>(), [b"a", b"b", b"a", b"b", b"a"]);
        assert_eq!(repeated(&[three], 2).unwrap()[0].bytes()[..], [0, 1, 2, 3]);
        assert!(repeated(&[Tensor::from_vec(DType::Uint8, [].as_slice().into(), vec![0_u8]).unwrap()], 2).is_none());
    }
}
