//! What is proved, and how much is run for it, by a clock that only moves where the test says so.

use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use parking_lot::Mutex;

use super::*;
use crate::engine::{
    fake::{FakeEngine, Script},
    function::FunctionModel,
};

#[test]
fn an_elementwise_model_is_proved() {
    let model = FakeEngine::new(Script::default(), 3).model();
    assert_eq!(prove(model.as_ref(), &[], Duration::ZERO).unwrap(), Merging::Proved);
    let model = FakeEngine::new(Script::default(), 3).without_batch().model();
    assert_eq!(prove(model.as_ref(), &[], Duration::ZERO).unwrap(), Merging::NoBatch);
}

fn sample(rows: usize) -> Vec<Tensor> {
    vec![Tensor::from_vec(DType::Fp32, [rows, 2].as_slice().into(), vec![0_f32; rows * 2]).unwrap()]
}

#[test]
fn known_rows_are_cut_out_of_samples() {
    let model = FakeEngine::new(Script::default(), 2).model();
    assert!(known_rows(model.signature(), &[sample(1)]).is_none());
    assert_eq!(known_rows(model.signature(), &[sample(1), sample(7)]).unwrap().len(), ROWS);
}

/// What a proof says of a model whose n-th run of so many rows takes `takes(n, rows)` ms, and the rows of its runs.
fn proved(takes: fn(usize, u64) -> u64, samples: &[Vec<Tensor>], compile: Duration) -> (Merging, Vec<usize>) {
    let clock = Arc::new(AtomicU64::new(0));
    let runs = Arc::new(Mutex::new(Vec::new()));
    let signature = FakeEngine::new(Script::default(), 2).model().signature().clone();
    let model = FunctionModel::new(signature, {
        let (clock, runs, count) = (Arc::clone(&clock), Arc::clone(&runs), AtomicUsize::new(0));
        move |inputs, rows| {
            clock.fetch_add(takes(count.fetch_add(1, SeqCst), rows as u64), Relaxed);
            runs.lock().push(rows);
            Ok(vec![inputs[0].clone()])
        }
    });
    let elapsed = || Duration::from_millis(clock.load(Relaxed));
    let mut watch = Watch { elapsed: &elapsed, compile, least: None, runs: 0, rows: 0 };
    let merging = prove_in_time(&model, samples, &mut watch).unwrap();
    let runs = runs.lock().clone();
    (merging, runs)
}

fn off(merging: &Merging) -> Arc<str> {
    assert!(matches!(merging, Merging::Off(_)), "{merging:?}");
    merging.off_because().unwrap()
}

/// Rows of the runs over one set of rows.
const SET: [usize; 11] = [1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 4];

#[test]
fn a_slow_model_is_not_proved_for_longer_than_it_may_take() {
    // Twenty rows of a tenth of a second are exactly what is allowed.
    assert_eq!(proved(|_, rows| 100 * rows, &[], Duration::ZERO), (Merging::Proved, SET.to_vec()));
    let (merging, runs) = proved(|_, rows| 101 * rows, &[], Duration::ZERO);
    assert_eq!(
        &*off(&merging),
        "too slow to prove within 2s that rows are independent (a row takes 101.0ms): \
         a number as batching.max_batch_size in model.toml vouches for them"
    );
    assert_eq!(runs, [1, 1]);
}

#[test]
fn made_up_rows_are_left_out_where_known_ones_have_taken_the_time() {
    let both = [SET, SET].concat();
    assert_eq!(proved(|_, rows| 50 * rows, &[sample(4)], Duration::ZERO), (Merging::Proved, both));
    assert_eq!(proved(|_, rows| 51 * rows, &[sample(4)], Duration::ZERO), (Merging::Proved, SET.to_vec()));
}

#[test]
fn runs_that_the_system_put_aside_do_not_count() {
    let stalls = |run: usize, rows: u64| if run.is_multiple_of(3) { 900 } else { rows };
    assert_eq!(proved(stalls, &[], Duration::ZERO), (Merging::Proved, SET.to_vec()));
}

#[test]
fn nothing_is_begun_after_the_end() {
    let says = "it cannot be proved within 10s that rows are independent: \
                a number as batching.max_batch_size in model.toml vouches for them";
    let stuck = |run: usize, rows: u64| if run == 5 { 10_000 } else { rows };
    let (merging, runs) = proved(stuck, &[], Duration::ZERO);
    assert_eq!((&*off(&merging), &runs[..]), (says, [1; 6].as_slice()));
    // A first run that long is the only one.
    let (merging, runs) = proved(|_, _| 6_000, &[], Duration::ZERO);
    assert_eq!((&*off(&merging), &runs[..]), (says, [1].as_slice()));
    // Nor is a batch compiled that is expected to take longer.
    let (merging, runs) = proved(|_, rows| rows, &[], Duration::from_millis(10_001));
    assert_eq!((&*off(&merging), runs.len()), (says, 0));
    let (merging, _) = proved(|_, rows| rows, &[], Duration::from_secs(9));
    assert_eq!(merging, Merging::Proved);
}
