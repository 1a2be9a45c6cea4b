//! The one door: every protocol, and every program that embeds Weir, calls models through [`Gateway`]. It resolves the name,
//! checks the request, has it run, and records it once. Handlers above it hold no state.

mod ticket;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    compose::{Prediction, PredictionSink, ScoreSink, Table, Target},
    observe::Metrics,
    registry::{ModelEntry, Registry, Snapshot, VersionEntry},
    types::{
        Error, ErrorCode, IndexEntry, InferRequest, InferResponse, ModelConfigView, ModelMetadata, ModelState,
        ModelStatistics, NamedTensor, Params, Protocol, Readiness, RequestedOutput, ServerMetadata, Tensor, VersionRef,
    },
};

pub use ticket::Ticket;

/// Protocol extensions that work.
const EXTENSIONS: [&str; 9] = [
    "binary_tensor_data",
    "classification",
    "parameters",
    "statistics",
    "model_repository",
    "model_configuration",
    "schedule_policy",
    "trace",
    "logging",
];

/// What a gateway is told by configuration.
#[derive(Clone, Copy, Debug)]
pub struct GatewayOptions {
    /// The most rows that any request may have.
    pub max_request_rows: usize,
    /// Every model of the first scan must answer for the server to be ready.
    pub strict_readiness: bool,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { max_request_rows: 65_536, strict_readiness: false }
    }
}

/// The gateway. Shared as `Arc<Gateway>`.
pub struct Gateway {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    options: GatewayOptions,
    sink: Box<dyn PredictionSink>,
}

/// What the registry's callback writes and requests read.
struct Shared {
    table: ArcSwap<Table>,
    metrics: Arc<Metrics>,
    changed: watch::Sender<u64>,
    draining: AtomicBool,
}

impl Shared {
    fn publish(&self, snapshot: Arc<Snapshot>) {
        let table = Table::build(snapshot, Some(&self.table.load()), &self.metrics);
        self.table.store(Arc::new(table));
        self.changed.send_modify(|generation| *generation += 1);
    }
}

