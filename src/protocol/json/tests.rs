//! Every bad HTTP body with the error it gets, and what good ones become.

use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;

use super::{control_request, decode, header_length, index_request};
use crate::{
    protocol::ReplyForm,
    types::{DType, Data, Error, ErrorCode, InferRequest, ParamValue, Protocol, RequestContext, VersionRef},
};

fn body(json: impl Into<Bytes>, header_len: Option<usize>) -> Result<(InferRequest, ReplyForm), Error> {
    let context = RequestContext::new(Protocol::Http, Instant::now());
    let bytes = json.into();
    let mut body = decode("m", VersionRef::Policy, &bytes, header_len)?;
    let is_plain = body.plain().is_some();
    let (request, form) = body.request(context, || panic!("a raw request"))?;
    assert_eq!(is_plain, request.params.is_empty() && request.outputs.is_empty());
    Ok((request, form))
}

fn read(json: &str) -> (InferRequest, ReplyForm) {
    body(json.to_owned(), None).unwrap()
}

fn refused(json: &str) -> Error {
    body(json.to_owned(), None).unwrap_err()
}

fn input(dtype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","datatype":"{dtype}","shape":{shape},"data":{data}}}]}}"#)
}

/// The input with `data` ahead of what it needs to be read.
fn data_first(dtype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","data":{data},"shape":{shape},"datatype":"{dtype}"}}]}}"#)
}

#[test]
fn bad_tensors() {
    for (dtype, shape, data, want) in [
        ("FP32", "[2]", "[1]", "data: expected 2 elements, got 1"),
        ("FP32", "[8]", "[1,2,3,4,5,6,7]", "data: expected 8 elements, got 7"),
        ("FP32", "[1]", "[1,2,3]", "data: expected 1 elements, got 3"),
        ("FP32", "[0,4]", "[1]", "data: expected 0 elements, got 1"),
        ("FP32", "[2,2]", "[[1,2],[3]]", "data: expected 2 entries in dimension 1, got 1"),
        ("FP32", "[2,2]", "[[1,2,3,4]]", "data: expected 2 entries in dimension 1, got 4"),
        ("FP32", "[2,2]", "[[1,2]]", "data: expected 2 entries in dimension 0, got 1"),
        ("FP32", "[2,2]", "[[1,2],3]", "data: expected an array in dimension 0, got 3"),
        ("FP32", "[2,2]", "[1,[2,3],4]", "element 1: expected a number, got an array"),
        ("FP32", "[1]", "[[1]]", "element 0: expected a number, got an array"),
        ("FP32", "[1]", "1", "data: expected an array, got 1"),
        ("FP32", "[1]", "{}", "data: expected an array, got an object"),
        ("FP32", "[2,-5]", "[]", "shape: expected sizes of 0 or more, got -5"),
        ("FP32", "[-1]", "[]", "shape: expected sizes of 0 or more, got -1"),
        ("FP32", "[-9223372036854775808]", "[]", "shape: expected sizes of 0 or more, got -9223372036854775808"),
        ("FP32", "[9223372036854775808]", "[]", "shape: expected integers, got 9223372036854775808"),
        ("FP32", "[1.0]", "[]", "shape: expected integers, got 1.0"),
        ("FP32", "[\"1\"]", "[]", "shape: expected integers, got a string"),
        ("FP32", "4", "[]", "shape: expected an array, got 4"),
        ("FP32", "[16,1152921504606846978]", "[1]", "shape: element count overflows"),
        ("FP32", "[4294967296,4294967296]", "[1]", "shape: element count overflows"),
        ("FP32", "[9223372036854775807]", "[1]", "data: expected 9223372036854775807 elements, got 1"),
        ("FP32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]", "shape: expected at most 16 dimensions, got 17"),
        ("FP32", "[1]", "[null]", "element 0: expected a number, got null"),
        ("FP32", "[1]", "[\"1\"]", "element 0: expected a number, got a string"),
        ("FP32", "[1]", "[true]", "element 0: expected a number, got true"),
        ("FP32", "[2]", "[0,1e999]", "element 1: out of range for FP32, got 1e999"),
        ("FP32", "[1]", "[3.5e38]", "element 0: out of range for FP32, got 3.5e38"),
        ("FP64", "[1]", "[-1e999]", "element 0: out of range for FP64, got -1e999"),
        ("INT64", "[1]", "[1.0]", "element 0: expected an integer, got 1.0"),
        ("INT64", "[1]", "[\"1\"]", "element 0: expected an integer, got a string"),
        ("INT64", "[1]", "[9223372036854775808]", "element 0: out of range for INT64, got 9223372036854775808"),
        ("UINT64", "[1]", "[18446744073709551616]", "element 0: out of range for UINT64, got 18446744073709551616"),
        ("INT8", "[1]", "[128]", "element 0: out of range for INT8, got 128"),
        ("UINT8", "[1]", "[-1]", "element 0: out of range for UINT8, got -1"),
        ("UINT16", "[1]", "[65536]", "element 0: out of range for UINT16, got 65536"),
        ("BOOL", "[1]", "[2]", "element 0: expected true or false, got 2"),
        ("BOOL", "[1]", "[\"1\"]", "element 0: expected true or false, got a string"),
        ("BOOL", "[1]", "[0.0]", "element 0: expected true or false, got 0.0"),
        ("BYTES", "[1]", "[7]", "element 0: expected a string, got 7"),
        ("FP16", "[1]", "[1]", "FP16 data via JSON is not supported: use the binary data format"),
        ("BF16", "[1]", "[1]", "BF16 data via JSON is not supported: use the binary data format"),
    ] {
        for json in [input(dtype, shape, data), data_first(dtype, shape, data)] {
            let error = refused(&json);
            assert_eq!(
                (error.code(), error.text()),
                (ErrorCode::InvalidArgument, &*format!("input 'x': {want}")),
                "{json}"
            );
        }
    }
    for (dtype, got) in [("FLOAT", "'FLOAT'"), ("fp32", "'fp32'"), ("", "''")] {
        let error = refused(&input(dtype, "[1]", "[1]"));
        assert!(error.text().starts_with("input 'x': datatype: expected BOOL, "), "{error}");
        assert!(error.text().ends_with(got), "{error}");
    }
}

