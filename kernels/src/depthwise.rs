//! Convolutions with one filter per channel. As many channels as a vector has lanes are worked off together: their pixels are
//! turned so that the lanes of a pixel are neighbours, every output is then a sum of whole vectors, whatever the stride, and the
//! outputs are turned back. Called by the engine `tract` of the gateway.

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{
    Activation, MAX_LANES, WindowAxis,
    aligned::unaligned,
    lanes, level,
    turn::{load_some, transpose},
    window::copy_short,
    with_scratch,
};

/// Outputs of a row that are summed side by side, at most.
const SIDE: usize = 8;

/// Bytes of turned input that are worked off before the next ones, so that they stay in the second cache.
const BAND_BYTES: usize = 192 << 10;

/// The filters of all channels, with their bias.
#[derive(Debug)]
pub struct Depthwise {
    y: WindowAxis,
    x: WindowAxis,
    /// Rows and columns of the output, which take a division each.
    output: (usize, usize),
    channels: usize,
    lanes: usize,
    /// By block of channels, by tap, by lane.
    weights: Vec<f32>,
    /// By block of channels, by lane.
    bias: Vec<f32>,
}

impl Depthwise {
    /// Filters by channel, row-major; one bias each.
    ///
    /// # Panics
    /// When the numbers of weights and biases do not fit the window.
    pub fn new([y, x]: [WindowAxis; 2], weights: &[f32], bias: &[f32]) -> Self {
        let (channels, taps) = (bias.len(), y.kernel * x.kernel);
        assert_eq!(weights.len(), channels * taps, "each channel has a filter and a bias");
        let lanes = lanes();
        let blocks = channels.div_ceil(lanes);
        let mut turned = vec![0.0; blocks * taps * lanes];
        let mut padded = vec![0.0; blocks * lanes];
        for (channel, filter) in weights.chunks_exact(taps.max(1)).enumerate() {
            for (tap, weight) in filter.iter().enumerate() {
                turned[(channel / lanes * taps + tap) * lanes + channel % lanes] = *weight;
            }
        }
        padded[..channels].copy_from_slice(bias);
        Self { y, x, output: (y.output(), x.output()), channels, lanes, weights: turned, bias: padded }
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.weights[..]) + size_of_val(&self.bias[..])
    }

    /// Convolves one image.
    ///
    /// # Panics
    /// When the image or the output has another size.
    pub fn run(&self, image: &[f32], out: &mut [f32], activation: Activation) {
        let Self { y, x, channels, output, .. } = *self;
        assert_eq!(image.len(), channels * y.input * x.input, "the image has all channels");
        assert_eq!(out.len(), channels * output.0 * output.1, "so has the output");
        if out.is_empty() {
            return;
        }
        let plan = Plan::new(self);
        with_scratch(plan.input_len + plan.output_len + MAX_LANES, |scratch| {
            dispatch!(level(), simd => {
                run(simd, self, (image, &mut *out), (&plan, scratch), activation);
                activation.finish(simd, out);
            });
        });
    }
}

/// How much is worked off at a time.
struct Plan {
    /// Pixels from one row of turned input to the next, padding included.
    pitch: usize,
    /// Rows of outputs whose inputs fit the cache.
    rows: usize,
    input_len: usize,
    output_len: usize,
}

impl Plan {
    fn new(depthwise: &Depthwise) -> Self {
        let Depthwise { y, x, lanes, output, .. } = *depthwise;
        let pitch = (x.pad_before + x.input).max((output.1 - 1) * x.stride + (x.kernel - 1) * x.dilation + 1);
        let reach = (y.kernel - 1) * y.dilation + 1;
        let fitting = (BAND_BYTES / 4 / (pitch * lanes)).saturating_sub(reach) / y.stride + 1;
        let rows = fitting.clamp(1, output.0);
        let input_rows = ((rows - 1) * y.stride + reach).min(y.input);
        Self { pitch, rows, input_len: input_rows * pitch * lanes, output_len: rows * output.1 * lanes }
    }
}

