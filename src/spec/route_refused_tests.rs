//! Routes that are refused, with all of their exact problems: the table is `testdata/routes_refused.txt`. Texts that are long
//! are made here.

use super::*;

const TABLE: &str = include_str!("testdata/routes_refused.txt");

fn problems(text: &str) -> Vec<String> {
    parse_route_toml(text).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
}

#[test]
fn the_table() {
    let mut several = 0;
    let cases: Vec<_> = TABLE.split("\n=== ").skip(1).collect();
    for case in &cases {
        let (what, lines) = case.split_once('\n').unwrap();
        let (expected, text): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.starts_with("! "));
        let expected: Vec<_> = expected.iter().map(|line| &line[2..]).collect();
        assert!(!expected.is_empty(), "{what}");
        several += usize::from(expected.len() > 1);
        assert_eq!(problems(&(text.join("\n") + "\n")), expected, "{what}");
    }
    assert!(cases.len() >= 40 && several >= 20, "{} cases, {several} with several problems", cases.len());
}

#[test]
fn too_many_parts() {
    for (text, part, problem) in [
        ("kind = 'split'\n", "[[variant]]\n", "line 2, column 1: variant: expected 1 to 64 [[variant]], got 65"),
        ("kind = 'cascade'\n", "[[stage]]\n", "line 2, column 1: stage: expected 2 to 64 [[stage]], got 65"),
        (
            "kind = 'ensemble'\ncombine = 'vote'\n",
            "[[member]]\n",
            "line 3, column 1: member: expected 1 to 64 [[member]], got 65",
        ),
        (
            "kind = 'switch'\nselector = { model = 'm', output = 'y' }\n",
            "[[case]]\n",
            "line 3, column 1: case: expected 1 to 64 [[case]], got 65",
        ),
    ] {
        assert_eq!(problems(&(text.to_owned() + &part.repeat(65))), [problem]);
    }
    let split = "kind = 'split'\n[[variant]]\nname = 'a'\nmodel = 'm'\nweight = 1\n".to_owned();
    assert_eq!(
        problems(&(split.clone() + &"[[rule]]\n".repeat(257))),
        ["line 6, column 1: rule: expected 0 to 256 [[rule]], got 257"]
    );
    let keys: Vec<_> = (0..17).map(|i| format!("'input:{i}'")).collect();
    assert_eq!(
        problems(&format!("key = [{}]\n{split}", keys.join(", "))),
        ["line 1, column 7: key: expected at most 16 places, got 17"]
    );
}

#[test]
fn long_texts() {
    let split = "kind = 'split'\n[[variant]]\nname = 'a'\nmodel = 'm'\nweight = 1\n";
    let padded = |bytes: usize| format!("{split}#{}", " ".repeat(bytes - split.len() - 1));
    assert_eq!(problems(&padded(256 * 1024)), [""; 0]);
    assert_eq!(problems(&padded(256 * 1024 + 1)), ["expected a text of at most 262144 bytes, got 262145"]);

    let long = |count: usize| {
        format!("salt = '{}'\n{}", "s".repeat(count), split.replace("'a'", &format!("'{}'", "a".repeat(count / 4))))
    };
    assert_eq!(problems(&long(256)), [""; 0]);
    let shown = |letter: &str| format!("'{}…'", letter.repeat(60));
    assert_eq!(
        problems(&long(260)),
        [
            format!(
                "line 1, column 8: salt: expected at most 256 bytes without control characters, got {}",
                shown("s")
            ),
            format!(
                "line 4, column 8: variant[0].name: expected a name of the form [A-Za-z0-9][A-Za-z0-9._-]{{0,63}}, got {}",
                shown("a")
            ),
        ]
    );
}

#[test]
fn no_more_problems_than_anybody_reads() {
    let keys: String = (0..5000).map(|i| format!("zz{i} = 1\n")).collect();
    assert_eq!(problems(&keys).len(), 100);
}
