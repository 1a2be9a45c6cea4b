//! Every bad gRPC request with the error it gets, and what good ones become.

use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use smallvec::smallvec;

pub(in crate::protocol) use super::config::tests::view;
use super::{check_control, decode, encode, stream_answer, stream_error};
use crate::{
    protocol::{
        ReplyForm,
        pb::{self, infer_parameter::ParameterChoice as Choice, model_infer_request as message},
    },
    types::{
        Answered, DType, Data, Error, ErrorCode, InferRequest, InferResponse, NamedTensor, ParamValue, Params,
        Protocol, RequestContext, Stamps, Tensor, VersionRef,
    },
};

fn context() -> RequestContext {
    RequestContext::new(Protocol::Grpc, Instant::now())
}

fn param(choice: Choice) -> pb::InferParameter {
    pb::InferParameter { parameter_choice: Some(choice) }
}

fn input(datatype: &str, shape: &[i64]) -> message::InferInputTensor {
    message::InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

fn with(input: message::InferInputTensor, fill: impl FnOnce(&mut pb::InferTensorContents)) -> pb::ModelInferRequest {
    let mut contents = pb::InferTensorContents::default();
    fill(&mut contents);
    request(message::InferInputTensor { contents: Some(contents), ..input })
}

fn raw(input: message::InferInputTensor, bytes: &'static [u8]) -> pb::ModelInferRequest {
    pb::ModelInferRequest { raw_input_contents: vec![Bytes::from_static(bytes)], ..request(input) }
}

fn request(input: message::InferInputTensor) -> pb::ModelInferRequest {
    pb::ModelInferRequest { model_name: "m".to_owned(), inputs: vec![input], ..Default::default() }
}

/// A good request with something added.
fn plus(change: impl FnOnce(&mut pb::ModelInferRequest)) -> pb::ModelInferRequest {
    let mut message = with(input("FP32", &[1]), |c| c.fp32_contents = vec![1.0]);
    change(&mut message);
    message
}

fn refused(message: pb::ModelInferRequest) -> Error {
    decode(message, context()).unwrap_err()
}

fn output(name: &str) -> message::InferRequestedOutputTensor {
    message::InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() }
}

fn output_with(key: &str, choice: Choice) -> message::InferRequestedOutputTensor {
    let mut output = output("y");
    output.parameters.insert(key.to_owned(), param(choice));
    output
}

