//! How fast the kernels are: one depthwise convolution at a time, of the shapes that MobileNets have, against the same
//! convolution as tract runs it; and products and convolutions against their bound, in floating-point operations per second.
//! One thread, and its own processor time; rounds are interleaved, and figures are medians.
//!
//! `cargo bench --bench kernels`

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, sync::Arc, time::Duration};

use tract_onnx::{
    tract_core::ops::{
        cnn::{self, KernelFormat, PaddingSpec, PoolSpec},
        nn::DataFormat,
    },
    tract_hir::internal::*,
};
use weir_kernels::{Activation, Conv, ConvWeights, Dense, DenseWeights, Depthwise, Window, WindowAxis};

#[path = "support/processor.rs"]
mod processor;

use processor::on_processor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(10);

/// Channels, rows and columns, taps, stride: the depthwise layers of MobileNetV3-small, then some of MobileNetV2.
const DEPTHWISE: [(usize, usize, usize, usize); 14] = [
    (16, 112, 3, 2),
    (72, 56, 3, 2),
    (88, 28, 3, 1),
    (96, 28, 5, 2),
    (240, 14, 5, 1),
    (120, 14, 5, 1),
    (144, 14, 5, 1),
    (288, 14, 5, 2),
    (576, 7, 5, 1),
    (32, 112, 3, 1),
    (96, 112, 3, 2),
    (144, 56, 3, 1),
    (384, 14, 3, 1),
    (960, 7, 3, 1),
];

/// Channels in and out, rows and columns, taps, stride.
const CONVOLUTIONS: [(usize, usize, usize, usize, usize); 6] = [
    (16, 72, 56, 1, 1),
    (240, 40, 14, 1, 1),
    (576, 96, 7, 1, 1),
    (64, 64, 56, 3, 1),
    (256, 256, 14, 3, 1),
    (3, 64, 224, 7, 2),
];

/// Rows, inner, outer.
const PRODUCTS: [(usize, usize, usize); 6] =
    [(1, 30, 64), (1, 512, 512), (8, 512, 512), (32, 64, 32), (128, 384, 1536), (1024, 384, 384)];

fn main() {
    println!("{:<28} {:>9} {:>9} {:>7}", "depthwise", "tract us", "ours us", "times");
    let mut sums = [0.0, 0.0];
    for (at, shape) in DEPTHWISE.into_iter().enumerate() {
        let [theirs, ours] = depthwise(shape);
        let (channels, size, taps, stride) = shape;
        let name = format!("{channels} x {size}^2, {taps}^2 / {stride}");
        println!("{name:<28} {:>9.1} {:>9.1} {:>7.1}", theirs * 1e6, ours * 1e6, theirs / ours);
        if at < 9 {
            sums = [sums[0] + theirs, sums[1] + ours];
        }
    }
    let [theirs, ours] = sums.map(|sum| sum * 1e6);
    println!("{:<28} {theirs:>9.1} {ours:>9.1} {:>7.1}", "the first nine together", theirs / ours);
    println!("{:<28} {:>9} {:>9}", "convolution", "ours us", "GFLOP/s");
    for (from, to, size, taps, stride) in CONVOLUTIONS {
        let (time, operations) = convolution((from, to, size, taps, stride));
        let name = format!("{from} to {to} x {size}^2, {taps}^2 / {stride}");
        println!("{name:<28} {:>9.1} {:>9.0}", time * 1e6, operations / time / 1e9);
    }
    println!("{:<28} {:>9} {:>9}", "product", "ours us", "GFLOP/s");
    for (rows, inner, outer) in PRODUCTS {
        let time = product(rows, inner, outer);
        let operations = 2.0 * (rows * inner * outer) as f64;
        println!("{:<28} {:>9.2} {:>9.0}", format!("{rows} x {inner} x {outer}"), time * 1e6, operations / time / 1e9);
    }
}

