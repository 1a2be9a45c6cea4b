//! `weir serve`: from arguments to options, and what start-up prints.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{exit::Failure, flags::ServeFlags, layers, refusal};
use crate::app::ServeOptions;

pub use super::banner::{Addresses, Loaded, Started, banner};

/// What `weir serve` takes.
#[derive(Args, Clone, Debug)]
pub struct ServeCommand {
    #[command(flatten)]
    flags: ServeFlags,
    /// Configuration file; every option is a key of it, with underscores
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Puts the layers together and refuses what strangers could abuse.
///
/// # Errors
/// Everything that is wrong with the options, at once.
pub fn options(command: ServeCommand, around: &impl layers::Surroundings) -> Result<ServeOptions, Failure> {
    let options = layers::resolve(command.flags, command.config, around)?;
    let reasons = refusal::refusals(&options);
    if reasons.is_empty() { Ok(options) } else { Err(Failure::usage(reasons.join("\n"))) }
}

/// Serves until a signal.
///
/// # Errors
/// Everything that is wrong with the options, at once.
pub fn run(command: ServeCommand) -> Result<ExitCode, Failure> {
    let options = options(command, &layers::Process)?;
    serve(options)
}

/// The seam to the application layer, which this build does not have yet.
fn serve(options: ServeOptions) -> Result<ExitCode, Failure> {
    Err(Failure::problem(format!("serving {}: not part of this build", options.registry.display())))
}
