//! NumPy's `.npy` files as tensors, for `weir infer`: whatever byte order and memory order they were saved in.

use bytes::Bytes;
use npyz::{Endianness, NpyHeader, Order, TypeChar, TypeStr};

use crate::types::{DType, Shape, Tensor, element_count};

/// What every such file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a whole file.
///
/// # Errors
/// What about it cannot become a tensor.
pub(super) fn read(file: &[u8]) -> Result<Tensor, String> {
    if !file.starts_with(MAGIC) {
        return Err("expected a .npy file".to_owned());
    }
    let mut rest = file;
    let header = NpyHeader::from_reader(&mut rest).map_err(|error| format!("not a good .npy file: {error}"))?;
    let npyz::DType::Plain(kind) = header.dtype() else {
        return Err("expected an array of one type, got records".to_owned());
    };
    let shape = shape(header.shape())?;
    let width = kind.num_bytes().ok_or("the element size does not fit this machine")?;
    let count = element_count(&shape).map_err(|error| error.to_string())?;
    let expected = count.checked_mul(width).ok_or("the size does not fit this machine")?;
    if rest.len() != expected {
        return Err(format!("expected {expected} bytes of data for shape {shape:?}, got {}", rest.len()));
    }
    let mut data = if header.order() == Order::Fortran { row_major(rest, &shape, width) } else { rest.to_vec() };
    let dtype = dtype(&kind)?;
    if kind.endianness() == Endianness::Big {
        let unit = if kind.type_char() == TypeChar::UnicodeStr { 4 } else { width };
        data.chunks_exact_mut(unit.max(1)).for_each(<[u8]>::reverse);
    }
    let tensor = match kind.type_char() {
        TypeChar::ByteStr => Tensor::strings(shape, each(&data, width, count, |item| Ok(zeros_off(item)))?.into()),
        TypeChar::UnicodeStr => Tensor::strings(shape, each(&data, width, count, utf8)?.into()),
        _ => Tensor::plain(dtype, shape, data.into()),
    };
    tensor.map_err(|error| error.to_string())
}

fn shape(dims: &[u64]) -> Result<Shape, String> {
    let fits = |dim: &u64| usize::try_from(*dim).map_err(|_| format!("shape {dims:?} does not fit this machine"));
    dims.iter().map(fits).collect()
}

fn dtype(kind: &TypeStr) -> Result<DType, String> {
    Ok(match (kind.type_char(), kind.size_field()) {
        (TypeChar::Bool, 1) => DType::Bool,
        (TypeChar::Int, 1) => DType::Int8,
        (TypeChar::Int, 2) => DType::Int16,
        (TypeChar::Int, 4) => DType::Int32,
        (TypeChar::Int, 8) => DType::Int64,
        (TypeChar::Uint, 1) => DType::Uint8,
        (TypeChar::Uint, 2) => DType::Uint16,
        (TypeChar::Uint, 4) => DType::Uint32,
        (TypeChar::Uint, 8) => DType::Uint64,
        (TypeChar::Float, 2) => DType::Fp16,
        (TypeChar::Float, 4) => DType::Fp32,
        (TypeChar::Float, 8) => DType::Fp64,
        (TypeChar::ByteStr | TypeChar::UnicodeStr, _) => DType::Bytes,
        _ => return Err(format!("expected numbers, booleans or strings, got the type '{kind}'")),
    })
}

