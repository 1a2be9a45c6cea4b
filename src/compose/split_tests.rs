//! Splits of models that are functions: keys, rules, rows, chance.

use super::lab::{Lab, ask, positives, request, with_header, with_param, with_texts};
use crate::types::{InferRequest, ParamValue};

const SPLIT: &str = r#"
kind = "split"
key = ["parameter:user", "header:x-user", "input:user"]
salt = "s"
[[variant]]
name = "zero"
model = "zero"
weight = 1
[[variant]]
name = "one"
model = "one"
weight = 1
[[rule]]
when = { header = "x-tier", equals = "gold" }
variant = "one"
[[rule]]
when = { parameter = "region", in = ["eu", "us"] }
variant = "zero"
[[rule]]
when = { parameter = "region", prefix = "asia-" }
variant = "one"
"#;

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.binary("zero", 1, |_| 0.0);
    lab.binary("one", 3, |_| 1.0);
    lab.route("s", SPLIT);
    lab
}

fn user(id: &str) -> InferRequest {
    with_param(request(&[0.5]), "user", ParamValue::Text(id.into()))
}

#[tokio::test]
async fn a_key_has_its_arm_from_wherever_it_comes() {
    let lab = lab();
    let route = lab.get("s");
    let mut arms = [0, 0];
    for id in ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"] {
        let reply = ask(&route, &user(id)).await.unwrap();
        let split = reply.facts.split.clone().unwrap();
        let (arm, u) = route.assignment(id.as_bytes()).unwrap();
        assert_eq!((&split.variant, split.sticky), (&arm, true));
        assert!(0.0 < u && u < 1.0);
        assert_eq!(positives(&reply), [f32::from(u8::from(&*arm == "one"))]);
        assert_eq!((&*split.model, &*split.version), if &*arm == "one" { ("one", "3") } else { ("zero", "1") });
        arms[usize::from(&*arm == "one")] += 1;
        let by_text = ask(&route, &with_texts(request(&[0.5]), "user", &[id])).await.unwrap();
        assert_eq!(by_text.facts.split.unwrap().variant, arm, "the same key in a tensor");
    }
    assert!(arms.iter().all(|count| *count > 0), "{arms:?}");
    let by_header = ask(&route, &with_header(request(&[0.5]), "x-user", "u1")).await.unwrap();
    assert_eq!(by_header.facts.split.unwrap().variant, route.assignment(b"u1").unwrap().0);
}

#[tokio::test]
async fn rows_with_keys_of_their_own_are_assigned_singly() {
    let lab = lab();
    let route = lab.get("s");
    let keys = ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"];
    let reply = ask(&route, &with_texts(request(&[0.5; 8]), "user", &keys)).await.unwrap();
    let want: Vec<f32> =
        keys.iter().map(|key| f32::from(u8::from(&*route.assignment(key.as_bytes()).unwrap().0 == "one"))).collect();
    assert_eq!(positives(&reply), want);
    assert_eq!(reply.path, want.iter().map(|one| *one as i32).collect::<Vec<_>>());
    let split = reply.facts.split.unwrap();
    assert_eq!((&*split.variant, &*split.model, &*split.version), ("zero,one", "zero,one", "1,3"));
    assert!(split.sticky && split.requests.is_none());
}

#[tokio::test]
async fn without_a_key_chance_decides_and_says_so() {
    let lab = lab();
    let route = lab.get("s");
    let mut ones = 0.0;
    for _ in 0..200 {
        let reply = ask(&route, &request(&[0.5])).await.unwrap();
        assert!(!reply.facts.split.as_ref().unwrap().sticky);
        ones += positives(&reply)[0];
    }
    // Six standard deviations.
    assert!((58.0..=142.0).contains(&ones), "{ones}");
}

#[tokio::test]
async fn the_first_rule_that_matches_decides() {
    let lab = lab();
    let route = lab.get("s");
    let region = |region: &str| with_param(user("u1"), "region", ParamValue::Text(region.into()));
    for (request, arm) in [
        (with_header(region("eu"), "x-tier", "gold"), "one"),
        (with_header(region("eu"), "x-tier", "silver"), "zero"),
        (region("us"), "zero"),
        (region("asia-1"), "one"),
    ] {
        let split = ask(&route, &request).await.unwrap().facts.split.unwrap();
        assert_eq!((&*split.variant, split.sticky), (arm, true));
    }
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused() {
    let lab = lab();
    let route = lab.get("s");
    let fraction = with_param(request(&[0.5]), "user", ParamValue::Double(1.5));
    let error = ask(&route, &fraction).await.unwrap_err();
    assert!(error.text().starts_with("parameter 'user'"), "{error}");
    let few = with_texts(request(&[0.5, 0.5]), "user", &["u1"]);
    assert_eq!(ask(&route, &few).await.unwrap_err().text(), "input 'user': shape: expected [2], got [1]");
}

#[tokio::test]
async fn the_outermost_split_is_told_and_counted() {
    let mut lab = lab();
    lab.route(
        "outer",
        r#"
kind = "split"
[[variant]]
name = "all"
model = "s"
weight = 1
"#,
    );
    let route = lab.get("outer");
    let reply = ask(&route, &user("u1")).await.unwrap();
    let split = reply.facts.split.unwrap();
    assert_eq!((&*split.variant, &*split.model, &*split.version, split.sticky), ("all", "s", "1", false));
    let text: Vec<String> = lab
        .metrics
        .render()
        .lines()
        .filter(|line| line.starts_with("weir_split_requests"))
        .map(str::to_owned)
        .collect();
    assert!(
        text.iter().any(|line| line == r#"weir_split_requests_total{route="outer",variant="all",revision="1"} 1"#),
        "{text:#?}"
    );
}
