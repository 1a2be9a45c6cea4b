//! Configurations that are refused: each as an edit by hand over a revision that serves, then as a change through the ops API,
//! and by `weir check`. All of them say the same: file, key and reason of every problem at once; and what served goes on
//! serving. The table is `refused.txt`; what no text can be is made here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::Path,
};

use serde_json::{Value, json};
use weir::{
    compose::{ChangeError, Edit},
    spec::parse_route_toml,
    types::RouteKind,
};

use super::lab::{Lab, Made, request};
use crate::{
    array::Array,
    ask::{Ask, Way},
    client::Client,
    golden,
    harness::{PATIENCE, Registry, Weir, repository, until, weir},
    ops_routes::Operator,
};

const TABLE: &str = include_str!("refused.txt");
/// Of another route, after what is wrong with the route itself.
const BROKEN: &str = "route.toml: then route '";

/// What every route is before.
const GOOD: &str =
    "kind = \"split\" # in order\n[[variant]]\nname = \"good\"\nmodel = \"digits\"\nversion = 1\nweight = 1\n";

struct Case {
    name: String,
    content: Content,
    /// Can be said in JSON.
    change: bool,
    problems: Vec<String>,
}

enum Content {
    Text(String),
    Bytes(Vec<u8>),
    /// A link to a file that is in order.
    Link,
    Folder,
    /// A file that is in order, beside a version folder.
    Model,
}

fn one(name: &str, content: Content, problem: &str) -> Case {
    Case { name: name.to_owned(), content, change: false, problems: vec![problem.to_owned()] }
}

fn cases() -> Vec<Case> {
    let of_table = TABLE.split("\n=== ").skip(1).map(|case| {
        let (head, lines) = case.split_once('\n').unwrap_or((case, ""));
        let (problems, text): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.starts_with("! "));
        let (name, change) = head.strip_suffix(" (file)").map_or((head, true), |name| (name, false));
        let text = text.iter().map(|line| format!("{line}\n")).collect();
        let problems = problems.iter().map(|line| line[2..].to_owned()).collect();
        Case { name: name.to_owned(), content: Content::Text(text), change, problems }
    });
    let others = [
        one(
            "too-large",
            Content::Text(format!("{GOOD}#{}\n", "x".repeat(256 << 10))),
            "route.toml: size: expected at most 262144 bytes, got 262238",
        ),
        one("not-utf-8", Content::Bytes(b"kind = \"split\" # \xff\n".to_vec()), "route.toml: is not UTF-8"),
        one("a-link", Content::Link, "route.toml: is a link: expected a regular file"),
        one("a-folder", Content::Folder, "route.toml: expected a regular file"),
        one("a-model", Content::Model, "revision 1: name: 'a-model' is a model and a route: rename one of them"),
    ];
    of_table.chain(others).collect()
}

impl Case {
    /// Writes it in the place of what is there.
    fn write(&self, registry: &Path) {
        let folder = registry.join(&self.name);
        let (file, draft) = (folder.join("route.toml"), folder.join(".draft"));
        fs::create_dir_all(&folder).unwrap();
        match &self.content {
            Content::Text(text) => fs::write(&draft, text).unwrap(),
            Content::Bytes(bytes) => fs::write(&draft, bytes).unwrap(),
            Content::Link => {
                fs::write(folder.join("elsewhere.toml"), GOOD.replace("# in order", "# elsewhere")).unwrap();
                symlink("elsewhere.toml", &draft).unwrap();
            }
            Content::Folder => {
                drop(fs::remove_file(&file));
                fs::create_dir(&draft).unwrap();
            }
            Content::Model => {
                fs::create_dir(folder.join("1")).unwrap();
                fs::copy(registry.join("digits/1/model.onnx"), folder.join("1/model.onnx")).unwrap();
                fs::write(&draft, GOOD).unwrap();
            }
        }
        fs::rename(draft, file).unwrap();
    }

