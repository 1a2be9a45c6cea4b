//! Tensors as they travel from the wire to the batch: little-endian, row-major bytes that are shared, never copied, until a
//! batch is gathered from them. Made by `protocol` and by the scheduler's scatter; read by both and by composition.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;

use super::Error;

/// The highest number of dimensions that a request may have.
pub const MAX_RANK: usize = 16;

/// Concrete sizes, outermost first.
pub type Shape = SmallVec<[usize; 6]>;

/// Element types, named as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the wire's own")]
pub enum DType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Variable-length elements; strings where the model wants text.
    Bytes,
}

impl DType {
    /// Every element type.
    pub const ALL: [DType; 14] = [
        DType::Bool,
        DType::Uint8,
        DType::Uint16,
        DType::Uint32,
        DType::Uint64,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::Fp16,
        DType::Bf16,
        DType::Fp32,
        DType::Fp64,
        DType::Bytes,
    ];

    /// The wire name, for example `FP32`.
    pub fn as_str(self) -> &'static str {
        match self {
            DType::Bool => "BOOL",
            DType::Uint8 => "UINT8",
            DType::Uint16 => "UINT16",
            DType::Uint32 => "UINT32",
            DType::Uint64 => "UINT64",
            DType::Int8 => "INT8",
            DType::Int16 => "INT16",
            DType::Int32 => "INT32",
            DType::Int64 => "INT64",
            DType::Fp16 => "FP16",
            DType::Bf16 => "BF16",
            DType::Fp32 => "FP32",
            DType::Fp64 => "FP64",
            DType::Bytes => "BYTES",
        }
    }

    /// Reads a wire name; `None` when there is no such type. Case matters.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "BOOL" => DType::Bool,
            "UINT8" => DType::Uint8,
            "UINT16" => DType::Uint16,
            "UINT32" => DType::Uint32,
            "UINT64" => DType::Uint64,
            "INT8" => DType::Int8,
            "INT16" => DType::Int16,
            "INT32" => DType::Int32,
            "INT64" => DType::Int64,
            "FP16" => DType::Fp16,
            "BF16" => DType::Bf16,
            "FP32" => DType::Fp32,
            "FP64" => DType::Fp64,
            "BYTES" => DType::Bytes,
            _ => return None,
        })
    }

    /// Bytes per element; `None` for [`DType::Bytes`].
    pub fn size(self) -> Option<usize> {
        match self {
            DType::Bool | DType::Uint8 | DType::Int8 => Some(1),
            DType::Uint16 | DType::Int16 | DType::Fp16 | DType::Bf16 => Some(2),
            DType::Uint32 | DType::Int32 | DType::Fp32 => Some(4),
            DType::Uint64 | DType::Int64 | DType::Fp64 => Some(8),
            DType::Bytes => None,
        }
    }

    /// True for the floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Little-endian, row-major, no padding. The slice may be unaligned.
    Plain(Bytes),
    /// One entry per element of a [`DType::Bytes`] tensor.
    Strings(Arc<[Bytes]>),
}

