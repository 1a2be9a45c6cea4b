//! An [`InferResponse`] becomes an HTTP body: JSON, with the outputs that are wanted as binary behind it.

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;

use crate::{
    protocol::{ReplyForm, raw},
    types::{DType, Data, Error, InferResponse, NamedTensor, ParamValue, Params, Tensor},
};

/// The content type of a body that is all JSON.
pub const JSON: &str = "application/json";
/// The content type of a body with binary tensors.
pub const OCTETS: &str = "application/octet-stream";

/// The response parameter that counts the outputs' values which JSON has no number for.
const NONFINITE: &str = "weir_nonfinite";

/// A body and the headers that describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBody {
    /// JSON, then the binary tensors.
    pub body: Bytes,
    /// How many bytes are JSON, when binary tensors follow.
    pub header_len: Option<usize>,
    /// The content type.
    pub content_type: &'static str,
}

/// Writes an answer. Floats are written so that they read back to the same bits; NaN and infinities become `null` and are
/// counted in the parameter `weir_nonfinite`. Classification must have been applied before.
///
/// # Errors
/// `InvalidArgument` when an output that has no JSON form (FP16, BF16, BYTES that are not UTF-8) is not wanted as binary.
pub fn encode(response: &InferResponse, form: &ReplyForm) -> Result<EncodedBody, Error> {
    let is_raw: SmallVec<[bool; 4]> = response.outputs.iter().map(|output| form.is_raw_output(&output.name)).collect();
    let outputs = || response.outputs.iter().zip(is_raw.iter().copied());
    let blobs: usize = outputs().filter(|(_, raw)| *raw).map(|(output, _)| raw::encoded_len(&output.tensor)).sum();
    let texts: usize = outputs().filter(|(_, raw)| !*raw).map(|(output, _)| text_len(&output.tensor)).sum();
    let mut writer = Writer { out: Vec::with_capacity(256 + blobs + texts), nonfinite: 0 };
    writer.head(response);
    for (place, (output, raw)) in outputs().enumerate() {
        writer.raw(if place == 0 { b"" } else { b"," });
        writer.output(output, raw)?;
    }
    writer.raw(b"]");
    writer.params(&response.params);
    writer.raw(b"}");
    let json_len = writer.out.len();
    let mut out = writer.out;
    if !is_raw.contains(&true) {
        return Ok(EncodedBody { body: out.into(), header_len: None, content_type: JSON });
    }
    for (output, _) in outputs().filter(|(_, raw)| *raw) {
        raw::encode_into(&output.tensor, &mut out);
    }
    Ok(EncodedBody { body: out.into(), header_len: Some(json_len), content_type: OCTETS })
}

/// The body of an error.
pub fn error(error: &Error) -> Bytes {
    let mut writer = Writer { out: Vec::with_capacity(64 + error.text().len()), nonfinite: 0 };
    writer.raw(b"{\"error\":");
    writer.value(error.text());
    writer.raw(b"}");
    writer.out.into()
}

/// About how much text the elements become, so that the buffer seldom grows.
fn text_len(tensor: &Tensor) -> usize {
    let per_element = match tensor.dtype() {
        DType::Bytes => 3,
        DType::Fp64 => 20,
        DType::Fp32 | DType::Int64 | DType::Uint64 => 12,
        _ => 6,
    };
    128 + tensor.elements() * per_element + if tensor.dtype() == DType::Bytes { tensor.byte_len() } else { 0 }
}

/// JSON on its way out.
struct Writer {
    out: Vec<u8>,
    nonfinite: u64,
}

impl Writer {
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A text or number; both always can be written into memory.
    #[inline]
    fn value(&mut self, value: impl Serialize) {
        let written = serde_json::to_writer(&mut self.out, &value);
        debug_assert!(written.is_ok(), "texts and numbers have a JSON form");
    }

    fn head(&mut self, response: &InferResponse) {
        self.raw(b"{");
        if !response.id.is_empty() {
            self.raw(b"\"id\":");
            self.value(&*response.id);
            self.raw(b",");
        }
        self.raw(b"\"model_name\":");
        self.value(&*response.answered.model);
        self.raw(b",\"model_version\":");
        self.value(&*response.answered.version);
        self.raw(b",\"outputs\":[");
    }