#[inline(always)]
fn run<S: Simd>(
    simd: S,
    depthwise: &Depthwise,
    (image, out): (&[f32], &mut [f32]),
    (plan, scratch): (&Plan, &mut [f32]),
    activation: Activation,
) {
    let Depthwise { y, x, lanes, output: (out_rows, out_columns), .. } = *depthwise;
    if lanes != S::f32s::LEN {
        return;
    }
    // Vectors that do not straddle two lines of the cache load twice as fast.
    let start = unaligned(scratch);
    let (input, output) = scratch[start..].split_at_mut(plan.input_len);
    input.fill(0.0);
    let filters = depthwise.weights.chunks_exact(y.kernel * x.kernel * lanes);
    let inputs = image.chunks(lanes * y.input * x.input);
    let outputs = out.chunks_mut(lanes * out_rows * out_columns);
    for (block, ((image, out), filter)) in inputs.zip(outputs).zip(filters).enumerate() {
        let bias = S::f32s::from_slice(simd, &depthwise.bias[block * lanes..][..lanes]);
        let mut first = 0;
        while first < out_rows {
            let rows = plan.rows.min(out_rows - first);
            let band =
                Band { simd, y, x, out_rows, out_columns, pitch: plan.pitch, filter, bias, activation, first, rows };
            band.run(image, (input, output), out);
            first += rows;
        }
    }
}

/// Some rows of outputs of one block of channels.
struct Band<'a, S: Simd> {
    simd: S,
    y: WindowAxis,
    x: WindowAxis,
    out_rows: usize,
    out_columns: usize,
    /// Pixels from one row of turned input to the next, padding included.
    pitch: usize,
    filter: &'a [f32],
    bias: S::f32s,
    activation: Activation,
    first: usize,
    rows: usize,
}

