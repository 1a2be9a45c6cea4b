//! `weir healthcheck`: whether a gateway is ready, as an exit code, for containers without curl.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::{
    banner,
    client::{BaseUrl, Client, Question, block_on},
    exit::{Failure, Report},
    flags::ServeFlags,
    layers,
};

/// Probes of containers wait a few seconds; the answer must come before they give up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `weir healthcheck` takes.
#[derive(Args, Clone, Debug)]
pub struct HealthCommand {
    /// URL of the gateway [default: where serve listens here] [env: WEIR_URL]
    #[arg(long, value_name = "URL", env = "WEIR_URL", hide_env = true)]
    url: Option<BaseUrl>,
}

/// Asks whether the gateway is ready.
///
/// # Errors
/// When it is not, or nobody answers.
pub fn run(command: HealthCommand) -> Result<Report, Failure> {
    let url = match command.url {
        Some(url) => url,
        None => default_url(&layers::Process)?,
    };
    let client = Client::new(url.clone(), None, PATIENCE);
    block_on(async move {
        match client.ask(Question::get("/v2/health/ready")).await {
            Ok(_) => Ok(Report::done("ready\n")),
            Err(super::client::ClientError::Refused(status, _)) => {
                Err(Failure::problem(format!("{url}: not ready (HTTP {})", status.as_u16())))
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Where `weir serve` would listen here: a container sets the port for both through the environment or the file.
fn default_url(around: &impl layers::Surroundings) -> Result<BaseUrl, Failure> {
    let options = layers::resolve(ServeFlags::default(), None, around)?;
    Ok(BaseUrl::at(banner::reachable(SocketAddr::new(options.host, options.http_port))))
}
