//! Tensors as JSON, both ways: golden files, HTTP request bodies and HTTP answers. Elements are parsed straight into
//! the raw form. Used by `case` and `wire_http`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Fault, Result};
use crate::tensor::{DataType, Tensor, chunks, push_string};

/// A tensor in a document; the elements wait as text until the data type is known.
#[derive(Debug, Deserialize)]
pub(crate) struct TensorJson<'a> {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    #[serde(borrow, default)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) parameters: Option<TensorParameters>,
}

/// The one tensor parameter that changes where the elements are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TensorParameters {
    /// Bytes of this tensor behind the JSON part of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary_data_size: Option<usize>,
}

impl TensorJson<'_> {
    /// The tensor, its elements parsed from `data`.
    ///
    /// # Errors
    /// An unknown type, missing data, an element that the type cannot hold, or a count that is not the shape's.
    pub(crate) fn tensor(self) -> Result<Tensor> {
        let datatype = DataType::parse(&self.datatype)?;
        let subject = || format!("tensor {}", self.name);
        let text = self.data.ok_or_else(|| Fault::new(subject(), "no data"))?;
        let mut out = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text.get());
        Elements { datatype, out: &mut out }.deserialize(&mut reader).map_err(|e| Fault::new(subject(), e))?;
        Tensor::new(self.name, datatype, self.shape, out.into())
    }
}

