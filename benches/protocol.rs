//! What it costs to read a request and to write an answer, per encoding, beside a plain copy of the same bytes; and how much a
//! JSON tree in between would cost. 30 floats are a row of a table, 150,528 an image of 224 x 224.

#![expect(clippy::expect_used, reason = "a benchmark of what fails measures nothing")]

use std::{hint::black_box, time::Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use prost::Message as _;
use smallvec::smallvec;
use weir::{
    protocol::{ReplyForm, grpc, json, pb},
    types::{
        Answered, DType, InferRequest, InferResponse, NamedTensor, Params, Protocol, RequestContext, Stamps, Tensor,
        VersionRef,
    },
};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 2] = [30, 150_528];

/// Numbers as a scaler leaves them: most need all their digits.
fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i as f32) * 0.618_034).sin()).collect()
}

fn context() -> RequestContext {
    RequestContext::new(Protocol::Http, Instant::now())
}

fn message(values: &[f32], raw: bool) -> Bytes {
    let contents = pb::InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() };
    let input = pb::model_infer_request::InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, i64::try_from(values.len()).expect("small")],
        contents: (!raw).then_some(contents),
        ..Default::default()
    };
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let request = pb::ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input],
        raw_input_contents: if raw { vec![bytes.into()] } else { Vec::new() },
        ..Default::default()
    };
    request.encode_to_vec().into()
}

fn body(count: usize, data: &str) -> Bytes {
    format!(r#"{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP32","data":[{data}]}}]}}"#).into()
}

fn binary(values: &[f32]) -> (Bytes, usize) {
    let (count, size) = (values.len(), values.len() * 4);
    let head = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
    );
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    (head.bytes().chain(bytes).collect::<Vec<_>>().into(), head.len())
}

/// A plain gRPC request, read as the handler does.
fn read_grpc(bytes: &Bytes) -> (InferRequest, ReplyForm) {
    grpc::read(grpc::plain(bytes), bytes, context(), &mut String::new()).expect("valid")
}

/// An answer of one tensor.
fn response(values: &[f32]) -> InferResponse {
    let shape = smallvec![1, values.len()];
    let tensor = Tensor::from_vec(DType::Fp32, shape, values.to_vec()).expect("a shape that fits");
    InferResponse {
        answered: Answered { model: "m".into(), version: "1".into(), variant: "".into() },
        id: "".into(),
        params: Params::default(),
        outputs: vec![NamedTensor { name: "y".into(), tensor }],
        stamps: Stamps::at(Instant::now()),
    }
}

/// The way through a tree, as a generic JSON reader would go it.
fn through_value(body: &Bytes) -> Vec<f32> {
    let value: serde_json::Value = serde_json::from_slice(body).expect("valid");
    let data = value["inputs"][0]["data"].as_array().expect("data");
    data.iter().map(|number| number.as_f64().unwrap_or_default() as f32).collect()
}

fn json_decode(body: &Bytes, header: Option<usize>) -> InferRequest {
    let read = json::decode("m", VersionRef::Policy, body, header).expect("valid");
    read.request(context(), || unreachable!("it has JSON")).expect("valid").0
}

fn http(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, body: &Bytes, header: Option<usize>) {
    group.bench_function(name, |b| {
        b.iter(|| json_decode(black_box(body), header));
    });
}

fn decode(c: &mut Criterion) {
    for count in SIZES {
        let values = floats(count);
        let mut group = c.benchmark_group(format!("decode/{count}"));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("memcpy", |b| b.iter(|| black_box(&values).clone()));
        let plain = message(&values, true);
        group.bench_function("grpc raw", |b| {
            b.iter(|| read_grpc(black_box(&plain)));
        });
        for (name, raw) in [("grpc raw, by message", true), ("grpc typed", false)] {
            let bytes = message(&values, raw);
            group.bench_function(name, |b| {
                b.iter(|| {
                    let message = grpc::parse(black_box(bytes.clone())).expect("valid");
                    grpc::decode(message, context()).expect("valid")
                });
            });
        }
        let (bytes, header) = binary(&values);
        http(&mut group, "http binary", &bytes, Some(header));
        let short = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(",");
        let long = values.iter().map(|value| format!("{:?}", f64::from(*value))).collect::<Vec<_>>().join(", ");
        for (name, data) in [("short", short), ("as f64", long)] {
            let body = body(count, &data);
            http(&mut group, &format!("http json, {name}"), &body, None);
            group.bench_function(format!("through a tree, {name}"), |b| b.iter(|| through_value(black_box(&body))));
        }
        group.finish();
    }
}

