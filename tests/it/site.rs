//! A whole server on free ports, in this process: registry, gateway, data listener for both protocols, ops listener. Its one
//! model, `echo`, is the scripted fake: `x` [N, 4] in, `y` = 2x + 1 out.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tonic::transport::Channel;
use weir::{
    engine::fake::{FakeEngine, Script},
    gateway::{Gateway, GatewayOptions},
    observe::Metrics,
    protocol::settings::LogSettings,
    registry::{Control, Engines, Registry, RegistryConfig, WatchMode},
    scheduler::{Scheduler, SchedulerOptions},
    transport::{Budget, DataOptions, DataService, Endpoint, Intake, Limits, OpsOptions, OpsService, Server, Tokens},
};

use crate::wire::{PATIENCE, Wire};

/// Columns of the model.
pub(crate) const WIDTH: usize = 4;

/// What the server is told.
pub(crate) struct Plan {
    pub(crate) max_body: usize,
    pub(crate) max_inflight: usize,
    pub(crate) patience: Duration,
    pub(crate) token: Option<String>,
    pub(crate) readonly: bool,
    pub(crate) explicit: bool,
    /// Batches run on worker threads whatever they cost, so that a blocked model does not block I/O.
    pub(crate) pool: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            max_inflight: 64 << 20,
            patience: Duration::from_secs(10),
            token: None,
            readonly: false,
            explicit: false,
            pool: false,
        }
    }
}

/// The server. Dropping it ends everything.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) script: Script,
    pub(crate) data: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    /// Serves; start-up has ended.
    pub(crate) fn open(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("echo/1")).unwrap();
        std::fs::write(folder.path().join("echo/1/model.onnx"), "anything").unwrap();
        let (script, metrics) = (Script::default(), Metrics::new());
        let local_below = if plan.pool { Duration::ZERO } else { Duration::MAX };
        let scheduler =
            Scheduler::start(SchedulerOptions { workers: 2, local_below, ..SchedulerOptions::default() }).unwrap();
        let engines = Engines::new(Arc::new(FakeEngine::new(script.clone(), WIDTH)));
        let config = RegistryConfig {
            watch: WatchMode::Poll,
            poll_interval: Duration::from_millis(10),
            settle: Duration::from_millis(20),
            control: if plan.explicit { Control::Explicit } else { Control::Auto },
            ..RegistryConfig::new(folder.path())
        };
        let registry = Registry::start(config, engines, scheduler, Arc::clone(&metrics)).unwrap();
        registry.wait_started(PATIENCE).expect("start-up ends");
        let gateway = Gateway::new(registry, metrics, GatewayOptions::default());
        Self::listen(gateway, plan, script, folder)
    }

    /// Listens before a gateway. Its models need not be the fake.
    pub(crate) fn listen(gateway: Arc<Gateway>, plan: Plan, script: Script, folder: tempfile::TempDir) -> Self {
        let bind = || Endpoint::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (data, ops) = (bind(), bind());
        let budget = Budget::new(plan.max_inflight);
        let intake = Intake { max_body: plan.max_body, patience: plan.patience, budget: Arc::clone(&budget) };
        let log_settings = LogSettings { info: true, warning: true, error: true, verbose_level: 0 };
        let data_options = DataOptions { intake: intake.clone(), log_settings, explicit_control: plan.explicit };
        let mut server = Server::new(2);
        let service = DataService::new(Arc::clone(&gateway), data_options, server.stopping()).unwrap();
        let options = OpsOptions {
            bind: ops.address(),
            tokens: plan.token.map(|token| Tokens::parse(&token).unwrap()),
            readonly: plan.readonly,
            hosts: Vec::new(),
            intake: intake.clone(),
        };
        let operators = OpsService::new(Arc::clone(&gateway), &options);
        let limits = Limits { farewell: Duration::from_millis(100), ..Limits::default() };
        let addresses = (data.address(), ops.address());
        let crew = server.crew(("io", 1), &service, &limits, 100).unwrap();
        server.open(data, &crew);
        let crew = server.crew(("ops", 1), &operators, &limits, 100).unwrap();
        server.open(ops, &crew);
        server.start().unwrap();
        Self { server, gateway, budget, script, data: addresses.0, ops: addresses.1, folder }
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.data).await
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.data)).unwrap().connect().await.unwrap()
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
