//! Start-up: what is loaded, what is refused and how it is told, when start-up has ended.

use std::{fs, os::unix::fs::symlink, time::Duration};

use weir::{
    registry::{Registry, RegistryConfig, StartError, WatchMode},
    types::{ErrorCode, ModelState, VersionRef},
};

use super::{Dir, Fixture, PATIENCE, TextEngine, ask, never_settles, quick, ready, runtime, start, started};

#[test]
fn good_models_serve_and_bad_ones_say_why() {
    let dir = Dir::new();
    dir.put("one/1/model.onnx", "one");
    dir.put("bare/model.onnx", "bare");
    dir.put("empty/1/.keep", "");
    dir.put("broken/1/model.onnx", "bad");
    dir.put("panics/1/model.onnx", "panic");
    dir.put("onnxrt/1/model.onnx", "x");
    dir.put("onnxrt/model.toml", "engine = \"onnxruntime\"");
    dir.put("typo/1/model.onnx", "x");
    dir.put("typo/model.toml", "verions = \"all\"\n");
    dir.put("nothing/model.toml", "");
    dir.put("route/route.toml", "kind = \"split\"");
    let fixture = started(quick(&dir));
    assert_eq!(fixture.resolve("one", ""), Ok(1));
    assert_eq!(fixture.resolve("bare", "1"), Ok(1));
    let reason = |model| fixture.state(model, 1).unwrap();
    let refused = |text: &str| (ModelState::Unavailable, text.to_owned());
    assert_eq!(reason("broken"), refused("model.onnx: as the file says"));
    assert_eq!(reason("panics"), refused("loading panicked; the log says where"));
    assert_eq!(reason("empty"), refused("model.onnx: not found"));
    assert_eq!(reason("onnxrt"), refused("model.toml: engine: onnxruntime is not in this build"));
    let snapshot = fixture.registry.snapshot();
    let typo = &snapshot.models["typo"];
    assert!(typo.versions.is_empty());
    assert!(typo.reason.starts_with("model.toml: line 1, column 1: verions: "), "{}", typo.reason);
    assert_eq!(snapshot.models["nothing"].reason, "no version folder and no model.onnx");
    assert_eq!(snapshot.routes.len(), 1);
    assert!(!snapshot.models.contains_key("route"));
    let problems: Vec<_> = snapshot.problems.iter().map(ToString::to_string).collect();
    assert!(problems.contains(&"broken: version 1: model.onnx: as the file says".to_owned()), "{problems:?}");
    assert!(snapshot.models.values().all(|entry| entry.since_start));
    runtime().block_on(async {
        let servable = fixture.registry.resolve("one", &VersionRef::Policy).unwrap();
        ask(&servable, 3.0).await.unwrap();
        assert_eq!((servable.engine, &*servable.source), ("text", "one/1/model.onnx"));
    });
}

#[test]
fn what_is_asked_for_and_cannot_be_had() {
    let dir = Dir::new();
    dir.put("m/1/model.onnx", "one");
    dir.put("m/2/model.onnx", "bad");
    dir.put("m/model.toml", "versions = \"all\"\nlabels = { stable = 1, canary = 2, gone = 7 }\n");
    let fixture = started(quick(&dir));
    let resolve = |model: &str, version| fixture.resolve(model, version);
    assert_eq!(resolve("m", "stable"), Ok(1));
    assert_eq!(resolve("m", ""), Ok(1), "the highest that answers");
    assert_eq!(resolve("x", "").unwrap_err(), "model 'x': not found");
    assert_eq!(resolve("m", "3").unwrap_err(), "model 'm' version 3: not found");
    assert_eq!(resolve("m", "2").unwrap_err(), "model 'm' version 2: not ready");
    assert_eq!(resolve("m", "canary").unwrap_err(), "model 'm' version 2: not ready");
    assert_eq!(resolve("m", "other").unwrap_err(), "model 'm' label 'other': not found");
    let code = |version| {
        let version = VersionRef::parse(version).unwrap();
        fixture.registry.resolve("m", &version).unwrap_err().code()
    };
    assert_eq!(
        (code("2"), code("3"), code("other")),
        (ErrorCode::Unavailable, ErrorCode::NotFound, ErrorCode::NotFound)
    );
    let entry = &fixture.registry.snapshot().models["m"];
    assert_eq!(entry.reason, "labels.gone: version 7 is not in the registry");
}

