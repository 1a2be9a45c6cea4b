//! What operators see is what callers get: assignments, scores, reports, and the command line on top of it.

use std::collections::BTreeMap;

use serde_json::json;

use super::{CHECKOUT, Operator, asked, gateway};
use crate::{
    client::Http,
    harness::{Weir, weir},
};

#[tokio::test]
async fn assignments_scores_and_reports_are_those_of_requests() {
    let server = gateway(Some(&CHECKOUT.replace("weight = 90", "weight = 60")), &[]).await;
    let (mut operator, mut http) = (Operator::of(&server), Http::new(server.http));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for n in 0..100 {
        let (variant, _) = asked(&mut http, &format!("u{n}")).await;
        let told = operator.get(&format!("/ops/routes/checkout/assignment?key=u{n}")).await;
        assert_eq!((&told["variant"], &told["sticky"], &told["revision"]), (&json!(variant), &json!(true), &json!(1)));
        *counts.entry(variant).or_default() += 1;
    }
    assert_eq!(counts.len(), 2, "{counts:?}");
    let report = operator.get("/ops/routes/checkout/report").await;
    assert_eq!((&report["kind"], &report["counted_revision"]), (&json!("split"), &json!(1)));
    for told in report["variants"].as_array().unwrap() {
        let count = counts[told["variant"].as_str().unwrap()];
        assert_eq!((&told["requests"], &told["share"]), (&json!(count), &json!(count as f64 / 100.0)));
    }
    let scores = operator.get("/ops/scores/fraud").await;
    for (version, variant) in [(0, "control"), (1, "candidate")] {
        let version = &scores["versions"][version];
        let told = version["variants"]
            .as_array()
            .unwrap()
            .iter()
            .find(|told| told["variant"] == format!("checkout/{variant}"));
        let told = told.unwrap_or_else(|| panic!("{variant}: {scores}"));
        assert_eq!(
            (&told["scores"][0]["kind"], &told["scores"][0]["count"]),
            (&json!("confidence"), &json!(counts[variant]))
        );
        let buckets = told["scores"][0]["counts"].as_array().unwrap();
        assert_eq!(buckets.len(), told["scores"][0]["bounds"].as_array().unwrap().len() + 1);
        assert_eq!(
            told["classes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>(),
            counts[variant]
        );
    }
    assert_eq!(operator.send("GET /ops/scores/checkout", &[], "").await.status, 404);
    assert_eq!(operator.send("GET /ops/routes/fraud/report", &[], "").await.status, 404);
    let document = operator.get("/ops/openapi.json").await;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(server.stop().await.success());
}

/// Runs `weir split` against a gateway.
fn run(server: &Weir, arguments: &[&str]) -> (i32, String, String) {
    let url = format!("http://{}", server.ops);
    let mut command = weir();
    let output = command.arg("split").args(arguments).args(["--ops", &url]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_command_line_moves_a_split() {
    let server = gateway(Some(CHECKOUT), &[]).await;
    let good = |arguments: &[&str]| {
        let (code, out, err) = run(&server, arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        out
    };
    assert!(good(&["get"]).contains("checkout  split  1         control=90 candidate=10  "));
    let shown = good(&["get", "checkout"]);
    assert!(shown.contains("candidate  fraud  2        10      10 %   ##\n"), "{shown}");
    let told = good(&["set", "checkout", "control=80", "candidate=20", "--why", "errors are down", "--dry-run"]);
    assert!(told.starts_with("would be revision 2, was 1; nothing has been changed\n"), "{told}");
    let told = good(&["set", "checkout", "control=80", "candidate=20", "--why", "errors are down"]);
    assert!(told.starts_with("revision 2, was 1\n") && told.ends_with("moves    10 % of the keys\n"), "{told}");
    let (code, _, err) = run(&server, &["set", "checkout", "control=1", "--if-revision", "1"]);
    assert_eq!(code, 1);
    assert!(err.contains("at revision 2") && err.contains("look at it again"), "{err}");
    let (code, _, err) = run(&server, &["set", "checkout", "control=1", "nobody=1"]);
    assert!(code == 1 && err.contains("nobody"), "{err}");
    let told = good(&["rollback", "checkout", "--to", "1", "--why", "errors are up"]);
    assert!(told.starts_with("revision 3, was 2\n"), "{told}");
    let told = good(&["history", "checkout"]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.len() == 4 && lines[1].starts_with("3 ") && lines[1].ends_with("  1     errors are up"), "{told}");
    let told = good(&["assign", "checkout", "--key", "u17", "--key", "u18"]);
    assert_eq!(told.lines().count(), 3, "{told}");
    let (code, _, err) = run(&server, &["get", "fraud"]);
    assert!(code == 1 && err.contains("not found"), "{err}");
    assert!(server.stop().await.success());
}
