//! Raw tensor bytes, the same in gRPC's raw contents and in HTTP's binary data: little-endian and row-major without padding;
//! BYTES elements each behind a 4-byte length. Used by the decoders and encoders of both protocols.

use bytes::Bytes;

use crate::types::{DType, Data, Error, ErrorCode, Shape, Tensor, element_count};

/// BYTES elements that a tensor may have. Each becomes a handle much larger than a short element is on the wire.
pub(super) const MAX_STRINGS: usize = 1 << 20;

/// Bytes of the length in front of a BYTES element.
const PREFIX: usize = 4;

/// A tensor over raw bytes. Plain elements and BYTES elements are slices of `bytes`; nothing is copied.
///
/// # Errors
/// `InvalidArgument` when the bytes are not the shape's, a BYTES length does not fit, or a BOOL is neither 0 nor 1;
/// `TooLarge` for more than 1,048,576 BYTES elements.
pub fn decode(dtype: DType, shape: Shape, bytes: Bytes) -> Result<Tensor, Error> {
    match dtype {
        DType::Bytes => strings(shape, &bytes),
        DType::Bool => {
            // An engine may hold booleans as its language's own, where any other byte is undefined behaviour.
            if let Some(bad) = bytes.iter().position(|byte| *byte > 1) {
                return Err(Error::expected(format_args!("element {bad}"), "0 or 1", bytes[bad]));
            }
            Tensor::plain(dtype, shape, bytes)
        }
        _ => Tensor::plain(dtype, shape, bytes),
    }
}

fn strings(shape: Shape, bytes: &Bytes) -> Result<Tensor, Error> {
    let expected = element_count(&shape)?;
    check_strings(expected.min(bytes.len() / PREFIX))?;
    let mut items = Vec::with_capacity(expected.min(bytes.len() / PREFIX));
    let mut at = 0;
    while at < bytes.len() {
        if items.len() == expected {
            let left = bytes.len() - at;
            return Err(Error::invalid(format!("byte size: expected {expected} elements, got {left} bytes more")));
        }
        let element = items.len();
        let Some(prefix) = bytes[at..].first_chunk::<PREFIX>() else {
            let left = bytes.len() - at;
            return Err(Error::expected(format_args!("element {element}"), "a 4-byte length", format_args!("{left}")));
        };
        at += PREFIX;
        let length = u32::from_le_bytes(*prefix) as usize;
        let left = bytes.len() - at;
        if length > left {
            let subject = format!("element {element}");
            return Err(Error::expected(subject, format_args!("{length} bytes"), left));
        }
        items.push(bytes.slice(at..at + length));
        at += length;
    }
    Tensor::strings(shape, items.into())
}

/// Checks the number of BYTES elements.
///
/// # Errors
/// `TooLarge` above [`MAX_STRINGS`].
pub(super) fn check_strings(count: usize) -> Result<(), Error> {
    if count > MAX_STRINGS {
        let text = format!("BYTES elements: expected at most {MAX_STRINGS}, got {count}");
        return Err(Error::new(ErrorCode::TooLarge, text));
    }
    Ok(())
}

/// The raw bytes of a tensor; without copying, unless it is BYTES.
pub fn encode(tensor: &Tensor) -> Bytes {
    match tensor.data() {
        Data::Plain(bytes) => bytes.clone(),
        Data::Strings(_) => {
            let mut out = Vec::with_capacity(encoded_len(tensor));
            encode_into(tensor, &mut out);
            out.into()
        }
    }
}

/// Appends the raw bytes of a tensor.
pub fn encode_into(tensor: &Tensor, out: &mut Vec<u8>) {
    match tensor.data() {
        Data::Plain(bytes) => out.extend_from_slice(bytes),
        Data::Strings(items) => {
            for item in items.iter() {
                // Elements come from messages below 4 GiB or from labels, so the length always fits.
                let length = u32::try_from(item.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&item[..length as usize]);
            }
        }
    }
}

/// How many raw bytes a tensor has.
pub fn encoded_len(tensor: &Tensor) -> usize {
    match tensor.data() {
        Data::Plain(bytes) => bytes.len(),
        Data::Strings(items) => items.iter().map(|item| PREFIX + item.len()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;

    fn text(dtype: DType, shape: &[usize], bytes: &'static [u8]) -> String {
        decode(dtype, shape.into(), Bytes::from_static(bytes)).unwrap_err().text().to_owned()
    }

    #[test]
    fn plain_is_not_copied() {
        let bytes = Bytes::from(vec![1_u8, 2, 3, 4, 5, 6, 7, 8]);
        let tensor = decode(DType::Fp32, smallvec![2], bytes.clone()).unwrap();
        assert_eq!(tensor.bytes().as_ptr(), bytes.as_ptr());
        assert_eq!(encode(&tensor).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn strings_are_slices() {
        let bytes = Bytes::from_static(b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0\0");
        let tensor = decode(DType::Bytes, smallvec![3], bytes.clone()).unwrap();
        let Data::Strings(items) = tensor.data() else { panic!("strings") };
        assert_eq!(items.iter().map(|item| &item[..]).collect::<Vec<_>>(), [&b"hi"[..], b"", b"\0"]);
        assert_eq!(items[0].as_ptr(), bytes[4..].as_ptr());
        assert_eq!(encode(&tensor), bytes);
        assert_eq!(encoded_len(&tensor), bytes.len());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(text(DType::Fp32, &[2], &[0; 7]), "byte size: expected 8, got 7");
        assert_eq!(text(DType::Bool, &[3], &[0, 1, 7]), "element 2: expected 0 or 1, got 7");
        assert_eq!(text(DType::Bytes, &[1], &[1, 0, 0]), "element 0: expected a 4-byte length, got 3");
        assert_eq!(text(DType::Bytes, &[1], &[2, 0, 0, 0, 9]), "element 0: expected 2 bytes, got 1");
        assert_eq!(text(DType::Bytes, &[1], &[255, 255, 255, 255, 9]), "element 0: expected 4294967295 bytes, got 1");
        assert_eq!(text(DType::Bytes, &[2], &[0, 0, 0, 0]), "elements: expected 2, got 1");
        assert_eq!(text(DType::Bytes, &[1], &[0; 8]), "byte size: expected 1 elements, got 4 bytes more");
        assert_eq!(text(DType::Bytes, &[0], &[0; 4]), "byte size: expected 0 elements, got 4 bytes more");
        assert_eq!(text(DType::Fp32, &[1 << 62, 4], &[]), "shape: element count overflows");
    }

    #[test]
    fn many_tiny_elements_are_refused() {
        let bytes = Bytes::from(vec![0_u8; 4 * (MAX_STRINGS + 1)]);
        let error = decode(DType::Bytes, smallvec![MAX_STRINGS + 1], bytes).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
    }

    proptest! {
        #[test]
        fn strings_round_trip(items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let items: Vec<Bytes> = items.into_iter().map(Bytes::from).collect();
            let tensor = Tensor::strings(smallvec![items.len()], items.into()).unwrap();
            let back = decode(DType::Bytes, smallvec![tensor.elements()], encode(&tensor)).unwrap();
            prop_assert_eq!(back, tensor);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            shape in proptest::collection::vec(0_usize..5, 0..4),
            dtype in proptest::sample::select(DType::ALL.to_vec()),
        ) {
            if let Ok(tensor) = decode(dtype, shape.iter().copied().collect(), Bytes::from(bytes.clone())) {
                prop_assert_eq!(encode(&tensor), bytes);
            }
        }
    }
}
