//! From options to a running server and back: addresses are bound before a model is loaded, so that health answers from the
//! first moment and a wrong port costs no time.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use super::{
    ModelControl, ServeOptions, Watch, descriptors, engines_and_library,
    probe::{ProbeOptions, Probes},
    ready_file,
};
use crate::{
    compose::RoutesConfig,
    engine::LoadProbe,
    gateway::{Gateway, GatewayOptions},
    observe::Metrics,
    protocol::settings::LogSettings,
    registry::{Control, Registry, RegistryConfig, WatchMode},
    scheduler::{Scheduler, SchedulerOptions},
    shutdown::{self, Phases, Signals},
    transport::{Budget, DataOptions, DataService, Endpoint, Intake, Limits, OpsOptions, OpsService, Server, Tokens},
};

/// Connections that the ops listener serves at once.
const OPS_CONNECTIONS: usize = 256;
/// Bytes of the bodies that it takes in at once.
const OPS_BODIES: usize = 16 << 20;
/// How long a peer may take for each KiB of a body.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Why a server did not start. The text names the option and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    pub(super) fn new(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// Where a server listens; unspecified binds are written as loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP (and gRPC).
    pub http: SocketAddr,
    /// gRPC (and HTTP).
    pub grpc: SocketAddr,
    /// Metrics, health and operators.
    pub ops: SocketAddr,
}

/// A server that listens.
#[derive(Debug)]
pub struct App {
    options: ServeOptions,
    addresses: Addresses,
    gateway: Arc<Gateway>,
    registry: Arc<Registry>,
    scheduler: Arc<Scheduler>,
    probes: Arc<Probes>,
    server: Server,
}

impl App {
    /// Binds, starts loading the registry, and begins to answer.
    ///
    /// # Errors
    /// An address that cannot be bound, a library that is named and cannot be used, a registry that cannot be read, a token file that is not there.
    pub fn start(mut options: ServeOptions) -> Result<Self, StartError> {
        options.max_connections = descriptors::room_for(options.max_connections);
        let http = bind("--http-port", options.host, options.http_port)?;
        let grpc = bind("--grpc-port", options.host, options.grpc_port)?;
        let ops = bind("--ops-port", options.ops_host, options.ops_port)?;
        if let Some(path) = &options.ready_file {
            ready_file::clear(path).map_err(|error| ready_file_error(path, error))?;
        }
        let addresses = Addresses { http: http.reachable(), grpc: grpc.reachable(), ops: ops.reachable() };
        let metrics = Metrics::new();
        let workers = SchedulerOptions {
            workers: options.workers,
            load_budget: options.load_budget,
            ..SchedulerOptions::default()
        };
        let scheduler = Scheduler::start(workers).map_err(|error| StartError::new("--workers", error))?;
        let workers = Arc::downgrade(&scheduler);
        metrics.measure_saturation(move || workers.upgrade().map_or(0.0, |workers| workers.saturation()));
        let (engines, library) = engines_and_library(options.onnxruntime_lib.as_deref())?;
        let mut engines = engines.with_budget(options.load_budget);
        let probes = Probes::new(probe_options(&options, library), Arc::clone(&metrics));
        if options.load_probe {
            engines = engines.with_probe(Arc::clone(&probes) as Arc<dyn LoadProbe>);
        }
        let registry =
            Registry::start(registry_config(&options), engines, Arc::clone(&scheduler), Arc::clone(&metrics))
                .map_err(|error| StartError(error.to_string()))?;
        let limits = GatewayOptions {
            max_request_rows: options.max_request_rows,
            strict_readiness: options.strict_readiness,
            expects_routes: true,
            tenant: options.tenant.clone(),
        };
        let gateway = Gateway::new(Arc::clone(&registry), metrics, limits);
        gateway.follow_routes(routes_config(&options)).map_err(|error| StartError(error.to_string()))?;
        let mut app = Self { options, addresses, gateway, registry, scheduler, probes, server: Server::new(0) };
        app.listen(http, grpc, ops)?;
        Ok(app)
    }

