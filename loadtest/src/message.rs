//! An encoded request: bytes that are shared by everyone who sends it, or a template into which every request writes its
//! tags. Made by `class`, sent by `grpc` and `http`.

use bytes::Bytes;

use crate::error::{Fault, Result};
use crate::tag;

/// An encoded request.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Bytes,
    place: Option<Place>,
}

/// Where the tags of a template are.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: usize,
    rows: usize,
    text: bool,
}

/// Width of a tag in JSON: `11184810.0`; shorter ones are padded with spaces in front, which JSON skips.
const TEXT_WIDTH: usize = 10;

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, place: None }
    }
}

impl Message {
    /// A template with placeholders for the tags of `rows` rows, as text or as bytes.
    ///
    /// # Errors
    /// No placeholders in it, or more than once.
    pub(crate) fn template(bytes: Bytes, rows: usize, text: bool) -> Result<Self> {
        let needle: Vec<u8> = if text {
            let numbers: Vec<String> = (0..rows).map(|row| format!("{:.1}", tag::placeholder(row))).collect();
            numbers.join(",").into()
        } else {
            (0..rows).flat_map(|row| tag::placeholder(row).to_le_bytes()).collect()
        };
        let mut found = bytes.windows(needle.len().max(1)).enumerate().filter(|(_, window)| *window == needle);
        let (Some((offset, _)), None) = (found.next(), found.next()) else {
            return Err(Fault::new("tag", "its place in the request is not clear"));
        };
        Ok(Self { bytes, place: Some(Place { offset, rows, text }) })
    }

    /// The bytes of request `number`.
    pub(crate) fn of(&self, number: u64) -> Bytes {
        let Some(place) = self.place else { return self.bytes.clone() };
        let mut bytes = self.bytes.to_vec();
        let width = if place.text { TEXT_WIDTH + 1 } else { 4 };
        for row in 0..place.rows {
            let at = place.offset + row * width;
            let value = tag::value(number, row, place.rows);
            if place.text {
                bytes[at..at + TEXT_WIDTH].copy_from_slice(format!("{value:>TEXT_WIDTH$.1}").as_bytes());
            } else {
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes.into()
    }

    /// Bytes that sending it takes beyond those that are shared.
    pub(crate) fn own_bytes(&self) -> usize {
        self.place.map_or(0, |_| self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::input::InputSpec;
    use crate::tag::Tag;
    use crate::tensor::Tensor;
    use crate::wire_grpc::ModelName;
    use crate::wire_http::HttpBody;
    use crate::{wire_grpc, wire_http};

    fn case() -> Case {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut make = |spec: &str| InputSpec::parse(spec).unwrap().tensor(&mut rng).unwrap();
        let mut case = Case { inputs: vec![make("x:FP32:3x2"), make("tag:FP32:3x1")], outputs: Vec::new() };
        Tag::parse("tag:out").unwrap().prepare(&mut case).unwrap();
        case
    }

    fn tags(inputs: &[Tensor]) -> Vec<f64> {
        inputs.iter().find(|input| input.name == "tag").unwrap().floats()
    }

    #[test]
    fn every_request_carries_its_tags_in_every_encoding() {
        let case = case();
        for typed in [false, true] {
            let frame = wire_grpc::encode(&ModelName::default(), &case, typed, &[]).unwrap();
            let message = Message::template(frame, 3, false).unwrap();
            for number in [0, 7, 5_000_000] {
                let inputs = wire_grpc::inputs_of(&message.of(number));
                assert_eq!(tags(&inputs), [0, 1, 2].map(|row| f64::from(tag::value(number, row, 3))));
                assert_eq!(inputs[0], case.inputs[0]);
            }
        }
        for binary in [false, true] {
            let body = wire_http::encode(&case, binary, &[]).unwrap();
            let message = Message::template(body.bytes.clone(), 3, !binary).unwrap();
            for number in [0, 7, 5_000_000] {
                let sent = HttpBody { bytes: message.of(number), json_length: body.json_length };
                let inputs = wire_http::inputs_of(sent);
                assert_eq!(tags(&inputs), [0, 1, 2].map(|row| f64::from(tag::value(number, row, 3))));
                assert_eq!(inputs[0], case.inputs[0]);
            }
        }
    }

    #[test]
    fn a_template_without_a_clear_place_is_refused() {
        assert!(Message::template(Bytes::from_static(b"nothing"), 1, true).is_err());
        assert!(Message::template(Bytes::from_static(b"11184810.0 11184810.0"), 1, true).is_err());
    }
}
