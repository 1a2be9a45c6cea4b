//! Products of matrices of which neither is constant, many at a time, as attention and crossed features have them. Operands may
//! lie in any order: the right one is packed for each product, the left one and the result only if their rows are not runs of
//! numbers. Called by the engine `tract` of the gateway.

use fearless_simd::{Simd, dispatch, prelude::*};

use crate::{
    Activation, MAX_LANES,
    aligned::unaligned,
    block::Block,
    lanes, level,
    turn::{load_some, transpose},
    with_scratch,
};

/// From one row to the next, and from one column to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Numbers from a row to the next one.
    pub row: usize,
    /// Numbers from a column to the next one.
    pub column: usize,
}

/// Where the operands and the result of one product start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// The first number of the left operand.
    pub left: usize,
    /// That of the right one.
    pub right: usize,
    /// That of the result.
    pub out: usize,
}

/// Products of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Products {
    /// Rows of the left operand and of the result.
    pub rows: usize,
    /// Columns of the left operand, rows of the right one.
    pub inner: usize,
    /// Columns of the right operand and of the result.
    pub outer: usize,
    /// How the left operand lies.
    pub left: Steps,
    /// How the right operand lies.
    pub right: Steps,
    /// How the result lies.
    pub out: Steps,
    /// What each result is multiplied by.
    pub factor: f32,
    /// Where each product is.
    pub places: Vec<Product>,
}

impl Products {
    /// Floats that are put aside for a run.
    pub fn scratch_len(&self) -> usize {
        self.pieces(lanes()).iter().sum::<usize>() + MAX_LANES
    }

    /// The right operand in panels, the left one and the result where they are copied.
    fn pieces(&self, lanes: usize) -> [usize; 3] {
        let panels = self.outer.div_ceil(lanes) * self.inner * lanes;
        let left = if self.left.column == 1 { 0 } else { self.rows * self.inner };
        let out = if self.out.column == 1 { 0 } else { self.rows * self.outer };
        [panels, left, out]
    }

    /// Multiplies; numbers of `out` that belong to no product stay as they are.
    ///
    /// # Panics
    /// When a product reaches beyond its operands.
    pub fn run(&self, left: &[f32], right: &[f32], out: &mut [f32]) {
        if self.rows * self.inner * self.outer == 0 {
            return;
        }
        with_scratch(self.scratch_len(), |scratch| {
            dispatch!(level(), simd => run(simd, self, (left, right, out), scratch));
        });
    }
}

#[inline(always)]
fn run<S: Simd>(simd: S, products: &Products, (left, right, out): (&[f32], &[f32], &mut [f32]), scratch: &mut [f32]) {
    let Products { rows, inner, outer, .. } = *products;
    let [panels_len, left_len, _] = products.pieces(S::f32s::LEN);
    let start = unaligned(scratch);
    let (panels, rest) = scratch[start..].split_at_mut(panels_len);
    let (left_copy, out_copy) = rest.split_at_mut(left_len);
    for place in &products.places {
        let (left, right) = (&left[place.left..], &right[place.right..]);
        pack(simd, products, right, panels);
        let in_place = products.left.column == 1;
        if !in_place {
            copy(left, products.left, (&mut *left_copy, Steps { row: inner, column: 1 }), (rows, inner));
        }
        let block = Block {
            rows,
            inner,
            outer,
            left: if in_place { left } else { &*left_copy },
            left_step: if in_place { products.left.row } else { inner },
            panels: &*panels,
            bias: &[],
            other: None,
            out_step: products.out.row,
            factor: products.factor,
            activation: Activation::Linear,
        };
        if products.out.column == 1 {
            block.run(simd, &mut out[place.out..]);
        } else {
            Block { out_step: outer, ..block }.run(simd, out_copy);
            copy(out_copy, Steps { row: outer, column: 1 }, (&mut out[place.out..], products.out), (rows, outer));
        }
    }
}

#[inline(always)]
fn copy(from: &[f32], steps: Steps, (to, to_steps): (&mut [f32], Steps), (rows, columns): (usize, usize)) {
    for row in 0..rows {
        for column in 0..columns {
            to[row * to_steps.row + column * to_steps.column] = from[row * steps.row + column * steps.column];
        }
    }
}

/// Packs the right operand in panels one vector wide.
#[inline(always)]
fn pack<S: Simd>(simd: S, products: &Products, right: &[f32], panels: &mut [f32]) {
    let Products { inner, outer, right: steps, .. } = *products;
    let lanes = S::f32s::LEN;
    for (p, panel) in panels.chunks_exact_mut(inner * lanes).enumerate() {
        let columns = lanes.min(outer - p * lanes);
        let right = &right[p * lanes * steps.column..];
        if steps.column == 1 {
            for k in 0..inner {
                load_some(simd, &right[k * steps.row..][..columns]).store_slice(&mut panel[k * lanes..(k + 1) * lanes]);
            }
        } else if steps.row == 1 {
            turn(simd, (right, steps.column), columns, panel);
        } else {
            panel.fill(0.0);
            copy(right, steps, (panel, Steps { row: lanes, column: 1 }), (inner, columns));
        }
    }
}

/// Packs columns that are runs of numbers, `step` apart.
#[inline(always)]
fn turn<S: Simd>(simd: S, (right, step): (&[f32], usize), columns: usize, panel: &mut [f32]) {
    let lanes = S::f32s::LEN;
    let inner = panel.len() / lanes;
    let mut k = 0;
    while k < inner {
        let count = lanes.min(inner - k);
        let mut block = [S::f32s::splat(simd, 0.0); MAX_LANES];
        for column in 0..columns {
            block[column] = load_some(simd, &right[column * step + k..][..count]);
        }
        transpose(simd, &mut block);
        for at in 0..count {
            block[at].store_slice(&mut panel[(k + at) * lanes..(k + at + 1) * lanes]);
        }
        k += count;
    }
}
