//! Two gateways over one directory: both write, both follow, and they never disagree about a revision's number or content.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{Shown, assigned, patch, revisions, weights};
use crate::{
    client::Http,
    harness::{PATIENCE, Registry, Weir, until},
    ops_routes::{CHECKOUT, asked},
};

/// Writes of each gateway in the race.
const WRITES: u64 = 100;
/// How often a directory is looked at, where time is what is measured.
const INTERVAL: Duration = Duration::from_millis(500);

/// Two gateways that start at the same time, where there is no revision yet.
async fn pair(flags: &[&str]) -> [Weir; 2] {
    let registry = Registry::new(&[("fraud", "models/digits-linear")]);
    registry.write("checkout/route.toml", CHECKOUT);
    let (one, other) = tokio::join!(Weir::serve(registry.clone(), flags), Weir::serve(registry.clone(), flags));
    [one, other]
}

/// Waits until a gateway is at a revision, and says how long that took.
async fn follows(server: &Weir, revision: u64) -> Duration {
    let begun = Instant::now();
    until("the other one follows", PATIENCE, async || (Shown::of(server).await.revision >= revision).then_some(()))
        .await;
    begun.elapsed()
}

/// Both say the same, and answer alike.
async fn agree(servers: &[Weir; 2], revision: u64) {
    let shown = [Shown::of(&servers[0]).await, Shown::of(&servers[1]).await];
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0].revision, revision);
    let weights = weights(&shown[0].text);
    for server in servers {
        let mut http = Http::new(server.http);
        for number in 0..10 {
            let key = format!("u{number}");
            assert_eq!(asked(&mut http, &key).await, (assigned(&weights, &key), revision));
        }
    }
}

/// Writes through one and the other in turn, each on top of what the other has made. Returns how long following took.
async fn in_turn(servers: &[Weir; 2], writes: u64) -> Vec<Duration> {
    agree(servers, 1).await;
    let mut ops = [Http::new(servers[0].ops), Http::new(servers[1].ops)];
    let mut took = Vec::new();
    for revision in 2..writes + 2 {
        let writer = (revision % 2) as usize;
        let (status, told) = patch(&mut ops[writer], [revision, 100 - revision], Some(revision - 1)).await.unwrap();
        assert_eq!((status, told["revision"].as_u64()), (200, Some(revision)), "{told}");
        took.push(follows(&servers[1 - writer], revision).await);
        agree(servers, revision).await;
    }
    took
}

#[tokio::test]
async fn each_follows_the_other_within_one_look() {
    let interval = INTERVAL.as_millis().to_string();
    let servers = pair(&["--watch", "poll", "--poll-interval-ms", &interval, "--settle-ms", "0"]).await;
    let mut took = in_turn(&servers, 9).await;
    took.sort_unstable();
    eprintln!("looking every {INTERVAL:?}, the other one follows after {took:.0?}");
    // In the middle, so that a busy machine does not matter: were it two looks, this would be more.
    assert!(took[took.len() / 2] < 2 * INTERVAL, "{took:?}");
}

#[tokio::test]
async fn each_is_told_when_the_other_writes() {
    // So rarely looked at that it cannot be why it follows.
    let servers = pair(&["--watch", "auto", "--poll-interval-ms", "3600000", "--settle-ms", "0"]).await;
    let took = in_turn(&servers, 6).await;
    eprintln!("when told of changes, the other one follows after {took:.0?}");
}

