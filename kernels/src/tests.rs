//! The kernels against the plainest loops that compute the same, over shapes, strides, paddings, dilations and groups, at every
//! level of instructions that the machine has.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    Activation, Conv, ConvWeights, Dense, DenseWeights, Depthwise, Window, WindowAxis,
    levels::{self, At},
};

/// Numbers between -1 and 1 that differ from each other.
pub(crate) fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|at| ((at * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

pub(crate) fn axis() -> impl Strategy<Value = WindowAxis> {
    (1..24_usize, 1..6_usize, 1..4_usize, 1..4_usize, 0..4_usize, 0..4_usize).prop_filter_map(
        "the filter fits",
        |(input, kernel, stride, dilation, pad_before, pad_after)| {
            let axis = WindowAxis { input, kernel, stride, dilation, pad_before, pad_after };
            (axis.output() > 0).then_some(axis)
        },
    )
}

fn activation() -> impl Strategy<Value = Activation> {
    static CLIPS: [Activation; 3] =
        [Activation::RELU, Activation::Clip(0.0, 1.0), Activation::Clip(-0.5, f32::INFINITY)];
    static OTHERS: [Activation; 5] =
        [Activation::HardSwish, Activation::Sigmoid, Activation::Tanh, Activation::Silu, Activation::Gelu];
    prop_oneof![Just(Activation::Linear), proptest::sample::select(&CLIPS[..]), proptest::sample::select(&OTHERS[..]),]
}

/// Every tap of every output, one after the other. `groups` filters of `inputs` channels each.
fn convolve(
    [y, x]: [WindowAxis; 2],
    (groups, inputs): (usize, usize),
    (image, weights, bias): (&[f32], &[f32], &[f32]),
) -> Vec<f32> {
    let outputs = bias.len() / groups;
    let mut out = Vec::new();
    for (channel, bias) in bias.iter().enumerate() {
        let first = channel / outputs * inputs;
        for at in 0..y.output() * x.output() {
            let (oy, ox) = (at / x.output(), at % x.output());
            let mut sum = f64::from(*bias);
            for tap in 0..inputs * y.kernel * x.kernel {
                let (c, ky, kx) = (tap / (y.kernel * x.kernel), tap / x.kernel % y.kernel, tap % x.kernel);
                let iy = (oy * y.stride + ky * y.dilation).wrapping_sub(y.pad_before);
                let ix = (ox * x.stride + kx * x.dilation).wrapping_sub(x.pad_before);
                if iy < y.input && ix < x.input {
                    let pixel = image[((first + c) * y.input + iy) * x.input + ix];
                    sum += f64::from(pixel) * f64::from(weights[channel * inputs * y.kernel * x.kernel + tap]);
                }
            }
            out.push(sum as f32);
        }
    }
    out
}

pub(crate) fn close(ours: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.len(), expected.len());
    for (at, (a, b)) in ours.iter().zip(expected).enumerate() {
        prop_assert!((a - b).abs() <= 1e-4 + 1e-5 * b.abs(), "element {}: {} is not {}", at, a, b);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn depthwise_is_what_the_loops_say(
        y in axis(), x in axis(), channels in 1..40_usize, activation in activation(), level in levels::any(),
    ) {
        let _at = At::level(level);
        let window = Window::new(y, x);
        let image = numbers(channels * window.input_len(), 1);
        let weights = numbers(channels * y.kernel * x.kernel, 2);
        let bias = numbers(channels, 3);
        let expected = convolve([y, x], (channels, 1), (&image, &weights, &bias));
        let expected: Vec<_> = expected.into_iter().map(|sum| activation.of(sum)).collect();
        let mut out = vec![f32::NAN; channels * window.output_len()];
        Depthwise::new([y, x], &weights, &bias).run(&image, &mut out, activation);
        close(&out, &expected)?;
    }

    #[test]
    fn convolutions_are_what_the_loops_say(
        y in axis(), x in axis(), (groups, inputs, outputs) in (1..4_usize, 1..6_usize, 1..20_usize),
        activation in activation(), adds in any::<bool>(), level in levels::any(),
    ) {
        let _at = At::level(level);
        let window = Window::new(y, x);
        let image = numbers(groups * inputs * window.input_len(), 4);
        let weights = numbers(groups * outputs * inputs * y.kernel * x.kernel, 5);
        let bias = numbers(groups * outputs, 6);
        let other = adds.then(|| numbers(groups * outputs * window.output_len(), 7));
        let mut expected = convolve([y, x], (groups, inputs), (&image, &weights, &bias));
        for (at, sum) in expected.iter_mut().enumerate() {
            *sum = activation.of(*sum + other.as_ref().map_or(0.0, |other| other[at]));
        }
        let mut out = vec![f32::NAN; expected.len()];
        let packed = Arc::new(ConvWeights::new(&weights, groups, outputs));
        Conv::new(window, packed, bias).run(&image, other.as_deref(), &mut out, activation);
        close(&out, &expected)?;
    }

    #[test]
    fn pointwise_convolutions_are_products(
        size in 1..120_usize, inputs in 1..20_usize, outputs in 1..40_usize, level in levels::any(),
    ) {
        let _at = At::level(level);
        let (y, x) = (WindowAxis::pointwise(1), WindowAxis::pointwise(size));
        let (image, weights, bias) = (numbers(inputs * size, 8), numbers(inputs * outputs, 9), numbers(outputs, 10));
        let expected = convolve([y, x], (1, inputs), (&image, &weights, &bias));
        let mut out = vec![f32::NAN; expected.len()];
        let packed = Arc::new(ConvWeights::new(&weights, 1, outputs));
        Conv::new(Window::new(y, x), packed, bias).run(&image, None, &mut out, Activation::Linear);
        close(&out, &expected)?;
    }

    #[test]
    fn products_are_what_the_loops_say(
        rows in 1..40_usize, inner in 1..70_usize, outer in 1..150_usize, activation in activation(), adds in any::<bool>(),
        level in levels::any(),
    ) {
        let _at = At::level(level);
        let (left, matrix, bias) = (numbers(rows * inner, 11), numbers(inner * outer, 12), numbers(outer, 13));
        let other = adds.then(|| numbers(rows * outer, 14));
        let mut expected = Vec::new();
        for row in left.chunks_exact(inner) {
            for column in 0..outer {
                let products = row.iter().enumerate();
                let sum: f64 = products.map(|(k, x)| f64::from(*x) * f64::from(matrix[k * outer + column])).sum();
                let added = other.as_ref().map_or(0.0, |other| other[expected.len()]);
                expected.push(activation.of(sum as f32 + bias[column] + added));
            }
        }
        let dense = Dense::new(Arc::new(DenseWeights::new(&matrix, inner, outer)), &bias);
        let mut out = vec![f32::NAN; expected.len()];
        dense.run(&left, other.as_deref(), &mut out, activation);
        close(&out, &expected)?;
        // A row's answer is the same to the last bit whatever it is together with.
        let mut alone = vec![f32::NAN; outer];
        let last = other.as_ref().map(|other| &other[(rows - 1) * outer..]);
        dense.run(&left[(rows - 1) * inner..], last, &mut alone, activation);
        prop_assert_eq!(&alone[..], &out[(rows - 1) * outer..]);
    }
}

#[test]
fn many_rows_are_worked_off_in_blocks() {
    levels::at_each(|| {
        let (rows, inner, outer) = (300, 1100, 5);
        let (left, matrix) = (numbers(rows * inner, 1), numbers(inner * outer, 2));
        let dense = Dense::new(Arc::new(DenseWeights::new(&matrix, inner, outer)), &[]);
        let mut out = vec![f32::NAN; rows * outer];
        dense.run(&left, None, &mut out, Activation::Linear);
        for (row, out) in left.chunks_exact(inner).zip(out.chunks_exact(outer)) {
            let mut alone = vec![f32::NAN; outer];
            dense.run(row, None, &mut alone, Activation::Linear);
            assert_eq!(alone, out);
        }
    });
}

#[test]
fn what_is_not_a_number_stays_so() {
    levels::at_each(|| {
        for activation in [Activation::RELU, Activation::Clip(-1.0, 6.0), Activation::HardSwish] {
            let mut some = vec![f32::NAN, -2.0, 3.0, f32::INFINITY, f32::NAN];
            activation.run(&mut some);
            assert!(some[0].is_nan() && some[4].is_nan(), "{activation:?}: {some:?}");
            assert!(some[1..4].iter().all(|number| !number.is_nan()), "{activation:?}: {some:?}");
            // Also where the activation is part of the product.
            let dense = Dense::new(Arc::new(DenseWeights::new(&[1.0; 2 * 19], 2, 19)), &[]);
            let mut out = vec![0.0; 2 * 19];
            dense.run(&[f32::NAN, 1.0, 2.0, 1.0], None, &mut out, activation);
            assert!(out[..19].iter().all(|number| number.is_nan()), "{activation:?}: {out:?}");
            assert!(out[19..].iter().all(|number| *number == 3.0), "{activation:?}: {out:?}");
        }
    });
}