/// Seconds per run, of each; taken in turns.
fn seconds<const N: usize>(mut work: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut series = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (run, series) in work.iter_mut().zip(&mut series) {
            run();
            let (start, mut runs) = (on_processor(), 0_u32);
            let mut took = Duration::ZERO;
            while took < ROUND {
                (0..=runs / 4).for_each(|_| run());
                runs += runs / 4 + 1;
                took = on_processor() - start;
            }
            series.push(took.as_secs_f64() / f64::from(runs));
        }
    }
    series.map(|mut series| {
        series.sort_by(f64::total_cmp);
        series[series.len() / 2]
    })
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|at| (at * 7919 % 1013) as f32 / 1013.0 - 0.5).collect()
}

fn axis(input: usize, kernel: usize, stride: usize) -> WindowAxis {
    WindowAxis { input, kernel, stride, dilation: 1, pad_before: kernel / 2, pad_after: kernel / 2 }
}

fn depthwise((channels, size, taps, stride): (usize, usize, usize, usize)) -> [f64; 2] {
    let (image, weights, bias) = (numbers(channels * size * size), numbers(channels * taps * taps), numbers(channels));
    let axis = axis(size, taps, stride);
    let mut graph = TypedModel::default();
    let source = graph.add_source("x", f32::fact([1, channels, size, size])).unwrap();
    let kernel = Tensor::from_shape(&[channels, 1, taps, taps], &weights).unwrap();
    let kernel = graph.add_const("w", kernel).unwrap();
    let offset = graph.add_const("b", Tensor::from_shape(&[channels], &bias).unwrap()).unwrap();
    let pad = tvec![taps / 2, taps / 2];
    let pool_spec = PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: tvec![taps, taps],
        padding: PaddingSpec::Explicit(pad.clone(), pad),
        dilations: None,
        strides: Some(tvec![stride, stride]),
        input_channels: channels,
        output_channels: channels,
    };
    let conv = cnn::Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: channels, q_params: None };
    let outlets = graph.wire_node("conv", conv, &[source, kernel, offset]).unwrap();
    graph.select_output_outlets(&outlets).unwrap();
    let plan = graph.into_decluttered().unwrap().into_optimized().unwrap().into_runnable().unwrap();
    let mut state = plan.spawn().unwrap();
    let tensor = Tensor::from_shape(&[1, channels, size, size], &image).unwrap().into_tvalue();
    let ours = Depthwise::new([axis, axis], &weights, &bias);
    let mut theirs = || {
        black_box(state.run(tvec![tensor.clone()]).unwrap());
    };
    // The output is made for each run, as an operator does.
    let mut ours = || {
        let mut out = vec![0.0; channels * axis.output() * axis.output()];
        ours.run(&image, &mut out, Activation::Linear);
        black_box(out);
    };
    seconds([&mut theirs, &mut ours])
}

fn convolution((from, to, size, taps, stride): (usize, usize, usize, usize, usize)) -> (f64, f64) {
    let axis = axis(size, taps, stride);
    let window = Window::new(axis, axis);
    let weights = numbers(to * from * taps * taps);
    let image = numbers(from * size * size);
    let operations = 2.0 * (window.output_len() * weights.len()) as f64;
    let mut out = vec![0.0; to * window.output_len()];
    let conv = Conv::new(window, Arc::new(ConvWeights::new(&weights, 1, to)), numbers(to));
    let [time] = seconds([&mut || conv.run(&image, None, &mut out, Activation::RELU)]);
    (time, operations)
}

fn product(rows: usize, inner: usize, outer: usize) -> f64 {
    let dense = Dense::new(Arc::new(DenseWeights::new(&numbers(inner * outer), inner, outer)), &numbers(outer));
    let (left, mut out) = (numbers(rows * inner), vec![0.0; rows * outer]);
    let [time] = seconds([&mut || dense.run(&left, None, &mut out, Activation::RELU)]);
    time
}
