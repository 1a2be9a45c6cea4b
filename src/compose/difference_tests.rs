//! Tests of the comparison: against the tolerance's own rule, against a plain restatement of the differences, and by example.

use bytes::Bytes;
use proptest::prelude::*;
use smallvec::smallvec;

use super::*;

fn scores(columns: usize, values: &[f32]) -> Tensor {
    Tensor::from_vec(DType::Fp32, smallvec![values.len() / columns, columns], values.to_vec()).unwrap()
}

fn labels(values: &[i64]) -> Tensor {
    Tensor::from_vec(DType::Int64, smallvec![values.len()], values.to_vec()).unwrap()
}

fn texts(values: &[&'static str]) -> Tensor {
    Tensor::strings(smallvec![values.len()], values.iter().map(|text| Bytes::from_static(text.as_bytes())).collect())
        .unwrap()
}

fn pairs<'a>(primary: &'a [Tensor], shadow: &'a [Tensor]) -> Vec<Pair<'a>> {
    primary.iter().zip(shadow).map(|(primary, shadow)| Pair { primary, shadow }).collect()
}

fn one(primary: Tensor, shadow: Tensor, rows: usize) -> Comparison {
    compare(&[Pair { primary: &primary, shadow: &shadow }], rows).unwrap()
}

#[test]
fn a_row_is_the_same_when_all_its_outputs_are() {
    let primary = [scores(2, &[0.25, 0.75, 0.9, 0.1, 0.2, 0.8]), labels(&[1, 0, 1]), texts(&["b", "a", "b"])];
    let shadow = [scores(2, &[0.2501, 0.7499, 0.4, 0.6, 0.2, 0.8]), labels(&[1, 1, 1]), texts(&["b", "b", "c"])];
    let compared = compare(&pairs(&primary, &shadow), 3).unwrap();
    assert_eq!(compared.same, [true, false, false]);
    let [first, second, third] = &*compared.outputs else { panic!() };
    assert_eq!((first.ranked, first.flips), (3, 1));
    assert!((first.rows[1].0 - 0.5).abs() < 1e-6 && (first.rows[1].1 - 0.5 / 0.6).abs() < 1e-6);
    assert_eq!(first.rows[2], (0.0, 0.0));
    assert_eq!((second, third), (&Difference::default(), &Difference::default()));
}

#[test]
fn level_scores_let_a_class_fall_either_way() {
    let flip = |primary: [f32; 2], shadow: [f32; 2]| one(scores(2, &primary), scores(2, &shadow), 1).outputs[0].flips;
    assert_eq!(flip([0.6, 0.4], [0.4, 0.6]), 1);
    assert_eq!(flip([0.50004, 0.49996], [0.4, 0.6]), 0);
    assert_eq!(flip([0.6, 0.4], [0.49996, 0.50004]), 0);
    assert_eq!(flip([0.4, 0.6], [0.1, 0.9]), 0);
    let same = |primary: [f32; 2], shadow: [f32; 2]| {
        let (primary, shadow) = ([scores(2, &primary), labels(&[0])], [scores(2, &shadow), labels(&[1])]);
        compare(&pairs(&primary, &shadow), 1).unwrap().same[0]
    };
    assert!(same([0.50003, 0.49997], [0.49997, 0.50003]));
    assert!(!same([0.5003, 0.4997], [0.5003, 0.4997]));
}

#[test]
fn three_scores_have_their_second_highest_anywhere() {
    for (row, level) in [([0.2, 0.5, 0.3], false), ([0.5, 0.2, 0.49999], true), ([0.1, 0.45, 0.45], true)] {
        assert_eq!(top(&row).unwrap().1, level, "{row:?}");
    }
    assert_eq!(top(&[0.3, 0.7, 0.7]).unwrap().0, 1);
    assert_eq!(top(&[f64::NAN, 0.7]), None);
    assert_eq!(top(&[0.7, f64::NAN]), None);
    assert_eq!(top(&[]), None);
}

#[test]
fn what_is_no_number_is_the_same_only_as_itself() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let none = (0.0, 0.0);
    let far = (f64::INFINITY, f64::INFINITY);
    for (primary, shadow, same, difference) in [
        (NAN, NAN, true, none),
        (INF, INF, true, none),
        (NAN, 0.0, false, far),
        (1.0, INF, false, far),
        (INF, -INF, false, far),
    ] {
        let compared = one(scores(1, &[primary]), scores(1, &[shadow]), 1);
        assert_eq!((compared.same[0], compared.outputs[0].rows[0]), (same, difference), "{primary} {shadow}");
        assert_eq!(compared.outputs[0].ranked, 0, "one column is no ranking");
    }
    let compared = one(scores(2, &[NAN, 1.0]), scores(2, &[0.0, 1.0]), 1);
    assert_eq!((compared.outputs[0].ranked, compared.outputs[0].flips), (0, 0));
}