    /// Puts back what was there.
    fn restore(&self, registry: &Path) {
        let folder = registry.join(&self.name);
        drop(fs::remove_dir(folder.join("route.toml")));
        drop(fs::remove_dir_all(folder.join("1")));
        fs::write(folder.join(".draft"), GOOD).unwrap();
        fs::rename(folder.join(".draft"), folder.join("route.toml")).unwrap();
    }
}

/// The models, and the routes that the cases name.
fn registry() -> Registry {
    let models = [
        ("digits", "models/digits-linear"),
        ("cnn", "models/digits-cnn"),
        ("wine", "models/wine-forest"),
        ("texts", "tests/fixtures/string-labels"),
        ("plain", "tests/fixtures/identity-fp32"),
        ("single", "tests/fixtures/no-batch"),
        ("mixing", "tests/fixtures/softmax-dim0"),
        ("broken", "tests/fixtures/unknown-op"),
    ];
    let registry = Registry::new(&models);
    let names = |model: &str| GOOD.replace("model = \"digits\"\nversion = 1", &format!("model = \"{model}\""));
    registry.write("deep-1/route.toml", names("digits"));
    for depth in 2..=8 {
        registry.write(&format!("deep-{depth}/route.toml"), names(&format!("deep-{}", depth - 1)));
    }
    registry.write("ring/route.toml", names("cycle"));
    registry.write("outer/route.toml", format!("outputs = [\"label\"]\n{}", names("named")));
    registry
}

/// What the gateway says is wrong with every route.
async fn problems(operator: &mut Operator) -> BTreeMap<String, Vec<String>> {
    let seen = operator.get("/ops/routes").await;
    let routes = seen["routes"].as_array().unwrap().iter();
    routes.map(|route| (route["name"].as_str().unwrap().to_owned(), list(&route["problems"]))).collect()
}

fn list(problems: &Value) -> Vec<String> {
    problems.as_array().unwrap().iter().map(|problem| problem.as_str().unwrap().to_owned()).collect()
}

