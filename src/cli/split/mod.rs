//! `weir split`: shows and moves the weights of a split on a running gateway, through its ops listener.
//!
//! | file | what it is |
//! |---|---|
//! | this one | the arguments |
//! | `ask` | the conversation with the gateway, and what to do about a refusal |
//! | `state` | the gateway's answers |
//! | `view` | how they are shown |
//! | `bar` | a share as a bar |

mod ask;
mod bar;
mod state;
mod view;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    client::BaseUrl,
    exit::{Failure, Report},
    output::Output,
};
use crate::types::ModelName;

const OPS_PORT: u16 = 8002;

/// What `weir split` takes.
#[derive(Args, Clone, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct SplitCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Show the weights of a split and its revision; without a name, all routes
    Get(GetArgs),
    /// Change weights, and say what share of the keys moves
    ///
    /// Variants that are not named keep their weight. Weights are relative to each other: 80 and 20 are the same as 4 and 1.
    Set(SetArgs),
    /// Show every revision of a route: when, by whom, why
    History(HistoryArgs),
    /// Bring back an earlier revision, as a new one
    Rollback(RollbackArgs),
    /// Say which variant a key gets
    Assign(AssignArgs),
}

/// Where the gateway is.
#[derive(Args, Clone, Debug)]
pub(super) struct Door {
    /// URL of the gateway's ops listener [default: http://127.0.0.1:8002] [env: WEIR_OPS]
    #[arg(long, value_name = "URL", env = "WEIR_OPS", hide_env = true)]
    ops: Option<BaseUrl>,
    /// File with the token of the ops listener [env: WEIR_TOKEN_FILE]
    #[arg(long, value_name = "FILE", env = "WEIR_TOKEN_FILE", hide_env = true)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Door {
    fn url(&self) -> BaseUrl {
        self.ops.clone().unwrap_or_else(|| BaseUrl::local(OPS_PORT))
    }
}

/// How a change is made.
#[derive(Args, Clone, Debug)]
pub(super) struct How {
    /// The reason, for the history and the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    /// Change nothing, only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Only if the route is at this revision; without it, only if it is as it is now
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    if_revision: Option<u64>,
}

#[derive(Args, Clone, Debug)]
struct GetArgs {
    /// The route
    #[arg(value_parser = route)]
    route: Option<ModelName>,
    #[command(flatten)]
    door: Door,
}

#[derive(Args, Clone, Debug)]
struct SetArgs {
    /// The route
    #[arg(value_parser = route)]
    route: ModelName,
    /// New weights: a variant's name, an equals sign, a number of at least 0
    #[arg(value_name = "NAME=WEIGHT", required = true, value_parser = weight)]
    weights: Vec<(String, f64)>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    door: Door,
}

#[derive(Args, Clone, Debug)]
struct HistoryArgs {
    /// The route
    #[arg(value_parser = route)]
    route: ModelName,
    #[command(flatten)]
    door: Door,
}

#[derive(Args, Clone, Debug)]
struct RollbackArgs {
    /// The route
    #[arg(value_parser = route)]
    route: ModelName,
    /// The revision whose configuration is to be in force again
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    door: Door,
}

#[derive(Args, Clone, Debug)]
struct AssignArgs {
    /// The route
    #[arg(value_parser = route)]
    route: ModelName,
    /// A key; may be repeated
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    door: Door,
}

/// Asks, and shows the answer.
///
/// # Errors
/// When nobody answers, or the gateway refuses: with what to do about it.
pub fn run(command: SplitCommand) -> Result<Report, Failure> {
    match command.action {
        Action::Get(args) => ask::get(&args.door, args.route.as_ref()),
        Action::Set(args) => {
            if let Some(twice) = twice(&args.weights) {
                return Err(Failure::usage(format!("variant '{twice}': given twice")));
            }
            ask::set(&args.door, &args.route, &args.weights, &args.how)
        }
        Action::History(args) => ask::history(&args.door, &args.route),
        Action::Rollback(args) => ask::rollback(&args.door, &args.route, args.to, &args.how),
        Action::Assign(args) => ask::assign(&args.door, &args.route, &args.keys),
    }
}

fn route(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).map_err(|error| error.to_string())
}

/// Reads `name=weight`.
fn weight(text: &str) -> Result<(String, f64), String> {
    let Some((name, number)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err("expected a variant's name, an equals sign and a number, such as candidate=20".to_owned());
    };
    let weight: f64 = number.parse().map_err(|_| format!("expected a number, got '{number}'"))?;
    if !weight.is_finite() || weight < 0.0 {
        return Err(format!("expected a finite number, at least 0, got {number}"));
    }
    // Not -0: it would be shown with its sign.
    Ok((name.to_owned(), weight.abs()))
}

/// The first name that comes a second time.
fn twice(weights: &[(String, f64)]) -> Option<&str> {
    let again = |at: &usize| weights[..*at].iter().any(|(name, _)| *name == weights[*at].0);
    (0..weights.len()).find(again).map(|at| weights[at].0.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (text, want) in [
            ("control=80", Ok(("control", 80.0))),
            ("a=0", Ok(("a", 0.0))),
            ("a=2.5e-3", Ok(("a", 0.0025))),
            ("a=-1", Err("expected a finite number, at least 0, got -1")),
            ("a=NaN", Err("expected a finite number, at least 0, got NaN")),
            ("a=inf", Err("expected a finite number, at least 0, got inf")),
            ("a=1e999", Err("expected a finite number, at least 0, got 1e999")),
            ("a=20%", Err("expected a number, got '20%'")),
            ("a=", Err("expected a number, got ''")),
            ("a=1=2", Err("expected a number, got '1=2'")),
            ("=1", Err("expected a variant's name, an equals sign and a number, such as candidate=20")),
            ("20", Err("expected a variant's name, an equals sign and a number, such as candidate=20")),
        ] {
            let got = weight(text);
            let got = got.as_ref().map(|(name, weight)| (name.as_str(), *weight)).map_err(String::as_str);
            assert_eq!(got, want, "{text}");
        }
        assert!(weight("a=-0").unwrap().1.is_sign_positive());
    }

    #[test]
    fn names_given_twice() {
        let given = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1.0)).collect::<Vec<_>>();
        assert_eq!(twice(&given(&["a", "b", "c"])), None);
        assert_eq!(twice(&given(&["a", "b", "a", "b"])), Some("a"));
        assert_eq!(twice(&[]), None);
    }
}
