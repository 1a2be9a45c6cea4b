//! How a convolution walks over an image. The image is copied once, with its padding, and split by stride: the elements that
//! the same tap meets for neighbouring outputs become neighbours. A whole plane of outputs is then one run of numbers, and each
//! tap is that run shifted by a constant; only the few columns beyond an output row are computed for nothing. Called by `conv`,
//! `depthwise` and `pool`; whoever stores short rows copies them with what is here.

use std::ops::Range;

use crate::SLACK;

/// One spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Elements of the input.
    pub input: usize,
    /// Taps of the filter.
    pub kernel: usize,
    /// Steps of the input per output.
    pub stride: usize,
    /// Steps of the input per tap.
    pub dilation: usize,
    /// Zeros before the input.
    pub pad_before: usize,
    /// Zeros after it.
    pub pad_after: usize,
}

impl WindowAxis {
    /// An axis each element of which is an output.
    pub fn pointwise(input: usize) -> Self {
        Self { input, kernel: 1, stride: 1, dilation: 1, pad_before: 0, pad_after: 0 }
    }

    /// Elements of the input that the taps of an output meet; taps are next to each other.
    #[inline(always)]
    pub(crate) fn met(&self, output: usize) -> Range<usize> {
        let start = (output * self.stride).saturating_sub(self.pad_before).min(self.input);
        let end = (output * self.stride + self.kernel).saturating_sub(self.pad_before).clamp(start, self.input);
        start..end
    }

    /// Elements of the output; 0 when the filter does not fit.
    pub fn output(&self) -> usize {
        let reach = (self.kernel.max(1) - 1) * self.dilation + 1;
        let padded = self.input + self.pad_before + self.pad_after;
        if padded < reach { 0 } else { (padded - reach) / self.stride + 1 }
    }

    /// Outputs and how far the last tap is from the first, in steps of the stride.
    #[inline]
    fn extent(&self) -> usize {
        self.output() + (self.kernel.max(1) - 1) * self.dilation / self.stride
    }
}

/// Both axes of an image, with what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    y: WindowAxis,
    x: WindowAxis,
    /// Rows and columns of the output, which take a division each.
    output: (usize, usize),
    /// Rows and columns of a split plane.
    extent: (usize, usize),
    /// The remainders by stride that taps have in y, with what that of x leaves of a row.
    phases: Vec<(usize, Inside)>,
    /// Where each tap's run starts in a split plane.
    taps: Vec<usize>,
}

impl Window {
    /// A window over rows and columns.
    pub fn new(y: WindowAxis, x: WindowAxis) -> Self {
        let mut phases = Vec::new();
        let mut taps = Vec::new();
        let (height, width) = (y.extent(), x.extent());
        for ky in 0..y.kernel {
            for kx in 0..x.kernel {
                let (at_y, at_x) = (ky * y.dilation, kx * x.dilation);
                let phase = (at_y % y.stride, at_x % x.stride);
                let index = phases.iter().position(|known| *known == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                taps.push(index * height * width + at_y / y.stride * width + at_x / x.stride);
            }
        }
        let inside = |(phase_y, phase_x)| (phase_y, Inside::new(x, phase_x, width));
        let phases = phases.into_iter().map(inside).collect();
        Self { y, x, output: (y.output(), x.output()), extent: (height, width), phases, taps }
    }

    /// Rows and columns of the output.
    pub fn output(&self) -> (usize, usize) {
        self.output
    }

    /// Elements of one channel of the input.
    pub fn input_len(&self) -> usize {
        self.y.input * self.x.input
    }

    /// Elements of one channel of the output.
    pub fn output_len(&self) -> usize {
        self.output.0 * self.output.1
    }

    /// Floats that are put aside to convolve an image of so many channels.
    pub fn scratch_len(&self, channels: usize) -> usize {
        channels.saturating_mul(self.split_len()).saturating_add(SLACK)
    }

    /// True when the output is a sum over channels of the input as it is.
    pub(crate) fn is_pointwise(&self) -> bool {
        [self.y, self.x].iter().all(|axis| (axis.kernel, axis.stride, axis.pad_before, axis.pad_after) == (1, 1, 0, 0))
    }

    pub(crate) fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// Columns that a split plane has, of which the first ones are outputs.
    #[inline]
    pub(crate) fn pitch(&self) -> usize {
        self.extent.1
    }

    /// Elements of a run of outputs, with the columns between rows.
    #[inline]
    pub(crate) fn run_len(&self) -> usize {
        (self.output.0.max(1) - 1) * self.pitch() + self.output.1
    }

    /// Elements of one channel when it is split.
    pub(crate) fn split_len(&self) -> usize {
        self.phases.len() * self.extent.0 * self.extent.1
    }

    /// Splits one channel.
    #[inline(always)]
    pub(crate) fn split(&self, channel: &[f32], split: &mut [f32]) {
        let pitch = self.pitch();
        let planes = split.chunks_exact_mut((self.extent.0 * pitch).max(1));
        for ((phase_y, inside), plane) in self.phases.iter().zip(planes) {
            for (at, row) in plane.chunks_exact_mut(pitch).enumerate() {
                let y = (at * self.y.stride + phase_y).wrapping_sub(self.y.pad_before);
                if y < self.y.input {
                    let source = &channel[y * self.x.input..][..self.x.input];
                    let (before, row) = row.split_at_mut(inside.first);
                    let (row, after) = row.split_at_mut(inside.count);
                    clear_short(before);
                    pick(&source[inside.from..], self.x.stride, row);
                    clear_short(after);
                } else {
                    row.fill(0.0);
                }
            }
        }
    }
}

/// Which columns of a split row are not padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inside {
    /// The first column that is not padding.
    first: usize,
    /// Where in the input row it comes from.
    from: usize,
    count: usize,
}

