//! Labelled rows as NumPy's `.npz`: an array for each input, by name, and one named `label`. Numbers are converted to the
//! model's datatype where that loses nothing but digits: NumPy has 64-bit ones where models have 32.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
};

use half::{bf16, f16};
use npyz::npz::{NpzArchive, file_name_from_array_name};

use super::data::{LABEL, Labels, row_shape, whole};
use crate::{
    cli::npy,
    types::{DType, Data, Shape, Tensor, TensorSpec},
};

/// Arrays by name.
#[derive(Debug)]
pub(super) struct Npz(BTreeMap<String, Tensor>);

impl Npz {
    /// Reads a whole file.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let mut archive =
            NpzArchive::new(Cursor::new(file)).map_err(|error| format!("not a good .npz file: {error}"))?;
        let names: Vec<String> = archive.array_names().map(ToOwned::to_owned).collect();
        let mut arrays = BTreeMap::new();
        for name in names {
            let wrong = |text: String| format!("column '{name}': {text}");
            let mut array = Vec::new();
            let mut entry =
                archive.zip_archive().by_name(&file_name_from_array_name(&name)).map_err(|e| wrong(e.to_string()))?;
            entry.read_to_end(&mut array).map_err(|error| wrong(error.to_string()))?;
            let tensor = npy::read(&array).map_err(wrong)?;
            arrays.insert(name, tensor);
        }
        Ok(Self(arrays))
    }

    /// The right answers.
    pub(super) fn labels(&self) -> Result<Labels, String> {
        let wrong = |text: &str| format!("column '{LABEL}': {text}");
        let labels = self
            .0
            .get(LABEL)
            .ok_or_else(|| wrong(&format!("not found: expected the right class of every row, got {}", self.names())))?;
        if !matches!(labels.shape(), [_] | [_, 1]) {
            return Err(wrong(&format!("shape: expected [-1], got {:?}", labels.shape())));
        }
        if let Data::Strings(items) = labels.data() {
            return Ok(Labels::Texts(items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect()));
        }
        let numbers = numbers(labels).into_iter().enumerate().map(|(row, number)| match number {
            Number::Integer(value) => Ok(value),
            Number::Float(value) => {
                whole(value).ok_or_else(|| wrong(&format!("row {row}: expected an integer, got {value}")))
            }
        });
        Ok(Labels::Numbers(numbers.collect::<Result<_, _>>()?))
    }

    /// A model's input of so many rows.
    pub(super) fn input(&self, spec: &TensorSpec, rows: usize) -> Result<Tensor, String> {
        let wrong = |text: String| format!("column '{}': {text}", spec.name);
        let Some(tensor) = self.0.get(&*spec.name) else {
            return Err(wrong(format!(
                "not found: expected an array of shape {}, got {}",
                row_shape(spec),
                self.names()
            )));
        };
        let shape = fitted(tensor.shape(), &spec.shape)
            .ok_or_else(|| wrong(format!("shape: expected {}, got {:?}", row_shape(spec), tensor.shape())))?;
        if shape[0] != rows {
            return Err(wrong(format!("rows: expected {rows} as in '{LABEL}', got {}", shape[0])));
        }
        let tensor = tensor.clone().reshaped(shape).map_err(|error| wrong(error.to_string()))?;
        converted(tensor, spec.dtype).map_err(wrong)
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        format!("'{}'", names.join("', '"))
    }
}

/// The shape that a model takes an array of this shape in: its own, or with a last dimension of 1 more or less.
fn fitted(got: &[usize], wanted: &[Option<usize>]) -> Option<Shape> {
    let fits = |shape: &[usize]| {
        shape.len() == wanted.len()
            && !shape.is_empty()
            && shape.iter().zip(wanted).all(|(size, wanted)| wanted.is_none_or(|wanted| wanted == *size))
    };
    let mut longer = Shape::from_slice(got);
    longer.push(1);
    let shorter = got.strip_suffix(&[1]).unwrap_or(got);
    [got, &longer, shorter].into_iter().find(|shape| fits(shape)).map(Shape::from_slice)
}

/// An element of a tensor.
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

