//! Every error that a request can earn, over both protocols: status, code and text. Where the protocols share a text, one row
//! of the table checks it in all encodings. Bodies that no client library writes are in `errors_wire`, states of the server in
//! `errors_state`.

use serde_json::json;
use tonic::Code;

use crate::{
    array::Array,
    ask::{Ask, Way},
    client::{Client, Failed, Refused},
    harness::Weir,
};

/// A row of the table of errors: HTTP status and gRPC code.
pub(crate) type Codes = (u16, Code);
pub(crate) const INVALID: Codes = (400, Code::InvalidArgument);
pub(crate) const NOT_FOUND: Codes = (404, Code::NotFound);
pub(crate) const TOO_LARGE: Codes = (413, Code::ResourceExhausted);
pub(crate) const OVERLOADED: Codes = (429, Code::ResourceExhausted);
pub(crate) const UNIMPLEMENTED: Codes = (501, Code::Unimplemented);
pub(crate) const UNAVAILABLE: Codes = (503, Code::Unavailable);
pub(crate) const DEADLINE: Codes = (504, Code::DeadlineExceeded);

/// What is wrong with a failure, if it is not the expected one.
pub(crate) fn mismatch(failed: &Failed, codes: Codes, text: &str) -> Option<String> {
    let fits = match failed.status() {
        Some(Refused::Http(status)) => status == codes.0,
        Some(Refused::Grpc(code)) => code == codes.1,
        None => false,
    };
    let right = fits && failed.text() == text && text.len() <= 512;
    (!right).then(|| format!("want {codes:?} {text}\ngot  {failed:?}"))
}

/// A request that is refused, how it may be written, and as what.
type Row = (Ask, &'static [Way], Codes, &'static str);

const ALL: &[Way] = &Way::ALL;
/// The encodings that carry raw bytes.
const BYTES: &[Way] = &[Way::Raw, Way::Binary];

fn x(shape: &[i64], values: &[f32]) -> Array {
    Array::f32("x", shape, values)
}

fn ask(x: Array) -> Ask {
    Ask::new("identity-fp32", vec![x])
}

fn good() -> Ask {
    ask(x(&[1, 4], &[1.0; 4]))
}

fn inputs() -> Vec<Row> {
    let fp64 = Array::new("x", "FP64", &[1, 4], vec![0; 32]);
    let two = Ask::new("two-in-two-out", vec![Array::f32("a", &[2, 3], &[0.0; 6]), Array::i64("b", &[1, 2], &[1, 2])]);
    let both = |other: Array| Ask::new("identity-fp32", vec![x(&[1, 4], &[1.0; 4]), other]);
    let unknown = Array { dtype: "FP31".to_owned(), ..x(&[1, 4], &[0.0; 4]) };
    let bare = |name: &str| Ask::new(name, Vec::new());
    vec![
        (ask(fp64), ALL, INVALID, "input 'x': datatype: expected FP32, got FP64"),
        (
            ask(unknown),
            ALL,
            INVALID,
            "input 'x': datatype: expected BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, \
             FP64, BYTES, got 'FP31'",
        ),
        (ask(x(&[1, 3], &[0.0; 3])), ALL, INVALID, "input 'x': shape: expected [-1, 4], got [1, 3]"),
        (ask(x(&[4], &[0.0; 4])), ALL, INVALID, "input 'x': shape: expected [-1, 4], got [4]"),
        (ask(x(&[], &[0.0])), ALL, INVALID, "input 'x': shape: expected [-1, 4], got []"),
        (ask(x(&[0, 4], &[])), ALL, INVALID, "input 'x': zero rows"),
        (ask(x(&[-1, 4], &[0.0; 4])), ALL, INVALID, "input 'x': shape: expected sizes of 0 or more, got -1"),
        (
            ask(x(&[i64::MIN, 4], &[0.0; 4])),
            ALL,
            INVALID,
            "input 'x': shape: expected sizes of 0 or more, got -9223372036854775808",
        ),
        (ask(x(&[1 << 62, 4], &[0.0; 4])), ALL, INVALID, "input 'x': shape: element count overflows"),
        (ask(x(&[i64::MAX, i64::MAX], &[0.0; 4])), ALL, INVALID, "input 'x': shape: element count overflows"),
        (ask(x(&[1 << 61, 4], &[0.0; 4])), BYTES, INVALID, "input 'x': shape: element count overflows"),
        (ask(x(&[1 << 40, 4], &[0.0; 4])), BYTES, INVALID, "input 'x': byte size: expected 17592186044416, got 16"),
        (
            ask(x(&[1 << 40, 4], &[0.0; 4])),
            &[Way::Typed],
            INVALID,
            "input 'x': elements: expected 4398046511104, got 4",
        ),
        (
            ask(x(&[1 << 40, 4], &[0.0; 4])),
            &[Way::Json],
            INVALID,
            "input 'x': data: expected 4398046511104 elements, got 4",
        ),
        (ask(x(&[1; 17], &[0.0])), ALL, INVALID, "input 'x': shape: expected at most 16 dimensions, got 17"),
        (ask(x(&[1, 4], &[0.0; 3])), BYTES, INVALID, "input 'x': byte size: expected 16, got 12"),
        (ask(x(&[1, 4], &[0.0; 3])), &[Way::Typed], INVALID, "input 'x': elements: expected 4, got 3"),
        (ask(x(&[1, 4], &[0.0; 3])), &[Way::Json], INVALID, "input 'x': data: expected 4 elements, got 3"),
        (ask(x(&[1, 4], &[0.0; 5])), BYTES, INVALID, "input 'x': byte size: expected 16, got 20"),
        (ask(x(&[1, 4], &[0.0; 5])), &[Way::Typed], INVALID, "input 'x': elements: expected 4, got 5"),
        (ask(x(&[1, 4], &[0.0; 5])), &[Way::Json], INVALID, "input 'x': data: expected 4 elements, got 5"),
        (bare("identity-fp32"), &[Way::Typed, Way::Json], INVALID, "inputs: expected 'x', got no inputs"),
        (
            Ask::new("two-in-two-out", vec![Array::f32("a", &[1, 3], &[0.0; 3])]),
            ALL,
            INVALID,
            "inputs: expected 'b', got only 'a'",
        ),
        (both(x(&[1, 4], &[1.0; 4]).named("z")), ALL, INVALID, "inputs: expected 'x', got unknown input 'z'"),
        (ask(x(&[1, 4], &[1.0; 4]).named("X")), ALL, INVALID, "inputs: expected 'x', got unknown input 'X'"),
        (both(x(&[1, 4], &[1.0; 4])), ALL, INVALID, "input 'x': given twice"),
        (two, ALL, INVALID, "input 'b': rows: expected 2 as in the other inputs, got 1"),
        (ask(x(&[9, 4], &[0.0; 36])), ALL, TOO_LARGE, "rows: expected at most 8, got 9"),
    ]
}

