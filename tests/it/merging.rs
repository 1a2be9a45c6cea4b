//! Merging is safe: models whose rows depend on each other, on chance, or that have no batch dimension answer under load
//! exactly as alone, are never merged, and say why; models whose rows are independent are merged, or this would prove nothing.

use std::{fs, sync::Arc};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::{
    array::Array,
    ask::{Answer, Ask, Way},
    golden::{agree, cases},
    harness::{Registry, Weir, fixture, until, weir as command},
    wire::{PATIENCE, Wire},
};

/// Requests at the same time.
const CALLERS: usize = 64;

/// Models that must never be merged, and words of the reason.
const ALONE: [(&str, &str); 6] = [
    ("softmax-dim0", "depends on its neighbours"),
    ("quantized-mlp", "DynamicQuantizeLinear"),
    ("quantized-rows", "DynamicQuantizeLinear"),
    ("no-batch", "no batch dimension"),
    ("no-batch-dim-vector", "no batch dimension"),
    ("random-normal", "RandomNormalLike"),
];

fn values(count: usize, seed: usize) -> Vec<f32> {
    // Spread out and different in every place; nothing about them matters but that.
    (0..count).map(|at| ((at * 7919 + seed * 104_729) % 1999) as f32 / 400.0 - 2.5).collect()
}

/// Requests with different numbers of rows and different values, where the model allows it.
fn requests(model: &str) -> Vec<Ask> {
    let request = |seed: usize| {
        let rows = 1 + seed % 5;
        let x = |shape: &[i64]| {
            let count = shape.iter().product::<i64>();
            vec![Array::f32("x", shape, &values(usize::try_from(count).unwrap(), seed))]
        };
        let inputs = match model {
            "no-batch" => x(&[1, 4]),
            "no-batch-dim-vector" => x(&[4]),
            "quantized-mlp" | "breast-cancer-mlp" => {
                let case = &cases("models/breast-cancer-mlp/1/golden.json")[0].inputs[0];
                let wobble = values(30 * rows, seed);
                let scaled = case.numbers().into_iter().cycle().zip(&wobble);
                let row: Vec<f32> = scaled.map(|(value, wobble)| value as f32 * (1.0 + wobble / 5.0)).collect();
                vec![Array::f32("features", &[i64::try_from(rows).unwrap(), 30], &row)]
            }
            _ => x(&[i64::try_from(rows).unwrap(), 4]),
        };
        Ask::new(model, inputs).id(seed.to_string())
    };
    (0..CALLERS).map(request).collect()
}

