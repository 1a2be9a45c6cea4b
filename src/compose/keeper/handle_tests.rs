//! The routes with their thread: what callers see, changes that come at the same time, files that change by themselves.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    handle::{Routes, RoutesConfig, RoutesError},
    inbox::Inbox,
    lab::{World, alone, change, put, puts, split, weighs},
    seam::{Compiler, Models},
};
use crate::{
    compose::{Change, ChangeError, Edit, Expect},
    registry::WatchMode,
};

struct Site {
    dir: tempfile::TempDir,
    world: Arc<World>,
    inbox: Arc<Inbox>,
    routes: Arc<Routes>,
}

fn config(dir: &std::path::Path) -> RoutesConfig {
    RoutesConfig { settle: Duration::ZERO, poll_interval: Duration::from_secs(3600), ..RoutesConfig::new(dir) }
}

fn keep(config: RoutesConfig, world: &Arc<World>) -> (Arc<Routes>, Arc<Inbox>) {
    let inbox = Arc::new(Inbox::default());
    world.told.lock().push(Arc::clone(&inbox));
    let compiler = Arc::clone(world) as Arc<dyn Compiler>;
    let models = Arc::clone(world) as Arc<dyn Models>;
    let routes = Routes::keep(config, compiler, models, Arc::clone(&inbox)).unwrap();
    let begun = Instant::now();
    while !routes.started() {
        assert!(begun.elapsed() < Duration::from_secs(30), "start-up ends");
        std::thread::yield_now();
    }
    (routes, inbox)
}

fn site(adjust: impl FnOnce(&mut RoutesConfig)) -> Site {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "r", &split("m", [90, 10]));
    let mut config = config(dir.path());
    adjust(&mut config);
    let world = World::new();
    let (routes, inbox) = keep(config, &world);
    Site { dir, world, inbox, routes }
}

