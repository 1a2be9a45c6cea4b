//! A gateway inside this process that knows one model: `weir infer --registry` asks it with the very bytes that would be sent
//! to a running one, so that both give the same answers and the same errors.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{exit::Failure, layers};
use crate::{
    app::engines,
    gateway::{Gateway, GatewayOptions},
    observe::Metrics,
    protocol::{
        ReplyForm, classification,
        json::{self, EncodedBody, views},
    },
    registry::{Control, Registry, RegistryConfig, WatchMode},
    scheduler::{Scheduler, SchedulerOptions},
    types::{Error, ErrorCode, InferRequest, Protocol, RequestContext, VersionRef},
};

/// A gateway without listeners.
#[derive(Debug)]
pub struct LocalGateway {
    gateway: Arc<Gateway>,
    scheduler: Arc<Scheduler>,
    /// Why something of the model was refused, if anything was.
    refusal: Option<Error>,
}

impl LocalGateway {
    /// Loads one model of a registry, and nothing else.
    ///
    /// # Errors
    /// When the directory cannot be read. What is wrong with the model is told to those who ask for it.
    pub async fn open(root: &Path, model: &str) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::problem(error.to_string());
        let scheduler = Scheduler::start(SchedulerOptions::default()).map_err(|error| failed(&error))?;
        let metrics = Metrics::new();
        let config = RegistryConfig { watch: WatchMode::Off, control: Control::Explicit, ..RegistryConfig::new(root) };
        let engines = engines(layers::onnxruntime_lib(&layers::Process).as_deref());
        // One answer is not worth a long look at which engine is faster.
        let engines = engines.map_err(|error| Failure::usage(error.to_string()))?.with_budget(Duration::ZERO);
        let registry = Registry::start(config, engines, Arc::clone(&scheduler), Arc::clone(&metrics))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let refusal = registry.load(model).await.err();
        let gateway = Gateway::new(registry, metrics, GatewayOptions::default());
        Ok(Self { gateway, scheduler, refusal })
    }

    /// The body of `GET /v2/models/{m}[/versions/{v}]`.
    ///
    /// # Errors
    /// As the gateway; with the reason when the model was refused.
    pub fn metadata(&self, model: &str, version: &str) -> Result<Bytes, Failure> {
        let version = VersionRef::parse(version).map_err(|error| self.explain(error))?;
        let view = self.gateway.metadata(model, &version).map_err(|error| self.explain(error))?;
        views::model_metadata(&view).map_err(|error| self.explain(error))
    }

    /// The answer of `POST /v2/models/{m}[/versions/{v}]/infer`.
    ///
    /// # Errors
    /// As the gateway; with the reason when the model was refused.
    pub async fn infer(
        &self,
        model: &str,
        version: &str,
        body: Bytes,
        header_len: Option<usize>,
    ) -> Result<EncodedBody, Failure> {
        self.answer(model, version, body, header_len).await.map_err(|error| self.explain(error))
    }

    async fn answer(
        &self,
        model: &str,
        version: &str,
        body: Bytes,
        header_len: Option<usize>,
    ) -> Result<EncodedBody, Error> {
        // Nobody reads this gateway's metrics, so how the request ended is not recorded.
        let mut ticket = self.gateway.begin(Protocol::Http);
        let (request, form) = self.decode(model, version, body, header_len)?;
        let mut answer = self.gateway.infer(request, &mut ticket).await?;
        if form.wants_classes() {
            answer = classification::apply(answer, &form, ticket.batched(), ticket.class_names())?;
        }
        json::encode(&answer, &form)
    }

    fn decode(
        &self,
        model: &str,
        version: &str,
        body: Bytes,
        header_len: Option<usize>,
    ) -> Result<(InferRequest, ReplyForm), Error> {
        let version = VersionRef::parse(version)?;
        let context = RequestContext::new(Protocol::Http, Instant::now());
        let signature = || Ok(self.gateway.metadata(model, &version)?.signature);
        json::decode(model, version.clone(), &body, header_len)?.request(context, signature)
    }

    /// The reason why the model was refused says more than that it is not ready.
    fn explain(&self, error: Error) -> Failure {
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        match (&self.refusal, error.code()) {
            (Some(refusal), ErrorCode::Unavailable | ErrorCode::NotFound) => Failure::problem(refusal.to_string()),
            _ => Failure::problem(format!("{error}{detail}")),
        }
    }
}

impl Drop for LocalGateway {
    fn drop(&mut self) {
        self.gateway.registry().shutdown();
        self.scheduler.shutdown();
    }
}
