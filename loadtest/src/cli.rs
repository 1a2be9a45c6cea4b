//! The command line. Ranges here are the hard caps of a run: whatever is asked for, it ends and it fits in memory.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::arrivals::Spacing;
use crate::class::TimeoutBy;
use crate::input::InputSpec;
use crate::parameter::{self, Parameter};
use crate::tag::Tag;
use crate::target::{Protocol, parse_header};
use crate::units::{self, Span};
use crate::verify::Verify;

/// Load generator for Open Inference Protocol servers: verified answers, latency without coordinated omission.
///
/// Without a subcommand it measures one server, or two in alternation. SIGINT ends a run early with what was measured so far.
///
/// Exit code: 0 all right; 1 wrong answers, unexpected errors or no answer at all; 2 usage; 130 ended by a signal.
#[derive(Debug, Parser)]
#[command(name = "weir-loadtest", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bare servers that show what the transport alone can do, to hold a gateway's figures against.
    #[command(subcommand)]
    Echo(EchoKind),
    /// The same as `echo grpc`.
    #[command(hide = true)]
    EchoGrpc(EchoArgs),
    /// The same as `echo http`.
    #[command(hide = true)]
    EchoHttp(EchoArgs),
    /// Measures a server's capacity, then offers it less and many times more: goodput, refusals and recovery.
    Overload(Box<OverloadArgs>),
    /// What a model's callers notice when others flood the same server with a fast model or with a slow one.
    Neighbour(NeighbourArgs),
    /// Writes models of a known cost, as a registry directory for `overload`, `neighbour` and `--tag`.
    MakeModels(MakeModelsArgs),
}

