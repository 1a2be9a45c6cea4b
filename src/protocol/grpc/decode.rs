//! A `ModelInferRequest` becomes an [`InferRequest`]. Raw contents stay slices of the receive buffer; typed contents move in
//! without a copy where their layout is the tensor's. Everything that the wire itself can get wrong is refused here, what the
//! model would have to know is left to the signature.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{
    protocol::{
        ReplyForm,
        params::{self, Outputs, about},
        pb::{self, infer_parameter::ParameterChoice, model_infer_request as message},
        raw,
    },
    types::{
        DType, Error, InferRequest, NamedTensor, ParamValue, Params, RequestContext, Shape, Tensor, VersionRef,
        element_count,
    },
};

/// Reads a request. The answer's form mirrors the request's: raw contents in, raw contents out.
///
/// # Errors
/// `InvalidArgument` naming what does not fit; `Unimplemented` for shared memory; `TooLarge` for too many BYTES elements.
pub fn decode(message: pb::ModelInferRequest, context: RequestContext) -> Result<(InferRequest, ReplyForm), Error> {
    params::check_id(&message.id)?;
    let version = VersionRef::parse(&message.model_version)?;
    let is_raw = !message.raw_input_contents.is_empty();
    let inputs = if is_raw {
        raw_inputs(message.inputs, message.raw_input_contents)?
    } else {
        message.inputs.into_iter().map(typed_input).collect::<Result<_, _>>()?
    };
    let params = request_params(message.parameters)?;
    let (outputs, form) = requested(message.outputs, is_raw)?;
    let request = InferRequest {
        model: message.model_name.into(),
        version,
        id: message.id.into(),
        params,
        inputs,
        outputs,
        context,
    };
    Ok((request, form))
}

/// Checks the parameters of a repository load or unload: a configuration or files in the request are never taken.
///
/// # Errors
/// `Unimplemented` for `config` and `file:…`, `InvalidArgument` for too many parameters.
pub fn check_control(parameters: &HashMap<String, pb::ModelRepositoryParameter>) -> Result<(), Error> {
    params::check_count("", parameters.len())?;
    parameters.keys().try_for_each(|name| params::check_control(name))
}

fn raw_inputs(inputs: Vec<message::InferInputTensor>, contents: Vec<Bytes>) -> Result<Vec<NamedTensor>, Error> {
    if let Some(input) = inputs.iter().find(|input| input.contents.is_some()) {
        let text = format!("input '{}': contents must not be set together with raw_input_contents", input.name);
        return Err(Error::invalid(text));
    }
    if inputs.len() != contents.len() {
        return Err(Error::expected("raw_input_contents", format_args!("{} entries", inputs.len()), contents.len()));
    }
    let tensor = |input: message::InferInputTensor, bytes| {
        let make = || {
            let (dtype, shape) = head(&input)?;
            raw::decode(dtype, shape, bytes)
        };
        let tensor = make().map_err(|error| about("input", &input.name, &error))?;
        Ok(NamedTensor { name: input.name.into(), tensor })
    };
    inputs.into_iter().zip(contents).map(|(input, bytes)| tensor(input, bytes)).collect()
}

fn typed_input(mut input: message::InferInputTensor) -> Result<NamedTensor, Error> {
    let contents = input.contents.take().unwrap_or_default();
    let make = || {
        let (dtype, shape) = head(&input)?;
        typed(dtype, shape, contents)
    };
    let tensor = make().map_err(|error| about("input", &input.name, &error))?;
    Ok(NamedTensor { name: input.name.into(), tensor })
}

/// Datatype and shape of an input, after a look at its parameters.
fn head(input: &message::InferInputTensor) -> Result<(DType, Shape), Error> {
    params::check_count("", input.parameters.len())?;
    input.parameters.keys().try_for_each(|name| params::check_tensor_param("", name))?;
    let dtype = params::datatype(&input.datatype)?;
    params::check_rank(input.shape.len())?;
    let shape = input.shape.iter().map(|dim| params::dimension(*dim)).collect::<Result<Shape, _>>()?;
    Ok((dtype, shape))
}