#[test]
fn bad_tensors() {
    let f = |values: &[f32]| {
        let values = values.to_vec();
        move |c: &mut pb::InferTensorContents| c.fp32_contents = values
    };
    let table: Vec<(pb::ModelInferRequest, &str)> = vec![
        (with(input("FP32", &[2, -5]), f(&[])), "input 'x': shape: expected sizes of 0 or more, got -5"),
        (
            with(input("FP32", &[i64::MIN]), f(&[])),
            "input 'x': shape: expected sizes of 0 or more, got -9223372036854775808",
        ),
        (with(input("FP32", &[16, (1 << 60) + 2]), f(&[])), "input 'x': shape: element count overflows"),
        (with(input("FP32", &[1 << 32, 1 << 32]), f(&[])), "input 'x': shape: element count overflows"),
        (with(input("FP32", &[i64::MAX]), f(&[])), "input 'x': elements: expected 9223372036854775807, got 0"),
        (with(input("FP32", &[1; 17]), f(&[1.0])), "input 'x': shape: expected at most 16 dimensions, got 17"),
        (with(input("FP32", &[2, 4]), f(&[0.0; 7])), "input 'x': elements: expected 8, got 7"),
        (with(input("FP32", &[0, 4]), f(&[0.0])), "input 'x': elements: expected 0, got 1"),
        (
            with(input("FLOAT", &[1]), f(&[0.0])),
            "input 'x': datatype: expected BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES, got 'FLOAT'",
        ),
        (with(input("FP64", &[1]), f(&[0.0])), "input 'x': FP64 contents: expected fp64_contents, got fp32_contents"),
        (
            with(input("INT8", &[1]), |c| c.int_contents = vec![128]),
            "input 'x': element 0: out of range for INT8, got 128",
        ),
        (
            with(input("INT16", &[2]), |c| c.int_contents = vec![0, -32769]),
            "input 'x': element 1: out of range for INT16, got -32769",
        ),
        (
            with(input("UINT8", &[1]), |c| c.uint_contents = vec![256]),
            "input 'x': element 0: out of range for UINT8, got 256",
        ),
        (
            with(input("UINT16", &[1]), |c| c.uint_contents = vec![65536]),
            "input 'x': element 0: out of range for UINT16, got 65536",
        ),
        (with(input("FP16", &[1]), f(&[])), "input 'x': FP16 has no typed contents: use raw_input_contents"),
        (with(input("BF16", &[1]), f(&[1.0])), "input 'x': BF16 has no typed contents: use raw_input_contents"),
        (request(input("FP32", &[1])), "input 'x': elements: expected 1, got 0"),
        (raw(input("FP32", &[2]), &[0; 7]), "input 'x': byte size: expected 8, got 7"),
        (raw(input("BOOL", &[1]), &[2]), "input 'x': element 0: expected 0 or 1, got 2"),
        (raw(input("BYTES", &[1]), &[9, 0, 0, 0, 1]), "input 'x': element 0: expected 9 bytes, got 1"),
        (raw(input("BYTES", &[1]), &[1, 0]), "input 'x': element 0: expected a 4-byte length, got 2"),
        (raw(input("BYTES", &[2]), &[0; 4]), "input 'x': elements: expected 2, got 1"),
        (raw(input("FP32", &[1 << 62]), &[0; 4]), "input 'x': shape: element count overflows"),
        (
            pb::ModelInferRequest {
                raw_input_contents: vec![Bytes::from_static(&[0; 4])],
                ..with(input("FP32", &[1]), f(&[1.0]))
            },
            "input 'x': contents must not be set together with raw_input_contents",
        ),
        (
            pb::ModelInferRequest {
                raw_input_contents: vec![Bytes::from_static(&[0; 4]); 2],
                ..request(input("FP32", &[1]))
            },
            "raw_input_contents: expected 1 entries, got 2",
        ),
    ];
    for (message, want) in table {
        let error = refused(message);
        assert_eq!((error.code(), error.text()), (ErrorCode::InvalidArgument, want));
    }
}

#[test]
fn bad_parameters_and_outputs() {
    let named = |name: &str, choice| {
        let name = name.to_owned();
        plus(move |m| {
            m.parameters.insert(name, param(choice));
        })
    };
    let long = "x".repeat((64 << 10) + 1);
    let table: Vec<(pb::ModelInferRequest, &str)> = vec![
        (plus(|m| m.model_version = "1e3".to_owned()), "version: expected a positive integer or a label, got '1e3'"),
        (plus(|m| m.id = long.clone()), "id: expected at most 65536 bytes, got 65537"),
        (named("headers", Choice::BoolParam(true)), "parameter 'headers': the name is reserved"),
        (named("triton_x", Choice::BoolParam(true)), "parameter 'triton_x': the name is reserved"),
        (named("timeout", Choice::Int64Param(-1)), "parameter 'timeout': expected a non-negative integer, got -1"),
        (named("priority", Choice::DoubleParam(1.5)), "parameter 'priority': expected a non-negative integer, got 1.5"),
        (named("a", Choice::StringParam(long.clone())), "parameters: a text: expected at most 65536 bytes, got 65537"),
        (
            plus(|m| {
                m.parameters.insert("a".to_owned(), pb::InferParameter::default());
            }),
            "parameter 'a': no value",
        ),
        (
            plus(|m| m.parameters = (0..129).map(|i| (i.to_string(), param(Choice::BoolParam(true)))).collect()),
            "parameters: expected at most 128, got 129",
        ),
        (
            plus(|m| m.outputs = (0..65).map(|i| output(&i.to_string())).collect()),
            "outputs: expected at most 64, got 65",
        ),
        (plus(|m| m.outputs = vec![output("y"), output("z"), output("y")]), "output 'y': requested twice"),
        (
            plus(|m| m.outputs = vec![output_with("classification", Choice::StringParam("3".to_owned()))]),
            "output 'y': classification: expected a non-negative integer, got '3'",
        ),
        (
            plus(|m| m.outputs = vec![output_with("classification", Choice::Int64Param(-3))]),
            "output 'y': classification: expected a non-negative integer, got -3",
        ),
    ];
    for (message, want) in table {
        let error = refused(message);
        assert_eq!((error.code(), error.text()), (ErrorCode::InvalidArgument, want));
    }
}

