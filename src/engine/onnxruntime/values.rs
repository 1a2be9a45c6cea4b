//! Tensors of the library as bytes, and its element types as ours. Called by the rest of this folder.

use bytemuck::Zeroable;
use half::f16;
use ort::value::{DynValue, Tensor, TensorElementType};

use super::super::{EngineError, guard::error_text};
use crate::types::{DType, Shape, element_count};

/// Runs code for the Rust type of a plain datatype; `$other` for texts, booleans and BF16.
macro_rules! with_plain_type {
    ($dtype:expr, $T:ident => $code:expr, $other:expr) => {{
        macro_rules! with {
            ($type:ty) => {{
                type $T = $type;
                $code
            }};
        }
        match $dtype {
            DType::Uint8 => with!(u8),
            DType::Uint16 => with!(u16),
            DType::Uint32 => with!(u32),
            DType::Uint64 => with!(u64),
            DType::Int8 => with!(i8),
            DType::Int16 => with!(i16),
            DType::Int32 => with!(i32),
            DType::Int64 => with!(i64),
            DType::Fp16 => with!(f16),
            DType::Fp32 => with!(f32),
            DType::Fp64 => with!(f64),
            DType::Bool | DType::Bytes | DType::Bf16 => $other,
        }
    }};
}

/// The wire type of an element type; `None` for those that have none.
pub(super) fn dtype_of(kind: TensorElementType) -> Option<DType> {
    Some(match kind {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Uint8 => DType::Uint8,
        TensorElementType::Uint16 => DType::Uint16,
        TensorElementType::Uint32 => DType::Uint32,
        TensorElementType::Uint64 => DType::Uint64,
        TensorElementType::Int8 => DType::Int8,
        TensorElementType::Int16 => DType::Int16,
        TensorElementType::Int32 => DType::Int32,
        TensorElementType::Int64 => DType::Int64,
        TensorElementType::Float16 => DType::Fp16,
        TensorElementType::Float32 => DType::Fp32,
        TensorElementType::Float64 => DType::Fp64,
        TensorElementType::String => DType::Bytes,
        _ => return None,
    })
}

/// An input and the buffer that its rows are gathered into.
pub(super) enum Input {
    /// The library's own tensor.
    Plain(DynValue),
    /// Booleans, which may not hold any byte, and become a tensor when they are used.
    Bools(Vec<u8>),
    /// Texts, which become a tensor when they are used.
    Strings(Vec<String>),
}

impl Input {
    /// A buffer for a tensor of this shape.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(dtype: DType, shape: &[usize]) -> Result<Self, EngineError> {
        let count = element_count(shape).map_err(EngineError::new)?;
        with_plain_type!(
            dtype,
            T => {
                let tensor = Tensor::<T>::from_array((shape, vec![T::zeroed(); count]));
                tensor.map(|tensor| Input::Plain(tensor.into_dyn())).map_err(|error| EngineError::new(error_text(&error)))
            },
            match dtype {
                DType::Bool => Ok(Input::Bools(vec![0; count])),
                DType::Bytes => Ok(Input::Strings(vec![String::new(); count])),
                _ => Err(EngineError::new(format_args!("datatype {dtype}: has no tensors"))),
            }
        )
    }

    /// A tensor of what was gathered, where the buffer is not one itself.
    ///
    /// # Errors
    /// When a text cannot be given to the library.
    pub(super) fn converted(&self, shape: &[usize]) -> Result<Option<DynValue>, EngineError> {
        let made = match self {
            Input::Plain(_) => return Ok(None),
            Input::Bools(bytes) => {
                let bools: Vec<bool> = bytes.iter().map(|byte| *byte != 0).collect();
                Tensor::from_array((shape, bools)).map(Tensor::into_dyn)
            }
            Input::Strings(items) => {
                if items.iter().any(|item| item.contains('\0')) {
                    return Err(EngineError::new("a text with a zero byte cannot be given to onnxruntime"));
                }
                Tensor::from_string_array((shape, &items[..])).map(Tensor::into_dyn)
            }
        };
        made.map(Some).map_err(|error| EngineError::new(error_text(&error)))
    }
}

/// The bytes of a tensor to be overwritten.
///
/// # Errors
/// When it is not of that type.
pub(super) fn bytes_mut(value: &mut DynValue, dtype: DType) -> Result<&mut [u8], EngineError> {
    let fail = |error: ort::Error| EngineError::new(error_text(&error));
    with_plain_type!(
        dtype,
        T => Ok(bytemuck::cast_slice_mut(value.try_extract_tensor_mut::<T>().map_err(fail)?.1)),
        Err(EngineError::new(format_args!("datatype {dtype}: has no plain buffer")))
    )
}

/// The bytes of a tensor of numbers or booleans.
///
/// # Errors
/// When it is not of that type.
pub(super) fn bytes(value: &DynValue, dtype: DType) -> Result<&[u8], EngineError> {
    let fail = |error: ort::Error| EngineError::new(error_text(&error));
    with_plain_type!(
        dtype,
        T => Ok(bytemuck::cast_slice(value.try_extract_tensor::<T>().map_err(fail)?.1)),
        match dtype {
            DType::Bool => Ok(bytemuck::cast_slice(value.try_extract_tensor::<bool>().map_err(fail)?.1)),
            _ => Err(EngineError::new(format_args!("datatype {dtype}: has no bytes"))),
        }
    )
}

/// The sizes of a tensor.
///
/// # Errors
/// When the library gives none that can be.
pub(super) fn sizes(value: &DynValue) -> Result<Shape, EngineError> {
    let Some(shape) = value.dtype().tensor_shape() else { return Err(EngineError::new("is not a tensor")) };
    shape.iter().map(|dim| usize::try_from(*dim).map_err(EngineError::new)).collect()
}
