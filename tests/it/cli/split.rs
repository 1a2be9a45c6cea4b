//! `weir split` against answers made up here: what it asks, what it shows, how it fails.

use super::{
    client::{Canned, nobody},
    run,
};

const ROUTE: &str = r#"{"name":"checkout","kind":"split","revision":12,"at":"2026-11-20T09:30:00.250Z","who":"ann",
    "why":"first look","problems":[],"writable":true,"weights":{"control":90,"candidate":10},
    "route":{"kind":"split","key":["parameter:user_id"],"variant":[
        {"name":"control","model":"fraud","version":"1","weight":90},
        {"name":"candidate","model":"fraud","version":"2","weight":10}]},"text":""}"#;
const CHANGED: &str =
    r#"{"route":"checkout","revision":13,"weights":{"control":80,"candidate":20},"moved":0.1,"loads":[],"unloads":[]}"#;
const DRY: &str = r#"{"route":"checkout","revision":13,"weights":{"control":80,"candidate":20},"moved":0.1,"loads":["fraud/3"],
    "unloads":[],"dry_run":true,"problems":["variant[1].model: model 'fraud' version 3: not found"]}"#;

/// Runs `weir split` in an empty folder.
fn split(server: &Canned, arguments: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let arguments: Vec<&str> = ["split"].into_iter().chain(arguments.split(' ')).chain(["--ops", &url]).collect();
    run(folder.path(), &arguments)
}

