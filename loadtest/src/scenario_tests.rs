//! What a scenario file can say, and how it is told what it says wrong.

use clap::Parser as _;

use super::*;
use crate::cli::Cli;
use crate::plan::Plan;

fn base(line: &str) -> ClassSpec {
    let common = "weir-loadtest --url http://127.0.0.1:1 --model base";
    let cli = Cli::parse_from(common.split(' ').chain(line.split_whitespace()));
    Plan::new(&cli.run).unwrap().classes.remove(0)
}

fn read(text: &str) -> Result<Vec<ClassSpec>> {
    parse(text, Path::new("folder"), &base("--timeout-ms 100 --protocol http-json"))
}

#[test]
fn classes_say_what_is_theirs_and_inherit_the_rest() {
    let classes = read(
        r#"
        [[class]]
        name = "small"
        weight = 8
        golden = "g.json"
        [[class]]
        model = "other:2"
        url = "http://127.0.0.1:2"
        protocol = "grpc-typed"
        inputs = ["x:FP32:1x4"]
        rows = 8
        timeout_ms = 20
        timeout_by = "parameter"
        priority = 1
        parameters = { user_id = "u7", weir_explain = true }
        headers = { x-key = "k" }
        tag = "x:y"
        cancel_share = 0.1
        cancel_after_ms = 2
        "#,
    )
    .unwrap();
    let [small, other] = &classes[..] else { panic!("{classes:?}") };
    assert_eq!((small.name.as_str(), small.model.as_str(), small.weight), ("small", "base", 8));
    assert_eq!((small.protocol, small.timeout), (Protocol::HttpJson, Some(Duration::from_millis(100))));
    assert!(matches!(&small.source, Source::Golden(path) if *path == Path::new("folder/g.json")));
    assert_eq!((other.name.as_str(), other.rows, other.url.as_str()), ("other:2", Some(8), "http://127.0.0.1:2"));
    assert_eq!(other.cancel, Some(Cancel { share: 0.1, after: Duration::from_millis(2) }));
    let mut parameters = other.all_parameters();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["priority", "timeout", "user_id", "weir_explain"]);
    assert_eq!(other.headers[0].0, "x-key");
}

#[test]
fn tenants_share_a_class() {
    let text = "[[class]]\nname = 'c'\nweight = 6\ntenants = { header = 'x-tenant', values = ['a', 'b', 'c'] }";
    let classes = read(text).unwrap();
    let seen: Vec<_> = classes.iter().map(|class| (class.name.as_str(), class.weight)).collect();
    assert_eq!(seen, [("c/a", 2), ("c/b", 2), ("c/c", 2)]);
    assert_eq!(classes[1].headers[0].1, "b");
    assert!(read(&text.replace('6', "7")).is_err());
}

#[test]
fn what_is_wrong_is_named() {
    for (text, named) in [
        ("[[class]]\nwieght = 3", "wieght"),
        ("[[class]]\nprotocol = 'http'", "protocol"),
        ("[[class]]\nweight = 10001", "weight"),
        ("[[class]]\nweight = 0", "weight"),
        ("[[class]]\ntimeout_ms = 0", "timeout_ms"),
        ("[[class]]\ncancel_share = 0.5", "cancel_after_ms"),
        ("[[class]]\ncancel_share = 2.0\ncancel_after_ms = 1", "cancel_share"),
        ("[[class]]\ngolden = 'a'\ninputs = []", "golden"),
        ("[[class]]\nvariants = 0", "variants"),
        ("[[class]]\nmodel = ''", "model"),
        ("[[class]]\nheaders = { 'a b' = 'c' }", "header"),
        ("class = []", "class"),
    ] {
        let fault = read(text).unwrap_err().to_string();
        assert!(fault.contains(named), "{text}: {fault}");
    }
}

#[test]
fn the_demo_scenario_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/demo.toml");
    let classes = super::read(&path, &base("")).unwrap();
    assert_eq!(classes.iter().map(|class| class.weight).sum::<u32>(), 100);
    for class in &classes {
        let Source::Golden(golden) = &class.source else { continue };
        assert!(golden.is_file(), "{}", golden.display());
    }
}
