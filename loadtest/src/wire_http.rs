//! HTTP bodies: a request is encoded once before the run; an answer is decoded only to be verified. JSON, and JSON
//! followed by binary tensors. Used by `http` and `verify`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::case::Case;
use crate::error::{Fault, Result};
use crate::json::{TensorJson, TensorParameters, data_json};
use crate::parameter::{Parameter, Value};
use crate::tensor::{DataType, Tensor};

/// Says how many bytes of a body are JSON; what follows is binary tensors.
pub(crate) const JSON_LENGTH_HEADER: &str = "inference-header-content-length";

/// A request body and, if binary tensors follow the JSON, the length of the JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpBody {
    pub(crate) bytes: Bytes,
    pub(crate) json_length: Option<usize>,
}

#[derive(Serialize)]
struct RequestJson<'a> {
    inputs: Vec<InputJson<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'a str, &'a Value>,
}

#[derive(Serialize)]
struct InputJson<'a> {
    name: &'a str,
    shape: &'a [i64],
    datatype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<TensorParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct AnswerJson<'a> {
    #[serde(borrow)]
    outputs: Vec<TensorJson<'a>>,
}

/// The body of an infer request with these parameters, elements as JSON or as binary tensors.
///
/// # Errors
/// Elements that JSON cannot carry.
pub(crate) fn encode(case: &Case, binary: bool, parameters: &[Parameter]) -> Result<HttpBody> {
    let mut inputs = Vec::with_capacity(case.inputs.len());
    for input in &case.inputs {
        let size = TensorParameters { binary_data_size: Some(input.raw.len()) };
        inputs.push(InputJson {
            name: &input.name,
            shape: &input.shape,
            datatype: input.datatype.name(),
            parameters: binary.then_some(size),
            data: if binary { None } else { Some(data_json(input)?) },
        });
    }
    let mut parameters: BTreeMap<&str, &Value> =
        parameters.iter().map(|(name, value)| (name.as_str(), value)).collect();
    if binary {
        parameters.insert("binary_data_output", &Value::Bool(true));
    }
    let request = RequestJson { inputs, parameters };
    let mut bytes = serde_json::to_vec(&request).map_err(|e| Fault::new("request", e))?;
    let json_length = binary.then_some(bytes.len());
    if binary {
        case.inputs.iter().for_each(|input| bytes.extend_from_slice(&input.raw));
    }
    Ok(HttpBody { bytes: bytes.into(), json_length })
}

/// The outputs of an answer.
///
/// # Errors
/// A body that is not an answer, or tensors whose elements do not fit their shapes.
pub(crate) fn decode(body: &HttpBody) -> Result<Vec<Tensor>> {
    let subject = "answer";
    let json_length = body.json_length.unwrap_or(body.bytes.len());
    let (json, _) = body.bytes.split_at_checked(json_length).ok_or_else(|| Fault::new(subject, "JSON past the end"))?;
    let answer: AnswerJson<'_> = serde_json::from_slice(json).map_err(|e| Fault::new(subject, e))?;
    let mut at = json_length;
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for output in answer.outputs {
        let Some(size) = output.parameters.as_ref().and_then(|parameters| parameters.binary_data_size) else {
            outputs.push(output.tensor()?);
            continue;
        };
        let end = at.checked_add(size).filter(|end| *end <= body.bytes.len());
        let end = end.ok_or_else(|| Fault::new(subject, "binary tensor past the end"))?;
        let datatype = DataType::parse(&output.datatype)?;
        outputs.push(Tensor::new(output.name, datatype, output.shape, body.bytes.slice(at..end))?);
        at = end;
    }
    if at == body.bytes.len() {
        return Ok(outputs);
    }
    Err(Fault::new(subject, format_args!("{} bytes left over", body.bytes.len() - at)))
}

/// The tensors of a request body, for tests of what sends it.
#[cfg(test)]
pub(crate) fn inputs_of(body: HttpBody) -> Vec<Tensor> {
    decode(&tests::mirrored(body)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::InputSpec;

    fn case() -> Case {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut make = |t: &str| InputSpec::parse(&format!("{t}:{t}:2x3")).unwrap().tensor(&mut rng).unwrap();
        Case { inputs: ["FP32", "INT64", "BYTES", "BOOL"].map(&mut make).to_vec(), outputs: Vec::new() }
    }

    /// A request turned into the answer that sends its tensors back.
    pub(super) fn mirrored(mut body: HttpBody) -> HttpBody {
        let length = body.json_length.unwrap_or(body.bytes.len());
        let json = str::from_utf8(&body.bytes[..length]).unwrap().replacen("inputs", "outputs", 1);
        body.json_length = body.json_length.map(|_| json.len());
        body.bytes = [json.as_bytes(), &body.bytes[length..]].concat().into();
        body
    }

    #[test]
    fn both_encodings_carry_every_tensor() {
        for binary in [false, true] {
            let body = encode(&case(), binary, &[("k".to_owned(), Value::Int(3))]).unwrap();
            assert!(String::from_utf8_lossy(&body.bytes).contains(r#""k":3"#));
            assert_eq!(body.json_length.is_some(), binary);
            assert_eq!(decode(&mirrored(body)).unwrap(), case().inputs, "binary {binary}");
        }
    }

    #[test]
    fn cut_off_answers_are_errors() {
        let mut body = mirrored(encode(&case(), true, &[]).unwrap());
        body.bytes.truncate(body.bytes.len() - 1);
        assert!(decode(&body).is_err());
        body.json_length = Some(body.bytes.len() + 1);
        assert!(decode(&body).is_err());
        assert!(decode(&HttpBody { bytes: Bytes::from_static(b"{}"), json_length: None }).is_err());
    }
}
