//! The ops API of routes over real sockets, with the real binary: what operators change is what callers get, and every refusal
//! is what the documentation says.

mod changes;
mod documented;
mod guarded;
mod refusals;
mod seen;

use serde_json::{Value, json};

use crate::{
    client::{Http, Reply},
    harness::{Registry, Weir},
};

/// Two versions of one model, as the split's variants.
pub(super) const CHECKOUT: &str = r#"# who sees what
kind = "split"
key = ["parameter:user_id"]
[[variant]]
name = "control"
model = "fraud"
version = 1
weight = 90   # most of them
[[variant]]
name = "candidate"
model = "fraud"
version = 2
weight = 10
"#;

/// A gateway with `fraud` (64 pixels in, for want of fraud) and, if it is given, the split `checkout` over its versions.
pub(super) async fn gateway(checkout: Option<&str>, flags: &[&str]) -> Weir {
    let registry = Registry::new(&[("fraud", "models/digits-linear")]);
    if let Some(text) = checkout {
        registry.write("checkout/route.toml", text);
    }
    Weir::serve(registry, &[&["--settle-ms", "0", "--poll-interval-ms", "20"], flags].concat()).await
}

/// The split as `PUT` takes it.
pub(super) fn split(control: f64, candidate: f64) -> Value {
    json!({"kind": "split", "key": ["parameter:user_id"], "variant": [
        {"name": "control", "model": "fraud", "version": 1, "weight": control},
        {"name": "candidate", "model": "fraud", "version": 2, "weight": candidate}]})
}

/// An operator, and what they ask.
pub(super) struct Operator(Http);

impl Operator {
    pub(super) fn of(server: &Weir) -> Self {
        Self(Http::new(server.ops))
    }

    pub(super) async fn send(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let (method, path) = line.split_once(' ').unwrap();
        let json = [("content-type", "application/json")];
        self.0.send(method, path, &[&json, headers].concat(), body.to_owned()).await.unwrap()
    }

    pub(super) async fn get(&mut self, path: &str) -> Value {
        let reply = self.0.get(path).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// The answer to a write that must be made, and its entity tag.
    pub(super) async fn change(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> (Value, Option<String>) {
        let reply = self.send(line, headers, body).await;
        assert_eq!(reply.status, 200, "{line} {reply:?}");
        (reply.json(), reply.header("etag").map(str::to_owned))
    }
}

/// The variant and the revision that answered a request with a key.
pub(super) async fn asked(http: &mut Http, key: &str) -> (String, u64) {
    let pixels = vec![0.0; 64];
    let body = json!({"parameters": {"user_id": key}, "inputs": [
        {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": pixels}]});
    let reply = http.post("/v2/models/checkout/infer", body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let header = |name| reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}"));
    (header("x-weir-variant").to_owned(), header("x-weir-revision").parse().unwrap())
}