fn bytes() -> Vec<Row> {
    let raw = |raw: &[u8]| Ask::new("identity-string", vec![Array::new("x", "BYTES", &[1, 4], raw.to_vec())]);
    let boolean = Array::new("x", "BOOL", &[1, 4], vec![1, 2, 0, 1]);
    let not_text = Array::strings("x", &[1, 4], &[&b"a"[..], b"\xff\xfe", b"", b"b"]);
    let long = Array::strings("x", &[1, 4], &["", "", "", &"x".repeat(300_000)]);
    let prefix: &[Way] = BYTES;
    vec![
        (raw(b"\x05\0\0\0a"), prefix, INVALID, "input 'x': element 0: expected 5 bytes, got 1"),
        (raw(b"\xff\xff\xff\xffa"), prefix, INVALID, "input 'x': element 0: expected 4294967295 bytes, got 1"),
        (raw(b"\0\0\0\0\x01\0"), prefix, INVALID, "input 'x': element 1: expected a 4-byte length, got 2"),
        (raw(b"\0\0\0\0"), prefix, INVALID, "input 'x': elements: expected 4, got 1"),
        (raw(&[0; 20]), prefix, INVALID, "input 'x': byte size: expected 4 elements, got 4 bytes more"),
        (Ask::new("identity-bool", vec![boolean]), BYTES, INVALID, "input 'x': element 1: expected 0 or 1, got 2"),
        (
            Ask::new("identity-string", vec![not_text]),
            &[Way::Typed, Way::Raw, Way::Binary],
            INVALID,
            "input 'x': element 1 is not UTF-8",
        ),
        (Ask::new("identity-string", vec![long]), ALL, TOO_LARGE, "body: expected at most 262144 bytes, got more"),
    ]
}

