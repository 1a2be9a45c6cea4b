//! Convolutions over all channels as one matrix product: weights times the runs that the taps meet (see `window`), which are
//! read where they lie instead of being unfolded. Called by the engine `tract` of the gateway.

use std::sync::Arc;

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{
    Activation, MAX_LANES, Window, lanes, level,
    tile::{Packed, Shifted, multiply},
    window::copy_short,
    with_scratch,
};

/// Output channels that are computed together, by the number of vector registers.
const TALL: usize = 8;
const SHORT: usize = 4;

/// The weights of a convolution, packed by group, by block of output channels, by channel and tap: one number per output
/// channel.
#[derive(Debug)]
pub struct ConvWeights {
    groups: usize,
    /// Output channels of a group.
    outputs: usize,
    /// Input channels of a group, times taps.
    inner: usize,
    blocks: Blocks,
}

#[derive(Debug)]
enum Blocks {
    Tall(Vec<[f32; TALL]>),
    Short(Vec<[f32; SHORT]>),
}

impl ConvWeights {
    /// Packs weights of the order group, output channel of the group, input channel of the group, row, column.
    ///
    /// # Panics
    /// When that many output channels do not share the weights evenly.
    pub fn new(weights: &[f32], groups: usize, outputs: usize) -> Self {
        let inner = weights.len() / (groups * outputs).max(1);
        assert_eq!(weights.len(), groups * outputs * inner, "all filters have one size");
        let blocks = if lanes() >= 16 {
            Blocks::Tall(pack(weights, outputs, inner))
        } else {
            Blocks::Short(pack(weights, outputs, inner))
        };
        Self { groups, outputs, inner, blocks }
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        match &self.blocks {
            Blocks::Tall(blocks) => size_of_val(&blocks[..]),
            Blocks::Short(blocks) => size_of_val(&blocks[..]),
        }
    }
}

/// A convolution with its weights packed.
#[derive(Debug)]
pub struct Conv {
    window: Window,
    weights: Arc<ConvWeights>,
    bias: Vec<f32>,
    /// Where the run of each channel and tap starts.
    starts: Vec<usize>,
}

/// What a run is given.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    image: &'a [f32],
    /// Added before the activation; of the size of the output.
    other: Option<&'a [f32]>,
    activation: Activation,
}

impl Conv {
    /// One bias per output channel of all groups.
    ///
    /// # Panics
    /// When the numbers of weights and biases do not fit.
    pub fn new(window: Window, weights: Arc<ConvWeights>, bias: Vec<f32>) -> Self {
        assert_eq!(bias.len(), weights.groups * weights.outputs, "each output channel has a bias");
        let taps = window.taps();
        let inputs = weights.inner / taps.len().max(1);
        assert_eq!(weights.inner, inputs * taps.len(), "filters have the taps of the window");
        let len = channel_len(&window);
        let starts = (0..inputs).flat_map(|channel| taps.iter().map(move |tap| channel * len + tap)).collect();
        Self { window, weights, bias, starts }
    }

    /// The packed weights, which convolutions may share.
    pub fn weights(&self) -> &Arc<ConvWeights> {
        &self.weights
    }

    /// Input channels of all groups.
    fn channels(&self) -> usize {
        self.weights.groups * self.weights.inner / self.window.taps().len().max(1)
    }

    /// Convolves one image; `other`, if any, has the size of the output and is added before the activation.
    ///
    /// # Panics
    /// When something has another size.
    pub fn run(&self, image: &[f32], other: Option<&[f32]>, out: &mut [f32], activation: Activation) {
        assert_eq!(image.len(), self.channels() * self.window.input_len(), "the image has all channels");
        assert_eq!(out.len(), self.bias.len() * self.window.output_len(), "so has the output");
        assert!(other.is_none_or(|other| other.len() == out.len()), "what is added has the size of the output");
        if out.is_empty() {
            return;
        }
        let job = Job { image, other, activation };
        if is_in_place(&self.window) {
            dispatch!(level(), simd => run(simd, self, job, out));
        } else {
            let len = self.window.scratch_len(self.channels());
            with_scratch(len, |scratch| dispatch!(level(), simd => split_and_run(simd, self, job, (scratch, out))));
        }
    }
}

