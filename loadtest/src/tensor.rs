//! Tensors as the generator holds them: name, type, shape and the little-endian bytes of the protocol's raw form. One
//! representation serves all encodings and the comparison of answers. Used by everything that reads or writes tensors.

use bytes::Bytes;

use crate::error::{Fault, Result};

/// Element types of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
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
    Bytes,
}

/// A named tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) datatype: DataType,
    pub(crate) shape: Vec<i64>,
    /// Row-major little-endian elements; BYTES elements carry a 4-byte length each.
    pub(crate) raw: Bytes,
}

const NAMES: [(&str, DataType); 14] = [
    ("BOOL", DataType::Bool),
    ("UINT8", DataType::Uint8),
    ("UINT16", DataType::Uint16),
    ("UINT32", DataType::Uint32),
    ("UINT64", DataType::Uint64),
    ("INT8", DataType::Int8),
    ("INT16", DataType::Int16),
    ("INT32", DataType::Int32),
    ("INT64", DataType::Int64),
    ("FP16", DataType::Fp16),
    ("BF16", DataType::Bf16),
    ("FP32", DataType::Fp32),
    ("FP64", DataType::Fp64),
    ("BYTES", DataType::Bytes),
];

impl DataType {
    /// The type with this protocol name.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, datatype)| *datatype)
            .ok_or_else(|| Fault::new(format_args!("datatype {name:?}"), "unknown"))
    }

    /// Its protocol name.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, datatype)| *datatype == self).map_or("?", |(name, _)| name)
    }

    /// Bytes per element; `None` for BYTES.
    pub(crate) fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Whether values are compared within a tolerance.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }
}

impl Tensor {
    /// A tensor whose bytes fit its shape.
    ///
    /// # Errors
    /// A negative or overflowing shape, or bytes that are not exactly the elements the shape promises.
    pub(crate) fn new(name: String, datatype: DataType, shape: Vec<i64>, raw: Bytes) -> Result<Self> {
        let subject = format!("tensor {name}");
        let wanted = element_count(&shape).ok_or_else(|| Fault::new(&subject, format_args!("bad shape {shape:?}")))?;
        let tensor = Self { name, datatype, shape, raw };
        let got = match datatype.size() {
            Some(size) if !tensor.raw.len().is_multiple_of(size) => {
                let what = format!("{} bytes are not whole {} elements", tensor.raw.len(), datatype.name());
                return Err(Fault::new(subject, what));
            }
            Some(size) => tensor.raw.len() / size,
            None => tensor.strings()?.len(),
        };
        if got == wanted {
            return Ok(tensor);
        }
        Err(Fault::new(subject, format_args!("shape {:?}: expected {wanted} elements, got {got}", tensor.shape)))
    }

