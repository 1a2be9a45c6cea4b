//! What is done row by row, planes and products of matrices, against the plainest loops that compute the same, at every
//! level of instructions that the machine has.

use proptest::prelude::*;

use crate::{
    Activation, Added, MaxPool, Norm, Product, Products, Steps, Sums,
    levels::{self, At},
    scale_rows, softmax,
    tests::{axis, close, numbers},
    thin_out,
};

fn plain_softmax(row: &[f64]) -> Vec<f32> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

/// Steps of a matrix of this size, by rows or by columns, with gaps.
fn steps(rows: usize, columns: usize, kind: u8) -> (Steps, usize) {
    match kind {
        0 => (Steps { row: columns + 3, column: 1 }, rows * (columns + 3)),
        1 => (Steps { row: 1, column: rows + 2 }, columns * (rows + 2)),
        _ => (Steps { row: columns * 2, column: 2 }, rows * columns * 2),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn softmax_is_what_the_loops_say(rows in 1..40_usize, len in 1..70_usize, adds in any::<bool>(), level in levels::any()) {
        let _at = At::level(level);
        let given: Vec<f32> = numbers(rows * len, 1).iter().map(|x| x * 20.0).collect();
        let (added, starts) = (numbers(len + 3, 2), (0..rows).map(|row| row % 4).collect::<Vec<_>>());
        let added = adds.then_some(Added { numbers: &added, starts: &starts });
        let mut expected = Vec::new();
        for (at, row) in given.chunks_exact(len).enumerate() {
            let of = |column: usize| added.map_or(0.0, |added| added.numbers[added.starts[at] + column]);
            let row: Vec<_> = row.iter().enumerate().map(|(column, x)| f64::from(*x + of(column))).collect();
            expected.extend(plain_softmax(&row));
        }
        let mut ours = given.clone();
        softmax(&mut ours, len, added);
        close(&ours, &expected)?;
        // Alone it is the same to the last bit.
        let mut alone = given[(rows - 1) * len..].to_vec();
        softmax(&mut alone, len, added.map(|added| Added { starts: &starts[rows - 1..], ..added }));
        prop_assert_eq!(&alone[..], &ours[(rows - 1) * len..]);
    }

    #[test]
    fn rows_are_normalized(
        rows in 1..9_usize, len in 1..70_usize, centered in any::<bool>(), then in any::<bool>(), level in levels::any(),
    ) {
        let _at = At::level(level);
        let given = numbers(rows * len, 1);
        let (factors, addends) = if then { (numbers(len, 2), numbers(len, 3)) } else { (vec![], vec![]) };
        let mut expected = Vec::new();
        for row in given.chunks_exact(len) {
            let mean = if centered { row.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64 } else { 0.0 };
            let square = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / len as f64;
            for (at, x) in row.iter().enumerate() {
                let x = ((f64::from(*x) - mean) / (square + 1e-3).sqrt()) as f32;
                expected.push(if then { x * factors[at] + addends[at] } else { x });
            }
        }
        let mut ours = vec![f32::NAN; rows * len];
        Norm { len, epsilon: 1e-3, centered, factors, addends }.run(&given, &mut ours);
        close(&ours, &expected)?;
    }

    #[test]
    fn the_largest_of_each_window(y in axis(), x in axis(), planes in 1..4_usize, level in levels::any()) {
        let _at = At::level(level);
        let (y, x) = (crate::WindowAxis { dilation: 1, ..y }, crate::WindowAxis { dilation: 1, ..x });
        let pool = MaxPool { y, x, output: (y.output(), x.output()) };
        let given = numbers(planes * y.input * x.input, 1);
        let mut expected = Vec::new();
        for plane in given.chunks_exact(y.input * x.input) {
            for at in 0..y.output() * x.output() {
                let mut largest = f32::NEG_INFINITY;
                for tap in 0..y.kernel * x.kernel {
                    let row = (at / x.output() * y.stride + tap / x.kernel).wrapping_sub(y.pad_before);
                    let column = (at % x.output() * x.stride + tap % x.kernel).wrapping_sub(x.pad_before);
                    if row < y.input && column < x.input {
                        largest = largest.max(plane[row * x.input + column]);
                    }
                }
                expected.push(largest);
            }
        }
        let mut ours = vec![f32::NAN; expected.len()];
        pool.run(&given, &mut ours);
        prop_assert_eq!(ours, expected);
    }

    #[test]
    fn matrices_that_vary_are_multiplied(
        (rows, inner, outer) in (1..20_usize, 1..40_usize, 1..40_usize), kinds in [0..3_u8, 0..3_u8, 0..3_u8],
        level in levels::any(),
    ) {
        let _at = At::level(level);
        let (left, left_len) = steps(rows, inner, kinds[0]);
        let (right, right_len) = steps(inner, outer, kinds[1]);
        let (out, out_len) = steps(rows, outer, kinds[2]);
        let places =
            (0..3).map(|at| Product { left: at * left_len, right: at % 2 * right_len, out: at * out_len }).collect();
        let products = Products { rows, inner, outer, left, right, out, factor: 0.5, places };
        let (a, b) = (numbers(3 * left_len, 1), numbers(2 * right_len, 2));
        let mut expected = vec![7.0; 3 * out_len];
        for place in &products.places {
            for (row, column) in (0..rows).flat_map(|row| (0..outer).map(move |column| (row, column))) {
                let term = |k: usize| {
                    let x = a[place.left + row * left.row + k * left.column];
                    f64::from(x) * f64::from(b[place.right + k * right.row + column * right.column])
                };
                let sum = (0..inner).map(term).sum::<f64>();
                expected[place.out + row * out.row + column * out.column] = (sum * 0.5) as f32;
            }
        }
        let mut ours = vec![7.0; 3 * out_len];
        products.run(&a, &b, &mut ours);
        close(&ours, &expected)?;
    }

    #[test]
    fn sums_over_an_axis(len in 1..200_usize, outer in 1..5_usize, inner in 1..40_usize, level in levels::any()) {
        let _at = At::level(level);
        let given = numbers(outer * len * inner, 1);
        let sum = |at: usize| -> f32 {
            (0..len).map(|k| given[(at / inner * len + k) * inner + at % inner]).sum::<f32>() * 0.25
        };
        let expected: Vec<f32> = (0..outer * inner).map(sum).collect();
        let mut ours = vec![f32::NAN; outer * inner];
        Sums { len, inner, factor: 0.25 }.run(&given, &mut ours);
        close(&ours, &expected)?;
    }

    #[test]
    fn every_so_many_are_taken(
        len in 1..9_usize, step in 1..4_usize, outer in 1..4_usize, inner in 1..20_usize, level in levels::any(),
    ) {
        let _at = At::level(level);
        let total = (len - 1) * step + 1;
        let given = numbers(outer * total * inner, 1);
        let of = |at: usize| given[(at / (len * inner) * total + at / inner % len * step) * inner + at % inner];
        let expected: Vec<f32> = (0..outer * len * inner).map(of).collect();
        let mut ours = vec![f32::NAN; expected.len()];
        thin_out(&given, (total, inner), step, &mut ours);
        prop_assert_eq!(&ours, &expected);
        let factors = numbers(outer, 2);
        scale_rows(&mut ours, len * inner, &factors);
        let scaled: Vec<f32> = expected.iter().enumerate().map(|(at, x)| x * factors[at / (len * inner)]).collect();
        prop_assert_eq!(ours, scaled);
    }
}

/// What is not a number stays so, and what is beyond all bounds does what it should.
#[test]
fn the_ends_of_the_scale() {
    levels::at_each(|| {
        let mut rows = [f32::NAN, 0.0, f32::NEG_INFINITY, 3.0, 1000.0, -1000.0];
        softmax(&mut rows, 2, None);
        assert!(rows[0].is_nan() && rows[1].is_nan());
        assert_eq!(rows[2..], [0.0, 1.0, 1.0, 0.0]);
        for activation in [Activation::Sigmoid, Activation::Tanh, Activation::Silu, Activation::Gelu] {
            let mut ends = [f32::NAN, 200.0, -200.0, f32::MAX];
            activation.run(&mut ends);
            assert!(ends[0].is_nan());
            let top = if matches!(activation, Activation::Sigmoid | Activation::Tanh) { 1.0 } else { 200.0 };
            assert_eq!(ends[1], top, "{activation:?}");
            assert_eq!(ends[2], if activation == Activation::Tanh { -1.0 } else { 0.0 }, "{activation:?}");
        }
    });
}
