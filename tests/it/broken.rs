//! Models that are broken, each in its own way, stand in the index as UNAVAILABLE with the reason; everything else serves, and
//! readiness says what it is asked to say.

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use weir::protocol::pb;

use crate::{
    array::Array,
    ask::{Ask, Way},
    client::{Http, channel},
    harness::{Registry, Weir, fixture, weir as command},
};

/// Broken models and words that their reason must have.
const BROKEN: [(&str, &str); 20] = [
    ("empty", "empty"),
    ("truncated", ""),
    ("text", ""),
    ("no-graph", "graph"),
    ("unknown-op", "FancyOp"),
    ("unknown-domain", "com.example"),
    ("shape-mismatch", ""),
    ("dangling-output", "nowhere"),
    ("dangling-input", "nowhere"),
    ("cycle", ""),
    ("negative-dim", "-4"),
    ("overflow-dim", "w"),
    ("overflow-product", "w"),
    ("data-mismatch", "w"),
    ("huge-constant", ""),
    ("huge-expand", ""),
    ("huge-tile", ""),
    ("external-escape", ""),
    ("external-absolute", ""),
    ("external-missing", "weights.bin"),
];

fn x(model: &str) -> Ask {
    Ask::new(model, vec![Array::f32("x", &[1, 4], &[1.0, 2.0, 3.0, 4.0])])
}

fn registry() -> Registry {
    let registry = Registry::new(&BROKEN.map(|(name, _)| (name, fixture(name))));
    registry.model("good", &fixture("identity-fp32"));
    registry.model("digits", "models/digits-linear");
    registry
}

