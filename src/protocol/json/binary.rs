//! The binary tensor extension: the length header, tensors behind the JSON, and raw requests without any JSON.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    protocol::{ReplyForm, params::about, raw},
    types::{
        Batch, DType, Error, InferRequest, NamedTensor, Params, PlainInputs, RequestContext, Shape, Signature, Tensor,
        VersionRef, element_count,
    },
};

/// The header that says how many bytes of a body are JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// Reads the value of [`HEADER_LENGTH`].
///
/// # Errors
/// `InvalidArgument` when it is not a number of bytes that the body has.
pub fn header_length(value: &[u8], body: usize) -> Result<usize, Error> {
    let text = String::from_utf8_lossy(value);
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = if digits { text.parse::<usize>().ok() } else { None };
    length.filter(|length| *length <= body).ok_or_else(|| {
        let got: String = text.chars().take(32).collect();
        Error::expected("Inference-Header-Content-Length", format_args!("0 to {body}"), format_args!("'{got}'"))
    })
}

/// A raw binary request: the bytes of the model's only input.
#[derive(Debug)]
pub(super) struct RawBody<'b> {
    pub(super) model: &'b str,
    pub(super) version: VersionRef,
    pub(super) bytes: Bytes,
}

/// Completes a raw binary request: one row of the model's only input, whose one size that is left open follows from the number
/// of bytes; for BYTES the body is the one element. All outputs are answered as binary.
///
/// # Errors
/// `InvalidArgument` when the model has more than one input or the bytes do not fit it.
pub(super) fn raw_request(
    raw: RawBody<'_>,
    signature: &Signature,
    context: RequestContext,
) -> Result<(InferRequest, ReplyForm), Error> {
    let [spec] = &signature.inputs[..] else {
        return Err(Error::expected("raw binary request", "a model with one input", signature.inputs.len()));
    };
    let mut dims = spec.shape.clone();
    if signature.batch == Batch::Rows
        && let Some(rows) = dims.first_mut()
    {
        *rows = Some(1);
    }
    let tensor = raw_tensor(spec.dtype, &dims, raw.bytes).map_err(|error| about("input", &spec.name, &error))?;
    let request = InferRequest {
        model: raw.model.into(),
        version: raw.version,
        id: Box::default(),
        params: Params::default(),
        inputs: vec![NamedTensor { name: spec.name.clone(), tensor }],
        outputs: Vec::new(),
        context,
    };
    Ok((request, ReplyForm::raw()))
}

fn raw_tensor(dtype: DType, dims: &[Option<usize>], bytes: Bytes) -> Result<Tensor, Error> {
    let open = dims.iter().filter(|dim| dim.is_none()).count();
    if open > 1 {
        return Err(Error::expected("raw binary request", "at most one open size", open));
    }
    let known: Shape = dims.iter().map(|dim| dim.unwrap_or(1)).collect();
    let count = element_count(&known)?;
    let Some(size) = dtype.size() else {
        return if count == 1 {
            Tensor::strings(known, vec![bytes].into())
        } else {
            Err(Error::expected("raw binary request: BYTES elements", 1, count))
        };
    };
    let unit = count.checked_mul(size).filter(|unit| *unit > 0 && bytes.len().is_multiple_of(*unit));
    // Where the bytes do not divide, any size is wrong, and the tensor says how.
    let derived = unit.map_or(1, |unit| bytes.len() / unit);
    raw::decode(dtype, dims.iter().map(|dim| dim.unwrap_or(derived)).collect(), bytes)
}

/// An input of a JSON request.
pub(super) struct Input<'t> {
    pub(super) name: Cow<'t, str>,
    pub(super) content: Content,
}

/// Its tensor, or where it will come from.
pub(super) enum Content {
    /// It was in the JSON.
    Json(Tensor),
    /// It is the next `size` bytes behind the JSON.
    Binary { dtype: DType, shape: Shape, size: usize },
}

/// Gives every input its tensor; the bytes behind the JSON must be used up.
///
/// # Errors
/// `InvalidArgument` naming the input that has too few bytes or that they do not fit.
pub(super) fn tensors<'t>(inputs: Vec<Input<'t>>, binary: &Bytes) -> Result<PlainInputs<'t>, Error> {
    let mut at = 0_usize;
    let mut tensors = PlainInputs::with_capacity(inputs.len());
    for Input { name, content } in inputs {
        let tensor = match content {
            Content::Json(tensor) => tensor,
            Content::Binary { dtype, shape, size } => {
                let Some(end) = at.checked_add(size).filter(|end| *end <= binary.len()) else {
                    let subject = format!("input '{name}': binary data");
                    return Err(Error::expected(subject, format_args!("{size} bytes"), binary.len() - at));
                };
                let bytes = binary.slice(at..end);
                at = end;
                raw::decode(dtype, shape, bytes).map_err(|error| about("input", &name, &error))?
            }
        };
        tensors.push((name, tensor));
    }
    if at != binary.len() {
        return Err(Error::expected("binary data", format_args!("{at} bytes in all"), binary.len()));
    }
    Ok(tensors)
}
