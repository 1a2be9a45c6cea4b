//! Tensors as a client has them: a name, the wire's datatype and shape, and the raw bytes of the protocol. Written and read in
//! every encoding by code of its own, so that a mistake of the server's codecs is not repeated here. Used by `ask`, `golden`
//! and every module that compares answers.

use std::fmt;

use bytes::Bytes;
use half::f16;
use serde_json::value::RawValue;
use weir::protocol::pb::InferTensorContents as Contents;

/// A named tensor. Shapes may be impossible: some tests send such.
#[derive(Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<i64>,
    /// Little-endian, row-major; BYTES elements behind a 4-byte length each.
    pub(crate) raw: Vec<u8>,
}

/// Applies a macro to every fixed-size datatype: its name, its Rust type.
macro_rules! by_dtype {
    ($dtype:expr, $with:ident, $else:expr) => {
        match &*$dtype {
            "UINT8" => $with!(u8),
            "UINT16" => $with!(u16),
            "UINT32" => $with!(u32),
            "UINT64" => $with!(u64),
            "INT8" => $with!(i8),
            "INT16" => $with!(i16),
            "INT32" => $with!(i32),
            "INT64" => $with!(i64),
            "FP32" => $with!(f32),
            "FP64" => $with!(f64),
            _ => $else,
        }
    };
}

impl Array {
    pub(crate) fn new(name: &str, dtype: &str, shape: &[i64], raw: Vec<u8>) -> Self {
        Self { name: name.to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec(), raw }
    }

