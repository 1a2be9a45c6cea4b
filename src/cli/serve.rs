//! `weir serve`: from arguments to options, and what start-up prints.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;

use super::{
    banner::{Loaded, Started, StartedRoute, banner},
    exit::Failure,
    flags::ServeFlags,
    layers, refusal,
    table::Paint,
};
use crate::{
    app::{App, LogFormat, ServeOptions},
    compose::RouteState,
    gateway::Gateway,
    observe,
    registry::{ModelEntry, Snapshot, VersionEntry},
    types::{BatchLimit, ModelState, Readiness, VersionRef},
};

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

fn serve(options: ServeOptions) -> Result<ExitCode, Failure> {
    let format = match options.log_format {
        LogFormat::Auto => observe::log::LogFormat::Auto,
        LogFormat::Json => observe::log::LogFormat::Json,
        LogFormat::Pretty => observe::log::LogFormat::Pretty,
    };
    let config = observe::log::LogConfig { format, level: options.log_level.clone() };
    // Held to the end: dropping it writes what still waits.
    let log = observe::log::init(&config).map_err(|error| Failure::usage(format!("--log-level: {error}")))?;
    let app = App::start(options).map_err(|error| Failure::usage(error.to_string()))?;
    app.gateway().metrics().count_log_drops(log.drops());
    let addresses = *app.addresses();
    let ran = app.run(|gateway| {
        let snapshot = gateway.registry().snapshot();
        let routes = started_routes(gateway);
        super::print(&banner(addresses, &started(&snapshot), &routes, Paint::of_stdout()));
    });
    ran.map_err(|error| Failure::problem(error.to_string()))
}

/// What start-up came to, version by version.
fn started(snapshot: &Snapshot) -> Vec<Started<'_>> {
    snapshot.models.values().flat_map(|entry| lines(entry)).collect()
}

/// What start-up came to, route by route.
fn started_routes(gateway: &Gateway) -> Vec<StartedRoute> {
    let routes = gateway.routes().map(|routes| routes.list()).unwrap_or_default();
    let line = |route: &Arc<RouteState>| {
        let name = route.name.to_string();
        let live = route.live.as_ref();
        let mut parts: Vec<&str> =
            live.map(|live| live.spec.parts().iter().map(|(_, part)| part.name.as_str()).collect()).unwrap_or_default();
        parts.dedup();
        let state = match gateway.model_ready(&name, &VersionRef::Policy) {
            Readiness::Ready => ModelState::Ready,
            Readiness::NotReady(_) | Readiness::Unknown(_) => ModelState::Unavailable,
        };
        StartedRoute {
            revision: live.map(|live| live.revision.number.to_string()).unwrap_or_default(),
            state,
            kind: live.map_or("", |live| live.spec.kind.as_str()),
            parts: parts.join(", "),
            reason: route.problems.join("; "),
            name,
        }
    };
    routes.iter().map(line).collect()
}

fn lines(entry: &ModelEntry) -> Vec<Started<'_>> {
    let model = entry.name.as_str();
    if entry.versions.is_empty() {
        let (version, state, reason) = (String::new(), ModelState::Unavailable, entry.reason.as_str());
        return vec![Started { model, version, state, reason, loaded: None }];
    }
    entry.versions.iter().map(|version| line(model, version)).collect()
}

fn line<'a>(model: &'a str, entry: &'a VersionEntry) -> Started<'a> {
    let loaded = entry.servable.as_deref().map(|servable| Loaded {
        engine: servable.engine,
        batch_limit: (servable.spec.batching.max_batch_size != BatchLimit::Auto).then(|| servable.lane.batch_limit()),
        merging_off: servable.merging.off_because().map(|reason| reason.to_string()),
        load_time: Some(servable.load_times.total()),
        signature: &servable.signature,
    });
    Started { model, version: entry.version.to_string(), state: entry.state, reason: &entry.reason, loaded }
}
