//! A JSON inference request, with or without binary tensors behind it, becomes an [`InferRequest`]. Unknown keys are ignored;
//! known ones may come in any order, but once.

use bytes::Bytes;

use super::{
    binary::{Input, RawBody, tensors},
    data::Reader,
    input::inputs,
    scan::Scanner,
    value::{self, Fault, body_text, once},
};
use crate::{
    protocol::{
        ReplyForm,
        params::{self, Outputs},
    },
    types::{Error, InferRequest, ParamValue, Params, RequestContext, VersionRef},
};

/// A request body, as far as it can be read without knowing the model.
#[derive(Debug)]
pub enum InferBody {
    /// A complete request and the form of its answer.
    Request(InferRequest, ReplyForm),
    /// The bytes of the model's only input: complete it with [`raw_request`](super::raw_request).
    Raw(RawBody),
}

/// Reads a request. `header_len` is the value of the length header: `None` = all is JSON, 0 = a raw binary request.
///
/// # Errors
/// `InvalidArgument` naming what does not fit; `TooLarge` for data that would grow far beyond the body; `Unimplemented` for
/// shared memory.
pub fn decode(
    model: &str,
    version: VersionRef,
    body: Bytes,
    header_len: Option<usize>,
    context: RequestContext,
) -> Result<InferBody, Error> {
    if header_len == Some(0) {
        return Ok(InferBody::Raw(RawBody { model: model.into(), version, bytes: body, context }));
    }
    let json_len = header_len.unwrap_or(body.len());
    if json_len > body.len() {
        let most = format_args!("at most {}", body.len());
        return Err(Error::expected("Inference-Header-Content-Length", most, json_len));
    }
    let head = head(&body, body_text(&body[..json_len])?)?;
    let Some(inputs) = head.inputs else { return Err(Error::invalid("body: no 'inputs'")) };
    let (outputs, form) = head.outputs.unwrap_or_default().finish(head.binary_output);
    let request = InferRequest {
        model: model.into(),
        version,
        id: head.id.unwrap_or_default(),
        params: head.params.unwrap_or_default(),
        inputs: tensors(inputs, &body.slice(json_len..))?,
        outputs,
        context,
    };
    Ok(InferBody::Request(request, form))
}

/// What the JSON says.
#[derive(Default)]
struct Head {
    id: Option<Box<str>>,
    params: Option<Params>,
    inputs: Option<Vec<Input>>,
    outputs: Option<Outputs>,
    binary_output: bool,
}

fn head(body: &Bytes, text: &str) -> Result<Head, Error> {
    let mut head = Head::default();
    let mut reader = Reader::new(body);
    let mut scanner = Scanner::new(text);
    value::expect_object(&mut scanner, "body").map_err(Fault::plain)?;
    let read = scanner.object(&mut |scanner, key| match key {
        "id" => once(&mut head.id, scanner, key, |scanner| {
            let id = value::text(scanner, key)?;
            params::check_id(&id).map_err(Fault::Value)?;
            Ok(id)
        }),
        "parameters" => {
            let binary = &mut head.binary_output;
            once(&mut head.params, scanner, key, |scanner| request_params(scanner, binary))
        }
        "inputs" => once(&mut head.inputs, scanner, key, |scanner| inputs(scanner, &mut reader)),
        "outputs" => once(&mut head.outputs, scanner, key, outputs),
        _ => Ok(scanner.skip()?),
    });
    read.map_err(Fault::plain)?;
    scanner.end()?;
    Ok(head)
}

fn request_params(scanner: &mut Scanner<'_>, binary_output: &mut bool) -> Result<Params, Fault> {
    let mut params = Params::default();
    value::params(scanner, &mut |name, value| match (name, value) {
        ("binary_data_output", ParamValue::Bool(on)) => {
            *binary_output = on;
            Ok(())
        }
        ("binary_data_output", other) => {
            Err(Error::expected("parameter 'binary_data_output'", "a boolean", other.shown()))
        }
        (name, value) => params::set(&mut params, name, value),
    })?;
    Ok(params)
}

fn outputs(scanner: &mut Scanner<'_>) -> Result<Outputs, Fault> {
    value::expect_array(scanner, "outputs")?;
    let mut outputs = Outputs::default();
    let mut place = 0;
    scanner.array(|scanner| {
        let read = output(scanner, &mut outputs);
        let result = read.map_err(|fault| Fault::Body(fault.at(&format!("outputs[{place}]: "))));
        place += 1;
        result
    })?;
    Ok(outputs)
}

fn output(scanner: &mut Scanner<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
    value::expect_object(scanner, "an output")?;
    let mut name = None;
    let mut params: Option<Vec<(String, ParamValue)>> = None;
    scanner.object(&mut |scanner, key| match key {
        "name" => once(&mut name, scanner, key, |scanner| value::text(scanner, key)),
        "parameters" => once(&mut params, scanner, key, |scanner| {
            let mut values = Vec::new();
            value::params(scanner, &mut |name, value| {
                values.push((name.to_owned(), value));
                Ok(())
            })?;
            Ok(values)
        }),
        _ => Ok(scanner.skip()?),
    })?;
    let Some(name) = name else { return Err(Fault::value("no 'name'")) };
    // This error names the output itself.
    outputs.push(&name, params.iter().flatten().map(|(name, value)| (name.as_str(), value))).map_err(Fault::Body)
}
