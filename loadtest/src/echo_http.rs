//! The HTTP echo: a hyper service that parses every body into typed structs and serialises a constant answer, as JSON
//! or with a binary tensor as it was asked. Served by `echo`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use serde::{Deserialize, Serialize};

use crate::json::TensorParameters;
use crate::tensor::element_count;
use crate::wire_http::JSON_LENGTH_HEADER;

/// Answers every path with one FP32 output `y`. A clone per connection shares the values.
#[derive(Debug, Clone)]
pub(crate) struct EchoHttp {
    values: Arc<[f32]>,
}

#[derive(Deserialize)]
struct RequestJson {
    inputs: Vec<InputJson>,
}

#[derive(Deserialize)]
struct InputJson {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    data: Vec<f32>,
}

#[derive(Serialize)]
struct AnswerJson<'a> {
    model_name: &'static str,
    model_version: &'static str,
    outputs: [OutputJson<'a>; 1],
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'static str,
    shape: [usize; 2],
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<TensorParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a [f32]>,
}

impl EchoHttp {
    pub(crate) fn new(values: &[f32]) -> Self {
        Self { values: values.into() }
    }

    /// The answer to a body of which `json_length` bytes are JSON (all of them if `None`), or what is wrong with it.
    fn answer(&self, body: &Bytes, json_length: Option<usize>) -> Result<(Vec<u8>, Option<usize>), String> {
        let json = body.get(..json_length.unwrap_or(body.len())).ok_or("body: shorter than its JSON")?;
        let request: RequestJson = serde_json::from_slice(json).map_err(|e| format!("body: {e}"))?;
        for input in &request.inputs {
            let fits = json_length.is_some() || element_count(&input.shape) == Some(input.data.len());
            if !fits {
                return Err(format!("input {}: {} data does not fit the shape", input.name, input.datatype));
            }
        }
        let binary = json_length.is_some();
        let size = TensorParameters { binary_data_size: Some(self.values.len() * 4) };
        let output = OutputJson {
            name: "y",
            shape: [1, self.values.len()],
            datatype: "FP32",
            parameters: binary.then_some(size),
            data: (!binary).then_some(&self.values),
        };
        let answer = AnswerJson { model_name: "echo", model_version: "1", outputs: [output] };
        let mut bytes = serde_json::to_vec(&answer).map_err(|e| format!("answer: {e}"))?;
        let json_length = binary.then_some(bytes.len());
        if binary {
            bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok((bytes, json_length))
    }

    async fn handle(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let length = request.headers().get(JSON_LENGTH_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = request.into_body().collect().await?.to_bytes();
        let mut response = Response::new(Full::default());
        match self.answer(&body, length) {
            Ok((bytes, json_length)) => {
                let kind = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
                response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
                if let Some(length) = json_length {
                    response.headers_mut().insert(JSON_LENGTH_HEADER, length.into());
                }
                *response.body_mut() = Full::new(bytes.into());
            }
            Err(what) => {
                *response.status_mut() = StatusCode::BAD_REQUEST;
                *response.body_mut() = Full::new(serde_json::json!({ "error": what }).to_string().into());
            }
        }
        Ok(response)
    }
}

impl Service<Request<Incoming>> for EchoHttp {
    type Response = Response<Full<Bytes>>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.clone().handle(request))
    }
}
