//! What `weir serve` can be told, as one layer of it says it: every key optional. The command line parses into it, and so do
//! the environment and `weir.toml`; `layers` puts them over each other.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Arg, Args, Command, builder::TypedValueParser};

use super::values::{boolean, count, count_u64, host_name, log_level, words};
use crate::{
    app::{LogFormat, ModelControl, ServeOptions, Watch},
    spec::weir_toml::{
        MAX_BYTES, MAX_CONNECTIONS, MAX_MS, MAX_ROWS, MAX_SECONDS, MAX_SPIN_US, MAX_THREADS, MIN_PROBE_BYTES,
        ServerFile,
    },
    types::TenantKey,
};

/// One layer of what `weir serve` is told.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeFlags {
    /// The registry directory: a folder per model
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<PathBuf>,
    /// Address that the data listeners bind
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<IpAddr>,
    /// Port for HTTP, which also takes gRPC; 0 = any free one
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Port for gRPC; 0 = any free one
    #[arg(long, value_name = "PORT")]
    pub grpc_port: Option<u16>,
    /// Address that the ops listener binds
    #[arg(long, value_name = "ADDRESS")]
    pub ops_host: Option<IpAddr>,
    /// Port for metrics, health and operations; 0 = any free one
    #[arg(long, value_name = "PORT")]
    pub ops_port: Option<u16>,
    /// Folder of the routes, for a registry that cannot be written to [default: the registry]
    #[arg(long, value_name = "DIR")]
    pub routes: Option<PathBuf>,
    /// Threads that run models; 0 = one per core
    #[arg(long, value_name = "COUNT", value_parser = count(0..=MAX_THREADS))]
    pub workers: Option<usize>,
    /// Threads that serve connections; 0 = chosen from the number of cores
    #[arg(long, value_name = "COUNT", value_parser = count(0..=MAX_THREADS))]
    pub io_threads: Option<usize>,
    /// How long such a thread goes on looking at its sockets after each turn before it sleeps; 0 = not at all
    #[arg(long, value_name = "US", value_parser = count_u64(0..=MAX_SPIN_US))]
    pub poll_spin_us: Option<u64>,
    /// Largest request body, after decompression
    #[arg(long, value_name = "BYTES", value_parser = count(1..=MAX_BYTES))]
    pub max_body_bytes: Option<usize>,
    /// Most rows that a request may have
    #[arg(long, value_name = "ROWS", value_parser = count(1..=MAX_ROWS))]
    pub max_request_rows: Option<usize>,
    /// Most connections at a time
    #[arg(long, value_name = "COUNT", value_parser = count(1..=MAX_CONNECTIONS))]
    pub max_connections: Option<usize>,
    /// Most memory that the bodies of requests and answers take at a time, all together
    #[arg(long, value_name = "BYTES", value_parser = count(1..=MAX_BYTES))]
    pub max_inflight_bytes: Option<usize>,
    /// How changes of the registry are noticed: file system events where there are any, polling, or not at all
    #[arg(long, value_name = "HOW", value_parser = words(Watch::WORDS))]
    pub watch: Option<Watch>,
    /// Time between two looks at the registry when polling
    #[arg(long, value_name = "MS", value_parser = count_u64(1..=MAX_MS))]
    pub poll_interval_ms: Option<u64>,
    /// How long a version's files must have been unchanged before it is loaded
    #[arg(long, value_name = "MS", value_parser = count_u64(0..=MAX_MS))]
    pub settle_ms: Option<u64>,
    /// Who decides what is loaded: the registry directory, or load and unload calls
    #[arg(long, value_name = "WHO", value_parser = words(ModelControl::WORDS))]
    pub model_control: Option<ModelControl>,
    /// Let anyone who reaches a non-loopback data listener load and unload models
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = boolean)]
    pub insecure_data_control: Option<bool>,
    /// Be ready only when every model of the first scan answers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = boolean)]
    pub strict_readiness: Option<bool>,
    /// On SIGTERM: how long to be not ready before the listeners close
    #[arg(long, value_name = "MS", value_parser = count_u64(0..=MAX_MS))]
    pub drain_notice_ms: Option<u64>,
    /// On SIGTERM: how long accepted requests may take once the listeners are closed
    #[arg(long, value_name = "MS", value_parser = count_u64(0..=MAX_MS))]
    pub drain_timeout_ms: Option<u64>,
    /// File with the tokens that the ops listener accepts: name:token on each line, or one token
    #[arg(long, value_name = "FILE")]
    pub ops_token_file: Option<PathBuf>,
    /// File that every attempt to change a route is appended to, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ops_audit_file: Option<PathBuf>,
    /// Answer only reads of metrics and health on the ops listener
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = boolean)]
    pub ops_readonly: Option<bool>,
    /// Let anyone who reaches a non-loopback ops listener operate the gateway
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = boolean)]
    pub insecure_ops: Option<bool>,
    /// A further host name that the ops listener answers to; may be repeated, or a list with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = host_name)]
    pub ops_allow_host: Option<Vec<String>>,
    /// Time that compiling a model's further batch sizes may take
    #[arg(long, value_name = "MS", value_parser = count_u64(0..=MAX_MS))]
    pub load_budget_ms: Option<u64>,
    /// Where a request says whose it is, for fair shares of a queue: header:NAME or parameter:NAME
    #[arg(long, value_name = "WHERE")]
    pub tenant: Option<TenantKey>,
    /// Try every model in a process of its own before loading it, so that one that breaks a process breaks none that serves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = boolean)]
    pub load_probe: Option<bool>,
    /// Most memory that such a trial may take; a large model gets six times its size
    #[arg(long, value_name = "BYTES", value_parser = probe_bytes())]
    pub load_probe_memory_bytes: Option<u64>,
    /// Most CPU time that such a trial may take; a large model gets a second more for every 16 MiB
    #[arg(long, value_name = "SECONDS", value_parser = probe_seconds())]
    pub load_probe_cpu_seconds: Option<u64>,
    /// The ONNX Runtime library, or off [default: found through ORT_DYLIB_PATH or in the Python package beside python3]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime_lib: Option<PathBuf>,
    /// How logs are written; auto = pretty on a terminal, else JSON
    #[arg(long, value_name = "FORMAT", value_parser = words(LogFormat::WORDS))]
    pub log_format: Option<LogFormat>,
    /// What is logged: off, error, warn, info, debug, trace, or directives such as info,weir::registry=debug
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    pub log_level: Option<String>,
    /// File that is written with the addresses once start-up has ended
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// The defaults as the help shows them. Options that are not here have none.
const DEFAULTS: [(&str, &str); 30] = [
    ("registry", "./models"),
    ("host", "127.0.0.1"),
    ("http_port", "8000"),
    ("grpc_port", "8001"),
    ("ops_host", "127.0.0.1"),
    ("ops_port", "8002"),
    ("workers", "0"),
    ("io_threads", "0"),
    ("poll_spin_us", "0"),
    ("max_body_bytes", "67108864"),
    ("max_request_rows", "65536"),
    ("max_connections", "10000"),
    ("max_inflight_bytes", "1073741824"),
    ("watch", "auto"),
    ("poll_interval_ms", "2000"),
    ("settle_ms", "500"),
    ("model_control", "auto"),
    ("insecure_data_control", "false"),
    ("strict_readiness", "false"),
    ("drain_notice_ms", "0"),
    ("drain_timeout_ms", "25000"),
    ("ops_readonly", "false"),
    ("insecure_ops", "false"),
    ("load_budget_ms", "2000"),
    ("load_probe", "true"),
    ("load_probe_memory_bytes", "6442450944"),
    ("load_probe_cpu_seconds", "30"),
    ("log_format", "auto"),
    ("log_level", "info"),
    ("config", "weir.toml"),
];