impl<S: Simd> Band<'_, S> {
    #[inline(always)]
    fn run(&self, image: &[f32], (input, output): (&mut [f32], &mut [f32]), out: &mut [f32]) {
        let Self { y, out_rows, out_columns, .. } = *self;
        let top = (self.first * y.stride).saturating_sub(y.pad_before).min(y.input);
        let end = ((self.first + self.rows - 1) * y.stride + (y.kernel - 1) * y.dilation + 1)
            .saturating_sub(y.pad_before)
            .min(y.input)
            .max(top);
        self.turn_in(image, top..end, input);
        for row in 0..self.rows {
            let target = &mut output[row * out_columns * S::f32s::LEN..(row + 1) * out_columns * S::f32s::LEN];
            match self.x.stride {
                1 => self.row::<1>(row, top, input, target),
                2 => self.row::<2>(row, top, input, target),
                _ => self.row::<0>(row, top, input, target),
            }
        }
        let plane = out_rows * out_columns;
        turn_out(self.simd, output, (out, plane), self.first * out_columns..(self.first + self.rows) * out_columns);
    }

    /// One row of outputs. `STRIDE` is that of the columns, or 0 when it is neither 1 nor 2.
    #[inline(always)]
    fn row<const STRIDE: usize>(&self, row: usize, top: usize, input: &[f32], target: &mut [f32]) {
        let lanes = S::f32s::LEN;
        let mut left = self.out_columns;
        let mut at = 0;
        while left > 0 {
            let side = if STRIDE == 0 { 1 } else { left.min(SIDE) };
            let target = &mut target[at * lanes..(at + side) * lanes];
            match side {
                1 => self.pixels::<STRIDE, 1>((row, at), top, input, target),
                2 => self.pixels::<STRIDE, 2>((row, at), top, input, target),
                3 => self.pixels::<STRIDE, 3>((row, at), top, input, target),
                4 => self.pixels::<STRIDE, 4>((row, at), top, input, target),
                5 => self.pixels::<STRIDE, 5>((row, at), top, input, target),
                6 => self.pixels::<STRIDE, 6>((row, at), top, input, target),
                7 => self.pixels::<STRIDE, 7>((row, at), top, input, target),
                _ => self.pixels::<STRIDE, SIDE>((row, at), top, input, target),
            }
            at += side;
            left -= side;
        }
    }

    #[inline(always)]
    fn pixels<const STRIDE: usize, const N: usize>(
        &self,
        (row, at): (usize, usize),
        top: usize,
        input: &[f32],
        target: &mut [f32],
    ) {
        let lanes = S::f32s::LEN;
        let Self { y, x, .. } = *self;
        let mut sums = [self.bias; N];
        for ky in 0..y.kernel {
            let source = ((self.first + row) * y.stride + ky * y.dilation).wrapping_sub(y.pad_before);
            if source >= y.input {
                continue;
            }
            let start = ((source - top) * self.pitch + at * x.stride) * lanes;
            let filter = &self.filter[ky * x.kernel * lanes..(ky + 1) * x.kernel * lanes];
            for kx in 0..x.kernel {
                let weight = S::f32s::from_slice(self.simd, &filter[kx * lanes..(kx + 1) * lanes]);
                let run = &input[start + kx * x.dilation * lanes..][..((N - 1) * STRIDE + 1) * lanes];
                for n in 0..N {
                    let pixel = S::f32s::from_slice(self.simd, &run[n * STRIDE * lanes..][..lanes]);
                    sums[n] = weight.mul_add(pixel, sums[n]);
                }
            }
        }
        for n in 0..N {
            self.activation.apply(self.simd, sums[n]).store_slice(&mut target[n * lanes..(n + 1) * lanes]);
        }
    }

    /// Turns the pixels of some rows so that the channels of a pixel are neighbours.
    #[inline(always)]
    fn turn_in(&self, image: &[f32], rows: std::ops::Range<usize>, turned: &mut [f32]) {
        let lanes = S::f32s::LEN;
        let (columns, plane) = (self.x.input, self.y.input * self.x.input);
        let run = rows.start * columns..rows.end * columns;
        let channels = image.len() / plane;
        let mut at = run.start;
        while at < run.end {
            // The last pixels are taken together with some that were done before.
            let from = if run.end - at < lanes && run.len() >= lanes { run.end - lanes } else { at };
            let count = (run.end - from).min(lanes);
            let mut block = [S::f32s::splat(self.simd, 0.0); MAX_LANES];
            for channel in 0..channels.min(lanes) {
                block[channel] = load_some(self.simd, &image[channel * plane + from..][..count]);
            }
            transpose(self.simd, &mut block);
            let mut column = from % columns;
            let mut target = ((from / columns - rows.start) * self.pitch + column + self.x.pad_before) * lanes;
            for at in 0..count {
                block[at].store_slice(&mut turned[target..target + lanes]);
                target += lanes;
                column += 1;
                if column == columns {
                    column = 0;
                    target += (self.pitch - columns) * lanes;
                }
            }
            at = from + count;
        }
    }
}

/// Turns pixels back into channels, `plane` apart, as the pixels `run` of each.
#[inline(always)]
fn turn_out<S: Simd>(simd: S, turned: &[f32], (out, plane): (&mut [f32], usize), run: std::ops::Range<usize>) {
    let lanes = S::f32s::LEN;
    let channels = out.len() / plane;
    let mut at = run.start;
    while at < run.end {
        let from = if run.end - at < lanes && run.len() >= lanes { run.end - lanes } else { at };
        let count = (run.end - from).min(lanes);
        let mut block = [S::f32s::splat(simd, 0.0); MAX_LANES];
        let source = &turned[(from - run.start) * lanes..][..count * lanes];
        for at in 0..count {
            block[at] = S::f32s::from_slice(simd, &source[at * lanes..(at + 1) * lanes]);
        }
        transpose(simd, &mut block);
        for channel in 0..channels.min(lanes) {
            let pixels = &mut out[channel * plane + from..][..count];
            if count == lanes {
                block[channel].store_slice(pixels);
            } else {
                copy_short(&block[channel].as_slice()[..count], pixels);
            }
        }
        at = from + count;
    }
}
