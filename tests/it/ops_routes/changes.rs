//! Changes that are made: in force when they are answered, one at a time, taken back, and recorded.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CHECKOUT, Operator, asked, gateway, split};
use crate::{
    client::Http,
    harness::{PATIENCE, until},
};

#[tokio::test]
async fn a_route_is_made_moved_taken_back_and_removed() {
    let server = gateway(None, &[]).await;
    let (mut operator, mut http) = (Operator::of(&server), Http::new(server.http));
    let body = split(90.0, 10.0).to_string();
    let headers = [("if-none-match", "*"), ("x-weir-why", "first look")];
    let (made, etag) = operator.change("PUT /ops/routes/checkout", &headers, &body).await;
    let want = json!({"route": "checkout", "revision": 1, "weights": {"control": 90, "candidate": 10}, "moved": 0.0,
                      "loads": [], "unloads": []});
    assert_eq!((made, etag.as_deref()), (want, Some("\"1\"")));
    assert_eq!(asked(&mut http, "u17").await.1, 1, "in force at once");

    let weights = "PATCH /ops/routes/checkout/weights";
    let (moved, etag) = operator.change(weights, &[], r#"{"control":80,"candidate":20,"why":"errors are down"}"#).await;
    assert_eq!((&moved["moved"], &moved["revision"], etag.as_deref()), (&json!(0.1), &json!(2), Some("\"2\"")));
    assert_eq!(asked(&mut http, "u17").await.1, 2);
    let (_, etag) = operator.change(weights, &[("if-match", "\"2\"")], r#"{"weights":{"control":0}}"#).await;
    assert_eq!(etag.as_deref(), Some("\"3\""));
    for key in ["u1", "u2", "u3"] {
        assert_eq!(asked(&mut http, key).await, ("candidate".to_owned(), 3));
    }

    let back = "POST /ops/routes/checkout/rollback";
    let (back, etag) = operator.change(back, &[("if-match", "*")], r#"{"to":2,"why":"too far"}"#).await;
    assert_eq!((&back["weights"], etag.as_deref()), (&json!({"control": 80, "candidate": 20}), Some("\"4\"")));
    let (gone, etag) =
        operator.change("DELETE /ops/routes/checkout", &[("if-match", "\"4\"")], r#"{"why":"done"}"#).await;
    assert_eq!((&gone["route"], etag), (&json!("checkout"), None));
    assert_eq!(operator.send("GET /ops/routes/checkout", &[], "").await.status, 404);
    assert_eq!(http.get("/v2/models/checkout").await.status, 404);
    assert!(operator.get("/ops/routes").await["routes"].as_array().unwrap().is_empty());

    let history = operator.get("/ops/routes/checkout/history").await;
    let seen: Vec<_> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["revision"].as_u64().unwrap(), entry["why"].as_str().unwrap(), entry["from"].as_u64().unwrap())
        })
        .collect();
    let want = [(5, "done", 4), (4, "too far", 2), (3, "", 2), (2, "errors are down", 1), (1, "first look", 0)];
    assert_eq!(seen, want);
    assert!(history["revisions"].as_array().unwrap().iter().all(|entry| entry["who"] == "local"));
    let reply = operator.send("GET /ops/routes/checkout/history/1", &[], "").await;
    assert_eq!(
        (reply.header("etag"), reply.header("content-type")),
        (Some("\"1\""), Some("text/plain; charset=utf-8"))
    );
    assert!(reply.body.starts_with(b"kind = \"split\"\n"), "{reply:?}");

    let (_, etag) = operator.change("POST /ops/routes/checkout/rollback", &[], r#"{"to":1}"#).await;
    assert_eq!(etag.as_deref(), Some("\"6\""), "numbers are not used twice");
    assert_eq!(asked(&mut http, "u17").await.1, 6);
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn of_two_writers_with_one_tag_one_wins() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let (mut one, mut other) = (Operator::of(&server), Operator::of(&server));
    let mut tag = "\"1\"".to_owned();
    for round in 0..50 {
        let weights = "PATCH /ops/routes/checkout/weights";
        let body = |who: &str| json!({"control": round + 1, "candidate": 7, "why": who}).to_string();
        let headers = [("if-match", tag.as_str())];
        let (bodies, replies) = ((body("one"), body("other")), ());
        let replies =
            (replies, tokio::join!(one.send(weights, &headers, &bodies.0), other.send(weights, &headers, &bodies.1))).1;
        let statuses = BTreeSet::from([replies.0.status.as_u16(), replies.1.status.as_u16()]);
        assert_eq!(statuses, BTreeSet::from([200, 412]), "{replies:?}");
        let (winner, loser, who) =
            if replies.0.status == 200 { (replies.0, replies.1, "one") } else { (replies.1, replies.0, "other") };
        assert_eq!(winner.header("etag"), loser.header("etag"), "the loser is told the live revision");
        tag = winner.header("etag").unwrap().to_owned();
        assert_eq!(one.get("/ops/routes/checkout").await["why"], who);
    }
    assert_eq!(tag, "\"51\"");
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let mut operator = Operator::of(&server);
    let before = operator.get("/ops/routes/checkout").await;
    let path = "/ops/routes/checkout";
    let at = [("if-match", "\"1\"")];
    let lonely = json!({"kind": "split", "variant": [{"name": "only", "model": "fraud", "version": 2, "weight": 1}]});
    let broken = json!({"kind": "split", "variant": [{"name": "only", "model": "nobody", "weight": 1}]});
    for (line, body, moved, problems) in [
        (format!("PATCH {path}/weights?dry_run=true"), r#"{"control":80,"candidate":20}"#.to_owned(), Some(0.1), 0),
        (format!("PATCH {path}/weights?dry_run=1"), r#"{"nobody":1}"#.to_owned(), None, 1),
        (format!("PUT {path}?dry_run"), lonely.to_string(), Some(1.0), 0),
        (format!("PUT {path}?dry_run=true"), broken.to_string(), None, 1),
        (format!("POST {path}/rollback?dry_run=true"), r#"{"to":1}"#.to_owned(), Some(0.0), 0),
        (format!("DELETE {path}?dry_run=true"), String::new(), None, 0),
    ] {
        let reply = operator.send(&line, &at, &body).await;
        let told = reply.json();
        assert_eq!((reply.status.as_u16(), reply.header("etag")), (200, None), "{line} {told}");
        assert_eq!((&told["dry_run"], &told["revision"]), (&json!(true), &json!(2)), "{line} {told}");
        assert_eq!(told["problems"].as_array().unwrap().len(), problems, "{line} {told}");
        assert!(moved.is_none_or(|moved| told["moved"] == moved), "{line} {told}");
    }
    assert_eq!(operator.get("/ops/routes/checkout").await, before);
    let text = std::fs::read_to_string(server.registry.path().join("checkout/route.toml")).unwrap();
    assert_eq!(text, CHECKOUT);
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_change_of_weights_keeps_the_comments() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let mut operator = Operator::of(&server);
    operator.change("PATCH /ops/routes/checkout/weights", &[], r#"{"control":80}"#).await;
    let text = std::fs::read_to_string(server.registry.path().join("checkout/route.toml")).unwrap();
    assert_eq!(text, CHECKOUT.replace("weight = 90 ", "weight = 80 "));
    assert_eq!(operator.get("/ops/routes/checkout").await["text"], text);

    let edited = text.replace("weight = 80 ", "weight = 70 ");
    server.registry.write("checkout/route.toml", &edited);
    let seen: Value = until("the edit is a revision", PATIENCE, async || {
        let seen = operator.get("/ops/routes/checkout").await;
        (seen["revision"] == 3).then_some(seen)
    })
    .await;
    assert_eq!((&seen["who"], &seen["weights"]["control"]), (&json!("file"), &json!(70)));
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn the_record_has_every_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(file("tokens"), "ann:first\nbob:second\n").unwrap();
    let flags = ["--ops-token-file", &file("tokens"), "--log-format", "json", "--ops-audit-file", &file("audit")];
    let server = gateway(Some(CHECKOUT), &flags).await;
    let mut operator = Operator::of(&server);
    let weights = "PATCH /ops/routes/checkout/weights";
    let (ann, bob) = (("authorization", "Bearer first"), ("authorization", "Bearer bob:second"));
    operator.change(weights, &[ann], r#"{"control":80,"why":"errors are down"}"#).await;
    operator.change("POST /ops/routes/checkout/rollback", &[bob], r#"{"to":1}"#).await;
    for (headers, body, status) in [
        (&[][..], "", 401),
        (&[("authorization", "Bearer guess")], "", 401),
        (&[ann, ("if-match", "\"1\"")], r#"{"control":1}"#, 412),
        (&[ann], r#"{"nobody":1,"why":"a slip"}"#, 400),
    ] {
        assert_eq!(operator.send(weights, headers, body).await.status, status);
    }
    let dry = format!("{weights}?dry_run=true");
    assert_eq!(operator.send(&dry, &[ann, ("if-match", "\"1\"")], r#"{"control":1}"#).await.status, 412);
    let audit = std::fs::read_to_string(file("audit")).unwrap();
    let audit: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = audit
        .iter()
        .map(|line| {
            let outcome = line["outcome"].as_str().unwrap().split([':', ' ']).next().unwrap().to_owned();
            (line["who"].as_str().unwrap(), line["action"].as_str().unwrap(), outcome, line["to"].as_u64())
        })
        .collect();
    let want = [
        ("file", "edit", "ok", Some(1)),
        ("ann", "weights", "ok", Some(2)),
        ("bob", "rollback", "ok", Some(3)),
        ("", "weights", "401", None),
        ("", "weights", "401", None),
        ("ann", "weights", "412", None),
        ("ann", "weights", "refused", None),
    ];
    assert_eq!(told, want.map(|(who, action, outcome, to)| (who, action, outcome.to_owned(), to)));
    assert_eq!((&audit[1]["why"], &audit[6]["why"]), (&json!("errors are down"), &json!("a slip")));
    let reply = operator.send("GET /ops/routes/checkout/history", &[ann], "").await.json();
    let who: Vec<_> = reply["revisions"].as_array().unwrap().iter().map(|entry| entry["who"].clone()).collect();
    assert_eq!(who, ["bob", "ann", "file"]);

    let lines = until("the record is written", PATIENCE, async || {
        let lines: Vec<Value> = server.logs().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let audit: Vec<Value> = lines.into_iter().filter(|line| line["target"] == "weir::audit").collect();
        (audit.iter().filter(|line| line["status"].is_number()).count() == 4).then_some(audit)
    })
    .await;
    let made: Vec<_> = lines.iter().filter(|line| line["to"].is_number()).collect();
    let fields =
        |line: &Value| [&line["who"], &line["why"], &line["from"], &line["to"], &line["action"]].map(Clone::clone);
    let want = [json!("ann"), json!("errors are down"), json!(1), json!(2), json!("weights")];
    assert!(made.iter().any(|line| fields(line) == want), "{made:?}");
    let want = [json!("bob"), json!(""), json!(2), json!(3), json!("rollback")];
    assert!(made.iter().any(|line| fields(line) == want), "{made:?}");
    let refused: Vec<_> = lines.iter().filter(|line| line["status"].is_number()).collect();
    let who: Vec<_> = refused.iter().map(|line| (line["who"].clone(), line["status"].as_u64().unwrap())).collect();
    assert_eq!(who, [(json!(""), 401), (json!(""), 401), (json!("ann"), 412), (json!("ann"), 400)]);
    assert!(refused.iter().all(|line| line["path"] == "/ops/routes/checkout/weights" && line["method"] == "PATCH"));
    assert!(!server.logs().contains("guess") && !server.logs().contains("second"), "no token is logged");
    assert!(server.stop().await.success());
}
