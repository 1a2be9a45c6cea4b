//! `weir models`: what a gateway has loaded, from the ops listener; from the repository index where nobody answers there.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::{Answer, BaseUrl, Client, ClientError, Question, bearer, block_on, segment},
    exit::{Failure, Report},
    models_view::{Line, Model, Models, detail, overview},
    output::Output,
    table::{Cell, Paint, Table, Tone},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
const HTTP_PORT: u16 = 8000;
const OPS_PORT: u16 = 8002;

/// What `weir models` takes.
#[derive(Args, Clone, Debug)]
pub struct ModelsCommand {
    /// Only this model, with the cost of its batches
    model: Option<String>,
    /// URL of the gateway [default: http://127.0.0.1:8000] [env: WEIR_URL]
    #[arg(long, value_name = "URL", env = "WEIR_URL", hide_env = true)]
    url: Option<BaseUrl>,
    /// URL of its ops listener [default: port 8002 of the host, where --url has port 8000] [env: WEIR_OPS]
    #[arg(long, value_name = "URL", env = "WEIR_OPS", hide_env = true)]
    ops: Option<BaseUrl>,
    /// File with the token of the ops listener [env: WEIR_TOKEN_FILE]
    #[arg(long, value_name = "FILE", env = "WEIR_TOKEN_FILE", hide_env = true)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// What every listener says of a path that it does not have.
const NO_SUCH_PATH: &str = "Not Found";

/// Who to ask, in this order.
struct Doors {
    ops: Option<BaseUrl>,
    /// The data listener; not asked when the ops listener was named and the data listener was not.
    data: Option<BaseUrl>,
}

impl Doors {
    fn of(url: Option<BaseUrl>, ops: Option<BaseUrl>) -> Self {
        match (url, ops) {
            (url, Some(ops)) => Doors { ops: Some(ops), data: url },
            (url, None) => {
                let data = url.unwrap_or_else(|| BaseUrl::local(HTTP_PORT));
                // Next to another port there may be another gateway's ops listener, or anything.
                let ops = (data.port() == HTTP_PORT).then(|| data.with_port(OPS_PORT));
                Doors { ops, data: Some(data) }
            }
        }
    }
}

/// Asks, and shows the answer.
///
/// # Errors
/// When nobody answers, or the model is unknown.
pub fn run(command: ModelsCommand) -> Result<Report, Failure> {
    let token = command.token_file.as_deref().map(bearer).transpose()?;
    let doors = Doors::of(command.url, command.ops);
    let model = command.model.as_deref();
    let json = command.output.is_json();
    let client = |url| Client::new(url, token.clone(), PATIENCE);
    block_on(async {
        let unreachable = match doors.ops.map(client) {
            None => None,
            Some(ops) => match ops.ask(Question::get(ops_path(model))).await {
                Ok(answer) => return from_ops(&answer, model.is_some(), json),
                Err(error @ ClientError::Unreachable(_)) => Some(error),
                Err(ClientError::Refused(StatusCode::NOT_FOUND, text)) if text == NO_SUCH_PATH => {
                    return Err(Failure::problem(format!("{ops}: no ops listener answers here; --ops URL names it")));
                }
                Err(error) => return Err(error.into()),
            },
        };
        let Some(data) = doors.data.map(client) else {
            return Err(unreachable.map_or_else(|| Failure::usage("no URL"), Failure::from));
        };
        let question = Question::post("/v2/repository/index", "application/json", Bytes::new());
        from_index(&data.ask(question).await?, model, json)
    })
}

fn ops_path(model: Option<&str>) -> String {
    match model {
        None => "/ops/models".to_owned(),
        Some(model) => format!("/ops/models/{}", segment(model)),
    }
}

fn from_ops(answer: &Answer, one: bool, json: bool) -> Result<Report, Failure> {
    if json {
        return pretty(&read(&answer.body)?);
    }
    let paint = Paint::of_stdout();
    if one {
        let model: Model = read(&answer.body)?;
        return Ok(Report::done(detail(&model, paint)));
    }
    let models: Models = read(&answer.body)?;
    Ok(Report::done(overview(&models, paint)))
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::problem(format!("the answer is not a gateway's: {error}")))
}

fn pretty(value: &Value) -> Result<Report, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::problem(error.to_string()))?;
    Ok(Report::done(format!("{text}\n")))
}

/// What the data listener knows: no engine, no batching.
fn from_index(answer: &Answer, model: Option<&str>, json: bool) -> Result<Report, Failure> {
    let lines: Vec<Value> = read(&answer.body)?;
    let wanted = |line: &&Value| model.is_none_or(|model| line["name"] == model);
    let lines: Vec<Value> = lines.iter().filter(wanted).cloned().collect();
    if let (Some(model), true) = (model, lines.is_empty()) {
        return Err(Failure::problem(format!("model '{model}': not found")));
    }
    if json {
        return pretty(&Value::Array(lines));
    }
    let mut table = Table::new(&["MODEL", "VERSION", "STATE", "REASON"]);
    for line in lines {
        let Line { name, version, state, reason } = Line::deserialize(line)
            .map_err(|error| Failure::problem(format!("the answer is not a gateway's: {error}")))?;
        table.row([name.into(), version.into(), Cell::new(&state, Tone::of_state(&state)), reason.into()]);
    }
    Ok(Report::done(table.render(Paint::of_stdout())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_gateway_is_asked() {
        let url = |text: &str| text.parse::<BaseUrl>().ok();
        let doors = |data: Option<BaseUrl>, ops: Option<BaseUrl>| {
            let Doors { ops, data } = Doors::of(data, ops);
            (ops.map(|url| url.to_string()), data.map(|url| url.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(doors(None, None), (some("http://127.0.0.1:8002"), some("http://127.0.0.1:8000")));
        assert_eq!(doors(url("http://gpu:8000"), None), (some("http://gpu:8002"), some("http://gpu:8000")));
        assert_eq!(doors(url("http://gpu:9000"), None), (None, some("http://gpu:9000")));
        assert_eq!(doors(None, url("http://gpu:9002")), (some("http://gpu:9002"), None));
        assert_eq!(doors(url("http://a:1"), url("http://b:2")), (some("http://b:2"), some("http://a:1")));
    }
}