/// Every route still answers at its first revision, as the model that it names.
async fn all_serve(client: &mut Client, cases: &[Case]) {
    let pixels = vec![Array::f32("pixels", &[1, 64], &[0.5; 64])];
    let want = client.answer(Way::Raw, &Ask::new("digits", pixels.clone()).version("1")).await.outputs;
    for (case, way) in cases.iter().zip(Way::ALL.into_iter().cycle()) {
        let answer = client.answer(way, &Ask::new(&case.name, pixels.clone())).await;
        assert_eq!((answer.version.as_str(), &answer.params["weir_variant"]), ("1", &json!("good")), "{}", case.name);
        golden::agree(&answer.outputs, &want).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
}

/// A problem as it is said of a change: there is no file, and no place in it.
fn without_place(case: &Case, problem: &str) -> String {
    let text = ["route.toml: ", "body: "].iter().find_map(|file| problem.strip_prefix(file)).unwrap_or(problem);
    if let Some(other) = text.strip_prefix("then ") {
        return other.replacen(" would not", &format!(", which names '{}', would not", case.name), 1);
    }
    let place = text.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    place.map_or(text, |(_, rest)| rest).to_owned()
}

/// Every case as an edit by hand.
async fn edited(server: &Weir, cases: &[Case]) {
    let (mut operator, mut client) = (Operator::of(server), server.client());
    cases.iter().for_each(|case| case.write(server.registry.path()));
    let mut seen = BTreeMap::new();
    let wanted = |case: &Case| case.problems.iter().map(|problem| problem.to_owned()).collect::<Vec<_>>();
    let until_said = until("every edit is refused", PATIENCE, async || {
        seen = problems(&mut operator).await;
        cases.iter().all(|case| seen[&case.name] == wanted(case)).then_some(())
    });
    if tokio::time::timeout(PATIENCE / 2, until_said).await.is_err() {
        let differ = cases.iter().filter(|case| seen[&case.name] != wanted(case));
        let shown: Vec<_> = differ.map(|case| format!("{}: {:#?}", case.name, seen[&case.name])).collect();
        panic!("not as the table says: {}", shown.join("\n"));
    }
    all_serve(&mut client, cases).await;
    cases.iter().for_each(|case| case.restore(server.registry.path()));
    until("all is in order again", PATIENCE, async || {
        problems(&mut operator).await.values().all(Vec::is_empty).then_some(())
    })
    .await;
    all_serve(&mut client, cases).await;
}

/// Every case that JSON can say as a change.
async fn changed(server: &Weir, cases: &[Case]) {
    let (mut operator, mut client) = (Operator::of(server), server.client());
    for case in cases.iter().filter(|case| case.change) {
        let Content::Text(text) = &case.content else { panic!("{}", case.name) };
        let body = serde_json::to_string(&text.parse::<toml::Table>().unwrap()).unwrap();
        let line = format!("PUT /ops/routes/{}", case.name);
        let reply = operator.send(&line, &[("if-match", "\"1\"")], &body).await;
        assert_eq!(reply.status, 400, "{}: {reply:?}", case.name);
        let said: BTreeSet<_> =
            list(&reply.json()["problems"]).iter().map(|problem| without_place(case, problem)).collect();
        let want: BTreeSet<_> = case.problems.iter().map(|problem| without_place(case, problem)).collect();
        assert_eq!(said, want, "{}", case.name);
    }
    all_serve(&mut client, cases).await;
    for case in cases {
        let history = operator.get(&format!("/ops/routes/{}/history", case.name)).await;
        assert_eq!(history["revisions"].as_array().unwrap().len(), 1, "{}", case.name);
        let file = server.registry.path().join(&case.name).join("route.toml");
        assert_eq!(fs::read_to_string(file).unwrap(), GOOD, "{}", case.name);
    }
}

#[tokio::test]
async fn what_is_refused_says_why_and_changes_nothing() {
    let (registry, cases) = (registry(), cases());
    assert!(cases.len() >= 50 && cases.iter().filter(|case| case.problems.len() > 1).count() >= 20);
    cases.iter().for_each(|case| registry.write(&format!("{}/route.toml", case.name), GOOD));
    let server = Weir::serve(registry, &["--settle-ms", "0", "--poll-interval-ms", "50"]).await;
    edited(&server, &cases).await;
    changed(&server, &cases).await;
    // What is in order is still taken.
    let name = &cases[0].name;
    server.registry.write(&format!("{name}/route.toml"), GOOD.replace("version = 1", "version = 2"));
    let mut operator = Operator::of(&server);
    until("a good edit is a revision", PATIENCE, async || {
        (operator.get(&format!("/ops/routes/{name}")).await["revision"] == 2).then_some(())
    })
    .await;
    assert!(server.stop().await.success());
}

/// Runs `weir check` on a directory.
fn check(root: &Path, more: &[&str]) -> (i32, String) {
    let output = weir().arg("check").arg(root).args(more).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn check_says_the_same() {
    let (registry, cases) = (registry(), cases());
    cases.iter().for_each(|case| case.write(registry.path()));
    let (code, text) = check(registry.path(), &["--output", "json"]);
    assert_eq!(code, 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for problem in report["problems"].as_array().unwrap() {
        let text = problem["text"].as_str().unwrap().to_owned();
        said.entry(problem["model"].as_str().unwrap().to_owned()).or_default().push(text);
    }
    for case in &cases {
        let own = case.problems.iter().filter(|problem| !problem.starts_with(BROKEN)).cloned();
        let want = match case.content {
            Content::Model => vec!["is a model and a route: remove route.toml or the model's files".to_owned()],
            _ => own.collect(),
        };
        assert_eq!(said.remove(&case.name).unwrap_or_default(), want, "{}", case.name);
    }
    // The routes that name what is not in order, and the model that cannot be loaded.
    assert_eq!(said.keys().collect::<Vec<_>>(), ["broken", "outer", "ring"], "{said:?}");
    let good = |name: &str| {
        let routes = report["routes"].as_array().unwrap();
        routes.iter().find(|route| route["route"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))["good"]
            .clone()
    };
    assert_eq!([good("deep-8"), good("depth"), good("outer")], [json!(true), json!(false), json!(false)]);
    let (code, text) = check(registry.path(), &[]);
    assert_eq!(code, 1);
    for line in ["depth    ", "problem: sum: route.toml: line 2, column 1: variant: expected weights", " problems\n"] {
        assert!(text.contains(line), "no '{line}' in {text}");
    }
}

#[test]
fn check_finds_nothing_where_nothing_is_wrong() {
    let registry = Registry::new(&[("digits", "models/digits-linear")]);
    let apart = Registry::new::<&str>(&[]);
    registry.write("here/route.toml", GOOD);
    apart.write("apart/route.toml", GOOD);
    let (code, text) = check(registry.path(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("here   split  good\n") && text.ends_with("2 versions, 1 route, 0 problems\n"), "{text}");
    let (code, text) = check(registry.path(), &["--routes", apart.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("apart  split  good\n") && !text.contains("here "), "{text}");
}

/// Numbers that JSON does not have, as a program that embeds the gateway may give them.
#[tokio::test]
async fn numbers_that_are_none_are_refused_as_changes() {
    let model = Made::new("digits", 1, (&[("x", 1)], &[("y", 1)]), |inputs, _| Ok(vec![inputs[0].clone()]));
    let lab = Lab::start(vec![model], &[("split", GOOD)]).await;
    let spec = |weight| {
        let mut spec = parse_route_toml(GOOD).unwrap();
        let RouteKind::Split(split) = &mut spec.kind else { panic!("no split") };
        split.variants[0].weight = weight;
        spec
    };
    for weight in [f64::NAN, f64::INFINITY, -1.0, 0.0, -0.0] {
        for edit in [Edit::Weights(vec![("good".into(), weight)]), Edit::Put(spec(weight))] {
            let Err(ChangeError::Refused(problems)) = lab.change("split", edit.clone()).await else {
                panic!("{edit:?} was not refused");
            };
            let [problem] = &*problems else { panic!("{edit:?}: {problems:?}") };
            assert!(problem.starts_with("route.toml: ") && problem.contains("variant"), "{edit:?}: {problem}");
        }
    }
    let unknown = lab.change("split", Edit::Weights(vec![("bad".into(), 1.0), ("worse".into(), 1.0)])).await;
    let Err(ChangeError::Refused(problems)) = unknown else { panic!("{unknown:?}") };
    assert!(problems.len() == 2 && problems.iter().all(|problem| problem.starts_with("route.toml: ")), "{problems:?}");
    assert_eq!(&*lab.ask(request("split", &[1.0])).await.unwrap().answered.version, "1");
}

/// A name that is both, where models and routes have directories of their own: who has it keeps it.
#[tokio::test]
async fn a_name_that_is_both_stays_what_it_was() {
    let (models, routes) = (Registry::new(&[("digits", "models/digits-linear")]), Registry::new::<&str>(&[]));
    routes.write("split/route.toml", GOOD);
    let apart = routes.path().to_str().unwrap().to_owned();
    let flags = ["--settle-ms", "0", "--poll-interval-ms", "50", "--routes", &apart];
    let server = Weir::serve(models, &flags).await;
    let (mut operator, mut client) = (Operator::of(&server), server.client());
    routes.write("digits/route.toml", GOOD);
    server.registry.publish("split", 1, &repository("models/digits-cnn/1/model.onnx"));
    for (name, problem) in [
        ("digits", "route.toml: name: 'digits' is a model and a route: rename one of them"),
        ("split", "revision 1: name: 'split' is a model and a route: rename one of them"),
    ] {
        until("it is said", PATIENCE, async || (problems(&mut operator).await.get(name)? == &[problem]).then_some(()))
            .await;
    }
    server.warm("split").await;
    let pixels = vec![Array::f32("pixels", &[1, 64], &[0.5; 64])];
    for way in Way::ALL {
        let answer = client.answer(way, &Ask::new("split", pixels.clone())).await;
        assert_eq!(answer.params["weir_variant"], "good");
        assert!(client.answer(way, &Ask::new("digits", pixels.clone())).await.params.is_empty());
    }
    assert!(server.stop().await.success());
}
