//! The elements of a tensor in JSON, flat or nested, read straight into a vector of their datatype: no tree of values is built.
//! Used by `golden_json`.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::types::{DType, Error, Shape, Tensor, element_count};

/// Why elements could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The text is wrong at a place.
    Json(serde_json::Error),
    /// Text and shape do not fit.
    Tensor(Error),
}

/// Reads the elements in `text` as a tensor.
///
/// # Errors
/// An element of another kind or out of the datatype's range, or a count that is not the shape's.
pub(super) fn read_tensor(dtype: DType, shape: Shape, text: &str) -> Result<Tensor, Fault> {
    let count = element_count(&shape).map_err(Fault::Tensor)?;
    match dtype {
        DType::Bool => plain::<Bit>(dtype, shape, elements::<Bit>(text, count)?),
        DType::Uint8 => plain::<u8>(dtype, shape, elements::<u8>(text, count)?),
        DType::Uint16 => plain::<u16>(dtype, shape, elements::<u16>(text, count)?),
        DType::Uint32 => plain::<u32>(dtype, shape, elements::<u32>(text, count)?),
        DType::Uint64 => plain::<u64>(dtype, shape, elements::<u64>(text, count)?),
        DType::Int8 => plain::<i8>(dtype, shape, elements::<i8>(text, count)?),
        DType::Int16 => plain::<i16>(dtype, shape, elements::<i16>(text, count)?),
        DType::Int32 => plain::<i32>(dtype, shape, elements::<i32>(text, count)?),
        DType::Int64 => plain::<i64>(dtype, shape, elements::<i64>(text, count)?),
        DType::Fp16 => plain::<f16>(dtype, shape, elements::<f16>(text, count)?),
        DType::Bf16 => plain::<bf16>(dtype, shape, elements::<bf16>(text, count)?),
        DType::Fp32 => plain::<f32>(dtype, shape, elements::<f32>(text, count)?),
        DType::Fp64 => plain::<f64>(dtype, shape, elements::<f64>(text, count)?),
        DType::Bytes => Tensor::strings(shape, elements::<Bytes>(text, count)?.into()).map_err(Fault::Tensor),
    }
}

fn plain<E: Element>(dtype: DType, shape: Shape, values: Vec<E::Stored>) -> Result<Tensor, Fault>
where
    E::Stored: bytemuck::NoUninit + Send + Sync,
{
    Tensor::from_vec(dtype, shape, values).map_err(Fault::Tensor)
}

fn elements<E: Element>(text: &str, count: usize) -> Result<Vec<E::Stored>, Fault> {
    // A claimed shape alone must not reserve memory: every element takes a digit and a separator.
    let mut values = Vec::with_capacity(count.min(text.len() / 2 + 1));
    let mut json = serde_json::Deserializer::from_str(text);
    let flatten = Flatten::<E> { values: &mut values, count, nested: false, element: PhantomData };
    flatten.deserialize(&mut json).and_then(|()| json.end()).map_err(Fault::Json)?;
    if values.len() == count {
        Ok(values)
    } else {
        let error = Error::expected("elements", format_args!("{count} as in the shape"), values.len());
        Err(Fault::Tensor(error))
    }
}

/// A JSON scalar.
#[derive(Clone, Copy)]
enum Scalar<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Null,
    Text(&'a str),
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Unsigned(number) => number.fmt(f),
            Scalar::Signed(number) => number.fmt(f),
            Scalar::Float(number) => write!(f, "{number:?}"),
            Scalar::Bool(flag) => flag.fmt(f),
            Scalar::Null => f.write_str("null"),
            Scalar::Text(text) => f.write_str(&super::problem::quoted(text)),
        }
    }
}

