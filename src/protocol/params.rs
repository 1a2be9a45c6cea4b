//! The rules for parameters that both protocols share: limits, reserved names, and what a requested output may say. Used by
//! the decoders of `grpc` and `json`.

use crate::types::{DType, Error, ErrorCode, MAX_RANK, ParamValue, Params, RequestedOutput};

use super::form::{OutputForm, ReplyForm};

/// Outputs that a request may name.
const MAX_OUTPUTS: usize = 64;
/// Parameters that a request, an input or an output may have.
const MAX_PARAMS: usize = 128;
/// Bytes of a request id or of a parameter's name or text.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// The one name with Triton's prefix that callers set: whether a stream ends with an empty answer.
const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

/// What one level of parameters belongs to, for error texts: `parameters`, `input 'x': parameters`.
pub(super) fn check_count(subject: &str, count: usize) -> Result<(), Error> {
    if count > MAX_PARAMS {
        return Err(Error::expected(format_args!("{subject}parameters"), format_args!("at most {MAX_PARAMS}"), count));
    }
    Ok(())
}

/// Checks the number of requested outputs.
pub(super) fn check_outputs(count: usize) -> Result<(), Error> {
    if count > MAX_OUTPUTS {
        return Err(Error::expected("outputs", format_args!("at most {MAX_OUTPUTS}"), count));
    }
    Ok(())
}

/// Checks the length of a request's id.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    check_text("id", id)
}

fn check_text(subject: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::expected(subject, format_args!("at most {MAX_TEXT_BYTES} bytes"), text.len()));
    }
    Ok(())
}

/// Sets a parameter of the request, unless its name is reserved or its value does not fit.
pub(super) fn set(params: &mut Params, name: &str, value: ParamValue) -> Result<(), Error> {
    check_text("parameters: a name", name)?;
    if let ParamValue::Text(text) = &value {
        check_text("parameters: a text", text)?;
    }
    if name == "headers" || (name.starts_with("triton_") && name != EMPTY_FINAL) {
        return Err(Error::invalid(format!("parameter '{name}': the name is reserved")));
    }
    if matches!(name, "timeout" | "priority") && value.as_u64().is_none() {
        return Err(Error::expected(format_args!("parameter '{name}'"), "a non-negative integer", value.shown()));
    }
    params.set(name, value);
    Ok(())
}

/// Refuses a parameter of an input or output that asks for shared memory; every other unknown one is ignored.
pub(super) fn check_tensor_param(subject: &str, name: &str) -> Result<(), Error> {
    if name.starts_with("shared_memory_") {
        let text = format!("{subject}shared memory is not supported");
        return Err(Error::new(ErrorCode::Unimplemented, text));
    }
    Ok(())
}

/// The outputs that a request names, collected one by one.
#[derive(Default)]
pub(super) struct Outputs {
    /// What the gateway is told.
    pub(super) wanted: Vec<RequestedOutput>,
    forms: Vec<OutputForm>,
}

impl Outputs {
    /// Adds one, with the parameters it came with.
    ///
    /// # Errors
    /// `InvalidArgument` for a second one of the name or a value of the wrong kind; `Unimplemented` for shared memory.
    pub(super) fn push<'p>(
        &mut self,
        name: &str,
        params: impl Iterator<Item = (&'p str, &'p ParamValue)>,
    ) -> Result<(), Error> {
        check_outputs(self.wanted.len() + 1)?;
        if self.wanted.iter().any(|known| *known.name == *name) {
            return Err(Error::invalid(format!("output '{name}': requested twice")));
        }
        let mut form = OutputForm { name: name.into(), raw: None, classes: 0 };
        for (key, value) in params {
            check_tensor_param(&format!("output '{name}': "), key)?;
            match (key, value) {
                ("classification", value) => form.classes = classes(name, value)?,
                ("binary_data", ParamValue::Bool(raw)) => form.raw = Some(*raw),
                ("binary_data", other) => {
                    return Err(Error::expected(
                        format_args!("output '{name}': binary_data"),
                        "a boolean",
                        other.shown(),
                    ));
                }
                _ => {}
            }
        }
        self.wanted.push(RequestedOutput { name: name.into(), classes: form.classes });
        self.forms.push(form);
        Ok(())
    }

    /// The wanted outputs and the form of the reply.
    pub(super) fn finish(self, raw: bool) -> (Vec<RequestedOutput>, ReplyForm) {
        let mut form = ReplyForm::new(raw);
        for output in self.forms {
            form.push(output);
        }
        (self.wanted, form)
    }
}

fn classes(output: &str, value: &ParamValue) -> Result<usize, Error> {
    let count = match value {
        ParamValue::Int(_) | ParamValue::Uint(_) => value.as_u64().and_then(|count| usize::try_from(count).ok()),
        _ => None,
    };
    count.ok_or_else(|| {
        Error::expected(format_args!("output '{output}': classification"), "a non-negative integer", value.shown())
    })
}

/// Puts the name of an input or output in front of an error's text.
pub(super) fn about(kind: &str, name: &str, error: &Error) -> Error {
    Error::new(error.code(), format!("{kind} '{name}': {}", error.text()))
}

/// Reads a datatype's name.
pub(super) fn datatype(text: &str) -> Result<DType, Error> {
    DType::parse(text).ok_or_else(|| {
        let known: Vec<_> = DType::ALL.iter().map(|dtype| dtype.as_str()).collect();
        let got: String = text.chars().take(32).collect();
        Error::expected("datatype", known.join(", "), format_args!("'{got}'"))
    })
}

/// Checks the number of dimensions before any is read.
pub(super) fn check_rank(rank: usize) -> Result<(), Error> {
    if rank > MAX_RANK {
        return Err(Error::expected("shape", format_args!("at most {MAX_RANK} dimensions"), rank));
    }
    Ok(())
}

/// Reads one size of a shape.
pub(super) fn dimension(size: i64) -> Result<usize, Error> {
    usize::try_from(size).map_err(|_| Error::expected("shape", "sizes of 0 or more", size))
}

/// Refuses what a repository load may carry in other servers: a configuration or files.
pub(super) fn check_control(name: &str) -> Result<(), Error> {
    if name == "config" || name.starts_with("file:") {
        let text = format!("parameter '{name}': models come from the registry directory only");
        return Err(Error::new(ErrorCode::Unimplemented, text));
    }
    Ok(())
}