/// Which bare server.
#[derive(Debug, Subcommand)]
pub(crate) enum EchoKind {
    /// A tonic service that decodes ModelInfer requests and answers with a constant.
    Grpc(EchoArgs),
    /// A hyper service that parses infer bodies and answers with a constant.
    Http(EchoArgs),
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

#[derive(Debug, Clone, Args)]
pub(crate) struct MakeModelsArgs {
    /// Where to; models that are there already are replaced.
    pub(crate) directory: PathBuf,
    /// Copies of the tiny model with weights of their own, load-copy-0001 and so on.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=9999))]
    pub(crate) copies: u32,
    /// Convolutions of load-cnn and load-flood: 72 take 2 to 3 ms a row on one core of a server CPU.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) cnn_layers: u32,
    /// Convolutions of load-slow: 360 take about half a second a row there.
    #[arg(long, default_value_t = 360, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) slow_layers: u32,
}

#[derive(Debug, Clone, Args)]
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
    #[command(flatten)]
    pub(crate) capacity: CapacityArgs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
pub(crate) struct TargetArgs {
    /// Server, `http://HOST:PORT`.
    #[arg(long, required_unless_present = "scenario")]
    pub(crate) url: Option<String>,
    /// Model, `NAME` or `NAME:VERSION`; with --models and a `{}` in it, several.
    #[arg(long, required_unless_present = "scenario")]
    pub(crate) model: Option<String>,
    /// Requests go to this many models in turn; their numbers, 0001 and so on, stand for the `{}`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub(crate) models: u32,
    /// Protocol and encoding.
    #[arg(long, value_enum, default_value = "grpc-raw")]
    pub(crate) protocol: Protocol,
    /// Connections; HTTP has one request in flight on each [default: 4 for gRPC, the concurrency for HTTP].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) connections: Option<u32>,
    /// Header (gRPC: metadata) of every request, `NAME:VALUE`; may be repeated.
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Parameter of every request, such as `priority=1`; may be repeated.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter::parse)]
    pub(crate) parameters: Vec<Parameter>,
    /// Deadline sent along with every request; later answers are counted as late.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) timeout_ms: Option<u64>,
    /// How the deadline is sent.
    #[arg(long, value_enum, default_value = "header")]
    pub(crate) timeout_by: TimeoutBy,
    /// The server's process on this machine: its CPU time per request is reported (Linux).
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Allow servers on other machines. Make sure they are yours.
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Requests")]
pub(crate) struct CaseArgs {
    /// Several classes of requests at once, from a TOML file; options here are for what a class leaves out.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Requests and expected answers, `{"cases":[{"inputs":[…],"outputs":[…]}]}`; sent in turn, every answer verified.
    #[arg(long, conflicts_with = "inputs")]
    pub(crate) golden: Option<PathBuf>,
    /// An input, `NAME=@FILE.npy` or `NAME:DATATYPE:SHAPE` (random); may be repeated [default: what the server says it wants].
    #[arg(long = "input", value_name = "SPEC", value_parser = InputSpec::parse)]
    pub(crate) inputs: Vec<InputSpec>,
    /// Different requests made of random inputs, sent in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) variants: u32,
    /// Rows per request: every case's rows over and over, expected answers alike.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(crate) rows: Option<u32>,
    /// An input that carries a number of its own in every row and the output that gives it back: finds swapped answers.
    #[arg(long, value_name = "INPUT:OUTPUT", value_parser = Tag::parse)]
    pub(crate) tag: Option<Tag>,
    /// Take this share of the requests back after --cancel-after-ms.
    #[arg(long, value_name = "SHARE", requires = "cancel_after_ms", value_parser = units::share)]
    pub(crate) cancel_share: Option<f64>,
    /// See --cancel-share.
    #[arg(long, value_name = "MS", requires = "cancel_share", value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub(crate) cancel_after_ms: Option<u64>,
    /// Seed of random inputs and of Poisson arrivals.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// Closed: callers wait for their answers. Open: requests leave at their time.
    #[arg(long, value_enum, default_value = "closed")]
    pub(crate) mode: Mode,
    /// Callers of the closed loop, or a ramp such as 1..64.
    #[arg(long, value_name = "CALLERS", default_value = "1", value_parser = units::callers)]
    pub(crate) concurrency: Span,
    /// Requests per second of the open loop, at most 1,000,000, or a ramp such as 100..5000.
    #[arg(long, required_if_eq("mode", "open"), value_parser = units::rate)]
    pub(crate) rate: Option<Span>,
    /// A ramp goes in this many steps instead of evenly.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) steps: Option<u32>,
    /// Report the measured time in this many slices [default: the steps, or 10, of a ramp; none otherwise].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) slices: Option<u32>,
    /// How the open loop's arrivals are spaced.
    #[arg(long, value_enum, default_value = "poisson")]
    pub(crate) arrivals: Spacing,
    /// Requests of the open loop without an answer, at most; arrivals beyond are dropped and counted.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_outstanding: u32,
    /// Measured time: seconds, or with a unit as in 500ms; at most 1h.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    pub(crate) duration: Duration,
    /// Time before that, not measured.
    #[arg(long, default_value = "1s", value_parser = units::duration)]
    pub(crate) warmup: Duration,
    /// Measured requests, at most.
    #[arg(long, default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) requests: u64,
    /// How long outstanding answers are waited for at the end.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    pub(crate) grace: Duration,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Checks")]
pub(crate) struct CheckArgs {
    /// Which answers are compared with the expected ones.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) verify: Verify,
    /// Ask every case without an expected answer once before the run, and hold all later answers against that.
    #[arg(long)]
    pub(crate) ask_first: bool,
    /// Allowed distance of a floating point value: ATOL + RTOL * |expected|.
    #[arg(long, default_value_t = 1e-4)]
    pub(crate) atol: f64,
    /// See --atol.
    #[arg(long, default_value_t = 1e-4)]
    pub(crate) rtol: f64,
    /// Every bit must be as expected: --atol 0 --rtol 0.
    #[arg(long, conflicts_with_all = ["atol", "rtol"])]
    pub(crate) bitwise: bool,
    /// Error codes that are part of the test: gRPC names, HTTP statuses, CONNECT, TRANSPORT, UNFINISHED.
    #[arg(long, value_delimiter = ',', value_name = "CODE,…")]
    pub(crate) allow_errors: Vec<String>,
}

#[derive(Debug, Clone, Args)]
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
    /// The second server's process, as --server-pid.
    #[arg(long, requires = "vs", value_name = "PID")]
    pub(crate) vs_pid: Option<u32>,
    /// Rounds per server; the durations are divided among them.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Capacity")]
pub(crate) struct CapacityArgs {
    /// Look for the largest rate that the server holds: --probes open loops of --duration each, after a closed one.
    #[arg(long, conflicts_with_all = ["vs", "rate", "mode"])]
    pub(crate) find_capacity: bool,
    /// A rate is held when this share of the requests is answered, and in time if there is a deadline.
    #[arg(long, default_value_t = 0.99, value_parser = units::share)]
    pub(crate) hold: f64,
    /// Callers of the closed loop that measures the capacity first.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) capacity_callers: u32,
    /// Rates that are tried, at most.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) probes: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OverloadArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// What is offered, in multiples of the measured capacity; the last is followed by the recovery.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,1,2,3,10", value_parser = units::factor)]
    pub(crate) factors: Vec<f64>,
    /// How long the server is watched after the load has fallen to half of its capacity.
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    pub(crate) recovery: Duration,
    /// Fails unless goodput at FACTOR is at least SHARE of its peak, `FACTOR=SHARE`; may be repeated.
    #[arg(long, value_name = "FACTOR=SHARE", value_parser = parse_floor)]
    pub(crate) at_least: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NeighbourArgs {
    /// Server, `http://HOST:PORT`.
    #[arg(long)]
    pub(crate) url: String,
    /// The model whose callers are watched.
    #[arg(long, default_value = "load-cnn")]
    pub(crate) model: String,
    /// The fast model that is flooded.
    #[arg(long, default_value = "load-flood")]
    pub(crate) flood: String,
    /// The slow model that is flooded.
    #[arg(long, default_value = "load-slow")]
    pub(crate) slow: String,
    /// Protocol and encoding.
    #[arg(long, value_enum, default_value = "grpc-raw")]
    pub(crate) protocol: Protocol,
    /// Requests per second for the model that is watched [default: 30 % of what one caller gets].
    #[arg(long, value_parser = units::rate)]
    pub(crate) rate: Option<Span>,
    /// Callers of a flood.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) flood_callers: u32,
    /// How long each situation is measured.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    pub(crate) duration: Duration,
    /// Allow servers on other machines. Make sure they are yours.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
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

fn parse_floor(text: &str) -> crate::error::Result<(f64, f64)> {
    let (factor, share) = text.split_once('=').unwrap_or((text, ""));
    Ok((units::factor(factor)?, units::share(share)?))
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
