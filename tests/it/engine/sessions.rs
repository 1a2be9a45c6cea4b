//! How sessions behave when requests are odd: wrong shapes, sizes that would take all memory, values out of range.

use weir::engine::{Engine as _, Limits, Session};

use super::{
    manners::{fill, plain},
    *,
};

fn operator(name: &str) -> Box<dyn Model> {
    load(&root().join("tests/operators").join(name).join("1")).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name).join("1")
}

fn session(model: &dyn Model, rows: Option<usize>) -> Box<dyn Session> {
    model.plan(rows).unwrap().session().unwrap()
}

#[test]
fn buffers_are_used_again() {
    manners::use_buffers_again(&*load(&fixture("unnamed-batch")).unwrap());
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    manners::refuse_shapes_that_do_not_fit(&*load(&fixture("unnamed-batch")).unwrap());
    assert!(load(&fixture("no-batch")).unwrap().plan(Some(1)).is_err());
}

#[test]
fn outputs_are_limited() {
    let limits = Limits { max_output_bytes: 64 };
    let load = |folder: &Path| TractEngine::new().load(&artifact(folder), &limits).unwrap();
    let range = load(&root().join("tests/operators/range/1"));
    manners::limit_outputs(&*load(&fixture("unnamed-batch")), &*range);
    let mut session = session(&*range, None);
    let InputBuffer::Plain(buffer) = session.input(0, &[]).unwrap() else { panic!("not numbers") };
    buffer.copy_from_slice(&(1_i64 << 60).to_le_bytes());
    let text = session.run().unwrap_err().to_string();
    assert!(text.contains("expected at most 134217728 elements"), "{text}");
}

#[test]
fn requests_that_would_take_all_memory_are_errors() {
    let model = operator("attention");
    let mut session = session(&*model, Some(1));
    let long = vec![0.0; 3 * 100_000];
    fill(&mut *session, &[1, 100_000, 3], &long);
    let text = session.run().unwrap_err().to_string();
    assert!(text.contains("is more than 4294967296 bytes"), "{text}");
    fill(&mut *session, &[1, 2, 3], &[0.0; 6]);
    session.run().unwrap();
    assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[0.5; 4]));
}

#[test]
fn booleans_of_any_byte_are_booleans() {
    let model = operator("not");
    let mut session = session(&*model, Some(1));
    let InputBuffer::Plain(buffer) = session.input(0, &[1, 2]).unwrap() else { panic!("not bytes") };
    buffer.copy_from_slice(&[255, 0]);
    session.run().unwrap();
    assert_eq!(plain(&*session), [0, 1]);
}

#[test]
fn values_out_of_range_are_errors() {
    let model = operator("gather");
    let mut session = session(&*model, Some(2));
    let InputBuffer::Plain(buffer) = session.input(0, &[2]).unwrap() else { panic!("not numbers") };
    buffer.copy_from_slice(bytemuck::cast_slice(&[1_i64, 100]));
    assert!(session.run().is_err());
    let mut fresh = model.plan(Some(2)).unwrap().session().unwrap();
    let InputBuffer::Plain(buffer) = fresh.input(0, &[2]).unwrap() else { panic!("not numbers") };
    buffer.copy_from_slice(bytemuck::cast_slice(&[1_i64, 2]));
    fresh.run().unwrap();
}

#[test]
fn batches_are_recognised() {
    let batch = |folder: PathBuf| load(&folder).unwrap().signature().batch;
    let of_operator = |name: &str| batch(root().join("tests/operators").join(name).join("1"));
    assert_eq!(batch(fixture("two-in-two-out")), Batch::Rows);
    assert_eq!(batch(fixture("unnamed-batch")), Batch::Rows);
    assert_eq!(batch(fixture("ragged")), Batch::Rows);
    assert_eq!(batch(fixture("no-batch")), Batch::None);
    assert_eq!(batch(fixture("no-batch-dim-vector")), Batch::None);
    assert_eq!(of_operator("flatten"), Batch::Rows, "typed by size");
    assert_eq!(of_operator("two-names"), Batch::None, "two batches are not one");
    assert_eq!(of_operator("square"), Batch::None, "rows are columns too");
    assert_eq!(of_operator("range"), Batch::None);
}

#[test]
fn operators_that_mix_rows_are_named() {
    let named = |name: &str| load(&fixture(name)).unwrap().order_dependent();
    assert_eq!(named("random-normal"), ["node 'randomnormallike_noise' (RandomNormalLike)"]);
    assert_eq!(named("quantized-rows"), ["node 'dynamicquantizelinear_q' (DynamicQuantizeLinear)"]);
    assert!(named("softmax-dim0").is_empty());
}

#[test]
fn random_answers_differ() {
    let model = load(&fixture("random-normal")).unwrap();
    let mut session = session(&*model, Some(1));
    let mut answers = Vec::new();
    for _ in 0..2 {
        fill(&mut *session, &[1, 4], &[0.0; 4]);
        session.run().unwrap();
        answers.push(plain(&*session).to_vec());
    }
    assert_ne!(answers[0], answers[1]);
}

#[test]
fn sessions_of_one_plan_run_side_by_side() {
    let model = load(&root().join("models/digits-cnn/1")).unwrap();
    let plan = model.plan(Some(1)).unwrap();
    let alone = |value: f32| {
        let mut session = plan.session().unwrap();
        fill(&mut *session, &[1, 64], &[value; 64]);
        session.run().unwrap();
        plain(&*session).to_vec()
    };
    let want: Vec<_> = (0..4).map(|value| alone(value as f32)).collect();
    let got = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|value| scope.spawn(move || alone(value as f32))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(got, want);
}

/// What a compiled size holds is at least its weights, and not many times as much; sizes share the packed ones.
#[test]
fn plans_know_what_they_hold() {
    for name in ["torch-mlp", "torch-cnn"] {
        let folder = root().join("tests/exporters").join(name).join("1");
        let file = artifact(&folder).bytes.len();
        let model = load(&folder).unwrap();
        let held = |sizes: &[usize]| -> usize {
            let plans = sizes.iter().map(|rows| model.plan(Some(*rows)).unwrap());
            let plans: Vec<_> = plans.collect();
            let parts: BTreeMap<_, _> = plans.iter().flat_map(|plan| plan.parts()).collect();
            parts.values().sum()
        };
        let (one, three) = (held(&[1]), held(&[1, 8, 32]));
        assert!(one * 4 > file * 3 && one < 4 * file, "{name}: {one} of {file}");
        assert!((one..2 * one).contains(&three), "{name}: {one}, {three}: every size has weights of its own");
    }
}
