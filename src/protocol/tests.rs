//! The four encodings against each other: what goes out one way and comes in again is bit for bit the same tensor.

use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use smallvec::smallvec;

use super::{ReplyForm, grpc, json, pb};
use crate::types::{
    DType, Data, InferRequest, InferResponse, NamedTensor, ParamValue, Protocol, RequestContext, Shape, Tensor,
    VersionRef,
};

fn context() -> RequestContext {
    RequestContext::new(Protocol::Grpc, Instant::now())
}

fn named(tensors: &[Tensor]) -> Vec<NamedTensor> {
    let name = |(place, tensor): (usize, &Tensor)| NamedTensor {
        name: format!("t{place}\"\\").into(),
        tensor: tensor.clone(),
    };
    tensors.iter().enumerate().map(name).collect()
}

fn answer(tensors: &[Tensor]) -> InferResponse {
    grpc::tests::answer(named(tensors))
}

/// Sends an answer's message back as a request.
fn through_grpc(tensors: &[Tensor], form: &ReplyForm) -> (pb::ModelInferResponse, InferRequest) {
    let answer = grpc::encode(&answer(tensors), form);
    let input = |output: &pb::model_infer_response::InferOutputTensor| pb::model_infer_request::InferInputTensor {
        name: output.name.clone(),
        datatype: output.datatype.clone(),
        shape: output.shape.clone(),
        parameters: output.parameters.clone(),
        contents: output.contents.clone(),
    };
    let request = pb::ModelInferRequest {
        inputs: answer.outputs.iter().map(input).collect(),
        raw_input_contents: answer.raw_output_contents.clone(),
        ..Default::default()
    };
    let bytes = Bytes::from(prost::Message::encode_to_vec(&request));
    let request = prost::Message::decode(bytes).unwrap();
    (answer, grpc::decode(request, context()).unwrap().0)
}

/// Sends an answer's body back as a request: it has the same form, but for one key.
fn through_http(tensors: &[Tensor], form: &ReplyForm) -> (json::EncodedBody, InferRequest) {
    let encoded = json::encode(&answer(tensors), form).unwrap();
    let (head, blobs) = encoded.body.split_at(encoded.header_len.unwrap_or(encoded.body.len()));
    let head = std::str::from_utf8(head).unwrap().replacen("\"outputs\":[", "\"inputs\":[", 1);
    assert!(serde_json::from_str::<serde::de::IgnoredAny>(&head).is_ok(), "{head}");
    let header_len = encoded.header_len.map(|_| head.len());
    let body = Bytes::from([head.as_bytes(), blobs].concat());
    let read = json::decode("m", VersionRef::Policy, &body, header_len).unwrap();
    let (request, _) = read.request(context(), || panic!("a raw request")).unwrap();
    (encoded, request)
}

fn check(tensors: &[Tensor]) -> Result<(), TestCaseError> {
    let want = named(tensors);
    prop_assert_eq!(&through_grpc(tensors, &ReplyForm::typed()).1.inputs, &want);
    prop_assert_eq!(&through_grpc(tensors, &ReplyForm::raw()).1.inputs, &want);
    prop_assert_eq!(&through_http(tensors, &ReplyForm::raw()).1.inputs, &want);
    if tensors.iter().all(|tensor| !matches!(tensor.dtype(), DType::Fp16 | DType::Bf16)) {
        prop_assert_eq!(&through_http(tensors, &ReplyForm::typed()).1.inputs, &want);
    }
    Ok(())
}

/// Any bits that the datatype and JSON have a value for.
fn tensor(dtype: DType) -> impl Strategy<Value = Tensor> {
    proptest::collection::vec(0_usize..4, 0..4).prop_flat_map(move |shape| {
        let count: usize = shape.iter().product();
        let shape: Shape = shape.into_iter().collect();
        let words = proptest::collection::vec("\\PC{0,5}|[\\x00-\\x1f\"\\\\]{0,3}", count);
        let bits = proptest::collection::vec(any::<u64>(), count);
        (words, bits).prop_map(move |(words, bits)| build(dtype, shape.clone(), words, &bits))
    })
}

fn build(dtype: DType, shape: Shape, words: Vec<String>, bits: &[u64]) -> Tensor {
    let bytes: Vec<u8> = match dtype {
        DType::Bytes => {
            return Tensor::strings(shape, words.into_iter().map(Bytes::from).collect::<Vec<_>>().into()).unwrap();
        }
        DType::Bool => bits.iter().map(|bits| u8::from(bits & 1 == 1)).collect(),
        // Clearing one bit of the exponent makes an infinity or NaN a number.
        DType::Fp32 => bits.iter().flat_map(|bits| finite32(*bits as u32).to_le_bytes()).collect(),
        DType::Fp64 => bits.iter().flat_map(|bits| finite64(*bits).to_le_bytes()).collect(),
        _ => bits.iter().flat_map(|bits| bits.to_le_bytes()[..dtype.size().unwrap()].to_vec()).collect(),
    };
    Tensor::plain(dtype, shape, bytes.into()).unwrap()
}

