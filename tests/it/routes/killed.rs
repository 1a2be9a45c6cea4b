//! SIGKILL in the middle of changes: what is on the disk afterwards is a revision that had been written, whole; who starts again
//! serves it, and gives every key to whom it was given before, as does the gateway beside it that was never killed.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{Shown, assigned, patch, revisions, weights};
use crate::{
    client::Http,
    harness::{PATIENCE, Registry, Weir, until},
    ops_routes::{CHECKOUT, Operator, asked},
};

/// Changes that are answered over all kills.
const CHANGES: usize = 1000;
const KILLS: usize = 10;
const FLAGS: [&str; 4] = ["--settle-ms", "0", "--poll-interval-ms", "50"];

/// What was asked for by then: what was answered, and what was on its way when the connection was lost.
#[derive(Clone, Debug, Default)]
struct Wanted {
    answered: BTreeMap<u64, [u64; 2]>,
    lost: Option<[u64; 2]>,
}

/// Changes one after the other until the connection is lost. No two changes are alike.
async fn change(ops: std::net::SocketAddr, from: Arc<AtomicU64>) -> Wanted {
    let (mut http, mut wanted) = (Http::new(ops), Wanted::default());
    loop {
        let pair = [from.fetch_add(1, Relaxed), 500];
        match patch(&mut http, pair, None).await {
            Some((status, told)) => {
                assert_eq!(status, 200, "{told}");
                wanted.answered.insert(told["revision"].as_u64().unwrap(), pair);
            }
            None => {
                wanted.lost = Some(pair);
                return wanted;
            }
        }
    }
}

/// Who gets each of some keys: as is said, and as is answered.
async fn assignment(server: &Weir) -> BTreeMap<String, String> {
    let (mut operator, mut http) = (Operator::of(server), Http::new(server.http));
    let mut all = BTreeMap::new();
    for number in 0..60 {
        let key = format!("u{number}");
        let told = operator.get(&format!("/ops/routes/checkout/assignment?key={key}")).await;
        let variant = told["variant"].as_str().unwrap().to_owned();
        if number % 6 == 0 {
            assert_eq!(asked(&mut http, &key).await, (variant.clone(), told["revision"].as_u64().unwrap()));
        }
        all.insert(key, variant);
    }
    all
}

fn pair_of(text: &str) -> [u64; 2] {
    let weights: Vec<u64> = weights(text).into_iter().map(|(_, weight)| weight as u64).collect();
    weights.try_into().unwrap()
}

/// Kills a gateway after `some` changes and a moment more. Returns what was wanted of it, and what the file said then.
async fn killed(server: Weir, (some, moment): (usize, Duration), next: &Arc<AtomicU64>) -> (Wanted, String) {
    let file = server.registry.path().join("checkout/route.toml");
    let until = next.load(Relaxed) + some as u64;
    let mut writer = JoinSet::new();
    writer.spawn(change(server.ops, Arc::clone(next)));
    while next.load(Relaxed) < until && writer.try_join_next().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(moment).await;
    server.kill();
    let wanted = writer.join_next().await.unwrap().unwrap();
    (wanted, fs::read_to_string(file).unwrap())
}

#[tokio::test]
async fn who_is_killed_leaves_a_revision_that_was_written() {
    let registry = Registry::new(&[("fraud", "models/digits-linear")]);
    registry.write("checkout/route.toml", CHECKOUT);
    let beside = Weir::serve(registry.clone(), &FLAGS).await;
    let next = Arc::new(AtomicU64::new(1));
    let (mut answered, mut kills, mut unanswered) = (0, 0, 0);
    while answered < CHANGES || kills < KILLS {
        let server = Weir::serve(registry.clone(), &FLAGS).await;
        let moment = Duration::from_micros(kills as u64 * 7919 % 20_000);
        let (wanted, file) = killed(server, (CHANGES / KILLS, moment), &next).await;
        kills += 1;
        answered += wanted.answered.len();
        let (last, newest) = wanted.answered.last_key_value().unwrap();
        // Whole, and something that somebody wanted: of a change that was answered the file cannot be older.
        let found = pair_of(&file);
        assert!(found == *newest || Some(found) == wanted.lost, "{found:?} after {wanted:?}");

        let again = Weir::serve(registry.clone(), &FLAGS).await;
        let shown = Shown::of(&again).await;
        let made = if shown.revision == *last { *newest } else { wanted.lost.unwrap() };
        assert!(shown.revision == *last || shown.revision == last + 1, "{shown:?} after {wanted:?}");
        assert_eq!((pair_of(&shown.text), shown.who.as_str()), (made, "local"));
        assert_eq!(fs::read_to_string(registry.path().join("checkout/route.toml")).unwrap(), shown.text);
        unanswered += usize::from(shown.revision > *last);
        let texts = revisions(&again, wanted.answered.first_key_value().unwrap().0.to_owned()).await;
        for (revision, pair) in &wanted.answered {
            assert_eq!(pair_of(&texts[revision]), *pair, "revision {revision} is not what was answered");
        }
        // The one beside it has come to the same, and both give the keys to the same.
        until("the other one follows", PATIENCE, async || (Shown::of(&beside).await == shown).then_some(())).await;
        let (here, there) = (assignment(&again).await, assignment(&beside).await);
        let weights = weights(&shown.text);
        assert!(here.iter().all(|(key, variant)| assigned(&weights, key) == *variant));
        assert_eq!(here, there);
        // Killed once more, while nothing changes: everything is as it was.
        again.kill();
        let again = Weir::serve(registry.clone(), &FLAGS).await;
        assert_eq!((Shown::of(&again).await, assignment(&again).await), (shown, here));
        again.kill();
    }
    eprintln!("{answered} changes, {kills} kills, {unanswered} after the revision and before its answer");
    assert!(beside.stop().await.success());
}
