//! Explicit control: nothing is loaded and nothing changes unless somebody asks.

use weir::{
    registry::{Control, Pins, RegistryConfig},
    types::{ErrorCode, ModelState, Version},
};

use super::{Dir, name, quick, ready, runtime, started};

fn explicit(dir: &Dir) -> RegistryConfig {
    RegistryConfig { control: Control::Explicit, ..quick(dir) }
}

#[test]
fn models_come_and_go_as_asked() {
    let dir = Dir::new();
    dir.push("a", 1, "one");
    dir.push("b", 1, "one");
    let fixture = started(explicit(&dir));
    let registry = &fixture.registry;
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.models.len(), 2);
    assert!(snapshot.models.values().all(|entry| entry.versions.is_empty() && entry.reason == "unloaded"));
    assert_eq!(fixture.resolve("a", "").unwrap_err(), "model 'a': not ready");
    let runtime = runtime();
    runtime.block_on(async {
        registry.load("a").await.unwrap();
        assert_eq!(fixture.resolve("a", ""), Ok(1));
        assert!(fixture.engine.loads() == ["one"]);
        // A new version waits until somebody asks again, also when somebody asks for another model.
        dir.push("a", 2, "two");
        registry.load("b").await.unwrap();
        assert_eq!((fixture.resolve("a", ""), fixture.resolve("b", "")), (Ok(1), Ok(1)));
        registry.load("a").await.unwrap();
        assert_eq!(fixture.resolve("a", ""), Ok(2));
        // What is refused is told, and what serves goes on.
        dir.push("a", 3, "bad");
        let error = registry.load("a").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert_eq!(error.text(), "model 'a': version 3: model.onnx: as the file says");
        assert_eq!(fixture.resolve("a", ""), Ok(2));
        // A model that nobody has seen yet.
        dir.push("late", 1, "late");
        registry.load("late").await.unwrap();
        assert_eq!(fixture.resolve("late", ""), Ok(1));
        assert_eq!(registry.load("x").await.unwrap_err().text(), "model 'x': not found");
        registry.unload("a").await.unwrap();
        assert_eq!(fixture.resolve("a", "").unwrap_err(), "model 'a': not ready");
        assert_eq!(registry.unload("x").await.unwrap_err().text(), "model 'x': not found");
        registry.load("a").await.unwrap_err();
        assert_eq!(fixture.resolve("a", ""), Ok(2));
    });
}

#[test]
fn unloading_while_loading_and_answering() {
    let dir = Dir::new();
    dir.push("a", 1, "one");
    dir.push("slow", 1, "wait");
    let fixture = started(explicit(&dir));
    let registry = &fixture.registry;
    runtime().block_on(async {
        registry.load("a").await.unwrap();
        let held = registry.snapshot().models["a"].ready().next().cloned().unwrap();
        registry.unload("a").await.unwrap();
        assert_eq!(fixture.state("a", 1).unwrap().0, ModelState::Unloading);
        super::ask(&held, 1.0).await.unwrap();
        drop(held);
        registry.wait(|snapshot| snapshot.models["a"].versions.is_empty()).await;

        registry.look_again("slow").unwrap();
        registry.wait(|snapshot| snapshot.models["slow"].versions.len() == 1).await;
        registry.unload("slow").await.unwrap();
        fixture.engine.open();
        registry.wait(|snapshot| snapshot.models["slow"].versions.is_empty()).await;
        assert_eq!(fixture.resolve("slow", "").unwrap_err(), "model 'slow': not ready");
        registry.load("slow").await.unwrap();
        assert_eq!(ready(&registry.snapshot().models["slow"]), [1]);
    });
}

#[test]
fn what_routes_name_is_loaded_without_being_asked_for() {
    let dir = Dir::new();
    dir.push("a", 1, "one");
    dir.push("a", 2, "two");
    let fixture = started(explicit(&dir));
    let pins = |model: &str, version| Pins::from([(name(model), [Version::new(version).unwrap()].into())]);
    fixture.registry.pin(pins("a", 1)).unwrap();
    fixture.until_ready("a", &[1]);
    assert_eq!(fixture.resolve("a", "").unwrap_err(), "model 'a': not ready");
    runtime().block_on(fixture.registry.load("a")).unwrap();
    fixture.until_ready("a", &[1, 2]);
    runtime().block_on(fixture.registry.unload("a")).unwrap();
    fixture.until_ready("a", &[1]);
    // Also when the model comes later than the route.
    fixture.registry.pin(pins("late", 1)).unwrap();
    fixture.until_ready("a", &[]);
    dir.push("late", 1, "late");
    fixture.registry.look_again("a").unwrap();
    fixture.until_ready("late", &[1]);
}

#[test]
fn under_automatic_control_nobody_unloads() {
    let dir = Dir::new();
    dir.push("a", 1, "one");
    let fixture = started(quick(&dir));
    runtime().block_on(async {
        let error = fixture.registry.unload("a").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict);
        fixture.registry.load("a").await.unwrap();
        fixture.registry.shutdown();
        assert_eq!(fixture.registry.load("a").await.unwrap_err().code(), ErrorCode::Unavailable);
    });
    assert_eq!(fixture.resolve("a", ""), Ok(1), "what serves goes on serving");
}

/// Many threads ask for the same models at once: every answer is one of those that are documented, and in the end all are
/// loaded and live.
#[test]
fn a_storm_of_loads_and_unloads_ends_well() {
    let dir = Dir::new();
    for model in ["a", "b", "c"] {
        dir.push(model, 1, "one");
    }
    let fixture = started(explicit(&dir));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let registry = &fixture.registry;
            scope.spawn(move || {
                runtime().block_on(async {
                    for round in 0..40 {
                        let model = ["a", "b", "c"][(thread + round) % 3];
                        let result = match (thread + round) % 2 {
                            0 => registry.load(model).await,
                            _ => registry.unload(model).await,
                        };
                        result.unwrap();
                    }
                });
            });
        }
    });
    runtime().block_on(async {
        for model in ["a", "b", "c"] {
            fixture.registry.load(model).await.unwrap();
            assert_eq!(fixture.resolve(model, ""), Ok(1));
        }
    });
}
