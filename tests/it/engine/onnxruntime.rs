//! The engine over ONNX Runtime, held to the same answers and the same manners as the embedded one. Skipped, with a line that
//! says why, where the library is not.

use std::thread;

use weir::engine::{
    Engine, Session,
    onnxruntime::{Absent, Opened, open},
};

use super::*;

/// The engine; `None`, and a line, where there is no library.
pub(super) fn opened() -> Option<Opened> {
    match open(None) {
        Ok(opened) => Some(opened),
        Err(absent @ Absent::NotFound) => {
            println!("skipped: {absent}");
            None
        }
        Err(absent) => panic!("{absent}"),
    }
}

fn folder(path: &str) -> PathBuf {
    root().join("tests").join(path).join("1")
}

fn fill(session: &mut dyn Session, shape: &[usize], values: &[f32]) {
    let InputBuffer::Plain(buffer) = session.input(0, shape).unwrap() else { panic!("not numbers") };
    buffer.copy_from_slice(bytemuck::cast_slice(values));
}

fn plain(session: &dyn Session) -> Vec<u8> {
    let OutputData::Plain(bytes) = session.output(0).unwrap().data else { panic!("not numbers") };
    bytes.to_vec()
}

/// Every model with answers: the demo registry, fixtures, operators, exported models.
fn answered() -> Vec<(PathBuf, PathBuf)> {
    let lists = [
        ("models", "golden.json"),
        ("tests/fixtures", "expected.json"),
        ("tests/operators", "expected.json"),
        ("tests/exporters", "expected.json"),
    ];
    let files = lists
        .into_iter()
        .flat_map(|(path, name)| versions(&root().join(path)).into_iter().map(move |f| (f.clone(), f.join(name))));
    files.filter(|(_, answers)| answers.is_file()).collect()
}

#[test]
fn answers_are_those_that_are_expected() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let (mut checked, mut problems) = (0, Vec::new());
    for (folder, answers) in answered() {
        let loaded = engine.load(&artifact(&folder), &LIMITS).map_err(|error| error.to_string());
        if let Err(problem) = loaded.and_then(|model| check_model(&*model, &answers)) {
            problems.push(format!("{}: {problem}", folder.display()));
        }
        checked += 1;
    }
    assert!(problems.is_empty(), "{} of {checked} disagree:\n{}", problems.len(), problems.join("\n"));
    assert!(checked >= 145, "{checked}");
}

#[test]
fn both_engines_see_the_same_signature() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let mut problems = Vec::new();
    for (folder, _) in answered() {
        let Ok(ours) = load(&folder) else { continue };
        let theirs = engine.load(&artifact(&folder), &LIMITS).unwrap();
        let (ours, theirs) = (ours.signature(), theirs.signature());
        let sides = [(&ours.inputs, &theirs.inputs), (&ours.outputs, &theirs.outputs)];
        let alike = sides.iter().all(|(ours, theirs)| {
            ours.len() == theirs.len()
                && ours.iter().zip(*theirs).all(|(a, b)| {
                    let dims = a.shape.iter().zip(&b.shape);
                    (&a.name, a.dtype, a.shape.len()) == (&b.name, b.dtype, b.shape.len())
                        && dims.into_iter().all(|(a, b)| a.is_none() || b.is_none() || a == b)
                })
        });
        if !alike || ours.batch != theirs.batch {
            problems.push(format!("{}: {ours:?}\n  {theirs:?}", folder.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_our_own_check_refuses_never_gets_there() {
    let Some(Opened { engine, .. }) = opened() else { return };
    for name in [
        "empty",
        "truncated",
        "text",
        "no-graph",
        "cycle",
        "dangling-input",
        "dangling-output",
        "negative-dim",
        "overflow-dim",
        "overflow-product",
        "data-mismatch",
        "huge-constant",
        "huge-expand",
        "huge-tile",
        "external-escape",
        "external-absolute",
        "external-missing",
    ] {
        let artifact = artifact(&folder(&format!("fixtures/{name}")));
        let ours = TractEngine::new().load(&artifact, &LIMITS).err().unwrap().to_string();
        let theirs = engine.load(&artifact, &LIMITS).err().unwrap().to_string();
        // The words of the two decoders differ.
        let head = |text: &str| text.split(" bytes): ").next().unwrap().to_owned();
        assert_eq!(head(&theirs), head(&ours), "{name}");
    }
    for (name, part) in [("unknown-op", "FancyOp"), ("unknown-domain", "Relu"), ("shape-mismatch", "graph: ")] {
        let text = engine.load(&artifact(&folder(&format!("fixtures/{name}"))), &LIMITS).err().unwrap().to_string();
        assert!(text.starts_with("graph: ") && text.contains(part), "{name}: {text}");
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }
}

#[test]
fn shapes_and_sizes_are_checked_as_by_the_embedded_engine() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let both = |name: &str, limits: &Limits| {
        let artifact = artifact(&folder(name));
        [TractEngine::new().load(&artifact, limits).unwrap(), engine.load(&artifact, limits).unwrap()]
    };
    for model in both("fixtures/unnamed-batch", &LIMITS) {
        let mut session = model.plan(Some(2)).unwrap().session().unwrap();
        for shape in [&[3, 4][..], &[2, 5], &[2], &[2, 4, 1]] {
            let text = session.input(0, shape).unwrap_err().to_string();
            assert!(text.starts_with("input 'x': shape: expected [Some(2), Some(4)], got"), "{text}");
        }
        assert!(session.input(1, &[2, 4]).is_err());
        assert_eq!(session.run().unwrap_err().to_string(), "input 'x': was not given");
        assert!(session.output(0).is_err());
        assert!(model.plan(None).is_err());
        assert!(model.plan(Some(0)).is_err());
    }
    let limits = Limits { max_output_bytes: 64 };
    for model in both("fixtures/unnamed-batch", &limits) {
        let text = model.plan(Some(5)).err().unwrap().to_string();
        assert_eq!(text, "plan for 5 rows: outputs: expected at most 64 bytes, got 80");
    }
    // Sizes that are only known when a request comes.
    for model in both("operators/range", &limits) {
        assert!(model.plan(Some(1)).is_err());
        let mut session = model.plan(None).unwrap().session().unwrap();
        for (count, expected) in [(8, Ok(())), (9, Err("outputs: expected at most 64 bytes, got 72")), (3, Ok(()))] {
            let InputBuffer::Plain(buffer) = session.input(0, &[]).unwrap() else { panic!("not numbers") };
            buffer.copy_from_slice(&i64::to_le_bytes(count));
            let outcome = session.run().map_err(|error| error.to_string());
            assert_eq!(outcome, expected.map_err(str::to_owned), "{count}");
        }
    }
}

#[test]
fn buffers_are_used_again_and_failed_runs_leave_no_trace() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let load = |name: &str| engine.load(&artifact(&folder(name)), &LIMITS).unwrap();
    let model = load("fixtures/unnamed-batch");
    let mut session = model.plan(Some(2)).unwrap().session().unwrap();
    let mut places = Vec::new();
    for run in 0..3 {
        let InputBuffer::Plain(buffer) = session.input(0, &[2, 4]).unwrap() else { panic!("not numbers") };
        places.push(buffer.as_ptr().addr());
        buffer.copy_from_slice(bytemuck::cast_slice(&[run as f32; 8]));
        session.run().unwrap();
        assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[run as f32 * 2.0; 8]));
    }
    assert_eq!(places, [places[0]; 3]);
    let model = load("operators/gather");
    let mut session = model.plan(Some(2)).unwrap().session().unwrap();
    for (index, good) in [(100, false), (2, true)] {
        let InputBuffer::Plain(buffer) = session.input(0, &[2]).unwrap() else { panic!("not numbers") };
        buffer.copy_from_slice(bytemuck::cast_slice(&[1_i64, index]));
        let outcome = session.run().map_err(|error| error.to_string());
        assert_eq!(outcome.is_ok(), good, "{outcome:?}");
        assert_eq!(session.output(0).is_ok(), good);
    }
}

