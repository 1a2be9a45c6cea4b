//! Routes as callers and operators meet them: what is promised of them while they change, while processes die, while models are
//! overloaded or broken, and when a configuration is not in order.

mod appears;
mod budget;
mod history;
mod killed;
mod lab;
mod ledger;
mod overload;
mod refused;
mod replicas;
mod shadow;
mod wire;

use std::collections::BTreeMap;

use serde_json::Value;
use weir::{compose::assign::Assigner, spec::parse_route_toml, types::RouteKind};

use crate::{client::Http, harness::Weir, ops_routes::Operator};

/// What a gateway says of the split `checkout`.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    revision: u64,
    who: String,
    text: String,
}

impl Shown {
    async fn of(server: &Weir) -> Self {
        let state = Operator::of(server).get("/ops/routes/checkout").await;
        let text = |key: &str| state[key].as_str().unwrap_or_else(|| panic!("no {key}: {state}")).to_owned();
        let revision = state["revision"].as_u64().unwrap_or_else(|| panic!("no revision: {state}"));
        Self { revision, who: text("who"), text: text("text") }
    }
}

/// The weights in a text, by variant; it must be in order.
fn weights(text: &str) -> Vec<(String, f64)> {
    let spec = parse_route_toml(text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    let RouteKind::Split(split) = spec.kind else { panic!("no split: {text}") };
    split.variants.iter().map(|variant| (variant.name.to_string(), variant.weight)).collect()
}

/// Who gets a key by these weights; the salt of `checkout` is its name.
fn assigned(weights: &[(String, f64)], key: &str) -> String {
    let arms = weights.iter().map(|(name, weight)| (name.as_str(), *weight));
    weights[Assigner::new("checkout", arms).assign(key.as_bytes()).0].0.clone()
}

/// The text of every revision from `first` on.
async fn revisions(server: &Weir, first: u64) -> BTreeMap<u64, String> {
    let mut operator = Operator::of(server);
    let history = operator.get("/ops/routes/checkout/history").await;
    let numbers = history["revisions"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap());
    let mut texts = BTreeMap::new();
    for number in numbers.filter(|number| *number >= first) {
        let reply = operator.send(&format!("GET /ops/routes/checkout/history/{number}"), &[], "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        texts.insert(number, String::from_utf8(reply.body.to_vec()).unwrap());
    }
    texts
}

/// Sets both weights; the answer, or `None` when the connection was lost.
async fn patch(http: &mut Http, weights: [u64; 2], condition: Option<u64>) -> Option<(u16, Value)> {
    let body = serde_json::json!({"control": weights[0], "candidate": weights[1]}).to_string();
    let tag = condition.map(|revision| format!("\"{revision}\""));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
    let reply = http.send("PATCH", "/ops/routes/checkout/weights", &headers, body).await.ok()?;
    Some((reply.status.as_u16(), reply.json()))
}