/// Appends elements to `out`, flattening nested arrays.
struct Elements<'a> {
    datatype: DataType,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.datatype.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Elements { datatype: self.datatype, out: &mut *self.out })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match self.datatype {
            DataType::Bool => self.out.push(value.into()),
            _ => return Err(E::invalid_type(de::Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.number(value.into(), value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.number(value.into(), value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        if self.datatype.is_float() {
            push_float(self.datatype, value, self.out);
            return Ok(());
        }
        Err(E::invalid_type(de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        match self.datatype {
            DataType::Bytes => push_string(self.out, value.as_bytes()).map_err(E::custom),
            _ => Err(E::invalid_type(de::Unexpected::Str(value), &self)),
        }
    }

    /// JSON has no NaN and no infinity: servers write `null` for them.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.datatype.is_float() {
            push_float(self.datatype, f64::NAN, self.out);
            return Ok(());
        }
        Err(E::invalid_type(de::Unexpected::Unit, &self))
    }
}

impl Elements<'_> {
    fn number<E: de::Error>(self, integer: i128, float: f64) -> Result<(), E> {
        if self.datatype.is_float() {
            push_float(self.datatype, float, self.out);
            return Ok(());
        }
        push_integer(self.datatype, integer, self.out)
            .ok_or_else(|| E::custom(format_args!("{integer} is not a {}", self.datatype.name())))
    }
}

/// Appends `value` rounded to a float type; nothing for other types.
pub(crate) fn push_float(datatype: DataType, value: f64, out: &mut Vec<u8>) {
    match datatype {
        DataType::Fp16 => out.extend_from_slice(&half::f16::from_f64(value).to_le_bytes()),
        DataType::Bf16 => out.extend_from_slice(&half::bf16::from_f64(value).to_le_bytes()),
        DataType::Fp32 => out.extend_from_slice(&(value as f32).to_le_bytes()),
        DataType::Fp64 => out.extend_from_slice(&value.to_le_bytes()),
        _ => {}
    }
}

/// Appends `value` as an integer type (BOOL takes 0 and 1); `None` if it does not fit.
pub(crate) fn push_integer(datatype: DataType, value: i128, out: &mut Vec<u8>) -> Option<()> {
    match datatype {
        DataType::Bool if value == 0 || value == 1 => out.push(u8::from(value == 1)),
        DataType::Uint8 => out.extend_from_slice(&u8::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint16 => out.extend_from_slice(&u16::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint32 => out.extend_from_slice(&u32::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint64 => out.extend_from_slice(&u64::try_from(value).ok()?.to_le_bytes()),
        DataType::Int8 => out.extend_from_slice(&i8::try_from(value).ok()?.to_le_bytes()),
        DataType::Int16 => out.extend_from_slice(&i16::try_from(value).ok()?.to_le_bytes()),
        DataType::Int32 => out.extend_from_slice(&i32::try_from(value).ok()?.to_le_bytes()),
        DataType::Int64 => out.extend_from_slice(&i64::try_from(value).ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

/// The elements as one flat JSON array.
///
/// # Errors
/// What JSON or the protocol's JSON form cannot carry: half floats, NaN, infinities, strings that are not UTF-8.
pub(crate) fn data_json(tensor: &Tensor) -> Result<Box<RawValue>> {
    let raw = &tensor.raw;
    let text = match tensor.datatype {
        DataType::Bool => list(raw.iter().map(|byte| *byte != 0)),
        DataType::Uint8 => list(raw.iter().copied()),
        DataType::Uint16 => list(chunks(raw).map(u16::from_le_bytes)),
        DataType::Uint32 => list(chunks(raw).map(u32::from_le_bytes)),
        DataType::Uint64 => list(chunks(raw).map(u64::from_le_bytes)),
        DataType::Int8 => list(chunks(raw).map(i8::from_le_bytes)),
        DataType::Int16 => list(chunks(raw).map(i16::from_le_bytes)),
        DataType::Int32 => list(chunks(raw).map(i32::from_le_bytes)),
        DataType::Int64 => list(chunks(raw).map(i64::from_le_bytes)),
        DataType::Fp32 => list(chunks(raw).map(f32::from_le_bytes)),
        DataType::Fp64 => list(chunks(raw).map(f64::from_le_bytes)),
        DataType::Bytes => {
            let strings: Result<Vec<&str>, _> = tensor.strings()?.into_iter().map(str::from_utf8).collect();
            list(strings.map_err(|e| Fault::new(format_args!("tensor {}", tensor.name), e))?.into_iter())
        }
        DataType::Fp16 | DataType::Bf16 => {
            let what = format!("{} has no JSON form: use a raw or binary protocol", tensor.datatype.name());
            return Err(Fault::new(format_args!("tensor {}", tensor.name), what));
        }
    };
    if tensor.floats().iter().any(|value| !value.is_finite()) {
        return Err(Fault::new(format_args!("tensor {}", tensor.name), "JSON cannot carry NaN or infinity"));
    }
    text.and_then(RawValue::from_string).map_err(|e| Fault::new(format_args!("tensor {}", tensor.name), e))
}

fn list<T: Serialize>(elements: impl Iterator<Item = T>) -> serde_json::Result<String> {
    serde_json::to_string(&elements.collect::<Vec<T>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tensor> {
        serde_json::from_str::<TensorJson<'_>>(text).map_err(|e| Fault::new("test", e))?.tensor()
    }

    #[test]
    fn nested_and_flat_data_are_the_same() {
        let flat = read(r#"{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2.5,-3,4e2]}"#).unwrap();
        let nested = read(r#"{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2.5],[-3,4e2]]}"#).unwrap();
        assert_eq!(flat, nested);
        assert_eq!(flat.floats(), [1.0, 2.5, -3.0, 400.0]);
    }

    #[test]
    fn elements_must_fit_their_type() {
        assert!(read(r#"{"name":"x","datatype":"INT8","shape":[1],"data":[127]}"#).is_ok());
        assert!(read(r#"{"name":"x","datatype":"INT8","shape":[1],"data":[128]}"#).is_err());
        assert!(read(r#"{"name":"x","datatype":"INT64","shape":[1],"data":[1.5]}"#).is_err());
        assert!(read(r#"{"name":"x","datatype":"FP32","shape":[1],"data":["a"]}"#).is_err());
        assert!(read(r#"{"name":"x","datatype":"FP32","shape":[2],"data":[1]}"#).is_err());
        assert!(read(r#"{"name":"x","datatype":"FP32","shape":[1]}"#).is_err());
    }

    #[test]
    fn null_is_nan() {
        let tensor = read(r#"{"name":"x","datatype":"FP64","shape":[1],"data":[null]}"#).unwrap();
        assert!(tensor.floats()[0].is_nan());
        assert!(data_json(&tensor).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            r#"{"name":"x","datatype":"BOOL","shape":[2],"data":[true,false]}"#,
            r#"{"name":"x","datatype":"INT64","shape":[1],"data":[-9223372036854775808]}"#,
            r#"{"name":"x","datatype":"UINT64","shape":[1],"data":[18446744073709551615]}"#,
            r#"{"name":"x","datatype":"FP32","shape":[2],"data":[0.1,1e-45]}"#,
            r#"{"name":"x","datatype":"BYTES","shape":[2],"data":["a","\"é"]}"#,
        ] {
            let tensor = read(text).unwrap();
            let again = format!(
                r#"{{"name":"x","datatype":"{}","shape":{:?},"data":{}}}"#,
                tensor.datatype.name(),
                tensor.shape,
                data_json(&tensor).unwrap().get()
            );
            assert_eq!(read(&again).unwrap(), tensor, "{text}");
        }
    }
}
