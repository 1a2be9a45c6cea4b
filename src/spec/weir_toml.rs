//! Reads `weir.toml`, the server's configuration file: one key per flag of `weir serve`, the flag `--http-port` being the key
//! `http_port`. The command line layers it: flag, then environment, then this file, then default.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use super::{
    problem::{Problem, quoted},
    toml_reader::{Document, Node},
};
use crate::types::TenantKey;

/// How the registry directory is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// File system events, with polling where there are none.
    Auto,
    /// Polling only.
    Poll,
    /// Not at all.
    Off,
}

/// Who decides what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelControl {
    /// The registry directory.
    Auto,
    /// Load and unload calls.
    Explicit,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// A choice among words, spelled the same in flags, environment and file.
macro_rules! words {
    ($choice:ident { $($word:literal => $value:ident),* $(,)? }) => {
        impl $choice {
            /// The words and what they mean.
            pub const WORDS: &[(&str, $choice)] = &[$(($word, $choice::$value)),*];
        }

        impl fmt::Display for $choice {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($choice::$value => $word),* })
            }
        }

        impl FromStr for $choice {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::WORDS.iter().find(|(word, _)| *word == text);
                found.map(|(_, value)| *value).ok_or_else(|| {
                    let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| *word).collect();
                    format!("expected {}, got {}", words.join(" or "), quoted(text))
                })
            }
        }
    };
}

words!(Watch { "auto" => Auto, "poll" => Poll, "off" => Off });
words!(ModelControl { "auto" => Auto, "explicit" => Explicit });
words!(LogFormat { "auto" => Auto, "json" => Json, "pretty" => Pretty });

/// The most threads of a kind.
pub(crate) const MAX_THREADS: u64 = 1024;
/// The longest time that sockets may be looked at without sleeping.
pub(crate) const MAX_SPIN_US: u64 = 10_000;
/// The largest number of bytes that a key may name.
pub(crate) const MAX_BYTES: u64 = 1 << 50;
/// The most rows that a request may be allowed.
pub(crate) const MAX_ROWS: u64 = 1 << 24;
/// The most connections that may be allowed.
pub(crate) const MAX_CONNECTIONS: u64 = 1_000_000;
/// The longest time that a key may name: a day.
pub(crate) const MAX_SECONDS: u64 = 86_400;
/// The same.
pub(crate) const MAX_MS: u64 = MAX_SECONDS * 1000;
/// The least memory that a process can start in.
pub(crate) const MIN_PROBE_BYTES: u64 = 1 << 28;

/// Reads a node as a value, or notes what is wrong with it.
type Read<T> = fn(&Node<'_, '_>) -> Option<T>;

