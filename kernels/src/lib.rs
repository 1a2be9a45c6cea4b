//! Numeric kernels on plain slices: what a graph spends its time in, written so that the widest vectors of the processor at
//! hand are used. They know nothing of graphs: `engine::tract::faster` of the gateway makes operators of them.
//!
//! | file | what it is |
//! |---|---|
//! | `activation.rs` | functions of one number that a kernel applies to its results |
//! | `math.rs` | powers of e, and what is made of them |
//! | `tile.rs` | the piece of a matrix product that stays in registers |
//! | `block.rs` | rows times packed columns, stored with all that follows |
//! | `aligned.rs` | floats that start at a line of the cache |
//! | `turn.rs` | small blocks whose rows become columns |
//! | `dense.rs` | rows times a weight matrix that was packed before |
//! | `batched.rs` | products of matrices of which neither is constant |
//! | `rows.rs` | what is done row by row: softmax, normalization |
//! | `pool.rs` | the largest of a window, sums, factors, every second number |
//! | `window.rs` | how a convolution walks over an image: padding, strides, dilations |
//! | `conv.rs` | convolutions as a matrix product over a padded image that is never unfolded |
//! | `depthwise.rs` | convolutions with one filter per channel |
//!
//! A crate of its own, so that it is optimised wherever it is used, in tests as well. Nothing of its surface is generic or
//! inlined: its code is compiled here and nowhere else.
//!
//! The vector code is compiled several times, for each level of instructions, and chosen when it runs.

#![expect(
    clippy::needless_range_loop,
    reason = "by index, loops are inlined into the vector code whatever the build; iterators are not"
)]

mod activation;
mod aligned;
mod batched;
mod block;
mod conv;
mod dense;
mod depthwise;
mod math;
mod pool;
mod rows;
mod tile;
mod turn;
mod window;

#[cfg(test)]
mod levels;
#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, sync::LazyLock};

use fearless_simd::{Level, Simd, dispatch, prelude::*};

pub use activation::Activation;
pub use batched::{Product, Products, Steps};
pub use conv::{Conv, ConvWeights};
pub use dense::{Dense, DenseWeights};
pub use depthwise::Depthwise;
pub use pool::{MaxPool, Sums, scale_rows, thin_out};
pub use rows::{Added, Norm, softmax};
pub use window::{Window, WindowAxis};

/// Floats that may be read beyond the last one that counts, so that no vector load has to be cut short.
const SLACK: usize = 8 * 64;

/// Floats of the buffer that a thread keeps.
const MAX_KEPT: usize = 4 << 20;

/// The most lanes that a vector has.
const MAX_LANES: usize = 16;

/// What this processor can do; in tests, what is asked for.
fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = levels::asked_for() {
        return level;
    }
    static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);
    *LEVEL
}

/// Floats that a vector of this processor has.
fn lanes() -> usize {
    dispatch!(level(), simd => lanes_of(simd))
}

#[inline(always)]
fn lanes_of<S: Simd>(_: S) -> usize {
    S::f32s::LEN
}

/// True when this processor has vectors of eight floats or more, for which the matrix kernels are made.
pub fn has_wide_vectors() -> bool {
    lanes() >= 8
}

/// Lends a buffer of at least `len` floats of any content, kept by this thread from call to call.
fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out while it is in use: a kernel inside a kernel gets one of its own.
    let mut buffer = SCRATCH.take();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = work(&mut buffer[..len]);
    if buffer.len() <= MAX_KEPT {
        SCRATCH.set(buffer);
    }
    result
}