#[test]
fn what_this_server_does_not_have() {
    let shared = |m: &mut pb::ModelInferRequest| {
        let region = param(Choice::StringParam("r".to_owned()));
        m.inputs[0].parameters.insert("shared_memory_region".to_owned(), region);
    };
    let out = |m: &mut pb::ModelInferRequest| {
        m.outputs = vec![output_with("shared_memory_byte_size", Choice::Int64Param(1))];
    };
    for (message, want) in [
        (plus(shared), "input 'x': shared memory is not supported"),
        (plus(out), "output 'y': shared memory is not supported"),
    ] {
        let error = refused(message);
        assert_eq!((error.code(), error.text()), (ErrorCode::Unimplemented, want));
    }
    let control = |name: &str| check_control(&[(name.to_owned(), pb::ModelRepositoryParameter::default())].into());
    assert_eq!(control("config").unwrap_err().code(), ErrorCode::Unimplemented);
    assert_eq!(control("file:1/model.onnx").unwrap_err().code(), ErrorCode::Unimplemented);
    assert_eq!(control("unload_dependents"), Ok(()));
}

#[test]
fn a_request_becomes_its_nouns() {
    let mut message = plus(|m| {
        m.model_version = "7".to_owned();
        m.id = "q1".to_owned();
        m.parameters.insert("b".to_owned(), param(Choice::Uint64Param(u64::MAX)));
        m.parameters.insert("a".to_owned(), param(Choice::Int64Param(-4)));
        m.parameters.insert("triton_enable_empty_final_response".to_owned(), param(Choice::BoolParam(true)));
        m.outputs = vec![output("z"), output_with("classification", Choice::Int64Param(3))];
    });
    let moved = message.inputs[0].contents.as_ref().unwrap().fp32_contents.as_ptr();
    let (request, form): (InferRequest, _) = decode(std::mem::take(&mut message), context()).unwrap();
    assert_eq!((&*request.model, &*request.id), ("m", "q1"));
    assert_eq!(request.version, VersionRef::parse("7").unwrap());
    assert_eq!(request.inputs[0].tensor.bytes().as_ptr(), moved.cast(), "typed contents are not copied");
    let params: Vec<_> = request.params.iter().map(|(name, value)| (name, value.clone())).collect();
    assert_eq!(params[..2], [("a", ParamValue::Int(-4)), ("b", ParamValue::Uint(u64::MAX))]);
    assert_eq!((&*request.outputs[0].name, request.outputs[0].classes), ("z", 0));
    assert_eq!((&*request.outputs[1].name, request.outputs[1].classes), ("y", 3));
    assert_eq!((form.is_raw(), form.classes("y"), form.classes("z")), (false, 3, 0));
}

#[test]
fn zero_elements_are_the_models_business() {
    let (request, _) = decode(request(input("FP32", &[0, 4])), context()).unwrap();
    assert_eq!(request.inputs[0].tensor.shape(), [0, 4]);
    let (request, form) = decode(raw(input("FP32", &[0, 4]), &[]), context()).unwrap();
    assert_eq!((request.inputs[0].tensor.elements(), form.is_raw()), (0, true));
}

