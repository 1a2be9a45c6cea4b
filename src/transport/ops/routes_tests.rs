//! The ops API of routes against a keeper that does what it is told.

#[path = "fake_keeper.rs"]
mod fake_keeper;

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use self::fake_keeper::{Fake, TOML, at_revision};
use super::*;
use crate::{
    spec::{parse_route_toml, route_to_toml},
    transport::middleware::Echo,
};

/// Status, entity tag and body of the answer to `METHOD path`.
async fn ask(keeper: &Fake, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, Option<String>, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    let path = parts.uri.path().to_owned();
    let asked = Asked::parse(&path).unwrap();
    let call = Call { asked: &asked, parts: &parts, who: "bob".into(), body: Bytes::copy_from_slice(body.as_bytes()) };
    let metrics = Metrics::new();
    let answer = answer(keeper, &metrics, call).await.unwrap_or_else(|refusal| refusal.answer(&mut Echo::default()));
    let tag = answer.headers().get(header::ETAG).map(|tag| tag.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let is_json = answer.headers()[header::CONTENT_TYPE] == "application/json";
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
    (status, tag, if is_json { serde_json::from_slice(&body).unwrap() } else { text() })
}

fn error(answer: &(u16, Option<String>, Value)) -> &str {
    answer.2["error"].as_str().unwrap()
}

fn tag(revision: u64) -> Option<String> {
    Some(format!("\"{revision}\""))
}

#[tokio::test]
async fn routes_are_shown() {
    let keeper = Fake::at(12);
    let (status, etag, one) = ask(&keeper, "GET /ops/routes/checkout", &[], "").await;
    assert_eq!((status, etag), (200, tag(12)));
    let mut want = json!({
        "name": "checkout", "kind": "split", "revision": 12, "at": "2025-11-20T09:30:00.250Z", "who": "ann",
        "why": "first look", "problems": [], "writable": true, "weights": {"control": 90, "candidate": 10},
        "route": {"kind": "split", "key": ["parameter:user_id"], "variant": [
            {"name": "control", "model": "fraud", "version": "1", "weight": 90},
            {"name": "candidate", "model": "fraud", "version": "2", "weight": 10}]},
        "text": TOML,
    });
    assert_eq!(one, want);
    want.as_object_mut().unwrap().remove("text");
    assert_eq!(ask(&keeper, "GET /ops/routes", &[], "").await, (200, None, json!({ "routes": [want] })));

    let missing = ask(&keeper, "GET /ops/routes/nobody", &[], "").await;
    assert_eq!((missing.0, error(&missing)), (404, "route 'nobody': not found"));
    keeper.state.lock().unwrap().as_mut().unwrap().live = None;
    let (status, etag, broken) = ask(&keeper, "GET /ops/routes/checkout", &[], "").await;
    assert_eq!((status, etag, &broken["revision"], &broken["weights"]), (200, None, &Value::Null, &json!({})));
}

#[tokio::test]
async fn weights_keep_the_order_of_the_file() {
    let body = views::json(&views::route(&at_revision(3), true)).unwrap();
    assert!(body.contains(r#""weights":{"control":90,"candidate":10}"#), "{body}");
}

#[tokio::test]
async fn revisions_are_shown_from_the_newest() {
    let keeper = Fake::at(12);
    let (status, _, history) = ask(&keeper, "GET /ops/routes/checkout/history", &[], "").await;
    let entry = |revision: u64, from: u64| json!({"revision": revision, "at": "2025-11-20T09:30:00.250Z", "who": "ann", "why": "first look", "from": from});
    assert_eq!((status, history), (200, json!({"route": "checkout", "revisions": [entry(12, 11), entry(1, 0)]})));
    let (status, etag, text) = ask(&keeper, "GET /ops/routes/checkout/history/1", &[], "").await;
    assert_eq!((status, etag, text), (200, tag(1), TOML.into()));
    for (path, want, text) in [
        ("checkout/history/7", 404, "route 'checkout': no revision 7"),
        ("nobody/history/1", 404, "route 'nobody': not found"),
        ("checkout/history/0", 400, "revision: expected a positive integer, got '0'"),
        ("checkout/history/+1", 400, "revision: expected a positive integer, got '+1'"),
        (
            "checkout/history/99999999999999999999",
            400,
            "revision: expected a positive integer, got '99999999999999999999'",
        ),
    ] {
        let answer = ask(&keeper, &format!("GET /ops/routes/{path}"), &[], "").await;
        assert_eq!((answer.0, error(&answer)), (want, text));
    }
}

#[tokio::test]
async fn keys_are_assigned_as_requests_are() {
    let keeper = Fake::at(12);
    let assigner = Assigner::new("checkout", [("control", 90.0), ("candidate", 10.0)].into_iter());
    for (asked, key) in [("u17", "u17"), ("u+1%2B%C3%A9", "u 1+é"), ("", "")] {
        let (status, etag, got) =
            ask(&keeper, &format!("GET /ops/routes/checkout/assignment?key={asked}"), &[], "").await;
        let (at, u) = assigner.assign(key.as_bytes());
        let variant = ["control", "candidate"][at];
        assert_eq!((status, etag), (200, tag(12)));
        assert_eq!(got, json!({"key": key, "variant": variant, "u": u, "revision": 12, "sticky": true}));
    }
    for (query, text) in [
        ("", "query: key: expected ?key=…"),
        ("?kay=u17", "query: expected key, got 'kay'"),
        ("?key=a&key=b", "query: 'key' is given twice"),
        ("?key=%ff", "query: key: expected percent-encoded UTF-8"),
    ] {
        let answer = ask(&keeper, &format!("GET /ops/routes/checkout/assignment{query}"), &[], "").await;
        assert_eq!((answer.0, error(&answer)), (400, text));
    }
    let cascade = "kind = \"cascade\"\n[[stage]]\nmodel = \"a\"\naccept = { output = \"p\", measure = \"max_prob\", \
                   at_least = 0.9 }\n[[stage]]\nmodel = \"b\"\n";
    let spec = Arc::new(parse_route_toml(cascade).unwrap());
    keeper.state.lock().unwrap().as_mut().unwrap().live.as_mut().unwrap().spec = spec;
    let answer = ask(&keeper, "GET /ops/routes/checkout/assignment?key=u17", &[], "").await;
    assert_eq!((answer.0, error(&answer)), (409, "route 'checkout': expected a split, got cascade"));
    keeper.state.lock().unwrap().as_mut().unwrap().live = None;
    let answer = ask(&keeper, "GET /ops/routes/checkout/assignment?key=u17", &[], "").await;
    assert_eq!((answer.0, error(&answer)), (409, "route 'checkout': no revision serves"));
}

#[tokio::test]
async fn weights_are_changed() {
    let keeper = Fake::at(12);
    let body = r#"{"control":80,"candidate":20,"why":"all well"}"#;
    let (status, etag, got) = ask(&keeper, "PATCH /ops/routes/checkout/weights", &[("if-match", "\"12\"")], body).await;
    assert_eq!((status, etag), (200, tag(13)));
    let want = json!({"route": "checkout", "revision": 13, "weights": {"control": 80, "candidate": 20}, "moved": 0.1,
                      "loads": ["fraud/3"], "unloads": []});
    assert_eq!(got, want);
    let asked = keeper.asked();
    assert_eq!(asked.edit, Edit::Weights(vec![("control".into(), 80.0), ("candidate".into(), 20.0)]));
    assert_eq!(
        (asked.expect, asked.author),
        (Expect::Revision(12), Author { who: "bob".into(), why: "all well".into() })
    );

    let headers = [("x-weir-why", "naïve")];
    let (status, ..) = ask(&keeper, "PATCH /ops/routes/checkout/weights", &headers, r#"{"control":1}"#).await;
    assert_eq!((status, keeper.asked().expect, &*keeper.asked().author.why), (200, Expect::Any, "naïve"));
    ask(&keeper, "PATCH /ops/routes/checkout/weights", &headers, r#"{"control":1,"why":"body"}"#).await;
    assert_eq!(&*keeper.asked().author.why, "body");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_has_no_tag() {
    let keeper = Fake::at(12);
    let path = "PATCH /ops/routes/checkout/weights?dry_run=true";
    let (status, etag, got) = ask(&keeper, path, &[], r#"{"control":80}"#).await;
    assert_eq!((status, etag, keeper.live()), (200, None, Some(12)));
    assert_eq!((&got["dry_run"], &got["problems"], &got["revision"]), (&json!(true), &json!([]), &json!(13)));
    assert!(keeper.asked().dry_run);
    for (query, text) in [
        ("dry_run=maybe", "query: dry_run: expected true or false, got 'maybe'"),
        ("dryrun=true", "query: expected dry_run, got 'dryrun'"),
    ] {
        let answer =
            ask(&keeper, &format!("PATCH /ops/routes/checkout/weights?{query}"), &[], r#"{"control":1}"#).await;
        assert_eq!((answer.0, error(&answer)), (400, text));
    }
    assert_eq!(keeper.asked.lock().unwrap().len(), 1);
}

fn route() -> String {
    let mut route = crate::spec::route_to_json(&parse_route_toml(TOML).unwrap());
    route["why"] = "new".into();
    route.to_string()
}

#[tokio::test]
async fn routes_are_put_under_a_condition() {
    let path = "PUT /ops/routes/checkout";
    let route = route();
    let none: [(&str, &str); 0] = [];
    let at = |tag: &'static str| [("if-match", tag)];
    let absent = [("if-none-match", "*")];
    for (keeper, headers, want, etag, expect) in [
        (Fake::at(12), &none[..], 428, None, None),
        (Fake::at(12), &at("\"12\""), 200, tag(13), Some(Expect::Revision(12))),
        (Fake::at(12), &at("\"11\", \"12\""), 200, tag(13), Some(Expect::Revision(12))),
        (Fake::at(12), &at("*"), 200, tag(13), Some(Expect::Revision(12))),
        (Fake::at(12), &at("\"11\""), 412, tag(12), None),
        (Fake::at(12), &at("W/\"12\""), 412, tag(12), None),
        (Fake::at(12), &at("\"abc\""), 412, tag(12), None),
        (Fake::at(12), &at("12"), 400, None, None),
        (Fake::at(12), &at(""), 400, None, None),
        (Fake::at(12), &absent, 412, tag(12), Some(Expect::Absent)),
        (Fake::at(12), &[("if-none-match", "\"12\"")], 400, None, None),
        (Fake::empty(), &absent, 200, tag(1), Some(Expect::Absent)),
        (Fake::empty(), &at("*"), 412, None, None),
        (Fake::empty(), &at("\"1\""), 412, None, None),
    ] {
        let (status, got, body) = ask(&keeper, path, headers, &route).await;
        assert_eq!((status, got), (want, etag), "{headers:?} {body}");
        let asked = keeper.asked.lock().unwrap().last().map(|change| change.expect);
        assert_eq!(asked, expect, "{headers:?}");
    }
    let keeper = Fake::empty();
    ask(&keeper, path, &absent, &route).await;
    let Edit::Put(spec) = keeper.asked().edit else { panic!("not put") };
    assert_eq!(route_to_toml(&spec), route_to_toml(&parse_route_toml(TOML).unwrap()));
    assert_eq!(&*keeper.asked().author.why, "new");
}

#[tokio::test]
async fn every_problem_is_told_at_once() {
    let keeper = Fake::at(12);
    let body = r#"{"kind":"split","variant":[{"name":"a","model":"m","weight":-1}],"why":7,"kay":1}"#;
    let (status, _, got) = ask(&keeper, "PUT /ops/routes/checkout", &[("if-match", "\"12\"")], body).await;
    let problems: Vec<_> = got["problems"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert_eq!((status, problems.len()), (400, 3), "{got}");
    for part in ["body: why: expected a text", "body: kay: unknown key", "variant[0].weight: expected a weight"] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {got}");
    }
    assert!(got["error"].as_str().unwrap().len() <= 512);
    assert!(keeper.asked.lock().unwrap().is_empty());

    let refused = vec!["route.toml: variant[0].model: model 'nobody': not found".to_owned(), "x".repeat(600)];
    *keeper.refuse.lock().unwrap() = Some(ChangeError::Refused(refused.clone()));
    let (status, _, got) = ask(&keeper, "PATCH /ops/routes/checkout/weights", &[], r#"{"a":1}"#).await;
    assert_eq!((status, &got["problems"]), (400, &json!(refused)));
    assert_eq!(got["error"].as_str().unwrap().len(), 512);
}

#[tokio::test]
async fn routes_are_deleted_and_rolled_back() {
    let at = [("if-match", "\"12\"")];
    let keeper = Fake::at(12);
    let answer = ask(&keeper, "DELETE /ops/routes/checkout", &[], "").await;
    let text = "if-match: expected the revision to remove, as in If-Match: \"12\"";
    assert_eq!((answer.0, error(&answer)), (428, text));
    assert_eq!(ask(&keeper, "DELETE /ops/routes/checkout", &[("if-none-match", "*")], "").await.0, 400);
    let (status, etag, got) = ask(&keeper, "DELETE /ops/routes/checkout", &at, r#"{"why":"old"}"#).await;
    assert_eq!((status, etag, &got["revision"]), (200, None, &json!(13)));
    assert_eq!((keeper.asked().edit, &*keeper.asked().author.why), (Edit::Delete, "old"));
    for line in ["DELETE /ops/routes/checkout", "PATCH /ops/routes/checkout/weights"] {
        let answer = ask(&keeper, line, &at, r#"{"why":"x"}"#).await;
        let want = if line.starts_with("PATCH") { 400 } else { 404 };
        assert_eq!(answer.0, want, "{line}");
    }

    let (status, etag, _) = ask(&keeper, "POST /ops/routes/checkout/rollback", &[], r#"{"to":1,"why":"worse"}"#).await;
    assert_eq!((status, etag), (200, tag(1)), "a route that is gone comes back");
    assert_eq!((keeper.asked().edit, keeper.asked().expect), (Edit::Rollback(1), Expect::Any));
    let stale = ask(&keeper, "POST /ops/routes/checkout/rollback", &at, r#"{"to":1}"#).await;
    assert_eq!((stale.0, stale.1), (412, tag(1)));
    *keeper.refuse.lock().unwrap() = Some(ChangeError::Conflict("route 'checkout': named by 'outer'".to_owned()));
    let answer = ask(&keeper, "DELETE /ops/routes/checkout", &[("if-match", "*")], "").await;
    assert_eq!((answer.0, error(&answer)), (409, "route 'checkout': named by 'outer'"));
}

#[tokio::test]
async fn names_and_reasons_that_cannot_be() {
    let keeper = Fake::at(12);
    let answer = ask(&keeper, "PUT /ops/routes/a%2Fb", &[("if-none-match", "*")], &route()).await;
    assert_eq!(error(&answer), "model name: expected [A-Za-z0-9][A-Za-z0-9._-]{0,127}, got 'a/b'");
    let long = "x".repeat(1001);
    let answer = ask(&keeper, "PATCH /ops/routes/checkout/weights", &[("x-weir-why", &long)], r#"{"a":1}"#).await;
    assert_eq!(
        (answer.0, error(&answer)),
        (400, "x-weir-why: expected a text of at most 1000 characters, got something else")
    );
}

#[tokio::test]
async fn a_condition_on_several_revisions_outlasts_rivals() {
    for (condition, rivals, want) in
        [("*", 3, 200), ("\"12\", \"13\"", 1, 200), ("\"12\", \"13\"", 2, 412), ("\"12\"", 1, 412), ("*", 1000, 412)]
    {
        let keeper = Fake::at(12);
        *keeper.rivals.lock().unwrap() = rivals;
        let headers = [("if-match", condition)];
        let (status, etag, _) = ask(&keeper, "PATCH /ops/routes/checkout/weights", &headers, r#"{"a":1}"#).await;
        assert_eq!((status, etag), (want, keeper.live().and_then(tag)), "{condition} {rivals}");
        assert!(keeper.asked.lock().unwrap().len() <= ATTEMPTS);
    }
    let keeper = Fake::empty();
    *keeper.rivals.lock().unwrap() = 1;
    let (status, etag, _) = ask(&keeper, "PUT /ops/routes/checkout", &[("if-none-match", "*")], &route()).await;
    assert_eq!((status, etag, keeper.asked.lock().unwrap().len()), (412, tag(1), 1));
}

#[tokio::test]
async fn failures_of_the_table_stay_what_they_are() {
    let keeper = Fake::at(12);
    for (failure, want) in [(Error::unavailable("server: shutting down"), 503), (Error::internal("disk", "full"), 500)]
    {
        *keeper.refuse.lock().unwrap() = Some(ChangeError::Failed(failure));
        assert_eq!(ask(&keeper, "PATCH /ops/routes/checkout/weights", &[], r#"{"a":1}"#).await.0, want);
    }
}
