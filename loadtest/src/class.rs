//! What a class of requests is, as asked for: which model, how, with which inputs and which deadline. Made from the command
//! line by `plan` or from a file by `scenario`; `prepare` turns it into something that can be sent.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::bench::Cancel;
use crate::input::InputSpec;
use crate::parameter::{Parameter, Value};
use crate::tag::Tag;
use crate::target::Protocol;
use crate::verify::{Tolerance, Verify};
use crate::wire_grpc::ModelName;

/// A class of requests, as asked for.
#[derive(Debug, Clone)]
pub(crate) struct ClassSpec {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) allow_remote: bool,
    /// `NAME` or `NAME:VERSION`; a `{}` in it stands for the number of the model.
    pub(crate) model: String,
    /// How many models the requests go to in turn, if the name has a `{}`.
    pub(crate) models: u32,
    pub(crate) protocol: Protocol,
    pub(crate) connections: Option<u32>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) timeout_by: TimeoutBy,
    pub(crate) weight: u32,
    pub(crate) source: Source,
    /// Rows per request; the source's own if not given.
    pub(crate) rows: Option<u32>,
    /// Different requests made of random inputs.
    pub(crate) variants: u32,
    pub(crate) seed: u64,
    /// Ask every case once first, and hold later answers against that.
    pub(crate) ask_first: bool,
    pub(crate) tag: Option<Tag>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) verify: Verify,
    pub(crate) tolerance: Tolerance,
}

/// Where the inputs come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file of requests and expected answers.
    Golden(PathBuf),
    Inputs(Vec<InputSpec>),
    /// Random values of the shapes that the server names.
    Metadata,
}

/// How a deadline is told to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeoutBy {
    /// `grpc-timeout` or `Request-Timeout-Ms`.
    #[default]
    Header,
    /// The request parameter `timeout`, in microseconds.
    Parameter,
    /// Not at all: answers are only counted as late.
    Nothing,
}

impl ClassSpec {
    /// Requests with random inputs and nothing special about them.
    pub(crate) fn plain(url: &str, model: &str, protocol: Protocol, allow_remote: bool) -> Self {
        Self {
            name: model.to_owned(),
            url: url.to_owned(),
            allow_remote,
            model: model.to_owned(),
            models: 1,
            protocol,
            connections: None,
            headers: Vec::new(),
            parameters: Vec::new(),
            timeout: None,
            timeout_by: TimeoutBy::Header,
            weight: 1,
            source: Source::Metadata,
            rows: None,
            variants: 1,
            seed: 1,
            ask_first: false,
            tag: None,
            cancel: None,
            verify: Verify::All,
            tolerance: Tolerance { absolute: 1e-4, relative: 1e-4 },
        }
    }

    /// Model number `at` of those that the requests go to in turn, counted from 0.
    pub(crate) fn model_name(&self, at: usize) -> ModelName {
        let number = at % self.models.max(1) as usize + 1;
        let model = self.model.replace("{}", &format!("{number:04}"));
        let (name, version) = model.split_once(':').unwrap_or((&model, ""));
        ModelName { name: name.to_owned(), version: version.to_owned() }
    }

    /// The deadline, if it goes into a header.
    pub(crate) fn header_timeout(&self) -> Option<Duration> {
        self.timeout.filter(|_| self.timeout_by == TimeoutBy::Header)
    }

    /// The request's parameters, with the deadline if it is one of them.
    pub(crate) fn all_parameters(&self) -> Vec<Parameter> {
        let timeout = self.timeout.filter(|_| self.timeout_by == TimeoutBy::Parameter);
        let micros = timeout.map(|timeout| i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX));
        let own = self.parameters.iter().cloned();
        own.chain(micros.map(|micros| ("timeout".to_owned(), Value::Int(micros)))).collect()
    }

    /// The same class against another server.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::plan::Plan;

    fn spec(line: &str) -> ClassSpec {
        let common = "weir-loadtest --url http://127.0.0.1:1 --model m --input x:FP32:1";
        let cli = Cli::parse_from(common.split(' ').chain(line.split_whitespace()));
        Plan::new(&cli.run).unwrap().classes.remove(0)
    }

    #[test]
    fn a_deadline_goes_where_it_was_asked_to() {
        let header = spec("--timeout-ms 20 --parameter a=1");
        assert_eq!(header.header_timeout(), Some(Duration::from_millis(20)));
        assert_eq!(header.all_parameters(), [("a".to_owned(), Value::Int(1))]);
        let parameter = spec("--timeout-ms 20 --timeout-by parameter");
        assert_eq!(parameter.header_timeout(), None);
        assert_eq!(parameter.all_parameters(), [("timeout".to_owned(), Value::Int(20_000))]);
        let nothing = spec("--timeout-ms 20 --timeout-by nothing");
        assert_eq!((nothing.header_timeout(), nothing.all_parameters().len()), (None, 0));
    }

    #[test]
    fn requests_go_to_several_models_in_turn() {
        let spec = ClassSpec { model: "m-{}:3".to_owned(), models: 3, ..spec("") };
        let names = [0, 1, 2, 3].map(|at| spec.model_name(at).path());
        assert_eq!(names[1..], ["/v2/models/m-0002/versions/3", "/v2/models/m-0003/versions/3", names[0].as_str()]);
        assert_eq!(ClassSpec { model: "m".to_owned(), models: 1, ..spec }.model_name(7).path(), "/v2/models/m");
    }
}
