//! The history check over the wire: the real binary, clients of every encoding, changes through the ops API. What is answered
//! is also compared with what the version that is named answers when it is asked itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use weir::protocol::pb::InferStatistics;

use super::ledger::{ARMS, Ledger, Live, Row, Seen};
use crate::{
    array::Array,
    ask::{Answer, Ask, Way},
    client::Client,
    golden::{self, agree},
    harness::{Registry, Weir},
    ops_routes::Operator,
};

const ANSWERS: usize = 5_000;
const CHANGES: usize = 100;
const CLIENTS: usize = 8;
const EVERY: Duration = Duration::from_millis(10);
const AT_LEAST: f64 = 0.9;

const SPLIT: &str = r#"kind = "split"
key = ["parameter:user", "input:user"]
salt = "x"
[[variant]]
name = "control"
model = "digits-linear"
version = 1
weight = 50
[[variant]]
name = "candidate"
model = "digits-linear"
version = 2
weight = 50
"#;

const CASCADE: &str = r#"kind = "cascade"
[[stage]]
model = "split"
accept = { output = "probabilities", measure = "max_prob", at_least = 0.9 }
[[stage]]
model = "digits-cnn"
"#;

/// What models answer for rows that are asked again and again, asked directly.
struct Known {
    pixels: Vec<Array>,
    /// By version of `digits-linear`, then by row.
    linear: [Vec<Vec<Array>>; 2],
    cnn: Vec<Vec<Array>>,
}

impl Known {
    async fn learn(client: &mut Client) -> Self {
        let rows = golden::rows("models/digits-linear/2/golden.json");
        let pixels: Vec<Array> = rows.iter().map(|row| row.inputs[0].clone()).collect();
        let mut all = Vec::new();
        for (model, version) in [("digits-linear", "1"), ("digits-linear", "2"), ("digits-cnn", "1")] {
            let mut answers = Vec::new();
            for row in &pixels {
                answers
                    .push(client.answer(Way::Raw, &Ask::new(model, vec![row.clone()]).version(version)).await.outputs);
            }
            all.push(answers);
        }
        let [one, two, cnn] = <[_; 3]>::try_from(all).unwrap();
        let known = Self { pixels, linear: [one, two], cnn };
        let alike = |row: &usize| agree(&known.linear[0][*row], &known.linear[1][*row]).is_ok();
        assert_eq!((0..known.pixels.len()).filter(alike).count(), 0, "versions cannot be told apart");
        known
    }

    /// Panics unless these are the rows of who is said to have answered them.
    fn check(&self, answer: &Answer, rows: &[usize], who: &[Who]) {
        for (place, (row, who)) in rows.iter().zip(who).enumerate() {
            let got: Vec<Array> = answer.outputs.iter().filter(|output| output.name != "weir_path").cloned().collect();
            let got: Vec<Array> = got.iter().map(|output| output.split().swap_remove(place)).collect();
            let want = match who {
                Who::Linear(version) => &self.linear[*version as usize - 1][*row],
                Who::Cnn => &self.cnn[*row],
            };
            agree(&got, want).unwrap_or_else(|why| panic!("row {place} is not {who:?}'s: {why}\n{answer:?}\n{want:?}"));
        }
    }

    /// Whether `digits-linear` is sure of a row; nothing when it nearly is.
    fn is_sure(&self, version: u64, row: usize) -> Option<bool> {
        let outputs = &self.linear[version as usize - 1][row];
        let scores = outputs.iter().find(|output| output.name == "probabilities").unwrap().numbers();
        let sure = scores.into_iter().fold(0.0, f64::max) - AT_LEAST;
        (sure.abs() > 1e-4).then_some(sure > 0.0)
    }
}

/// Who answered a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Linear(u64),
    Cnn,
}

/// A client's question: to whom, which rows, with which keys.
fn asks(number: usize, known: &Known) -> (Ask, Vec<usize>, Vec<String>) {
    let count = [1, 3, 8][number / 3 % 3];
    let rows: Vec<usize> = (0..count).map(|place| (number + place) % known.pixels.len()).collect();
    let pixels = Array::join(&rows.iter().map(|row| &known.pixels[*row]).collect::<Vec<_>>());
    let key = format!("u{}", number * 7 % 997);
    let to = |route: &str| Ask::new(route, vec![pixels.clone()]).param("weir_explain", true);
    match number % 3 {
        0 => (to("split").param("user", key.clone()), rows, vec![key]),
        1 => {
            let keys: Vec<String> = (0..count).map(|place| format!("u{}", (number * 13 + place) % 997)).collect();
            let mut ask = to("split");
            ask.inputs.push(Array::strings("user", &[count as i64], &keys));
            (ask, rows, keys)
        }
        _ => (to("cascade").param("user", key.clone()), rows, vec![key]),
    }
}

fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.params.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name}: {answer:?}"))
}

fn path(answer: &Answer) -> Vec<usize> {
    answer.output("weir_path").numbers().into_iter().map(|index| index as usize).collect()
}

