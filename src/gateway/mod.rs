//! The one door: every protocol, and every program that embeds Weir, calls models through [`Gateway`]. It resolves the name,
//! checks the request, has it run, and records it once. Handlers above it hold no state.

mod about;
mod answers;
mod asked;
mod plain;
mod tenant;
mod ticket;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    compose::{
        Call, Callable, Prediction, PredictionSink, Reply, Route, Routes, RoutesConfig, RoutesError, ScoreSink, Tables,
    },
    observe::Metrics,
    registry::{ModelEntry, Registry},
    scheduler::Answer,
    types::{
        Error, ErrorCode, InferRequest, InferResponse, NamedTensor, Params, Protocol, Readiness, RequestedOutput,
        ServerMetadata, Signature, TenantKey, Tensor, TensorSpec, VersionRef,
    },
};

pub use asked::Asked;
use asked::{Of, Question};
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
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The most rows that any request may have.
    pub max_request_rows: usize,
    /// Every model of the first scan must answer for the server to be ready.
    pub strict_readiness: bool,
    /// Start-up does not end before the routes are known: somebody will publish them in [`Gateway::tables`].
    pub expects_routes: bool,
    /// Where a request says whose it is; `None` = nobody is told apart.
    pub tenant: Option<TenantKey>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { max_request_rows: 65_536, strict_readiness: false, expects_routes: false, tenant: None }
    }
}

/// The gateway. Shared as `Arc<Gateway>`.
pub struct Gateway {
    tables: Arc<Tables>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    options: GatewayOptions,
    sink: Box<dyn PredictionSink>,
    draining: AtomicBool,
    routes: OnceLock<Arc<Routes>>,
}

