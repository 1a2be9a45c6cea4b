//! From what was asked for to what can be sent: inputs are read or made, answers to hold others against are fetched, and
//! everything is encoded before the first measured request leaves. Used by `session` and the scenarios.

use std::sync::Arc;
use std::time::Duration;

use crate::bench::Class;
use crate::case::{self, Case};
use crate::class::{ClassSpec, Source};
use crate::error::{Fault, Result};
use crate::grpc::{self, GrpcClient};
use crate::http::{Body, HttpClient};
use crate::message::Message;
use crate::metadata;
use crate::plan::Load;
use crate::sender::{Call, Client, Sender as _};
use crate::session::Side;
use crate::target::{Protocol, Target, resolve};
use crate::verify::{self, Checker};
use crate::{wire_grpc, wire_http};

const GRPC_CONNECTIONS: usize = 4;
const HTTP_OPEN_CONNECTIONS: usize = 64;
/// Tagged requests that are under way have a copy of their own each; together they may not be larger than this.
const MAX_COPIES: usize = 4 << 30;

/// Cases of a class, over all its models.
const MAX_CASES: usize = 65_536;

/// Everything that is needed to send these classes at this load.
///
/// # Errors
/// Anything that would make the run meaningless, said before it starts.
pub(crate) async fn side(specs: &[ClassSpec], load: &Load) -> Result<Side> {
    let mut classes = Vec::with_capacity(specs.len());
    let mut rows = Vec::with_capacity(specs.len());
    for spec in specs {
        let target = target(spec, load)?;
        let cases = cases(spec, &target).await?;
        rows.push(case::rows(&cases));
        classes.push(class(spec, target, cases, load).await?);
    }
    let connections = connections_of(specs, load);
    Ok(Side { specs: specs.to_vec(), classes: classes.into(), rows, connections, pid: None })
}

/// Where the requests of a class go.
fn target(spec: &ClassSpec, load: &Load) -> Result<Target> {
    let (address, authority) = resolve(&spec.url, spec.allow_remote)?;
    Ok(Target {
        address,
        authority,
        protocol: spec.protocol,
        model: spec.model_name(0),
        connections: connections(spec, load),
        headers: spec.headers.clone(),
    })
}

async fn cases(spec: &ClassSpec, target: &Target) -> Result<Vec<Case>> {
    let cases = match &spec.source {
        Source::Golden(path) => case::from_golden(path)?,
        Source::Inputs(inputs) => case::from_specs(inputs, spec.seed, spec.variants)?,
        Source::Metadata => {
            let inputs = metadata::inputs(target).await?;
            case::from_specs(&inputs, spec.seed, spec.variants)?
        }
    };
    let cases = match spec.rows {
        Some(rows) => case::with_rows(&cases, rows as usize)?,
        None => cases,
    };
    // Every model gets every case: case number `at` goes to model `at % models`.
    let models = spec.models.max(1) as usize;
    if cases.len().saturating_mul(models) > MAX_CASES {
        let what = format!("{} cases for each of {models} models are more than {MAX_CASES}", cases.len());
        return Err(Fault::new(&spec.name, what));
    }
    Ok(cases.into_iter().flat_map(|case| std::iter::repeat_n(case, models)).collect())
}

async fn class(spec: &ClassSpec, target: Target, mut cases: Vec<Case>, load: &Load) -> Result<Class<Client>> {
    let mut tagged_rows = None;
    for case in &mut cases {
        tagged_rows = spec.tag.as_ref().map(|tag| tag.prepare(case)).transpose()?;
    }
    let (sender, own_bytes) = client(spec, target, &cases, tagged_rows)?;
    if own_bytes.saturating_mul(load.in_flight()) > MAX_COPIES {
        let what =
            format!("{} tagged requests of {own_bytes} bytes are more than {MAX_COPIES} bytes", load.in_flight());
        return Err(Fault::new(&spec.name, what));
    }
    if spec.ask_first {
        ask_first(spec, &sender, &mut cases).await?;
    }
    let checker = Checker::new(&cases, spec.verify, spec.tolerance).tagged(spec.tag.clone());
    Ok(Class {
        sender: Arc::new(sender),
        checker: Arc::new(checker),
        cases: cases.len(),
        weight: spec.weight,
        deadline: spec.timeout,
        cancel: spec.cancel,
    })
}

