//! The HTTP side of the data listeners over real sockets: routes, limits on bodies, compression, what is echoed.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use weir::{
    observe::names,
    shutdown::{self, Outcome, Phases},
};

use crate::{
    site::{Plan, Site},
    wire::{Reply, Wire},
};

const INFER: &str = "/v2/models/nobody/infer";

fn error(reply: &Reply) -> String {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply.header("content-type"), Some("application/json"));
    body["error"].as_str().unwrap().to_owned()
}

/// Read, understood, and nobody has the name.
fn is_unknown(reply: &Reply) -> bool {
    reply.status == 404 && error(reply) == "model 'nobody': not found"
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn health_has_bodies_that_clients_parse() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    for path in ["/v2/health/live", "/livez", "/healthz"] {
        let reply = wire.get(path).await;
        assert_eq!((reply.status, &*reply.text()), (200, "{\"live\":true}"), "{path}");
    }
    let ready = async |wire: &mut Wire, status, body| {
        for path in ["/v2/health/ready", "/readyz"] {
            let reply = wire.get(path).await;
            assert_eq!((reply.status, &*reply.text()), (status, body), "{path}");
        }
    };
    ready(&mut wire, 200, "{\"ready\":true}").await;
    let reply = wire.get("/v2/models/echo/ready").await;
    assert_eq!((reply.status, &*reply.text()), (200, "{\"name\":\"echo\",\"ready\":true}"));
    let reply = wire.get("/v2").await;
    let server: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &server["name"]), (200, &"weir".into()));
    site.gateway.start_draining();
    ready(&mut wire, 503, "{\"ready\":false}").await;
    assert_eq!(wire.get("/v2/models/echo/ready").await.status, 503);
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_head() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    for path in ["/", "/v2/", "/v1/models/m:predict", "/v2/models/a/b/c", "/v2/models/%zz", "/metrics", "/ops/models"] {
        let reply = wire.get(path).await;
        assert_eq!((reply.status, &*error(&reply)), (404, "Not Found"), "{path}");
    }
    for (method, path, allow) in [
        ("GET", INFER, "post"),
        ("DELETE", "/v2", "get, head"),
        ("POST", "/v2/health/live", "get, head"),
        ("PUT", "/v2/logging", "get, head, post"),
        ("TRACE", "/v2", "get, head"),
    ] {
        let reply = wire.call(method, path, "", b"").await;
        assert_eq!((reply.status, &*error(&reply)), (405, "Method Not Allowed"), "{method} {path}");
        assert_eq!(reply.header("allow"), Some(allow));
    }
    let (get, head) = (wire.get("/v2").await, wire.call("HEAD", "/v2", "", b"").await);
    assert_eq!((head.status, &head.body[..]), (200, &b""[..]));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(wire.get("/livez").await.status, 200, "the connection is still in step");
}

#[tokio::test]
async fn unknown_models_and_bad_versions() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    for path in ["", "/ready", "/config", "/stats", "/versions/1", "/versions/stable/ready"] {
        let reply = wire.get(&format!("/v2/models/nobody{path}")).await;
        assert!(is_unknown(&reply), "{path}: {}", reply.text());
    }
    let body = br#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}"#;
    let reply = wire.call("POST", INFER, "", body).await;
    assert!(is_unknown(&reply), "{}", reply.text());
    let reply = wire.call("POST", "/v2/models/nobody/versions/1e3/infer", "", body).await;
    assert_eq!(reply.status, 400);
    assert_eq!(error(&reply), "version: expected a positive integer or a label, got '1e3'");
    let reply = wire.call("POST", INFER, "request-timeout-ms: soon\r\n", body).await;
    assert_eq!(error(&reply), "request-timeout-ms: expected a number of milliseconds, got 'soon'");
}

#[tokio::test]
async fn settings_are_shown_and_changed_elsewhere() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    for path in ["/v2/logging", "/v2/trace/setting", "/v2/models/m/trace/setting"] {
        assert_eq!(wire.get(path).await.status, 200, "{path}");
        let reply = wire.call("POST", path, "", b"{}").await;
        assert_eq!(
            (reply.status, &*error(&reply)),
            (503, "settings: given when the server starts, as --log-level and --log-format"),
            "{path}"
        );
        assert!(reply.header("retry-after").is_some());
    }
    for (method, path) in [
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
        ("POST", "/v2/systemsharedmemory/unregister"),
    ] {
        assert_eq!(wire.call(method, path, "", b"").await.status, 501, "{path}");
    }
    let reply = wire.call("POST", "/v2/repository/index", "", b"").await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("\"echo\""), "{}", reply.text());
    for verb in ["load", "unload"] {
        let reply = wire.call("POST", &format!("/v2/repository/models/m/{verb}"), "", b"").await;
        assert_eq!(reply.status, 503);
        assert_eq!(error(&reply), "explicit model load / unload is not allowed if polling is enabled");
    }
}

