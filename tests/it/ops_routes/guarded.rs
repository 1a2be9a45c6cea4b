//! An ops listener that others reach: what the binary asks for before it opens one, and what it then answers to whom.

use super::{CHECKOUT, Operator, gateway};
use crate::{client::Http, harness::weir};

const WEIGHTS: &str = "PATCH /ops/routes/checkout/weights";

#[test]
fn a_wide_bind_without_a_guard_and_a_bad_token_file_do_not_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("empty", "\n");
    write("twice", "ann:s3cret\nann:0ther");
    write("reserved", "local:s3cret");
    for (arguments, part) in [
        (&["--ops-host", "0.0.0.0"][..], "anyone who reaches this address could operate the gateway"),
        (&["--ops-host", "::"], "--ops-token-file FILE"),
        (&["--ops-token-file", "absent"], "--ops-token-file 'absent': No such file"),
        (&["--ops-token-file", "empty"], "--ops-token-file 'empty': expected a token"),
        (&["--ops-host", "0.0.0.0", "--ops-token-file", "twice"], "line 2: the name 'ann' is given twice"),
        (&["--ops-token-file", "reserved"], "line 1: expected another name than 'local' and 'file'"),
    ] {
        let ports = ["serve", "models", "--http-port", "0", "--grpc-port", "0", "--ops-port", "0"];
        let output = weir().current_dir(folder.path()).args(ports).args(arguments).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(part) && !err.contains("s3cret") && !err.contains("0ther"), "{arguments:?}: {err}");
    }
}

#[tokio::test]
async fn a_wide_bind_with_tokens_asks_everybody_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "ann:first\nbob:second\n").unwrap();
    let flags = ["--ops-host", "0.0.0.0", "--ops-token-file", tokens.to_str().unwrap()];
    let server = gateway(Some(CHECKOUT), &flags).await;
    let mut operator = Operator::of(&server);
    for token in ["", "Bearer guess", "Bearer ann", "Basic first"] {
        let reply = operator.send(WEIGHTS, &[("authorization", token)], r#"{"control":1}"#).await;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, Some("Bearer")), "{token}");
        assert_eq!(operator.send("GET /ops/routes", &[("authorization", token)], "").await.status, 401, "{token}");
    }
    let bob = [("authorization", "Bearer second")];
    assert_eq!(operator.send(WEIGHTS, &bob, r#"{"control":1}"#).await.status, 200);
    assert_eq!(operator.send("GET /ops/routes/checkout", &bob, "").await.json()["who"], "bob");
    let mut http = Http::new(server.ops);
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(http.get(path).await.status, 200, "{path}");
    }
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_wide_bind_may_be_for_reading_health_only_or_for_everybody() {
    let server = gateway(Some(CHECKOUT), &["--ops-host", "0.0.0.0", "--ops-readonly"]).await;
    let mut operator = Operator::of(&server);
    for line in [WEIGHTS, "GET /ops/routes", "GET /ops/routes/checkout", "GET /ops/openapi.json"] {
        assert_eq!(operator.send(line, &[], r#"{"control":1}"#).await.status, 403, "{line}");
    }
    assert_eq!(operator.send("GET /metrics", &[], "").await.status, 200);
    assert!(server.stop().await.success());

    let server = gateway(Some(CHECKOUT), &["--ops-host", "0.0.0.0", "--insecure-ops"]).await;
    let mut operator = Operator::of(&server);
    assert_eq!(operator.send(WEIGHTS, &[], r#"{"control":1}"#).await.status, 200);
    let reply = operator.send("GET /ops/routes", &[("host", "evil.example")], "").await;
    assert_eq!(reply.status, 403, "one more host than the client's own: {reply:?}");
    assert!(server.stop().await.success());
}
