//! Everything that `weir serve` can be told, after flags, environment, file and defaults have been layered by the command line.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::probe;
pub use crate::spec::weir_toml::{LogFormat, ModelControl, Watch};
use crate::types::TenantKey;

/// What `weir serve` runs with. Defaults are those of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// The registry directory.
    pub registry: PathBuf,
    /// Where the data listeners bind.
    pub host: IpAddr,
    /// HTTP port; 0 = any.
    pub http_port: u16,
    /// gRPC port; 0 = any.
    pub grpc_port: u16,
    /// Where the ops listener binds.
    pub ops_host: IpAddr,
    /// Ops port; 0 = any.
    pub ops_port: u16,
    /// Where routes are; `None` = in the registry.
    pub routes: Option<PathBuf>,
    /// Worker threads; 0 = cores.
    pub workers: usize,
    /// I/O threads; 0 = chosen.
    pub io_threads: usize,
    /// How long I/O threads look at their sockets before they sleep; zero = not at all.
    pub poll_spin: Duration,
    /// Largest body, after decompression.
    pub max_body_bytes: usize,
    /// Most rows of a request.
    pub max_request_rows: usize,
    /// Most connections.
    pub max_connections: usize,
    /// Most bytes of bodies in memory at once.
    pub max_inflight_bytes: usize,
    /// How the registry is followed.
    pub watch: Watch,
    /// Time between looks when polling.
    pub poll_interval: Duration,
    /// How long files must be stable.
    pub settle: Duration,
    /// Who decides what is loaded.
    pub model_control: ModelControl,
    /// Allow explicit control on a non-loopback bind without keys.
    pub insecure_data_control: bool,
    /// Every model of the first scan must answer.
    pub strict_readiness: bool,
    /// How long readiness is off before the listeners close.
    pub drain_notice: Duration,
    /// How long accepted requests may take once the listeners are closed.
    pub drain_timeout: Duration,
    /// File with the tokens of the ops listener.
    pub ops_token_file: Option<PathBuf>,
    /// File that every attempt to change a route is appended to.
    pub ops_audit_file: Option<PathBuf>,
    /// Only reads of metrics and health on the ops listener.
    pub ops_readonly: bool,
    /// Allow a non-loopback ops bind without token.
    pub insecure_ops: bool,
    /// Further names that the ops listener answers to.
    pub ops_allow_host: Vec<String>,
    /// Time that compiling further batch sizes may take per model.
    pub load_budget: Duration,
    /// Where a request says whose it is, for fair shares; `None` = nobody is told apart.
    pub tenant: Option<TenantKey>,
    /// Models are tried in a process of their own before they are loaded.
    pub load_probe: bool,
    /// Memory that such a process may use.
    pub load_probe_memory_bytes: u64,
    /// CPU time that it may use.
    pub load_probe_cpu: Duration,
    /// The ONNX Runtime library.
    pub onnxruntime_lib: Option<PathBuf>,
    /// How logs are written.
    pub log_format: LogFormat,
    /// What is logged: a level, or a filter of the tracing ecosystem.
    pub log_level: String,
    /// Written when start-up has ended.
    pub ready_file: Option<PathBuf>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Self {
            registry: "./models".into(),
            host: loopback,
            http_port: 8000,
            grpc_port: 8001,
            ops_host: loopback,
            ops_port: 8002,
            routes: None,
            workers: 0,
            io_threads: 0,
            poll_spin: Duration::ZERO,
            max_body_bytes: 64 << 20,
            max_request_rows: 65_536,
            max_connections: 10_000,
            max_inflight_bytes: 1 << 30,
            watch: Watch::Auto,
            poll_interval: Duration::from_secs(2),
            settle: Duration::from_millis(500),
            model_control: ModelControl::Auto,
            insecure_data_control: false,
            strict_readiness: false,
            drain_notice: Duration::ZERO,
            drain_timeout: Duration::from_secs(25),
            ops_token_file: None,
            ops_audit_file: None,
            ops_readonly: false,
            insecure_ops: false,
            ops_allow_host: Vec::new(),
            load_budget: Duration::from_secs(2),
            tenant: None,
            load_probe: true,
            load_probe_memory_bytes: probe::MEMORY_BYTES,
            load_probe_cpu: Duration::from_secs(probe::CPU_SECONDS),
            onnxruntime_lib: None,
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
            ready_file: None,
        }
    }
}
