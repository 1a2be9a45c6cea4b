//! The gRPC echo: a tonic service that decodes every request and encodes a constant answer. Served by `echo`.

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::pb::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::pb::model_infer_response::InferOutputTensor;
use crate::pb::{InferTensorContents, ModelInferRequest, ModelInferResponse};

/// The service that answers every model with one FP32 output `y` of these values.
pub(crate) fn service(values: &[f32]) -> GrpcInferenceServiceServer<impl GrpcInferenceService> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let echo = EchoGrpc { values: values.to_vec(), raw: raw.into() };
    GrpcInferenceServiceServer::new(echo).max_decoding_message_size(usize::MAX)
}

struct EchoGrpc {
    values: Vec<f32>,
    raw: Bytes,
}

#[tonic::async_trait]
impl GrpcInferenceService for EchoGrpc {
    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let request = request.into_inner();
        let raw = !request.raw_input_contents.is_empty();
        let contents = (!raw).then(|| InferTensorContents { fp32_contents: self.values.clone(), ..Default::default() });
        let output = InferOutputTensor {
            name: "y".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, i64::try_from(self.values.len()).unwrap_or(i64::MAX)],
            contents,
            ..Default::default()
        };
        Ok(Response::new(ModelInferResponse {
            model_name: request.model_name,
            model_version: "1".to_owned(),
            outputs: vec![output],
            raw_output_contents: if raw { vec![self.raw.clone()] } else { Vec::new() },
            ..Default::default()
        }))
    }
}
