//! Hot reload: what serves goes on serving until its successor is ready, whatever happens to the files.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use weir::{
    registry::{Pins, RegistryConfig, WatchMode},
    types::{ModelState, Version, VersionRef},
};

use super::{Dir, ask, name, never_settles, quick, ready, runtime, started, watched_only};

#[test]
fn the_old_version_answers_until_the_new_one_is_ready() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(never_settles(&dir));
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    fixture.registry.subscribe(move |snapshot| {
        let entry = &snapshot.models["m"];
        let states: Vec<_> = entry.versions.iter().map(|entry| (entry.version.get(), entry.state)).collect();
        seen.lock()
            .unwrap()
            .push((states, entry.resolve(&VersionRef::Policy).map(|servable| servable.id.version.get())));
    });
    dir.push("m", 2, "wait two");
    fixture.until("2 is being loaded", "m", |entry| entry.versions.len() == 2);
    assert_eq!(fixture.state("m", 2), Some((ModelState::Loading, "loading".to_owned())));
    assert_eq!((fixture.resolve("m", ""), fixture.resolve("m", "1")), (Ok(1), Ok(1)));
    assert_eq!(fixture.resolve("m", "2").unwrap_err(), "model 'm' version 2: not ready");
    fixture.engine.open();
    fixture.until("only 2 is left", "m", |entry| ready(entry) == [2] && entry.versions.len() == 1);
    assert_eq!(fixture.resolve("m", "1").unwrap_err(), "model 'm' version 1: not found");
    use ModelState::{Loading, Ready, Unloading};
    let mut log = log.lock().unwrap().clone();
    log.dedup();
    let steps = [
        (vec![(1, Ready)], Ok(1)),
        (vec![(1, Ready), (2, Loading)], Ok(1)),
        (vec![(1, Unloading), (2, Ready)], Ok(2)),
        (vec![(2, Ready)], Ok(2)),
    ];
    assert_eq!(log, steps, "every step in order, and none without an answer");
}

#[test]
fn the_watch_alone_notices_everything() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(watched_only(&dir));
    dir.push("m", 2, "two");
    fixture.until_ready("m", &[2]);
    dir.push("new", 1, "x");
    fixture.until_ready("new", &[1]);
    dir.push("new", 2, "y");
    fixture.until_ready("new", &[2]);
    dir.remove("new");
    assert!(fixture.registry.wait_for(super::PATIENCE, |snapshot| !snapshot.models.contains_key("new")).is_some());
}

#[test]
fn a_folder_that_is_filled_later_is_noticed_without_polling() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let day = Duration::from_secs(86_400);
    let fixture = started(RegistryConfig { poll_interval: day, ..quick(&dir) });
    fs::create_dir(dir.path("m/2")).unwrap();
    fixture.until("the empty folder is refused", "m", |entry| {
        entry.versions.iter().any(|v| v.version.get() == 2 && v.reason == "model.onnx: not found")
    });
    fs::write(dir.path("m/2/model.onnx"), "two").unwrap();
    fixture.until_ready("m", &[2]);
}

#[test]
fn polling_alone_notices_everything_too() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(RegistryConfig { watch: WatchMode::Poll, ..quick(&dir) });
    dir.push("m", 2, "two");
    fixture.until_ready("m", &[2]);
    dir.remove("m/2");
    fixture.until_ready("m", &[1]);
}

#[test]
fn without_watch_nothing_happens_until_somebody_asks() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(RegistryConfig { watch: WatchMode::Off, ..quick(&dir) });
    dir.push("m", 2, "bad");
    dir.push("other", 1, "x");
    fixture.registry.look_again("m").unwrap();
    fixture.until("2 is refused", "m", |entry| entry.versions.len() == 2 && ready(entry) == [1]);
    fixture.until_ready("other", &[1]);
    assert_eq!(fixture.registry.look_again("x").unwrap_err().text(), "model 'x': not found");
}

