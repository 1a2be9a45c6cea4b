//! A whole server on free ports, in this process: gateway, data listener for both protocols, ops listener.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weir::{
    engine::fake::{FakeEngine, Script},
    gateway::{Gateway, GatewayOptions},
    observe::Metrics,
    protocol::settings::LogSettings,
    registry::{Engines, Registry, RegistryConfig, WatchMode},
    scheduler::{Scheduler, SchedulerOptions},
    transport::{Budget, DataService, Endpoint, Intake, Limits, OpsOptions, OpsService, Server},
};

use crate::wire::Wire;

/// A registry whose start-up never ends: its only model is waited for, because its file has only just been written.
fn starting_registry(metrics: &Arc<Metrics>) -> Arc<Registry> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("unsettled/1")).unwrap();
    std::fs::write(folder.path().join("unsettled/1/model.onnx"), "").unwrap();
    let settle = Duration::from_secs(86_400);
    let config = RegistryConfig { watch: WatchMode::Off, settle, ..RegistryConfig::new(folder.path()) };
    let engines = Engines::new(Arc::new(FakeEngine::new(Script::default(), 1)));
    let scheduler = Scheduler::start(SchedulerOptions { workers: 1, ..SchedulerOptions::default() }).unwrap();
    Registry::start(config, engines, scheduler, Arc::clone(metrics)).unwrap()
}

/// What the server is told.
pub(crate) struct Plan {
    pub(crate) max_body: usize,
    pub(crate) max_inflight: usize,
    pub(crate) patience: Duration,
    pub(crate) token: Option<String>,
    pub(crate) readonly: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            max_inflight: 64 << 20,
            patience: Duration::from_secs(10),
            token: None,
            readonly: false,
        }
    }
}

pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) data: SocketAddr,
    pub(crate) ops: SocketAddr,
}

impl Site {
    pub(crate) fn open(plan: Plan) -> Self {
        let metrics = Metrics::new();
        let gateway = Gateway::new(starting_registry(&metrics), metrics, GatewayOptions::default());
        Self::over(gateway, plan)
    }

    pub(crate) fn over(gateway: Arc<Gateway>, plan: Plan) -> Self {
        let bind = || Endpoint::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (data, ops) = (bind(), bind());
        let budget = Budget::new(plan.max_inflight);
        let intake = Intake { max_body: plan.max_body, patience: plan.patience, budget: Arc::clone(&budget) };
        let log = LogSettings { info: true, warning: true, error: true, verbose_level: 0 };
        let mut server = Server::new(2);
        let stopping: CancellationToken = server.stopping();
        let service = DataService::new(Arc::clone(&gateway), intake, log, stopping).unwrap();
        let options = OpsOptions { bind: ops.address(), token: plan.token, readonly: plan.readonly, hosts: Vec::new() };
        let operators = OpsService::new(Arc::clone(&gateway), &options);
        let limits = Limits { farewell: Duration::from_millis(100), ..Limits::default() };
        let addresses = (data.address(), ops.address());
        let crew = server.crew(("io", 1), &service, &limits, 100).unwrap();
        server.open(data, &crew);
        let crew = server.crew(("ops", 1), &operators, &limits, 100).unwrap();
        server.open(ops, &crew);
        server.start().unwrap();
        Self { server, gateway, budget, data: addresses.0, ops: addresses.1 }
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.data).await
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.data)).unwrap().connect().await.unwrap()
    }
}