fn names_and_parameters() -> Vec<Row> {
    let nobody = Ask { model: "nobody".to_owned(), ..good() };
    let many: Vec<String> = (0..65).map(|i| format!("o{i}")).collect();
    let many: Vec<(&str, i64)> = many.iter().map(|name| (&**name, 0)).collect();
    let version = |text: &str| good().version(text);
    vec![
        (nobody.clone(), ALL, NOT_FOUND, "model 'nobody': not found"),
        (nobody.version("3"), ALL, NOT_FOUND, "model 'nobody': not found"),
        (version("9"), ALL, NOT_FOUND, "model 'identity-fp32' version 9: not found"),
        (version("stable"), ALL, NOT_FOUND, "model 'identity-fp32' label 'stable': not found"),
        (version("1e3"), ALL, INVALID, "version: expected a positive integer or a label, got '1e3'"),
        (version("0"), ALL, INVALID, "version: expected a positive integer or a label, got '0'"),
        (version("01"), ALL, INVALID, "version: expected a positive integer or a label, got '01'"),
        (version("-2"), ALL, INVALID, "version: expected a positive integer or a label, got '-2'"),
        (version("1.0"), ALL, INVALID, "version: expected a positive integer or a label, got '1.0'"),
        (
            version("9999999999999999999"),
            ALL,
            INVALID,
            "version: expected a positive integer or a label, got '9999999999999999999'",
        ),
        (good().wants(&[("z", 0)]), ALL, INVALID, "outputs: expected 'y', got unknown output 'z'"),
        (good().wants(&[("y", 0), ("y", 0)]), ALL, INVALID, "output 'y': requested twice"),
        (good().wants(&many), ALL, INVALID, "outputs: expected at most 64, got 65"),
        (
            good().wants(&[("y", -1)]),
            ALL,
            INVALID,
            "output 'y': classification: expected a non-negative integer, got -1",
        ),
        (good().param("headers", "a"), ALL, INVALID, "parameter 'headers': the name is reserved"),
        (good().param("triton_x", true), ALL, INVALID, "parameter 'triton_x': the name is reserved"),
        (good().param("timeout", -1), ALL, INVALID, "parameter 'timeout': expected a non-negative integer, got -1"),
        (
            good().param("priority", "high"),
            ALL,
            INVALID,
            "parameter 'priority': expected a non-negative integer, got 'high'",
        ),
        (good().id("i".repeat(65_537)), ALL, INVALID, "id: expected at most 65536 bytes, got 65537"),
        (
            good().input_param("shared_memory_region", "r"),
            ALL,
            UNIMPLEMENTED,
            "input 'x': shared memory is not supported",
        ),
    ]
}

#[tokio::test]
async fn the_table() {
    let models = ["identity-fp32", "identity-bool", "identity-string", "two-in-two-out"];
    let weir = Weir::fixtures(&models, &["--max-request-rows", "8", "--max-body-bytes", "262144"]).await;
    let mut client = weir.client();
    let mut wrong = Vec::new();
    let rows = [inputs(), bytes(), names_and_parameters()].concat();
    let mut refused = 0;
    for (ask, ways, codes, text) in &rows {
        for way in *ways {
            refused += 1;
            let found = match client.ask(*way, ask).await {
                Ok(answer) => Some(format!("answered: {answer:?}")),
                Err(failed) => mismatch(&failed, *codes, text),
            };
            wrong.extend(found.map(|found| format!("{way:?}: {found}")));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    still_answers(&mut client).await;
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[]), f64::from(refused + 4));
    assert_eq!(metrics.sum("weir_requests_total", &[("code", "ok")]), 4.0);
    assert_eq!(metrics.sum("weir_requests_total", &[("code", "internal")]), 0.0);
    assert_eq!(metrics.sum("weir_inflight_requests", &[]), 0.0);
    // What a client asks for and does not exist makes no series.
    assert_eq!(metrics.sum("weir_requests_total", &[("model", "nobody")]), 0.0);
    assert!(metrics.sum("weir_requests_total", &[("model", ""), ("code", "not_found")]) >= 8.0);
    assert_eq!(metrics.sum("weir_rejected_total", &[("model", "identity-fp32"), ("reason", "too_large")]), 4.0);
    assert!(weir.stop().await.success());
}

/// After everything that was wrong, what is right is answered.
pub(crate) async fn still_answers(client: &mut Client) {
    for way in Way::ALL {
        let answer = client.answer(way, &good().param("a", json!(1.5))).await;
        assert_eq!(answer.output("y").numbers(), [1.0; 4], "{way:?}");
    }
}

#[tokio::test]
async fn half_precision_needs_raw_bytes() {
    let weir = Weir::fixtures(&["identity-fp16"], &[]).await;
    let mut client = weir.client();
    let half = Ask::new("identity-fp16", vec![Array::new("x", "FP16", &[1, 4], vec![0; 8])]);
    for (way, text) in [
        (Way::Typed, "input 'x': FP16 has no typed contents: use raw_input_contents"),
        (Way::Json, "input 'x': FP16 data via JSON is not supported: use the binary data format"),
    ] {
        assert_eq!(mismatch(&client.refused(way, &half).await, INVALID, text), None, "{way:?}");
    }
    let (body, json_len) = half.body(true);
    let json = String::from_utf8_lossy(&body[..json_len.unwrap()]).replace("\"binary_data_output\":true", "\"a\":1");
    let length = json.len().to_string();
    let plain = [json.as_bytes(), &body[json_len.unwrap()..]].concat();
    let headers = [(crate::ask::HEADER_LENGTH, &*length)];
    let reply = client.http.send("POST", &half.path(), &headers, plain).await.unwrap();
    let text = "output 'y': FP16 data via JSON is not supported: ask for binary data";
    assert_eq!(mismatch(&reply.failed(), INVALID, text), None);
}
