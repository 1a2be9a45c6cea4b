//! The bodies of writes, in every form that is understood and in many that are not.

use proptest::prelude::*;

use super::*;

fn said<T>(what: T, why: &str) -> Said<T> {
    Said { what, why: (!why.is_empty()).then(|| why.into()) }
}

fn problems<T: std::fmt::Debug>(read: Result<T, Vec<Problem>>) -> Vec<String> {
    read.unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn weights_in_both_forms() {
    let want: Vec<(Box<str>, f64)> = vec![("control".into(), 80.0), ("candidate".into(), 20.5)];
    for body in [
        r#"{"weights":{"control":80,"candidate":20.5},"why":"all well"}"#,
        r#"{"why":"all well","weights":{"control":80.0,"candidate":2.05e1}}"#,
        r#"{"control":80,"why":"all well","candidate":20.5}"#,
    ] {
        assert_eq!(weights(body.as_bytes()), Ok(said(want.clone(), "all well")), "{body}");
    }
    assert_eq!(weights(br#"{"control":-0.0}"#).unwrap().what[0].1.to_bits(), 0, "no negative zero");
    assert_eq!(weights(br#"{"control":1}"#).unwrap().why, None);
    assert_eq!(weights(br#"{"who":1}"#).unwrap().what.len(), 1, "the keeper knows no such variant");
}

#[test]
fn weights_that_are_none() {
    for (body, want) in [
        ("", vec!["line 1, column 1: EOF while parsing a value"]),
        ("[]", vec!["line 1, column 1: invalid type: sequence, expected a JSON object"]),
        ("{\n \"control\": 80,\n}", vec!["line 3, column 1: trailing comma"]),
        ("{} {}", vec!["line 1, column 4: trailing characters"]),
        ("{}", vec!["line 1, column 1: weights: expected at least one weight by name of variant"]),
        (r#"{"why":"x"}"#, vec!["line 1, column 1: weights: expected at least one weight by name of variant"]),
        (r#"{"weights":[1]}"#, vec!["line 1, column 12: invalid type: sequence, expected a JSON object"]),
        (
            "{\"a\":-1,\"b\":\"2\",\n\"c\":1e999,\"c\":1,\"d\":null,\"e\":NaN}",
            vec!["line 2, column 30: expected value"],
        ),
        (
            "{\"a\":-1,\"b\":\"2\",\n\"c\":1e999,\"c\":1,\"d\":null,\"why\":7,\"who\":\"me\"}",
            vec![
                "line 2, column 15: c: is given twice",
                "line 2, column 32: why: expected a text of at most 1000 characters, got 7",
                "line 1, column 6: a: expected a finite number, at least 0, got -1",
                "line 1, column 13: b: expected a finite number, at least 0, got \"2\"",
                "line 2, column 5: c: expected a finite number, at least 0, got 1e999",
                "line 2, column 21: d: expected a finite number, at least 0, got null",
                "line 2, column 40: who: is told by the token, not by the body",
            ],
        ),
        (
            r#"{"weights":{"a":1,"a":2},"a":3,"wy":""}"#,
            vec![
                "line 1, column 30: a: unknown key, expected 'weights' and 'why'",
                "line 1, column 37: wy: unknown key, expected 'weights' and 'why'",
                "line 1, column 23: a: is given twice",
            ],
        ),
    ] {
        assert_eq!(problems(weights(body.as_bytes())), want, "{body}");
    }
    assert_eq!(problems(weights(b"{\"\xff\":1}")), ["line 1, column 1: expected JSON in UTF-8, got other bytes"]);
    let long = |n: usize| format!("{{\"a\":1,\"why\":\"{}\"}}", "é".repeat(n));
    assert!(
        weights(long(1000).as_bytes()).is_ok() && route(format!("{{{SPLIT},{}", &long(1000)[7..]).as_bytes()).is_ok()
    );
    let shown = format!("\"{}…", "é".repeat(39));
    let want = format!("line 1, column 14: why: expected a text of at most 1000 characters, got {shown}");
    assert_eq!(problems(weights(long(1001).as_bytes())), [want]);
}

#[test]
fn rollbacks() {
    assert_eq!(rollback(br#"{"to":12,"why":"worse"}"#), Ok(said(12, "worse")));
    assert_eq!(rollback(br#"{"to":1}"#), Ok(said(1, "")));
    for to in ["12.0", "1.2e1", "120e-1"] {
        assert_eq!(rollback(format!("{{\"to\":{to}}}").as_bytes()), Ok(said(12, "")));
    }
    for (to, shown) in [
        ("0", "0"),
        ("1000000000000000000", "1000000000000000000"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("\"1\"", "\"1\""),
        ("1e16", "1e16"),
        ("1e-1", "1e-1"),
        ("null", "null"),
    ] {
        let want = format!("line 1, column 7: to: expected the number of a revision, got {shown}");
        assert_eq!(problems(rollback(format!("{{\"to\": {to}}}").as_bytes()))[0], want.replace("column 7", "column 8"));
    }
    assert_eq!(
        problems(rollback(br#"{"revision":3}"#)),
        [
            "line 1, column 13: revision: unknown key, expected 'to' and 'why'",
            "line 1, column 1: to: expected the number of a revision"
        ]
    );
}

#[test]
fn reasons_alone() {
    for body in ["", " \n"] {
        assert_eq!(reason(body.as_bytes()), Ok(said((), "")));
    }
    assert_eq!(reason(b"{}"), Ok(said((), "")));
    assert_eq!(reason(br#"{"why":"old"}"#), Ok(said((), "old")));
    assert_eq!(problems(reason(b"{\"to\":1}")), ["line 1, column 7: to: unknown key, expected 'why'"]);
}

const SPLIT: &str = r#""kind":"split","variant":[{"name":"a","model":"m","weight":1}]"#;

#[test]
fn routes_with_and_without_a_reason() {
    let plain = route(format!("{{{SPLIT}}}").as_bytes()).unwrap();
    assert_eq!((plain.what.kind.as_str(), plain.why), ("split", None));
    for body in [format!("{{\"why\":\"x\",{SPLIT}}}"), format!(" {{{SPLIT} , \"\\u0077hy\" : \"x\" }} ")] {
        let read = route(body.as_bytes()).unwrap();
        assert_eq!((&read.what, read.why.as_deref()), (&plain.what, Some("x")), "{body}");
    }
}

#[test]
fn routes_that_are_none() {
    for (body, want) in [
        ("{", vec!["line 1, column 1: EOF while parsing an object"]),
        ("{\n \"kind\": split}", vec!["line 2, column 10: expected value"]),
        ("{\"a\":[{\"b\":1,\n\"b\":2}]}", vec!["line 2, column 3: key 'b' is given twice"]),
        ("{\"a\":1e999}", vec!["line 1, column 10: number out of range"]),
        ("{\"why\":\"a\",\"why\":\"b\"}", vec!["line 1, column 16: key 'why' is given twice"]),
    ] {
        assert_eq!(problems(route(body.as_bytes())), want, "{body}");
    }
    let found = problems(route(format!("{{\"why\":1,{SPLIT},\"kay\":3}}").as_bytes()));
    assert_eq!(found[0], "why: expected a text of at most 1000 characters, got 1");
    assert!(found[1].starts_with("kay: unknown key"), "{found:?}");
    let nested = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    assert!(problems(route(nested.as_bytes()))[0].contains("recursion limit exceeded"));
}

proptest! {
    /// Whatever is not a route is refused, and nothing panics.
    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..40), json in "[\\[\\]{}\":,0-9a-ewhy\\\\ \n]{0,40}") {
        for body in [&body[..], json.as_bytes()] {
            prop_assert!(route(body).is_err() && weights(body).map_or(true, |said| !said.what.is_empty()));
            let _ = (rollback(body).is_ok(), reason(body).is_ok());
        }
    }
}
