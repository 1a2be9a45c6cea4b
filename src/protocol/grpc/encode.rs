//! An [`InferResponse`] becomes a `ModelInferResponse`, and the wrapper that streams put around it.

use std::collections::HashMap;

use crate::{
    protocol::{
        ReplyForm,
        pb::{self, infer_parameter::ParameterChoice, model_infer_response::InferOutputTensor},
        raw,
    },
    types::{DType, Data, Error, InferResponse, NamedTensor, ParamValue, Params, Tensor},
};

/// Writes an answer, raw or typed as its request was. FP16 and BF16 have no typed field, and raw contents are all or nothing:
/// one such output makes the whole answer raw. Classification must have been applied before.
pub fn encode(response: &InferResponse, form: &ReplyForm) -> pb::ModelInferResponse {
    let only_raw = |output: &NamedTensor| matches!(output.tensor.dtype(), DType::Fp16 | DType::Bf16);
    let is_raw = form.is_raw() || response.outputs.iter().any(only_raw);
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut contents = Vec::with_capacity(if is_raw { response.outputs.len() } else { 0 });
    for NamedTensor { name, tensor } in &response.outputs {
        outputs.push(InferOutputTensor {
            name: name.to_string(),
            datatype: tensor.dtype().as_str().to_owned(),
            shape: tensor.shape().iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
            parameters: HashMap::new(),
            contents: (!is_raw).then(|| typed(tensor)),
        });
        if is_raw {
            contents.push(raw::encode(tensor));
        }
    }
    pb::ModelInferResponse {
        model_name: response.answered.model.to_string(),
        model_version: response.answered.version.to_string(),
        id: response.id.to_string(),
        parameters: params(&response.params),
        outputs,
        raw_output_contents: contents,
    }
}

fn typed(tensor: &Tensor) -> pb::InferTensorContents {
    let mut contents = pb::InferTensorContents::default();
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::Bool => contents.bool_contents = bytes.iter().map(|byte| *byte != 0).collect(),
        DType::Int8 => contents.int_contents = each(bytes, |b| i32::from(i8::from_le_bytes(b))),
        DType::Int16 => contents.int_contents = each(bytes, |b| i32::from(i16::from_le_bytes(b))),
        DType::Int32 => contents.int_contents = each(bytes, i32::from_le_bytes),
        DType::Int64 => contents.int64_contents = each(bytes, i64::from_le_bytes),
        DType::Uint8 => contents.uint_contents = each(bytes, |b| u32::from(u8::from_le_bytes(b))),
        DType::Uint16 => contents.uint_contents = each(bytes, |b| u32::from(u16::from_le_bytes(b))),
        DType::Uint32 => contents.uint_contents = each(bytes, u32::from_le_bytes),
        DType::Uint64 => contents.uint64_contents = each(bytes, u64::from_le_bytes),
        DType::Fp32 => contents.fp32_contents = each(bytes, f32::from_le_bytes),
        DType::Fp64 => contents.fp64_contents = each(bytes, f64::from_le_bytes),
        DType::Bytes => {
            if let Data::Strings(items) = tensor.data() {
                contents.bytes_contents = items.to_vec();
            }
        }
        // Never asked for: an answer with one of these is raw.
        DType::Fp16 | DType::Bf16 => {}
    }
    contents
}

/// Reads the elements of plain bytes, which may be unaligned.
fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

fn params(given: &Params) -> HashMap<String, pb::InferParameter> {
    let value = |value: &ParamValue| match value {
        ParamValue::Bool(value) => ParameterChoice::BoolParam(*value),
        ParamValue::Int(value) => ParameterChoice::Int64Param(*value),
        ParamValue::Uint(value) => ParameterChoice::Uint64Param(*value),
        ParamValue::Double(value) => ParameterChoice::DoubleParam(*value),
        ParamValue::Text(value) => ParameterChoice::StringParam(value.to_string()),
    };
    let entry = |(name, given): (&str, &ParamValue)| {
        (name.to_owned(), pb::InferParameter { parameter_choice: Some(value(given)) })
    };
    given.iter().map(entry).collect()
}

/// The name by which streams mark the last answer to a request.
const FINAL: &str = "triton_final_response";

/// An answer in a stream. A request has one answer, so it is always the last; callers that ask for an empty last answer
/// (`triton_enable_empty_final_response`) get one only from models that answer several times, which there are none of.
pub fn stream_answer(mut response: pb::ModelInferResponse) -> pb::ModelStreamInferResponse {
    let value = pb::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    response.parameters.insert(FINAL.to_owned(), value);
    pb::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
}

/// A failure in a stream: the stream goes on, the message tells which request failed and why.
pub fn stream_error(error: &Error, id: &str) -> pb::ModelStreamInferResponse {
    let response = pb::ModelInferResponse { id: id.to_owned(), ..Default::default() };
    pb::ModelStreamInferResponse { error_message: error.text().to_owned(), infer_response: Some(response) }
}