impl Gateway {
    /// A gateway over a registry, following its changes.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, options: GatewayOptions) -> Arc<Self> {
        let tables = Tables::new(&registry, Arc::clone(&metrics), options.expects_routes);
        let (sink, draining) = (Box::new(ScoreSink), AtomicBool::new(false));
        Arc::new(Self { tables, registry, metrics, options, sink, draining, routes: OnceLock::new() })
    }

    /// Follows the routes of a directory from now on. Only the first call counts. Where it is going to be called,
    /// [`GatewayOptions::expects_routes`] keeps start-up from ending before it has been.
    ///
    /// # Errors
    /// As [`Routes::start`].
    pub fn follow_routes(&self, config: RoutesConfig) -> Result<(), RoutesError> {
        let tables: Arc<Tables> = Arc::clone(&self.tables);
        let routes = Routes::start(config, tables, Arc::clone(&self.registry))?;
        self.routes.get_or_init(|| routes);
        Ok(())
    }

    /// Who follows and changes the routes; `None` when nobody does.
    pub fn routes(&self) -> Option<&Arc<Routes>> {
        self.routes.get()
    }

    /// Starts the account of a request that has just been read completely.
    pub fn begin(&self, protocol: Protocol) -> Ticket<'_> {
        Ticket::new(&self.metrics, protocol)
    }

    /// Counts a request that fails before it can be answered under the name that it asked for, if something has that name.
    pub fn recognise(&self, name: &str, ticket: &mut Ticket<'_>) {
        if let Ok(node) = self.tables.load().node(name) {
            ticket.refused = Some(Arc::clone(node.refused()));
        }
    }

    /// Answers a prediction request.
    ///
    /// # Errors
    /// Any code but those of operators' writes; the text names what is wrong and what was expected.
    pub async fn infer(&self, request: InferRequest, ticket: &mut Ticket<'_>) -> Result<InferResponse, Error> {
        let asked = self.ask(request, ticket)?;
        self.answer(asked, ticket).await
    }

    /// The first half of [`Gateway::infer`]: everything that can be said at once. What is left of the request afterwards is
    /// small, and so is the future that waits for its answer.
    ///
    /// # Errors
    /// Whatever is wrong with the request.
    pub fn ask(&self, request: InferRequest, ticket: &mut Ticket<'_>) -> Result<Asked, Error> {
        match self.callable(&request.model, &request.version, ticket)? {
            Callable::Model(target) => {
                let rows = target.accept(&request, self.options.max_request_rows)?;
                let wanted = wanted(&target.servable().signature, &request.outputs)?;
                let terms = self.call(&request)?.terms(&target.servable().spec);
                ticket.rows = rows.rows;
                let InferRequest { id, context, .. } = request;
                let received = context.received;
                Ok(Asked::model(Question { target, wanted, terms, id, received }, rows))
            }
            Callable::Route(route) => Ok(Asked::route(route, request)),
        }
    }

    /// The second half: has it answered.
    ///
    /// # Errors
    /// As [`Gateway::infer`].
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps twice what it is given")]
    pub fn answer<'a>(
        &'a self,
        asked: Asked,
        ticket: &'a mut Ticket<'_>,
    ) -> impl Future<Output = Result<InferResponse, Error>> + Send + 'a {
        async move {
            match asked.0 {
                Of::Model(question, rows) => {
                    let answer = question.target.run(rows, question.terms).await?;
                    Ok(self.answered(question, answer))
                }
                // Routes are deep; in a box they do not make the future of every request as large as theirs.
                Of::Route(asked) => {
                    let (route, request) = *asked;
                    Box::pin(self.ask_route(&route, request, ticket)).await
                }
            }
        }
    }

    fn answered(&self, question: Question, answer: Answer) -> InferResponse {
        let target = &question.target;
        let (series, scores) = (target.series(), target.scores());
        self.sink.predicted(&Prediction { series, scores, outputs: &answer.outputs });
        let mut stamps = answer.stamps;
        stamps.received = question.received;
        InferResponse {
            answered: target.answered().clone(),
            id: question.id,
            params: Params::default(),
            outputs: select(&target.servable().signature, answer.outputs, question.wanted.as_deref()),
            stamps,
        }
    }

    async fn ask_route(
        &self,
        route: &Route,
        request: InferRequest,
        ticket: &mut Ticket<'_>,
    ) -> Result<InferResponse, Error> {
        let rows = route.accept(&request, self.options.max_request_rows)?;
        let wanted = wanted(route.signature(), &request.outputs)?;
        ticket.rows = rows.rows;
        let explain = answers::explain(&request.params)?;
        let call = self.call(&request)?;
        let Reply { outputs, mut stamps, facts, path } = route.run(rows, call).await?;
        stamps.received = request.context.received;
        let mut outputs = select(route.signature(), outputs, wanted.as_deref());
        if explain {
            outputs.push(answers::path(path)?);
        }
        let params = answers::params(route.live().revision.number, &facts);
        ticket.split = facts.split.and_then(|split| split.requests);
        Ok(InferResponse { answered: route.answered().clone(), id: request.id, params, outputs, stamps })
    }

    fn call<'a>(&'a self, request: &'a InferRequest) -> Result<Call<'a>, Error> {
        let call = Call::new(request, &*self.sink)?;
        Ok(self.options.tenant.as_ref().map_or(call, |key| call.of(tenant::tenant(key, request))))
    }

    fn callable(&self, name: &str, version: &VersionRef, ticket: &mut Ticket<'_>) -> Result<Callable, Error> {
        let table = self.tables.load();
        let node = table.node(name)?;
        let callable = node.callable(version).inspect_err(|_| ticket.refused = Some(Arc::clone(node.refused())))?;
        ticket.callable = Some(callable.clone());
        Ok(callable)
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
        let table = self.tables.load();
        if !table.started() || self.draining.load(Ordering::Acquire) {
            return false;
        }
        let strict = self.options.strict_readiness;
        let counts = |entry: &&Arc<ModelEntry>| entry.spec.required || (strict && entry.since_start);
        let answers =
            |entry: &Arc<ModelEntry>| entry.resolve(&VersionRef::Policy).is_ok_and(|servable| servable.works());
        table.snapshot().models.values().filter(counts).all(answers)
    }

    /// True once start-up has ended: every wanted version has been loaded or refused, and the routes have found theirs.
    pub fn started(&self) -> bool {
        self.tables.load().started()
    }

    /// Whether a model, version or route can answer.
    pub fn model_ready(&self, name: &str, version: &VersionRef) -> Readiness {
        let table = self.tables.load();
        match table.node(name).and_then(|node| node.callable(version)) {
            Ok(Callable::Model(target)) if !target.servable().works() => {
                Readiness::NotReady(format!("model '{name}': the circuit is open: its last runs have failed"))
            }
            Ok(_) if self.draining.load(Ordering::Acquire) => Readiness::NotReady("server: shutting down".to_owned()),
            Ok(_) => Readiness::Ready,
            Err(error) if error.code() == ErrorCode::NotFound => Readiness::Unknown(error.text().to_owned()),
            Err(error) => Readiness::NotReady(error.text().to_owned()),
        }
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
        &self.metrics
    }

    /// What can be called, for those who publish routes and for operators.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The registry below, for operators.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Follows changes of what is loaded and of readiness.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.tables.changed()
    }

    /// Turns readiness off. Requests that still arrive are answered: the listeners see to it that they stop arriving.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
        self.tables.touch();
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Indices of the outputs wanted, in the order asked for; `None` = all, in the model's order.
type Wanted = Option<Vec<usize>>;

fn wanted(signature: &Signature, outputs: &[RequestedOutput]) -> Result<Wanted, Error> {
    if outputs.is_empty() {
        return Ok(None);
    }
    outputs.iter().map(|output| signature.output(&output.name)).collect::<Result<_, _>>().map(Some)
}

fn select(signature: &Signature, outputs: Vec<Tensor>, wanted: Option<&[usize]>) -> Vec<NamedTensor> {
    let named = |(spec, tensor): (&TensorSpec, Tensor)| NamedTensor { name: Arc::clone(&spec.name), tensor };
    match wanted {
        None => signature.outputs.iter().zip(outputs).map(named).collect(),
        Some(wanted) => wanted
            .iter()
            .filter_map(|index| Some((signature.outputs.get(*index)?, outputs.get(*index)?.clone())))
            .map(named)
            .collect(),
    }
}
