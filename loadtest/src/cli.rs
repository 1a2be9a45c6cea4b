//! The command line. Ranges here are the hard caps of a run: whatever is asked for, it ends and it fits in memory.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::arrivals::Spacing;
use crate::error::{Fault, Result};
use crate::input::InputSpec;
use crate::target::{Protocol, parse_header};
use crate::verify::Verify;

/// Load generator for Open Inference Protocol servers: verified answers, latency without coordinated omission.
///
/// Exit code: 0 all right; 1 wrong answers, unexpected errors or no answer at all; 2 usage.
#[derive(Debug, Parser)]
#[command(name = "weir-loadtest", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) echo: Option<EchoCommand>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Bare servers that show what the transport alone can do, to hold a gateway's figures against.
#[derive(Debug, Subcommand)]
pub(crate) enum EchoCommand {
    /// A tonic service that decodes ModelInfer requests and answers with a constant.
    EchoGrpc(EchoArgs),
    /// A hyper service that parses infer bodies and answers with a constant.
    EchoHttp(EchoArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EchoArgs {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Bytes of the answer's one FP32 tensor (a multiple of 4).
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(4..=1 << 28))]
    pub(crate) answer_bytes: u32,
    /// Ends by itself after this long.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) max_seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) cases: CaseArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    #[command(flatten)]
    pub(crate) vs: VsArgs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub(crate) struct TargetArgs {
    /// Server, `http://HOST:PORT`.
    #[arg(long, required = true)]
    pub(crate) url: Option<String>,
    /// Model, `NAME` or `NAME:VERSION`.
    #[arg(long, required = true)]
    pub(crate) model: Option<String>,
    /// Protocol and encoding.
    #[arg(long, value_enum, default_value = "grpc-raw")]
    pub(crate) protocol: Protocol,
    /// Connections; HTTP has one request in flight on each [default: 4 for gRPC, the concurrency for HTTP].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) connections: Option<u32>,
    /// Header (gRPC: metadata) of every request, `NAME:VALUE`; may be repeated.
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Deadline sent along with every request; later answers are counted as late.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) timeout_ms: Option<u64>,
    /// Allow servers on other machines. Make sure they are yours.
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
pub(crate) struct CaseArgs {
    /// Requests and expected answers, `{"cases":[{"inputs":[…],"outputs":[…]}]}`; sent in turn, every answer verified.
    #[arg(long, conflicts_with = "inputs")]
    pub(crate) golden: Option<PathBuf>,
    /// An input, `NAME=@FILE.npy` or `NAME:DATATYPE:SHAPE` (random); may be repeated.
    #[arg(long = "input", value_name = "SPEC", value_parser = InputSpec::parse)]
    pub(crate) inputs: Vec<InputSpec>,
    /// Rows per request: every case's rows over and over, expected answers alike.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(crate) rows: Option<u32>,
    /// Seed of random inputs and of Poisson arrivals.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// Closed: callers wait for their answers. Open: requests leave at their time.
    #[arg(long, value_enum, default_value = "closed")]
    pub(crate) mode: Mode,
    /// Callers of the closed loop.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) concurrency: u32,
    /// Requests per second of the open loop, at most 1,000,000.
    #[arg(long, required_if_eq("mode", "open"), value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// How the open loop's arrivals are spaced.
    #[arg(long, value_enum, default_value = "poisson")]
    pub(crate) arrivals: Spacing,
    /// Requests of the open loop without an answer, at most; arrivals beyond are dropped and counted.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_outstanding: u32,
    /// Measured time: seconds, or with a unit as in 500ms; at most 1h.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Time before that, not measured.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(crate) warmup: Duration,
    /// Measured requests, at most.
    #[arg(long, default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) requests: u64,
    /// How long outstanding answers are waited for at the end.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) grace: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Checks")]
pub(crate) struct CheckArgs {
    /// Which answers are compared with the expected ones.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) verify: Verify,
    /// Allowed distance of a floating point value: ATOL + RTOL * |expected|.
    #[arg(long, default_value_t = 1e-4)]
    pub(crate) atol: f64,
    /// See --atol.
    #[arg(long, default_value_t = 1e-4)]
    pub(crate) rtol: f64,
    /// Error codes that are part of the test: gRPC names, HTTP statuses, CONNECT, TRANSPORT, UNFINISHED.
    #[arg(long, value_delimiter = ',', value_name = "CODE,…")]
    pub(crate) allow_errors: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct VsArgs {
    /// A second server: both are measured in alternating rounds and the ratio is printed.
    #[arg(long, alias = "compare", value_name = "URL")]
    pub(crate) vs: Option<String>,
    /// The second server's model, if it is another.
    #[arg(long, requires = "vs", value_name = "MODEL")]
    pub(crate) vs_model: Option<String>,
    /// The second server's protocol, if it is another.
    #[arg(long, requires = "vs", value_enum, value_name = "PROTOCOL")]
    pub(crate) vs_protocol: Option<Protocol>,
    /// Which of the second server's answers are verified, if others.
    #[arg(long, requires = "vs", value_enum, value_name = "WHICH")]
    pub(crate) vs_verify: Option<Verify>,
    /// Rounds per server; the durations are divided among them.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Closed,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

const MAX_RATE: f64 = 1e6;
const MAX_DURATION: Duration = Duration::from_secs(3600);

fn parse_rate(text: &str) -> Result<f64> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=MAX_RATE).contains(rate));
    rate.ok_or_else(|| Fault::new("rate", format_args!("expected 0.001 to {MAX_RATE} requests per second")))
}

fn parse_duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = duration.filter(|duration| *duration <= MAX_DURATION);
    duration.ok_or_else(|| Fault::new("duration", "expected up to 3600 seconds, such as 10, 2.5s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("weir-loadtest").chain(line.split_whitespace()))
    }

    #[test]
    fn durations_have_units_and_a_cap() {
        assert_eq!(parse_duration("10").unwrap(), Duration::from_secs(10));
        assert_eq!(parse_duration("2.5s").unwrap(), Duration::from_millis(2500));
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        for text in ["", "-1", "1h", "3601", "nan", "1e99"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn caps_hold() {
        let target = "--url http://127.0.0.1:1 --model m";
        assert!(parse(&format!("{target} --concurrency 64 --rows 8")).is_ok());
        for beyond in ["--concurrency 16385", "--requests 1000000001", "--mode open --rate 1e7", "--rounds 101"] {
            assert!(parse(&format!("{target} {beyond}")).is_err(), "{beyond}");
        }
    }

    #[test]
    fn a_run_needs_a_target_and_an_open_one_a_rate() {
        assert!(parse("").is_err());
        assert!(parse("--url http://127.0.0.1:1").is_err());
        assert!(parse("--url http://127.0.0.1:1 --model m --mode open").is_err());
        assert!(parse("--url http://127.0.0.1:1 --model m --golden g.json --input x:FP32:1").is_err());
        assert!(matches!(parse("echo-grpc --port 0").unwrap().echo, Some(EchoCommand::EchoGrpc(_))));
    }
}
