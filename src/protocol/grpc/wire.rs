//! The bytes of a `ModelInferRequest` become the message, unless it would be very much larger than its bytes: on the wire an
//! empty input takes two bytes, in memory two hundred. A walk over the fields, before anything is allocated, adds up what the
//! message would take.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    protocol::pb::{self, model_infer_request as message},
    types::{Error, ErrorCode},
};

/// Memory that a message may take beyond its length.
const MAX_EXPANSION: usize = 64 << 20;

/// About what an entry of a parameter map takes.
const MAP_ENTRY: usize = 128;

/// Reads a request message. Raw contents and BYTES elements stay slices of `bytes`.
///
/// # Errors
/// `InvalidArgument` when it is no such message; `TooLarge` when it would take far more memory than its bytes.
pub fn parse(bytes: Bytes) -> Result<pb::ModelInferRequest, Error> {
    let most = bytes.len().saturating_add(MAX_EXPANSION);
    let Some(cost) = request_cost(&bytes) else {
        return Err(Error::invalid("message: groups are not supported"));
    };
    if cost > most {
        let text = format!("message: expected at most {most} bytes in memory, got {cost}");
        return Err(Error::new(ErrorCode::TooLarge, text));
    }
    pb::ModelInferRequest::decode(bytes).map_err(|error| Error::invalid(format!("message: {error}")))
}

/// Bytes that a request's parts take beyond slices of its own bytes; `None` when there is a group, which could hide parts.
fn request_cost(bytes: &[u8]) -> Option<usize> {
    sum(bytes, |number, value| match (number, value) {
        (4, Value::Bytes(_)) => Some(MAP_ENTRY),
        (5, Value::Bytes(input)) => Some(size_of::<message::InferInputTensor>() + input_cost(input)?),
        (6, Value::Bytes(output)) => Some(size_of::<message::InferRequestedOutputTensor>() + output_cost(output)?),
        (7, Value::Bytes(_)) => Some(size_of::<Bytes>()),
        _ => Some(0),
    })
}

fn input_cost(bytes: &[u8]) -> Option<usize> {
    sum(bytes, |number, value| match (number, value) {
        (3, value) => Some(varints(value, size_of::<i64>())),
        (4, Value::Bytes(_)) => Some(MAP_ENTRY),
        (5, Value::Bytes(contents)) => contents_cost(contents),
        _ => Some(0),
    })
}

fn output_cost(bytes: &[u8]) -> Option<usize> {
    sum(bytes, |number, value| Some(if matches!((number, value), (2, Value::Bytes(_))) { MAP_ENTRY } else { 0 }))
}

fn contents_cost(bytes: &[u8]) -> Option<usize> {
    sum(bytes, |number, value| {
        Some(match (number, value) {
            (1, value) => varints(value, size_of::<bool>()),
            (2 | 4, value) => varints(value, size_of::<u32>()),
            (3 | 5, value) => varints(value, size_of::<u64>()),
            (6 | 7, Value::Bytes(packed)) => packed.len(),
            (6 | 7, _) => size_of::<f64>(),
            (8, Value::Bytes(_)) => size_of::<Bytes>(),
            _ => 0,
        })
    })
}

/// What numbers take, whether they came packed or one by one.
fn varints(value: Value<'_>, size: usize) -> usize {
    match value {
        // The last byte of each number has its highest bit clear.
        Value::Bytes(packed) => packed.iter().filter(|byte| **byte < 0x80).count().saturating_mul(size),
        Value::Scalar => size,
    }
}

/// A field's value, as far as it matters here.
#[derive(Clone, Copy)]
enum Value<'m> {
    Scalar,
    Bytes(&'m [u8]),
}

/// Adds up the cost of the fields of a message. What is malformed ends the walk: the real decoder refuses it at the same place.
fn sum<'m>(mut rest: &'m [u8], mut cost: impl FnMut(u64, Value<'m>) -> Option<usize>) -> Option<usize> {
    let mut total = 0_usize;
    while let Some(tag) = varint(&mut rest) {
        let value = match tag & 7 {
            0 => varint(&mut rest).map(|_| Value::Scalar),
            1 => take(&mut rest, 8).map(|_| Value::Scalar),
            5 => take(&mut rest, 4).map(|_| Value::Scalar),
            2 => varint(&mut rest).and_then(|length| take(&mut rest, length)).map(Value::Bytes),
            3 | 4 => return None,
            _ => break,
        };
        let Some(value) = value else { break };
        total = total.saturating_add(cost(tag >> 3, value)?);
    }
    Some(total)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            *rest = &rest[place + 1..];
            return Some(value);
        }
    }
    None
}

fn take<'m>(rest: &mut &'m [u8], length: u64) -> Option<&'m [u8]> {
    let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field of bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    fn refused(bytes: Vec<u8>) -> Error {
        parse(bytes.into()).unwrap_err()
    }

    #[test]
    fn what_would_explode_is_refused_before_it_does() {
        let empty_inputs = field(5, &[]).repeat(1 << 20);
        let empty_words = field(5, &field(5, &field(8, &[]).repeat(3 << 20)));
        let small_numbers = field(5, &field(5, &field(3, &vec![1; 10 << 20])));
        let one_by_one = field(5, &field(5, &[3 << 3, 1].repeat(12 << 20)));
        let long_shape = field(5, &field(3, &vec![1; 10 << 20]));
        let parameters: Vec<u8> = (0..1_u32 << 20).flat_map(|i| field(4, &field(1, &i.to_le_bytes()))).collect();
        let outputs = field(6, &[]).repeat(1 << 20);
        let raws = field(7, &[]).repeat(3 << 20);
        for bytes in [empty_inputs, empty_words, small_numbers, one_by_one, long_shape, parameters, outputs, raws] {
            assert_eq!(refused(bytes).code(), ErrorCode::TooLarge);
        }
    }

    #[test]
    fn size_alone_is_no_reason() {
        let raw = field(7, &vec![0; 70 << 20]);
        assert_eq!(parse(raw.into()).unwrap().raw_input_contents[0].len(), 70 << 20);
        let floats = field(5, &field(5, &field(6, &vec![0; 65 << 20])));
        assert!(parse(floats.into()).is_ok());
    }

    #[test]
    fn what_is_no_message() {
        assert_eq!(refused(vec![5 << 3 | 3]).text(), "message: groups are not supported");
        assert_eq!(refused(field(5, &[1 << 3 | 3])).text(), "message: groups are not supported");
        for bytes in [vec![0x80], vec![5 << 3 | 2, 9], vec![0x0a, 1, 0xff], vec![0xff; 11], vec![0]] {
            let error = refused(bytes);
            assert_eq!(error.code(), ErrorCode::InvalidArgument);
            assert!(error.text().starts_with("message: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn otherwise_it_reads_what_the_decoder_reads(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let known = pb::ModelInferRequest::decode(&bytes[..]);
            match parse(bytes.into()) {
                Ok(message) => prop_assert_eq!(Some(message), known.ok()),
                Err(error) => prop_assert!(known.is_err() || error.text().contains("groups"), "{}", error),
            }
        }
    }
}
