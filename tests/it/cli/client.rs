//! Commands that ask a gateway, against answers made up here: what they ask, and what they make of what comes back.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::{run, texts, weir};

/// A server that answers each `METHOD path` with a status and a body, and remembers the requests.
pub(super) struct Canned {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    pub(super) fn start(answers: &[(&'static str, u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (Arc::clone(&requests), answers.iter().map(|(q, s, b)| (*q, (*s, *b))).collect());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answers, &seen);
            }
        });
        Self { address, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Heads and bodies, in lower case.
    pub(super) fn requests(&self) -> String {
        self.requests.lock().unwrap().join("\n").to_ascii_lowercase()
    }
}

fn serve(mut stream: TcpStream, answers: &HashMap<&str, (u16, &str)>, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut sent = vec![0; length];
    stream.read_exact(&mut sent).unwrap();
    let question = head.split(" HTTP/").next().unwrap();
    let (status, body) = answers.get(question).copied().unwrap_or((404, r#"{"error":"no such path"}"#));
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    seen.lock().unwrap().push(format!("{head}{}", String::from_utf8(sent).unwrap()));
    stream.write_all(answer.as_bytes()).unwrap();
}

/// A URL where nobody listens.
pub(super) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

const INDEX: &str = r#"[{"name":"digits","version":"2","state":"READY"},
    {"name":"broken","version":"1","state":"UNAVAILABLE","reason":"model.onnx: empty"}]"#;

#[test]
fn healthcheck_is_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let ready = Canned::start(&[("GET /v2/health/ready", 200, "{}")]);
    let (code, out, err) = run(folder.path(), &["healthcheck", "--url", &ready.url()]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "ready\n", ""));
    let draining = Canned::start(&[("GET /v2/health/ready", 503, "{}")]);
    let (code, out, err) = run(folder.path(), &["healthcheck", "--url", &draining.url()]);
    assert_eq!((code, out.as_str(), err), (1, "", format!("error: {}: not ready (HTTP 503)\n", draining.url())));
    let nobody = nobody();
    let (code, _, err) = run(folder.path(), &["healthcheck", "--url", &nobody]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("error: {nobody}: ")), "{err}");
    let (code, _, err) = run(folder.path(), &["healthcheck", "--url", "https://weir"]);
    assert_eq!(code, 2);
    assert!(err.contains("https is not spoken here"), "{err}");
}

#[test]
fn healthcheck_asks_where_serve_would_listen() {
    let folder = tempfile::tempdir().unwrap();
    let ready = Canned::start(&[("GET /v2/health/ready", 200, "{}")]);
    let port = ready.address.port().to_string();
    let output = weir(folder.path(), &["healthcheck"], &[("WEIR_HTTP_PORT", &port), ("WEIR_HOST", "0.0.0.0")]);
    assert_eq!(texts(&output), (0, "ready\n".to_owned(), String::new()));
    std::fs::write(folder.path().join("weir.toml"), format!("http_port = {port}")).unwrap();
    let output = weir(folder.path(), &["healthcheck"], &[("WEIR_URL", "")]);
    assert_eq!(texts(&output).0, 0);
}

#[test]
fn models_asks_the_ops_listener_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let one =
        r#"{"name":"digits","required":false,"versions":[{"version":2,"state":"READY","by_policy":true,"labels":[]}]}"#;
    let all = r#"{"started":true,"generation":1,"problems":[],"models":[{"name":"digits","required":false,
        "versions":[{"version":2,"state":"READY","by_policy":true,"labels":[],"engine":"tract"}]}]}"#;
    let ops = Canned::start(&[("GET /ops/models", 200, all), ("GET /ops/models/digits", 200, one)]);
    std::fs::write(folder.path().join("token"), "secret\n").unwrap();
    let (code, out, err) = run(folder.path(), &["models", "--ops", &ops.url(), "--token-file", "token"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("digits  2        -       READY  tract"), "{out}");
    assert!(ops.requests().contains("authorization: bearer secret"), "{}", ops.requests());
    let output = weir(folder.path(), &["models", "digits"], &[("WEIR_OPS", &ops.url()), ("WEIR_OUTPUT", "json")]);
    let (code, out, _) = texts(&output);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, value), (0, serde_json::from_str(one).unwrap()));
    let (code, out, _) = run(folder.path(), &["models", "digits", "--ops", &ops.url()]);
    assert_eq!((code, out.as_str()), (0, "digits version 2  READY\n"));
}

#[test]
fn models_falls_back_to_the_index_only_when_nobody_answers() {
    let folder = tempfile::tempdir().unwrap();
    let data = Canned::start(&[("POST /v2/repository/index", 200, INDEX)]);
    let nobody = nobody();
    for arguments in [&["--url", &data.url()] as &[&str], &["--url", &data.url(), "--ops", &nobody]] {
        let arguments: Vec<&str> = ["models"].iter().chain(arguments).copied().collect();
        let (code, out, err) = run(folder.path(), &arguments);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(
            out,
            "MODEL   VERSION  STATE        REASON\n\
             digits  2        READY        -\n\
             broken  1        UNAVAILABLE  model.onnx: empty\n"
        );
    }
    let (code, out, _) = run(folder.path(), &["models", "digits", "--url", &data.url(), "--output", "json"]);
    assert_eq!(code, 0);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value, serde_json::json!([{"name": "digits", "version": "2", "state": "READY"}]));
    let (code, _, err) = run(folder.path(), &["models", "absent", "--url", &data.url()]);
    assert_eq!((code, err.as_str()), (1, "error: model 'absent': not found\n"));

    let guarded = Canned::start(&[("GET /ops/models", 401, r#"{"error":"token: expected Authorization: Bearer"}"#)]);
    let (code, out, err) = run(folder.path(), &["models", "--url", &data.url(), "--ops", &guarded.url()]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "error: token: expected Authorization: Bearer (HTTP 401)\n");
    let (code, _, err) = run(folder.path(), &["models", "--ops", &nobody]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("error: {nobody}: ")), "{err}");
    let other = Canned::start(&[("GET /ops/models", 404, r#"{"error":"Not Found"}"#)]);
    let (code, _, err) = run(folder.path(), &["models", "--ops", &other.url()]);
    let want = format!("error: {}: no ops listener answers here; --ops URL names it\n", other.url());
    assert_eq!((code, err), (1, want));
    let stranger = Canned::start(&[("GET /ops/models", 200, "<html>")]);
    let (code, _, err) = run(folder.path(), &["models", "--ops", &stranger.url()]);
    assert!(code == 1 && err.contains("the answer is not a gateway's"), "{err}");
}
