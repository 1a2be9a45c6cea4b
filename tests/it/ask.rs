//! One prediction request in each of the four encodings, and its answer read back to one form, so that a test can say what is
//! asked once and compare what comes back. Used by `client`.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use weir::protocol::pb::{self, infer_parameter::ParameterChoice, model_infer_request as grpc};

use crate::array::Array;

pub(crate) const HEADER_LENGTH: &str = "inference-header-content-length";

/// How a request and its answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// gRPC, typed fields.
    Typed,
    /// gRPC, raw contents.
    Raw,
    /// HTTP, JSON.
    Json,
    /// HTTP, the binary tensor extension both ways.
    Binary,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Typed, Way::Raw, Way::Json, Way::Binary];
    /// One of each protocol.
    pub(crate) const BOTH: [Way; 2] = [Way::Raw, Way::Json];
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) id: String,
    pub(crate) inputs: Vec<Array>,
    /// Outputs wanted, and how many classes of each (0 = the numbers).
    pub(crate) outputs: Vec<(String, i64)>,
    pub(crate) params: Vec<(String, Value)>,
    /// Parameters of every input.
    pub(crate) input_params: Vec<(String, Value)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) id: String,
    pub(crate) params: BTreeMap<String, Value>,
    pub(crate) outputs: Vec<Array>,
}

impl Answer {
    pub(crate) fn output(&self, name: &str) -> &Array {
        self.outputs.iter().find(|output| output.name == name).unwrap_or_else(|| panic!("no output {name}: {self:?}"))
    }
}

impl Ask {
    pub(crate) fn new(model: &str, inputs: Vec<Array>) -> Self {
        Self { model: model.to_owned(), inputs, ..Self::default() }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    pub(crate) fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    pub(crate) fn wants(mut self, outputs: &[(&str, i64)]) -> Self {
        self.outputs = outputs.iter().map(|(name, classes)| ((*name).to_owned(), *classes)).collect();
        self
    }

    pub(crate) fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn input_param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.input_params.push((name.to_owned(), value.into()));
        self
    }

    /// The request as gRPC has it.
    pub(crate) fn message(&self, raw: bool) -> pb::ModelInferRequest {
        let input = |array: &Array| grpc::InferInputTensor {
            name: array.name.clone(),
            datatype: array.dtype.clone(),
            shape: array.shape.clone(),
            parameters: parameters(&self.input_params),
            contents: (!raw).then(|| array.typed()),
        };
        let output = |(name, classes): &(String, i64)| {
            let wanted: Vec<_> =
                (*classes != 0).then(|| ("classification".to_owned(), json!(classes))).into_iter().collect();
            grpc::InferRequestedOutputTensor { name: name.clone(), parameters: parameters(&wanted) }
        };
        let contents = self.inputs.iter().filter(|_| raw).map(|array| Bytes::from(array.raw.clone()));
        pb::ModelInferRequest {
            model_name: self.model.clone(),
            model_version: self.version.clone(),
            id: self.id.clone(),
            parameters: parameters(&self.params),
            inputs: self.inputs.iter().map(input).collect(),
            outputs: self.outputs.iter().map(output).collect(),
            raw_input_contents: contents.collect(),
        }
    }

    /// The path of the request over HTTP.
    pub(crate) fn path(&self) -> String {
        match &*self.version {
            "" => format!("/v2/models/{}/infer", self.model),
            version => format!("/v2/models/{}/versions/{version}/infer", self.model),
        }
    }

    /// Body over HTTP, and how many bytes of it are JSON when tensors follow.
    pub(crate) fn body(&self, binary: bool) -> (Vec<u8>, Option<usize>) {
        let mut blobs = Vec::new();
        let mut inputs = Vec::new();
        for array in &self.inputs {
            let mut params: serde_json::Map<String, Value> = self.input_params.iter().cloned().collect();
            let data = if binary {
                blobs.extend_from_slice(&array.raw);
                params.insert("binary_data_size".to_owned(), json!(array.raw.len()));
                String::new()
            } else {
                format!(",\"data\":{}", array.json_data())
            };
            let (name, dtype, shape) = (json!(array.name), json!(array.dtype), json!(array.shape));
            let params = if params.is_empty() { String::new() } else { format!(",\"parameters\":{}", json!(params)) };
            inputs.push(format!("{{\"name\":{name},\"datatype\":{dtype},\"shape\":{shape}{params}{data}}}"));
        }
        let mut params: serde_json::Map<String, Value> = self.params.iter().cloned().collect();
        if binary {
            params.insert("binary_data_output".to_owned(), json!(true));
        }
        let output = |(name, classes): &(String, i64)| match classes {
            0 => json!({ "name": name }),
            classes => json!({ "name": name, "parameters": { "classification": classes } }),
        };
        let outputs: Vec<Value> = self.outputs.iter().map(output).collect();
        let mut text = format!("{{\"inputs\":[{}]", inputs.join(","));
        for (key, value, given) in [
            ("id", json!(self.id), !self.id.is_empty()),
            ("parameters", json!(params), !params.is_empty()),
            ("outputs", json!(outputs), !outputs.is_empty()),
        ] {
            if given {
                text += &format!(",\"{key}\":{value}");
            }
        }
        text.push('}');
        let json_len = binary.then_some(text.len());
        (text.into_bytes().into_iter().chain(blobs).collect(), json_len)
    }
}

