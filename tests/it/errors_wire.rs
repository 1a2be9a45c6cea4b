//! Bodies and frames that no client library writes: empty, truncated, nested too deep, not numbers, contradicting themselves.
//! Every one is refused in its protocol's form, and the server goes on.

use prost::Message;
use tonic::Code;
use weir::protocol::pb;

use crate::{
    array::Array,
    ask::{Ask, HEADER_LENGTH, Way},
    client::{Http, framed, http2_post},
    errors::{Codes, INVALID, TOO_LARGE, mismatch, still_answers},
    harness::Weir,
};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const PATH: &str = "/v2/models/identity-fp32/infer";

async fn server() -> Weir {
    let models = ["identity-fp32", "identity-int64", "identity-int8", "identity-bool", "identity-string"];
    Weir::fixtures(&models, &["--max-body-bytes", "262144"]).await
}

/// A JSON body with this shape and data for one input.
fn json(dtype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","datatype":"{dtype}","shape":{shape},"data":{data}}}]}}"#)
}

/// Bodies for `identity-fp32` and what is said to them.
fn json_bodies() -> Vec<(String, Codes, &'static str)> {
    let fp32 = |data: &str| json("FP32", "[1,4]", data);
    let deep = |inside: &str| format!(r#"{{"inputs":[],"z":{inside}}}"#);
    let bad = |body: &str, text: &'static str| (body.to_owned(), INVALID, text);
    vec![
        bad("", "body: expected a JSON object, got nothing"),
        bad("   \n", "body: expected a JSON object, got nothing"),
        bad("[]", "body: expected an object, got an array"),
        bad("nonsense", "body: malformed JSON at byte 0: expected a value, got nonsense"),
        bad("{}", "body: no 'inputs'"),
        bad(r#"{"inputs":{}}"#, "inputs: expected an array, got an object"),
        bad(r#"{"inputs":[7]}"#, "inputs[0]: an input: expected an object, got 7"),
        bad(r#"{"inputs":[{"datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#, "inputs[0]: no 'name'"),
        bad(r#"{"inputs":[{"name":"x","shape":[1,4],"data":[1,2,3,4]}]}"#, "input 'x': no 'datatype'"),
        bad(r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1,2,3,4]}]}"#, "input 'x': no 'shape'"),
        bad(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4]}]}"#, "input 'x': no 'data'"),
        bad(r#"{"inputs":[],"inputs":[]}"#, "'inputs' given twice"),
        (deep(&"[".repeat(100_000)), INVALID, "body: JSON nesting depth exceeds 64"),
        (deep(&r#"{"a":"#.repeat(20_000)), INVALID, "body: JSON nesting depth exceeds 64"),
        (fp32("[NaN,0,0,0]"), INVALID, "body: malformed JSON at byte 63: expected a value, got NaN"),
        (fp32("[0,Infinity,0,0]"), INVALID, "body: malformed JSON at byte 65: expected a value, got Infinity"),
        (fp32("[0,-Infinity,0,0]"), INVALID, "body: malformed JSON at byte 65: expected a value, got -Infinity"),
        (fp32("[null,0,0,0]"), INVALID, "input 'x': element 0: expected a number, got null"),
        (fp32(r#"["1",0,0,0]"#), INVALID, r#"input 'x': element 0: expected a number, got a string"#),
        (fp32("[1e999,0,0,0]"), INVALID, "input 'x': element 0: out of range for FP32, got 1e999"),
        (fp32("[0,1e39,0,0]"), INVALID, "input 'x': element 1: out of range for FP32, got 1e39"),
        (fp32("[[1,2],[3,4]]"), INVALID, "input 'x': data: expected 4 entries in dimension 1, got 2"),
        (fp32("[[1,2,3,4],[5,6,7,8]]"), INVALID, "input 'x': data: expected 1 entries in dimension 0, got 2"),
        (fp32("7"), INVALID, "input 'x': data: expected an array, got 7"),
        (json("FP32", "[1,4.5]", "[0,0,0,0]"), INVALID, "input 'x': shape: expected integers, got 4.5"),
        (
            json("FP32", "[99999999999999999999,4]", "[]"),
            INVALID,
            "input 'x': shape: expected integers, got 99999999999999999999",
        ),
    ]
}

#[tokio::test]
async fn json_that_is_wrong() {
    let weir = server().await;
    let mut client = weir.client();
    let mut wrong = Vec::new();
    for (body, codes, text) in json_bodies() {
        let reply = client.http.post(PATH, body.clone()).await;
        wrong.extend(mismatch(&reply.failed(), codes, text).map(|found| format!("{body:.200}\n{found}")));
    }
    for (model, body, text) in [
        ("int64", json("INT64", "[1,4]", "[1,2.5,3,4]"), "input 'x': element 1: expected an integer, got 2.5"),
        (
            "int64",
            json("INT64", "[1,4]", "[1,2,3,9223372036854775808]"),
            "input 'x': element 3: out of range for INT64, got 9223372036854775808",
        ),
        ("int8", json("INT8", "[1,4]", "[1,2,3,300]"), "input 'x': element 3: out of range for INT8, got 300"),
        ("bool", json("BOOL", "[1,4]", "[true,2,false,1]"), "input 'x': element 1: expected true or false, got 2"),
        ("string", json("BYTES", "[1,4]", r#"["a",5,"",""]"#), "input 'x': element 1: expected a string, got 5"),
    ] {
        let reply = client.http.post(&format!("/v2/models/identity-{model}/infer"), body.clone()).await;
        wrong.extend(mismatch(&reply.failed(), INVALID, text).map(|found| format!("{body}\n{found}")));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    still_answers(&mut client).await;
}

#[tokio::test]
async fn json_cut_at_every_byte() {
    let weir = server().await;
    let mut client = weir.client();
    let ask =
        Ask::new("identity-fp32", vec![Array::f32("x", &[1, 4], &[1.0, -2.5, 1e-9, 4.0])]).id("ü").wants(&[("y", 0)]);
    let (body, _) = ask.body(false);
    for end in 0..body.len() {
        let reply = client.http.post(PATH, body[..end].to_vec()).await;
        assert_eq!(reply.status, 400, "cut at {end}: {reply:?}");
        let text = reply.failed().text().to_owned();
        assert!(text.starts_with("body: ") || text.ends_with("got the end"), "cut at {end}: {text}");
    }
    still_answers(&mut client).await;
}

#[tokio::test]
async fn lengths_of_binary_bodies() {
    let weir = server().await;
    let mut client = weir.client();
    let ask = Ask::new("identity-fp32", vec![Array::f32("x", &[1, 4], &[1.0; 4])]);
    let (body, json_len) = ask.body(true);
    let json_len = json_len.unwrap();
    let all = body.len();
    let beyond = format!("Inference-Header-Content-Length: expected 0 to {all}, got '{}'", all + 1);
    let not_a_number = format!("Inference-Header-Content-Length: expected 0 to {all}, got 'twelve'");
    let negative = format!("Inference-Header-Content-Length: expected 0 to {all}, got '-1'");
    let exact = json_len.to_string();
    let cut = body[..all - 1].to_vec();
    let more = [&body[..], b"!"].concat();
    for (length, body, text) in [
        (&*(all + 1).to_string(), body.clone(), &*beyond),
        ("twelve", body.clone(), &not_a_number),
        ("-1", body.clone(), &negative),
        (&exact, cut, "input 'x': binary data: expected 16 bytes, got 15"),
        (&exact, more, "binary data: expected 16 bytes in all, got 17"),
        ("0", vec![0; 15], "input 'x': byte size: expected 16, got 15"),
    ] {
        let reply = client.http.send("POST", PATH, &[(HEADER_LENGTH, length)], body).await.unwrap();
        assert_eq!(mismatch(&reply.failed(), INVALID, text), None, "{length}");
    }
    still_answers(&mut client).await;
}

#[tokio::test]
async fn compressed_bodies() {
    let weir = server().await;
    let mut client = weir.client();
    let mut send = async |coding: &str, body: &[u8]| {
        client.http.send("POST", PATH, &[("content-encoding", coding)], body.to_vec()).await.unwrap()
    };
    let reply = send("br", b"{}").await;
    assert_eq!((reply.status.as_u16(), reply.header("accept-encoding")), (415, Some("gzip, deflate")));
    let text = reply.failed().text().to_owned();
    assert!(text.starts_with("content-encoding: expected "), "{text}");
    for coding in ["gzip", "deflate"] {
        let reply = send(coding, b"this is not compressed").await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![b' '; 64 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 262_144);
    let text = "body: expected at most 262144 bytes, got more";
    let reply = send("gzip", &bomb).await;
    assert_eq!(mismatch(&reply.failed(), TOO_LARGE, text), None);
    let frame = [&[1][..], &u32::try_from(bomb.len()).unwrap().to_be_bytes(), &bomb].concat();
    let status = http2_post(weir.grpc, INFER, &[("grpc-encoding", "gzip")], &frame).await.grpc_status();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
    let memory = weir.metrics().await.sum("process_resident_memory_bytes", &[]);
    assert!(memory < f64::from(512 << 20), "{memory} bytes for a bomb of 64 MiB");
    still_answers(&mut client).await;
}

/// A frame with this flag and announced length around bytes.
fn frame(flag: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), bytes].concat()
}

#[tokio::test]
async fn grpc_frames_that_are_wrong() {
    let weir = server().await;
    let message = Ask::new("identity-fp32", vec![Array::f32("x", &[1, 4], &[1.0; 4])]).message(true).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    let short = format!("message: expected {length} bytes, got {}", length - 1);
    for (body, headers, code, text) in [
        (Vec::new(), None, Code::InvalidArgument, "body: expected one gRPC message, got 0 bytes"),
        (vec![0; 4], None, Code::InvalidArgument, "body: expected one gRPC message, got 4 bytes"),
        (frame(0, length, &message[1..]), None, Code::InvalidArgument, &*short),
        (frame(7, length, &message), None, Code::InvalidArgument, "message: compressed flag: expected 0 or 1, got 7"),
        (frame(0, u32::MAX, &message), None, Code::ResourceExhausted, "body: expected at most 262144 bytes, got more"),
        (frame(1, length, &message), None, Code::Internal, "message: compressed, but grpc-encoding is missing"),
        (
            frame(1, length, &message),
            Some(("grpc-encoding", "zstd")),
            Code::Unimplemented,
            "grpc-encoding: expected identity, gzip or deflate, got 'zstd'",
        ),
        (
            frame(0, length, &message),
            Some(("grpc-timeout", "soon")),
            Code::InvalidArgument,
            "grpc-timeout: expected [0-9]{1,8}[HMSmun], got 'soon'",
        ),
    ] {
        let status = http2_post(weir.grpc, INFER, headers.as_slice(), &body).await.grpc_status();
        assert_eq!((status.code(), status.message()), (code, text));
    }
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x0a\xff", &message[..message.len() - 3], b"\x2a\x05\x0a\x01x\x1a"] {
        let body = frame(0, u32::try_from(garbage.len()).unwrap(), garbage);
        let status = http2_post(weir.grpc, INFER, &[], &body).await.grpc_status();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with("message: "), "{status:?}");
    }
    still_answers(&mut weir.client()).await;
}

#[tokio::test]
async fn grpc_contents_that_contradict() {
    let weir = server().await;
    let mut client = weir.client();
    let array = Array::f32("x", &[1, 4], &[1.0; 4]);
    let raw = || Ask::new("identity-fp32", vec![array.clone()]).message(true);
    let mut mixed = raw();
    mixed.inputs[0].contents = Some(array.typed());
    let mut too_many = raw();
    too_many.raw_input_contents.push(Default::default());
    let mut none = Ask::new("identity-fp32", vec![array.clone()]).message(false);
    none.inputs[0].contents = None;
    let mut foreign = Ask::new("identity-fp32", vec![array.clone()]).message(false);
    foreign.inputs[0].contents = Some(pb::InferTensorContents { fp64_contents: vec![0.0; 4], ..Default::default() });
    let mut wide = Ask::new("identity-int8", vec![Array::new("x", "INT8", &[1, 4], vec![0; 4])]).message(false);
    wide.inputs[0].contents = Some(pb::InferTensorContents { int_contents: vec![0, 300, 0, 0], ..Default::default() });
    let mut empty = raw();
    empty.parameters.insert("a".to_owned(), pb::InferParameter { parameter_choice: None });
    for (message, text) in [
        (mixed, "input 'x': contents must not be set together with raw_input_contents"),
        (too_many, "raw_input_contents: expected 1 entries, got 2"),
        (none, "input 'x': elements: expected 4, got 0"),
        (foreign, "input 'x': FP32 contents: expected fp32_contents, got fp64_contents"),
        (wide, "input 'x': element 1: out of range for INT8, got 300"),
        (empty, "parameter 'a': no value"),
    ] {
        let status = client.grpc.model_infer(message.clone()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text), "{message:?}");
    }
    let status = client.grpc.model_infer(pb::ModelInferRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "model '': not found"));
    still_answers(&mut client).await;
}

#[tokio::test]
async fn a_stream_reports_errors_and_goes_on() {
    let weir = server().await;
    let mut grpc = weir.client().grpc;
    let good = Ask::new("identity-fp32", vec![Array::f32("x", &[1, 4], &[1.0; 4])]).id("good").message(true);
    let bad = Ask::new("nobody", Vec::new()).id("bad").message(true);
    let sent = tokio_stream::iter(vec![good.clone(), bad, good]);
    let mut stream = grpc.model_stream_infer(sent).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        seen.push((message.error_message, message.infer_response.map_or_else(String::new, |answer| answer.id)));
    }
    seen.sort();
    let expected = [(String::new(), "good"), (String::new(), "good"), ("model 'nobody': not found".to_owned(), "bad")];
    assert_eq!(seen, expected.map(|(error, id)| (error, id.to_owned())));
}

#[tokio::test]
async fn http_that_is_no_grpc_and_the_reverse() {
    let weir = server().await;
    let ask = Ask::new("identity-fp32", vec![Array::f32("x", &[1, 4], &[1.0; 4])]);
    // Any data port answers both protocols.
    let reply = http2_post(weir.http, INFER, &[], &framed(&ask.message(true))).await;
    assert_eq!(reply.grpc_status().code(), Code::Ok, "{reply:?}");
    let reply = Http::new(weir.grpc).post(PATH, ask.body(false).0).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut client = weir.client();
    assert_eq!(client.answer(Way::Raw, &ask).await.outputs.len(), 1);
}