#[tokio::test]
async fn broken_models_say_why_and_everything_else_serves() {
    let weir = Weir::serve(registry(), &[]).await;
    let mut client = weir.client();
    let mut wrong = Vec::new();
    for (name, words) in BROKEN {
        match client.state(name, "1").await {
            Some((state, reason)) => {
                let shown =
                    reason.len() > 10 && reason.len() <= 512 && reason.contains(words) && !reason.contains('\n');
                if state != "UNAVAILABLE" || !shown {
                    wrong.push(format!("{name}: {state} '{reason}' (want '{words}' in it)"));
                }
                let inside = weir.registry.path().to_str().unwrap();
                assert!(!reason.contains(inside), "{name} tells a path: {reason}");
            }
            None => wrong.push(format!("{name} is not in the index")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let index = client.index().await;
    let ready: Vec<_> =
        index.iter().filter(|entry| entry.state == "READY").map(|entry| (&*entry.name, &*entry.version)).collect();
    assert_eq!(ready, [("digits", "1"), ("digits", "2"), ("good", "1")]);
    // The same index over HTTP, and without what does not answer.
    let body = client.http.post("/v2/repository/index", "").await.json();
    assert_eq!(body.as_array().unwrap().len(), index.len());
    let body = client.http.post("/v2/repository/index", r#"{"ready":true}"#).await.json();
    assert_eq!(body.as_array().unwrap().len(), 3, "{body}");
    for way in Way::ALL {
        assert_eq!(client.answer(way, &x("good")).await.output("y").numbers(), [1.0, 2.0, 3.0, 4.0]);
    }
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_model_loads_total", &[("result", "failed")]), 20.0);
    assert_eq!(metrics.sum("weir_model_loads_total", &[("result", "ok")]), 3.0);
    assert!(weir.stop().await.success());
}

#[tokio::test]
async fn health_of_servers_and_models() {
    let weir = Weir::fixtures(&["identity-fp32", "unknown-op"], &[]).await;
    let mut http = Http::new(weir.http);
    for (path, status, body) in [
        ("/v2/health/live", 200, r#"{"live":true}"#),
        ("/healthz", 200, r#"{"live":true}"#),
        ("/livez", 200, r#"{"live":true}"#),
        ("/v2/health/ready", 200, r#"{"ready":true}"#),
        ("/readyz", 200, r#"{"ready":true}"#),
        ("/v2/models/identity-fp32/ready", 200, r#"{"name":"identity-fp32","ready":true}"#),
        ("/v2/models/identity-fp32/versions/1/ready", 200, r#"{"name":"identity-fp32","ready":true}"#),
        ("/v2/models/identity-fp32/versions/2/ready", 404, r#"{"error":"model 'identity-fp32' version 2: not found"}"#),
        ("/v2/models/unknown-op/ready", 503, r#"{"error":"model 'unknown-op': not ready"}"#),
        ("/v2/models/nobody/ready", 404, r#"{"error":"model 'nobody': not found"}"#),
    ] {
        let reply = http.get(path).await;
        assert_eq!((reply.status.as_u16(), &*String::from_utf8_lossy(&reply.body)), (status, body), "{path}");
    }
    let mut ops = Http::new(weir.ops);
    for path in ["/v2/health/live", "/healthz", "/livez", "/v2/health/ready", "/readyz"] {
        assert_eq!(ops.get(path).await.status, 200, "ops {path}");
    }
    let mut grpc = weir.client().grpc;
    for (name, ready) in [("identity-fp32", true), ("unknown-op", false), ("nobody", false)] {
        let request = pb::ModelReadyRequest { name: name.to_owned(), version: String::new() };
        assert_eq!(grpc.model_ready(request).await.unwrap().into_inner().ready, ready, "{name}");
    }
    let mut health = HealthClient::new(channel(weir.grpc));
    for (service, want) in [
        ("", Some(ServingStatus::Serving)),
        ("inference.GRPCInferenceService", Some(ServingStatus::Serving)),
        ("identity-fp32", Some(ServingStatus::Serving)),
        ("unknown-op", Some(ServingStatus::NotServing)),
        ("nobody", None),
    ] {
        let checked = health.check(HealthCheckRequest { service: service.to_owned() }).await;
        match (checked, want) {
            (Ok(answer), Some(want)) => assert_eq!(answer.into_inner().status(), want, "{service}"),
            (Err(status), None) => assert_eq!(status.code(), tonic::Code::NotFound),
            (checked, want) => panic!("{service}: {checked:?}, want {want:?}"),
        }
    }
    let watch = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut nobody = health.watch(watch("nobody")).await.unwrap().into_inner();
    assert_eq!(nobody.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
}

/// What `/v2/health/ready`, gRPC, gRPC health and `weir healthcheck` say; they agree.
async fn ready(weir: &Weir) -> bool {
    let status = Http::new(weir.http).get("/v2/health/ready").await.status.as_u16();
    let grpc = weir.client().grpc.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready;
    let mut health = HealthClient::new(channel(weir.grpc));
    let checked = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!((status, checked == ServingStatus::Serving), (if grpc { 200 } else { 503 }, grpc));
    assert_eq!(Http::new(weir.http).get("/v2/health/live").await.status, 200);
    let checked = command().args(["healthcheck", "--url", &format!("http://{}", weir.http)]).output().unwrap();
    assert_eq!(checked.status.code(), Some(if grpc { 0 } else { 1 }), "{checked:?}");
    grpc
}

#[tokio::test]
async fn readiness_counts_what_is_required() {
    let models = [("good", fixture("identity-fp32")), ("bad", fixture("unknown-op"))];
    for (required, flags, want) in [
        ("", &[][..], true),
        ("good", &[][..], true),
        ("bad", &[][..], false),
        ("", &["--strict-readiness"][..], false),
    ] {
        let registry = Registry::new(&models);
        if !required.is_empty() {
            registry.write(&format!("{required}/model.toml"), "required = true\n");
        }
        let weir = Weir::serve(registry, flags).await;
        assert_eq!(ready(&weir).await, want, "required '{required}', {flags:?}");
        // Whatever ready says, what can answer answers.
        weir.client().answer(Way::Json, &x("good")).await;
    }
    let weir = Weir::start(&models[..1], &["--strict-readiness"]).await;
    assert!(ready(&weir).await);
    let nothing: [(&str, String); 0] = [];
    assert!(ready(&Weir::start(&nothing, &[]).await).await, "an empty registry is ready");
}
