//! The short way and the long one agree: on every request that is read, whatever its bytes, and on every answer that is written.

use std::time::Instant;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    protocol::{
        grpc::encode,
        pb::{self, model_infer_request as message},
    },
    types::{Answered, Params, Protocol, Stamps},
};

fn context() -> RequestContext {
    RequestContext::new(Protocol::Grpc, Instant::now())
}

/// What is read, in one piece that can be compared.
fn shown(read: Result<(InferRequest, ReplyForm), Error>) -> Result<String, Error> {
    read.map(|(request, form)| {
        let InferRequest { model, version, id, params, inputs, outputs, .. } = request;
        format!("{model} {version} {id} {params:?} {inputs:?} {outputs:?} {form:?}")
    })
}

fn agree(bytes: &Bytes) -> Result<(), TestCaseError> {
    let mut name = String::new();
    let long = parse(bytes.clone()).and_then(|message| decode(message, context()));
    let short = read(plain(bytes), bytes, context(), &mut name);
    prop_assert_eq!(shown(short), shown(long));
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("x".to_owned()), Just("2".to_owned()), "[a-zé]{1,140}"]
}

fn contents() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(0_u8..3, 0..40).prop_map(Bytes::from)
}

prop_compose! {
    fn input()(
        name in text(),
        datatype in prop_oneof![3 => Just("UINT8"), 1 => Just("BOOL"), 1 => Just("BYTES"), 1 => Just("fp32")],
        shape in proptest::collection::vec(prop_oneof![8 => 0_i64..6, 1 => Just(-1), 1 => Just(300)], 0..4),
        typed in proptest::bool::weighted(0.1),
        parameter in proptest::bool::weighted(0.1),
    ) -> message::InferInputTensor {
        let mut input = message::InferInputTensor { name, datatype: datatype.to_owned(), shape, ..Default::default() };
        input.contents = typed.then(|| pb::InferTensorContents { uint_contents: vec![1], ..Default::default() });
        if parameter {
            input.parameters.insert("p".to_owned(), pb::InferParameter::default());
        }
        input
    }
}

/// Requests of which many are plain and right.
fn request() -> impl Strategy<Value = pb::ModelInferRequest> {
    let right = (0_usize..3, 1_usize..20).prop_map(|(count, size)| {
        let shape = vec![size as i64];
        let input = |i: usize| message::InferInputTensor {
            name: format!("x{i}"),
            datatype: "UINT8".to_owned(),
            shape: shape.clone(),
            ..Default::default()
        };
        ((0..count).map(input).collect(), vec![Bytes::from(vec![1; size]); count])
    });
    let any = (proptest::collection::vec(input(), 0..4), proptest::collection::vec(contents(), 0..4));
    let tensors = prop_oneof![right, any];
    let other = (text(), text(), text(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1));
    (tensors, other).prop_map(|((inputs, raw_input_contents), (model_name, model_version, id, output, parameter))| {
        let mut message =
            pb::ModelInferRequest { model_name, model_version, id, inputs, raw_input_contents, ..Default::default() };
        if output {
            message.outputs.push(message::InferRequestedOutputTensor { name: "y".to_owned(), ..Default::default() });
        }
        if parameter {
            let value = pb::infer_parameter::ParameterChoice::Int64Param(7);
            message.parameters.insert("p".to_owned(), pb::InferParameter { parameter_choice: Some(value) });
        }
        message
    })
}

prop_compose! {
    fn output()(name in text(), rows in 0_usize..300, values in contents(), scalar: bool, strings: bool) -> NamedTensor {
        let tensor = match (scalar, strings) {
            (true, _) => Tensor::plain(DType::Uint8, Shape::new(), Bytes::from_static(&[7])),
            (_, true) => Tensor::strings([2, 1].as_slice().into(), [values.clone(), values].into()),
            (_, false) => Tensor::plain(DType::Int64, [rows, 2].as_slice().into(), vec![3; rows * 16].into()),
        };
        NamedTensor { name: name.into(), tensor: tensor.unwrap() }
    }
}

proptest! {
    #[test]
    fn requests_are_read_as_the_long_way_reads_them(message in request()) {
        agree(&message.encode_to_vec().into())?;
    }

    #[test]
    fn damaged_requests_too(message in request(), at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let mut bytes = message.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(cut.index(bytes.len() * 4).max(at));
        }
        agree(&bytes.into())?;
    }

    #[test]
    fn answers_are_written_as_the_long_way_writes_them(
        outputs in proptest::collection::vec(output(), 0..4), model in text(), version in text(), id in text(),
    ) {
        let answered = Answered { model: model.into(), version: version.into(), variant: "".into() };
        let stamps = Stamps::at(Instant::now());
        let response = InferResponse { answered, id: id.into(), params: Params::default(), outputs, stamps };
        let long = encode(&response, &ReplyForm::raw()).encode_to_vec();
        let answer = RawAnswer::of(&response, &ReplyForm::raw()).unwrap();
        let mut short = BytesMut::new();
        answer.write(&mut short);
        prop_assert_eq!(answer.len(), long.len());
        prop_assert_eq!(&short[..], long);
    }
}

#[test]
fn a_plain_request_takes_the_short_way_and_shares_its_bytes() {
    let message = pb::ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![message::InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 2],
            ..Default::default()
        }],
        raw_input_contents: vec![Bytes::from_static(&[1; 8])],
        ..Default::default()
    };
    let bytes = Bytes::from(message.encode_to_vec());
    let read = plain(&bytes).unwrap();
    assert_eq!((read.model, read.version, &*read.id), ("m", VersionRef::Policy, ""));
    assert_eq!(read.inputs[0].1.bytes().as_ptr(), bytes[bytes.len() - 8..].as_ptr());
    let named = pb::ModelInferRequest {
        outputs: vec![message::InferRequestedOutputTensor { name: "y".to_owned(), ..Default::default() }],
        ..message
    };
    assert!(plain(&named.encode_to_vec().into()).is_none());
}
