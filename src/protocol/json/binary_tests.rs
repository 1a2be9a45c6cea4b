//! Requests and answers with binary tensors: how the bytes behind the JSON are dealt out, and raw requests.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use smallvec::smallvec;

use super::{OCTETS, decode, encode};
use crate::{
    protocol::{ReplyForm, form::OutputForm, grpc::tests::answer},
    types::{
        Batch, DType, Data, Error, ErrorCode, InferRequest, NamedTensor, Protocol, RequestContext, Signature, Tensor,
        TensorSpec, VersionRef,
    },
};

fn read(json: &str, binary: &[u8]) -> Result<InferRequest, Error> {
    let body = Bytes::from([json.as_bytes(), binary].concat());
    let read = decode("m", VersionRef::Policy, &body, Some(json.len()))?;
    Ok(read.request(context(), || panic!("a raw request"))?.0)
}

fn refused(body: Bytes, header_len: Option<usize>) -> Error {
    decode("m", VersionRef::Policy, &body, header_len).unwrap_err()
}

fn context() -> RequestContext {
    RequestContext::new(Protocol::Http, Instant::now())
}

fn input(name: &str, dtype: &str, shape: &str, size: &str) -> String {
    let params = format!(r#""parameters":{{"binary_data_size":{size}}}"#);
    format!(r#"{{"name":"{name}","datatype":"{dtype}","shape":{shape},{params}}}"#)
}

fn json(inputs: &[String]) -> String {
    format!(r#"{{"inputs":[{}]}}"#, inputs.join(","))
}

#[test]
fn json_and_binary_inputs_mixed() {
    let between = r#"{"name":"j","datatype":"INT8","shape":[2],"data":[1,-1]}"#.to_owned();
    let head = json(&[
        input("a", "FP16", "[2]", "4"),
        between,
        input("s", "BYTES", "[1]", "6"),
        input("e", "FP32", "[0]", "0"),
    ]);
    let request = read(&head, b"\x01\x02\x03\x04\x02\0\0\0hi").unwrap();
    assert_eq!(request.inputs[0].tensor.bytes()[..], [1, 2, 3, 4]);
    assert_eq!(request.inputs[1].tensor.bytes()[..], [1, 255]);
    let Data::Strings(words) = request.inputs[2].tensor.data() else { panic!("strings") };
    assert_eq!(words[..], ["hi"]);
    assert_eq!(request.inputs[3].tensor.elements(), 0);
}

#[test]
fn bytes_that_do_not_fit() {
    let x = |size: &str| json(&[input("x", "FP32", "[2]", size)]);
    let both =
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}"#;
    let table = [
        (x("8"), &[0; 7][..], "input 'x': binary data: expected 8 bytes, got 7"),
        (x("8"), &[0; 9], "binary data: expected 8 bytes in all, got 9"),
        (x("7"), &[0; 7], "input 'x': byte size: expected 8, got 7"),
        (x("-1"), &[0; 8], "input 'x': binary_data_size: expected a number of bytes, got -1"),
        (x("\"8\""), &[0; 8], "input 'x': binary_data_size: expected a number of bytes, got '8'"),
        (
            x("18446744073709551615"),
            &[0; 8],
            "input 'x': binary_data_size: expected a number of bytes, got 18446744073709551615",
        ),
        (x("9223372036854775807"), &[0; 8], "input 'x': binary data: expected 9223372036854775807 bytes, got 8"),
        (
            json(&[input("x", "UINT8", "[1]", "1"), input("y", "UINT8", "[1]", "9223372036854775807")]),
            &[0; 8],
            "input 'y': binary data: expected 9223372036854775807 bytes, got 7",
        ),
        (both.to_owned(), &[0; 4], "input 'x': both 'data' and binary_data_size"),
        (json(&[input("x", "BOOL", "[2]", "2")]), &[1, 3], "input 'x': element 1: expected 0 or 1, got 3"),
        (json(&[input("x", "BYTES", "[1]", "4")]), &[1, 0, 0, 0], "input 'x': element 0: expected 1 bytes, got 0"),
        (r#"{"inputs":[]}"#.to_owned(), &[0; 1], "binary data: expected 0 bytes in all, got 1"),
    ];
    for (head, binary, want) in table {
        let error = read(&head, binary).unwrap_err();
        assert_eq!((error.code(), error.text()), (ErrorCode::InvalidArgument, want));
    }
    // Without the header everything is JSON.
    let error = refused(Bytes::from([x("8").as_bytes(), &[0; 8]].concat()), None);
    assert!(error.text().ends_with("expected the end, got '\\u{0}'"), "{error}");
    let error = refused(Bytes::from(x("8")), None);
    assert_eq!(error.text(), "input 'x': binary data: expected 8 bytes, got 0");
    let error = refused(Bytes::from_static(b"{}"), Some(3));
    assert_eq!(error.text(), "Inference-Header-Content-Length: expected at most 2, got 3");
}

#[test]
fn truncated_anywhere_it_is_refused() {
    let head = json(&[input("x", "FP32", "[2]", "8"), input("s", "BYTES", "[1]", "6")]);
    let binary = b"\0\0\0\0\0\0\0\0\x02\0\0\0hi";
    assert!(read(&head, binary).is_ok());
    for cut in 0..binary.len() {
        assert_eq!(read(&head, &binary[..cut]).unwrap_err().code(), ErrorCode::InvalidArgument, "{cut}");
    }
    let body = Bytes::from([head.as_bytes(), binary].concat());
    for header in (1..=body.len()).filter(|header| *header != head.len()) {
        assert_eq!(refused(body.clone(), Some(header)).code(), ErrorCode::InvalidArgument, "{header}");
    }
}

#[test]
fn answers_with_binary_outputs() {
    let named = |name: &str, tensor| NamedTensor { name: name.into(), tensor };
    let numbers = |value: f32| Tensor::from_vec(DType::Fp32, smallvec![1], vec![value]).unwrap();
    let words = Tensor::strings(smallvec![1], Arc::from([Bytes::from_static(b"hi")])).unwrap();
    let response = answer(vec![named("a", numbers(1.0)), named("b", numbers(2.0)), named("s", words)]);
    let mut form = ReplyForm::raw();
    form.push(OutputForm { name: "a".into(), raw: Some(false), classes: 0 });
    let encoded = encode(&response, &form).unwrap();
    let header = encoded.header_len.unwrap();
    assert_eq!(encoded.content_type, OCTETS);
    assert_eq!(
        std::str::from_utf8(&encoded.body[..header]).unwrap(),
        concat!(
            r#"{"id":"q1","model_name":"m","model_version":"3","outputs":["#,
            r#"{"name":"a","datatype":"FP32","shape":[1],"data":[1.0]},"#,
            r#"{"name":"b","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}},"#,
            r#"{"name":"s","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}"#
        )
    );
    assert_eq!(encoded.body[header..], [&2.0_f32.to_le_bytes()[..], b"\x02\0\0\0hi"].concat());
}

fn signature(dtype: DType, shape: &[Option<usize>], batch: Batch) -> Signature {
    let inputs = vec![TensorSpec { name: "x".into(), dtype, shape: shape.to_vec() }];
    Signature { inputs, outputs: Vec::new(), batch }
}

fn raw(signature: &Signature, bytes: &'static [u8]) -> Result<(InferRequest, ReplyForm), Error> {
    let bytes = Bytes::from_static(bytes);
    let mut read = decode("m", VersionRef::Policy, &bytes, Some(0))?;
    assert!(read.plain().is_none());
    read.request(context(), || Ok(Arc::new(signature.clone())))
}

#[test]
fn raw_requests() {
    let rows = signature(DType::Int16, &[None, None, Some(2)], Batch::Rows);
    let (request, form) = raw(&rows, &[0; 12]).unwrap();
    assert_eq!((&*request.inputs[0].name, request.inputs[0].tensor.shape()), ("x", &[1, 3, 2][..]));
    assert!(form.is_raw());
    let open = signature(DType::Int16, &[None], Batch::None);
    assert_eq!(raw(&open, &[0; 12]).unwrap().0.inputs[0].tensor.shape(), [6]);
    let word = signature(DType::Bytes, &[None, Some(1)], Batch::Rows);
    let (request, _) = raw(&word, b"no prefix").unwrap();
    let Data::Strings(items) = request.inputs[0].tensor.data() else { panic!("strings") };
    assert_eq!((&items[..], request.inputs[0].tensor.shape()), (&[Bytes::from_static(b"no prefix")][..], &[1, 1][..]));
}

#[test]
fn raw_requests_that_do_not_fit() {
    let text = |signature: &Signature, bytes| raw(signature, bytes).unwrap_err().text().to_owned();
    let fixed = signature(DType::Fp32, &[None, Some(2)], Batch::Rows);
    assert_eq!(text(&fixed, &[0; 7]), "input 'x': byte size: expected 8, got 7");
    assert_eq!(text(&fixed, &[0; 16]), "input 'x': byte size: expected 8, got 16");
    let open = signature(DType::Fp32, &[None, None, Some(2)], Batch::Rows);
    assert_eq!(text(&open, &[0; 7]), "input 'x': byte size: expected 8, got 7");
    let wide = signature(DType::Fp32, &[None, None, None], Batch::Rows);
    assert_eq!(text(&wide, &[0; 8]), "input 'x': raw binary request: expected at most one open size, got 2");
    let nothing = signature(DType::Fp32, &[None, None, Some(0)], Batch::Rows);
    assert_eq!(text(&nothing, &[0; 8]), "input 'x': byte size: expected 0, got 8");
    let words = signature(DType::Bytes, &[Some(2)], Batch::None);
    assert_eq!(text(&words, b"a"), "input 'x': raw binary request: BYTES elements: expected 1, got 2");
    let mut two = fixed;
    two.inputs.push(two.inputs[0].clone());
    assert_eq!(text(&two, &[0; 8]), "raw binary request: expected a model with one input, got 2");
}