/// Declares the keys of the file once: the struct, the list of known keys and the reader.
macro_rules! server_file {
    ($($(#[doc = $doc:literal])+ $key:ident: $type:ty = $read:expr;)*) => {
        /// What a `weir.toml` sets. Durations are in milliseconds, as in the flags.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ServerFile {
            $($(#[doc = $doc])+ pub $key: Option<$type>,)*
        }

        /// Every key.
        pub(super) const KEYS: &[&str] = &[$(stringify!($key)),*];

        fn read_keys(document: &Document<'_>) -> ServerFile {
            ServerFile {
                $($key: {
                    let read: Read<$type> = $read;
                    document.get(stringify!($key), |node| read(node)).map(|(_, value)| value)
                },)*
            }
        }
    };
}

server_file! {
    /// The registry directory.
    registry: PathBuf = read_path;
    /// Where the data listeners bind.
    host: IpAddr = read_ip;
    /// HTTP port; 0 = any.
    http_port: u16 = read_port;
    /// gRPC port; 0 = any.
    grpc_port: u16 = read_port;
    /// Where the ops listener binds.
    ops_host: IpAddr = read_ip;
    /// Ops port; 0 = any.
    ops_port: u16 = read_port;
    /// Where routes are.
    routes: PathBuf = read_path;
    /// Worker threads; 0 = cores.
    workers: usize = |node| node.count(0..=MAX_THREADS);
    /// I/O threads; 0 = chosen.
    io_threads: usize = |node| node.count(0..=MAX_THREADS);
    /// How long sockets are looked at before sleeping.
    poll_spin_us: u64 = |node| node.integer(0..=MAX_SPIN_US);
    /// Largest body, after decompression.
    max_body_bytes: usize = |node| node.count(1..=MAX_BYTES);
    /// Most rows of a request.
    max_request_rows: usize = |node| node.count(1..=MAX_ROWS);
    /// Most connections.
    max_connections: usize = |node| node.count(1..=MAX_CONNECTIONS);
    /// Most bytes of bodies in memory at once.
    max_inflight_bytes: usize = |node| node.count(1..=MAX_BYTES);
    /// How the registry is followed.
    watch: Watch = |node| node.word(Watch::WORDS);
    /// Time between looks when polling.
    poll_interval_ms: u64 = |node| node.integer(1..=MAX_MS);
    /// How long files must be stable.
    settle_ms: u64 = |node| node.integer(0..=MAX_MS);
    /// Who decides what is loaded.
    model_control: ModelControl = |node| node.word(ModelControl::WORDS);
    /// Allow explicit control on a non-loopback bind without keys.
    insecure_data_control: bool = |node| node.boolean();
    /// Every model of the first scan must answer.
    strict_readiness: bool = |node| node.boolean();
    /// How long readiness is off before the listeners close.
    drain_notice_ms: u64 = |node| node.integer(0..=MAX_MS);
    /// How long accepted requests may take once the listeners are closed.
    drain_timeout_ms: u64 = |node| node.integer(0..=MAX_MS);
    /// File with the ops token.
    ops_token_file: PathBuf = read_path;
    /// File that every attempt to change a route is appended to.
    ops_audit_file: PathBuf = read_path;
    /// Only reads of metrics and health on the ops listener.
    ops_readonly: bool = |node| node.boolean();
    /// Allow a non-loopback ops bind without token.
    insecure_ops: bool = |node| node.boolean();
    /// Further names that the ops listener answers to.
    ops_allow_host: Vec<String> = read_texts;
    /// Time that compiling further batch sizes may take per model.
    load_budget_ms: u64 = |node| node.integer(0..=MAX_MS);
    /// Where a request says whose it is.
    tenant: TenantKey = read_tenant;
    /// Try models in a process of their own before they are loaded.
    load_probe: bool = |node| node.boolean();
    /// Memory that such a process may use.
    load_probe_memory_bytes: u64 = |node| node.integer(MIN_PROBE_BYTES..=MAX_BYTES);
    /// CPU time that it may use.
    load_probe_cpu_seconds: u64 = |node| node.integer(1..=MAX_SECONDS);
    /// The ONNX Runtime library.
    onnxruntime_lib: PathBuf = read_path;
    /// How logs are written.
    log_format: LogFormat = |node| node.word(LogFormat::WORDS);
    /// What is logged: a level, or a filter of the tracing ecosystem.
    log_level: String = |node| node.text().map(str::to_owned);
    /// Written when start-up has ended.
    ready_file: PathBuf = read_path;
}

/// Reads a `weir.toml`.
///
/// # Errors
/// Every problem of the text, in its order.
pub fn parse_weir_toml(text: &str) -> Result<ServerFile, Vec<Problem>> {
    let document = Document::parse(text, KEYS);
    let file = read_keys(&document);
    document.finish(file)
}

fn read_path(node: &Node<'_, '_>) -> Option<PathBuf> {
    node.text().map(PathBuf::from)
}

fn read_port(node: &Node<'_, '_>) -> Option<u16> {
    node.integer(0..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok())
}

fn read_tenant(node: &Node<'_, '_>) -> Option<TenantKey> {
    node.as_str().and_then(|text| text.parse().ok()).or_else(|| node.expected("'header:NAME' or 'parameter:NAME'"))
}

fn read_ip(node: &Node<'_, '_>) -> Option<IpAddr> {
    node.as_str().and_then(|text| text.parse().ok()).or_else(|| node.expected("an IP address"))
}

/// A list of strings, or one.
fn read_texts(node: &Node<'_, '_>) -> Option<Vec<String>> {
    let Some(items) = node.items() else { return node.text().map(|text| vec![text.to_owned()]) };
    let texts: Vec<_> = items.iter().map(|item| item.text().map(str::to_owned)).collect();
    texts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let problems: Vec<_> = parse_weir_toml(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(problems, expected, "{text}");
    }

    #[test]
    fn empty_sets_nothing() {
        assert_eq!(parse_weir_toml("# nothing"), Ok(ServerFile::default()));
    }

    #[test]
    fn every_kind_of_value() {
        let text = r#"
registry = "/srv/models"
host = "::"
http_port = 0
workers = 4
max_body_bytes = 1_000_000
watch = "off"
model_control = "explicit"
strict_readiness = true
drain_timeout_ms = 0
ops_allow_host = ["weir.example", "weir"]
log_format = "json"
log_level = "info,weir=debug"
"#;
        let expected = ServerFile {
            registry: Some("/srv/models".into()),
            host: Some(IpAddr::from([0_u16; 8])),
            http_port: Some(0),
            workers: Some(4),
            max_body_bytes: Some(1_000_000),
            watch: Some(Watch::Off),
            model_control: Some(ModelControl::Explicit),
            strict_readiness: Some(true),
            drain_timeout_ms: Some(0),
            ops_allow_host: Some(vec!["weir.example".into(), "weir".into()]),
            log_format: Some(LogFormat::Json),
            log_level: Some("info,weir=debug".into()),
            ..ServerFile::default()
        };
        assert_eq!(parse_weir_toml(text), Ok(expected));
        assert_eq!(parse_weir_toml("ops_allow_host = 'a'").unwrap().ops_allow_host, Some(vec!["a".into()]));
    }

    #[test]
    fn every_problem() {
        check(
            "http-port = 8000\n[ops]\nport = 1\n",
            &[
                "line 1, column 1: http-port: unknown key, did you mean 'http_port'?",
                "line 2, column 2: ops: unknown key: expected one of 'registry', 'host', 'http_port', 'grpc_port', 'ops_host', \
             'ops_port', 'routes', 'workers', 'io_threads', 'poll_spin_us', 'max_body_bytes', 'max_request_rows', 'max_connections', \
             'max_inflight_bytes', 'watch', 'poll_interval_ms', 'settle_ms', 'model_control', 'insecure_data_control', \
             'strict_readiness', 'drain_notice_ms', 'drain_timeout_ms', 'ops_token_file', 'ops_audit_file', \
             'ops_readonly', 'insecure_ops', 'ops_allow_host', 'load_budget_ms', 'tenant', 'load_probe', \
             'load_probe_memory_bytes', 'load_probe_cpu_seconds', 'onnxruntime_lib', 'log_format', 'log_level', 'ready_file'",
            ],
        );
        check(
            "http_port = 65536\ngrpc_port = -1\nhost = 'localhost'\nwatch = true\npoll_interval_ms = 0\nregistry = ''\n",
            &[
                "line 1, column 13: http_port: expected an integer from 0 to 65535, got 65536",
                "line 2, column 13: grpc_port: expected an integer from 0 to 65535, got -1",
                "line 3, column 8: host: expected an IP address, got 'localhost'",
                "line 4, column 9: watch: expected \"auto\" or \"poll\" or \"off\", got true",
                "line 5, column 20: poll_interval_ms: expected an integer from 1 to 86400000, got 0",
                "line 6, column 12: registry: expected a string that is not empty, got ''",
            ],
        );
        check(
            "ops_allow_host = ['a', 1]\nwatch = \"poll\"\nwatch = \"off\"\n",
            &[
                "line 1, column 24: ops_allow_host[1]: expected a string that is not empty, got 1",
                "line 3, column 1: watch: duplicate key",
            ],
        );
    }

    #[test]
    fn words_are_spelled_one_way() {
        for (word, value) in Watch::WORDS {
            assert_eq!((word.parse(), value.to_string().as_str()), (Ok(*value), *word));
        }
        assert_eq!("Auto".parse::<LogFormat>(), Err("expected auto or json or pretty, got 'Auto'".to_owned()));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}", key in proptest::sample::select(KEYS), value in "\\PC{0,20}") {
            let _ = parse_weir_toml(&text);
            let _ = parse_weir_toml(&format!("{key} = {value}"));
        }
    }
}
