//! A JSON inference request, with or without binary tensors behind it, becomes an [`InferRequest`]; one that says nothing but what
//! is to be predicted need not. Unknown keys are ignored; known ones may come in any order, but once.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use super::{
    binary::{Input, RawBody, raw_request, tensors},
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
    types::{
        Error, InferRequest, ParamValue, Params, PlainRequest, RequestContext, RequestedOutput, Signature, VersionRef,
    },
};

/// A request body, as far as it can be read without knowing the model. Its texts are slices of the body.
#[derive(Debug)]
pub struct InferBody<'b>(Kind<'b>);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one, which is spared an allocation")]
enum Kind<'b> {
    Json { plain: PlainRequest<'b>, more: Option<Box<More>>, form: ReplyForm },
    Raw(RawBody<'b>),
}

/// What a request may say besides.
#[derive(Debug)]
struct More {
    params: Params,
    outputs: Vec<RequestedOutput>,
}

/// Reads a request. `header_len` is the value of the length header: `None` = all is JSON, 0 = a raw binary request.
///
/// # Errors
/// `InvalidArgument` naming what does not fit; `TooLarge` for data that would grow far beyond the body; `Unimplemented` for
/// shared memory.
pub fn decode<'b>(
    model: &'b str,
    version: VersionRef,
    body: &'b Bytes,
    header_len: Option<usize>,
) -> Result<InferBody<'b>, Error> {
    if header_len == Some(0) {
        return Ok(InferBody(Kind::Raw(RawBody { model, version, bytes: body.clone() })));
    }
    let json_len = header_len.unwrap_or(body.len());
    if json_len > body.len() {
        let most = format_args!("at most {}", body.len());
        return Err(Error::expected("Inference-Header-Content-Length", most, json_len));
    }
    let head = head(body, body_text(&body[..json_len])?)?;
    let Some(inputs) = head.inputs else { return Err(Error::invalid("body: no 'inputs'")) };
    let (outputs, form) = head.outputs.unwrap_or_default().finish(head.binary_output);
    let inputs = tensors(inputs, &body.slice(json_len..))?;
    let plain = PlainRequest { model, version, id: head.id.unwrap_or_default(), inputs };
    let params = head.params.unwrap_or_default();
    let more = (!params.is_empty() || !outputs.is_empty()).then(|| Box::new(More { params, outputs }));
    Ok(InferBody(Kind::Json { plain, more, form }))
}

impl<'b> InferBody<'b> {
    /// The request and the form of its answer, when it says nothing but what is to be predicted.
    pub fn plain(&mut self) -> Option<(&mut PlainRequest<'b>, &ReplyForm)> {
        match &mut self.0 {
            Kind::Json { plain, more: None, form } => Some((plain, form)),
            _ => None,
        }
    }

    /// The complete request and the form of its answer. A body without JSON is completed with the model's `signature`.
    ///
    /// # Errors
    /// Those of finding the signature; `InvalidArgument` when a body without JSON does not fit it.
    pub fn request(
        self,
        context: RequestContext,
        signature: impl FnOnce() -> Result<Arc<Signature>, Error>,
    ) -> Result<(InferRequest, ReplyForm), Error> {
        match self.0 {
            Kind::Json { plain, more, form } => {
                let mut request = plain.request(context);
                if let Some(more) = more {
                    (request.params, request.outputs) = (more.params, more.outputs);
                }
                Ok((request, form))
            }
            Kind::Raw(raw) => raw_request(raw, &*signature()?, context),
        }
    }
}

/// What the JSON says.
#[derive(Default)]
struct Head<'t> {
    id: Option<Cow<'t, str>>,
    params: Option<Params>,
    inputs: Option<Vec<Input<'t>>>,
    outputs: Option<Outputs>,
    binary_output: bool,
}

fn head<'t>(body: &Bytes, text: &'t str) -> Result<Head<'t>, Error> {
    let mut head = Head::default();
    let mut reader = Reader::new(body);
    let mut scanner = Scanner::new(text);
    value::expect_object(&mut scanner, "body").map_err(Fault::plain)?;
    let read = scanner.object(&mut |scanner, key| match key {
        "id" => once(&mut head.id, scanner, key, |scanner| {
            let id = value::borrowed(scanner, key)?;
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
