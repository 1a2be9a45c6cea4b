//! Routes as JSON and as text: what is written is read back as the same route, and JSON is checked as the text is.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::spec::{route_samples::routes, route_text::route_to_toml};

fn problems(json: &Json) -> Vec<String> {
    route_from_json(json).unwrap_err().iter().map(ToString::to_string).collect()
}

const CASCADE: &str = r#"kind = "cascade"
outputs = ["label", "probabilities"]

[[stage]]
model = "digits-linear"
version = "3"
accept = { output = "probabilities", measure = "max_prob", at_least = 0.95 }

[[stage]]
model = "digits-cnn"

[budget]
escalate_at_most = 0.25
floor = 0.8
on_overload = "best_so_far"
"#;

#[test]
fn the_canonical_text() {
    for text in [
        CASCADE,
        r#"kind = "split"
key = ["parameter:user_id", "header:x-user-id"]
salt = "checkout"

[[variant]]
name = "control"
model = "fraud"
version = "1"
weight = 90

[[variant]]
name = "candidate"
model = "fraud"
version = "canary"
weight = 9.5

[[rule]]
when = { header = "x-tier", equals = "gold" }
variant = "candidate"

[[rule]]
when = { parameter = "tier", in = ["a", "b"] }
variant = "control"

[shadow]
model = "fraud-next"
sample = 0.1
"#,
        r#"kind = "switch"
selector = { model = "is-reseller", output = "probabilities", class = 1 }

[[case]]
name = "reseller"
at_least = 0.5
model = "returns-reseller"

[[case]]
name = "consumer"
model = "returns-consumer"
"#,
        r#"kind = "ensemble"
combine = "weighted_mean"
quorum = 2
disagreement = true

[[member]]
model = "credit-gbdt"
weight = 0.7

[[member]]
model = "credit-mlp"

[[member]]
model = "credit-linear"
weight = 2
"#,
    ] {
        let route = parse_route_toml(text).unwrap();
        assert_eq!(route_to_toml(&route), text);
    }
}

#[test]
fn the_same_keys_as_the_text() {
    let json = json!({
        "kind": "cascade",
        "outputs": ["label", "probabilities"],
        "stage": [
            {
                "model": "digits-linear",
                "version": "3",
                "accept": {"output": "probabilities", "measure": "max_prob", "at_least": 0.95},
            },
            {"model": "digits-cnn"},
        ],
        "budget": {"escalate_at_most": 0.25, "floor": 0.8, "on_overload": "best_so_far"},
    });
    let route = parse_route_toml(CASCADE).unwrap();
    assert_eq!(route_from_json(&json).as_ref(), Ok(&route));
    assert_eq!(route_to_json(&route), json);
    let split = json!({"kind": "split", "variant": [{"name": "a", "model": "m", "weight": 1e2}, {"name": "b", "model": "m", "weight": 0.5}]});
    let weights = |json: &Json| [json["variant"][0]["weight"].to_string(), json["variant"][1]["weight"].to_string()];
    assert_eq!(weights(&route_to_json(&route_from_json(&split).unwrap())), ["100", "0.5"]);
}

#[test]
fn the_same_checks_as_the_text() {
    assert_eq!(problems(&json!([])), ["expected an object, got an array"]);
    assert_eq!(problems(&json!({})), ["expected the key 'kind': \"split\", \"cascade\", \"switch\" or \"ensemble\""]);
    let json = json!({
        "kind": "split",
        "quorum": 18_446_744_073_709_551_615_u64,
        "salt": null,
        "key": ["header:a b", null, 7, "say \"hi\"\n\\"],
        "variant": [
            {"name": "a", "model": "m", "weight": -1, "wieght": 2},
            {"name": "a", "model": {"x": null}, "weight": 1e300},
            3,
        ],
        "a.b\n'": [],
    });
    assert_eq!(
        problems(&json),
        [
            "key[1]: expected a value, got null: leave the key out",
            "salt: expected a value, got null: leave the key out",
            "variant[1].model.x: expected a value, got null: leave the key out",
            "'a.b\\n\\'': unknown key: expected one of 'kind', 'outputs', 'key', 'salt', 'variant', 'rule', 'shadow'",
            "key[0]: expected header: and the name of a header, got 'header:a b'",
            "key[2]: expected parameter:NAME, header:NAME or input:NAME, got 7",
            "key[3]: expected parameter:NAME, header:NAME or input:NAME, got 'say \\\"hi\\\"\\n\\\\'",
            "quorum: key of another kind: expected one of kind = \"split\", got one of kind = \"ensemble\"",
            "variant[0].wieght: unknown key, did you mean 'variant[0].weight'?",
            "variant[2]: expected a table, got 3",
        ]
    );
    let no_model =
        json!({"kind": "ensemble", "combine": "mean", "quorum": null, "member": [{"model": null}, {"weight": null}]});
    assert_eq!(
        problems(&no_model),
        [
            "member[0].model: expected a value, got null: leave the key out",
            "member[1].weight: expected a value, got null: leave the key out",
            "quorum: expected a value, got null: leave the key out",
            "member[1]: expected the key 'model': the model or route that is asked",
        ]
    );
}

#[test]
fn texts_that_toml_writes_otherwise() {
    for text in ["\u{7f}", "a\nb", "'''", "\"\"\"", "\\", "\u{0}", "\r\n", "é\u{2028}", ""] {
        let json = json!({
            "kind": "split",
            "variant": [{"name": "a", "model": "m", "weight": 1}],
            "rule": [{"when": {"parameter": "p", "equals": text}, "variant": "a"}],
        });
        assert_eq!(route_to_json(&route_from_json(&json).unwrap()), json, "{text:?}");
    }
}

/// JSON that is almost a route: one value of a sound one replaced.
fn almost() -> impl Strategy<Value = Json> {
    let values = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        Just(json!([])),
        Just(json!({"x\n": [{}, null]})),
    ];
    (routes(), any::<prop::sample::Index>(), values).prop_map(|(route, at, value)| {
        let mut json = route_to_json(&route);
        let mut count = 0;
        each(&mut json, &mut |_| count += 1);
        let mut left = at.index(count);
        let mut value = Some(value);
        each(&mut json, &mut |place| {
            if left == 0
                && let Some(value) = value.take()
            {
                *place = value;
            }
            left = left.saturating_sub(1);
        });
        json
    })
}

fn each(json: &mut Json, visit: &mut impl FnMut(&mut Json)) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(|item| each(item, visit)),
        Json::Object(keys) => keys.values_mut().for_each(|value| each(value, visit)),
        _ => {}
    }
    visit(json);
}

proptest! {
    #[test]
    fn text_and_back(route in routes()) {
        let text = route_to_toml(&route);
        prop_assert!(parse_route_toml(&text).as_ref() == Ok(&route), "{}", text);
    }

    #[test]
    fn json_and_back(route in routes()) {
        let json = route_to_json(&route);
        prop_assert!(route_from_json(&json).as_ref() == Ok(&route), "{}", json);
        let wire: Json = serde_json::from_str(&json.to_string()).unwrap();
        prop_assert!(route_from_json(&wire).as_ref() == Ok(&route), "{}", json);
        prop_assert_eq!(route_to_json(&route_from_json(&wire).unwrap()), json);
    }

    #[test]
    fn what_is_almost_a_route_is_read_or_has_problems_without_places(json in almost()) {
        match route_from_json(&json) {
            Ok(route) => prop_assert_eq!(route_from_json(&route_to_json(&route)), Ok(route)),
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|problem| problem.line == 0 && problem.column == 0));
            }
        }
    }
}