fn encode(c: &mut Criterion) {
    for count in SIZES {
        let values = floats(count);
        let response = response(&values);
        let mut group = c.benchmark_group(format!("encode/{count}"));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("memcpy", |b| b.iter(|| black_box(&values).clone()));
        group.bench_function("grpc raw", |b| {
            b.iter(|| {
                let answer = grpc::RawAnswer::of(black_box(&response), &ReplyForm::raw()).expect("plain");
                let mut out = BytesMut::with_capacity(answer.len());
                answer.write(&mut out);
                out
            });
        });
        for (name, form) in [("raw, by message", ReplyForm::raw()), ("typed", ReplyForm::typed())] {
            group.bench_function(format!("grpc {name}"), |b| {
                b.iter(|| grpc::encode(black_box(&response), &form).encode_to_vec());
            });
            let http = if form.is_raw() { "http binary" } else { "http json" };
            group.bench_function(http, |b| b.iter(|| json::encode(black_box(&response), &form).expect("valid")));
        }
        group.bench_function("a vector through serde_json", |b| b.iter(|| serde_json::to_vec(black_box(&values))));
        group.finish();
    }
}

/// Times that either side of a ratio is measured.
const ROUNDS: usize = 31;

/// How many times longer `other` takes than `ours`: the median of pairs that are measured one directly behind the other.
fn ratio(what: &str, mut ours: impl FnMut(), mut other: impl FnMut()) {
    fn time(mut run: impl FnMut()) -> f64 {
        let start = Instant::now();
        (0..8).for_each(|_| run());
        start.elapsed().as_secs_f64()
    }
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let ours = time(&mut ours);
            time(&mut other) / ours
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("ratio: {what}: {:.2} ({:.2} to {:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
}

/// The pictures again, as ratios of one run: figures of two runs on a busy machine do not compare.
fn ratios(_: &mut Criterion) {
    let count = SIZES[1];
    let values = floats(count);
    let read = |body: &Bytes, header| {
        black_box(json_decode(black_box(body), header));
    };
    let copy = || drop(black_box(black_box(&values).clone()));
    let short = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(",");
    let long = values.iter().map(|value| format!("{:?}", f64::from(*value))).collect::<Vec<_>>().join(", ");
    for (name, data) in [("the shortest digits", short), ("the digits of f64", long)] {
        let body = body(count, &data);
        let tree = || drop(black_box(through_value(black_box(&body))));
        ratio(&format!("reading JSON, {name}: a tree to ours"), || read(&body, None), tree);
    }
    let response = response(&values);
    let ours = || drop(black_box(json::encode(black_box(&response), &ReplyForm::typed()).expect("valid")));
    let tree = || {
        let data = black_box(&values).iter().map(|value| serde_json::Value::from(*value)).collect::<Vec<_>>();
        drop(black_box(serde_json::to_vec(&data)));
    };
    ratio("writing JSON: a tree to ours", ours, tree);
    let plain = message(&values, true);
    let grpc = || drop(black_box(read_grpc(black_box(&plain))));
    ratio("reading raw gRPC: a copy of the tensor to ours", grpc, copy);
    let (bytes, header) = binary(&values);
    ratio("reading binary HTTP: a copy of the tensor to ours", || read(&bytes, Some(header)), copy);
}

criterion_group!(benches, decode, encode, ratios);
criterion_main!(benches);