#[tokio::test]
async fn an_edit_by_hand_is_one_revision_of_both() {
    let servers = pair(&["--watch", "poll", "--poll-interval-ms", "50", "--settle-ms", "0"]).await;
    let mut ops = [Http::new(servers[0].ops), Http::new(servers[1].ops)];
    let file = servers[0].registry.path().join("checkout/route.toml");
    let edit = |weight: u64| {
        // As editors do it: written beside, then renamed.
        let text = CHECKOUT.replace("weight = 90", &format!("weight = {weight}"));
        fs::write(file.with_extension("new"), &text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
        text
    };
    let (mut revision, mut texts) = (1, BTreeMap::from([(1, CHECKOUT.to_owned())]));
    for round in 0..8 {
        let text = edit(20 + round);
        if round % 2 == 0 {
            // Somebody else writes at once, on top of what was there before the edit: the file comes first.
            let (status, told) = patch(&mut ops[(round / 2 % 2) as usize], [1, 1], Some(revision)).await.unwrap();
            assert_eq!(status, 412, "{told}");
        }
        revision += 1;
        for server in &servers {
            follows(server, revision).await;
            let want = Shown { revision, who: "file".to_owned(), text: text.clone() };
            assert_eq!(Shown::of(server).await, want);
        }
        texts.insert(revision, text);
        agree(&servers, revision).await;
    }
    for server in &servers {
        assert_eq!(revisions(server, 1).await, texts, "one revision for each edit");
    }
}

/// Asks a gateway until it is told to stop: keys, variants, revisions.
async fn asks(http: std::net::SocketAddr, stop: Arc<AtomicBool>) -> Vec<(String, String, u64)> {
    let (mut http, mut seen) = (Http::new(http), Vec::new());
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let key = format!("u{number}");
        let (variant, revision) = asked(&mut http, &key).await;
        seen.push((key, variant, revision));
    }
    seen
}

/// Writes as fast as it can, whatever the other one does. Returns what it was told it had made.
async fn writes(ops: std::net::SocketAddr, who: u64) -> Vec<(u64, [u64; 2])> {
    let (mut http, mut made) = (Http::new(ops), Vec::new());
    while made.len() < WRITES as usize {
        // No two writes are alike.
        let pair = [2 * made.len() as u64 + 1, who + 1];
        let (status, told) = patch(&mut http, pair, None).await.unwrap();
        // Who meets another change at the wrong moment too often is told so, and has made nothing.
        assert!(status == 200 || status == 412, "{told}");
        if status == 200 {
            made.push((told["revision"].as_u64().unwrap(), pair));
        }
    }
    made
}

#[tokio::test]
async fn writers_at_both_never_make_one_number_mean_two_things() {
    let servers = pair(&["--watch", "auto", "--poll-interval-ms", "100", "--settle-ms", "0"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut callers, mut writers) = (JoinSet::new(), JoinSet::new());
    for (who, server) in (0..).zip(&servers) {
        callers.spawn(asks(server.http, Arc::clone(&stop)));
        writers.spawn(writes(server.ops, who));
    }
    let made = writers.join_all().await.concat();
    let last = made.iter().map(|(revision, _)| *revision).max().unwrap();
    for server in &servers {
        follows(server, last).await;
    }
    stop.store(true, Relaxed);
    let seen = callers.join_all().await.concat();
    agree(&servers, last).await;

    let texts = revisions(&servers[0], 1).await;
    assert_eq!(texts, revisions(&servers[1], 1).await);
    let numbers: Vec<u64> = texts.keys().copied().collect();
    assert_eq!(numbers, (1..=2 * WRITES + 1).collect::<Vec<_>>(), "every write is one revision");
    let read = |text: &String| weights(text).into_iter().map(|(_, weight)| weight).collect::<Vec<_>>();
    for (revision, pair) in &made {
        assert_eq!(read(&texts[revision]), pair.map(|weight| weight as f64), "revision {revision}");
    }
    for (key, variant, revision) in &seen {
        assert_eq!(assigned(&weights(&texts[revision]), key), *variant, "'{key}' at revision {revision}");
    }
    eprintln!("{} writes, {} answers at {} revisions", made.len(), seen.len(), {
        let mut met: Vec<_> = seen.iter().map(|(.., revision)| revision).collect();
        met.sort_unstable();
        met.dedup();
        met.len()
    });
}
