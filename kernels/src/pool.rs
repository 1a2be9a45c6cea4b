//! The largest number of each window of an image, and sums of planes. Called by the engine `tract` of the gateway.

use fearless_simd::{Simd, dispatch};

use crate::{WindowAxis, level, rows::total, window::copy_short, with_scratch};

/// A window of which the largest number counts; padding counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows.
    pub y: WindowAxis,
    /// Columns.
    pub x: WindowAxis,
    /// Rows and columns of the output.
    pub output: (usize, usize),
}

impl MaxPool {
    /// Pools planes one after the other.
    ///
    /// # Panics
    /// When the planes do not have the size of the window, or it has dilations.
    pub fn run(&self, planes: &[f32], out: &mut [f32]) {
        let (len, out_len) = (self.y.input * self.x.input, self.output.0 * self.output.1);
        assert!(len > 0 && out_len > 0 && planes.len() / len * out_len == out.len(), "planes in and out agree");
        assert!(self.y.dilation == 1 && self.x.dilation == 1, "taps are next to each other");
        with_scratch(self.x.input, |row| {
            dispatch!(level(), simd => planes_of(simd, self, (planes, out), row));
        });
    }
}

#[inline(always)]
fn planes_of<S: Simd>(_: S, pool: &MaxPool, (planes, out): (&[f32], &mut [f32]), tallest: &mut [f32]) {
    let MaxPool { y, x, output } = *pool;
    let planes = planes.chunks_exact(y.input * x.input);
    for (plane, out) in planes.zip(out.chunks_exact_mut(output.0 * output.1)) {
        for (at, out) in out.chunks_exact_mut(output.1).enumerate() {
            // First down the columns, then along the row that is left.
            let rows = y.met(at);
            if rows.is_empty() {
                out.fill(f32::NEG_INFINITY);
                continue;
            }
            copy_short(&plane[rows.start * x.input..(rows.start + 1) * x.input], tallest);
            for row in rows.start + 1..rows.end {
                let row = &plane[row * x.input..(row + 1) * x.input];
                for column in 0..tallest.len() {
                    tallest[column] = larger(tallest[column], row[column]);
                }
            }
            along(x, tallest, out);
        }
    }
}

#[inline(always)]
fn along(x: WindowAxis, row: &[f32], out: &mut [f32]) {
    if (x.kernel, x.stride, x.pad_before) == (2, 2, 0) && row.len() >= out.len() * 2 {
        let pairs = &row.as_chunks::<2>().0[..out.len()];
        for at in 0..out.len() {
            out[at] = larger(pairs[at][0], pairs[at][1]);
        }
        return;
    }
    for (at, out) in out.iter_mut().enumerate() {
        let mut largest = f32::NEG_INFINITY;
        for column in x.met(at) {
            largest = larger(largest, row[column]);
        }
        *out = largest;
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Sums over the middle of three axes, of which the last one is the fastest, times a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// Numbers of a sum.
    pub len: usize,
    /// Sums that lie next to each other.
    pub inner: usize,
    /// What each sum is multiplied by.
    pub factor: f32,
}

impl Sums {
    /// Overwrites `sums`.
    ///
    /// # Panics
    /// When there are not `len` numbers for each sum.
    pub fn run(&self, numbers: &[f32], sums: &mut [f32]) {
        let Self { len, inner, factor } = *self;
        assert_eq!(numbers.len(), len * sums.len(), "each sum has its numbers");
        if numbers.is_empty() {
            return;
        }
        if inner == 1 {
            dispatch!(level(), simd => rows_of(simd, numbers, (len, factor), sums));
        } else {
            dispatch!(level(), simd => columns_of(simd, self, numbers, sums));
        }
    }
}

#[inline(always)]
fn columns_of<S: Simd>(_: S, sums: &Sums, numbers: &[f32], out: &mut [f32]) {
    let Sums { len, inner, factor } = *sums;
    for (numbers, out) in numbers.chunks_exact(len * inner).zip(out.chunks_exact_mut(inner)) {
        out.copy_from_slice(&numbers[..inner]);
        for row in numbers.chunks_exact(inner).skip(1) {
            for at in 0..inner {
                out[at] += row[at];
            }
        }
        for at in 0..inner {
            out[at] *= factor;
        }
    }
}

#[inline(always)]
fn rows_of<S: Simd>(simd: S, numbers: &[f32], (len, factor): (usize, f32), sums: &mut [f32]) {
    for (numbers, sum) in numbers.chunks_exact(len).zip(sums) {
        *sum = total(
            simd,
            numbers,
            #[inline(always)]
            |x| x,
        ) * factor;
    }
}

/// Multiplies each run of `len` numbers by a factor of its own.
///
/// # Panics
/// When there is not a factor for each run.
pub fn scale_rows(numbers: &mut [f32], len: usize, factors: &[f32]) {
    assert_eq!(numbers.len(), len * factors.len(), "each run has its factor");
    if len > 0 {
        dispatch!(level(), simd => scale(simd, numbers, len, factors));
    }
}

#[inline(always)]
fn scale<S: Simd>(_: S, numbers: &mut [f32], len: usize, factors: &[f32]) {
    for (numbers, factor) in numbers.chunks_exact_mut(len).zip(factors) {
        for at in 0..len {
            numbers[at] *= *factor;
        }
    }
}

/// Takes every `step`th number of the middle of three axes, from the first one on; of `given` numbers as many as `out` has place for.
///
/// # Panics
/// When the sizes do not fit.
pub fn thin_out(numbers: &[f32], (given, inner): (usize, usize), step: usize, out: &mut [f32]) {
    let outer = numbers.len() / (given * inner).max(1);
    let len = out.len() / (outer * inner).max(1);
    assert!(len > 0 && (len - 1) * step < given && outer * len * inner == out.len(), "what is taken is there");
    for (numbers, out) in numbers.chunks_exact(given * inner).zip(out.chunks_exact_mut(len * inner)) {
        for at in 0..len {
            copy_short(&numbers[at * step * inner..][..inner], &mut out[at * inner..(at + 1) * inner]);
        }
    }
}