/// The client, and the bytes of its largest request that are not shared between requests.
fn client(spec: &ClassSpec, target: Target, cases: &[Case], tagged: Option<usize>) -> Result<(Client, usize)> {
    let parameters = spec.all_parameters();
    let message = |bytes, text| match tagged {
        Some(rows) => Message::template(bytes, rows, text),
        None => Ok(Message::from(bytes)),
    };
    let timeout = spec.header_timeout();
    match target.protocol {
        Protocol::GrpcRaw | Protocol::GrpcTyped => {
            let typed = target.protocol == Protocol::GrpcTyped;
            let encode =
                |(at, case)| message(wire_grpc::encode(&spec.model_name(at), case, typed, &parameters)?, false);
            let messages = cases.iter().enumerate().map(encode).collect::<Result<Vec<_>>>()?;
            let own = messages.iter().map(Message::own_bytes).max().unwrap_or(0);
            Ok((Client::Grpc(GrpcClient::new(target, grpc::INFER, messages, timeout)?), own))
        }
        Protocol::HttpJson | Protocol::HttpBinary => {
            let binary = target.protocol == Protocol::HttpBinary;
            let encode = |(at, case)| {
                let body = wire_http::encode(case, binary, &parameters)?;
                let message = message(body.bytes, !binary)?;
                Ok(Body { path: spec.model_name(at).path(), message, json_length: body.json_length })
            };
            let bodies = cases.iter().enumerate().map(encode).collect::<Result<Vec<_>>>()?;
            let own = bodies.iter().map(|body| body.message.own_bytes()).max().unwrap_or(0);
            Ok((Client::Http(HttpClient::new(target, bodies, timeout)?), own))
        }
    }
}

/// Asks every case of which no answer is known once, one after the other: nothing is batched, nothing is mixed up.
async fn ask_first(spec: &ClassSpec, client: &Client, cases: &mut [Case]) -> Result<()> {
    for (at, case) in cases.iter_mut().enumerate().filter(|(_, case)| case.outputs.is_empty()) {
        let subject = || format!("{}: asking case {at} first", spec.name);
        let mut answer = client.send(Call { case: at, number: 0 }).await;
        for _ in 0..ASKED_AGAIN {
            if answer.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            answer = client.send(Call { case: at, number: 0 }).await;
        }
        let answer =
            answer.map_err(|failure| Fault::new(subject(), format_args!("{}: {}", failure.code, failure.text)))?;
        case.outputs = verify::decode(&answer).map_err(|fault| Fault::new(subject(), fault))?;
        if let Some(tag) = &spec.tag {
            case.outputs.retain(|output| output.name != tag.output);
        }
    }
    Ok(())
}

/// The first answers of a server that was idle may take longer than the deadline.
const ASKED_AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// Connections of a class: as asked, else what suits protocol and load.
fn connections(spec: &ClassSpec, load: &Load) -> usize {
    let usual = match (spec.protocol, load) {
        (Protocol::GrpcRaw | Protocol::GrpcTyped, _) => GRPC_CONNECTIONS,
        (_, Load::Closed { .. }) => load.in_flight(),
        (_, Load::Open(_)) => HTTP_OPEN_CONNECTIONS,
    };
    // More connections than requests in flight would only be opened, never used together.
    spec.connections.map_or(usual, |asked| asked as usize).min(load.in_flight())
}

fn connections_of(specs: &[ClassSpec], load: &Load) -> usize {
    specs.iter().map(|spec| connections(spec, load)).sum()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::plan::Plan;

    async fn prepared(line: &str) -> Result<Side> {
        let common = "weir-loadtest --url http://127.0.0.1:1 --model m:2 --input x:FP32:1x2";
        let cli = Cli::parse_from(common.split(' ').chain(line.split_whitespace()));
        let plan = Plan::new(&cli.run)?;
        side(&plan.classes, &plan.load).await
    }

    #[tokio::test]
    async fn connections_follow_protocol_and_load() {
        for (line, connections) in [
            ("--concurrency 32", 4),
            ("--concurrency 2", 2),
            ("--concurrency 1..32", 4),
            ("--concurrency 32 --protocol http-json", 32),
            ("--concurrency 32 --protocol http-json --connections 3", 3),
            ("--mode open --rate 10 --protocol http-binary", 64),
        ] {
            assert_eq!(prepared(line).await.unwrap().connections, connections, "{line}");
        }
    }

    #[tokio::test]
    async fn variants_are_different_requests() {
        assert_eq!(prepared("--variants 5").await.unwrap().classes[0].cases, 5);
        assert_eq!(prepared("--variants 5 --rows 3").await.unwrap().rows, [3]);
        assert_eq!(prepared("--variants 5 --models 7").await.unwrap().classes[0].cases, 35);
        assert!(prepared("--variants 65536 --models 2").await.is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_said_before_the_run() {
        assert!(prepared("--input y:FP16:1 --protocol http-json").await.is_err());
        assert!(prepared("--tag x:y").await.is_err());
        assert!(prepared("--tag z:y").await.is_err());
        assert!(prepared("--tag t:y --input t:FP32:1x1").await.is_ok());
    }
}