async fn at_once(weir: &Arc<Weir>, asks: &[Ask]) -> Vec<Answer> {
    let mut callers = JoinSet::new();
    for (place, ask) in asks.iter().cloned().enumerate() {
        let weir = Arc::clone(weir);
        callers.spawn(async move { (place, weir.client().answer(Way::ALL[place % 4], &ask).await) });
    }
    let mut answers = callers.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Why requests are not merged: in the model's configuration, on the ops listener, by `weir models`. They say the same.
async fn reason(weir: &Weir, model: &str) -> Option<String> {
    let config = weir.client().http.get(&format!("/v2/models/{model}/config")).await.json();
    let said = config["parameters"]["weir_merging_off"]["string_value"].as_str().map(str::to_owned);
    assert_eq!(config.get("dynamic_batching").is_some(), said.is_none(), "{config}");
    let ops = weir.ops_model(model).await;
    let batching = &ops["versions"][0]["batching"];
    assert_eq!(batching["merged"], Value::from(said.is_none()), "{ops}");
    assert_eq!(batching.get("because").and_then(Value::as_str), said.as_deref(), "{ops}");
    let (url, ops) = (format!("http://{}", weir.http), format!("http://{}", weir.ops));
    let shown = command().args(["models", model, "--url", &url, "--ops", &ops]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(said.as_ref().is_none_or(|why| shown.contains(why)), "`weir models {model}` does not say why:\n{shown}");
    said
}

/// Requests answered, executions and rows of a model, by its statistics; its metrics must say the same.
async fn counts(weir: &Weir, model: &str) -> (u64, u64, u64) {
    let statistics = weir.client().statistics(model).await;
    let (metrics, labels) = (weir.metrics().await, [("model", model)]);
    let found = (
        statistics.inference_stats.unwrap().success.unwrap().count,
        statistics.execution_count,
        statistics.inference_count,
    );
    assert_eq!(metrics.sum("weir_batch_rows_count", &labels), found.1 as f64, "{model}");
    assert_eq!(metrics.sum("weir_batch_rows_sum", &labels), found.2 as f64, "{model}");
    found
}

#[tokio::test]
async fn unsafe_models_answer_under_load_exactly_as_alone() {
    let weir = Arc::new(Weir::fixtures(&ALONE.map(|(name, _)| name), &[]).await);
    let mut client = weir.client();
    for (model, why) in ALONE {
        let asks = requests(model);
        let mut alone = Vec::new();
        for (place, ask) in asks.iter().enumerate() {
            alone.push(client.answer(Way::ALL[place % 4], ask).await);
        }
        let together = at_once(&weir, &asks).await;
        if model != "random-normal" {
            for (one, other) in alone.iter().zip(&together) {
                assert_eq!(one, other, "{model}");
            }
        }
        let (requests, executions, _) = counts(&weir, model).await;
        assert_eq!((requests, executions), (128, 128), "{model}: a request is one execution");
        let said = reason(&weir, model).await.unwrap_or_else(|| panic!("{model} is merged"));
        assert!(said.contains(why), "{model}: {said}");
    }
}

#[tokio::test]
async fn recorded_answers_of_unsafe_models_hold_under_load() {
    let weir = Arc::new(Weir::fixtures(&["softmax-dim0", "quantized-mlp", "quantized-rows"], &[]).await);
    for model in ["softmax-dim0", "quantized-mlp", "quantized-rows"] {
        let recorded = cases(&format!("{}/1/expected.json", fixture(model)));
        let picked: Vec<_> = recorded.iter().cycle().take(CALLERS).collect();
        let asks: Vec<_> = picked.iter().map(|case| Ask::new(model, case.inputs.clone())).collect();
        for (answer, case) in at_once(&weir, &asks).await.iter().zip(picked) {
            case.check(&answer.outputs, model);
        }
    }
}

#[tokio::test]
async fn safe_models_are_merged_and_agree() {
    let models = [("breast-cancer-mlp", "models/breast-cancer-mlp".to_owned()), ("slow", fixture("slow"))];
    let registry = Registry::new(&models);
    // Whatever a batch of it is measured to gain.
    fs::write(registry.path().join("slow/model.toml"), "[batching]\nmax_batch_size = 16\n").unwrap();
    let weir = Arc::new(Weir::serve(registry, &[]).await);
    let mut client = weir.client();
    for (model, _) in models {
        let mut asks = requests(model);
        if model == "slow" {
            asks.truncate(16);
        }
        let count = asks.len() as u64;
        let mut alone = Vec::new();
        for ask in &asks {
            alone.push(client.answer(Way::Raw, ask).await);
        }
        let (_, before, _) = counts(&weir, model).await;
        let together = at_once(&weir, &asks).await;
        for (one, other) in alone.iter().zip(&together) {
            agree(&other.outputs, &one.outputs).unwrap_or_else(|why| panic!("{model}: {why}"));
            assert_eq!(one.id, other.id);
        }
        let (requests, executions, rows) = counts(&weir, model).await;
        assert_eq!((requests, reason(&weir, model).await), (2 * count, None));
        let sent: usize = asks.iter().map(|ask| ask.inputs[0].rows()).sum();
        assert_eq!(rows, 2 * sent as u64, "{model}");
        if model == "slow" {
            let ran = executions - before;
            assert!(ran < count, "{ran} executions for {count} requests at once");
        }
    }
}

/// Every HTTP/1 connection is served on its own: requests of several must find each other all the same, also where they are so
/// cheap that the thread that reads them runs them.
#[tokio::test]
async fn requests_of_several_http_connections_share_a_batch() {
    let registry = Registry::new(&[("identity-fp32", fixture("identity-fp32"))]);
    fs::write(registry.path().join("identity-fp32/model.toml"), "[batching]\nmax_batch_size = 16\n").unwrap();
    let weir = Weir::serve(registry, &["--io-threads", "1"]).await;
    weir.warm("identity-fp32").await;
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(Wire::connect(weir.http).await);
    }
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#;
    let request = format!(
        "POST /v2/models/identity-fp32/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    until("a batch of several rows", PATIENCE, async || {
        for caller in &mut callers {
            caller.send(&request).await;
        }
        for caller in &mut callers {
            let reply = caller.reply(false).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        let (requests, executions, _) = counts(&weir, "identity-fp32").await;
        (executions < requests).then_some(())
    })
    .await;
}

/// One caller with one stream is enough: what it sends before it has its answers is answered together.
#[tokio::test]
async fn messages_of_one_stream_share_batches() {
    const MESSAGES: usize = 256;
    let registry = Registry::new(&[("identity-fp32", fixture("identity-fp32"))]);
    fs::write(registry.path().join("identity-fp32/model.toml"), "[batching]\nmax_batch_size = 16\n").unwrap();
    let weir = Weir::serve(registry, &["--io-threads", "1"]).await;
    weir.warm("identity-fp32").await;
    let mut client = weir.client();
    until("batches of several rows", PATIENCE, async || {
        let (_, before, rows) = counts(&weir, "identity-fp32").await;
        let message = |seed: usize| {
            Ask::new("identity-fp32", vec![Array::f32("x", &[1, 4], &values(4, seed))])
                .id(seed.to_string())
                .message(true)
        };
        let messages: Vec<_> = (0..MESSAGES).map(message).collect();
        let sent = tokio_stream::iter(messages.clone());
        let mut answers = client.grpc.model_stream_infer(sent).await.unwrap().into_inner();
        for message in &messages {
            let answer = answers.next().await.unwrap().unwrap();
            assert_eq!(answer.error_message, "");
            let answer = answer.infer_response.unwrap();
            assert_eq!((&answer.id, &answer.raw_output_contents), (&message.id, &message.raw_input_contents));
        }
        assert!(answers.next().await.is_none());
        let (_, after, sum) = counts(&weir, "identity-fp32").await;
        assert_eq!(sum - rows, MESSAGES as u64);
        // By far fewer than the messages: a chance meeting with the question for the statistics is no proof.
        (2 * (after - before) < MESSAGES as u64).then_some(())
    })
    .await;
}