#[test]
fn what_is_no_json_is_the_bodys_fault() {
    for (data, want) in [
        ("[NaN]", "expected a value, got NaN"),
        ("[Infinity]", "expected a value, got Infinity"),
        ("[1,-Infinity]", "expected a value, got -Infinity"),
        ("[0x10]", "expected ',' or ']', got x10"),
        ("[01]", "expected ',' or ']', got 1"),
        ("[+1]", "expected a value, got +1"),
        ("[.5]", "expected a value, got .5"),
        ("[1,]", "expected a value, got ']'"),
        ("[\"\\ud800\"]", "expected a string with valid escapes, got a string"),
    ] {
        for json in [input("FP32", "[2]", data), data_first("FP32", "[2]", data)] {
            let text = refused(&json).text().to_owned();
            assert!(text.starts_with("body: malformed JSON at byte ") && text.ends_with(want), "{text}");
        }
    }
}

#[test]
fn bad_bodies() {
    let x = r#"{"name":"x","datatype":"FP32","shape":[1],"data":[1]}"#;
    let nested = format!(r#"{{"unknown":{}1{},"inputs":[]}}"#, "[".repeat(64), "]".repeat(64));
    let deep = format!(r#"{{"parameters":{{"a":{}"#, "[".repeat(250_000));
    let many_params: Vec<_> = (0..10_000).map(|i| format!("\"p{i}\":1")).collect();
    let many_outputs: Vec<_> = (0..10_000).map(|i| format!("{{\"name\":\"y{i}\"}}")).collect();
    let table: Vec<(String, &str)> = vec![
        (String::new(), "body: expected a JSON object, got nothing"),
        (" \n".to_owned(), "body: expected a JSON object, got nothing"),
        ("\u{feff}{}".to_owned(), "body: expected JSON without a byte order mark"),
        ("{}".to_owned(), "body: no 'inputs'"),
        ("[]".to_owned(), "body: expected an object, got an array"),
        ("true".to_owned(), "body: expected an object, got true"),
        (r#"{"inputs":{}}"#.to_owned(), "inputs: expected an array, got an object"),
        (r#"{"inputs":[7]}"#.to_owned(), "inputs[0]: an input: expected an object, got 7"),
        (format!("{{\"inputs\":[{x}]}}x"), "body: malformed JSON at byte 66: expected the end, got x"),
        (r#"{"inputs":[{}]}"#.to_owned(), "inputs[0]: no 'name'"),
        (format!(r#"{{"inputs":[{x},{{"name":"z"}}]}}"#), "input 'z': no 'shape'"),
        (r#"{"inputs":[{"name":"z","shape":[1]}]}"#.to_owned(), "input 'z': no 'datatype'"),
        (r#"{"inputs":[{"name":"z","shape":[1],"datatype":"FP32"}]}"#.to_owned(), "input 'z': no 'data'"),
        (r#"{"inputs":[{"name":7}]}"#.to_owned(), "inputs[0]: name: expected a string, got 7"),
        (r#"{"inputs":[{"name":"x","shape":[1],"shape":[1]}]}"#.to_owned(), "input 'x': 'shape' given twice"),
        (format!(r#"{{"inputs":[{x}],"inputs":[{x}]}}"#), "'inputs' given twice"),
        (format!(r#"{{"id":7,"inputs":[{x}]}}"#), "id: expected a string, got 7"),
        (format!(r#"{{"id":"a","id":"b","inputs":[{x}]}}"#), "'id' given twice"),
        (format!(r#"{{"parameters":[],"inputs":[{x}]}}"#), "parameters: expected an object, got an array"),
        (
            format!(r#"{{"parameters":{{"a":{{}}}},"inputs":[{x}]}}"#),
            "parameter 'a': expected a string, number or boolean, got an object",
        ),
        (
            format!(r#"{{"parameters":{{"a":null}},"inputs":[{x}]}}"#),
            "parameter 'a': expected a string, number or boolean, got null",
        ),
        (format!(r#"{{"parameters":{{"a":1,"a":2}},"inputs":[{x}]}}"#), "parameter 'a': given twice"),
        (format!(r#"{{"parameters":{{"a":1e999}},"inputs":[{x}]}}"#), "parameter 'a': out of range, got 1e999"),
        (
            format!(r#"{{"parameters":{{"a":18446744073709551616}},"inputs":[{x}]}}"#),
            "parameter 'a': out of range, got 18446744073709551616",
        ),
        (format!(r#"{{"parameters":{{"headers":"a"}},"inputs":[{x}]}}"#), "parameter 'headers': the name is reserved"),
        (format!(r#"{{"parameters":{{"triton_x":1}},"inputs":[{x}]}}"#), "parameter 'triton_x': the name is reserved"),
        (
            format!(r#"{{"parameters":{{"timeout":-1}},"inputs":[{x}]}}"#),
            "parameter 'timeout': expected a non-negative integer, got -1",
        ),
        (
            format!(r#"{{"parameters":{{"binary_data_output":1}},"inputs":[{x}]}}"#),
            "parameter 'binary_data_output': expected a boolean, got 1",
        ),
        (
            format!(r#"{{"parameters":{{{}}},"inputs":[]}}"#, many_params.join(",")),
            "parameters: expected at most 128, got 129",
        ),
        (
            format!(r#"{{"parameters":{{"a":"{}"}},"inputs":[]}}"#, "x".repeat(1 << 20)),
            "parameters: a text: expected at most 65536 bytes, got 1048576",
        ),
        (format!(r#"{{"inputs":[],"outputs":[{}]}}"#, many_outputs.join(",")), "outputs: expected at most 64, got 65"),
        (r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#.to_owned(), "output 'y': requested twice"),
        (r#"{"inputs":[],"outputs":[{}]}"#.to_owned(), "outputs[0]: no 'name'"),
        (r#"{"inputs":[],"outputs":["y"]}"#.to_owned(), "outputs[0]: an output: expected an object, got a string"),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":1.5}}]}"#.to_owned(),
            "output 'y': classification: expected a non-negative integer, got 1.5",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":"yes"}}]}"#.to_owned(),
            "output 'y': binary_data: expected a boolean, got 'yes'",
        ),
        (nested, "body: JSON nesting depth exceeds 64"),
        (deep, "parameter 'a': expected a string, number or boolean, got an array"),
        (data_first("FP32", "[1]", &"[".repeat(100_000)), "body: JSON nesting depth exceeds 64"),
        (input("FP32", "[1]", &"[".repeat(100_000)), "input 'x': element 0: expected a number, got an array"),
    ];
    for (json, want) in table {
        let error = refused(&json);
        assert_eq!((error.code(), error.text()), (ErrorCode::InvalidArgument, want));
    }
    let error = body(&b"{\"id\":\"\xff\"}"[..], None).unwrap_err();
    assert_eq!(error.text(), "body: not UTF-8 at byte 7");
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(body(utf16, None).unwrap_err().text().starts_with("body: malformed JSON at byte 1"));
}

#[test]
fn data_may_not_grow_without_bound() {
    let digits = format!("[{}]", vec!["1"; 9 << 20].join(","));
    let error = refused(&input("INT64", &format!("[{}]", 9 << 20), &digits));
    assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
    let words = format!("[{}]", vec!["\"\""; (1 << 20) + 1].join(","));
    let error = refused(&input("BYTES", &format!("[{}]", (1 << 20) + 1), &words));
    assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
}

#[test]
fn shared_memory_is_not_there() {
    for json in [
        r#"{"inputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}"#,
        r#"{"inputs":[],"outputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}"#,
    ] {
        let error = refused(json);
        assert_eq!(error.code(), ErrorCode::Unimplemented);
        assert!(error.text().ends_with("put 'x': shared memory is not supported"), "{error}");
    }
    assert_eq!(control_request(br#"{"parameters":{"config":"{}"}}"#).unwrap_err().code(), ErrorCode::Unimplemented);
    assert_eq!(control_request(br#"{"parameters":{"file:1/m":"x"}}"#).unwrap_err().code(), ErrorCode::Unimplemented);
    assert_eq!(control_request(br#"{"parameters":{"unload_dependents":true}}"#), Ok(()));
    assert_eq!(control_request(b""), Ok(()));
}

#[test]
fn index_bodies() {
    assert_eq!(index_request(b"  "), Ok(false));
    assert_eq!(index_request(b"{}"), Ok(false));
    assert_eq!(index_request(br#"{"ready":true,"x":[1]}"#), Ok(true));
    let text = |json: &str| index_request(json.as_bytes()).unwrap_err().text().to_owned();
    assert_eq!(text(r#"{"ready":1}"#), "ready: expected a boolean, got 1");
    assert_eq!(text("[]"), "body: expected an object, got an array");
    assert_eq!(text(&"[".repeat(100_000)), "body: expected an object, got an array");
    assert_eq!(text(&format!(r#"{{"x":{}"#, "[".repeat(100_000))), "body: JSON nesting depth exceeds 64");
}

#[test]
fn length_headers() {
    assert_eq!(header_length(b"0", 9), Ok(0));
    assert_eq!(header_length(b"9", 9), Ok(9));
    for bad in ["", "-1", "+5", "10", "99999999999", "999999999999999999999999", "x", "5, 5", "5 "] {
        let error = header_length(bad.as_bytes(), 9).unwrap_err();
        assert_eq!(error.text(), format!("Inference-Header-Content-Length: expected 0 to 9, got '{bad}'"));
    }
}

#[test]
fn a_request_becomes_its_nouns() {
    let json = r#" {"id":"q1","unknown":{"a":[1,{"b":null}]},"parameters":{"a":-4,"b":18446744073709551615,"c":1.5,"d":"t","e":true},
        "outputs":[{"name":"z"},{"name":"y","parameters":{"classification":3,"binary_data":true}}],
        "inputs":[{"name":"n","shape":[2,1,2],"datatype":"FP32","extra":[],"data":[[[1,2.5]],[[-0.0,1e-45]]]},
                  {"data":["a","\u0000\n","é"],"name":"s","datatype":"BYTES","shape":[3],"parameters":null}]} "#;
    let bytes = Bytes::from(json);
    let (request, form) = body(bytes.clone(), None).unwrap();
    assert_eq!((&*request.model, &*request.id), ("m", "q1"));
    let params: Vec<_> = request.params.iter().map(|(name, value)| (name, value.clone())).collect();
    let text = ParamValue::Text("t".into());
    let want = [ParamValue::Int(-4), ParamValue::Uint(u64::MAX), ParamValue::Double(1.5), text, ParamValue::Bool(true)];
    assert_eq!(params, ["a", "b", "c", "d", "e"].into_iter().zip(want).collect::<Vec<_>>());
    let numbers = &request.inputs[0].tensor;
    assert_eq!((numbers.dtype(), numbers.shape()), (DType::Fp32, &[2, 1, 2][..]));
    let bits: Vec<u32> = numbers.to_f32().unwrap().iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [1.0_f32.to_bits(), 2.5_f32.to_bits(), 1 << 31, 1]);
    let Data::Strings(words) = request.inputs[1].tensor.data() else { panic!("strings") };
    assert_eq!(words[..], [&b"a"[..], b"\0\n", "é".as_bytes()]);
    assert!(bytes.as_ptr_range().contains(&words[0].as_ptr()), "plain strings are slices of the body");
    let outputs: Vec<_> = request.outputs.iter().map(|output| (&*output.name, output.classes)).collect();
    assert_eq!(outputs, [("z", 0), ("y", 3)]);
    assert_eq!((form.is_raw_output("y"), form.is_raw_output("z"), form.classes("y")), (true, false, 3));
}

#[test]
fn lenient_where_it_harms_nobody() {
    let (request, form) = read(r#"{"id":null,"parameters":null,"outputs":null,"inputs":[]}"#);
    assert!(request.id.is_empty() && request.params.is_empty() && request.outputs.is_empty() && !form.is_raw());
    let (request, form) = read(
        r#"{"inputs":[{"name":"b","shape":[4],"datatype":"BOOL","data":[true,0,false,1]},
            {"name":"z","shape":[0,4],"datatype":"FP32","data":[]},{"name":"e","shape":[2,0],"datatype":"FP32","data":[[],[]]},
            {"name":"i","shape":[],"datatype":"INT8","data":[-128]},{"name":"f","shape":[2],"datatype":"FP64","data":[9007199254740993,1e-400]}],
            "parameters":{"binary_data_output":true},"outputs":[{"name":"y","parameters":{"binary_data":false}}]}"#,
    );
    let bytes: Vec<_> = request.inputs.iter().map(|input| input.tensor.bytes().to_vec()).collect();
    assert_eq!(bytes[..4], [vec![1, 0, 0, 1], vec![], vec![], vec![128]]);
    assert_eq!(bytes[4], [9_007_199_254_740_992_f64.to_le_bytes(), [0; 8]].concat());
    assert!(form.is_raw() && !form.is_raw_output("y") && form.is_raw_output("other"));
    assert!(request.params.is_empty(), "binary_data_output is about the answer's form");
}

/// A request that has everything.
fn rich() -> String {
    r#"{"id":"q\u0031","parameters":{"a":1.5e3,"b":[true,"x"][0]},"inputs":[]}"#.replace("[true,\"x\"][0]", "true").replace(
        "\"inputs\":[]",
        r#""inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3e2,0]]},
        {"data":["a","\n"],"name":"s","datatype":"BYTES","shape":[2]}],"outputs":[{"name":"y","parameters":{"classification":2}}]"#,
    )
}

#[test]
fn truncated_anywhere_it_is_refused() {
    let whole = rich();
    assert!(body(whole.clone(), None).is_ok());
    for cut in 0..whole.len() {
        let error = body(whole.as_bytes()[..cut].to_vec(), None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "cut at {cut}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_bodies_never_panic(at in any::<proptest::sample::Index>(), with in any::<u8>(), cut in any::<proptest::sample::Index>(), header in 0_usize..400) {
        let mut json = rich().into_bytes();
        let place = at.index(json.len());
        json[place] = with;
        let read = body(json.clone(), None);
        prop_assert!(read.is_ok() || matches!(read.unwrap_err().code(), ErrorCode::InvalidArgument | ErrorCode::TooLarge));
        json.truncate(cut.index(json.len()));
        let _ = body(json.clone(), None);
        let _ = decode("m", VersionRef::Policy, &json.into(), Some(header));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in proptest::option::of(0_usize..220)) {
        let _ = decode("m", VersionRef::Policy, &bytes.into(), header);
    }
}
