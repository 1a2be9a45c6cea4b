//! The one way a prediction takes, whatever its protocol: count it, decode it, ask the gateway, encode the answer, record how
//! it went. The handlers of gRPC and HTTP differ only in what they pass for decoding and encoding.

use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::middleware::Metadata;
use crate::{
    gateway::{Asked, Gateway, Ticket},
    protocol::{ReplyForm, classification},
    types::{Error, InferRequest, InferResponse, Params, Protocol, RequestContext},
};

/// What is known about a request besides its body.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) protocol: Protocol,
    pub(super) deadline: Option<Instant>,
    /// The request's headers, for routes that look at them.
    pub(super) headers: HeaderMap,
}

/// An encoded answer and the parameters that are repeated in its head.
#[derive(Debug)]
pub(super) struct Done<A> {
    pub(super) answer: A,
    pub(super) params: Params,
}

/// Answers one request whose body has arrived. Dropped before it ends, the request counts as cancelled. Where `decode` fails it
/// writes down the name that was asked for, as far as it got.
///
/// # Errors
/// Whatever decoding, the gateway or encoding says; it has been recorded.
pub(super) async fn run<A>(
    gateway: &Gateway,
    origin: Origin,
    decode: impl FnOnce(RequestContext, &mut String) -> Result<(InferRequest, ReplyForm), Error>,
    encode: impl FnOnce(&InferResponse, &ReplyForm) -> Result<A, Error>,
) -> Result<Done<A>, Error> {
    let begun = begin(gateway, gateway.begin(origin.protocol), origin, decode)?;
    let (mut ticket, form) = (begun.ticket, begun.form);
    let outcome = gateway.answer(begun.asked, &mut ticket).await;
    end(ticket, &form, outcome, encode)
}

/// A request that has been decoded and found good.
pub(super) struct Begun<'g> {
    pub(super) ticket: Ticket<'g>,
    pub(super) form: ReplyForm,
    pub(super) asked: Asked,
}

/// Everything before the wait, in an account that is open already. It is no part of the future, which would carry the request
/// along for its whole life.
///
/// # Errors
/// As [`run`].
pub(super) fn begin<'g>(
    gateway: &'g Gateway,
    mut ticket: Ticket<'g>,
    origin: Origin,
    decode: impl FnOnce(RequestContext, &mut String) -> Result<(InferRequest, ReplyForm), Error>,
) -> Result<Begun<'g>, Error> {
    let mut context = RequestContext::new(origin.protocol, ticket.received());
    context.deadline = origin.deadline;
    context.headers = Some(Box::new(Metadata(origin.headers)));
    let mut name = String::new();
    let decoded = decode(context, &mut name).inspect_err(|_| gateway.recognise(&name, &mut ticket));
    let asked = decoded.and_then(|(request, form)| Ok((gateway.ask(request, &mut ticket)?, form)));
    match asked {
        Ok((asked, form)) => Ok(Begun { ticket, form, asked }),
        Err(error) => {
            ticket.finish(Err(&error));
            Err(error)
        }
    }
}

/// Everything after the wait.
///
/// # Errors
/// As [`run`].
pub(super) fn end<A>(
    ticket: Ticket<'_>,
    form: &ReplyForm,
    outcome: Result<InferResponse, Error>,
    encode: impl FnOnce(&InferResponse, &ReplyForm) -> Result<A, Error>,
) -> Result<Done<A>, Error> {
    let answered = outcome.and_then(|mut response| {
        if form.wants_classes() {
            response = classification::apply(response, form, ticket.batched(), ticket.class_names())?;
        }
        Ok((encode(&response, form)?, response))
    });
    match answered {
        Ok((answer, response)) => {
            ticket.finish(Ok(&response));
            Ok(Done { answer, params: response.params })
        }
        Err(error) => {
            ticket.finish(Err(&error));
            Err(error)
        }
    }
}

/// Records a request that ended before there was anything to decode. `name` is what was asked for, or empty.
pub(super) fn refuse(gateway: &Gateway, protocol: Protocol, name: &str, error: &Error) {
    let mut ticket = gateway.begin(protocol);
    gateway.recognise(name, &mut ticket);
    ticket.finish(Err(error));
}

/// Repeats the parameters `weir_…` of an answer as headers `x-weir-…`.
pub(super) fn parameter_headers(params: &Params, headers: &mut HeaderMap) {
    for (name, value) in params.iter() {
        let Some(rest) = name.strip_prefix("weir_") else { continue };
        let name = format!("x-weir-{}", rest.replace('_', "-"));
        let pair = (HeaderName::try_from(name), HeaderValue::try_from(value.to_string()));
        if let (Ok(name), Ok(value)) = pair {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ParamValue;

    #[test]
    fn own_parameters_become_headers() {
        let mut params = Params::default();
        params.set("weir_stage_rows", ParamValue::Text("28,4".into()));
        params.set("weir_sticky", ParamValue::Bool(false));
        params.set("weir_variant", ParamValue::Text("line\nbreak".into()));
        params.set("triton_final_response", ParamValue::Bool(true));
        let mut headers = HeaderMap::new();
        parameter_headers(&params, &mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(
            (&headers["x-weir-stage-rows"], &headers["x-weir-sticky"]),
            (&"28,4".parse().unwrap(), &"false".parse().unwrap())
        );
    }
}
