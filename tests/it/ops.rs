//! The ops listener over real sockets: what it shows, to whom, and what it keeps answering when it is protected.

use crate::{
    site::{Plan, Site},
    wire::{Reply, Wire},
};

async fn ask(site: &Site, method: &str, path: &str, headers: &str) -> Reply {
    let mut wire = Wire::connect(site.ops).await;
    wire.send(format!("{method} {path} HTTP/1.1\r\ncontent-length: 0\r\n{headers}\r\n")).await;
    wire.reply(method == "HEAD").await
}

#[tokio::test]
async fn metrics_and_health_need_nothing() {
    for plan in [
        Plan::default(),
        Plan { token: Some("s3cret".to_owned()), ..Plan::default() },
        Plan { readonly: true, ..Plan::default() },
    ] {
        let site = Site::open(plan);
        for host in ["", "host: evil.example\r\n"] {
            let metrics = ask(&site, "GET", "/metrics", host).await;
            assert_eq!(metrics.status, 200);
            assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            assert!(metrics.text().contains("# TYPE weir_"), "{}", metrics.text());
            assert_eq!(ask(&site, "GET", "/livez", host).await.text(), "{\"live\":true}");
            assert_eq!(ask(&site, "HEAD", "/v2/health/ready", host).await.status, 200);
        }
    }
}

#[tokio::test]
async fn every_other_question_meets_the_same_rule() {
    let site = Site::open(Plan { token: Some("s3cret".to_owned()), ..Plan::default() });
    let questions = [
        ("GET", "/ops/models"),
        ("HEAD", "/ops/models"),
        ("GET", "/ops/models/m"),
        ("GET", "/ops/models/%6d"),
        ("POST", "/ops/models/m/load"),
        ("POST", "/ops/models/m/unload"),
    ];
    for (method, path) in questions {
        for (headers, status) in [
            ("host: localhost\r\n", 401),
            ("host: localhost\r\nauthorization: Bearer guess\r\n", 401),
            ("host: evil.example\r\nauthorization: Bearer s3cret\r\n", 403),
            ("authorization: Bearer s3cret\r\n", 403),
        ] {
            let reply = ask(&site, method, path, headers).await;
            assert_eq!(reply.status, status, "{method} {path} {headers}: {}", reply.text());
            assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
            assert!(!reply.text().contains("s3cret"));
        }
    }
    let good = "host: localhost\r\nauthorization: Bearer s3cret\r\n";
    assert_eq!(ask(&site, "GET", "/ops/models", good).await.status, 200);
    let form = format!("{good}content-type: application/x-www-form-urlencoded\r\n");
    assert_eq!(ask(&site, "POST", "/ops/models/m/load", &form).await.status, 400);
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist() {
    let site = Site::open(Plan::default());
    let host = "host: 127.0.0.1\r\n";
    for path in ["/", "/v2", "/v2/models/m/infer", "/ops", "/ops/models/", "/ops/models/m/load/x", "/metrics/"] {
        assert_eq!(ask(&site, "GET", path, host).await.status, 404, "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/metrics", "get, head"),
        ("GET", "/ops/models/m/load", "post"),
        ("DELETE", "/ops/models/m", "get, head"),
    ] {
        let reply = ask(&site, method, path, host).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(ask(&site, "GET", "/ops/models/nobody", host).await.status, 404);
}

#[tokio::test]
async fn a_readonly_listener_shows_nothing_else() {
    let site = Site::open(Plan { readonly: true, ..Plan::default() });
    let reply = ask(&site, "GET", "/ops/models", "host: localhost\r\n").await;
    assert_eq!(reply.status, 403);
}

#[tokio::test]
async fn models_are_shown_looked_at_again_and_kept() {
    let site = Site::open(Plan::default());
    let json = "host: localhost\r\ncontent-type: application/json\r\n";
    let all: serde_json::Value = serde_json::from_slice(&ask(&site, "GET", "/ops/models", json).await.body).unwrap();
    assert_eq!((&all["started"], &all["problems"]), (&true.into(), &serde_json::json!([])));
    let version = &all["models"][0]["versions"][0];
    assert_eq!((&all["models"][0]["name"], &version["version"]), (&"echo".into(), &1.into()));
    assert_eq!((&version["state"], &version["engine"]), (&"READY".into(), &"fake".into()));
    assert_eq!(version["source"], "echo/1/model.onnx");
    assert_eq!(version["batching"]["merged"], true);
    let one: serde_json::Value =
        serde_json::from_slice(&ask(&site, "GET", "/ops/models/echo", json).await.body).unwrap();
    assert_eq!(one["versions"][0]["digest"], version["digest"]);

    assert_eq!(ask(&site, "POST", "/ops/models/echo/load", json).await.status, 202);
    assert_eq!(ask(&site, "POST", "/ops/models/nobody/load", json).await.status, 404);
    assert_eq!(ask(&site, "POST", "/ops/models/echo/unload", json).await.status, 409);

    let site = Site::open(Plan { explicit: true, ..Plan::default() });
    let ready = |site: &Site| site.gateway.index(true).len();
    assert_eq!(ready(&site), 0);
    assert_eq!(ask(&site, "POST", "/ops/models/echo/load", json).await.status, 202);
    site.until("echo answers", |site| ready(site) == 1).await;
    assert_eq!(ask(&site, "POST", "/ops/models/echo/unload", json).await.status, 200);
    assert_eq!(ready(&site), 0);
}

#[tokio::test]
async fn bodies_of_writes_are_bounded_in_size_and_time() {
    let site = Site::open(Plan { patience: std::time::Duration::from_millis(50), ..Plan::default() });
    let load = |length: usize| {
        format!(
            "POST /ops/models/echo/load HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    for (length, sent, status) in
        [(1 << 21, "", 413), (100, "{", 408), (3, "[1]", 400), (2, "{}", 202), (13, "{\"why\":\"due\"}", 202)]
    {
        let mut wire = Wire::connect(site.ops).await;
        wire.send(load(length)).await;
        wire.send(sent).await;
        let reply = wire.reply(false).await;
        assert_eq!(reply.status, status, "{length} {sent}: {}", reply.text());
        assert_eq!(reply.header("connection"), (status == 413 || status == 408).then_some("close"), "{length}");
    }
}
