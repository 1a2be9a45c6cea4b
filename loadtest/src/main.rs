//! `weir-loadtest`: load for Open Inference Protocol servers, with verified answers. See README.md for its use.
//!
//! A plan (`plan`) is made of targets, cases and a load; `session` carries it out by one of the loops (`run_closed`,
//! `run_open`) over one of the clients (`grpc`, `http`); `report` prints what `tally` counted. The `echo` servers are
//! the transport's own limit, to hold a gateway's figures against.

mod arrivals;
mod bench;
mod case;
mod cli;
mod clock;
mod echo;
mod echo_grpc;
mod echo_http;
mod error;
mod grpc;
mod http;
mod input;
mod json;
mod pb;
mod plan;
mod report;
mod run_closed;
mod run_open;
mod sender;
mod session;
mod table;
mod tally;
mod target;
mod tensor;
mod verify;
mod wire_grpc;
mod wire_http;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Output};
use crate::error::{Fault, Result};
use crate::plan::Plan;
use crate::report::{ComparisonReport, Report, Shown};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The run went wrong: wrong answers, unexpected errors, or nothing measured.
const EXIT_WRONG: u8 = 1;
/// The run could not start.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            complaints.iter().for_each(|complaint| complain(complaint));
            ExitCode::from(EXIT_WRONG)
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

/// Runs what was asked for; what comes back is what was wrong with the answers.
fn start(cli: &Cli) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fault::new("runtime", e))?;
    if let Some(command) = &cli.echo {
        return runtime.block_on(echo::serve(command)).map(|()| Vec::new());
    }
    let plan = Plan::new(&cli.run)?;
    runtime.block_on(run(&plan))
}

async fn run(plan: &Plan) -> Result<Vec<String>> {
    let Some((versus, rounds)) = &plan.versus else {
        let measured = plan.side.measure(&plan.load, &plan.bounds).await?;
        let report = Report::new(plan, &plan.side, &measured);
        print(plan, &report)?;
        return Ok(report.complaints());
    };
    let comparison = session::compare(plan, versus, *rounds).await?;
    let report = ComparisonReport::new(plan, versus, &comparison);
    print(plan, &report)?;
    Ok(report.complaints())
}

fn print(plan: &Plan, report: &impl Shown) -> Result<()> {
    let text = match plan.output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(report).map_err(|e| Fault::new("report", e))?,
    };
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|e| Fault::new("stdout", e))
}