    fn listen(&mut self, http: Endpoint, grpc: Endpoint, ops: Endpoint) -> Result<(), StartError> {
        let options = &self.options;
        let threads = io_threads(options.io_threads);
        let limits = Limits::default();
        let busy = Limits { poll_spin: options.poll_spin, ..limits.clone() };
        let budget = Budget::new(options.max_inflight_bytes);
        let intake = Intake { max_body: options.max_body_bytes, patience: BODY_PATIENCE, budget };
        let fail = |error: &dyn fmt::Display| StartError::new("listeners", error);
        let data = DataOptions {
            intake,
            log_settings: log_settings(options),
            explicit_control: options.model_control == ModelControl::Explicit,
        };
        let mut server = Server::new(threads + 1);
        let data =
            DataService::new(Arc::clone(&self.gateway), data, server.stopping()).map_err(|error| fail(&error))?;
        let ops_service = OpsService::new(Arc::clone(&self.gateway), &ops_options(options, ops.address())?);
        let crew = server.crew(("weir-io", threads), &data, &busy, options.max_connections).map_err(|e| fail(&e))?;
        server.open(http, &crew);
        server.open(grpc, &crew);
        let crew = server.crew(("weir-ops", 1), &ops_service, &limits, OPS_CONNECTIONS).map_err(|e| fail(&e))?;
        server.open(ops, &crew);
        server.start().map_err(|error| fail(&error))?;
        self.server = server;
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it answers from.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Serves until SIGTERM or SIGINT, then drains. `started` is called once, when start-up has ended. The exit code is 0, or
    /// 3 when the drain deadline was exceeded.
    ///
    /// # Errors
    /// When the system refuses signal handlers, or the ready file cannot be written.
    pub fn run(self, started: impl FnOnce(&Gateway)) -> Result<ExitCode, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StartError::new("runtime", error))?;
        let Self { options, addresses, gateway, registry, scheduler, probes, server } = self;
        let outcome = runtime.block_on(async {
            let mut signals = Signals::install().map_err(|error| StartError::new("signals", error))?;
            let signal = tokio::select! {
                () = until_started(&gateway) => {
                    if let Some(path) = &options.ready_file {
                        ready_file::write(path, &addresses).map_err(|error| ready_file_error(path, error))?;
                    }
                    started(&gateway);
                    signals.next().await
                }
                signal = signals.next() => signal,
            };
            tracing::info!(signal, "shutting down");
            let phases = Phases { notice: options.drain_notice, drain: options.drain_timeout };
            let again = async { _ = signals.next().await };
            Ok(shutdown::drain(server, phases, || gateway.start_draining(), again).await)
        })?;
        if let Some(routes) = gateway.routes() {
            routes.shutdown();
        }
        // A load that waits for its probe ends with it.
        probes.shutdown();
        registry.shutdown();
        scheduler.shutdown();
        tracing::info!(?outcome, "ended");
        Ok(outcome.exit_code())
    }
}

async fn until_started(gateway: &Gateway) {
    let mut changed = gateway.changed();
    while !gateway.started() {
        if changed.changed().await.is_err() {
            return;
        }
    }
    // Routes answer a moment before they are shown, and what is printed is what is shown.
    let Some(routes) = gateway.routes() else { return };
    let mut changed = routes.changed();
    while !routes.started() {
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn ready_file_error(path: &Path, error: io::Error) -> StartError {
    StartError::new(format_args!("--ready-file '{}'", path.display()), error)
}

fn bind(option: &str, host: IpAddr, port: u16) -> Result<Endpoint, StartError> {
    let address = SocketAddr::new(host, port);
    Endpoint::bind(address).map_err(|error: io::Error| StartError::new(format_args!("{option}: {address}"), error))
}

/// As many as there are cores: cheap models are run on these threads, and where models are dear they are mostly idle.
fn io_threads(asked: usize) -> usize {
    if asked == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { asked }
}

fn probe_options(options: &ServeOptions, library: Option<PathBuf>) -> ProbeOptions {
    ProbeOptions {
        memory_bytes: options.load_probe_memory_bytes,
        cpu_seconds: options.load_probe_cpu.as_secs(),
        onnxruntime_lib: library,
        ..ProbeOptions::new()
    }
}

fn watch_mode(watch: Watch) -> WatchMode {
    match watch {
        Watch::Auto => WatchMode::Auto,
        Watch::Poll => WatchMode::Poll,
        Watch::Off => WatchMode::Off,
    }
}

fn registry_config(options: &ServeOptions) -> RegistryConfig {
    RegistryConfig {
        watch: watch_mode(options.watch),
        poll_interval: options.poll_interval,
        settle: options.settle,
        control: match options.model_control {
            ModelControl::Auto => Control::Auto,
            ModelControl::Explicit => Control::Explicit,
        },
        ..RegistryConfig::new(&options.registry)
    }
}

fn routes_config(options: &ServeOptions) -> RoutesConfig {
    RoutesConfig {
        watch: watch_mode(options.watch),
        poll_interval: options.poll_interval,
        settle: options.settle,
        audit: options.ops_audit_file.clone(),
        ..RoutesConfig::new(options.routes.as_ref().unwrap_or(&options.registry))
    }
}

fn ops_options(options: &ServeOptions, bind: SocketAddr) -> Result<OpsOptions, StartError> {
    let tokens = options.ops_token_file.as_ref().map(|path| {
        let what = format!("--ops-token-file '{}'", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| StartError::new(&what, error))?;
        Tokens::parse(&text).map_err(|error| StartError::new(what, error))
    });
    // Of its own, so that operators are heard while callers fill the other one.
    let budget = Budget::new(OPS_BODIES);
    Ok(OpsOptions {
        bind,
        tokens: tokens.transpose()?,
        readonly: options.ops_readonly,
        hosts: options.ops_allow_host.clone(),
        intake: Intake { max_body: OPS_BODIES, patience: BODY_PATIENCE, budget },
    })
}

fn log_settings(options: &ServeOptions) -> LogSettings {
    let at_least = |levels: &[&str]| levels.contains(&options.log_level.as_str());
    LogSettings {
        info: !at_least(&["off", "error", "warn"]),
        warning: !at_least(&["off", "error"]),
        error: !at_least(&["off"]),
        verbose_level: if at_least(&["trace"]) { 2 } else { u32::from(at_least(&["debug"])) },
    }
}