#[test]
fn weights_are_shown() {
    let ops = Canned::start(&[("GET /ops/routes/checkout", 200, ROUTE), ("GET /ops/routes", 200, r#"{"routes":[]}"#)]);
    let (code, out, err) = split(&ops, "get checkout");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("checkout revision 12\n"), "{out}");
    assert!(out.ends_with("candidate  fraud  2        10      10 %   ##\n"), "{out}");
    let (code, out, _) = split(&ops, "get");
    assert_eq!((code, out.as_str()), (0, "ROUTE  KIND  REVISION  WEIGHTS  AT  WHO  WHY\n"));
    let (code, out, _) = split(&ops, "get checkout --output json");
    assert_eq!((code, out), (0, format!("{ROUTE}\n")), "as it came");
}

#[test]
fn a_change_names_the_revision_that_was_seen() {
    let ops = Canned::start(&[
        ("GET /ops/routes/checkout", 200, ROUTE),
        ("PATCH /ops/routes/checkout/weights", 200, CHANGED),
        ("PATCH /ops/routes/checkout/weights?dry_run=true", 200, DRY),
        ("POST /ops/routes/checkout/rollback", 200, CHANGED),
    ]);
    let (code, out, err) = split(&ops, "set checkout control=80 candidate=20 --why fewer-errors");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("revision 13, was 12\n"), "{out}");
    assert!(out.ends_with("moves    10 % of the keys\n"), "{out}");
    let seen = ops.requests();
    assert!(seen.contains("if-match: \"12\""), "{seen}");
    assert!(seen.ends_with(r#"{"weights":{"candidate":20.0,"control":80.0},"why":"fewer-errors"}"#), "{seen}");

    let (code, out, _) = split(&ops, "set checkout control=80 --dry-run --if-revision 7");
    assert_eq!(code, 1, "a dry run that found problems");
    assert!(out.starts_with("would be revision 13, was 12; nothing has been changed\n"), "{out}");
    assert!(
        out.ends_with("loads    fraud/3\nproblem: variant[1].model: model 'fraud' version 3: not found\n"),
        "{out}"
    );
    assert!(ops.requests().contains("if-match: \"7\""), "{}", ops.requests());

    let (code, out, _) = split(&ops, "rollback checkout --to 3 --why worse --output json");
    assert_eq!((code, out), (0, format!("{CHANGED}\n")));
    assert!(ops.requests().ends_with(r#"{"to":3,"why":"worse"}"#), "{}", ops.requests());
}

#[test]
fn a_deleted_route_comes_back_and_is_not_made_twice() {
    let ops = Canned::start(&[
        ("GET /ops/routes/checkout", 404, r#"{"error":"route 'checkout': not found"}"#),
        ("POST /ops/routes/checkout/rollback", 200, CHANGED),
    ]);
    let (code, out, _) = split(&ops, "rollback checkout --to 3");
    assert_eq!(code, 0);
    assert!(out.starts_with("revision 13, was not there\n"), "{out}");
    assert!(ops.requests().contains("if-none-match: *"), "{}", ops.requests());
    let (code, _, err) = split(&ops, "set checkout a=1");
    assert_eq!(code, 1);
    assert_eq!(err, "error: route 'checkout': not found; weir split get without a name lists the routes\n");
}

#[test]
fn revisions_and_assignments_are_shown() {
    let history = r#"{"route":"checkout","revisions":[{"revision":2,"at":"t","who":"ann","why":"","from":1}]}"#;
    let (u17, u_18) = (
        r#"{"key":"u17","variant":"control","u":0.5,"revision":2,"sticky":true}"#,
        r#"{"key":"u/ 18","variant":"candidate","u":0.25,"revision":2,"sticky":true}"#,
    );
    let ops = Canned::start(&[
        ("GET /ops/routes/checkout/history", 200, history),
        ("GET /ops/routes/checkout/assignment?key=u17", 200, u17),
        ("GET /ops/routes/checkout/assignment?key=u%2F%2018", 200, u_18),
    ]);
    let (code, out, _) = split(&ops, "history checkout");
    assert_eq!((code, out.as_str()), (0, "REVISION  AT  WHO  FROM  WHY\n2         t   ann  1     -\n"));
    let folder = tempfile::tempdir().unwrap();
    let url = ops.url();
    let arguments = ["split", "assign", "checkout", "--key", "u17", "--key", "u/ 18", "--ops", &url];
    let (code, out, _) = run(folder.path(), &arguments);
    let table = "KEY    VARIANT    U         REVISION\nu17    control    0.500000  2\nu/ 18  candidate  0.250000  2\n";
    assert_eq!((code, out.as_str()), (0, table));
    let (_, out, _) = split(&ops, "assign checkout --key u17 --output json");
    assert_eq!(out, format!("{u17}\n"));
}

#[test]
fn wrong_arguments_ask_nobody() {
    let ops = Canned::start(&[]);
    for (arguments, part) in [
        ("set checkout", "<NAME=WEIGHT>..."),
        ("set control=80 candidate=20", "invalid value 'control=80' for '<ROUTE>'"),
        ("set checkout a=NaN", "expected a finite number, at least 0, got NaN"),
        ("set checkout a=-1", "expected a finite number, at least 0, got -1"),
        ("set checkout a=1 b=2 a=3", "error: variant 'a': given twice"),
        ("set checkout a=1 --if-revision 0", "invalid value '0' for '--if-revision <NUMBER>'"),
        ("rollback checkout", "--to <NUMBER>"),
        ("assign checkout", "--key <KEY>"),
        ("get a/b", "model name: expected"),
        ("get checkout --token-file absent", "error: --token-file absent: "),
    ] {
        let (code, out, err) = split(&ops, arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments}: {err}");
        assert!(err.contains(part), "{arguments}: {err}");
    }
    assert_eq!(ops.requests(), "");
}

#[test]
fn refusals_say_what_helps() {
    let refused = |status, body| {
        Canned::start(&[("GET /ops/routes/checkout", 200, ROUTE), ("PATCH /ops/routes/checkout/weights", status, body)])
    };
    let stale = r#"{"error":"route 'checkout': at revision 13, not 12"}"#;
    let problems = r#"{"error":"a; b","problems":["variant 'c': unknown","sum: 0"]}"#;
    for (server, arguments, want) in [
        (
            refused(412, stale),
            "set checkout control=1",
            "error: route 'checkout': at revision 13, not 12: somebody changed it; try again\n",
        ),
        (
            refused(412, stale),
            "set checkout control=1 --if-revision 12",
            "error: route 'checkout': at revision 13, not 12: somebody changed it; look at it again, then name its revision\n",
        ),
        (refused(400, problems), "set checkout c=1", "error: variant 'c': unknown\nerror: sum: 0 (HTTP 400)\n"),
        (
            Canned::start(&[("GET /ops/routes/checkout", 401, r#"{"error":"token: expected Authorization: Bearer"}"#)]),
            "get checkout",
            "error: token: expected Authorization: Bearer (HTTP 401); --token-file FILE names the file with the token\n",
        ),
        (
            Canned::start(&[("GET /ops/routes/checkout", 404, r#"{"error":"route 'checkout': not found"}"#)]),
            "get checkout",
            "error: route 'checkout': not found (HTTP 404); weir split get without a name lists the routes\n",
        ),
        (
            Canned::start(&[
                ("GET /ops/routes/checkout", 200, ROUTE),
                ("POST /ops/routes/checkout/rollback", 404, r#"{"error":"route 'checkout': revision 9: not found"}"#),
            ]),
            "rollback checkout --to 9",
            "error: route 'checkout': revision 9: not found (HTTP 404); weir split history lists the revisions\n",
        ),
        (
            Canned::start(&[("GET /ops/routes/checkout", 200, "<html>")]),
            "get checkout",
            "error: the answer is not a gateway's: expected value at line 1 column 1\n",
        ),
        (
            Canned::start(&[(
                "GET /ops/routes/checkout",
                200,
                r#"{"name":"checkout","kind":"cascade","revision":1,"writable":true}"#,
            )]),
            "set checkout a=1",
            "error: route 'checkout': is a cascade and has no weights; --output json shows it\n",
        ),
        (
            Canned::start(&[(
                "GET /ops/routes/checkout",
                200,
                r#"{"name":"checkout","kind":null,"writable":true,"problems":["route.toml: kind: …"]}"#,
            )]),
            "get checkout",
            "error: route 'checkout': no revision serves: route.toml: kind: …\n",
        ),
    ] {
        assert_eq!(split(&server, arguments), (1, String::new(), want.to_owned()));
    }
    let nobody = nobody();
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = run(folder.path(), &["split", "get", "--ops", &nobody]);
    assert_eq!(code, 1);
    assert!(err.ends_with("; --ops URL names the ops listener of another gateway\n"), "{err}");
}