#[tokio::test]
async fn files_in_a_load_are_never_taken() {
    let site = Site::open(Plan { explicit: true, ..Plan::default() });
    let mut wire = site.wire().await;
    for parameter in ["file:1/model.onnx", "config"] {
        let body = format!("{{\"parameters\":{{\"{parameter}\":\"AAAA\"}}}}");
        let reply = wire.call("POST", "/v2/repository/models/m/load", "", body.as_bytes()).await;
        assert_eq!(reply.status, 501, "{parameter}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let site = Site::open(Plan { max_body: 1000, ..Plan::default() });
    let mut wire = site.wire().await;
    wire.send(format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: 2147483648\r\n\r\n0123456789")).await;
    let reply = wire.reply(false).await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert_eq!(error(&reply), "body: expected at most 1000 bytes, got more");
    assert_eq!(wire.end().await, b"");

    let mut expecting = site.wire().await;
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n");
    expecting.send(head).await;
    assert_eq!(expecting.reply(false).await.status, 413, "without asking for the body");
}

#[tokio::test]
async fn endless_and_splintered_chunks_end() {
    let site = Site::open(Plan { max_body: 100_000, ..Plan::default() });
    let chunked = format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut endless = site.wire().await;
    endless.send(&chunked).await;
    endless.send(format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(101)).await;
    assert_eq!(endless.reply(false).await.status, 413);

    let mut splinters = site.wire().await;
    splinters.send(&chunked).await;
    splinters.send("1\r\nx\r\n".repeat(50_000)).await;
    let reply = splinters.reply(false).await;
    assert_eq!(reply.status, 400);
    assert!(error(&reply).ends_with("pieces"), "{}", error(&reply));

    let mut damaged = site.wire().await;
    damaged.send(&chunked).await;
    damaged.send("zz\r\nx\r\n").await;
    assert_eq!(damaged.reply(false).await.status, 400);
    assert_eq!(site.budget.used(), 0);
}

#[tokio::test]
async fn compressed_bodies_meet_the_limit_when_they_unfold() {
    let site = Site::open(Plan { max_body: 100_000, ..Plan::default() });
    let body = br#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}"#;
    for (coding, sent) in [("gzip", gzip(body)), ("X-GZip", gzip(body)), ("identity", body.to_vec())] {
        let reply = site.wire().await.call("POST", INFER, &format!("content-encoding: {coding}\r\n"), &sent).await;
        assert!(is_unknown(&reply), "{coding}: {}", reply.text());
    }
    for (coding, sent, status) in [
        ("gzip", gzip(&vec![b' '; 10 << 20]), 413),
        ("gzip", body.to_vec(), 400),
        ("gzip", gzip(body)[..30].to_vec(), 400),
        ("br", body.to_vec(), 415),
        ("gzip, gzip", gzip(&gzip(body)), 415),
    ] {
        let mut wire = site.wire().await;
        let reply = wire.call("POST", INFER, &format!("content-encoding: {coding}\r\n"), &sent).await;
        assert_eq!(reply.status, status, "{coding}: {}", reply.text());
        assert_eq!(reply.header("accept-encoding").is_some(), status == 415);
    }
    assert_eq!(site.budget.used(), 0);
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_accept_it() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    let small = wire.call("GET", "/v2", "accept-encoding: gzip\r\n", b"").await;
    assert_eq!(small.header("content-encoding"), None, "not worth it");
    let metrics = Wire::connect(site.ops).await.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(names::ALL.iter().any(|family| metrics.text().contains(family.name)));
}

#[tokio::test]
async fn a_slow_body_times_out_and_a_steady_one_does_not() {
    let site = Site::open(Plan { patience: Duration::from_millis(200), ..Plan::default() });
    let head = |length| format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n");
    let mut slow = site.wire().await;
    slow.send(head(100)).await;
    slow.send("{").await;
    let reply = slow.reply(false).await;
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));

    let mut steady = site.wire().await;
    steady.send(head(20_000)).await;
    for _ in 0..10 {
        steady.send(" ".repeat(2000)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(steady.reply(false).await.status, 400, "it is blank, but it was taken");
}

#[tokio::test]
async fn bodies_in_flight_share_one_budget() {
    let site = Site::open(Plan { max_inflight: 5000, ..Plan::default() });
    let mut first = site.wire().await;
    first.send(format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: 4001\r\n\r\n")).await;
    first.send(" ".repeat(4000)).await;
    while site.budget.used() < 4000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reply = site.wire().await.call("POST", INFER, "", &[b' '; 2000]).await;
    assert_eq!(reply.status, 429);
    assert_eq!((reply.header("retry-after"), reply.header("retry-after-ms")), (Some("1"), Some("1000")));
    first.send(" ").await;
    assert_eq!(first.reply(false).await.status, 400);
    assert_eq!(site.wire().await.call("POST", INFER, "", &[b' '; 2000]).await.status, 400);
}

#[tokio::test]
async fn ids_and_trace_context_are_repeated() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = format!("x-request-id: abc-1\r\ntraceparent: {parent}\r\n");
    for path in ["/v2", "/nowhere", "/v2/models/nobody"] {
        let reply = wire.call("GET", path, &headers, b"").await;
        assert_eq!((reply.header("x-request-id"), reply.header("traceparent")), (Some("abc-1"), Some(parent)));
    }
    assert_eq!(wire.get("/v2").await.header("x-request-id"), None);
}

#[tokio::test]
async fn draining_turns_readiness_and_hangs_up_after_the_answer() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    assert_eq!(wire.get("/v2").await.status, 200);
    let (gateway, phases) = (site.gateway, Phases { notice: Duration::ZERO, drain: Duration::from_secs(10) });
    let outcome = shutdown::drain(site.server, phases, || gateway.start_draining(), std::future::pending()).await;
    assert_eq!(outcome, Outcome::Clean);
    assert_eq!(wire.end().await, b"");
    assert!(!gateway.ready());
}