    /// The elements of a BYTES tensor.
    ///
    /// # Errors
    /// A length prefix that is cut off or points past the end.
    pub(crate) fn strings(&self) -> Result<Vec<&[u8]>> {
        let mut rest = &self.raw[..];
        let mut elements = Vec::new();
        while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*prefix) as usize;
            let (element, next) = tail
                .split_at_checked(length)
                .ok_or_else(|| Fault::new(format_args!("tensor {}", self.name), "BYTES element past the end"))?;
            elements.push(element);
            rest = next;
        }
        if rest.is_empty() {
            return Ok(elements);
        }
        Err(Fault::new(format_args!("tensor {}", self.name), "BYTES length prefix cut off"))
    }

    /// The elements as numbers, for floating point types; empty for the others.
    pub(crate) fn floats(&self) -> Vec<f64> {
        let raw = &self.raw;
        match self.datatype {
            DataType::Fp16 => chunks(raw).map(|b| half::f16::from_le_bytes(b).to_f64()).collect(),
            DataType::Bf16 => chunks(raw).map(|b| half::bf16::from_le_bytes(b).to_f64()).collect(),
            DataType::Fp32 => chunks(raw).map(|b| f64::from(f32::from_le_bytes(b))).collect(),
            DataType::Fp64 => chunks(raw).map(f64::from_le_bytes).collect(),
            _ => Vec::new(),
        }
    }

    /// The same tensor with `rows` rows along dimension 0: its own rows over and over, or only the first ones.
    ///
    /// # Errors
    /// A tensor without dimensions or without rows.
    pub(crate) fn with_rows(&self, rows: usize) -> Result<Self> {
        let subject = || format!("tensor {}", self.name);
        let have = match self.shape.first() {
            Some(&rows) if rows > 0 => usize::try_from(rows).map_err(|_| Fault::new(subject(), "too many rows"))?,
            _ => return Err(Fault::new(subject(), format_args!("shape {:?} has no rows to repeat", self.shape))),
        };
        let cuts = self.row_cuts(have)?;
        let mut raw = Vec::with_capacity(self.raw.len() / have * rows);
        for row in (0..rows).map(|row| row % have) {
            raw.extend_from_slice(&self.raw[cuts[row]..cuts[row + 1]]);
        }
        let mut shape = self.shape.clone();
        shape[0] = i64::try_from(rows).map_err(|_| Fault::new(subject(), "too many rows"))?;
        Ok(Self { name: self.name.clone(), datatype: self.datatype, shape, raw: raw.into() })
    }

    /// Byte offsets of the `rows + 1` row boundaries.
    fn row_cuts(&self, rows: usize) -> Result<Vec<usize>> {
        if self.datatype.size().is_some() {
            let row = self.raw.len() / rows;
            return Ok((0..=rows).map(|i| i * row).collect());
        }
        let strings = self.strings()?;
        let per_row = (strings.len() / rows).max(1);
        let mut cuts = vec![0];
        let mut at = 0;
        for row in strings.chunks(per_row) {
            at += row.iter().map(|element| element.len() + 4).sum::<usize>();
            cuts.push(at);
        }
        cuts.resize(rows + 1, at);
        Ok(cuts)
    }
}

/// Product of the dimensions; `None` if one is negative or the product overflows.
pub(crate) fn element_count(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &dimension| count.checked_mul(usize::try_from(dimension).ok()?))
}

/// `raw` cut into arrays of `N` bytes, one per element.
pub(crate) fn chunks<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    raw.as_chunks::<N>().0.iter().copied()
}

/// The raw form of strings: each with its 4-byte length.
pub(crate) fn raw_strings<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Result<Bytes> {
    let mut raw = Vec::new();
    for element in elements {
        push_string(&mut raw, element)?;
    }
    Ok(raw.into())
}

/// Appends one BYTES element with its length.
pub(crate) fn push_string(raw: &mut Vec<u8>, element: &[u8]) -> Result<()> {
    let length = u32::try_from(element.len()).map_err(|_| Fault::new("BYTES element", "longer than 4 GiB"))?;
    raw.extend_from_slice(&length.to_le_bytes());
    raw.extend_from_slice(element);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[i64], values: &[f32]) -> Result<Tensor> {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new("x".into(), DataType::Fp32, shape.to_vec(), raw.into())
    }

    #[test]
    fn a_shape_must_match_its_bytes() {
        assert!(floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]).is_ok());
        assert!(floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0]).is_err());
        assert!(floats(&[-1, 4], &[1.0; 4]).is_err());
        assert!(floats(&[i64::MAX, 4], &[1.0; 4]).is_err());
        assert!(Tensor::new("x".into(), DataType::Fp32, vec![1], Bytes::from_static(&[0; 3])).is_err());
    }

    #[test]
    fn rows_repeat_and_shrink() {
        let two = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let five = two.with_rows(5).unwrap();
        assert_eq!(five.shape, [5, 2]);
        assert_eq!(five.floats(), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0]);
        assert_eq!(two.with_rows(1).unwrap().floats(), [1.0, 2.0]);
        assert!(floats(&[], &[1.0]).unwrap().with_rows(2).is_err());
    }

    #[test]
    fn rows_of_strings_repeat_whole() {
        let raw = raw_strings([&b"a"[..], b"bcd", b"", b"ef"]).unwrap();
        let tensor = Tensor::new("s".into(), DataType::Bytes, vec![2, 2], raw).unwrap();
        let three = tensor.with_rows(3).unwrap();
        assert_eq!(three.strings().unwrap(), [&b"a"[..], b"bcd", b"", b"ef", b"a", b"bcd"]);
        assert!(Tensor::new("s".into(), DataType::Bytes, vec![1], Bytes::from_static(&[9, 0, 0, 0, 1])).is_err());
    }
}