/// A datatype's elements.
trait Element {
    /// How one is kept.
    type Stored;
    /// What one is called in an error text.
    const WHAT: &'static str;
    /// `None` when the scalar is none of them or does not fit.
    fn read(scalar: Scalar<'_>) -> Option<Self::Stored>;
}

/// An element of a BOOL tensor, kept as a byte.
struct Bit;

impl Element for Bit {
    type Stored = u8;
    const WHAT: &'static str = "true or false";
    fn read(scalar: Scalar<'_>) -> Option<u8> {
        match scalar {
            Scalar::Bool(flag) => Some(u8::from(flag)),
            _ => None,
        }
    }
}

impl Element for Bytes {
    type Stored = Bytes;
    const WHAT: &'static str = "a string";
    fn read(scalar: Scalar<'_>) -> Option<Bytes> {
        match scalar {
            Scalar::Text(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
            _ => None,
        }
    }
}

macro_rules! integers {
    ($($integer:ty: $what:literal),* $(,)?) => {$(
        impl Element for $integer {
            type Stored = $integer;
            const WHAT: &'static str = $what;
            fn read(scalar: Scalar<'_>) -> Option<$integer> {
                match scalar {
                    Scalar::Unsigned(number) => number.try_into().ok(),
                    Scalar::Signed(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integers! {
    u8: "an integer from 0 to 255",
    u16: "an integer from 0 to 65535",
    u32: "an integer of 32 bits without sign",
    u64: "an integer of 64 bits without sign",
    i8: "an integer from -128 to 127",
    i16: "an integer from -32768 to 32767",
    i32: "an integer of 32 bits",
    i64: "an integer of 64 bits",
}

macro_rules! floats {
    ($($float:ty: $what:literal, $from:expr;)*) => {$(
        impl Element for $float {
            type Stored = $float;
            const WHAT: &'static str = $what;
            fn read(scalar: Scalar<'_>) -> Option<$float> {
                let wide = float(scalar)?;
                let from: fn(f64) -> $float = $from;
                let value = from(wide);
                // A finite number that the datatype cannot hold is a mistake, not an infinity.
                (value.is_finite() == wide.is_finite()).then_some(value)
            }
        }
    )*};
}

floats! {
    f64: "a number that FP64 holds", |wide| wide;
    f32: "a number that FP32 holds", |wide| wide as f32;
    f16: "a number that FP16 holds", f16::from_f64;
    bf16: "a number that BF16 holds", bf16::from_f64;
}

fn float(scalar: Scalar<'_>) -> Option<f64> {
    match scalar {
        Scalar::Unsigned(number) => Some(number as f64),
        Scalar::Signed(number) => Some(number as f64),
        Scalar::Float(number) => Some(number),
        Scalar::Null | Scalar::Text("NaN") => Some(f64::NAN),
        Scalar::Text("Infinity") => Some(f64::INFINITY),
        Scalar::Text("-Infinity") => Some(f64::NEG_INFINITY),
        Scalar::Text(_) | Scalar::Bool(_) => None,
    }
}

/// Pushes the scalars of nested arrays in order, at most `count` of them.
struct Flatten<'v, E: Element> {
    values: &'v mut Vec<E::Stored>,
    count: usize,
    nested: bool,
    element: PhantomData<E>,
}

impl<E: Element> Flatten<'_, E> {
    fn push<F: serde::de::Error>(self, scalar: Scalar<'_>) -> Result<(), F> {
        if !self.nested {
            return Err(F::custom(format_args!("expected an array, got {scalar}")));
        }
        let Some(value) = E::read(scalar) else {
            return Err(F::custom(format_args!("expected {}, got {scalar}", E::WHAT)));
        };
        if self.values.len() == self.count {
            return Err(F::custom(format_args!("expected {} elements as in the shape, got more", self.count)));
        }
        self.values.push(value);
        Ok(())
    }
}

impl<'de, E: Element> DeserializeSeed<'de> for Flatten<'_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, E: Element> Visitor<'de> for Flatten<'_, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(E::WHAT)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Flatten { values, count, .. } = self;
        while seq
            .next_element_seed(Flatten::<E> { values: &mut *values, count, nested: true, element: PhantomData })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_u64<F: serde::de::Error>(self, number: u64) -> Result<(), F> {
        self.push(Scalar::Unsigned(number))
    }

    fn visit_i64<F: serde::de::Error>(self, number: i64) -> Result<(), F> {
        self.push(Scalar::Signed(number))
    }

    fn visit_f64<F: serde::de::Error>(self, number: f64) -> Result<(), F> {
        self.push(Scalar::Float(number))
    }

    fn visit_bool<F: serde::de::Error>(self, flag: bool) -> Result<(), F> {
        self.push(Scalar::Bool(flag))
    }

    fn visit_unit<F: serde::de::Error>(self) -> Result<(), F> {
        self.push(Scalar::Null)
    }

    fn visit_str<F: serde::de::Error>(self, text: &str) -> Result<(), F> {
        self.push(Scalar::Text(text))
    }
}