#[test]
fn other_datatypes_and_shapes_cannot_be_compared() {
    let x = scores(2, &[1.0, 2.0]);
    let not = |primary: &Tensor, shadow: &Tensor, rows| compare(&[Pair { primary, shadow }], rows).is_none();
    assert!(not(&x, &scores(1, &[1.0, 2.0]), 1));
    assert!(not(&x, &labels(&[1]), 1));
    assert!(not(&scores(1, &[1.0, 2.0]), &scores(1, &[1.0, 2.0]), 3));
    let matrix = scores(2, &[0.9, 0.1, 0.2, 0.8]);
    let whole = one(matrix.clone(), matrix.clone(), 1);
    assert_eq!(
        (whole.same.len(), whole.outputs[0].ranked),
        (1, 0),
        "without a batch dimension a matrix is no row of scores"
    );
    let empty = Tensor::from_vec(DType::Fp32, smallvec![0, 2], Vec::<f32>::new()).unwrap();
    assert_eq!(one(empty.clone(), empty, 0).same, [true; 0]);
    assert_eq!(compare(&[], 2).unwrap().same, [true, true]);
}

#[test]
fn every_floating_point_type_has_its_tolerance() {
    let half = |value: f32| Tensor::from_vec(DType::Fp16, smallvec![1, 1], vec![half::f16::from_f32(value)]).unwrap();
    let brain = |value: f32| Tensor::from_vec(DType::Bf16, smallvec![1, 1], vec![half::bf16::from_f32(value)]).unwrap();
    let double = |value: f64| Tensor::from_vec(DType::Fp64, smallvec![1, 1], vec![value]).unwrap();
    for (a, b, same) in [
        (half(1.0), half(1.01), true),
        (half(1.0), half(1.1), false),
        (brain(1.0), brain(1.0078125), true),
        (double(1.0), double(1.0 + 1e-9), true),
        (double(1.0), double(1.0 + 1e-8), false),
    ] {
        assert_eq!(one(a.clone(), b.clone(), 1).same, [same], "{a:?} {b:?}");
    }
}

/// Answers of two models that are often close, sometimes far apart, and sometimes no numbers.
fn answers() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>, Vec<i64>, Vec<i64>)> {
    let value = prop_oneof![8 => -2.0_f32..2.0, 1 => Just(0.0), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)];
    let off = prop_oneof![6 => -1e-4_f32..1e-4, 3 => -1.0_f32..1.0, 1 => Just(f32::NAN), 4 => Just(0.0)];
    (1..5_usize, 1..8_usize).prop_flat_map(move |(columns, rows)| {
        let (value, off, label) = (value.clone(), off.clone(), 0..3_i64);
        let cells = columns * rows;
        (
            Just(columns),
            proptest::collection::vec(value, cells),
            proptest::collection::vec(off, cells),
            proptest::collection::vec(label.clone(), rows),
            proptest::collection::vec(label, rows),
        )
            .prop_map(|(columns, primary, off, a, b)| {
                let shadow = primary.iter().zip(off).map(|(value, off)| value + off).collect();
                (columns, primary, shadow, a, b)
            })
    })
}