#[test]
fn a_refused_version_changes_nothing_and_is_tried_once() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(quick(&dir));
    dir.push("m", 2, "bad");
    fixture.until("2 is refused", "m", |entry| entry.versions.iter().any(|v| v.state == ModelState::Unavailable));
    fixture.let_it_look(&dir);
    fixture.let_it_look(&dir);
    assert_eq!((fixture.resolve("m", ""), fixture.resolve("m", "1")), (Ok(1), Ok(1)));
    let bad = || fixture.engine.loads().iter().filter(|text| *text == "bad").count();
    assert_eq!(bad(), 1, "not again and again");
    fixture.registry.look_again("m").unwrap();
    while bad() < 2 {
        std::thread::yield_now();
    }
    // Other files are another chance.
    dir.remove("m/2");
    dir.push("m", 2, "two");
    fixture.until_ready("m", &[2]);
    let text = fixture.metrics.render();
    assert!(text.contains("weir_model_loads_total{model=\"m\",result=\"failed\"} 2"), "{text}");
    assert!(text.contains("weir_model_loads_total{model=\"m\",result=\"ok\"} 2"), "{text}");
}

#[test]
fn removing_the_newest_folder_rolls_back() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    dir.push("m", 2, "two");
    let fixture = started(quick(&dir));
    assert_eq!(fixture.resolve("m", ""), Ok(2));
    let never_without = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&never_without);
    fixture.registry.subscribe(move |snapshot| {
        flag.fetch_and(snapshot.resolve("m", &VersionRef::Policy).is_ok(), Ordering::SeqCst);
    });
    dir.remove("m/2");
    fixture.until_ready("m", &[1]);
    assert!(never_without.load(Ordering::SeqCst));
    dir.push("m", 3, "three");
    fixture.until_ready("m", &[3]);
    dir.push("m", 2, "two");
    fixture.let_it_look(&dir);
    assert_eq!(fixture.resolve("m", ""), Ok(3));
}

#[test]
fn half_copied_files_are_waited_for() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let settle = Duration::from_secs(2);
    let fixture = started(RegistryConfig { settle, ..quick(&dir) });
    fs::create_dir(dir.path("m/2")).unwrap();
    fs::write(dir.path("m/2/model.onnx"), "bad: half of").unwrap();
    fixture.until("2 is seen", "m", |entry| entry.versions.len() == 2);
    assert_eq!(fixture.state("m", 2), Some((ModelState::Loading, "waiting for its files to settle".to_owned())));
    fs::write(dir.path("m/2/model.onnx"), "all of it").unwrap();
    fixture.until_ready("m", &[2]);
    assert_eq!(fixture.engine.loads(), ["one", "all of it"], "never half");
}

#[test]
fn a_manifest_is_believed_only_when_it_matches() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(quick(&dir));
    dir.push("m", 2, "two");
    fixture.until_ready("m", &[2]);
    // The same size with other content, and a file that is too short.
    for (version, content) in [(3, "TWO"), (4, "tw")] {
        fs::create_dir(dir.path(".new")).unwrap();
        fs::copy(dir.path("m/2/manifest.json"), dir.path(".new/manifest.json")).unwrap();
        fs::write(dir.path(".new/model.onnx"), content).unwrap();
        fs::rename(dir.path(".new"), dir.path(&format!("m/{version}"))).unwrap();
        fixture.until("it is refused", "m", |entry| {
            entry.versions.iter().any(|v| v.version.get() == version && v.state == ModelState::Unavailable)
        });
    }
    assert_eq!(fixture.resolve("m", ""), Ok(2));
    let (_, reason) = fixture.state("m", 3).unwrap();
    assert!(reason.starts_with("manifest.json: model.onnx: sha256: expected 3fc4ccfe"), "{reason}");
    assert_eq!(fixture.state("m", 4).unwrap().1, "manifest.json: model.onnx: size: expected 3, got 2");
    dir.put("m/4/model.onnx", "two");
    fixture.until("4 answers", "m", |entry| ready(entry).contains(&4));
    assert!(fixture.engine.loads().iter().all(|text| text == "one" || text == "two" || text == "marker"));
}

