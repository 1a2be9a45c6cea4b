//! Tests of `intake`: a large body is copied once on its way from the connection's pieces to the tensor, whatever it came by.

use std::time::Instant;

use prost::Message as _;

use super::*;
use crate::{
    protocol::{grpc, json, pb},
    types::{InferRequest, Protocol, RequestContext, VersionRef},
};

/// Bytes that a connection hands over at a time.
const PIECE: usize = 16 << 10;
/// Elements of a picture of 224 x 224: 602,112 bytes.
const ELEMENTS: usize = 3 * 224 * 224;

/// Puts a body together as `collect` does, and checks that it is written into one place and never moved.
fn take(body: &[u8], announced: usize) -> Bytes {
    let mut taken = Taken::new(Duration::from_secs(1), announced);
    let mut places = Vec::new();
    for piece in body.chunks(PIECE) {
        taken.keep(Bytes::copy_from_slice(piece)).unwrap();
        places.extend(taken.rest.as_ref().map(|rest| rest.as_ptr()));
    }
    assert!(places.len() > 30 && places.iter().all(|place| *place == places[0]), "the body has been moved");
    let whole = taken.whole();
    assert_eq!(whole.as_ptr(), places[0]);
    assert_eq!(whole, body);
    whole
}

/// Checks that the request's only tensor lies in the body.
fn check(request: &InferRequest, body: &Bytes, elements: &[u8]) {
    let [input] = &request.inputs[..] else { panic!("one input") };
    let tensor = input.tensor.bytes();
    assert_eq!(tensor, elements);
    assert!(body.as_ptr_range().contains(&tensor.as_ptr()), "the tensor has been copied");
}

fn elements() -> Vec<u8> {
    (0..ELEMENTS).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn context(protocol: Protocol) -> RequestContext {
    RequestContext::new(protocol, Instant::now())
}

#[test]
fn a_large_grpc_tensor_is_copied_once() {
    let elements = elements();
    let input = pb::model_infer_request::InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, ELEMENTS as i64],
        ..Default::default()
    };
    let message = pb::ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![elements.clone().into()],
        ..Default::default()
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0][..], &length, &message].concat();
    // The length is read off the first piece.
    let body = take(&frame, frame.len());
    let message = body.slice(5..);
    let plain = grpc::plain(&message);
    assert!(plain.is_some());
    let read = grpc::read(plain, &message, context(Protocol::Grpc), &mut String::new()).unwrap();
    check(&read.0, &body, &elements);
    // The long way, which other requests take, does not copy either.
    let read = grpc::decode(grpc::parse(body.slice(5..)).unwrap(), context(Protocol::Grpc)).unwrap();
    check(&read.0, &body, &elements);
}

#[test]
fn a_large_binary_tensor_over_http_is_copied_once() {
    let elements = elements();
    let size = elements.len();
    let head = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,{ELEMENTS}],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
    );
    let sent = [head.as_bytes(), &elements].concat();
    let body = take(&sent, sent.len());
    let read = json::decode("m", VersionRef::Policy, &body, Some(head.len())).unwrap();
    let (request, _) = read.request(context(Protocol::Http), || panic!("a request with JSON")).unwrap();
    check(&request, &body, &elements);
}

#[test]
fn one_piece_is_not_copied() {
    let piece = Bytes::from(vec![7; 100]);
    let mut taken = Taken::new(Duration::from_secs(1), 100);
    taken.keep(piece.clone()).unwrap();
    assert_eq!(taken.whole().as_ptr(), piece.as_ptr());
}
