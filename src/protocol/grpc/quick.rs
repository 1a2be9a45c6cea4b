//! Plain predictions without a message in between: raw contents in, raw contents out, no parameters, no outputs named. A request
//! like that is read where its bytes lie ([`plain`]), and its answer is written straight into its frame.
//! Everything else, and everything that is wrong in any way, goes through [`parse`], [`decode`] and [`encode`], which say what;
//! the two ways agree on everything they both take. Called by the gRPC handler of `ModelInfer`.
//!
//! [`encode`]: super::encode

use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{decode, parse};
use crate::{
    protocol::{ReplyForm, params, raw},
    types::{
        DType, Error, InferRequest, InferResponse, NamedTensor, PlainRequest, RequestContext, Shape, Tensor, VersionRef,
    },
};

/// Requests of more inputs than this are not plain.
const MOST_INPUTS: usize = 16;

/// Reads a request of which `plain` is what [`plain`] made: [`parse`] and [`decode`] in one where that is nothing. When it fails,
/// `name` is the model asked for, as far as it was understood.
///
/// # Errors
/// As [`parse`] and [`decode`].
pub fn read(
    plain: Option<PlainRequest<'_>>,
    bytes: &Bytes,
    context: RequestContext,
    name: &mut String,
) -> Result<(InferRequest, ReplyForm), Error> {
    let Some(plain) = plain else {
        let message = parse(bytes.clone())?;
        name.clone_from(&message.model_name);
        return decode(message, context);
    };
    Ok((plain.request(context), ReplyForm::raw()))
}

/// An input, but for its contents.
struct Head<'m> {
    name: &'m str,
    dtype: DType,
    shape: Shape,
}

/// Reads a plain request, whose answer is to be raw; `None` when it is not plain, or not right.
pub fn plain(bytes: &Bytes) -> Option<PlainRequest<'_>> {
    let (mut model, mut version, mut id) = ("", "", "");
    let mut heads: SmallVec<[Head<'_>; 2]> = SmallVec::new();
    let mut contents: SmallVec<[&[u8]; 2]> = SmallVec::new();
    let mut rest: &[u8] = bytes;
    while let Some((field, value)) = next(&mut rest)? {
        match field {
            1 => model = str::from_utf8(value).ok()?,
            2 => version = str::from_utf8(value).ok()?,
            3 => id = str::from_utf8(value).ok()?,
            5 if heads.len() < MOST_INPUTS => heads.push(Head::of(value)?),
            7 if contents.len() < MOST_INPUTS => contents.push(value),
            _ => return None,
        }
    }
    if heads.is_empty() || heads.len() != contents.len() || params::check_id(id).is_err() {
        return None;
    }
    let version = VersionRef::parse(version).ok()?;
    let mut inputs = SmallVec::new();
    for (head, value) in heads.into_iter().zip(contents) {
        inputs.push((head.name.into(), raw::decode(head.dtype, head.shape, bytes.slice_ref(value)).ok()?));
    }
    Some(PlainRequest { model, version, id: id.into(), inputs })
}

impl<'m> Head<'m> {
    fn of(mut rest: &'m [u8]) -> Option<Self> {
        let (mut name, mut dtype) = ("", "");
        let mut shape = Shape::new();
        while let Some((field, value)) = next(&mut rest)? {
            match field {
                1 => name = str::from_utf8(value).ok()?,
                2 => dtype = str::from_utf8(value).ok()?,
                3 => dimensions(value, &mut shape)?,
                _ => return None,
            }
        }
        Some(Self { name, dtype: DType::parse(dtype)?, shape })
    }
}

/// Packed numbers that are sizes.
fn dimensions(mut packed: &[u8], shape: &mut Shape) -> Option<()> {
    while !packed.is_empty() {
        let size = i64::try_from(varint(&mut packed)?).ok()?;
        shape.push(usize::try_from(size).ok()?);
        params::check_rank(shape.len()).ok()?;
    }
    Some(())
}

/// The next field, by its number: `None` when it is not one of bytes, `Some(None)` at the end.
fn next<'m>(rest: &mut &'m [u8]) -> Option<Option<(u8, &'m [u8])>> {
    let Some((field, after)) = rest.split_first() else { return Some(None) };
    if *field & 0x87 != 2 {
        return None;
    }
    *rest = after;
    let length = usize::try_from(varint(rest)?).ok()?;
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some((*field >> 3, value)))
}

/// A number of at most nine bytes: what is longer is negative or too large for anything here.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            *rest = &rest[place + 1..];
            return Some(value);
        }
    }
    None
}

/// A plain answer: every output raw, and nothing told besides.
#[derive(Debug)]
pub struct RawAnswer<'a> {
    response: &'a InferResponse,
    length: usize,
}

impl<'a> RawAnswer<'a> {
    /// `None` when the answer is not plain.
    pub fn of(response: &'a InferResponse, form: &ReplyForm) -> Option<Self> {
        if !form.is_raw() || !response.params.is_empty() {
            return None;
        }
        let texts = [&*response.answered.model, &*response.answered.version, &*response.id];
        let texts: usize = texts.iter().map(|text| text_len(text)).sum();
        let outputs: usize = response.outputs.iter().map(|output| bytes_len(head_len(output))).sum();
        let contents: usize = response.outputs.iter().map(|output| bytes_len(raw::encoded_len(&output.tensor))).sum();
        Some(Self { response, length: texts + outputs + contents })
    }

    /// Bytes that it takes.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Appends it: the bytes of the `ModelInferResponse`.
    pub fn write(&self, out: &mut BytesMut) {
        put_text(out, 1, &self.response.answered.model);
        put_text(out, 2, &self.response.answered.version);
        put_text(out, 3, &self.response.id);
        for output in &self.response.outputs {
            put_tag(out, 5, head_len(output));
            put_text(out, 1, &output.name);
            put_text(out, 2, output.tensor.dtype().as_str());
            if !output.tensor.shape().is_empty() {
                put_tag(out, 3, shape_len(output.tensor.shape()));
                output.tensor.shape().iter().for_each(|dim| put_varint(out, *dim as u64));
            }
        }
        for output in &self.response.outputs {
            put_tag(out, 6, raw::encoded_len(&output.tensor));
            put_contents(out, &output.tensor);
        }
    }
}

fn put_contents(out: &mut BytesMut, tensor: &Tensor) {
    out.extend_from_slice(&raw::encode(tensor));
}

/// An output without its contents.
fn head_len(output: &NamedTensor) -> usize {
    let shape = output.tensor.shape();
    let dims = if shape.is_empty() { 0 } else { bytes_len(shape_len(shape)) };
    text_len(&output.name) + text_len(output.tensor.dtype().as_str()) + dims
}

fn shape_len(shape: &[usize]) -> usize {
    shape.iter().map(|dim| varint_len(*dim as u64)).sum()
}

/// A field of text: none when it is empty.
fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { bytes_len(text.len()) }
}

/// A field of bytes.
fn bytes_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

fn varint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_text(out: &mut BytesMut, field: u8, text: &str) {
    if !text.is_empty() {
        put_tag(out, field, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_tag(out: &mut BytesMut, field: u8, length: usize) {
    out.put_u8(field << 3 | 2);
    put_varint(out, length as u64);
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
#[path = "quick_tests.rs"]
mod tests;
