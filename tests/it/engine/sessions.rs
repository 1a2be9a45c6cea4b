//! How sessions behave when requests are odd: wrong shapes, sizes that would take all memory, values out of range.

use weir::engine::{Engine as _, Limits, OutputData, Session};

use super::*;

fn operator(name: &str) -> Box<dyn Model> {
    load(&root().join("tests/operators").join(name).join("1")).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name).join("1")
}

fn session(model: &dyn Model, rows: Option<usize>) -> Box<dyn Session> {
    model.plan(rows).unwrap().session().unwrap()
}

fn fill(session: &mut dyn Session, shape: &[usize], values: &[f32]) {
    let InputBuffer::Plain(buffer) = session.input(0, shape).unwrap() else { panic!("not numbers") };
    buffer.copy_from_slice(bytemuck::cast_slice(values));
}

fn plain(session: &dyn Session) -> &[u8] {
    let OutputData::Plain(bytes) = session.output(0).unwrap().data else { panic!("not numbers") };
    bytes
}

#[test]
fn buffers_are_used_again() {
    let model = load(&fixture("unnamed-batch")).unwrap();
    let mut session = session(&*model, Some(2));
    let mut places = Vec::new();
    for run in 0..3 {
        let InputBuffer::Plain(buffer) = session.input(0, &[2, 4]).unwrap() else { panic!("not numbers") };
        places.push(buffer.as_ptr());
        buffer.copy_from_slice(bytemuck::cast_slice(&[run as f32; 8]));
        session.run().unwrap();
        assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[run as f32 * 2.0; 8]));
    }
    assert_eq!(places, [places[0]; 3]);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let model = load(&fixture("unnamed-batch")).unwrap();
    let mut session = session(&*model, Some(2));
    for shape in [&[3, 4][..], &[2, 5], &[2], &[2, 4, 1]] {
        let text = session.input(0, shape).unwrap_err().to_string();
        assert!(text.starts_with("input 'x': shape: expected [Some(2), Some(4)], got"), "{text}");
    }
    assert!(session.input(1, &[2, 4]).is_err());
    assert_eq!(session.run().unwrap_err().to_string(), "input 'x': was not given");
    assert!(session.output(0).is_err());
    assert!(model.plan(None).is_err());
    assert!(model.plan(Some(0)).is_err());
    assert!(load(&fixture("no-batch")).unwrap().plan(Some(1)).is_err());
}

#[test]
fn outputs_are_limited() {
    let limits = Limits { max_output_bytes: 64 };
    let model = TractEngine::new().load(&artifact(&fixture("unnamed-batch")), &limits).unwrap();
    assert!(model.plan(Some(4)).is_ok());
    let text = model.plan(Some(5)).err().unwrap().to_string();
    assert_eq!(text, "plan for 5 rows: outputs: expected at most 64 bytes, got 80");

    // Sizes that are only known when a request comes.
    let folder = root().join("tests/operators/range/1");
    let model = TractEngine::new().load(&artifact(&folder), &limits).unwrap();
    let mut session = session(&*model, None);
    let mut count = |n: i64| {
        let InputBuffer::Plain(buffer) = session.input(0, &[]).unwrap() else { panic!("not numbers") };
        buffer.copy_from_slice(&n.to_le_bytes());
        session.run().map_err(|error| error.to_string())
    };
    assert_eq!(count(8), Ok(()));
    assert_eq!(count(9), Err("outputs: expected at most 64 bytes, got 72".to_owned()));
    assert!(count(1 << 60).unwrap_err().contains("expected at most 134217728 elements"));
    assert_eq!(count(3), Ok(()), "the session goes on");
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
