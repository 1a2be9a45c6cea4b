//! Layer 10: the command line. Each command is a file; this one is the list of them, and where their text and exit code leave
//! the process.
//!
//! | file | what it is |
//! |---|---|
//! | [`serve`] | `weir serve` |
//! | [`flags`], `values`, [`layers`], [`refusal`] | its options and their values, where they come from, what it refuses |
//! | [`banner`] | what it prints at start-up |
//! | [`infer`] | `weir infer` |
//! | [`input`], `npy`, [`answer`], [`local`] | what it is given, what it shows, the gateway in this process |
//! | [`calibrate`] | `weir calibrate` |
//! | [`models`], [`check`], [`push`], [`health`] | `weir models`, `check`, `push`, `healthcheck` |
//! | [`load_probe`] | `weir load-probe` |
//! | [`split`] | `weir split` |
//! | [`client`] | asks a running gateway |
//! | [`table`], [`output`], [`exit`] | tables and colours, table or JSON, exit codes |

pub mod answer;
pub mod banner;
pub mod calibrate;
pub mod check;
pub mod client;
pub mod exit;
pub mod flags;
pub mod health;
pub mod infer;
pub mod input;
pub mod layers;
pub mod load_probe;
pub mod local;
pub mod models;
mod models_view;
mod npy;
pub mod output;
pub mod push;
pub mod refusal;
pub mod serve;
pub mod split;
pub mod table;
mod values;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    builder::Resettable,
    error::{ContextKind, ContextValue},
};

use exit::{Exit, Failure, Report};
use load_probe::Outcome;

use crate::observe::panics;

/// An inference serving gateway for ONNX models
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the models of a registry over gRPC and HTTP
    ///
    /// Every option is also an environment variable and a key of weir.toml: --http-port is WEIR_HTTP_PORT and http_port. A
    /// flag wins over the environment, the environment over the file, the file over the default.
    Serve(Box<serve::ServeCommand>),
    /// Ask for a prediction, and show it
    Infer(Box<infer::InferCommand>),
    /// Show what a gateway has loaded: state, engine, batching, digest
    Models(models::ModelsCommand),
    /// Load and validate a registry as serve would, and say everything that is wrong
    ///
    /// Exits with 1 when there are problems; each names its file and key.
    Check(check::CheckCommand),
    /// Publish a version of a model into a registry directory
    ///
    /// The version appears whole or not at all: its files are copied into a hidden folder, digests are added, and one rename
    /// makes it visible. A gateway that watches the directory then loads it.
    Push(push::PushCommand),
    /// Show and move the weights of a split, on a running gateway
    Split(split::SplitCommand),
    /// Choose the thresholds of a cascade from labelled rows, with a guarantee, and write them into the route
    ///
    /// Runs every stage over the rows in this process, shows accuracy against cost, and makes a revision with the versions
    /// pinned, the thresholds, and a table [calibration] that says what they promise.
    Calibrate(Box<calibrate::CalibrateCommand>),
    /// Parse, compile and run a model once in a process with limits, and say what happened
    ///
    /// The answer is one line of JSON. A model that wants too much memory or time, or that crashes what runs it, ends that
    /// process only; serve and check try every model so before they load it.
    LoadProbe(load_probe::LoadProbeCommand),
    /// Exit with 0 when a gateway is ready, else with 1
    Healthcheck(health::HealthCommand),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// The whole command line, with environment variables and defaults in the help.
pub fn command() -> clap::Command {
    let without_empty = |arg: clap::Arg| match arg.get_env().and_then(std::env::var_os) {
        // As for serve: compose files turn an absent value into an empty one.
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    };
    Cli::command().mut_subcommands(|command| match command.get_name() {
        "serve" => flags::annotate(command),
        _ => command.mut_args(without_empty).mut_subcommands(|command| command.mut_args(without_empty)),
    })
}

/// Parses the arguments, runs the command, and prints what it says.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    panics::install();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let error = name_the_variable(error, &arguments);
            // Help and version are no errors, and go to standard output. Nobody is left to tell when printing fails.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8).into();
        }
    };
    let outcome = match cli.command {
        Command::Serve(command) => match serve::run(*command) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Infer(command) => infer::run(*command),
        Command::Models(command) => models::run(command),
        Command::Healthcheck(command) => health::run(command),
        Command::LoadProbe(command) => match load_probe::run(command) {
            Ok(Outcome::Child(code)) => return code,
            Ok(Outcome::Report(report)) => Ok(report),
            Err(failure) => Err(failure),
        },
        Command::Check(command) => check::run(command),
        Command::Push(command) => push::run(command),
        Command::Split(command) => split::run(command),
        Command::Calibrate(command) => calibrate::run(*command),
        Command::Completions { shell } => Ok(completions(shell)),
    };
    finish(outcome)
}

/// Says where a wrong value comes from when it is not on the command line.
fn name_the_variable(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some(flag) = option.split([' ', '=', '[']).next().filter(|flag| flag.starts_with("--")) else { return error };
    let variable = flags::variable(&flag[2..].replace('-', "_"));
    let given = arguments.iter().any(|argument| argument.to_string_lossy().starts_with(flag));
    if !given && std::env::var_os(&variable).is_some() {
        let source = ContextValue::String(format!("the environment variable {variable}"));
        error.insert(ContextKind::InvalidArg, source);
    }
    error
}

fn completions(shell: clap_complete::Shell) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "weir", &mut script);
    Report::done(String::from_utf8_lossy(&script))
}

/// Writes to standard output. A reader that went away (`weir … | head`) is no error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a command's outcome.
fn finish(outcome: Result<Report, Failure>) -> ExitCode {
    match outcome {
        Ok(report) => {
            print(&report.text);
            report.exit.into()
        }
        Err(failure) => {
            let mut err = std::io::stderr().lock();
            for line in failure.text.lines() {
                let _ = writeln!(err, "error: {line}");
            }
            failure.exit.into()
        }
    }
}
