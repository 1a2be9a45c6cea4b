//! `inference.GRPCInferenceService`, method by method. Each is a question to the gateway and its answer as a message; what a
//! call has besides is in `unary`, the one method that streams is in `stream`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, request::Parts};
use hyper::body::Incoming;

use super::{
    stream,
    unary::{Call, parse, refusal},
};
use crate::{
    gateway::Gateway,
    protocol::{
        ReplyForm,
        grpc::{self, views},
        pb,
    },
    transport::{
        body::Body,
        infer::{self, Begun, Origin},
        middleware::Echo,
        policy::Action,
        service::Shared,
    },
    types::{Error, ErrorCode, Protocol, VersionRef},
};

/// `ModelInfer`.
pub(in crate::transport) fn infer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> + Send {
    // Not an `async fn`, which would keep the request twice.
    let (Parts { headers, .. }, body) = request.into_parts();
    async move {
        let shared = &*shared;
        let call = match Call::of(&headers) {
            Ok(call) => call,
            Err(error) => {
                infer::refuse(&shared.gateway, Protocol::Grpc, "", &error);
                return refusal(Echo::of(&headers), &error);
            }
        };
        let (bytes, share) = match call.bytes(body, &shared.options.intake).await {
            Ok(taken) => taken,
            Err(error) => {
                infer::refuse(&shared.gateway, Protocol::Grpc, "", &error);
                return call.answer(Err(error));
            }
        };
        let outcome = match begin(&shared.gateway, &call, bytes, headers) {
            Ok(Begun { mut ticket, form, asked }) => {
                let outcome = shared.gateway.answer(asked, &mut ticket).await;
                infer::end(ticket, &form, outcome, |response, form| call.frame_answer(response, form))
            }
            Err(error) => Err(error),
        };
        let outcome = outcome.map(|done| {
            let mut headers = HeaderMap::with_capacity(4);
            infer::parameter_headers(&done.params, &mut headers);
            (done.answer, headers)
        });
        call.answer(outcome).map(|body| body.holding(Some(share)))
    }
}

/// Everything before the wait: in a plain request's short way, else in the long one.
fn begin<'g>(gateway: &'g Gateway, call: &Call, bytes: Bytes, headers: HeaderMap) -> Result<Begun<'g>, Error> {
    let mut ticket = gateway.begin(Protocol::Grpc);
    let mut plain = grpc::plain(&bytes);
    let asked = plain.as_mut().and_then(|plain| gateway.ask_plain(plain, call.deadline, &mut ticket));
    if let Some(asked) = asked {
        return Ok(Begun { ticket, form: ReplyForm::raw(), asked });
    }
    let origin = Origin { protocol: Protocol::Grpc, deadline: call.deadline, headers };
    infer::begin(gateway, ticket, origin, |context, name| grpc::read(plain, &bytes, context, name))
}

/// Every other method.
pub(super) async fn other(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    if method == "ModelStreamInfer" {
        return stream::answer(shared, request).await;
    }
    let (parts, body) = request.into_parts();
    let call = match Call::of(&parts.headers) {
        Ok(call) => call,
        Err(error) => return refusal(Echo::of(&parts.headers), &error),
    };
    let outcome = async {
        let (message, _share) = call.bytes(body, &shared.options.intake.small()).await?;
        Ok((reply(shared, &call, &method, message).await?, HeaderMap::new()))
    };
    let outcome = outcome.await;
    call.answer(outcome)
}

/// The framed answer of a method that is not a prediction.
async fn reply(shared: &Shared, call: &Call, method: &str, message: Bytes) -> Result<Bytes, Error> {
    let gateway = &shared.gateway;
    match method {
        "ServerLive" => call.frame(&pb::ServerLiveResponse { live: gateway.live() }),
        "ServerReady" => call.frame(&pb::ServerReadyResponse { ready: gateway.ready() }),
        "ServerMetadata" => call.frame(&views::server_metadata(&gateway.server_metadata())),
        "ModelReady" => {
            let asked: pb::ModelReadyRequest = parse(message)?;
            let readiness = gateway.model_ready(&asked.name, &VersionRef::parse(&asked.version)?);
            call.frame(&views::model_ready(&readiness))
        }
        "ModelMetadata" => {
            let asked: pb::ModelMetadataRequest = parse(message)?;
            let metadata = gateway.metadata(&asked.name, &VersionRef::parse(&asked.version)?)?;
            call.frame(&views::model_metadata(&metadata))
        }
        "ModelConfig" => {
            let asked: pb::ModelConfigRequest = parse(message)?;
            let config = gateway.config(&asked.name, &VersionRef::parse(&asked.version)?)?;
            call.frame(&views::config(&config))
        }
        "ModelStatistics" => {
            let asked: pb::ModelStatisticsRequest = parse(message)?;
            let name = Some(&*asked.name).filter(|name| !name.is_empty());
            let statistics = gateway.statistics(name, &VersionRef::parse(&asked.version)?)?;
            call.frame(&views::statistics(&statistics))
        }
        "RepositoryIndex" => {
            let asked: pb::RepositoryIndexRequest = parse(message)?;
            call.frame(&views::index(&gateway.index(asked.ready)))
        }
        "RepositoryModelLoad" => {
            let asked: pb::RepositoryModelLoadRequest = parse(message)?;
            grpc::check_control(&asked.parameters)?;
            shared.decide(Action::Control)?;
            gateway.load(&asked.model_name).await?;
            call.frame(&pb::RepositoryModelLoadResponse {})
        }
        "RepositoryModelUnload" => {
            let asked: pb::RepositoryModelUnloadRequest = parse(message)?;
            grpc::check_control(&asked.parameters)?;
            shared.decide(Action::Control)?;
            gateway.unload(&asked.model_name).await?;
            call.frame(&pb::RepositoryModelUnloadResponse {})
        }
        _ => settings(shared, call, method, message),
    }
}

fn settings(shared: &Shared, call: &Call, method: &str, message: Bytes) -> Result<Bytes, Error> {
    match method {
        "TraceSetting" => {
            let asked: pb::TraceSettingRequest = parse(message)?;
            shared.decide(if asked.settings.is_empty() { Action::Read } else { Action::WriteSettings })?;
            call.frame(&views::trace_settings())
        }
        "LogSettings" => {
            let asked: pb::LogSettingsRequest = parse(message)?;
            shared.decide(if asked.settings.is_empty() { Action::Read } else { Action::WriteSettings })?;
            call.frame(&views::log_settings(&shared.options.log_settings))
        }
        "SystemSharedMemoryStatus"
        | "SystemSharedMemoryRegister"
        | "SystemSharedMemoryUnregister"
        | "CudaSharedMemoryStatus"
        | "CudaSharedMemoryRegister"
        | "CudaSharedMemoryUnregister" => shared.decide(Action::SharedMemory).map(|()| Bytes::new()),
        _ => Err(Error::new(ErrorCode::Unimplemented, format!("method '{method}': not known"))),
    }
}
