//! What is shown of answers as a gateway gives them.

use super::*;

const ROUTE: &str = r#"{"name":"checkout","kind":"split","revision":12,"at":"2026-11-20T09:30:00.250Z","who":"ann",
    "why":"first look","problems":[],"writable":true,"weights":{"control":90,"candidate":10},
    "route":{"kind":"split","key":["parameter:user_id","header:x-user-id"],
             "variant":[{"name":"control","model":"fraud","version":1,"weight":90},
                        {"name":"candidate","model":"fraud","version":"canary","weight":10}],
             "rule":[{"when":{"header":"x-tier","equals":"gold"},"variant":"candidate"}],
             "shadow":{"model":"fraud-next","sample":0.1}},"text":"kind = …"}"#;

fn route() -> Route {
    serde_json::from_str(ROUTE).unwrap()
}

#[test]
fn a_split_with_its_weights() {
    assert_eq!(
        split(&route(), Paint::NONE, Bars::Ascii),
        "checkout revision 12\n\
         \u{20} at     2026-11-20T09:30:00.250Z\n\
         \u{20} who    ann\n\
         \u{20} why    first look\n\
         \u{20} key    parameter:user_id, header:x-user-id\n\
         \u{20} rules  1, looked at before the weights\n\
         \u{20} shadow fraud-next sees 10 %\n\
         VARIANT    MODEL  VERSION  WEIGHT  SHARE  BAR\n\
         control    fraud  1        90      90 %   ##################\n\
         candidate  fraud  canary   10      10 %   ##\n"
    );
    let mut odd = route();
    (odd.writable, odd.problems) = (false, vec!["route.toml: line 1: \u{1b}[2J".to_owned()]);
    let spec = odd.route.as_mut().unwrap();
    (spec.key, spec.rule, spec.shadow, spec.variant[0].version) = (Vec::new(), Vec::new(), None, None);
    let text = split(&odd, Paint::NONE, Bars::Blocks);
    assert!(text.contains("  key    none: every request is assigned at random\n"), "{text}");
    assert!(text.contains("control    fraud  by policy  90      90 %   ██████████████████\n"), "{text}");
    assert!(!text.contains("rules") && !text.contains("shadow"), "{text}");
    let end = "its folder cannot be written to: changes are lost when the gateway ends\n\
               problem: route.toml: line 1: \\u{1b}[2J\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn all_routes() {
    let routes = format!(
        r#"{{"routes":[{ROUTE},{{"name":"broken","kind":null,"revision":null,"problems":["kind: expected …"],"writable":true}},
            {{"name":"digits","kind":"cascade","revision":1,"at":"x","who":"file","why":"","writable":true}}]}}"#
    );
    assert_eq!(
        overview(&serde_json::from_str(&routes).unwrap(), Paint::NONE),
        "ROUTE     KIND        REVISION  WEIGHTS                  AT                        WHO   WHY\n\
         checkout  split       12        control=90 candidate=10  2026-11-20T09:30:00.250Z  ann   first look\n\
         broken    not served  -         -                        -                         -     -\n\
         digits    cascade     1         -                        x                         file  -\n\
         problem: kind: expected …\n"
    );
}

#[test]
fn both_sides_of_a_change() {
    let changed = |text: &str| serde_json::from_str::<Changed>(text).unwrap();
    let before = route();
    let after = changed(r#"{"route":"checkout","revision":13,"weights":{"control":80,"candidate":20},"moved":0.1}"#);
    let shown = Change { before: Some(&before), after: &after, dry_run: false };
    assert_eq!(
        change(&shown, Paint::NONE, Bars::Ascii),
        "revision 13, was 12\n\
         VARIANT    BEFORE  SHARE  BAR                 AFTER  SHARE  BAR\n\
         control    90      90 %   ##################  80     80 %   ################\n\
         candidate  10      10 %   ##                  20     20 %   ####\n\
         moves    10 % of the keys\n"
    );
    let after = changed(
        r#"{"route":"checkout","revision":13,"weights":{"candidate":1,"third":2},"moved":0.93333,
            "loads":["fraud/3"],"unloads":["fraud/1","fraud/2"],"dry_run":true,"problems":["variant[1]: no"]}"#,
    );
    let shown = Change { before: Some(&before), after: &after, dry_run: true };
    assert_eq!(
        change(&shown, Paint::NONE, Bars::Ascii),
        "would be revision 13, was 12; nothing has been changed\n\
         VARIANT    BEFORE  SHARE  BAR                 AFTER  SHARE    BAR\n\
         candidate  10      10 %   ##                  1      33.33 %  #######\n\
         third      -       -      -                   2      66.67 %  #############\n\
         control    90      90 %   ##################  -      -        -\n\
         moves    93.33 % of the keys\n\
         loads    fraud/3\n\
         unloads  fraud/1, fraud/2\n\
         problem: variant[1]: no\n"
    );
    let after = changed(r#"{"route":"digits","revision":3,"weights":{},"moved":0}"#);
    let shown = Change { before: None, after: &after, dry_run: false };
    assert_eq!(change(&shown, Paint::NONE, Bars::Ascii), "revision 3, was not there\n");
}

#[test]
fn revisions_and_keys() {
    let revisions = r#"{"route":"checkout","revisions":[
        {"revision":2,"at":"b","who":"ann","why":"worse","from":1},{"revision":1,"at":"a","who":"file","why":"","from":0}]}"#;
    assert_eq!(
        history(&serde_json::from_str(revisions).unwrap(), Paint::NONE),
        "REVISION  AT  WHO   FROM  WHY\n2         b   ann   1     worse\n1         a   file  -     -\n"
    );
    let assigned = |sticky| Assignment { key: "u17".into(), variant: "control".into(), u: 0.25, revision: 12, sticky };
    let table = "KEY  VARIANT  U         REVISION\nu17  control  0.250000  12\n";
    assert_eq!(assignments(&[assigned(true)], Paint::NONE), table);
    let text = assignments(&[assigned(false)], Paint::NONE);
    assert_eq!(text, format!("{table}the split looks at no key: requests are assigned at random\n"));
}

#[test]
fn percentages() {
    for (share, want) in
        [(0.0, "0 %"), (1.0, "100 %"), (0.1, "10 %"), (1.0 / 3.0, "33.33 %"), (0.00001, "< 0.01 %"), (0.105, "10.5 %")]
    {
        assert_eq!(percent(share), want);
    }
}
