//! `grpc.health.v1` and server reflection. Health is asked of the gateway at the moment of the question; a watch follows its
//! generation and speaks when the answer has changed.

use std::{pin::Pin, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};
use tower::{Service as _, ServiceExt as _, util::BoxCloneSyncService};

use crate::{
    gateway::Gateway,
    protocol::pb::FILE_DESCRIPTOR_SET,
    transport::service::Shared,
    types::{Error, Readiness, VersionRef},
};

/// Names that stand for the whole server.
const SERVER: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// Answers `Check` and `Watch`.
pub(super) async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<tonic::body::Body> {
    let mut service = HealthServer::new(Probe(Arc::clone(&shared.gateway)));
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What `service` names: the server, a model or route, or `<model>/<version>`.
fn status(gateway: &Gateway, service: &str) -> ServingStatus {
    if SERVER.contains(&service) {
        return if gateway.ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
    }
    let (name, version) = service.split_once('/').unwrap_or((service, ""));
    let Ok(version) = VersionRef::parse(version) else { return ServingStatus::ServiceUnknown };
    match gateway.model_ready(name, &version) {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady(_) => ServingStatus::NotServing,
        Readiness::Unknown(_) => ServingStatus::ServiceUnknown,
    }
}

struct Probe(Arc<Gateway>);

#[tonic::async_trait]
impl Health for Probe {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        match status(&self.0, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("service: not known")),
            status => Ok(tonic::Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let (gateway, service) = (Arc::clone(&self.0), request.into_inner().service);
        let mut told = None;
        let changes = WatchStream::new(gateway.changed()).filter_map(move |_| {
            let status = status(&gateway, &service);
            (told.replace(status) != Some(status)).then(|| Ok(HealthCheckResponse { status: status.into() }))
        });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}

type Boxed = BoxCloneSyncService<Request<Incoming>, Response<tonic::body::Body>, std::convert::Infallible>;

/// Server reflection, v1 and v1alpha: old clients only know the latter.
pub(in crate::transport) struct Reflection {
    v1: Boxed,
    v1alpha: Boxed,
}

impl Reflection {
    /// # Errors
    /// `Internal` when the descriptors do not fit together.
    pub(in crate::transport) fn new() -> Result<Self, Error> {
        let wrong = |error| Error::internal("server: reflection", error);
        Ok(Self {
            v1: BoxCloneSyncService::new(descriptors().build_v1().map_err(wrong)?),
            v1alpha: BoxCloneSyncService::new(descriptors().build_v1alpha().map_err(wrong)?),
        })
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<tonic::body::Body> {
        let alpha = request.uri().path().starts_with("/grpc.reflection.v1alpha.");
        let service = if alpha { self.v1alpha.clone() } else { self.v1.clone() };
        match service.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// All services of the data listeners, whichever version of reflection asks.
fn descriptors() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .include_reflection_service(false)
}