proptest! {
    #[test]
    fn rows_agree_as_the_tolerance_says(given in answers()) {
        let (columns, primary, shadow, _, _) = given;
        let rows = primary.len() / columns;
        let (primary, shadow) = (scores(columns, &primary), scores(columns, &shadow));
        let compared = one(primary.clone(), shadow.clone(), rows);
        for row in 0..rows {
            let (p, s) = (primary.slice_rows(row, 1).unwrap(), shadow.slice_rows(row, 1).unwrap());
            prop_assert_eq!(compared.same[row], Tolerance::first_difference(&s, &p).is_none());
        }
    }

    #[test]
    fn differences_are_the_largest_of_the_row(given in answers()) {
        let (columns, primary, shadow, _, _) = given;
        let rows = primary.len() / columns;
        let compared = one(scores(columns, &primary), scores(columns, &shadow), rows);
        for row in 0..rows {
            let (absolute, relative) = compared.outputs[0].rows[row];
            let cells = || primary[row * columns..].iter().zip(&shadow[row * columns..]).take(columns);
            let alike = |(p, s): (&f32, &f32)| p == s || (p.is_nan() && s.is_nan());
            prop_assert!(absolute >= 0.0 && relative >= 0.0);
            prop_assert_eq!(absolute == 0.0, cells().all(alike));
            prop_assert_eq!(absolute == 0.0, relative == 0.0);
            if cells().all(|(p, s)| p.is_finite() && s.is_finite()) {
                let want = cells().map(|(p, s)| (f64::from(*p) - f64::from(*s)).abs()).fold(0.0, f64::max);
                prop_assert_eq!(absolute, want);
                prop_assert!(relative <= 2.0);
            }
        }
    }

    /// Looked at from the other side, rows that are exactly the same stay so, and everything but the tolerance's own
    /// asymmetry is as before.
    #[test]
    fn differences_and_flips_do_not_depend_on_the_side(given in answers()) {
        let (columns, primary, shadow, _, _) = given;
        let rows = primary.len() / columns;
        let (primary, shadow) = (scores(columns, &primary), scores(columns, &shadow));
        let there = one(primary.clone(), shadow.clone(), rows);
        let back = one(shadow, primary, rows);
        prop_assert_eq!(there.outputs, back.outputs);
    }

    /// Rows are compared one by one: all of them at once, in any order, say the same.
    #[test]
    fn rows_are_independent(given in answers()) {
        let (columns, primary, shadow, a, b) = given;
        let primary = [scores(columns, &primary), labels(&a)];
        let shadow = [scores(columns, &shadow), labels(&b)];
        let all = compare(&pairs(&primary, &shadow), a.len()).unwrap();
        let (mut ranked, mut flips) = (0, 0);
        for row in (0..a.len()).rev() {
            let own = |tensors: &[Tensor]| tensors.iter().map(|t| t.slice_rows(row, 1).unwrap()).collect::<Vec<_>>();
            let single = compare(&pairs(&own(&primary), &own(&shadow)), 1).unwrap();
            prop_assert_eq!(single.same[0], all.same[row]);
            prop_assert_eq!(single.outputs[0].rows[0], all.outputs[0].rows[row]);
            ranked += single.outputs[0].ranked;
            flips += single.outputs[0].flips;
        }
        prop_assert_eq!((ranked, flips), (all.outputs[0].ranked, all.outputs[0].flips));
    }

    #[test]
    fn an_answer_is_the_same_as_itself(given in answers()) {
        let (columns, primary, _, labels_of, _) = given;
        let outputs = [scores(columns, &primary), labels(&labels_of)];
        let compared = compare(&pairs(&outputs, &outputs), labels_of.len()).unwrap();
        prop_assert!(compared.same.iter().all(|same| *same));
        prop_assert_eq!(compared.outputs[0].flips, 0);
        prop_assert!(compared.outputs[0].rows.iter().all(|row| *row == (0.0, 0.0)));
    }
}