    fn output(&mut self, output: &NamedTensor, is_raw: bool) -> Result<(), Error> {
        let tensor = &output.tensor;
        self.raw(b"{\"name\":");
        self.value(&*output.name);
        self.raw(b",\"datatype\":");
        self.value(tensor.dtype().as_str());
        self.raw(b",\"shape\":");
        self.value(tensor.shape());
        if is_raw {
            self.raw(b",\"parameters\":{\"binary_data_size\":");
            self.value(raw::encoded_len(tensor));
            self.raw(b"}}");
        } else {
            self.raw(b",\"data\":[");
            self.data(output)?;
            self.raw(b"]}");
        }
        Ok(())
    }

    fn data(&mut self, output: &NamedTensor) -> Result<(), Error> {
        let bytes = output.tensor.bytes();
        match output.tensor.dtype() {
            DType::Bool => self.each(bytes, |[byte]| byte != 0),
            DType::Uint8 => self.each(bytes, u8::from_le_bytes),
            DType::Uint16 => self.each(bytes, u16::from_le_bytes),
            DType::Uint32 => self.each(bytes, u32::from_le_bytes),
            DType::Uint64 => self.each(bytes, u64::from_le_bytes),
            DType::Int8 => self.each(bytes, i8::from_le_bytes),
            DType::Int16 => self.each(bytes, i16::from_le_bytes),
            DType::Int32 => self.each(bytes, i32::from_le_bytes),
            DType::Int64 => self.each(bytes, i64::from_le_bytes),
            DType::Fp32 => self.floats(bytes, f32::from_le_bytes, f32::is_finite),
            DType::Fp64 => self.floats(bytes, f64::from_le_bytes, f64::is_finite),
            DType::Bytes => return self.texts(output),
            dtype @ (DType::Fp16 | DType::Bf16) => {
                let text = "data via JSON is not supported: ask for binary data";
                return Err(Error::invalid(format!("output '{}': {dtype} {text}", output.name)));
            }
        }
        Ok(())
    }

    fn each<const N: usize, T: Serialize>(&mut self, bytes: &[u8], mut read: impl FnMut([u8; N]) -> T) {
        for (place, chunk) in bytes.as_chunks::<N>().0.iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            self.value(read(*chunk));
        }
    }

    fn floats<const N: usize, T: Serialize + Copy>(
        &mut self,
        bytes: &[u8],
        read: impl Fn([u8; N]) -> T,
        is_finite: impl Fn(T) -> bool,
    ) {
        let mut nonfinite = 0;
        self.each(bytes, |chunk| {
            let value = read(chunk);
            nonfinite += u64::from(!is_finite(value));
            value
        });
        self.nonfinite += nonfinite;
    }

    fn texts(&mut self, output: &NamedTensor) -> Result<(), Error> {
        let Data::Strings(items) = output.tensor.data() else { return Ok(()) };
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            let text = std::str::from_utf8(item).map_err(|_| {
                let name = &output.name;
                Error::invalid(format!("output '{name}': element {place} is not UTF-8: ask for binary data"))
            })?;
            self.value(text);
        }
        Ok(())
    }

    fn params(&mut self, params: &Params) {
        if params.is_empty() && self.nonfinite == 0 {
            return;
        }
        self.raw(b",\"parameters\":{");
        let count = ParamValue::Uint(self.nonfinite);
        let counted = (self.nonfinite > 0).then_some((NONFINITE, &count));
        for (place, (name, value)) in params.iter().chain(counted).enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            self.value(name);
            self.out.push(b':');
            match value {
                ParamValue::Bool(value) => self.value(value),
                ParamValue::Int(value) => self.value(value),
                ParamValue::Uint(value) => self.value(value),
                ParamValue::Double(value) => self.value(value),
                ParamValue::Text(value) => self.value(&**value),
            }
        }
        self.raw(b"}");
    }
}
