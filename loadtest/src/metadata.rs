//! Asks a server what inputs a model wants, for runs that name none. Used by `prepare`.

use serde::Deserialize;

use crate::error::{Fault, Result};
use crate::grpc::{GrpcClient, METADATA};
use crate::http;
use crate::input::InputSpec;
use crate::pb::{ModelMetadataRequest, ModelMetadataResponse};
use crate::sender::{Call, Failure};
use crate::target::{Protocol, Target};
use crate::tensor::DataType;
use crate::wire_grpc::{framed, unframed};

#[derive(Debug, Deserialize)]
struct MetadataJson {
    inputs: Vec<InputJson>,
}

#[derive(Debug, Deserialize)]
struct InputJson {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// Random inputs of the shapes that the model's metadata names; dimensions that are free become 1.
///
/// # Errors
/// A server that does not tell, or types that are not of the protocol.
pub(crate) async fn inputs(target: &Target) -> Result<Vec<InputSpec>> {
    let subject = format!("{}: metadata of {}", target.authority, target.model.name);
    let fault = |failure: Failure| Fault::new(&subject, format_args!("{}: {}", failure.code, failure.text));
    let inputs: Vec<InputJson> = match target.protocol {
        Protocol::GrpcRaw | Protocol::GrpcTyped => {
            let (name, version) = (target.model.name.clone(), target.model.version.clone());
            let question = framed(&ModelMetadataRequest { name, version })?;
            let target = Target { connections: 1, ..target.clone() };
            let client = GrpcClient::new(target, METADATA, vec![question.into()], None)?;
            let answer = client.send(Call { case: 0, number: 0 }).await.map_err(fault)?;
            let metadata: ModelMetadataResponse = unframed(&answer)?;
            let input = |tensor: crate::pb::model_metadata_response::TensorMetadata| InputJson {
                name: tensor.name,
                datatype: tensor.datatype,
                shape: tensor.shape,
            };
            metadata.inputs.into_iter().map(input).collect()
        }
        Protocol::HttpJson | Protocol::HttpBinary => {
            let body = http::get(target, &target.model.path()).await.map_err(fault)?;
            let metadata: MetadataJson = serde_json::from_slice(&body).map_err(|e| Fault::new(&subject, e))?;
            metadata.inputs
        }
    };
    let spec = |input: InputJson| {
        let shape = input.shape.into_iter().map(|dimension| dimension.max(1)).collect();
        Ok(InputSpec::Random { name: input.name, datatype: DataType::parse(&input.datatype)?, shape })
    };
    inputs.into_iter().map(spec).collect()
}