#[test]
fn policies_choose_versions() {
    let dir = Dir::new();
    for version in [1, 2, 10] {
        for model in ["latest", "two", "all", "list", "fallback"] {
            dir.put(&format!("{model}/{version}/model.onnx"), "x");
        }
    }
    dir.put("two/model.toml", "versions = \"latest:2\"");
    dir.put("all/model.toml", "versions = \"all\"");
    dir.put("list/model.toml", "versions = [1, 2]\nlabels = { canary = 10 }");
    dir.put("fallback/10/model.onnx", "bad");
    let fixture = started(quick(&dir));
    let versions = |model: &str| ready(&fixture.registry.snapshot().models[model]);
    assert_eq!(versions("latest"), [10]);
    assert_eq!(versions("two"), [2, 10]);
    assert_eq!(versions("all"), [1, 2, 10]);
    assert_eq!(versions("list"), [1, 2, 10]);
    assert_eq!(fixture.resolve("list", ""), Ok(2), "a label does not make a version the default");
    assert_eq!(versions("fallback"), [2], "a broken newest version does not count");
    assert_eq!(fixture.state("fallback", 10).unwrap().0, ModelState::Unavailable);
}

#[test]
fn old_files_need_not_settle_at_start_but_new_ones_do() {
    let dir = Dir::new();
    dir.put("m/1/model.onnx", "x");
    // Files cannot be made old, so the settle time is shorter than the time that passes until they have been looked at
    // twice, or longer than any test.
    let waiting = start(never_settles(&dir));
    waiting.until("it waits", "m", |entry| entry.versions.len() == 1);
    assert_eq!(waiting.state("m", 1), Some((ModelState::Loading, "waiting for its files to settle".to_owned())));
    assert_eq!(waiting.resolve("m", "").unwrap_err(), "model 'm': not ready");
    assert!(!waiting.registry.snapshot().started);
    let off = RegistryConfig { watch: WatchMode::Off, settle: Duration::from_millis(1), ..never_settles(&dir) };
    let fixture = started(off);
    assert_eq!(fixture.resolve("m", ""), Ok(1));
}

#[test]
fn start_up_ends_when_everything_was_loaded_or_refused() {
    let dir = Dir::new();
    dir.put("good/1/model.onnx", "x");
    dir.put("slow/1/model.onnx", "wait");
    dir.put("bad/1/model.onnx", "bad");
    let fixture = start(quick(&dir));
    fixture.until_ready("good", &[1]);
    fixture.until("bad is refused", "bad", |entry| entry.versions[0].state == ModelState::Unavailable);
    assert!(!fixture.registry.snapshot().started);
    assert_eq!(fixture.resolve("slow", "").unwrap_err(), "model 'slow': not ready");
    fixture.engine.open();
    let snapshot = fixture.registry.wait_started(PATIENCE).unwrap();
    assert_eq!(ready(&snapshot.models["slow"]), [1]);
    // What comes later does not turn it back.
    dir.push("late", 1, "wait");
    assert!(fixture.until("it is there", "late", |_| true).started);
    assert!(!fixture.registry.snapshot().models["late"].since_start);
}

#[test]
fn no_more_loads_at_a_time_than_threads() {
    let dir = Dir::new();
    for model in 0..12 {
        dir.put(&format!("m{model}/1/model.onnx"), "wait");
    }
    let fixture = start(RegistryConfig { loader_threads: 3, ..quick(&dir) });
    while fixture.engine.loads().len() < 3 {
        std::thread::yield_now();
    }
    fixture.engine.open();
    let snapshot = fixture.registry.wait_started(PATIENCE).unwrap();
    assert!(snapshot.models.values().all(|entry| ready(entry) == [1]));
    assert_eq!(fixture.engine.most_at_a_time(), 3);
}

#[test]
fn the_root_may_be_a_link_and_must_be_readable() {
    let dir = Dir::new();
    dir.put("real/m/1/model.onnx", "x");
    dir.put("elsewhere/1/model.onnx", "y");
    symlink(dir.path("real"), dir.path("link")).unwrap();
    symlink(dir.path("elsewhere"), dir.path("real/linked")).unwrap();
    symlink(dir.path("real/m/1"), dir.path("real/m/2")).unwrap();
    symlink(dir.path("real/m/1/model.onnx"), dir.path("real/m/1/other.onnx")).unwrap();
    fs::create_dir_all(dir.path("real/inside/1")).unwrap();
    symlink(dir.path("real/m/1/model.onnx"), dir.path("real/inside/1/model.onnx")).unwrap();
    let fixture = started(RegistryConfig { root: dir.path("link"), ..quick(&dir) });
    assert_eq!(fixture.resolve("m", ""), Ok(1), "a link is no version");
    assert_eq!(fixture.resolve("linked", ""), Ok(1));
    let text = "model.onnx: is a link: expected a regular file";
    assert_eq!(fixture.state("inside", 1), Some((ModelState::Unavailable, text.to_owned())));

    let Fixture { scheduler, metrics, .. } = &fixture;
    let engines = weir::registry::Engines::new(std::sync::Arc::new(TextEngine::default()));
    let config = RegistryConfig { root: dir.path("absent"), ..quick(&dir) };
    let error = Registry::start(config, engines, scheduler.clone(), metrics.clone()).unwrap_err();
    assert!(matches!(error, StartError::Unreadable { .. }));
}