/// The elements of a column-major array in row-major order.
fn row_major(data: &[u8], shape: &[usize], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let strides: Vec<usize> = shape
        .iter()
        .scan(width, |stride, dim| {
            let this = *stride;
            *stride *= dim;
            Some(this)
        })
        .collect();
    let mut index = vec![0_usize; shape.len()];
    while out.len() < data.len() {
        let at: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        out.extend_from_slice(&data[at..at + width]);
        for (i, dim) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// Strings of a fixed width, each made into an element.
fn each(
    data: &[u8],
    width: usize,
    count: usize,
    element: impl Fn(&[u8]) -> Result<Bytes, String>,
) -> Result<Vec<Bytes>, String> {
    if width == 0 {
        return Ok(vec![Bytes::new(); count]);
    }
    data.chunks_exact(width).map(element).collect()
}

/// NumPy fills the fixed width with zeros.
fn zeros_off(item: &[u8]) -> Bytes {
    let end = item.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Bytes::copy_from_slice(&item[..end])
}

/// Code points of four bytes each.
fn utf8(item: &[u8]) -> Result<Bytes, String> {
    let points = item.as_chunks::<4>().0.iter().map(|point| u32::from_le_bytes(*point));
    let text: Option<String> = points.map(char::from_u32).collect();
    let text = text.ok_or("a string has a code point that is none")?;
    Ok(Bytes::copy_from_slice(text.trim_end_matches('\0').as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Data;

    fn file(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[1, 0]);
        out.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out
    }

    fn strings(tensor: &Tensor) -> Vec<String> {
        let Data::Strings(items) = tensor.data() else { panic!("not strings") };
        items.iter().map(|item| String::from_utf8(item.to_vec()).unwrap()).collect()
    }

    #[test]
    fn every_number_type() {
        for (descr, dtype) in [
            ("|b1", DType::Bool),
            ("|i1", DType::Int8),
            ("<i2", DType::Int16),
            ("<i4", DType::Int32),
            ("<i8", DType::Int64),
            ("|u1", DType::Uint8),
            ("<u2", DType::Uint16),
            ("<u4", DType::Uint32),
            ("<u8", DType::Uint64),
            ("<f2", DType::Fp16),
            ("<f4", DType::Fp32),
            ("<f8", DType::Fp64),
        ] {
            let data: Vec<u8> = (0..2 * u8::try_from(dtype.size().unwrap()).unwrap()).map(|b| b % 2).collect();
            let tensor = read(&file(descr, "False", "(2,)", &data)).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape(), tensor.bytes().as_ref()), (dtype, &[2][..], &data[..]));
        }
    }

    #[test]
    fn orders() {
        let big: Vec<u8> = [1_f32, 2.].iter().flat_map(|v| v.to_be_bytes()).collect();
        assert_eq!(read(&file(">f4", "False", "(2,)", &big)).unwrap().to_f32().unwrap(), [1., 2.]);
        // np.asfortranarray([[1, 2, 3], [4, 5, 6]])
        let tensor = read(&file("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(tensor.bytes().as_ref(), [1, 2, 3, 4, 5, 6]);
        let tensor = read(&file("<u2", "True", "(2, 1, 2)", &[1, 0, 3, 0, 2, 0, 4, 0])).unwrap();
        assert_eq!(tensor.bytes().as_ref(), [1, 0, 2, 0, 3, 0, 4, 0]);
        assert_eq!(read(&file("<f4", "False", "()", &big[..4])).unwrap().shape(), [] as [usize; 0]);
        assert_eq!(read(&file("<f4", "True", "(0, 4)", &[])).unwrap().elements(), 0);
    }

    #[test]
    fn text() {
        let tensor = read(&file("|S3", "False", "(3,)", b"ab\0c\0\0\0\0\0")).unwrap();
        assert_eq!(strings(&tensor), ["ab", "c", ""]);
        let points: Vec<u8> = "é\0xy".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        assert_eq!(strings(&read(&file("<U2", "False", "(2,)", &points)).unwrap()), ["é", "xy"]);
        let points: Vec<u8> = "é\0xy".chars().flat_map(|c| (c as u32).to_be_bytes()).collect();
        assert_eq!(strings(&read(&file(">U2", "False", "(2,)", &points)).unwrap()), ["é", "xy"]);
        assert_eq!(strings(&read(&file("<U0", "False", "(2,)", &[])).unwrap()), ["", ""]);
        assert!(read(&file("<U1", "False", "(1,)", &[255, 255, 255, 255])).is_err());
    }

    #[test]
    fn what_is_no_tensor_is_refused() {
        for (bytes, part) in [
            (b"PK\x03\x04".to_vec(), "expected a .npy file"),
            (MAGIC.to_vec(), "not a good .npy file"),
            (file("<c8", "False", "(1,)", &[0; 8]), "got the type '<c8'"),
            (file("<f4", "False", "(2,)", &[0; 7]), "expected 8 bytes of data for shape [2], got 7"),
            (file("<f4", "False", "(9223372036854775808,)", &[]), "does not fit this machine"),
            (file("<M8[ns]", "False", "(1,)", &[0; 8]), "got the type"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        // Python objects are pickled, and are nothing that may be read.
        assert!(read(&file("|O", "False", "(1,)", &[0; 8])).is_err());
    }
}