#[test]
fn a_file_replaced_in_place_is_loaded_again_under_its_version() {
    let dir = Dir::new();
    dir.put("m/model.onnx", "one");
    let fixture = started(quick(&dir));
    let digest = || fixture.registry.resolve("m", &VersionRef::Policy).unwrap().digest.clone();
    let first = digest();
    dir.put("m/model.onnx", "two");
    fixture.until("it is another", "m", |entry| entry.ready().any(|servable| servable.digest != first));
    // The same bytes again are read and found to be the same.
    let second = digest();
    let loads = fixture.engine.loads().len();
    dir.put("m/model.onnx", "two");
    fixture.let_it_look(&dir);
    assert_eq!(fixture.engine.loads().len(), loads + 1, "the marker only");
    // Rubbish in place is refused, and what was loaded from there goes on.
    dir.put("m/model.onnx", "bad");
    let snapshot = fixture.registry.wait_for(super::PATIENCE, |snapshot| !snapshot.problems.is_empty()).unwrap();
    assert_eq!(snapshot.problems[0].to_string(), "m: version 1: model.onnx: as the file says");
    assert_eq!(digest(), second);
    let why = "model.onnx: as the file says".to_owned();
    assert_eq!(fixture.state("m", 1), Some((ModelState::Ready, why)));
}

#[test]
fn configuration_changes_apply() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    dir.push("m", 2, "two");
    dir.put("m/model.toml", "versions = \"all\"\nlabels = { stable = 1 }");
    let fixture = started(quick(&dir));
    assert_eq!(fixture.resolve("m", "stable"), Ok(1));
    dir.put("m/model.toml", "versions = \"all\"\nlabels = { stable = 2 }\nrequired = true\ndeadline_ms = 70");
    fixture.until("the label moves", "m", |entry| {
        entry.resolve(&VersionRef::Label("stable".into())).is_ok_and(|servable| servable.id.version.get() == 2)
    });
    let servable = fixture.registry.resolve("m", &VersionRef::Policy).unwrap();
    assert!(servable.spec.required);
    assert_eq!(servable.spec.deadline, Some(Duration::from_millis(70)));
    assert_eq!(fixture.engine.loads().len(), 2, "no model was loaded again for that");
    // Batching needs a new lane, with the versions answering all the time.
    dir.put("m/model.toml", "versions = \"all\"\n[batching]\nmax_batch_size = 3");
    fixture.until("batching has changed", "m", |entry| entry.ready().all(|servable| servable.lane.batch_limit() == 3));
    assert_eq!(fixture.engine.loads().len(), 4);
    // A mistake changes nothing and is told.
    dir.put("m/model.toml", "versions = \"none\"");
    let snapshot = fixture.registry.wait_for(super::PATIENCE, |snapshot| !snapshot.problems.is_empty()).unwrap();
    assert!(
        snapshot.problems[0].text.starts_with("model.toml: line 1, column 12: versions: "),
        "{:?}",
        snapshot.problems
    );
    assert_eq!(ready(&snapshot.models["m"]), [1, 2]);
    dir.put("m/model.toml", "versions = [1]");
    fixture.until_ready("m", &[1]);
    assert!(fixture.registry.snapshot().problems.is_empty());
    // Nor does a list of versions that are not there.
    dir.put("m/model.toml", "versions = [7]");
    fixture.until("the slip is told", "m", |entry| !entry.reason.is_empty());
    assert_eq!(fixture.resolve("m", ""), Ok(1));
}

#[test]
fn an_unmounted_registry_changes_nothing() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    fs::create_dir(dir.path("unmounted")).unwrap();
    dir.put("first/m/1/model.onnx", "x");
    std::os::unix::fs::symlink(dir.path("first"), dir.path("root")).unwrap();
    let fixture = started(RegistryConfig { root: dir.path("root"), ..quick(&dir) });
    let relink = |target: &str| {
        std::os::unix::fs::symlink(dir.path(target), dir.path(".root")).unwrap();
        fs::rename(dir.path(".root"), dir.path("root")).unwrap();
    };
    relink("unmounted");
    let told = |snapshot: &weir::registry::Snapshot| snapshot.problems.iter().any(|problem| problem.model.is_none());
    fixture.registry.wait_for(super::PATIENCE, told).expect("it is told");
    assert_eq!(fixture.resolve("m", ""), Ok(1));
    fs::remove_file(dir.path("root")).unwrap();
    let unreadable = |snapshot: &weir::registry::Snapshot| {
        snapshot.problems.iter().any(|problem| problem.text.starts_with("the registry cannot be read"))
    };
    fixture.registry.wait_for(super::PATIENCE, unreadable).expect("it is told");
    assert_eq!(fixture.resolve("m", ""), Ok(1));
    // A registry that is swapped as a whole is followed.
    dir.put("second/m/2/model.onnx", "y");
    std::os::unix::fs::symlink(dir.path("second"), dir.path("root")).unwrap();
    fixture.until_ready("m", &[2]);
    assert!(fixture.registry.snapshot().problems.is_empty());
    // So is one that is emptied by hand.
    dir.remove("second/m");
    assert!(fixture.registry.wait_for(super::PATIENCE, |snapshot| snapshot.models.is_empty()).is_some());
}

