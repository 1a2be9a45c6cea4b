//! From arguments to a plan: everything is read, checked and encoded before the first request leaves. Used by `main`.

use std::sync::Arc;
use std::time::Duration;

use crate::bench::Bounds;
use crate::case::{self, Case};
use crate::cli::{Mode, Output, RunArgs};
use crate::error::{Fault, Result};
use crate::grpc::GrpcClient;
use crate::http::HttpClient;
use crate::run_open::OpenLoad;
use crate::sender::Client;
use crate::session::Side;
use crate::target::{Protocol, Target, resolve};
use crate::verify::{Checker, Tolerance, Verify};
use crate::wire_grpc::ModelName;
use crate::{wire_grpc, wire_http};

/// A run that can start.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) side: Side,
    /// The second server of a comparison, and how many rounds each gets.
    pub(crate) versus: Option<(Side, u32)>,
    pub(crate) load: Load,
    pub(crate) bounds: Bounds,
    pub(crate) allowed_errors: Vec<String>,
    pub(crate) output: Output,
}

/// What drives the requests.
#[derive(Debug, Clone)]
pub(crate) enum Load {
    Closed { concurrency: usize },
    Open(OpenLoad),
}

const GRPC_CONNECTIONS: usize = 4;
const HTTP_OPEN_CONNECTIONS: usize = 64;

impl Plan {
    /// Reads the inputs, resolves the targets and encodes the requests.
    ///
    /// # Errors
    /// Anything that would make the run meaningless, said before it starts.
    pub(crate) fn new(args: &RunArgs) -> Result<Self> {
        let load = load(args)?;
        let cases = cases(args)?;
        let target = &args.target;
        let (Some(url), Some(model)) = (&target.url, &target.model) else {
            return Err(Fault::new("target", "expected --url and --model"));
        };
        let choice = Choice { url, model, protocol: target.protocol, verify: args.check.verify };
        let versus = args.vs.vs.as_ref().map(|url| Choice {
            url,
            model: args.vs.vs_model.as_ref().unwrap_or(model),
            protocol: args.vs.vs_protocol.unwrap_or(target.protocol),
            verify: args.vs.vs_verify.unwrap_or(args.check.verify),
        });
        let side = |choice: &Choice<'_>| choice.side(args, &cases, &load);
        let bounds = Bounds {
            warmup: args.load.warmup,
            duration: args.load.duration,
            requests: args.load.requests,
            grace: args.load.grace,
            deadline: deadline(args),
        };
        if bounds.duration.is_zero() {
            return Err(Fault::new("--duration", "expected more than nothing"));
        }
        Ok(Self {
            side: side(&choice)?,
            versus: versus.map(|choice| Ok((side(&choice)?, args.vs.rounds))).transpose()?,
            bounds,
            allowed_errors: args.check.allow_errors.iter().map(|code| code.trim().to_uppercase()).collect(),
            output: args.output,
            load,
        })
    }
}

/// What tells the two sides of a comparison apart.
struct Choice<'a> {
    url: &'a str,
    model: &'a str,
    protocol: Protocol,
    verify: Verify,
}

impl Choice<'_> {
    fn side(&self, args: &RunArgs, cases: &[Case], load: &Load) -> Result<Side> {
        let (address, authority) = resolve(self.url, args.target.allow_remote)?;
        let (name, version) = self.model.split_once(':').unwrap_or((self.model, ""));
        let target = Target {
            address,
            authority,
            protocol: self.protocol,
            model: ModelName { name: name.to_owned(), version: version.to_owned() },
            connections: connections(args, self.protocol, load),
            headers: args.target.headers.clone(),
        };
        let tolerance = Tolerance { absolute: args.check.atol, relative: args.check.rtol };
        Ok(Side {
            url: self.url.to_owned(),
            model: self.model.to_owned(),
            rows: case::rows(cases),
            cases: cases.len(),
            checker: Arc::new(Checker::new(cases, self.verify, tolerance)),
            client: Arc::new(client(target.clone(), cases, deadline(args))?),
            target,
        })
    }
}