fn pack<const MR: usize>(weights: &[f32], outputs: usize, inner: usize) -> Vec<[f32; MR]> {
    let groups = weights.chunks_exact((outputs * inner).max(1));
    let mut packed = Vec::with_capacity(groups.len() * outputs.div_ceil(MR) * inner);
    let none = vec![0.0; inner];
    for group in groups {
        for block in group.chunks(MR * inner) {
            // Filters that the last block lacks are zeros.
            let mut filters = [&none[..]; MR];
            filters.iter_mut().zip(block.chunks_exact(inner)).for_each(|(filter, given)| *filter = given);
            packed.extend((0..inner).map(|k| filters.map(|filter| filter[k])));
        }
    }
    packed
}

#[inline(always)]
fn split_and_run<S: Simd>(simd: S, conv: &Conv, job: Job<'_>, (scratch, out): (&mut [f32], &mut [f32])) {
    let len = conv.window.split_len();
    let channels = job.image.chunks_exact(conv.window.input_len());
    for (channel, split) in channels.zip(scratch.chunks_exact_mut(len)) {
        conv.window.split(channel, split);
    }
    run(simd, conv, Job { image: scratch, ..job }, out);
}

#[inline(always)]
fn run<S: Simd>(simd: S, conv: &Conv, job: Job<'_>, out: &mut [f32]) {
    match &conv.weights.blocks {
        Blocks::Tall(blocks) => groups::<S, TALL>(simd, conv, job, (blocks, &mut *out)),
        Blocks::Short(blocks) => groups::<S, SHORT>(simd, conv, job, (blocks, &mut *out)),
    }
    job.activation.finish(simd, out);
}

#[inline(always)]
fn groups<S: Simd, const MR: usize>(simd: S, conv: &Conv, job: Job<'_>, (weights, out): (&[[f32; MR]], &mut [f32])) {
    let plane = conv.window.output_len();
    let outputs = conv.weights.outputs;
    let per_group = outputs.div_ceil(MR) * conv.starts.len();
    let image_len = conv.channels() / conv.weights.groups * channel_len(&conv.window);
    let pieces = weights.chunks_exact(per_group.max(1)).zip(out.chunks_exact_mut(outputs * plane));
    for (g, (weights, out)) in pieces.enumerate() {
        let first = g * outputs;
        let mut group = Group::<S, MR> {
            simd,
            conv,
            weights,
            bias: &conv.bias[first..first + outputs],
            image: &job.image[g * image_len..],
            other: job.other.map(|other| &other[first * plane..(first + outputs) * plane]),
            out,
            activation: job.activation,
        };
        group.columns();
    }
}

/// True when the image is read as it is given.
fn is_in_place(window: &Window) -> bool {
    window.is_pointwise() && window.input_len() >= 16
}

/// Elements from one channel to the next in what is read.
fn channel_len(window: &Window) -> usize {
    if is_in_place(window) { window.input_len() } else { window.split_len() }
}

struct Group<'a, S, const MR: usize> {
    simd: S,
    conv: &'a Conv,
    weights: &'a [[f32; MR]],
    bias: &'a [f32],
    image: &'a [f32],
    other: Option<&'a [f32]>,
    out: &'a mut [f32],
    activation: Activation,
}