async fn until(routes: &Routes, what: impl Fn(&Routes) -> bool) {
    let mut changed = routes.changed();
    let wait = async {
        while !what(routes) {
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("in time");
}

fn at(routes: &Routes, route: &str) -> u64 {
    routes.get(route).and_then(|state| state.live.as_ref().map(|live| live.revision.number)).unwrap_or(0)
}

#[tokio::test]
async fn what_callers_see() {
    let Site { routes, dir: _dir, .. } = site(|_| ());
    assert_eq!(routes.list().len(), 1);
    routes.change(change("r", weighs(&[("a", 1.0)]), Expect::Revision(1))).await.unwrap();
    assert_eq!(at(&routes, "r"), 2, "live before it is answered");
    routes.change(change("r", Edit::Delete, Expect::Any)).await.unwrap();
    assert!(routes.get("r").is_none() && routes.list().is_empty());
    let history = routes.history("r").unwrap();
    assert_eq!(
        history.iter().map(|revision| (revision.number, revision.from)).collect::<Vec<_>>(),
        [(3, 2), (2, 1), (1, 0)]
    );
    assert_eq!(routes.revision("r", 1).unwrap().1, split("m", [90, 10]));
    assert_eq!(routes.revision("r", 3).unwrap().1, "");
    let not_found = |text: &str| ChangeError::NotFound(text.to_owned());
    assert_eq!(routes.revision("r", 4).unwrap_err(), not_found("route 'r': revision 4: not found"));
    assert_eq!(routes.revision("x", 1).unwrap_err(), not_found("route 'x': not found"));
    assert_eq!(routes.history("x").unwrap_err(), not_found("route 'x': not found"));
    assert_eq!(routes.history("../r").unwrap_err(), not_found("route '../r': not found"));
    routes.shutdown();
    let result = routes.change(change("r", puts(&alone("m")), Expect::Any)).await;
    assert!(
        matches!(&result, Err(ChangeError::Failed(error)) if error.text() == "routes: shutting down"),
        "{result:?}"
    );
}

#[tokio::test]
async fn files_are_followed() {
    for watch in [WatchMode::Auto, WatchMode::Poll] {
        let Site { routes, dir, .. } = site(|config| {
            config.watch = watch;
            if watch == WatchMode::Poll {
                config.poll_interval = Duration::from_millis(20);
            }
        });
        put(dir.path(), "r", &split("m", [80, 20]));
        until(&routes, |routes| at(routes, "r") == 2).await;
        put(dir.path(), "new", &alone("m"));
        until(&routes, |routes| at(routes, "new") == 1).await;
        put(dir.path(), "new", &alone("gone"));
        until(&routes, |routes| routes.get("new").is_some_and(|state| !state.problems.is_empty())).await;
        std::fs::remove_dir_all(dir.path().join("new")).unwrap();
        until(&routes, |routes| routes.get("new").is_none()).await;
    }
    // Only when somebody says so.
    let Site { routes, dir, .. } = site(|config| config.watch = WatchMode::Off);
    put(dir.path(), "r", &split("m", [80, 20]));
    routes.look();
    until(&routes, |routes| at(routes, "r") == 2).await;
}

#[tokio::test]
async fn of_those_who_expect_the_same_one_wins() {
    let Site { routes, dir: _dir, .. } = site(|_| ());
    for round in 1..=20 {
        let ask =
            |weight: u32| routes.change(change("r", weighs(&[("a", f64::from(weight))]), Expect::Revision(round)));
        let (a, b, c, d) = tokio::join!(ask(1), ask(2), ask(3), ask(4));
        let results = [a, b, c, d];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let stale = |result: &&Result<_, ChangeError>| matches!(result, Err(ChangeError::Stale { live, .. }) if *live == Some(round + 1));
        assert_eq!(results.iter().filter(stale).count(), 3, "{results:?}");
    }
    // Without an expectation all of them are made, one after the other.
    let ask = |weight: u32| routes.change(change("r", weighs(&[("a", f64::from(weight))]), Expect::Any));
    let (a, b, c) = tokio::join!(ask(1), ask(2), ask(3));
    let revisions: BTreeSet<_> = [a, b, c].into_iter().map(|result| result.unwrap().revision).collect();
    assert_eq!(revisions, BTreeSet::from([22, 23, 24]));
}

#[tokio::test]
async fn two_keepers_never_disagree_about_a_revision() {
    let Site { routes, dir, .. } = site(|_| ());
    let world = World::new();
    let (other, _) = keep(config(dir.path()), &world);
    let mut wins = 0;
    for round in 0..50 {
        let live = routes.history("r").unwrap()[0].number;
        let ask = |routes: &Arc<Routes>, weight: u32| {
            let routes = Arc::clone(routes);
            let change = change("r", weighs(&[("a", f64::from(weight))]), Expect::Revision(live));
            async move { routes.change(change).await }
        };
        let (a, b) = tokio::join!(ask(&routes, round + 1), ask(&other, round + 1));
        let made: Vec<_> = [&a, &b].into_iter().filter_map(|result| result.as_ref().ok()).collect();
        // The other may not have heard of the last revision yet: it looks before it answers.
        assert_eq!(made.len(), 1, "{a:?} {b:?}");
        wins += u32::from(a.is_ok());
    }
    // Who expects nothing is not told of the other.
    let change = |weight: u32| change("r", weighs(&[("a", f64::from(weight))]), Expect::Any);
    for round in 0..25 {
        let (a, b) = tokio::join!(routes.change(change(round + 1)), other.change(change(round + 1)));
        let made = BTreeSet::from([a.unwrap().revision, b.unwrap().revision]);
        let first = 52 + 2 * u64::from(round);
        assert_eq!(made, BTreeSet::from([first, first + 1]));
    }
    routes.look();
    other.look();
    until(&routes, |routes| at(routes, "r") == 101).await;
    until(&other, |other| at(other, "r") == 101).await;
    for number in 1..=101 {
        assert_eq!(routes.revision("r", number), other.revision("r", number));
    }
    let (a, b) = (routes.get("r").unwrap(), other.get("r").unwrap());
    assert_eq!(a.live.as_ref().unwrap().text, b.live.as_ref().unwrap().text);
    eprintln!("{wins} of 50 were the first one's");
}

#[tokio::test]
async fn waiting_ends_with_the_load_or_the_keeper() {
    let Site { routes, world, inbox, dir: _dir } = site(|_| ());
    world.offer("m", &[3]);
    let next = split("m", [90, 10]).replace("\"2\"", "\"3\"");
    let asked = tokio::join!(routes.change(change("r", puts(&next), Expect::Any)), async {
        while !world.pinned().contains(&"m/3".to_owned()) {
            tokio::task::yield_now().await;
        }
        world.load("m", &[3]);
        inbox.models();
    });
    assert_eq!(asked.0.unwrap().loads, ["m/3"]);
    world.offer("m", &[4]);
    let next = split("m", [90, 10]).replace("\"2\"", "\"4\"");
    let (result, ()) = tokio::join!(routes.change(change("r", puts(&next), Expect::Any)), async {
        while !world.pinned().contains(&"m/4".to_owned()) {
            tokio::task::yield_now().await;
        }
        routes.shutdown();
    });
    assert!(matches!(result, Err(ChangeError::Failed(_))), "{result:?}");
}

/// What a change of weights costs beyond flushing: printed, because machines differ; and no change waits for a look or a poll.
#[tokio::test]
async fn a_change_of_weights_takes_little_time() {
    let Site { routes, dir, .. } = site(|_| ());
    for i in 0..20 {
        put(dir.path(), &format!("other-{i}"), &split("m", [1, 1]));
    }
    routes.look();
    until(&routes, |routes| routes.list().len() == 21).await;
    let mut took = Vec::new();
    for i in 0..50_u32 {
        let begun = Instant::now();
        routes.change(change("r", weighs(&[("a", f64::from(i + 1))]), Expect::Any)).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    eprintln!("a change of weights: median {:?}, longest {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_secs(1), "{took:?}");
    let dry = Change { dry_run: true, ..change("r", weighs(&[("a", 1.0)]), Expect::Any) };
    assert_eq!(routes.change(dry).await.unwrap().revision, 52);
}

#[test]
fn what_keeps_it_from_starting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let start = |config: RoutesConfig| {
        let compiler = Arc::clone(&world) as Arc<dyn Compiler>;
        Routes::keep(config, compiler, Arc::clone(&world) as Arc<dyn Models>, Arc::default()).map(|_| ())
    };
    let absent = dir.path().join("absent");
    let error = start(config(&absent)).unwrap_err();
    assert!(matches!(error, RoutesError::Unreadable { .. }) && error.to_string().contains("absent"), "{error}");
    let error = start(RoutesConfig { audit: Some(absent.join("audit")), ..config(dir.path()) }).unwrap_err();
    assert!(matches!(error, RoutesError::Audit { .. }) && error.to_string().contains("absent/audit"), "{error}");
}