/// The environment variable of an option: `http_port` is `WEIR_HTTP_PORT`.
pub fn variable(key: &str) -> String {
    format!("WEIR_{}", key.to_ascii_uppercase())
}

/// Adds default and environment variable to the help of every option.
pub fn annotate(command: Command) -> Command {
    command.mut_args(|arg| {
        if matches!(arg.get_id().as_str(), "help" | "version") {
            return arg;
        }
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some((_, default)) = DEFAULTS.iter().find(|(key, _)| arg.get_id() == key) {
            help.push_str(&format!(" [default: {default}]"));
        }
        help.push_str(&format!(" [env: {}]", variable(arg.get_id().as_str())));
        arg.help(help)
    })
}

/// The options by name, to be parsed one at a time: what the environment is read with.
pub fn options() -> Vec<Arg> {
    ServeFlags::augment_args(Command::new("serve")).get_arguments().cloned().collect()
}

/// Calls a macro with every key. Those below take values apart without `..`, so that a key missing here does not compile.
macro_rules! every_key {
    ($with:ident) => {
        $with!(
            registry,
            host,
            http_port,
            grpc_port,
            ops_host,
            ops_port,
            routes,
            workers,
            io_threads,
            poll_spin_us,
            max_body_bytes,
            max_request_rows,
            max_connections,
            max_inflight_bytes,
            watch,
            poll_interval_ms,
            settle_ms,
            model_control,
            insecure_data_control,
            strict_readiness,
            drain_notice_ms,
            drain_timeout_ms,
            ops_token_file,
            ops_audit_file,
            ops_readonly,
            insecure_ops,
            ops_allow_host,
            load_budget_ms,
            tenant,
            load_probe,
            load_probe_memory_bytes,
            load_probe_cpu_seconds,
            onnxruntime_lib,
            log_format,
            log_level,
            ready_file
        )
    };
}

