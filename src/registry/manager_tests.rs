//! The manager without its thread: when it looks, what it warns about, and that a registry which cannot be read neither stops
//! nor busies it. Loads are tested from outside, on the running registry.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::*;
use crate::{
    engine::fake::{FakeEngine, Script},
    registry::{Engines, loader::Loader},
    scheduler::{Scheduler, SchedulerOptions},
};

const HOUR: Duration = Duration::from_secs(3600);

fn rules(root: &Path) -> Rules {
    Rules { root: root.to_owned(), watch: WatchMode::Poll, poll_interval: HOUR, settle: HOUR, control: Control::Auto }
}

fn manager(rules: Rules) -> Manager {
    let (inbox, metrics) = (Arc::new(Inbox::default()), Metrics::new());
    let scheduler = Scheduler::start(SchedulerOptions { workers: 1, ..SchedulerOptions::default() }).unwrap();
    let engines = Engines::new(Arc::new(FakeEngine::new(Script::default(), 1)));
    let loader = Loader { engines, scheduler, metrics: Arc::clone(&metrics), max_bytes: 1 << 20 };
    let loaders = Loaders::start(1, loader, &inbox).unwrap();
    let watcher = Watcher::new(WatchMode::Off, || ());
    Manager::new(rules, Tools { hub: Arc::new(Hub::new()), inbox, metrics, loaders, watcher })
}

fn put(root: &Path, path: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn strangers_are_warned_about_once() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["README.md", ".hidden", "m/1/model.onnx", "m/notes.txt", "m/labels.txt", "m/01/x", "r/route.toml"] {
        put(dir.path(), path);
    }
    let config = "output [{ name: \"y\" dims: [1] label_filename: \"labels.txt\" }]";
    fs::write(dir.path().join("m/config.pbtxt"), config).unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut manager = manager(Rules { settle: Duration::ZERO, ..rules(dir.path()) });
        manager.begin().unwrap();
        let first = log.warnings();
        assert_eq!(first.len(), 1, "{first:?}");
        let all = "README.md (not a folder), m/01 (the name is no version), m/notes.txt (nothing refers to it)";
        assert!(first[0].contains(all), "{first:?}");
        manager.turn(Mail { look: true, ..Mail::default() });
        manager.look(Instant::now(), false);
        assert_eq!(log.warnings().len(), 1);
        put(dir.path(), "another.txt");
        manager.look(Instant::now(), false);
        let news = log.warnings();
        assert_eq!(news.len(), 2, "{news:?}");
        assert!(news[1].contains("another.txt") && !news[1].contains("README"), "{news:?}");
    });
}

#[test]
fn polling_is_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let next = |rules: Rules| {
        let mut manager = manager(rules);
        manager.begin().unwrap();
        manager.next_look()
    };
    assert!(next(rules(dir.path())).unwrap() >= Instant::now() + HOUR / 2);
    assert_eq!(next(Rules { watch: WatchMode::Off, ..rules(dir.path()) }), None);
    assert_eq!(next(Rules { control: Control::Explicit, ..rules(dir.path()) }), None);
    // A look that takes long is not repeated as fast as it is asked for.
    let mut manager = manager(Rules { poll_interval: Duration::from_millis(1), ..rules(dir.path()) });
    let now = Instant::now();
    let Some(begun) = now.checked_sub(Duration::from_secs(1)) else { return };
    manager.plan_poll(begun);
    assert!(manager.looks.next_poll.unwrap() >= now + Duration::from_secs(18));
}

#[test]
fn events_and_settling_ask_for_looks_and_no_more_than_that() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.onnx");
    let mut manager = manager(rules(dir.path()));
    manager.begin().unwrap();
    let begun = Instant::now();
    // The file has just been written: it can have settled in an hour.
    assert_eq!(manager.due.len(), 1);
    let next = manager.next_look().unwrap();
    assert!(next > begun + HOUR / 2 && next < begun + HOUR * 2);
    // Events are looked into soon, but not all the time.
    manager.looks.wanted = true;
    let next = manager.next_look().unwrap();
    assert_eq!(next, manager.looks.last.unwrap() + MIN_GAP);
    manager.look(begun, false);
    assert!(!manager.looks.wanted);
}

#[test]
fn a_registry_that_cannot_be_read_does_not_keep_the_loop_busy() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    put(&root, "m/1/model.onnx");
    let mut manager = manager(rules(&root));
    manager.begin().unwrap();
    fs::remove_dir_all(&root).unwrap();
    let later = Instant::now() + HOUR * 2;
    manager.look(later, false);
    manager.settle_accounts();
    assert!(manager.board.registry_problem.as_ref().is_some_and(|text| text.contains("cannot be read")));
    assert!(manager.next_look().unwrap() > later);
    assert!(manager.models.contains_key("m"), "nothing is forgotten");
    // One model that cannot be looked at waits for the next poll.
    put(&root, "m/1/model.onnx");
    put(&root, "m/route.toml");
    manager.look(later, false);
    manager.settle_accounts();
    assert!(manager.due.is_empty());
    assert!(manager.tools.hub.load().started, "a model that is not in order does not hold up start-up");
}
