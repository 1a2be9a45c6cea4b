//! The four encodings carry the same bits, in and out: every datatype, extremes, denormals, -0, NaN; and what surrounds the
//! tensors: ids, requested outputs, classification, compression, raw binary requests.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, read::ZlibDecoder, write::GzEncoder, write::ZlibEncoder};
use half::f16;
use serde_json::json;
use tonic::codec::CompressionEncoding;

use crate::{
    array::Array,
    ask::{Ask, HEADER_LENGTH, Way, from_body, from_message},
    client::Client,
    golden::{cases, rows},
    harness::{Registry, Weir, fixture},
};

/// Values that a careless encoding would change, twelve of each, as raw bytes.
fn hard_values() -> Vec<(&'static str, Array)> {
    let fp32 = [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        f32::MIN_POSITIVE,
        1.175_494_2e-38,
        0.1,
        1.0 / 3.0,
        f32::MAX,
        f32::MIN,
        16_777_217.0,
        f32::EPSILON,
    ];
    let fp64 = [
        0.0,
        -0.0,
        5e-324,
        -5e-324,
        f64::MIN_POSITIVE,
        0.1,
        1.0 / 3.0,
        1e22,
        1e23,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_993.0,
    ];
    macro_rules! integers {
        ($name:literal, $dtype:literal, $t:ty) => {{
            let values: [$t; 12] = [0, 1, <$t>::MAX, <$t>::MIN, 2, 3, <$t>::MAX - 1, <$t>::MIN + 1, 5, 7, 42, 100];
            let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (concat!("identity-", $name), Array::new("x", $dtype, &[3, 4], raw))
        }};
    }
    let half = [0.0, -0.0, 6e-8, 0.1, -65504.0, 65504.0, 1.0, -2.5, 0.333, 1e-4, 2048.0, 2049.0].map(f16::from_f64);
    let long = "x".repeat(70_000);
    let texts =
        ["", "a", "digits", "żółw", "line\nbreak", "\"quoted\"", "\\", "😀", "\u{0}nul", "null", "\u{2028}", &long];
    vec![
        ("identity-fp32", Array::f32("x", &[3, 4], &fp32)),
        ("identity-fp64", Array::new("x", "FP64", &[3, 4], fp64.iter().flat_map(|v: &f64| v.to_le_bytes()).collect())),
        ("identity-fp16", Array::new("x", "FP16", &[3, 4], half.iter().flat_map(|v| v.to_le_bytes()).collect())),
        integers!("int8", "INT8", i8),
        integers!("int16", "INT16", i16),
        integers!("int32", "INT32", i32),
        integers!("int64", "INT64", i64),
        integers!("uint8", "UINT8", u8),
        integers!("uint16", "UINT16", u16),
        integers!("uint32", "UINT32", u32),
        integers!("uint64", "UINT64", u64),
        ("identity-bool", Array::new("x", "BOOL", &[3, 4], vec![0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0])),
        ("identity-string", Array::strings("x", &[3, 4], &texts)),
    ]
}

/// A gateway that runs every row by itself: how many are run together changes the last bits, and is chosen by measurement.
async fn steady(models: &[(&str, &str)]) -> Weir {
    let registry = Registry::new(models);
    for (name, _) in models {
        registry.write(&format!("{name}/model.toml"), "[batching]\nmax_batch_size = 1\n");
    }
    Weir::serve(registry, &[]).await
}

#[tokio::test]
async fn four_encodings_carry_the_same_bits() {
    let models = hard_values();
    let weir = Weir::fixtures(&models.iter().map(|(name, _)| *name).collect::<Vec<_>>(), &[]).await;
    let mut client = weir.client();
    for (name, all) in models {
        let parts = all.split();
        for rows in [1, 3] {
            let x = Array::join(&parts[parts.len() - rows..].iter().collect::<Vec<_>>());
            let half = x.dtype == "FP16";
            for way in Way::ALL.into_iter().filter(|way| !half || matches!(way, Way::Raw | Way::Binary)) {
                let answer = client.answer(way, &Ask::new(name, vec![x.clone()])).await;
                assert_eq!(answer.outputs, [x.clone().named("y")], "{name} {way:?} {rows} rows");
            }
        }
    }
}