/// Every element of a tensor that is not of text.
pub(super) fn numbers(tensor: &Tensor) -> Vec<Number> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Number) -> Vec<Number> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    fn integer(value: impl Into<i128>) -> Number {
        Number::Integer(value.into())
    }
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::Bool | DType::Uint8 => each(bytes, |b: [u8; 1]| integer(b[0])),
        DType::Uint16 => each(bytes, |b| integer(u16::from_le_bytes(b))),
        DType::Uint32 => each(bytes, |b| integer(u32::from_le_bytes(b))),
        DType::Uint64 => each(bytes, |b| integer(u64::from_le_bytes(b))),
        DType::Int8 => each(bytes, |b| integer(i8::from_le_bytes(b))),
        DType::Int16 => each(bytes, |b| integer(i16::from_le_bytes(b))),
        DType::Int32 => each(bytes, |b| integer(i32::from_le_bytes(b))),
        DType::Int64 => each(bytes, |b| integer(i64::from_le_bytes(b))),
        DType::Fp16 => each(bytes, |b| Number::Float(f16::from_le_bytes(b).to_f64())),
        DType::Bf16 => each(bytes, |b| Number::Float(bf16::from_le_bytes(b).to_f64())),
        DType::Fp32 => each(bytes, |b| Number::Float(f32::from_le_bytes(b).into())),
        DType::Fp64 => each(bytes, |b| Number::Float(f64::from_le_bytes(b))),
        DType::Bytes => Vec::new(),
    }
}

/// The tensor in another datatype.
fn converted(tensor: Tensor, dtype: DType) -> Result<Tensor, String> {
    if tensor.dtype() == dtype {
        return Ok(tensor);
    }
    let refused = || format!("datatype: expected {dtype}, got {}", tensor.dtype());
    let is_text = |dtype| dtype == DType::Bytes;
    if is_text(dtype) || is_text(tensor.dtype()) || (tensor.dtype().is_float() && !dtype.is_float()) {
        return Err(refused());
    }
    let mut bytes = Vec::with_capacity(tensor.elements() * dtype.size().unwrap_or(1));
    for number in numbers(&tensor) {
        push(&number, dtype, &mut bytes).ok_or_else(|| match number {
            Number::Integer(value) => format!("expected {dtype}, got {value}, which is out of its range"),
            Number::Float(_) => refused(),
        })?;
    }
    Tensor::plain(dtype, tensor.shape().into(), bytes.into()).map_err(|error| error.to_string())
}

fn push(number: &Number, dtype: DType, bytes: &mut Vec<u8>) -> Option<()> {
    let float = match number {
        Number::Float(value) => *value,
        Number::Integer(value) => *value as f64,
    };
    fn fit<T: TryFrom<i128>>(number: &Number) -> Option<T> {
        match number {
            Number::Integer(value) => T::try_from(*value).ok(),
            Number::Float(_) => None,
        }
    }
    match dtype {
        DType::Bool => bytes.push(fit::<u8>(number).filter(|value| *value < 2)?),
        DType::Uint8 => bytes.extend(fit::<u8>(number)?.to_le_bytes()),
        DType::Uint16 => bytes.extend(fit::<u16>(number)?.to_le_bytes()),
        DType::Uint32 => bytes.extend(fit::<u32>(number)?.to_le_bytes()),
        DType::Uint64 => bytes.extend(fit::<u64>(number)?.to_le_bytes()),
        DType::Int8 => bytes.extend(fit::<i8>(number)?.to_le_bytes()),
        DType::Int16 => bytes.extend(fit::<i16>(number)?.to_le_bytes()),
        DType::Int32 => bytes.extend(fit::<i32>(number)?.to_le_bytes()),
        DType::Int64 => bytes.extend(fit::<i64>(number)?.to_le_bytes()),
        DType::Fp16 => bytes.extend(f16::from_f64(float).to_le_bytes()),
        DType::Bf16 => bytes.extend(bf16::from_f64(float).to_le_bytes()),
        DType::Fp32 => bytes.extend((float as f32).to_le_bytes()),
        DType::Fp64 => bytes.extend(float.to_le_bytes()),
        DType::Bytes => return None,
    }
    Some(())
}
