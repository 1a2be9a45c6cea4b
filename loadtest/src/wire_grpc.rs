//! gRPC messages: a request is encoded and framed once before the run; an answer is decoded only to be verified.
//! Used by `grpc` and `verify`.

use crate::case::Case;
use crate::error::{Fault, Result};
use crate::json::push_integer;
use crate::parameter::Parameter;
use crate::pb::model_infer_request::InferInputTensor;
use crate::pb::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::tensor::{DataType, Tensor, chunks, raw_strings};
use bytes::{BufMut as _, Bytes, BytesMut};

/// Compression flag and message length in front of every gRPC message.
const FRAME_HEAD: usize = 5;

/// Which model a request names.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelName {
    pub(crate) name: String,
    /// Empty for the server's choice.
    pub(crate) version: String,
}

impl ModelName {
    /// Where HTTP finds the model.
    pub(crate) fn path(&self) -> String {
        match self.version.as_str() {
            "" => format!("/v2/models/{}", self.name),
            version => format!("/v2/models/{}/versions/{version}", self.name),
        }
    }
}

/// A framed `ModelInferRequest` with these parameters, its elements raw or in the typed fields.
///
/// # Errors
/// A type that the typed fields cannot carry, or a message of 4 GiB and more.
pub(crate) fn encode(model: &ModelName, case: &Case, typed: bool, parameters: &[Parameter]) -> Result<Bytes> {
    let mut request = ModelInferRequest {
        model_name: model.name.clone(),
        model_version: model.version.clone(),
        parameters: parameters.iter().map(|(name, value)| (name.clone(), value.message())).collect(),
        ..Default::default()
    };
    for input in &case.inputs {
        request.inputs.push(InferInputTensor {
            name: input.name.clone(),
            datatype: input.datatype.name().to_owned(),
            shape: input.shape.clone(),
            contents: if typed { Some(contents(input)?) } else { None },
            ..Default::default()
        });
        if !typed {
            request.raw_input_contents.push(input.raw.clone());
        }
    }
    framed(&request)
}

/// A message behind its length, as gRPC sends it.
///
/// # Errors
/// 4 GiB and more.
pub(crate) fn framed(message: &impl prost::Message) -> Result<Bytes> {
    let length = u32::try_from(message.encoded_len()).map_err(|_| Fault::new("request", "message over 4 GiB"))?;
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + length as usize);
    frame.put_u8(0);
    frame.put_u32(length);
    message.encode(&mut frame).map_err(|e| Fault::new("request", e))?;
    Ok(frame.freeze())
}

/// The one message in a frame.
///
/// # Errors
/// Anything but one uncompressed message of that type.
pub(crate) fn unframed<M: prost::Message + Default>(frame: &Bytes) -> Result<M> {
    let subject = "answer";
    let head = frame.first_chunk::<FRAME_HEAD>().ok_or_else(|| Fault::new(subject, "no message"))?;
    let [compressed, length @ ..] = *head;
    let message = frame.slice(FRAME_HEAD..);
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(Fault::new(subject, "not one uncompressed message"));
    }
    M::decode(message).map_err(|e| Fault::new(subject, e))
}

/// The outputs of a framed `ModelInferResponse`.
///
/// # Errors
/// A broken frame or message, or tensors whose elements do not fit their shapes.
pub(crate) fn decode(frame: &Bytes) -> Result<Vec<Tensor>> {
    let subject = "answer";
    let response: ModelInferResponse = unframed(frame)?;
    let mut raw = response.raw_output_contents.into_iter();
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for output in response.outputs {
        let datatype = DataType::parse(&output.datatype)?;
        let elements = match (output.contents, raw.next()) {
            (None, Some(raw)) => raw,
            (contents, None) => raw_contents(datatype, &contents.unwrap_or_default())?,
            (Some(_), Some(_)) => return Err(Fault::new(subject, "typed and raw contents in one answer")),
        };
        outputs.push(Tensor::new(output.name, datatype, output.shape, elements)?);
    }
    if raw.next().is_some() {
        return Err(Fault::new(subject, "more raw contents than outputs"));
    }
    Ok(outputs)
}

fn contents(tensor: &Tensor) -> Result<InferTensorContents> {
    let raw = &tensor.raw;
    let mut contents = InferTensorContents::default();
    match tensor.datatype {
        DataType::Bool => contents.bool_contents = raw.iter().map(|byte| *byte != 0).collect(),
        DataType::Uint8 => contents.uint_contents = raw.iter().map(|byte| u32::from(*byte)).collect(),
        DataType::Uint16 => contents.uint_contents = chunks(raw).map(|b| u16::from_le_bytes(b).into()).collect(),
        DataType::Uint32 => contents.uint_contents = chunks(raw).map(u32::from_le_bytes).collect(),
        DataType::Uint64 => contents.uint64_contents = chunks(raw).map(u64::from_le_bytes).collect(),
        DataType::Int8 => contents.int_contents = chunks(raw).map(|b| i8::from_le_bytes(b).into()).collect(),
        DataType::Int16 => contents.int_contents = chunks(raw).map(|b| i16::from_le_bytes(b).into()).collect(),
        DataType::Int32 => contents.int_contents = chunks(raw).map(i32::from_le_bytes).collect(),
        DataType::Int64 => contents.int64_contents = chunks(raw).map(i64::from_le_bytes).collect(),
        DataType::Fp32 => contents.fp32_contents = chunks(raw).map(f32::from_le_bytes).collect(),
        DataType::Fp64 => contents.fp64_contents = chunks(raw).map(f64::from_le_bytes).collect(),
        DataType::Bytes => {
            contents.bytes_contents = tensor.strings()?.into_iter().map(|s| raw.slice_ref(s)).collect();
        }
        DataType::Fp16 | DataType::Bf16 => {
            let what = format!("{} has no typed form: use --protocol grpc-raw", tensor.datatype.name());
            return Err(Fault::new(format_args!("input {}", tensor.name), what));
        }
    }
    Ok(contents)
}