/// A tensor whose data fits its datatype and shape; the constructors check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor of fixed-size elements.
    ///
    /// # Errors
    /// `InvalidArgument` when the byte count is not the shape's, the shape overflows, or `dtype` is BYTES.
    pub fn plain(dtype: DType, shape: Shape, bytes: Bytes) -> Result<Self, Error> {
        let Some(size) = dtype.size() else { return Err(Error::invalid("tensor: BYTES has no fixed element size")) };
        let expected = element_count(&shape)?.checked_mul(size).ok_or_else(overflow)?;
        if bytes.len() != expected {
            return Err(Error::invalid(format!("byte size: expected {expected}, got {}", bytes.len())));
        }
        Ok(Self { dtype, shape, data: Data::Plain(bytes) })
    }

    /// A BYTES tensor.
    ///
    /// # Errors
    /// `InvalidArgument` when the element count is not the shape's or the shape overflows.
    pub fn strings(shape: Shape, items: Arc<[Bytes]>) -> Result<Self, Error> {
        let expected = element_count(&shape)?;
        if items.len() != expected {
            return Err(Error::invalid(format!("elements: expected {expected}, got {}", items.len())));
        }
        Ok(Self { dtype: DType::Bytes, shape, data: Data::Strings(items) })
    }

    /// A tensor over a vector of plain numbers, without copying it. Little-endian machines only, which `lib.rs` asserts.
    ///
    /// # Errors
    /// As [`Tensor::plain`].
    pub fn from_vec<T: bytemuck::NoUninit + Send + Sync>(
        dtype: DType,
        shape: Shape,
        values: Vec<T>,
    ) -> Result<Self, Error> {
        Self::plain(dtype, shape, owned_bytes(values))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Concrete sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The plain bytes; empty for BYTES tensors.
    pub fn bytes(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        match &self.data {
            Data::Plain(bytes) => bytes,
            Data::Strings(_) => &EMPTY,
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes held: the plain bytes, or the sum of the BYTES elements.
    pub fn byte_len(&self) -> usize {
        match &self.data {
            Data::Plain(bytes) => bytes.len(),
            Data::Strings(items) => items.iter().map(Bytes::len).sum(),
        }
    }

    /// Rows `from..from + rows` along dimension 0, sharing the data.
    ///
    /// # Errors
    /// `InvalidArgument` when the tensor has no such rows.
    pub fn slice_rows(&self, from: usize, rows: usize) -> Result<Self, Error> {
        let total = self.shape.first().copied().unwrap_or(0);
        let end = from.checked_add(rows).filter(|end| *end <= total);
        let Some(end) = end else {
            return Err(Error::invalid(format!("rows: expected at most {total}, got {from}+{rows}")));
        };
        let per_row: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = rows;
        let data = match &self.data {
            Data::Plain(bytes) => {
                let width = per_row * self.dtype.size().unwrap_or(0);
                Data::Plain(bytes.slice(from * width..end * width))
            }
            Data::Strings(items) => Data::Strings(items[from * per_row..end * per_row].into()),
        };
        Ok(Self { dtype: self.dtype, shape, data })
    }

    /// The same data under another shape of as many elements.
    ///
    /// # Errors
    /// `InvalidArgument` when the counts differ.
    pub fn reshaped(self, shape: Shape) -> Result<Self, Error> {
        let count = element_count(&shape)?;
        if count != self.elements() {
            return Err(Error::invalid(format!("elements: expected {count}, got {}", self.elements())));
        }
        Ok(Self { shape, ..self })
    }

    /// The elements as FP32 (integers and FP64 converted); `None` for BYTES.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let bytes = match &self.data {
            Data::Plain(bytes) => bytes,
            Data::Strings(_) => return None,
        };
        fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
        }
        Some(match self.dtype {
            DType::Bool | DType::Uint8 => each(bytes, |b: [u8; 1]| f32::from(b[0])),
            DType::Int8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
            DType::Uint16 => each(bytes, |b| f32::from(u16::from_le_bytes(b))),
            DType::Int16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
            DType::Fp16 => each(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            DType::Bf16 => each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            DType::Uint32 => each(bytes, |b| u32::from_le_bytes(b) as f32),
            DType::Int32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            DType::Fp32 => each(bytes, f32::from_le_bytes),
            DType::Uint64 => each(bytes, |b| u64::from_le_bytes(b) as f32),
            DType::Int64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            DType::Fp64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            DType::Bytes => return None,
        })
    }
}

/// Number of elements of a shape.
///
/// # Errors
/// `InvalidArgument` when the product overflows or the rank is above [`MAX_RANK`].
pub fn element_count(shape: &[usize]) -> Result<usize, Error> {
    if shape.len() > MAX_RANK {
        return Err(Error::invalid(format!("shape: expected at most {MAX_RANK} dimensions, got {}", shape.len())));
    }
    shape.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim)).ok_or_else(overflow)
}

fn overflow() -> Error {
    Error::invalid("shape: element count overflows")
}

/// Hands a vector's memory over to `Bytes` without copying it.
fn owned_bytes<T: bytemuck::NoUninit + Send + Sync>(values: Vec<T>) -> Bytes {
    struct Owner<T>(Vec<T>);
    impl<T: bytemuck::NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    Bytes::from_owner(Owner(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn counts_are_checked() {
        assert!(element_count(&[usize::MAX, 2]).is_err());
        assert!(element_count(&[1; 17]).is_err());
        assert_eq!(element_count(&[]), Ok(1));
        let short = Tensor::plain(DType::Fp32, smallvec![2, 2], Bytes::from_static(&[0; 12]));
        assert_eq!(short.unwrap_err().text(), "byte size: expected 16, got 12");
    }

    #[test]
    fn rows_are_shared_slices() {
        let tensor = Tensor::from_vec(DType::Fp32, smallvec![3, 2], vec![0_f32, 1., 2., 3., 4., 5.]).unwrap();
        let rows = tensor.slice_rows(1, 2).unwrap();
        assert_eq!(rows.shape(), [2, 2]);
        assert_eq!(rows.to_f32().unwrap(), [2., 3., 4., 5.]);
        assert_eq!(rows.bytes().as_ptr(), tensor.bytes()[8..].as_ptr());
        assert!(tensor.slice_rows(2, 2).is_err());
        assert!(tensor.slice_rows(usize::MAX, 2).is_err());
    }

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(DType::parse(dtype.as_str()), Some(dtype));
        }
        assert_eq!(DType::parse("fp32"), None);
    }
}