#[test]
fn booleans_and_texts_come_through() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let load = |name: &str| engine.load(&artifact(&folder(name)), &LIMITS).unwrap();
    let model = load("operators/not");
    let mut session = model.plan(Some(1)).unwrap().session().unwrap();
    let InputBuffer::Plain(buffer) = session.input(0, &[1, 2]).unwrap() else { panic!("not bytes") };
    buffer.copy_from_slice(&[255, 0]);
    session.run().unwrap();
    assert_eq!(plain(&*session), [0, 1]);
    let model = load("fixtures/identity-string");
    let mut session = model.plan(Some(1)).unwrap().session().unwrap();
    for (text, good) in [("żółw 🐢", true), ("", true), ("a\0b", false)] {
        let InputBuffer::Strings(items) = session.input(0, &[1, 4]).unwrap() else { panic!("not texts") };
        items.fill(text.to_owned());
        match session.run() {
            Ok(()) => {
                let OutputData::Strings(items) = session.output(0).unwrap().data else { panic!("not texts") };
                assert!(good && items.iter().all(|item| item == text), "{items:?}");
            }
            Err(error) => {
                assert!(!good, "{error}");
                let text = "input 'x': a text with a zero byte cannot be given to onnxruntime";
                assert_eq!(error.to_string(), text);
            }
        }
    }
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let model = engine.load(&artifact(&folder("fixtures/unnamed-batch")), &LIMITS).unwrap();
    let plan = model.plan(Some(2)).unwrap();
    thread::scope(|scope| {
        for thread in 0..6 {
            let plan = &plan;
            scope.spawn(move || {
                let mut session = plan.session().unwrap();
                for run in 0..200 {
                    let value = (thread * 1000 + run) as f32;
                    fill(&mut *session, &[2, 4], &[value; 8]);
                    session.run().unwrap();
                    assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[value * 2.0; 8]));
                }
            });
        }
    });
}

#[test]
fn operators_that_mix_rows_are_named() {
    let Some(Opened { engine, .. }) = opened() else { return };
    let named = |name: &str| engine.load(&artifact(&folder(name)), &LIMITS).unwrap().order_dependent();
    assert_eq!(named("fixtures/random-normal"), ["node 'randomnormallike_noise' (RandomNormalLike)"]);
    assert!(named("fixtures/softmax-dim0").is_empty());
}

#[test]
fn a_library_that_is_named_must_be_one() {
    let text = |path: &Path| open(Some(path)).err().unwrap().to_string();
    assert_eq!(text(Path::new("/no/such/library.so")), "onnxruntime: library '/no/such/library.so': not found");
    let file = root().join("README.md");
    let refused = text(&file);
    assert!(refused.starts_with(&format!("onnxruntime: library '{}': ", file.display())), "{refused}");
}
