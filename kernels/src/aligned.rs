//! Floats that start at a line of the cache: vectors that straddle two lines take twice as long to load. Used by `dense`,
//! `batched` and `depthwise`.

use crate::MAX_LANES;

/// Floats in front of the first that starts a line, at most [`MAX_LANES`].
#[inline(always)]
pub(crate) fn unaligned(floats: &[f32]) -> usize {
    floats.as_ptr().align_offset(MAX_LANES * 4).min(MAX_LANES)
}

/// A buffer of fixed size.
#[derive(Debug)]
pub(crate) struct Aligned {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let data = vec![0.0; len + MAX_LANES];
        let start = unaligned(&data);
        Self { data, start, len }
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}