    pub(crate) fn f32(name: &str, shape: &[i64], values: &[f32]) -> Self {
        Self::new(name, "FP32", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub(crate) fn i64(name: &str, shape: &[i64], values: &[i64]) -> Self {
        Self::new(name, "INT64", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub(crate) fn strings<S: AsRef<[u8]>>(name: &str, shape: &[i64], items: &[S]) -> Self {
        let mut raw = Vec::new();
        for item in items {
            raw.extend_from_slice(&u32::try_from(item.as_ref().len()).unwrap().to_le_bytes());
            raw.extend_from_slice(item.as_ref());
        }
        Self::new(name, "BYTES", shape, raw)
    }

    /// Under another name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Size of dimension 0.
    pub(crate) fn rows(&self) -> usize {
        usize::try_from(self.shape[0]).unwrap()
    }

    /// The elements of a BYTES tensor.
    pub(crate) fn items(&self) -> Vec<Vec<u8>> {
        let (mut items, mut rest) = (Vec::new(), &*self.raw);
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (item, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
            items.push(item.to_vec());
            rest = tail;
        }
        items
    }

    /// The elements of a numeric tensor; integers beyond 2^53 lose bits.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        macro_rules! read {
            ($t:ty) => {
                self.raw.as_chunks().0.iter().map(|chunk| <$t>::from_le_bytes(*chunk) as f64).collect()
            };
        }
        by_dtype!(
            self.dtype,
            read,
            match &*self.dtype {
                "BOOL" => self.raw.iter().map(|byte| f64::from(*byte)).collect(),
                "FP16" => self.raw.as_chunks().0.iter().map(|chunk| f16::from_le_bytes(*chunk).to_f64()).collect(),
                other => panic!("{other} has no numbers"),
            }
        )
    }

    /// One raw element (or row of elements) after another.
    fn chunks(&self, per_chunk: usize) -> Vec<Vec<u8>> {
        if self.dtype == "BYTES" {
            let items = self.items();
            items.chunks(per_chunk).map(|items| Self::strings("", &[], items).raw).collect()
        } else {
            let count = usize::try_from(self.shape.iter().product::<i64>()).unwrap();
            let width = self.raw.len() / count;
            self.raw.chunks(width * per_chunk).map(<[u8]>::to_vec).collect()
        }
    }

    /// Its rows as tensors of one row each.
    pub(crate) fn split(&self) -> Vec<Self> {
        let per_row = usize::try_from(self.shape[1..].iter().product::<i64>()).unwrap();
        let shape = [&[1], &self.shape[1..]].concat();
        self.chunks(per_row).into_iter().map(|raw| Self::new(&self.name, &self.dtype, &shape, raw)).collect()
    }

    /// Tensors of rows as one.
    pub(crate) fn join(parts: &[&Self]) -> Self {
        let first = parts[0];
        let rows = parts.iter().map(|part| part.shape[0]).sum();
        let shape = [&[rows], &first.shape[1..]].concat();
        Self::new(&first.name, &first.dtype, &shape, parts.iter().flat_map(|part| part.raw.clone()).collect())
    }

    /// The elements as JSON, flat. Numbers that JSON does not have are written as bare tokens, which servers must refuse.
    pub(crate) fn json_data(&self) -> String {
        macro_rules! write {
            ($t:ty) => {
                self.raw.as_chunks().0.iter().map(|chunk| format!("{:?}", <$t>::from_le_bytes(*chunk))).collect()
            };
        }
        let elements: Vec<String> = by_dtype!(
            self.dtype,
            write,
            match &*self.dtype {
                "BOOL" => self.raw.iter().map(|byte| (*byte != 0).to_string()).collect(),
                "BYTES" => self.items().iter().map(|item| json_text(item)).collect(),
                _ => self.raw.as_chunks().0.iter().map(|chunk| f16::from_le_bytes(*chunk).to_string()).collect(),
            }
        );
        format!("[{}]", elements.join(","))
    }

    /// Reads flat JSON elements; `null` becomes NaN.
    pub(crate) fn from_json(name: &str, dtype: &str, shape: &[i64], data: &[Box<RawValue>]) -> Self {
        macro_rules! read {
            ($t:ty) => {
                data.iter().flat_map(|value| number::<$t>(value.get()).to_le_bytes()).collect()
            };
        }
        let raw = by_dtype!(
            dtype,
            read,
            match dtype {
                "BOOL" => data.iter().map(|value| u8::from(value.get() == "true")).collect(),
                "BYTES" => {
                    let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).unwrap();
                    return Self::strings(name, shape, &data.iter().map(|value| text(value)).collect::<Vec<_>>());
                }
                "FP16" => {
                    data.iter().flat_map(|value| f16::from_f64(number::<f64>(value.get())).to_le_bytes()).collect()
                }
                other => panic!("datatype {other}"),
            }
        );
        Self::new(name, dtype, shape, raw)
    }

    /// gRPC's typed fields.
    pub(crate) fn typed(&self) -> Contents {
        macro_rules! read {
            ($t:ty) => {
                self.raw.as_chunks().0.iter().map(|chunk| <$t>::from_le_bytes(*chunk).into()).collect()
            };
        }
        let mut contents = Contents::default();
        match &*self.dtype {
            "BOOL" => contents.bool_contents = self.raw.iter().map(|byte| *byte != 0).collect(),
            "INT8" => contents.int_contents = read!(i8),
            "INT16" => contents.int_contents = read!(i16),
            "INT32" => contents.int_contents = read!(i32),
            "INT64" => contents.int64_contents = read!(i64),
            "UINT8" => contents.uint_contents = read!(u8),
            "UINT16" => contents.uint_contents = read!(u16),
            "UINT32" => contents.uint_contents = read!(u32),
            "UINT64" => contents.uint64_contents = read!(u64),
            "FP64" => contents.fp64_contents = read!(f64),
            "BYTES" => contents.bytes_contents = self.items().into_iter().map(Bytes::from).collect(),
            // Whatever has no field of its own goes where a careless client would put it.
            _ => contents.fp32_contents = read!(f32),
        }
        contents
    }

    /// Reads gRPC's typed fields.
    pub(crate) fn from_typed(name: &str, dtype: &str, shape: &[i64], contents: &Contents) -> Self {
        macro_rules! write {
            ($field:ident, $t:ty) => {
                contents.$field.iter().flat_map(|value| <$t>::try_from(*value).unwrap().to_le_bytes()).collect()
            };
        }
        let raw = match dtype {
            "BOOL" => contents.bool_contents.iter().map(|value| u8::from(*value)).collect(),
            "INT8" => write!(int_contents, i8),
            "INT16" => write!(int_contents, i16),
            "INT32" => write!(int_contents, i32),
            "INT64" => write!(int64_contents, i64),
            "UINT8" => write!(uint_contents, u8),
            "UINT16" => write!(uint_contents, u16),
            "UINT32" => write!(uint_contents, u32),
            "UINT64" => write!(uint64_contents, u64),
            "FP32" => contents.fp32_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
            "FP64" => contents.fp64_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
            "BYTES" => return Self::strings(name, shape, &contents.bytes_contents),
            other => panic!("{other} has no typed field"),
        };
        Self::new(name, dtype, shape, raw)
    }
}

/// A number as JSON has it, straight into its own type, so that nothing is rounded twice.
fn number<T: std::str::FromStr>(text: &str) -> T {
    let text = if text == "null" { "NaN" } else { text };
    text.parse().unwrap_or_else(|_| panic!("'{text}' is not a {}", std::any::type_name::<T>()))
}

fn json_text(item: &[u8]) -> String {
    serde_json::to_string(&String::from_utf8_lossy(item)).unwrap()
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: String = self.raw.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
        let data: String = self.json_data().chars().take(200).collect();
        write!(f, "{} {}{:?} {data} (0x{bytes})", self.name, self.dtype, self.shape)
    }
}