fn typed(dtype: DType, shape: Shape, contents: pb::InferTensorContents) -> Result<Tensor, Error> {
    let expected = element_count(&shape)?;
    let got = only_field(dtype, &contents)?;
    if got != expected {
        return Err(Error::expected("elements", expected, got));
    }
    match dtype {
        DType::Bool => Tensor::from_vec(dtype, shape, contents.bool_contents),
        DType::Int8 => Tensor::from_vec(dtype, shape, narrow::<_, i8>(dtype, &contents.int_contents)?),
        DType::Int16 => Tensor::from_vec(dtype, shape, narrow::<_, i16>(dtype, &contents.int_contents)?),
        DType::Int32 => Tensor::from_vec(dtype, shape, contents.int_contents),
        DType::Int64 => Tensor::from_vec(dtype, shape, contents.int64_contents),
        DType::Uint8 => Tensor::from_vec(dtype, shape, narrow::<_, u8>(dtype, &contents.uint_contents)?),
        DType::Uint16 => Tensor::from_vec(dtype, shape, narrow::<_, u16>(dtype, &contents.uint_contents)?),
        DType::Uint32 => Tensor::from_vec(dtype, shape, contents.uint_contents),
        DType::Uint64 => Tensor::from_vec(dtype, shape, contents.uint64_contents),
        DType::Fp32 => Tensor::from_vec(dtype, shape, contents.fp32_contents),
        DType::Fp64 => Tensor::from_vec(dtype, shape, contents.fp64_contents),
        DType::Bytes => {
            raw::check_strings(got)?;
            Tensor::strings(shape, contents.bytes_contents.into())
        }
        // Refused by `only_field` already.
        DType::Fp16 | DType::Bf16 => Tensor::plain(dtype, shape, Bytes::new()),
    }
}

/// The element count of the field that belongs to a datatype, when no other field has elements.
fn only_field(dtype: DType, contents: &pb::InferTensorContents) -> Result<usize, Error> {
    let fields = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    let own = match dtype {
        DType::Bool => 0,
        DType::Int8 | DType::Int16 | DType::Int32 => 1,
        DType::Int64 => 2,
        DType::Uint8 | DType::Uint16 | DType::Uint32 => 3,
        DType::Uint64 => 4,
        DType::Fp32 => 5,
        DType::Fp64 => 6,
        DType::Bytes => 7,
        DType::Fp16 | DType::Bf16 => {
            return Err(Error::invalid(format!("{dtype} has no typed contents: use raw_input_contents")));
        }
    };
    match fields.iter().enumerate().find(|(field, (_, count))| *field != own && *count > 0) {
        Some((_, (name, _))) => Err(Error::expected(format_args!("{dtype} contents"), fields[own].0, name)),
        None => Ok(fields[own].1),
    }
}

fn narrow<W: Copy + std::fmt::Display, N: TryFrom<W>>(dtype: DType, wide: &[W]) -> Result<Vec<N>, Error> {
    let narrow = |(element, value): (usize, &W)| {
        N::try_from(*value)
            .map_err(|_| Error::invalid(format!("element {element}: out of range for {dtype}, got {value}")))
    };
    wide.iter().enumerate().map(narrow).collect()
}

fn request_params(given: HashMap<String, pb::InferParameter>) -> Result<Params, Error> {
    let mut params = Params::default();
    if given.is_empty() {
        return Ok(params);
    }
    params::check_count("", given.len())?;
    // A map has no order on the wire; sorting makes one request mean one thing.
    let mut sorted: Vec<_> = given.into_iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in sorted {
        let value = param_value(&name, value)?;
        params::set(&mut params, &name, value)?;
    }
    Ok(params)
}

fn param_value(name: &str, value: pb::InferParameter) -> Result<ParamValue, Error> {
    match value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Ok(ParamValue::Bool(value)),
        Some(ParameterChoice::Int64Param(value)) => Ok(ParamValue::Int(value)),
        Some(ParameterChoice::Uint64Param(value)) => Ok(ParamValue::Uint(value)),
        Some(ParameterChoice::DoubleParam(value)) => Ok(ParamValue::Double(value)),
        Some(ParameterChoice::StringParam(value)) => Ok(ParamValue::Text(value.into())),
        None => Err(Error::invalid(format!("parameter '{name}': no value"))),
    }
}

fn requested(
    given: Vec<message::InferRequestedOutputTensor>,
    is_raw: bool,
) -> Result<(Vec<crate::types::RequestedOutput>, ReplyForm), Error> {
    params::check_outputs(given.len())?;
    let mut outputs = Outputs::default();
    for output in given {
        params::check_count(&format!("output '{}': ", output.name), output.parameters.len())?;
        let mut values = Vec::with_capacity(output.parameters.len());
        for (name, value) in output.parameters {
            // `binary_data` belongs to HTTP: gRPC answers mirror the request.
            if name != "binary_data" {
                values.push((name.clone(), param_value(&name, value)?));
            }
        }
        outputs.push(&output.name, values.iter().map(|(name, value)| (name.as_str(), value)))?;
    }
    Ok(outputs.finish(is_raw))
}