impl<S: Simd, const MR: usize> Group<'_, S, MR> {
    #[inline(always)]
    fn columns(&mut self) {
        let lanes = S::f32s::LEN;
        let len = self.conv.window.run_len();
        // Where the image is read as it is, nothing lies behind its end: the last tile is moved back instead.
        let in_place = is_in_place(&self.conv.window);
        let mut at = 0;
        while at < len {
            let most = if in_place { (len / lanes).min(3) } else { 3 };
            let vectors = (len - at).div_ceil(lanes).min(most.max(1));
            let start = if in_place { at.min(len.saturating_sub(vectors * lanes)) } else { at };
            match vectors {
                3 => self.rows::<3>(start),
                2 => self.rows::<2>(start),
                _ => self.rows::<1>(start),
            }
            at += vectors * lanes;
        }
    }

    /// All output channels of `NV` vectors of columns.
    #[inline(always)]
    fn rows<const NV: usize>(&mut self, at: usize) {
        let right = Shifted { data: &self.image[at..], starts: &self.conv.starts };
        let inner = self.conv.starts.len();
        let end = at + NV * S::f32s::LEN;
        let (rows, columns) = self.conv.window.output();
        let is_dense = self.conv.window.pitch() == columns && end <= rows * columns;
        let pieces = if is_dense { Pieces::NONE } else { Pieces::new(&self.conv.window, at, end) };
        let whole = if is_dense { Some(at) } else { pieces.whole(end - at) };
        for (block, weights) in self.weights.chunks_exact(inner.max(1)).enumerate() {
            let first = block * MR;
            let count = (self.bias.len() - first).min(MR);
            let mut sums = [[S::f32s::splat(self.simd, 0.0); NV]; MR];
            for r in 0..count {
                sums[r] = [S::f32s::splat(self.simd, self.bias[first + r]); NV];
            }
            multiply(self.simd, Packed(weights), right, &mut sums);
            for r in 0..count {
                if let Some(at) = whole {
                    self.store_whole(first + r, at, &sums[r]);
                } else {
                    self.store_pieces(first + r, &pieces, &sums[r]);
                }
            }
        }
    }

    /// Stores a run all of which is outputs.
    #[inline(always)]
    fn store_whole<const NV: usize>(&mut self, channel: usize, at: usize, sums: &[S::f32s; NV]) {
        let lanes = S::f32s::LEN;
        let place = channel * self.conv.window.output_len() + at;
        let out = &mut self.out[place..place + NV * lanes];
        let other = self.other.map(|other| &other[place..place + NV * lanes]);
        for v in 0..NV {
            let place = v * lanes..(v + 1) * lanes;
            let vector = match other {
                Some(other) => sums[v] + S::f32s::from_slice(self.simd, &other[place.clone()]),
                None => sums[v],
            };
            self.activation.apply(self.simd, vector).store_slice(&mut out[place]);
        }
    }

    /// Stores what counts of a run: the columns that are outputs.
    #[inline(always)]
    fn store_pieces<const NV: usize>(&mut self, channel: usize, pieces: &Pieces, sums: &[S::f32s; NV]) {
        let lanes = S::f32s::LEN;
        let plane = self.conv.window.output_len();
        let own = channel * plane..(channel + 1) * plane;
        let out = &mut self.out[own.clone()];
        let mut buffer = [0.0; MAX_RUN];
        if let Some(other) = self.other.map(|other| &other[own]) {
            for piece in pieces.all() {
                copy_short(&other[piece.plane..][..piece.len], &mut buffer[piece.tile..][..piece.len]);
            }
        }
        for v in 0..NV {
            let place = &mut buffer[v * lanes..(v + 1) * lanes];
            let vector = match self.other {
                Some(_) => sums[v] + S::f32s::from_slice(self.simd, place),
                None => sums[v],
            };
            self.activation.apply(self.simd, vector).store_slice(place);
        }
        for piece in pieces.all() {
            copy_short(&buffer[piece.tile..][..piece.len], &mut out[piece.plane..][..piece.len]);
        }
    }
}

/// Numbers of a run, at most: three vectors.
const MAX_RUN: usize = 3 * MAX_LANES;

/// One of the pieces of a run that are outputs: where it is in the run and in the plane of the output.
#[derive(Clone, Copy)]
struct Piece {
    tile: usize,
    plane: usize,
    len: usize,
}

/// All of them.
struct Pieces {
    pieces: [Piece; MAX_RUN],
    count: usize,
}

impl Pieces {
    const NONE: Self = Self { pieces: [Piece { tile: 0, plane: 0, len: 0 }; MAX_RUN], count: 0 };

    /// Those between two places of a plane whose rows have gaps.
    #[inline(always)]
    fn new(window: &Window, start: usize, end: usize) -> Self {
        let ((rows, columns), pitch) = (window.output(), window.pitch());
        let mut found = Self::NONE;
        for y in start / pitch..rows {
            let row = y * pitch;
            let (from, to) = (row.max(start), (row + columns).min(end));
            if row >= end {
                break;
            }
            if from < to {
                found.pieces[found.count] =
                    Piece { tile: from - start, plane: y * columns + from - row, len: to - from };
                found.count += 1;
            }
        }
        found
    }

    /// Where a run of `len` starts in the plane if it is one piece.
    #[inline(always)]
    fn whole(&self, len: usize) -> Option<usize> {
        let first = self.pieces[0];
        (self.count == 1 && first.len == len).then_some(first.plane)
    }

    #[inline(always)]
    fn all(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }
}