#[test]
fn what_a_live_route_names_is_loaded_and_stays() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    dir.push("m", 2, "two");
    let fixture = started(quick(&dir));
    fixture.until_ready("m", &[2]);
    let pins = |versions: &[u64]| -> Pins {
        [(name("m"), versions.iter().map(|version| Version::new(*version).unwrap()).collect())].into()
    };
    fixture.registry.pin(pins(&[1])).unwrap();
    fixture.until_ready("m", &[1, 2]);
    assert_eq!(fixture.resolve("m", ""), Ok(2));
    dir.remove("m/1");
    fixture.let_it_look(&dir);
    assert_eq!(fixture.resolve("m", "1"), Ok(1), "its folder has gone, the route is live");
    // Said while there is time: the next start would find nothing to load.
    let gone = "its files are gone; it serves as long as this process does, because a live route names it";
    assert_eq!(fixture.state("m", 1), Some((ModelState::Ready, gone.to_owned())));
    let problems: Vec<_> = fixture.registry.snapshot().problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [format!("m: version 1: {gone}")]);
    dir.push("m", 1, "one");
    fixture.until("its files are back", "m", |entry| entry.versions[0].reason.is_empty());
    assert!(fixture.registry.snapshot().problems.is_empty());
    dir.remove("m/1");
    fixture.let_it_look(&dir);
    fixture.registry.pin(Pins::new()).unwrap();
    fixture.until_ready("m", &[2]);
}

#[test]
fn a_request_keeps_what_it_runs_on_and_never_frees_it() {
    let dir = Dir::new();
    dir.push("m", 1, "one");
    let fixture = started(quick(&dir));
    let servable = fixture.registry.resolve("m", &VersionRef::Policy).unwrap();
    dir.push("m", 2, "two");
    fixture.until_ready("m", &[2]);
    assert_eq!(fixture.state("m", 1), Some((ModelState::Unloading, "answering its last requests".to_owned())));
    runtime().block_on(ask(&servable, 1.0)).unwrap();
    assert_eq!(fixture.engine.freed_by(), [] as [String; 0]);
    let this = std::thread::current().name().unwrap_or_default().to_owned();
    drop(servable);
    fixture.until("1 has gone", "m", |entry| entry.versions.len() == 1);
    while fixture.engine.freed_by().is_empty() {
        std::thread::yield_now();
    }
    assert!(fixture.engine.freed_by().iter().all(|thread| *thread != this && thread.starts_with("weir-")));
}

/// Twelve versions by rename, every fourth one rubbish, under load: no request fails.
#[test]
fn hot_reload_under_load_fails_no_request() {
    let dir = Dir::new();
    dir.push("m", 1, "good 1");
    let fixture = started(quick(&dir));
    let stop = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (fixture, stop, answered, failures) = (&fixture, &stop, &answered, &failures);
            scope.spawn(move || {
                runtime().block_on(async {
                    let mut value = client as f32;
                    while !stop.load(Ordering::Relaxed) {
                        value += 1.0;
                        let result = match fixture.registry.resolve("m", &VersionRef::Policy) {
                            Ok(servable) => ask(&servable, value).await,
                            Err(error) => Err(error.text().to_owned()),
                        };
                        match result {
                            Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                            Err(text) => failures.lock().unwrap().push(text),
                        }
                    }
                });
            });
        }
        let mut newest = 1;
        for version in 2..=13 {
            let rubbish = version % 4 == 0;
            dir.push("m", version, &if rubbish { format!("bad {version}") } else { format!("good {version}") });
            if rubbish {
                fixture.until("the rubbish is refused", "m", |entry| {
                    entry.versions.iter().any(|v| v.version.get() == version && v.state == ModelState::Unavailable)
                });
            } else {
                newest = version;
            }
            fixture.until_ready("m", &[newest]);
            let before = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < before + 50 && failures.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(*failures.lock().unwrap(), [] as [String; 0]);
    // Ten good versions were loaded, nine of them have been freed again.
    while fixture.engine.freed_by().len() < 9 {
        std::thread::yield_now();
    }
}
