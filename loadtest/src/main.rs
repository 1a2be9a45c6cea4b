//! `weir-loadtest`: load for Open Inference Protocol servers, with verified answers. See README.md for its use.
//!
//! | what | where |
//! |---|---|
//! | what is asked for | `cli`, `units`, `plan`, `scenario`, `class` |
//! | what can be sent | `prepare`, `metadata`, `case`, `input`, `tag`, `message`, `parameter` |
//! | the loops | `session`, `bench`, `mix`, `profile`, `arrivals`, `run_closed`, `run_open`, `clock`, `stop` |
//! | the protocols | `target`, `sender`, `grpc`, `http`, `wire_grpc`, `wire_http`, `json`, `tensor`, `pb` |
//! | what came back | `verify`, `tally`, `timeline` |
//! | what is printed | `report`, `report_table`, `comparison`, `figures`, `table` |
//! | scenarios | `capacity`, `overload`, `neighbour` |
//! | bare servers | `echo`, `echo_grpc`, `echo_http` |
//! | models of a known cost | `models`, `onnx` |

mod arrivals;
mod bench;
mod capacity;
mod case;
mod class;
mod cli;
mod clock;
mod comparison;
mod echo;
mod echo_grpc;
mod echo_http;
mod error;
mod figures;
mod grpc;
mod http;
mod input;
mod json;
mod message;
mod metadata;
mod mix;
mod models;
mod neighbour;
mod onnx;
mod overload;
mod parameter;
mod pb;
mod plan;
mod prepare;
mod profile;
mod report;
mod report_table;
mod run_closed;
mod run_open;
mod scenario;
mod sender;
mod session;
mod stop;
mod table;
mod tag;
mod tally;
mod target;
mod tensor;
mod timeline;
mod units;
mod verify;
mod wire_grpc;
mod wire_http;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, EchoKind, Output, RunArgs};
use crate::comparison::ComparisonReport;
use crate::error::{Fault, Result};
use crate::plan::Plan;
use crate::report::Report;
use crate::session::Duel;
use crate::stop::Stop;
use crate::table::Shown;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The run went wrong: wrong answers, unexpected errors, or nothing measured.
const EXIT_WRONG: u8 = 1;
/// The run could not start.
const EXIT_USAGE: u8 = 2;
/// A signal ended the run: what was printed is not all of it.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let (cli, stop) = (Cli::parse(), Stop::default());
    match start(cli, &stop) {
        Ok(complaints) => {
            complaints.iter().for_each(|complaint| complain(complaint));
            match complaints.is_empty() {
                _ if stop.is_set() => ExitCode::from(EXIT_INTERRUPTED),
                true => ExitCode::SUCCESS,
                false => ExitCode::from(EXIT_WRONG),
            }
        }
        Err(fault) => {
            complain(&fault.to_string());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn complain(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

/// Does what was asked for; what comes back is what was wrong with the answers.
fn start(cli: Cli, stop: &Stop) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fault::new("runtime", e))?;
    // Echo servers end by signals of their own, and with success.
    let command = match cli.command {
        Some(Command::EchoGrpc(args)) => Some(Command::Echo(EchoKind::Grpc(args))),
        Some(Command::EchoHttp(args)) => Some(Command::Echo(EchoKind::Http(args))),
        command => command,
    };
    if let Some(Command::Echo(kind)) = command {
        return runtime.block_on(echo::serve(&kind)).map(|()| Vec::new());
    }
    runtime.block_on(async {
        // Not a task of its own: a run that is over takes it along.
        tokio::select! {
            done = carry_out(command, &cli.run, stop) => done,
            ended = stop.listen() => ended.and(Err(Fault::new("interrupted", "without a result"))),
        }
    })
}

async fn carry_out(command: Option<Command>, run: &RunArgs, stop: &Stop) -> Result<Vec<String>> {
    match command {
        Some(Command::Overload(args)) => {
            let report = overload::run(&args, stop).await?;
            print(args.run.output, &report).map(|()| report.complaints())
        }
        Some(Command::Neighbour(args)) => {
            let report = neighbour::run(&args, stop).await?;
            print(args.output, &report).map(|()| report.complaints())
        }
        Some(Command::MakeModels(args)) => {
            let written = models::make(&args)?.join("\n");
            writeln!(std::io::stdout(), "{written}").map_err(|e| Fault::new("stdout", e))?;
            Ok(Vec::new())
        }
        _ => measure(run, stop).await,
    }
}

async fn measure(args: &RunArgs, stop: &Stop) -> Result<Vec<String>> {
    let plan = Plan::new(args)?;
    clock::check_process("--server-pid", args.target.server_pid)?;
    clock::check_process("--vs-pid", args.vs.vs_pid)?;
    if args.capacity.find_capacity {
        let report = capacity::find(args, &plan, stop).await?;
        return print(plan.output, &report).map(|()| report.complaints());
    }
    let first = prepare::side(&plan.classes, &plan.load).await?.watching(args.target.server_pid);
    let Some((versus, rounds)) = &plan.versus else {
        let measured = first.measure(&plan.load, &plan.bounds, stop).await?;
        let report = Report::new(&plan, &first, &measured, stop.is_set());
        return print(plan.output, &report).map(|()| report.complaints());
    };
    let second = prepare::side(versus, &plan.load).await?.watching(args.vs.vs_pid);
    let (load, bounds, rounds) = (&plan.load, &plan.bounds, *rounds);
    let comparison = Duel { first: &first, second: &second, load, bounds, rounds }.run(stop).await?;
    let report = ComparisonReport::new(&plan, (&first, &second), &comparison, stop.is_set());
    print(plan.output, &report).map(|()| report.complaints())
}

fn print(output: Output, report: &impl Shown) -> Result<()> {
    let text = match output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(report).map_err(|e| Fault::new("report", e))?,
    };
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|e| Fault::new("stdout", e))
}
