//! Errors that come from the server's state and not from the request's form: unknown calls, writes where nothing may be
//! written, models that are not ready, queues that are full, deadlines that pass, callers that leave.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;
use tonic::Code;
use weir::protocol::pb;

use crate::{
    array::Array,
    ask::{Ask, Way},
    client::{Failed, Http, Refused, framed, http2_post},
    errors::{Codes, DEADLINE, INVALID, NOT_FOUND, OVERLOADED, UNAVAILABLE, UNIMPLEMENTED, mismatch},
    harness::{PATIENCE, Registry, Weir, fixture, until},
};

/// A call over gRPC, the same over HTTP, and what is said to both.
type Row = (&'static str, Bytes, &'static str, &'static str, &'static str, Codes, &'static str);

fn named<M: prost::Message>(make: impl Fn(String, String) -> M, name: &str, version: &str) -> Bytes {
    framed(&make(name.to_owned(), version.to_owned()))
}

fn questions() -> Vec<Row> {
    let metadata = |n: &str, v: &str| named(|name, version| pb::ModelMetadataRequest { name, version }, n, v);
    let config = |n: &str, v: &str| named(|name, version| pb::ModelConfigRequest { name, version }, n, v);
    let stats = |n: &str, v: &str| named(|name, version| pb::ModelStatisticsRequest { name, version }, n, v);
    let version = "version: expected a positive integer or a label, got '1e3'";
    let broken = "model 'unknown-op': not ready";
    let absent = "model 'x': not found";
    vec![
        ("ModelMetadata", metadata("x", ""), "GET", "/v2/models/x", "", NOT_FOUND, absent),
        ("ModelMetadata", metadata("x", "1e3"), "GET", "/v2/models/x/versions/1e3", "", INVALID, version),
        ("ModelMetadata", metadata("unknown-op", ""), "GET", "/v2/models/unknown-op", "", UNAVAILABLE, broken),
        ("ModelConfig", config("x", ""), "GET", "/v2/models/x/config", "", NOT_FOUND, absent),
        ("ModelConfig", config("x", "1e3"), "GET", "/v2/models/x/versions/1e3/config", "", INVALID, version),
        ("ModelConfig", config("unknown-op", ""), "GET", "/v2/models/unknown-op/config", "", UNAVAILABLE, broken),
        ("ModelStatistics", stats("x", ""), "GET", "/v2/models/x/stats", "", NOT_FOUND, absent),
        ("ModelStatistics", stats("x", "1e3"), "GET", "/v2/models/x/versions/1e3/stats", "", INVALID, version),
    ]
}

fn writes() -> Vec<Row> {
    let load = |parameter: Option<&str>| {
        let value = pb::ModelRepositoryParameter { parameter_choice: None };
        let parameters = parameter.map(|name| (name.to_owned(), value)).into_iter().collect();
        let model_name = "identity-fp32".to_owned();
        framed(&pb::RepositoryModelLoadRequest { model_name, parameters, ..Default::default() })
    };
    let unload =
        framed(&pb::RepositoryModelUnloadRequest { model_name: "identity-fp32".to_owned(), ..Default::default() });
    let log = pb::log_settings_request::SettingValue {
        parameter_choice: Some(pb::log_settings_request::setting_value::ParameterChoice::BoolParam(false)),
    };
    let log = framed(&pb::LogSettingsRequest { settings: [("log_info".to_owned(), log)].into() });
    let trace = pb::trace_setting_request::SettingValue { value: vec!["TENSORS".to_owned()] };
    let trace =
        framed(&pb::TraceSettingRequest { settings: [("trace_level".to_owned(), trace)].into(), ..Default::default() });
    let polling = "explicit model load / unload is not allowed if polling is enabled";
    let ops = "settings: given when the server starts, as --log-level and --log-format";
    let memory = "shared memory: not supported";
    let (path, config) = ("/v2/repository/models/identity-fp32/load", r#"{"parameters":{"config":"{}"}}"#);
    let file = r#"{"parameters":{"file:1/model.onnx":"AA=="}}"#;
    let no_config = "parameter 'config': models come from the registry directory only";
    let no_file = "parameter 'file:1/model.onnx': models come from the registry directory only";
    let unload_path = "/v2/repository/models/identity-fp32/unload";
    let register = "/v2/systemsharedmemory/region/r/register";
    vec![
        ("RepositoryModelLoad", load(None), "POST", path, "", UNAVAILABLE, polling),
        ("RepositoryModelLoad", load(Some("config")), "POST", path, config, UNIMPLEMENTED, no_config),
        ("RepositoryModelLoad", load(Some("file:1/model.onnx")), "POST", path, file, UNIMPLEMENTED, no_file),
        ("RepositoryModelUnload", unload, "POST", unload_path, "", UNAVAILABLE, polling),
        ("LogSettings", log, "POST", "/v2/logging", r#"{"log_info":false}"#, UNAVAILABLE, ops),
        ("TraceSetting", trace, "POST", "/v2/trace/setting", r#"{"trace_level":["TENSORS"]}"#, UNAVAILABLE, ops),
        ("SystemSharedMemoryStatus", framed(&()), "GET", "/v2/systemsharedmemory/status", "", UNIMPLEMENTED, memory),
        ("SystemSharedMemoryRegister", framed(&()), "POST", register, "{}", UNIMPLEMENTED, memory),
        (
            "SystemSharedMemoryUnregister",
            framed(&()),
            "POST",
            "/v2/systemsharedmemory/unregister",
            "",
            UNIMPLEMENTED,
            memory,
        ),
        ("CudaSharedMemoryStatus", framed(&()), "GET", "/v2/cudasharedmemory/status", "", UNIMPLEMENTED, memory),
        (
            "CudaSharedMemoryRegister",
            framed(&()),
            "POST",
            "/v2/cudasharedmemory/region/r/register",
            "{}",
            UNIMPLEMENTED,
            memory,
        ),
        (
            "CudaSharedMemoryUnregister",
            framed(&()),
            "POST",
            "/v2/cudasharedmemory/unregister",
            "",
            UNIMPLEMENTED,
            memory,
        ),
    ]
}

#[tokio::test]
async fn calls_that_are_not_predictions() {
    let weir = Weir::fixtures(&["identity-fp32", "unknown-op"], &[]).await;
    let mut http = Http::new(weir.http);
    let mut wrong = Vec::new();
    for (method, message, verb, path, body, codes, text) in questions().into_iter().chain(writes()) {
        let grpc = format!("/inference.GRPCInferenceService/{method}");
        let status = http2_post(weir.grpc, &grpc, &[], &message).await.grpc_status();
        wrong.extend(mismatch(&Failed::from(status), codes, text).map(|found| format!("{method}: {found}")));
        let reply = http.send(verb, path, &[("content-type", "application/json")], body).await.unwrap();
        wrong.extend(mismatch(&reply.failed(), codes, text).map(|found| format!("{verb} {path}: {found}")));
        if codes == UNAVAILABLE {
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(http.get("/v2/logging").await.json()["log_info"], true, "the refused write changed nothing");
}

#[tokio::test]
async fn unknown_methods_and_paths() {
    let weir = Weir::fixtures(&["identity-fp32"], &[]).await;
    for path in ["/inference.GRPCInferenceService/Nonsense", "/some.Service/Method", "/"] {
        let status = http2_post(weir.grpc, path, &[], &framed(&())).await.grpc_status();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    let mut http = Http::new(weir.http);
    for path in
        ["/", "/v1/models", "/v2/", "/v2/nonsense", "/v2/models/identity-fp32/nonsense", "/ops/models", "/metrics"]
    {
        let reply = http.get(path).await;
        assert_eq!(reply.failed().status(), Some(Refused::Http(404)), "{path}: {reply:?}");
        assert_eq!(reply.failed().text(), "Not Found");
    }
    for (method, path, allow) in [
        ("GET", "/v2/models/identity-fp32/infer", "POST"),
        ("DELETE", "/v2/models/identity-fp32", "GET, HEAD"),
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("GET", "/v2/repository/index", "POST"),
    ] {
        let reply = http.send(method, path, &[], Bytes::new()).await.unwrap();
        assert_eq!(reply.failed().status(), Some(Refused::Http(405)), "{method} {path}: {reply:?}");
        assert_eq!((reply.failed().text(), reply.header("allow")), ("Method Not Allowed", Some(allow)));
    }
    let head = http.send("HEAD", "/v2/models/identity-fp32", &[], Bytes::new()).await.unwrap();
    let get = http.get("/v2/models/identity-fp32").await;
    assert_eq!((head.status, head.header("content-length")), (get.status, get.header("content-length")));
}

#[tokio::test]
async fn models_that_are_not_ready() {
    let weir = Weir::fixtures(&["identity-fp32", "unknown-op"], &[]).await;
    let mut client = weir.client();
    let ask = Ask::new("unknown-op", vec![Array::f32("x", &[1, 4], &[0.0; 4])]);
    for way in Way::ALL {
        let failed = client.refused(way, &ask).await;
        assert_eq!(mismatch(&failed, UNAVAILABLE, "model 'unknown-op': not ready"), None, "{way:?}");
        let exact = client.refused(way, &ask.clone().version("1")).await;
        assert_eq!(mismatch(&exact, UNAVAILABLE, "model 'unknown-op' version 1: not ready"), None, "{way:?}");
        assert!(matches!(exact, Failed::Told { retry: Some(_), .. }), "{exact:?}");
    }
}

fn slow(rows: i64) -> Ask {
    let count = usize::try_from(rows * 4).unwrap();
    Ask::new("slow", vec![Array::f32("x", &[rows, 4], &vec![0.5; count])])
}

#[tokio::test]
async fn deadlines() {
    let weir = Weir::fixtures(&["slow"], &[]).await;
    let mut client = weir.client();
    // Passed before anything can be queued.
    for way in Way::ALL {
        let failed = client.refused(way, &slow(1).param("timeout", 1)).await;
        assert_eq!(mismatch(&failed, DEADLINE, "deadline: expired in the queue"), None, "{way:?}");
    }
    let message = framed(&slow(1).message(true));
    let infer = "/inference.GRPCInferenceService/ModelInfer";
    let status = http2_post(weir.grpc, infer, &[("grpc-timeout", "1n")], &message).await.grpc_status();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "deadline: expired in the queue"));
    // Too short for so many rows, or passed while they waited or ran: the text says which, in both protocols.
    let many = slow(64);
    let late = |text: &str| {
        text.starts_with("deadline: too short: expected at least ")
            || ["deadline: expired in the queue", "deadline: expired in execution"].contains(&text)
    };
    let headers = [("request-timeout-ms", "2"), ("content-type", "application/json")];
    let reply = client.http.send("POST", &many.path(), &headers, many.body(false).0).await.unwrap();
    let failed = reply.failed();
    assert!(late(failed.text()) && mismatch(&failed, DEADLINE, failed.text()).is_none(), "{failed:?}");
    let status =
        http2_post(weir.grpc, infer, &[("grpc-timeout", "2m")], &framed(&many.message(true))).await.grpc_status();
    assert!(status.code() == Code::DeadlineExceeded && late(status.message()), "{status:?}");
    // One that is far away changes nothing.
    client.answer(Way::Json, &slow(1).param("timeout", 60_000_000)).await;
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_executed_expired_total", &[]), 0.0);
    assert_eq!(metrics.sum("weir_requests_total", &[("code", "deadline_exceeded")]), 7.0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let registry = Registry::new(&[("slow", fixture("slow"))]);
    registry.write("slow/model.toml", "[batching]\nmax_batch_size = 1\nmax_queue_rows = 2\n");
    let weir = Arc::new(Weir::serve(registry, &[]).await);
    let mut callers = JoinSet::new();
    for caller in 0..24 {
        let weir = Arc::clone(&weir);
        callers.spawn(async move { weir.client().ask(Way::ALL[caller % 4], &slow(1)).await });
    }
    let outcomes = callers.join_all().await;
    let refused: Vec<&Failed> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < outcomes.len(), "{} of 24 refused", refused.len());
    for failed in &refused {
        assert_eq!(mismatch(failed, OVERLOADED, failed.text()), None);
        let waiting =
            failed.text().strip_prefix("model 'slow': queue full: ").and_then(|rest| rest.strip_suffix(" rows wait"));
        assert!(waiting.is_some_and(|rows| rows.parse::<usize>().unwrap() <= 2), "{failed:?}");
        let Failed::Told { retry: Some(retry), .. } = failed else { panic!("no time to retry: {failed:?}") };
        assert!((Duration::from_micros(1)..Duration::from_secs(31)).contains(retry), "{failed:?}");
    }
    let count = refused.len() as f64;
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_rejected_total", &[("model", "slow"), ("reason", "queue_full")]), count);
    assert_eq!(metrics.sum("weir_requests_total", &[("code", "overloaded")]), count);
    assert_eq!(metrics.sum("weir_queue_rows", &[]), 0.0);
    assert_eq!(metrics.sum("weir_requests_total", &[("code", "ok")]), 24.0 - count);
}

#[tokio::test]
async fn callers_that_leave_take_their_rows_along() {
    let registry = Registry::new(&[("slow", fixture("slow"))]);
    registry.write("slow/model.toml", "[batching]\nmax_batch_size = 1\n");
    let weir = Arc::new(Weir::serve(registry, &[]).await);
    let before = weir.client().statistics("slow").await.execution_count;
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let weir = Arc::clone(&weir);
        callers.spawn(async move { weir.client().ask(Way::ALL[caller % 4], &slow(4)).await });
    }
    until("rows that wait", PATIENCE, async || (weir.metrics().await.sum("weir_queue_rows", &[]) > 64.0).then_some(()))
        .await;
    callers.shutdown().await;
    until("an idle server", PATIENCE, async || {
        let metrics = weir.metrics().await;
        let idle = ["weir_queue_rows", "weir_inflight_requests"].iter().all(|name| metrics.sum(name, &[]) == 0.0);
        idle.then_some(())
    })
    .await;
    let metrics = weir.metrics().await;
    let left = metrics.sum("weir_requests_total", &[("code", "cancelled")]);
    assert!(left > 16.0, "{left} cancelled");
    let ran = weir.client().statistics("slow").await.execution_count - before;
    // Each is four batches of one row.
    assert!(ran <= 192, "{ran} of 256 batches were run although nobody waited for most of them");
}
