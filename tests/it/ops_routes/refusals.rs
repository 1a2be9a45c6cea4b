//! Everything that is refused: status, headers and text, and that the old revision goes on serving.

use serde_json::json;

use super::{CHECKOUT, Operator, asked, gateway, split};
use crate::{client::Http, wire::Wire};

const PATH: &str = "/ops/routes/checkout";

#[tokio::test]
async fn every_refusal_and_the_old_revision_serves() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let mut operator = Operator::of(&server);
    let good = split(1.0, 1.0).to_string();
    let live = Some("\"1\"");
    let at = |tag| ("if-match", tag);
    for (line, headers, body, status, etag, part) in [
        // Conditions.
        ("PUT", &[][..], &*good, 428, None, "if-match: expected the revision to replace"),
        ("DELETE", &[], "", 428, None, "if-match: expected the revision to remove"),
        ("PUT", &[at("\"2\"")], &good, 412, live, "route 'checkout': at revision 1, which if-match does not name"),
        ("PUT", &[at("W/\"1\"")], &good, 412, live, "at revision 1"),
        ("PUT", &[at("\"x\", \"2\"")], &good, 412, live, "at revision 1"),
        ("PUT", &[("if-none-match", "*")], &good, 412, live, "is there already"),
        ("PUT", &[at("1")], &good, 400, None, "if-match: expected a revision in double quotes"),
        ("PUT", &[at("\"1")], &good, 400, None, "if-match: expected a revision"),
        ("PUT", &[at("")], &good, 400, None, "if-match: expected a revision"),
        ("PUT", &[("if-none-match", "\"1\"")], &good, 400, None, "if-none-match: expected *"),
        ("PUT", &[at("\"1\""), ("if-none-match", "*")], &good, 400, None, "expected it without if-none-match"),
        ("PATCH /weights", &[at("\"2\"")], r#"{"control":1}"#, 412, live, "at revision 1"),
        ("PATCH /weights", &[("if-none-match", "*")], r#"{"control":1}"#, 400, None, "if-none-match"),
        ("POST /rollback", &[at("\"2\"")], r#"{"to":1}"#, 412, live, "at revision 1"),
        ("DELETE", &[at("\"2\"")], "", 412, live, "at revision 1"),
        // Bodies.
        ("PUT", &[at("\"1\"")], "", 400, None, "EOF while parsing"),
        ("PUT", &[at("\"1\"")], "[]", 400, None, "expected an object"),
        ("PUT", &[at("\"1\"")], "{\"kind\":\"split\",\"kind\":1}", 400, None, "key 'kind' is given twice"),
        ("PUT", &[at("\"1\"")], "{\"kind\":\"split\"}", 400, None, "variant"),
        ("PUT", &[at("\"1\"")], "\u{feff}{}", 400, None, "body: line 1, column 1"),
        ("PATCH /weights", &[], "{}", 400, None, "weights: expected at least one weight"),
        (
            "PATCH /weights",
            &[],
            r#"{"control":-1}"#,
            400,
            None,
            "control: expected a finite number, at least 0, got -1",
        ),
        ("PATCH /weights", &[], r#"{"control":1e999}"#, 400, None, "control: expected a finite number"),
        ("PATCH /weights", &[], r#"{"control":NaN}"#, 400, None, "expected value"),
        ("PATCH /weights", &[], r#"{"control":1,"control":2}"#, 400, None, "control: is given twice"),
        ("PATCH /weights", &[], r#"{"weights":{"control":1},"x":2}"#, 400, None, "x: unknown key"),
        ("PATCH /weights", &[], r#"{"nobody":1}"#, 400, None, "nobody"),
        ("PATCH /weights", &[], r#"{"control":0,"candidate":0}"#, 400, None, "sum"),
        ("POST /rollback", &[], r#"{"to":9}"#, 404, None, "route 'checkout': revision 9: not found"),
        ("POST /rollback", &[], r#"{"to":"1"}"#, 400, None, "to: expected the number of a revision"),
        ("POST /rollback", &[], r#"{"revision":1}"#, 400, None, "revision: unknown key"),
        // Queries, names, methods.
        ("PATCH /weights?dry_run=maybe", &[], r#"{"control":1}"#, 400, None, "query: dry_run: expected true or false"),
        ("PATCH /weights?dryrun=true", &[], r#"{"control":1}"#, 400, None, "query: expected dry_run"),
        ("GET /assignment", &[], "", 400, None, "query: key"),
        ("GET /history/0", &[], "", 400, None, "revision: expected a positive integer"),
        ("GET /history/2", &[], "", 404, None, "revision 2: not found"),
        ("GET /weights", &[], "", 405, None, "Method Not Allowed"),
        ("POST", &[], "{}", 405, None, "Method Not Allowed"),
        ("GET /nothing", &[], "", 404, None, "Not Found"),
    ] {
        let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
        let reply = operator.send(&format!("{method} {PATH}{rest}"), headers, body).await;
        let text = reply.json()["error"].as_str().unwrap().to_owned();
        let shown = format!("{line} {headers:?} {body:.60}: {text}");
        assert_eq!((reply.status.as_u16(), reply.header("etag")), (status, etag), "{shown}");
        assert!(text.contains(part) && text.len() <= 512, "{shown}");
    }
    // Told by its head alone: who goes on sending may find the connection closed before reading why.
    let mut large = Wire::connect(server.ops).await;
    let head = "content-type: application/json\r\ncontent-length: 1048577\r\n";
    large.send(format!("PATCH {PATH}/weights HTTP/1.1\r\nhost: localhost\r\n{head}\r\n")).await;
    let reply = large.reply(false).await;
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("body: expected at most 1048576 bytes"), "{}", reply.text());
    let (variant, revision) = asked(&mut Http::new(server.http), "u17").await;
    assert!(["control", "candidate"].contains(&&*variant) && revision == 1);
    assert_eq!(operator.get(&format!("{PATH}/history")).await["revisions"].as_array().unwrap().len(), 1);
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn methods_types_and_codings_are_named() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let (mut operator, mut http) = (Operator::of(&server), Http::new(server.ops));
    for (path, allow) in [
        ("/ops/routes", "GET, HEAD"),
        (PATH, "GET, HEAD, PUT, DELETE"),
        ("/ops/routes/checkout/weights", "PATCH"),
        ("/ops/routes/checkout/rollback", "POST"),
        ("/ops/routes/checkout/report", "GET, HEAD"),
    ] {
        let reply = operator.send(&format!("OPTIONS {path}"), &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, Some(allow)), "{path}");
    }
    let send = |headers: &'static [(&'static str, &'static str)]| (headers, r#"{"control":1}"#);
    for (sent, status) in [
        (send(&[]), 400),
        (send(&[("content-type", "text/plain")]), 400),
        (send(&[("content-type", "application/json"), ("content-encoding", "br")]), 415),
        (send(&[("content-type", "application/json; charset=utf-8")]), 200),
    ] {
        let reply = http.send("PATCH", "/ops/routes/checkout/weights", sent.0, sent.1).await.unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
    }
    let head = http.send("HEAD", PATH, &[], "").await.unwrap();
    assert_eq!((head.status.as_u16(), head.header("etag"), head.body.len()), (200, Some("\"2\""), 0));
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn what_other_routes_name_stays() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let mut operator = Operator::of(&server);
    let outer = json!({"kind": "split", "variant": [{"name": "all", "model": "checkout", "weight": 1}]}).to_string();
    operator.change("PUT /ops/routes/outer", &[("if-none-match", "*")], &outer).await;
    let reply = operator.send("DELETE /ops/routes/checkout", &[("if-match", "\"1\"")], "").await;
    assert_eq!(reply.status, 409, "{reply:?}");
    assert!(reply.json()["error"].as_str().unwrap().contains("is named by 'outer'"), "{reply:?}");
    let told = operator.send("DELETE /ops/routes/checkout?dry_run=true", &[("if-match", "\"1\"")], "").await.json();
    assert!(told["problems"][0].as_str().unwrap().contains("is named by 'outer'"), "{told}");
    let told = operator.send("GET /ops/routes/outer/assignment?key=u", &[], "").await.json();
    assert_eq!((&told["variant"], &told["sticky"]), (&json!("all"), &json!(false)));
    let circle = json!({"kind": "split", "variant": [{"name": "all", "model": "outer", "weight": 1}]}).to_string();
    let reply = operator.send("PUT /ops/routes/checkout", &[("if-match", "*")], &circle).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(!reply.json()["problems"].as_array().unwrap().is_empty());
    assert!(server.stop().await.success());
}