impl From<ServerFile> for ServeFlags {
    fn from(file: ServerFile) -> Self {
        macro_rules! same {
            ($($key:ident),*) => {{
                let ServerFile { $($key),* } = file;
                Self { $($key),* }
            }};
        }
        every_key!(same)
    }
}

impl ServeFlags {
    /// These, and where they say nothing, what the lower layer says.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        macro_rules! over {
            ($($key:ident),*) => {{
                let Self { $($key),* } = self;
                Self { $($key: $key.or(lower.$key)),* }
            }};
        }
        every_key!(over)
    }

    /// The options, with the default where nothing is said.
    pub fn into_options(self) -> ServeOptions {
        let default = ServeOptions::default();
        let ms = |value: Option<u64>, default| value.map_or(default, Duration::from_millis);
        ServeOptions {
            registry: self.registry.unwrap_or(default.registry),
            host: self.host.unwrap_or(default.host),
            http_port: self.http_port.unwrap_or(default.http_port),
            grpc_port: self.grpc_port.unwrap_or(default.grpc_port),
            ops_host: self.ops_host.unwrap_or(default.ops_host),
            ops_port: self.ops_port.unwrap_or(default.ops_port),
            routes: self.routes,
            workers: self.workers.unwrap_or(default.workers),
            io_threads: self.io_threads.unwrap_or(default.io_threads),
            poll_spin: self.poll_spin_us.map_or(default.poll_spin, Duration::from_micros),
            max_body_bytes: self.max_body_bytes.unwrap_or(default.max_body_bytes),
            max_request_rows: self.max_request_rows.unwrap_or(default.max_request_rows),
            max_connections: self.max_connections.unwrap_or(default.max_connections),
            max_inflight_bytes: self.max_inflight_bytes.unwrap_or(default.max_inflight_bytes),
            watch: self.watch.unwrap_or(default.watch),
            poll_interval: ms(self.poll_interval_ms, default.poll_interval),
            settle: ms(self.settle_ms, default.settle),
            model_control: self.model_control.unwrap_or(default.model_control),
            insecure_data_control: self.insecure_data_control.unwrap_or(default.insecure_data_control),
            strict_readiness: self.strict_readiness.unwrap_or(default.strict_readiness),
            drain_notice: ms(self.drain_notice_ms, default.drain_notice),
            drain_timeout: ms(self.drain_timeout_ms, default.drain_timeout),
            ops_token_file: self.ops_token_file,
            ops_audit_file: self.ops_audit_file,
            ops_readonly: self.ops_readonly.unwrap_or(default.ops_readonly),
            insecure_ops: self.insecure_ops.unwrap_or(default.insecure_ops),
            ops_allow_host: self.ops_allow_host.unwrap_or(default.ops_allow_host),
            load_budget: ms(self.load_budget_ms, default.load_budget),
            tenant: self.tenant,
            load_probe: self.load_probe.unwrap_or(default.load_probe),
            load_probe_memory_bytes: self.load_probe_memory_bytes.unwrap_or(default.load_probe_memory_bytes),
            load_probe_cpu: self.load_probe_cpu_seconds.map_or(default.load_probe_cpu, Duration::from_secs),
            onnxruntime_lib: self.onnxruntime_lib,
            log_format: self.log_format.unwrap_or(default.log_format),
            log_level: self.log_level.unwrap_or(default.log_level),
            ready_file: self.ready_file,
        }
    }
}

/// Memory of a load probe.
pub(super) fn probe_bytes() -> impl TypedValueParser<Value = u64> {
    count_u64(MIN_PROBE_BYTES..=MAX_BYTES)
}

/// CPU time of a load probe.
pub(super) fn probe_seconds() -> impl TypedValueParser<Value = u64> {
    count_u64(1..=MAX_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_defaults_are_those_in_force() {
        let command = ServeFlags::augment_args(Command::new("serve").no_binary_name(true));
        let shown = DEFAULTS.iter().filter(|(key, _)| *key != "config").map(|(key, value)| match *key {
            "registry" => (*value).to_owned(),
            key => format!("--{}={value}", key.replace('_', "-")),
        });
        let matches = command.try_get_matches_from(shown).unwrap();
        let flags = <ServeFlags as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        assert_eq!(flags.into_options(), ServeOptions::default());
        let set = options().len();
        let without =
            ["routes", "ops_token_file", "ops_audit_file", "ops_allow_host", "tenant", "onnxruntime_lib", "ready_file"];
        assert_eq!(DEFAULTS.len() - 1 + without.len(), set, "every option has a default or is known to have none");
    }
}
