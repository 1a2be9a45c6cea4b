//! Ten thousand requests at once-64 of mixed models, shapes, datatypes and protocols: every answer is the one for its request,
//! computed here from the request's number, and afterwards nothing is left in the server.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::task::JoinSet;

use crate::{
    array::Array,
    ask::{Ask, Way},
    harness::{PATIENCE, Weir, until},
};

const REQUESTS: u32 = 10_000;
const CALLERS: usize = 64;

const MODELS: [&str; 9] = [
    "identity-fp32",
    "identity-int64",
    "identity-string",
    "two-in-two-out",
    "unnamed-batch",
    "no-batch",
    "no-batch-dim-vector",
    "ragged",
    "string-concat",
];

/// A request and the outputs that it must get. Numbers are small integers, so that every sum is exact.
fn exchange(number: u32) -> (Ask, Vec<Array>) {
    let model = MODELS[number as usize % MODELS.len()];
    let rows = i64::from(1 + number / 9 % 5);
    let value = |at: i64| (i64::from(number) * 31 + at * 7) % 65_521;
    let numbers = |count: i64| (0..count).map(value).collect::<Vec<i64>>();
    let floats = |count: i64| (0..count).map(|at| value(at) as f32).collect::<Vec<f32>>();
    let doubled = |shape: &[i64]| {
        let count = shape.iter().product();
        let twice: Vec<f32> = floats(count).iter().map(|value| value * 2.0).collect();
        (vec![Array::f32("x", shape, &floats(count))], vec![Array::f32("y", shape, &twice)])
    };
    let texts = |prefix: &str, count: i64| (0..count).map(|at| format!("{prefix}{number}-{at}")).collect::<Vec<_>>();
    let same = |array: Array| (vec![array.clone()], vec![array.named("y")]);
    let (inputs, outputs) = match model {
        "identity-fp32" => same(Array::f32("x", &[rows, 4], &floats(rows * 4))),
        "identity-int64" => same(Array::i64("x", &[rows, 4], &numbers(rows * 4))),
        "identity-string" => same(Array::strings("x", &[rows, 4], &texts("t", rows * 4))),
        "unnamed-batch" => doubled(&[rows, 4]),
        "no-batch" => doubled(&[1, 4]),
        "no-batch-dim-vector" => doubled(&[4]),
        "ragged" => {
            let columns = i64::from(1 + number / 45 % 3);
            let all = floats(rows * columns);
            let sums: Vec<f32> = all.chunks(usize::try_from(columns).unwrap()).map(|row| row.iter().sum()).collect();
            (vec![Array::f32("x", &[rows, columns], &all)], vec![Array::f32("y", &[rows, 1], &sums)])
        }
        "string-concat" => {
            let (a, b) = (texts("a", rows), texts("b", rows));
            let both: Vec<&String> = a.iter().zip(&b).flat_map(|(a, b)| [a, b]).collect();
            let inputs = vec![Array::strings("a", &[rows, 1], &a), Array::strings("b", &[rows, 1], &b)];
            (inputs, vec![Array::strings("y", &[rows, 2], &both)])
        }
        _ => {
            let (a, b) = (floats(rows * 3), numbers(rows * 2));
            let totals: Vec<f32> = b.chunks(2).map(|pair| (pair[0] + pair[1]) as f32).collect();
            let sum: Vec<f32> = a.iter().enumerate().map(|(at, value)| value + totals[at / 3]).collect();
            let double: Vec<i64> = b.iter().map(|value| value * 2).collect();
            let inputs = vec![Array::f32("a", &[rows, 3], &a), Array::i64("b", &[rows, 2], &b)];
            (inputs, vec![Array::f32("sum", &[rows, 3], &sum), Array::i64("double", &[rows, 2], &double)])
        }
    };
    (Ask::new(model, inputs).id(format!("r{number}")), outputs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_get_their_own_answers() {
    let weir = Arc::new(Weir::fixtures(&MODELS, &[]).await);
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (weir, next) = (Arc::clone(&weir), Arc::clone(&next));
        callers.spawn(async move {
            let mut client = weir.client();
            let mut answered = 0;
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= REQUESTS {
                    return answered;
                }
                let (ask, want) = exchange(number);
                // Both numbers of rows and models go through all encodings: neither 9 nor 5 divides what 4 does.
                let way = Way::ALL[number as usize / 3 % 4];
                let answer = client.answer(way, &ask).await;
                assert_eq!(answer.outputs, want, "{way:?} {ask:?}");
                assert_eq!((answer.id, answer.model), (ask.id, ask.model));
                answered += 1;
            }
        });
    }
    assert_eq!(callers.join_all().await.iter().sum::<u32>(), REQUESTS);
    let metrics = until("gauges at rest", PATIENCE, async || {
        let metrics = weir.metrics().await;
        let rest = ["weir_inflight_requests", "weir_queue_rows"].iter().all(|name| metrics.sum(name, &[]) == 0.0);
        rest.then_some(metrics)
    })
    .await;
    assert_eq!(metrics.sum("weir_requests_total", &[("code", "ok")]), f64::from(REQUESTS));
    assert_eq!(metrics.sum("weir_requests_total", &[]), f64::from(REQUESTS));
    assert_eq!(metrics.sum("weir_rejected_total", &[]), 0.0);
    for protocol in ["grpc", "http"] {
        let share = metrics.sum("weir_requests_total", &[("protocol", protocol)]);
        assert!(share > f64::from(REQUESTS) / 3.0, "{share} over {protocol}");
    }
    // Requests of the same shape do meet in batches, or this would prove little.
    let batches = metrics.sum("weir_batch_rows_count", &[]);
    assert!(batches < f64::from(REQUESTS) * 0.99, "{batches} batches");
    let weir = Arc::into_inner(weir).unwrap();
    assert!(weir.stop().await.success());
}