/// What an answer tells, after a look at whether it is what those who are said to have answered do answer.
fn seen(number: usize, known: &Known, moments: (Instant, Instant), answer: &Answer) -> Seen {
    let (ask, rows, keys) = asks(number, known);
    let (sent, received) = moments;
    let arm = |name: &str| ARMS.iter().position(|arm| *arm == name).unwrap_or_else(|| panic!("{name}: {answer:?}"));
    let (variants, versions): (Vec<_>, Vec<u64>) = {
        let versions = text(answer, "weir_version").split(',').map(|version| version.parse().unwrap());
        (text(answer, "weir_variant").split(',').map(arm).collect(), versions.collect())
    };
    let version_of = |arm: usize| versions[variants.iter().position(|variant| *variant == arm).unwrap()];
    let revision = answer.params["weir_revision"].as_u64().unwrap();
    assert_eq!(answer.version, revision.to_string());
    if ask.model == "cascade" {
        let (arm, version, stages) = (variants[0], versions[0], path(answer));
        let who: Vec<Who> = stages.iter().map(|stage| [Who::Linear(version), Who::Cnn][*stage]).collect();
        known.check(answer, &rows, &who);
        for (row, stage) in rows.iter().zip(&stages) {
            assert!(known.is_sure(version, *row).is_none_or(|sure| sure == (*stage == 0)), "{answer:?}");
        }
        let of_stage = |stage: usize| stages.iter().filter(|of_row| **of_row == stage).count();
        assert_eq!(text(answer, "weir_stage_rows"), format!("{},{}", of_stage(0), of_stage(1)));
        assert_eq!((variants.len(), revision), (1, 1));
        return Seen { sent, received, revision: None, rows: vec![Row { key: keys[0].clone(), arm, version }] };
    }
    let arms = path(answer);
    let who: Vec<Who> = arms.iter().map(|arm| Who::Linear(version_of(*arm))).collect();
    known.check(answer, &rows, &who);
    assert_eq!(answer.params["weir_sticky"], true);
    // A key of the request decides about all of its rows.
    let keys = if let [key] = &*keys { vec![key.clone(); arms.len()] } else { keys };
    let rows = keys.into_iter().zip(arms).map(|(key, arm)| Row { key, arm, version: version_of(arm) }).collect();
    Seen { sent, received, revision: Some(revision), rows }
}

/// How far it has come.
#[derive(Default)]
struct Progress {
    answers: AtomicUsize,
    changes: AtomicUsize,
}

impl Progress {
    fn done(&self) -> bool {
        self.answers.load(Relaxed) >= ANSWERS && self.changes.load(Relaxed) >= CHANGES
    }
}

async fn call(mut client: Client, place: usize, known: Arc<Known>, progress: Arc<Progress>) -> Vec<Seen> {
    let mut all = Vec::new();
    for number in (place..).step_by(CLIENTS) {
        // Every question is put in every encoding.
        let way = Way::ALL[(place + number / CLIENTS) % 4];
        let (ask, ..) = asks(number, &known);
        let sent = Instant::now();
        let answer = client.answer(way, &ask).await;
        all.push(seen(number, &known, (sent, Instant::now()), &answer));
        progress.answers.fetch_add(1, Relaxed);
        if progress.done() {
            break;
        }
    }
    all
}

/// Changes the split through the ops API until the clients have had enough: weights mostly, now and then what the arms are.
async fn change(server: &Weir, progress: &Progress, mut ledger: Ledger) -> Ledger {
    let mut operator = Operator::of(server);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !progress.done() {
        ticks.tick().await;
        let last = ledger.last().clone();
        let share = (last.revision * 37 % 101) as f64;
        let (weights, [a, b]) = ([share, 100.0 - share], last.versions);
        let asked = Instant::now();
        let (told, versions) = if last.revision.is_multiple_of(10) {
            let arm = |i: usize, version: u64| json!({"name": ARMS[i], "model": "digits-linear", "version": version, "weight": weights[i]});
            let body = json!({"kind": "split", "key": ["parameter:user", "input:user"], "salt": "x", "variant": [arm(0, b), arm(1, a)]});
            let tag = format!("\"{}\"", last.revision);
            (operator.change("PUT /ops/routes/split", &[("if-match", &tag)], &body.to_string()).await.0, [b, a])
        } else {
            let body = json!({ARMS[0]: weights[0], ARMS[1]: weights[1]}).to_string();
            (operator.change("PATCH /ops/routes/split/weights", &[], &body).await.0, [a, b])
        };
        let revision = told["revision"].as_u64().unwrap();
        ledger.changed(Live { revision, weights, versions, asked, answered: Instant::now() });
        progress.changes.fetch_add(1, Relaxed);
    }
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_over_the_wire_follows_from_one_revision_that_was_live() {
    let registry = Registry::new(&[("digits-linear", "models/digits-linear"), ("digits-cnn", "models/digits-cnn")]);
    registry.write("split/route.toml", SPLIT);
    registry.write("cascade/route.toml", CASCADE);
    let server = Weir::serve(registry, &["--settle-ms", "0"]).await;
    let known = Arc::new(Known::learn(&mut server.client()).await);
    let (progress, begun) = (Arc::new(Progress::default()), Instant::now());
    let first = Live { revision: 1, weights: [50.0, 50.0], versions: [1, 2], asked: begun, answered: begun };
    let mut clients = JoinSet::new();
    for place in 0..CLIENTS {
        clients.spawn(call(server.client(), place, Arc::clone(&known), Arc::clone(&progress)));
    }
    let ledger = change(&server, &progress, Ledger::new("x", first)).await;
    let all: Vec<Seen> = clients.join_all().await.concat();
    eprintln!("{} answers and {} revisions in {:.1?}", all.len(), ledger.len(), begun.elapsed());
    assert!(all.len() >= ANSWERS);
    ledger.check(&all);
    let (split, cascade) = {
        let mut client = server.client();
        (client.statistics("split").await, client.statistics("cascade").await)
    };
    let count = |of: &dyn Fn(&InferStatistics) -> u64| {
        [&split, &cascade].map(|about| of(about.inference_stats.as_ref().unwrap())).iter().sum::<u64>()
    };
    assert_eq!(count(&|about| about.success.unwrap().count), all.len() as u64, "over all revisions");
    assert_eq!(count(&|about| about.fail.unwrap().count), 0);
    assert!(server.stop().await.success());
}