fn parameters(given: &[(String, Value)]) -> HashMap<String, pb::InferParameter> {
    let choice = |value: &Value| match value {
        Value::Bool(value) => ParameterChoice::BoolParam(*value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => ParameterChoice::Int64Param(value),
            None => ParameterChoice::DoubleParam(number.as_f64().unwrap()),
        },
        other => ParameterChoice::StringParam(other.as_str().unwrap().to_owned()),
    };
    let one =
        |(name, value): &(String, Value)| (name.clone(), pb::InferParameter { parameter_choice: Some(choice(value)) });
    given.iter().map(one).collect()
}

fn parameter(value: &pb::InferParameter) -> Value {
    match value.parameter_choice.as_ref().unwrap() {
        ParameterChoice::BoolParam(value) => json!(value),
        ParameterChoice::Int64Param(value) => json!(value),
        ParameterChoice::Uint64Param(value) => json!(value),
        ParameterChoice::DoubleParam(value) => json!(value),
        ParameterChoice::StringParam(value) => json!(value),
    }
}

/// Reads an answer over gRPC. Whether it is raw must be what the request was.
pub(crate) fn from_message(message: pb::ModelInferResponse, raw: bool) -> Answer {
    let contents = message.raw_output_contents;
    assert_eq!(contents.len(), if raw { message.outputs.len() } else { 0 }, "raw in, raw out; typed in, typed out");
    let outputs = message.outputs.into_iter().enumerate().map(|(place, output)| {
        assert!(!raw || output.contents.is_none(), "output '{}' is there twice", output.name);
        match contents.get(place) {
            Some(bytes) => Array::new(&output.name, &output.datatype, &output.shape, bytes.to_vec()),
            None => {
                let typed = output.contents.unwrap_or_default();
                Array::from_typed(&output.name, &output.datatype, &output.shape, &typed)
            }
        }
    });
    Answer {
        model: message.model_name,
        version: message.model_version,
        id: message.id,
        outputs: outputs.collect(),
        params: message.parameters.iter().map(|(name, value)| (name.clone(), parameter(value))).collect(),
    }
}

#[derive(Deserialize)]
struct Body {
    model_name: String,
    model_version: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    data: Option<Vec<Box<RawValue>>>,
}

/// Reads an answer over HTTP; it must be valid JSON, with exactly the binary data that it announces.
pub(crate) fn from_body(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    assert_eq!(status, StatusCode::OK);
    let json_len = headers.get(HEADER_LENGTH).map_or(body.len(), |value| value.to_str().unwrap().parse().unwrap());
    let (text, mut blobs) = body.split_at(json_len);
    let content_type = if blobs.is_empty() { "application/json" } else { "application/octet-stream" };
    assert_eq!(headers["content-type"], content_type);
    let parsed: Body =
        serde_json::from_slice(text).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(text)));
    let outputs = parsed.outputs.into_iter().map(|output| match output.data {
        Some(data) => Array::from_json(&output.name, &output.datatype, &output.shape, &data),
        None => {
            let size = usize::try_from(output.parameters["binary_data_size"].as_u64().unwrap()).unwrap();
            let (blob, rest) = blobs.split_at(size);
            blobs = rest;
            Array::new(&output.name, &output.datatype, &output.shape, blob.to_vec())
        }
    });
    let outputs = outputs.collect();
    assert!(blobs.is_empty(), "bytes that no output announces");
    Answer {
        model: parsed.model_name,
        version: parsed.model_version,
        id: parsed.id,
        params: parsed.parameters,
        outputs,
    }
}