pub(in crate::protocol) fn answer(outputs: Vec<NamedTensor>) -> InferResponse {
    InferResponse {
        answered: Answered { model: "m".into(), version: "3".into(), variant: "".into() },
        id: "q1".into(),
        params: Params::default(),
        outputs,
        stamps: Stamps::at(Instant::now()),
    }
}

#[test]
fn one_half_float_makes_the_answer_raw() {
    let named = |name: &str, tensor| NamedTensor { name: name.into(), tensor };
    let half = Tensor::plain(DType::Fp16, smallvec![1], Bytes::from_static(&[1, 2])).unwrap();
    let words = Tensor::strings(smallvec![1], vec![Bytes::from_static(b"hi")].into()).unwrap();
    let mut response = answer(vec![named("h", half), named("s", words.clone())]);
    response.params.set("weir_sticky", ParamValue::Bool(true));
    let message = encode(&response, &ReplyForm::typed());
    assert_eq!(message.raw_output_contents, [&[1_u8, 2][..], b"\x02\0\0\0hi"]);
    assert!(message.outputs.iter().all(|output| output.contents.is_none()));
    assert_eq!(message.parameters["weir_sticky"], param(Choice::BoolParam(true)));
    assert_eq!((&*message.model_name, &*message.model_version, &*message.id), ("m", "3", "q1"));
    let typed = encode(&answer(vec![named("s", words)]), &ReplyForm::typed());
    assert!(typed.raw_output_contents.is_empty());
    assert_eq!(typed.outputs[0].contents.as_ref().unwrap().bytes_contents, ["hi"]);
}

#[test]
fn stream_messages() {
    let message = encode(&answer(Vec::new()), &ReplyForm::raw());
    let last = |m: &pb::ModelStreamInferResponse| m.infer_response.as_ref().unwrap().parameters.clone();
    assert_eq!(last(&stream_answer(message))["triton_final_response"], param(Choice::BoolParam(true)));
    let failed = stream_error(&Error::invalid("bad"), "q1");
    assert_eq!((&*failed.error_message, &*failed.infer_response.unwrap().id), ("bad", "q1"));
}

proptest! {
    #[test]
    fn damaged_messages_never_panic(cut in 0_usize..400, at in 0_usize..400, byte in any::<u8>()) {
        let mut message = plus(|m| {
            m.outputs = vec![output_with("classification", Choice::Int64Param(3))];
            m.parameters.insert("a".to_owned(), param(Choice::StringParam("text".to_owned())));
            m.inputs.push(input("BYTES", &[2]));
            m.inputs[1].contents = Some(pb::InferTensorContents {
                bytes_contents: vec![Bytes::from_static(b"a"), Bytes::new()],
                ..Default::default()
            });
        });
        for is_raw in [false, true] {
            if is_raw {
                for input in &mut message.inputs {
                    input.contents = None;
                }
                message.raw_input_contents =
                    vec![Bytes::from_static(&[0; 4]), Bytes::from_static(b"\x01\0\0\0a\0\0\0\0")];
            }
            let mut bytes = message.encode_to_vec();
            decode(pb::ModelInferRequest::decode(&bytes[..]).unwrap(), context()).unwrap();
            let length = bytes.len();
            bytes[at % length] ^= byte;
            bytes.truncate(cut % (length + 1));
            if let Ok(message) = pb::ModelInferRequest::decode(&bytes[..])
                && let Ok((request, _)) = decode(message, context()) {
                for input in request.inputs {
                    if let Data::Plain(bytes) = input.tensor.data() {
                        prop_assert_eq!(bytes.len(), input.tensor.elements() * input.tensor.dtype().size().unwrap());
                    }
                }
            }
        }
    }
}