impl Inside {
    fn new(x: WindowAxis, phase: usize, pitch: usize) -> Self {
        let WindowAxis { input, stride, pad_before, .. } = x;
        let first = pad_before.saturating_sub(phase).div_ceil(stride).min(pitch);
        let from = (first * stride + phase).saturating_sub(pad_before).min(input);
        let count = (input - from).div_ceil(stride).min(pitch - first);
        Self { first, from, count }
    }
}

/// Every `stride`th element.
#[inline(always)]
fn pick(source: &[f32], stride: usize, picked: &mut [f32]) {
    match stride {
        1 => copy_short(&source[..picked.len()], picked),
        2 => pick_half(source, picked),
        _ => {
            for (element, from) in picked.iter_mut().zip(source.iter().step_by(stride)) {
                *element = *from;
            }
        }
    }
}

/// Every second element, by pieces of constant size as far as possible.
#[inline(always)]
fn pick_half(source: &[f32], picked: &mut [f32]) {
    let (pieces, rest) = picked.as_chunks_mut::<16>();
    let (sources, _) = source.as_chunks::<32>();
    let whole = pieces.len().min(sources.len());
    for (piece, source) in pieces.iter_mut().zip(sources) {
        for (element, pair) in piece.iter_mut().zip(source.as_chunks::<2>().0) {
            *element = pair[0];
        }
    }
    let left = pieces[whole..].as_flattened_mut().iter_mut().chain(rest);
    for (element, from) in left.zip(source[(whole * 32).min(source.len())..].iter().step_by(2)) {
        *element = *from;
    }
}

/// Zeros for padding, which is mostly one or two columns wide.
#[inline(always)]
fn clear_short(target: &mut [f32]) {
    if target.len() > 4 {
        target.fill(0.0);
        return;
    }
    for number in target {
        *number = 0.0;
    }
}

/// Copies rows that are mostly short by pieces of constant size, which take no call.
#[inline(always)]
pub(crate) fn copy_short(source: &[f32], target: &mut [f32]) {
    match source.len() {
        4..8 => copy_ends::<4>(source, target),
        8..16 => copy_ends::<8>(source, target),
        16..=32 => copy_ends::<16>(source, target),
        33..=64 => copy_ends::<32>(source, target),
        0..4 => {
            for (to, from) in target.iter_mut().zip(source) {
                *to = *from;
            }
        }
        _ => target.copy_from_slice(source),
    }
}

/// The first and the last `N`, which may overlap.
#[inline(always)]
fn copy_ends<const N: usize>(source: &[f32], target: &mut [f32]) {
    if let (Some(from), Some(to)) = (source.first_chunk::<N>(), target.first_chunk_mut::<N>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (source.last_chunk::<N>(), target.last_chunk_mut::<N>()) {
        *to = *from;
    }
}