fn client(target: Target, cases: &[Case], timeout: Option<Duration>) -> Result<Client> {
    let typed = target.protocol == Protocol::GrpcTyped;
    let binary = target.protocol == Protocol::HttpBinary;
    match target.protocol {
        Protocol::GrpcRaw | Protocol::GrpcTyped => {
            let encode = |case| wire_grpc::encode(&target.model, case, typed);
            let messages = cases.iter().map(encode).collect::<Result<_>>()?;
            GrpcClient::new(target, messages, timeout).map(Client::Grpc)
        }
        Protocol::HttpJson | Protocol::HttpBinary => {
            let bodies = cases.iter().map(|case| wire_http::encode(case, binary)).collect::<Result<_>>()?;
            HttpClient::new(target, bodies, timeout).map(Client::Http)
        }
    }
}

fn cases(args: &RunArgs) -> Result<Vec<Case>> {
    let cases = match &args.cases.golden {
        Some(path) => case::from_golden(path)?,
        None => case::from_specs(&args.cases.inputs, args.cases.seed)?,
    };
    match args.cases.rows {
        Some(rows) => case::with_rows(&cases, rows as usize),
        None => Ok(cases),
    }
}

fn load(args: &RunArgs) -> Result<Load> {
    let load = &args.load;
    match (load.mode, load.rate) {
        (Mode::Closed, None) => Ok(Load::Closed { concurrency: load.concurrency as usize }),
        (Mode::Closed, Some(_)) => Err(Fault::new("--rate", "needs --mode open")),
        (Mode::Open, None) => Err(Fault::new("--mode open", "needs --rate")),
        (Mode::Open, Some(rate)) => Ok(Load::Open(OpenLoad {
            rate,
            spacing: load.arrivals,
            outstanding: load.max_outstanding as usize,
            seed: args.cases.seed,
        })),
    }
}

fn connections(args: &RunArgs, protocol: Protocol, load: &Load) -> usize {
    let most = match load {
        Load::Closed { concurrency } => *concurrency,
        Load::Open(open) => open.outstanding,
    };
    let usual = match (protocol, load) {
        (Protocol::GrpcRaw | Protocol::GrpcTyped, _) => GRPC_CONNECTIONS,
        (_, Load::Closed { concurrency }) => *concurrency,
        (_, Load::Open(_)) => HTTP_OPEN_CONNECTIONS,
    };
    // More connections than requests in flight would only be opened, never used together.
    args.target.connections.map_or(usual, |asked| asked as usize).min(most)
}

fn deadline(args: &RunArgs) -> Option<Duration> {
    args.target.timeout_ms.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn plan(line: &str) -> Result<Plan> {
        let common = "weir-loadtest --url http://127.0.0.1:1 --model m:2 --input x:FP32:1x2";
        let words = common.split(' ').chain(line.split_whitespace());
        Plan::new(&Cli::try_parse_from(words).map_err(|e| Fault::new("cli", e))?.run)
    }

    #[test]
    fn connections_follow_protocol_and_load() {
        let connections = |line| plan(line).unwrap().side.target.connections;
        assert_eq!(connections("--concurrency 32"), 4);
        assert_eq!(connections("--concurrency 2"), 2);
        assert_eq!(connections("--concurrency 32 --protocol http-json"), 32);
        assert_eq!(connections("--concurrency 32 --protocol http-json --connections 3"), 3);
        assert_eq!(connections("--mode open --rate 10 --protocol http-binary"), 64);
    }

    #[test]
    fn the_second_side_inherits_what_it_is_not_given() {
        let plan = plan("--vs http://127.0.0.1:2 --vs-protocol http-json --rounds 4").unwrap();
        let (versus, rounds) = plan.versus.unwrap();
        assert_eq!((versus.model.as_str(), versus.target.protocol, rounds), ("m:2", Protocol::HttpJson, 4));
        assert_eq!(versus.target.model.version, "2");
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(plan("--rate 10").is_err());
        assert!(plan("--duration 0").is_err());
        assert!(plan("--vs http://192.0.2.1:1").is_err());
        assert!(plan("--input x:FP32:1").is_err());
    }
}
