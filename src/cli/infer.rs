//! `weir infer`: one prediction, by a running gateway or by one inside this process. Both are sent the same bytes.

use std::{io::Read as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::json;

use super::{
    answer::Prediction,
    client::{BaseUrl, Client, Question, bearer, block_on, segment},
    exit::{Failure, Report},
    input::{Described, InputArgument, twice},
    local::LocalGateway,
    output::Output,
    table::Paint,
};
use crate::{
    protocol::{json as wire, raw},
    types::NamedTensor,
};

/// How long an answer may take; a model may be slow, but not for ever.
const PATIENCE: Duration = Duration::from_secs(600);
const HTTP_PORT: u16 = 8000;

/// What `weir infer` takes.
#[derive(Args, Clone, Debug)]
#[group(id = "what", required = true, multiple = true, args = ["input", "json"])]
pub struct InferCommand {
    /// Name of the model
    model: String,
    /// Version or label [default: by the model's policy]
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    version: String,
    /// An input: name=@file.npy, or JSON such as name='[[1, 2]]' in the datatype that the model has for it; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    input: Vec<InputArgument>,
    /// A whole request in the protocol's JSON, from a file or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input", "output_name"])]
    json: Option<PathBuf>,
    /// An output to answer; may be repeated [default: all outputs]
    #[arg(long, value_name = "NAME")]
    output_name: Vec<String>,
    /// URL of the gateway [default: http://127.0.0.1:8000] [env: WEIR_URL]
    #[arg(long, value_name = "URL", env = "WEIR_URL", hide_env = true)]
    url: Option<BaseUrl>,
    /// Instead of asking a gateway, load the model from this registry directory and answer here
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// File with a token to send along [env: WEIR_TOKEN_FILE]
    #[arg(long, value_name = "FILE", env = "WEIR_TOKEN_FILE", hide_env = true)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Who answers.
enum Door {
    Remote(Client),
    Local(Box<LocalGateway>),
}

/// A request or an answer as the protocol has it over HTTP.
struct Body {
    bytes: Bytes,
    /// How many bytes are JSON, when tensors follow.
    header_len: Option<usize>,
}

/// Predicts.
///
/// # Errors
/// Inputs that cannot be read, nobody to answer, or what the gateway says.
pub fn run(command: InferCommand) -> Result<Report, Failure> {
    if let Some(name) = twice(&command.input) {
        return Err(Failure::usage(format!("--input {name}: given twice")));
    }
    let request = command.json.as_ref().map(whole_request).transpose()?;
    block_on(async move {
        let door = Door::open(&command).await?;
        let request = match request {
            Some(bytes) => Body { bytes, header_len: None },
            None => door.request(&command).await?,
        };
        let answer = door.infer(&command, request).await?;
        let prediction = Prediction::read(&answer.bytes, answer.header_len)?;
        let text =
            if command.output.is_json() { prediction.to_json() } else { prediction.to_table(Paint::of_stdout()) };
        Ok(Report::done(text))
    })
}

fn whole_request(path: &PathBuf) -> Result<Bytes, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("--json {}: {error}", path.display()));
    if path.as_os_str() == "-" {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).map_err(failed)?;
        return Ok(text.into());
    }
    std::fs::read(path).map(Bytes::from).map_err(failed)
}

impl Door {
    async fn open(command: &InferCommand) -> Result<Self, Failure> {
        if let Some(root) = &command.registry {
            return Ok(Door::Local(Box::new(LocalGateway::open(root, &command.model).await?)));
        }
        let token = command.token_file.as_deref().map(bearer).transpose()?;
        let url = command.url.clone().unwrap_or_else(|| BaseUrl::local(HTTP_PORT));
        Ok(Door::Remote(Client::new(url, token, PATIENCE)))
    }

    /// The request for inputs of the command line; literals need the model's datatypes.
    async fn request(&self, command: &InferCommand) -> Result<Body, Failure> {
        let literal = command.input.iter().any(InputArgument::is_literal);
        let described = if literal { self.describe(command).await? } else { Vec::new() };
        let inputs = command.input.iter().map(|input| input.tensor(&described));
        Ok(encode(&inputs.collect::<Result<Vec<_>, _>>()?, &command.output_name))
    }

    async fn describe(&self, command: &InferCommand) -> Result<Vec<Described>, Failure> {
        #[derive(Deserialize)]
        struct Metadata {
            inputs: Vec<Described>,
        }
        let body = match self {
            Door::Local(gateway) => gateway.metadata(&command.model, &command.version)?,
            Door::Remote(client) => client.ask(Question::get(path(command, ""))).await?.body,
        };
        let metadata: Metadata = serde_json::from_slice(&body)
            .map_err(|error| Failure::problem(format!("the answer is not a gateway's: {error}")))?;
        Ok(metadata.inputs)
    }

    async fn infer(&self, command: &InferCommand, request: Body) -> Result<Body, Failure> {
        let client = match self {
            Door::Remote(client) => client,
            Door::Local(gateway) => {
                let Body { bytes, header_len } = request;
                let answer = gateway.infer(&command.model, &command.version, bytes, header_len).await?;
                return Ok(Body { bytes: answer.body, header_len: answer.header_len });
            }
        };
        let content_type = if request.header_len.is_some() { wire::OCTETS } else { wire::JSON };
        let mut question = Question::post(path(command, "/infer"), content_type, request.bytes);
        if let Some(length) = request.header_len {
            question = question.header(wire::HEADER_LENGTH, HeaderValue::from(length));
        }
        let answer = client.ask(question).await?;
        let header_len = match answer.headers.get(wire::HEADER_LENGTH) {
            Some(value) => Some(
                wire::header_length(value.as_bytes(), answer.body.len())
                    .map_err(|error| Failure::problem(format!("the answer is not a gateway's: {error}")))?,
            ),
            None => None,
        };
        Ok(Body { bytes: answer.body, header_len })
    }
}

/// The model's path, with the version where one is asked for.
fn path(command: &InferCommand, rest: &str) -> String {
    let model = segment(&command.model);
    match command.version.as_str() {
        "" => format!("/v2/models/{model}{rest}"),
        version => format!("/v2/models/{model}/versions/{}{rest}", segment(version)),
    }
}

/// The request with every tensor as bytes behind the JSON, which no digit is lost in.
fn encode(inputs: &[NamedTensor], outputs: &[String]) -> Body {
    let described: Vec<_> = inputs
        .iter()
        .map(|NamedTensor { name, tensor }| {
            json!({
                "name": &**name,
                "datatype": tensor.dtype().as_str(),
                "shape": tensor.shape(),
                "parameters": { "binary_data_size": raw::encoded_len(tensor) },
            })
        })
        .collect();
    let mut head = json!({ "inputs": described, "parameters": { "binary_data_output": true } });
    if !outputs.is_empty() {
        head["outputs"] = outputs.iter().map(|name| json!({ "name": name })).collect();
    }
    let mut bytes = head.to_string().into_bytes();
    let header_len = bytes.len();
    for input in inputs {
        raw::encode_into(&input.tensor, &mut bytes);
    }
    Body { bytes: bytes.into(), header_len: Some(header_len) }
}
