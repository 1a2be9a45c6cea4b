//! The history check: a split is changed every ten milliseconds while callers ask, and afterwards every answer must follow from
//! one revision that was live between its send and its receive. The bulk is asked in this process, where a debug build answers
//! many times as fast; some thousands go over the wire, to the real binary, in every encoding.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use weir::{
    compose::Edit,
    spec::parse_route_toml,
    types::{InferRequest, InferResponse, ParamValue},
};

use super::{
    lab::{Lab, Made, floats, path, request, told, with, with_texts},
    ledger::{ARMS, Ledger, Live, Row, Seen},
};

/// Answers in this process, and changes meanwhile.
const ANSWERS: u64 = 100_000;
const CHANGES: usize = 200;
const CALLERS: u64 = 24;
/// Between two changes.
const EVERY: Duration = Duration::from_millis(10);
/// Different keys.
const KEYS: u64 = 5_000;

/// The split that changes.
fn split(weights: [f64; 2], versions: [u64; 2]) -> String {
    let arm = |i: usize| {
        format!(
            "[[variant]]\nname = \"{}\"\nmodel = \"m\"\nversion = {}\nweight = {:?}\n",
            ARMS[i], versions[i], weights[i]
        )
    };
    format!("kind = \"split\"\nkey = [\"parameter:user\", \"input:user\"]\nsalt = \"x\"\n{}{}", arm(0), arm(1))
}

/// The same split twice: whoever is not sure asks it again, and must meet the same revision.
const CASCADE: &str = r#"kind = "cascade"
[[stage]]
model = "split"
accept = { output = "p", measure = "max_prob", at_least = 0.9 }
[[stage]]
model = "split"
"#;

/// The weights and versions of a revision: 0 and 1 among them, no two in a row alike, and now and then the arms change models.
fn next(last: &Live) -> ([f64; 2], [u64; 2]) {
    let share = (last.revision * 37 % 101) as f64;
    let [a, b] = last.versions;
    ([share, 100.0 - share], if last.revision.is_multiple_of(10) { [b, a] } else { [a, b] })
}

/// Says of every row the probability that it is given, and which version it is.
fn model(version: u64) -> Made {
    Made::new("m", version, (&[("x", 1)], &[("p", 2), ("v", 0)]), move |inputs, rows| {
        let p = inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect();
        Ok(vec![p, vec![version as f32; rows]])
    })
}

fn key(number: u64) -> String {
    format!("u{number}")
}

/// The request of a number, and the keys that it brings.
fn asks(number: u64) -> (InferRequest, Vec<String>) {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let user = mixed % KEYS;
    let text = |request| with(request, "user", ParamValue::Text(key(user).into()));
    match number % 4 {
        0 => (text(request("split", &[0.5])), vec![key(user)]),
        1 => {
            let one = with(request("split", &[0.5; 3]), "user", ParamValue::Int(user as i64));
            (one, vec![user.to_string()])
        }
        2 => {
            let keys: Vec<_> = (0..8).map(|row| key((user + row * 7) % KEYS)).collect();
            let rows = with_texts(request("split", &[0.5; 8]), "user", &keys);
            (with(rows, "weir_explain", ParamValue::Bool(true)), keys)
        }
        _ => (text(request("cascade", &[0.05, 0.5, 0.99, 0.5])), vec![key(user)]),
    }
}

/// What an answer tells.
fn seen(keys: Vec<String>, (sent, received): (Instant, Instant), answer: &InferResponse) -> Seen {
    let versions: Vec<u64> = floats(answer, "v").iter().map(|version| *version as u64).collect();
    let number = |name: &str| told(answer, name).map(|text| text.parse::<u64>().unwrap());
    let inside = &*answer.answered.model == "cascade";
    if inside {
        assert_eq!((number("weir_revision"), told(answer, "weir_stage_rows").as_deref()), (Some(1), Some("2,2")));
    }
    let revision = number("weir_revision").filter(|_| !inside);
    assert_eq!(revision.map(|revision| revision.to_string()).as_deref().unwrap_or("1"), &*answer.answered.version);
    if let [key] = &*keys {
        // One arm for all rows: all are of the version that is told, also those that the second stage answered.
        let version = number("weir_version").unwrap();
        assert!(versions.iter().all(|of_row| *of_row == version), "{answer:?}");
        let arm = ARMS.iter().position(|arm| told(answer, "weir_variant").unwrap() == **arm).unwrap();
        return Seen { sent, received, revision, rows: vec![Row { key: key.clone(), arm, version }] };
    }
    let rows = keys.into_iter().zip(path(answer)).zip(versions);
    let rows = rows.map(|((key, arm), version)| Row { key, arm, version }).collect();
    Seen { sent, received, revision, rows }
}

/// How far it has come.
#[derive(Default)]
struct Progress {
    answers: AtomicU64,
    changes: AtomicU64,
}

impl Progress {
    fn done(&self) -> bool {
        self.answers.load(Relaxed) >= ANSWERS && self.changes.load(Relaxed) >= CHANGES as u64
    }
}

async fn call(lab: Arc<Lab>, caller: u64, progress: Arc<Progress>) -> Vec<Seen> {
    let mut all = Vec::new();
    for number in (caller..).step_by(CALLERS as usize) {
        let (request, keys) = asks(number);
        let sent = Instant::now();
        let answer = lab.ask(request).await.unwrap();
        all.push(seen(keys, (sent, Instant::now()), &answer));
        progress.answers.fetch_add(1, Relaxed);
        if progress.done() {
            break;
        }
    }
    all
}

/// Changes the split until the callers have had enough.
async fn change(lab: &Lab, progress: &Progress, mut ledger: Ledger) -> Ledger {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !progress.done() {
        ticks.tick().await;
        let (weights, versions) = next(ledger.last());
        let edit = if versions == ledger.last().versions {
            Edit::Weights(ARMS.into_iter().map(Into::into).zip(weights).collect())
        } else {
            Edit::Put(parse_route_toml(&split(weights, versions)).unwrap())
        };
        let asked = Instant::now();
        let changed = lab.change("split", edit).await.unwrap();
        ledger.changed(Live { revision: changed.revision, weights, versions, asked, answered: Instant::now() });
        progress.changes.fetch_add(1, Relaxed);
    }
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_follows_from_one_revision_that_was_live() {
    let (weights, versions) = ([50.0, 50.0], [1, 2]);
    let routes = [("split", &*split(weights, versions)), ("cascade", CASCADE)];
    let lab = Arc::new(Lab::start(vec![model(1), model(2)], &routes).await);
    let (progress, begun) = (Arc::new(Progress::default()), Instant::now());
    let first = Live { revision: 1, weights, versions, asked: begun, answered: begun };
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(Arc::clone(&lab), caller, Arc::clone(&progress)));
    }
    let ledger = change(&lab, &progress, Ledger::new("x", first)).await;
    let all: Vec<Seen> = callers.join_all().await.concat();
    eprintln!("{} answers and {} revisions in {:.1?}", all.len(), ledger.len(), begun.elapsed());
    assert!(all.len() as u64 >= ANSWERS);
    ledger.check(&all);
    // Not because nothing happened: revisions were met, and requests met changes on their way.
    let mut revisions: Vec<_> = all.iter().filter_map(|seen| seen.revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert!(revisions.len() > CHANGES / 4, "only {} revisions were met", revisions.len());
}