fn raw_contents(datatype: DataType, contents: &InferTensorContents) -> Result<Bytes> {
    let mut raw = Vec::new();
    let mut integers = |values: &mut dyn Iterator<Item = i128>| {
        for value in values {
            push_integer(datatype, value, &mut raw)
                .ok_or_else(|| Fault::new("answer", format_args!("{value} is not a {}", datatype.name())))?;
        }
        Ok(())
    };
    match datatype {
        DataType::Bool => integers(&mut contents.bool_contents.iter().map(|v| i128::from(*v)))?,
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => {
            integers(&mut contents.uint_contents.iter().map(|v| i128::from(*v)))?;
        }
        DataType::Uint64 => integers(&mut contents.uint64_contents.iter().map(|v| i128::from(*v)))?,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => {
            integers(&mut contents.int_contents.iter().map(|v| i128::from(*v)))?;
        }
        DataType::Int64 => integers(&mut contents.int64_contents.iter().map(|v| i128::from(*v)))?,
        DataType::Fp32 => raw = contents.fp32_contents.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Fp64 => raw = contents.fp64_contents.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Bytes => return raw_strings(contents.bytes_contents.iter().map(|s| &s[..])),
        DataType::Fp16 | DataType::Bf16 => {
            return Err(Fault::new("answer", format_args!("typed contents of {}", datatype.name())));
        }
    }
    Ok(raw.into())
}

/// The tensors of a framed request, for tests of what sends it.
#[cfg(test)]
pub(crate) fn inputs_of(frame: &Bytes) -> Vec<Tensor> {
    decode(&tests::mirrored(frame)).unwrap()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::input::InputSpec;
    use crate::parameter::Value;
    use crate::pb::model_infer_response::InferOutputTensor;

    fn case() -> Case {
        let types = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP32 FP64 BYTES";
        let mut rng = fastrand::Rng::with_seed(3);
        let make = |t: &str| InputSpec::parse(&format!("{t}:{t}:2x3")).unwrap().tensor(&mut rng).unwrap();
        Case { inputs: types.split(' ').map(make).collect(), outputs: Vec::new() }
    }

    /// A request turned into the answer that sends its tensors back.
    pub(super) fn mirrored(frame: &Bytes) -> Bytes {
        let request = ModelInferRequest::decode(frame.slice(FRAME_HEAD..)).unwrap();
        let mirror = |input: InferInputTensor| InferOutputTensor {
            name: input.name,
            datatype: input.datatype,
            shape: input.shape,
            contents: input.contents,
            ..Default::default()
        };
        let response = ModelInferResponse {
            outputs: request.inputs.into_iter().map(mirror).collect(),
            raw_output_contents: request.raw_input_contents,
            ..Default::default()
        };
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(response.encoded_len()).unwrap());
        response.encode(&mut frame).unwrap();
        frame.freeze()
    }

    #[test]
    fn every_type_survives_both_encodings() {
        let case = case();
        let model = ModelName { name: "m".into(), version: "2".into() };
        for typed in [false, true] {
            let frame = encode(&model, &case, typed, &[("k".to_owned(), Value::Int(3))]).unwrap();
            let request: ModelInferRequest = unframed(&frame).unwrap();
            assert_eq!((request.model_name.as_str(), request.model_version.as_str()), ("m", "2"));
            assert_eq!(request.parameters["k"], Value::Int(3).message());
            assert_eq!(decode(&mirrored(&frame)).unwrap(), case.inputs, "typed {typed}");
        }
    }

    #[test]
    fn half_floats_are_raw_only() {
        let half = InputSpec::parse("x:FP16:2").unwrap().tensor(&mut fastrand::Rng::with_seed(1)).unwrap();
        let case = Case { inputs: vec![half], outputs: Vec::new() };
        assert!(encode(&ModelName::default(), &case, false, &[]).is_ok());
        assert!(encode(&ModelName::default(), &case, true, &[]).is_err());
    }

    #[test]
    fn broken_answers_are_errors() {
        assert!(decode(&Bytes::new()).is_err());
        assert!(decode(&Bytes::from_static(&[1, 0, 0, 0, 0])).is_err());
        assert!(decode(&Bytes::from_static(&[0, 0, 0, 0, 9, 1])).is_err());
    }
}