impl Gateway {
    /// A gateway over a registry, following its changes.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, options: GatewayOptions) -> Arc<Self> {
        let table = Table::build(registry.snapshot(), None, &metrics);
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(table),
            metrics,
            changed: watch::Sender::new(0),
            draining: AtomicBool::new(false),
        });
        let follower = Arc::downgrade(&shared);
        registry.subscribe(Box::new(move |snapshot| {
            if let Some(shared) = follower.upgrade() {
                shared.publish(snapshot);
            }
        }));
        Arc::new(Self { shared, registry, options, sink: Box::new(ScoreSink) })
    }

    /// Starts the account of a request that has just been read completely.
    pub fn begin(&self, protocol: Protocol) -> Ticket<'_> {
        Ticket::new(&self.shared.metrics, protocol)
    }

    /// Counts a request that fails before it can be answered under the name that it asked for, if something has that name.
    pub fn recognise(&self, name: &str, ticket: &mut Ticket<'_>) {
        if let Ok(node) = self.shared.table.load().node(name) {
            ticket.refused = Some(Arc::clone(node.refused()));
        }
    }

    /// Answers a prediction request.
    ///
    /// # Errors
    /// Any code but those of operators' writes; the text names what is wrong and what was expected.
    pub async fn infer(&self, request: InferRequest, ticket: &mut Ticket<'_>) -> Result<InferResponse, Error> {
        let target = self.target(&request.model, &request.version, ticket)?;
        let rows = target.accept(&request, self.options.max_request_rows)?;
        let wanted = wanted(&target, &request.outputs)?;
        let deadline = target.deadline(&request)?;
        ticket.rows = rows.rows;
        let answer = target.run(rows, deadline).await?;
        self.sink.predicted(&Prediction { target: &target, outputs: &answer.outputs });
        let mut stamps = answer.stamps;
        stamps.received = request.context.received;
        Ok(InferResponse {
            answered: target.answered().clone(),
            id: request.id,
            params: Params::default(),
            outputs: select(&target, answer.outputs, &wanted),
            stamps,
        })
    }

    fn target(&self, name: &str, version: &VersionRef, ticket: &mut Ticket<'_>) -> Result<Arc<Target>, Error> {
        let table = self.shared.table.load();
        let node = table.node(name)?;
        ticket.refused = Some(Arc::clone(node.refused()));
        let target = Arc::clone(node.target(version)?);
        ticket.target = Some(Arc::clone(&target));
        Ok(target)
    }

    /// Name, version and extensions of the server.
    pub fn server_metadata(&self) -> ServerMetadata {
        ServerMetadata { name: "weir", version: env!("CARGO_PKG_VERSION"), extensions: &EXTENSIONS }
    }

    /// True as long as the process can answer at all.
    pub fn live(&self) -> bool {
        true
    }

    /// True when start-up has ended, every required model has an answering version, and the server is not draining.
    pub fn ready(&self) -> bool {
        let table = self.shared.table.load();
        let snapshot = table.snapshot();
        if !snapshot.started || self.shared.draining.load(Ordering::Acquire) {
            return false;
        }
        let strict = self.options.strict_readiness;
        let counts = |entry: &&Arc<ModelEntry>| entry.spec.required || (strict && entry.since_start);
        snapshot.models.values().filter(counts).all(|entry| entry.resolve(&VersionRef::Policy).is_ok())
    }

    /// True once start-up has ended: every wanted version has been loaded or refused.
    pub fn started(&self) -> bool {
        self.shared.table.load().snapshot().started
    }

    /// Whether a model or version can answer.
    pub fn model_ready(&self, name: &str, version: &VersionRef) -> Readiness {
        let table = self.shared.table.load();
        let target = table.node(name).and_then(|node| node.target(version));
        match target {
            Ok(_) if self.shared.draining.load(Ordering::Acquire) => {
                Readiness::NotReady("server: shutting down".to_owned())
            }
            Ok(_) => Readiness::Ready,
            Err(error) if error.code() == ErrorCode::NotFound => Readiness::Unknown(error.text().to_owned()),
            Err(error) => Readiness::NotReady(error.text().to_owned()),
        }
    }

    /// A model's inputs, outputs and answering versions.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable`, as for a prediction.
    pub fn metadata(&self, name: &str, version: &VersionRef) -> Result<ModelMetadata, Error> {
        let table = self.shared.table.load();
        let node = table.node(name)?;
        let target = node.target(version)?;
        let ready = node.entry().versions.iter().filter(|entry| entry.state == ModelState::Ready);
        let mut versions: Vec<_> = ready.map(|entry| entry.version).collect();
        versions.sort_unstable();
        Ok(ModelMetadata {
            name: node.entry().name.shared(),
            versions: versions.iter().map(|version| version.to_string().into()).collect(),
            platform: "onnx_onnxv1",
            signature: Arc::clone(&target.servable().signature),
        })
    }

    /// What was loaded.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable`, as for a prediction.
    pub fn config(&self, name: &str, version: &VersionRef) -> Result<ModelConfigView, Error> {
        let table = self.shared.table.load();
        let target = table.node(name)?.target(version)?;
        let servable = target.servable();
        Ok(ModelConfigView {
            name: Arc::clone(&target.answered().model),
            version: Arc::clone(&target.answered().version),
            signature: Arc::clone(&servable.signature),
            versions: servable.spec.versions.clone(),
            batching: servable.spec.batching.clone(),
            max_request_rows: if target.batched() { target.max_rows(self.options.max_request_rows) } else { 0 },
            batch_limit: servable.lane.batch_limit(),
            engine: servable.engine,
            digest: Arc::clone(&servable.digest),
            merging_off: servable.lane.merging().off_because(),
            loaded_at: servable.loaded_at,
        })
    }

    /// Statistics of one version, of all versions of a model, or of everything.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable` when a name was given and does not answer.
    pub fn statistics(&self, name: Option<&str>, version: &VersionRef) -> Result<Vec<ModelStatistics>, Error> {
        let table = self.shared.table.load();
        let Some(name) = name else {
            return Ok(table.snapshot().models.values().flat_map(all_statistics).collect());
        };
        let node = table.node(name)?;
        match version {
            VersionRef::Policy => Ok(all_statistics(node.entry())),
            _ => Ok(vec![node.target(version)?.series().statistics()]),
        }
    }

    /// The repository index, by name and version.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        let table = self.shared.table.load();
        let entries = table.snapshot().models.values().flat_map(|entry| {
            let line = |version: &VersionEntry| IndexEntry {
                name: entry.name.shared(),
                version: version.version.to_string().into(),
                state: version.state,
                reason: version.reason.clone(),
            };
            let mut lines: Vec<_> = entry.versions.iter().map(line).collect();
            if let Some(problem) = Some(&entry.reason).filter(|reason| lines.is_empty() && !reason.is_empty()) {
                let (name, reason) = (entry.name.shared(), problem.clone());
                lines.push(IndexEntry { name, version: "".into(), state: ModelState::Unavailable, reason });
            }
            lines
        });
        entries.filter(|entry| !ready_only || entry.state == ModelState::Ready).collect()
    }

    /// Loads a model, under explicit model control.
    ///
    /// # Errors
    /// `Unavailable` when model control is not explicit or the load failed.
    pub async fn load(&self, name: &str) -> Result<(), Error> {
        self.registry.load(name).await
    }

    /// Unloads a model, under explicit model control.
    ///
    /// # Errors
    /// `Unavailable` when model control is not explicit.
    pub async fn unload(&self, name: &str) -> Result<(), Error> {
        self.registry.unload(name).await
    }

    /// Everything that can be seen.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// The registry below, for operators.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Follows changes of what is loaded and of readiness.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Turns readiness off. Requests that still arrive are answered: the listeners see to it that they stop arriving.
    pub fn start_draining(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.changed.send_modify(|generation| *generation += 1);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("options", &self.options).finish_non_exhaustive()
    }
}

fn all_statistics(entry: &Arc<ModelEntry>) -> Vec<ModelStatistics> {
    let servables = entry.versions.iter().filter_map(|version| version.servable.as_ref());
    servables.map(|servable| servable.series.statistics()).collect()
}

/// Indices of the outputs wanted, in the order asked for; all when none is named.
fn wanted(target: &Target, outputs: &[RequestedOutput]) -> Result<Vec<usize>, Error> {
    let signature = &target.servable().signature;
    if outputs.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    outputs.iter().map(|output| signature.output(&output.name)).collect()
}

fn select(target: &Target, outputs: Vec<Tensor>, wanted: &[usize]) -> Vec<NamedTensor> {
    let names = &target.servable().signature.outputs;
    wanted
        .iter()
        .filter_map(|index| Some((names.get(*index)?, outputs.get(*index)?)))
        .map(|(spec, tensor)| NamedTensor { name: Arc::clone(&spec.name), tensor: tensor.clone() })
        .collect()
}
