//! Which files beside it an ONNX model keeps tensor data in. Only the names are looked for, by a walk over the encoded message
//! that copies nothing and stops at anything it does not understand: whether the file is a model at all, and whether the data
//! fits, is the engine's to say. Called by the loader, which reads the files.

use std::collections::BTreeSet;

/// Graphs inside graphs: deeper nesting is no model that anybody wrote.
const MAX_DEPTH: usize = 64;

/// Messages of the format that lead to tensors.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    SparseTensor,
    Tensor,
}

impl Message {
    /// The message in a field, when it may lead to a tensor.
    fn inside(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Message::Model, 7) | (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Model, 25) => Message::Function,
            (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Node, 5) => Message::Attribute,
            (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::SparseTensor,
            (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => Message::Tensor,
            _ => return None,
        })
    }
}

/// The field of a tensor that says where its data is, as pairs of key and value.
const EXTERNAL_DATA: u64 = 13;

/// The names of files that the model's tensors refer to, as written in the model.
pub fn external_files(model: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    walk(Message::Model, model, MAX_DEPTH, &mut names);
    names
}

fn walk(message: Message, bytes: &[u8], depth: usize, names: &mut BTreeSet<String>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for (field, content) in (Fields { bytes }) {
        match message {
            Message::Tensor if field == EXTERNAL_DATA => names.extend(location(content)),
            _ => {
                if let Some(inner) = message.inside(field) {
                    walk(inner, content, depth, names);
                }
            }
        }
    }
}

/// The value of the pair whose key is `location`.
fn location(pair: &[u8]) -> Option<String> {
    let text = |field| Fields { bytes: pair }.find(|(number, _)| *number == field).map(|(_, content)| content);
    if text(1)? != b"location" {
        return None;
    }
    String::from_utf8(text(2)?.to_vec()).ok()
}

/// The length-delimited fields of an encoded message; others are skipped, and the first malformed one ends it.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (content, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(content)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.bytes.is_empty() {
            let tag = self.varint()?;
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    return Some((tag >> 3, self.take(length)?));
                }
                5 => drop(self.take(4)?),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128);
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    /// Field numbers above 15 take two bytes.
    fn wide_field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[(number << 3 | 2) & 0x7f | 0x80, number >> 4, content.len() as u8], content].concat()
    }

    fn tensor(file: &str) -> Vec<u8> {
        let location = [field(1, b"location"), field(2, file.as_bytes())].concat();
        let offset = [field(1, b"offset"), field(2, b"16")].concat();
        // A data type (varint), a name, and where the data is.
        [vec![2 << 3, 1], field(8, b"w"), field(13, &offset), field(13, &location)].concat()
    }

    #[test]
    fn names_are_found_wherever_tensors_are() {
        let sparse = field(15, &field(1, &tensor("sparse.bin")));
        let in_loop = field(6, &field(5, &tensor("inner.bin")));
        let attributes = [field(5, &field(5, &tensor("constant.bin"))), field(5, &in_loop)].concat();
        let graph = [field(5, &tensor("w.bin")), field(5, &tensor("w.bin")), sparse].concat();
        let nodes = field(1, &attributes);
        let function = wide_field(25, &field(7, &field(5, &field(5, &tensor("f.bin")))));
        let model = [vec![8, 7], field(7, &graph), field(7, &nodes), function].concat();
        let names: Vec<_> = external_files(&model).into_iter().collect();
        assert_eq!(names, ["constant.bin", "f.bin", "inner.bin", "sparse.bin", "w.bin"]);
    }

    #[test]
    fn nesting_is_bounded() {
        let mut graph = field(5, &tensor("deep.bin"));
        for _ in 0..6 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert_eq!(external_files(&field(7, &graph)).len(), 1);
        let mut names = BTreeSet::new();
        walk(Message::Graph, &graph, 10, &mut names);
        assert!(names.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            external_files(&bytes);
        }
    }

    #[test]
    fn a_real_file_that_was_cut_off_does_no_harm() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/external-data/1/model.onnx");
        let bytes = std::fs::read(file).unwrap();
        assert_eq!(external_files(&bytes).into_iter().collect::<Vec<_>>(), ["weights.bin"]);
        for end in 0..bytes.len() {
            external_files(&bytes[..end]);
        }
    }
}