#[tokio::test]
async fn computed_answers_have_the_same_bits_in_all_encodings() {
    let weir = steady(&[
        ("digits-cnn", "models/digits-cnn"),
        ("digits-linear", "models/digits-linear"),
        ("breast-cancer-mlp", "models/breast-cancer-mlp"),
        ("two-in-two-out", &fixture("two-in-two-out")),
    ])
    .await;
    let mut client = weir.client();
    for (model, recorded) in [
        ("digits-cnn", "models/digits-cnn/1/golden.json"),
        ("digits-linear", "models/digits-linear/2/golden.json"),
        ("breast-cancer-mlp", "models/breast-cancer-mlp/1/golden.json"),
        ("two-in-two-out", "tests/fixtures/two-in-two-out/1/expected.json"),
    ] {
        for case in cases(recorded) {
            let ask = Ask::new(model, case.inputs.clone());
            let first = client.answer(Way::Typed, &ask).await;
            for way in [Way::Raw, Way::Json, Way::Binary] {
                assert_eq!(client.answer(way, &ask).await.outputs, first.outputs, "{model} {way:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_a_number_keeps_its_bits_or_is_null() {
    let weir = Weir::fixtures(&["nan-out", "identity-fp32"], &[]).await;
    let mut client = weir.client();
    let x = Array::f32("x", &[2, 2], &[-1.0, 1.0, 0.0, 2.0]);
    let raw = client.answer(Way::Raw, &Ask::new("nan-out", vec![x.clone()])).await;
    assert!(raw.output("log").numbers()[0].is_nan());
    assert_eq!(raw.output("log").numbers()[1..], [0.0, f64::NEG_INFINITY, f64::from(2_f32.ln())]);
    assert_eq!(raw.output("inverse").numbers(), [-1.0, 1.0, f64::INFINITY, 0.5]);
    assert_eq!(client.answer(Way::Typed, &Ask::new("nan-out", vec![x.clone()])).await.outputs.len(), 2);
    assert_eq!(client.answer(Way::Binary, &Ask::new("nan-out", vec![x.clone()])).await.outputs, raw.outputs);

    let reply = client.ask_http(false, &Ask::new("nan-out", vec![x])).await.unwrap();
    let body = reply.json();
    let data = |place: usize| body["outputs"][place]["data"].as_array().unwrap().clone();
    assert_eq!([&data(0)[0], &data(0)[2], &data(1)[2]], [&json!(null); 3], "{body}");
    assert_eq!(body["parameters"], json!({ "weir_nonfinite": 3 }));

    // NaN with a payload, and both infinities, in and out.
    let bits: Vec<u8> =
        [0x7fc0_1234_u32, 0xffa0_0001, 0x7f80_0000, 0xff80_0000].iter().flat_map(|v| v.to_le_bytes()).collect();
    let odd = Ask::new("identity-fp32", vec![Array::new("x", "FP32", &[1, 4], bits.clone())]);
    for way in [Way::Raw, Way::Binary, Way::Typed] {
        assert_eq!(client.answer(way, &odd).await.output("y").raw, bits, "{way:?}");
    }
    let (body, json_len) = odd.body(true);
    let text = String::from_utf8_lossy(&body[..json_len.unwrap()]).replace("\"binary_data_output\":true", "\"a\":1");
    let (body, length) = ([text.as_bytes(), &bits].concat(), text.len().to_string());
    let reply = client.http.send("POST", &odd.path(), &[(HEADER_LENGTH, &length)], body).await.unwrap();
    assert_eq!(reply.json()["outputs"][0]["data"], json!([null, null, null, null]));
    assert_eq!(reply.json()["parameters"], json!({ "weir_nonfinite": 4 }));
}

#[tokio::test]
async fn ids_and_requested_outputs() {
    let weir = steady(&[("m", "models/digits-linear")]).await;
    let mut client = weir.client();
    let case = &cases("models/digits-linear/2/golden.json")[1];
    let ask = Ask::new("m", case.inputs.clone()).id("żółw \"7\"");
    for way in Way::ALL {
        let all = client.answer(way, &ask).await;
        assert_eq!((&*all.id, &*all.model, &*all.version), ("żółw \"7\"", "m", "2"), "{way:?}");
        assert_eq!(all.outputs.iter().map(|output| &*output.name).collect::<Vec<_>>(), ["label", "probabilities"]);
        let turned = client.answer(way, &ask.clone().wants(&[("probabilities", 0), ("label", 0)])).await;
        assert_eq!(turned.outputs, [all.outputs[1].clone(), all.outputs[0].clone()], "{way:?}");
        let one = client.answer(way, &ask.clone().wants(&[("label", 0)])).await;
        assert_eq!(one.outputs, [all.outputs[0].clone()], "{way:?}");
    }
    let bare = client.answer(Way::Json, &Ask::new("m", case.inputs.clone())).await;
    assert_eq!(bare.id, "");
    let headers =
        [("x-request-id", "r-17"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let reply = client.http.send("POST", &ask.path(), &headers, ask.body(false).0).await.unwrap();
    for (name, value) in headers {
        assert_eq!(reply.header(name), Some(value));
    }
}

#[tokio::test]
async fn classification() {
    let weir = steady(&[("m", "models/digits-linear")]).await;
    let mut client = weir.client();
    let case = &cases("models/digits-linear/2/golden.json")[1];
    let wanted = Ask::new("m", case.inputs.clone()).wants(&[("probabilities", 3), ("label", 0)]);
    let mut answers = Vec::new();
    for way in Way::ALL {
        let answer = client.answer(way, &wanted).await;
        let classes = &answer.outputs[0];
        assert_eq!((&*classes.dtype, &*classes.shape), ("BYTES", &[case.inputs[0].shape[0], 3][..]), "{way:?}");
        for (row, scores) in classes.split().iter().zip(case.outputs[1].split()) {
            let mut order: Vec<(usize, f64)> = scores.numbers().into_iter().enumerate().collect();
            order.sort_by(|a, b| b.1.total_cmp(&a.1));
            for (item, (index, score)) in row.items().iter().zip(order) {
                let item = std::str::from_utf8(item).unwrap();
                let mut parts = item.split(':');
                let value: f64 = parts.next().unwrap().parse().unwrap();
                assert!(
                    (value - score).abs() < 1e-4 && parts.next() == Some(&*index.to_string()),
                    "{item} is not {index}"
                );
            }
        }
        assert_eq!(answer.outputs[1], case.outputs[0]);
        answers.push(answer.outputs);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "the encodings differ: {answers:?}");
    let many = client.answer(Way::Raw, &Ask::new("m", case.inputs.clone()).wants(&[("probabilities", 99)])).await;
    assert_eq!(many.outputs[0].shape[1], 10, "more classes than there are");
}

#[tokio::test]
async fn raw_binary_requests_and_mixed_inputs() {
    let weir = Weir::fixtures(&["identity-fp32", "identity-string", "two-in-two-out"], &[]).await;
    let mut client = weir.client();
    let x = Array::f32("x", &[1, 4], &[1.0, -0.0, 1e-45, 3.5]);
    let path = "/v2/models/identity-fp32/infer";
    let reply = client.http.send("POST", path, &[(HEADER_LENGTH, "0")], x.raw.clone()).await.unwrap();
    assert_eq!(from_body(reply.status, &reply.headers, &reply.body).outputs, [x.named("y")]);

    // One input as JSON, the other behind it.
    let (a, b) = (Array::f32("a", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), Array::i64("b", &[2, 2], &[1, 2, 3, 4]));
    let ask = Ask::new("two-in-two-out", vec![a.clone(), b]);
    let want = client.answer(Way::Json, &ask).await.outputs;
    let text = format!(
        r#"{{"inputs":[{{"name":"b","datatype":"INT64","shape":[2,2],"data":[[1,2],[3,4]]}},
            {{"name":"a","datatype":"FP32","shape":[2,3],"parameters":{{"binary_data_size":{}}}}}],
            "outputs":[{{"name":"sum"}},{{"name":"double","parameters":{{"binary_data":true}}}}]}}"#,
        a.raw.len()
    );
    let length = text.len().to_string();
    let body = [text.as_bytes(), &a.raw].concat();
    let reply = client.http.send("POST", &ask.path(), &[(HEADER_LENGTH, &length)], body).await.unwrap();
    assert_eq!(from_body(reply.status, &reply.headers, &reply.body).outputs, want);
}

fn pack(coding: &str, plain: &[u8]) -> Vec<u8> {
    if coding == "gzip" {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        return encoder.finish().unwrap();
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn unpack(coding: &str, packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if coding == "gzip" {
        GzDecoder::new(packed).read_to_end(&mut plain)
    } else {
        ZlibDecoder::new(packed).read_to_end(&mut plain)
    }
    .unwrap();
    plain
}

#[tokio::test]
async fn compression_both_ways() {
    let weir = steady(&[("m", "models/digits-linear")]).await;
    let mut client = weir.client();
    let rows = rows("models/digits-linear/2/golden.json");
    let case = crate::golden::Case::batch(&rows, 0, 64);
    let ask = Ask::new("m", case.inputs.clone());
    let plain = client.answer(Way::Binary, &ask).await.outputs;
    for coding in ["gzip", "deflate"] {
        for binary in [false, true] {
            compressed_http(&mut client, &ask, (coding, binary), &plain).await;
        }
    }
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let mut grpc = client.grpc.clone().send_compressed(encoding).accept_compressed(encoding);
        let reply = grpc.model_infer(ask.message(true)).await.unwrap();
        let named = reply.metadata().get("grpc-encoding").unwrap().to_str().unwrap().to_owned();
        assert_eq!(named, format!("{encoding}"));
        assert_eq!(from_message(reply.into_inner(), true).outputs, plain);
    }
}

/// The length header counts bytes before compression, in both directions.
async fn compressed_http(client: &mut Client, ask: &Ask, (coding, binary): (&str, bool), plain: &[Array]) {
    let (body, json_len) = ask.body(binary);
    let length = json_len.unwrap_or(body.len()).to_string();
    let headers = [("content-encoding", coding), ("accept-encoding", coding), (HEADER_LENGTH, &*length)];
    let reply = client.http.send("POST", &ask.path(), &headers, pack(coding, &body)).await.unwrap();
    assert_eq!(reply.header("content-encoding"), Some(coding), "{reply:?}");
    let unpacked = unpack(coding, &reply.body);
    assert!(reply.body.len() < unpacked.len());
    assert_eq!(from_body(reply.status, &reply.headers, &unpacked).outputs, plain, "{coding} {binary}");
}