fn finite32(bits: u32) -> u32 {
    if f32::from_bits(bits).is_finite() { bits } else { bits & !(1 << 23) }
}

fn finite64(bits: u64) -> u64 {
    if f64::from_bits(bits).is_finite() { bits } else { bits & !(1 << 52) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_datatype_survives_every_encoding(
        tensors in proptest::collection::vec(proptest::sample::select(DType::ALL.to_vec()).prop_flat_map(tensor), 0..4),
    ) {
        check(&tensors)?;
    }
}

#[test]
fn floats_at_the_edges() {
    let singles =
        [0.0_f32, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, f32::MAX, f32::MIN, 0.1, 1.0, 16_777_216.0, f32::EPSILON];
    let doubles = [0.0_f64, -0.0, f64::MIN_POSITIVE, 5e-324, -5e-324, f64::MAX, f64::MIN, 0.1, 9_007_199_254_740_993.0];
    let integers = [i64::MIN, i64::MAX, 0, -1, (1 << 53) + 1];
    let tensors = [
        Tensor::from_vec(DType::Fp32, smallvec![11], singles.to_vec()).unwrap(),
        Tensor::from_vec(DType::Fp64, smallvec![9], doubles.to_vec()).unwrap(),
        Tensor::from_vec(DType::Int64, smallvec![5], integers.to_vec()).unwrap(),
    ];
    check(&tensors).unwrap();
    let (encoded, _) = through_http(&tensors, &ReplyForm::typed());
    let text = String::from_utf8(encoded.body.to_vec()).unwrap();
    assert!(text.contains("\"data\":[0.0,-0.0,1.1754944e-38,1e-45,-1e-45,"), "{text}");
    assert_eq!((encoded.header_len, encoded.content_type), (None, json::JSON));
}

#[test]
fn what_json_has_no_number_for_is_null_and_counted() {
    let singles = vec![f32::NAN, 1.0, f32::INFINITY];
    let doubles = vec![f64::NEG_INFINITY, 1e300];
    let tensors = [
        Tensor::from_vec(DType::Fp32, smallvec![3], singles).unwrap(),
        Tensor::from_vec(DType::Fp64, smallvec![2], doubles).unwrap(),
    ];
    let mut response = answer(&tensors);
    response.params.set("weir_sticky", ParamValue::Bool(false));
    let encoded = json::encode(&response, &ReplyForm::typed()).unwrap();
    let text = std::str::from_utf8(&encoded.body).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"id":"q1","model_name":"m","model_version":"3","outputs":["#,
            r#"{"name":"t0\"\\","datatype":"FP32","shape":[3],"data":[null,1.0,null]},"#,
            r#"{"name":"t1\"\\","datatype":"FP64","shape":[2],"data":[null,1e+300]}],"#,
            r#""parameters":{"weir_sticky":false,"weir_nonfinite":3}}"#
        )
    );
    // Raw encodings carry the bits.
    let (_, request) = through_http(&tensors, &ReplyForm::raw());
    assert_eq!(request.inputs, named(&tensors));
    let (_, request) = through_grpc(&tensors, &ReplyForm::typed());
    assert_eq!(request.inputs, named(&tensors));
}

#[test]
fn outputs_without_a_json_form() {
    let half = Tensor::plain(DType::Bf16, smallvec![1], Bytes::from_static(&[1, 2])).unwrap();
    let error = json::encode(&answer(&[half]), &ReplyForm::typed()).unwrap_err();
    assert_eq!(error.text(), "output 't0\"\\': BF16 data via JSON is not supported: ask for binary data");
    let words = Tensor::strings(smallvec![2], vec![Bytes::new(), Bytes::from_static(&[0xff])].into()).unwrap();
    let error = json::encode(&answer(std::slice::from_ref(&words)), &ReplyForm::typed()).unwrap_err();
    assert_eq!(error.text(), "output 't0\"\\': element 1 is not UTF-8: ask for binary data");
    let (_, request) = through_http(&[words], &ReplyForm::raw());
    let Data::Strings(items) = request.inputs[0].tensor.data() else { panic!("strings") };
    assert_eq!(items[1], [0xff_u8][..]);
}

#[test]
fn errors_as_json() {
    let body = json::error(&crate::types::Error::invalid("input 'a\"b': bad"));
    assert_eq!(body, r#"{"error":"input 'a\"b': bad"}"#);
}
