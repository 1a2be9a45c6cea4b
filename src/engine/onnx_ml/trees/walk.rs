//! How rows find their leaves. A step has no branch: compare, add, go there. Steps depend on each other, so sixteen paths are
//! walked at once, one step each in turn: sixteen rows through a tree, or, when there are fewer rows, one row through sixteen
//! trees. Rows are taken a block at a time, and of each block every group of rows goes through as many trees as the nearest
//! cache holds before the next group does.

use std::ops::Range;

use tract_onnx::{prelude::TractResult, tract_hir::internal::ensure};

use super::{
    keys::{Key, Number},
    packed::{NARROW_COLUMNS, Packed, Record, Records, Tree},
};

/// Rows whose columns are kept at a time.
const BLOCK_ROWS: usize = 64;
/// Paths that are walked at once.
const PATHS: usize = 16;
/// Steps before the first look whether all paths have ended, and steps between one look and the next.
const SURE_STEPS: u32 = 8;
const STEPS: u32 = 4;

impl<T: Number> Packed<T> {
    /// Calls `reached` with row, tree and what the leaf gives, for every row of `rows` and every tree; for one row the trees
    /// come in order. `features` is the number of features of a row.
    ///
    /// # Errors
    /// When rows have fewer features than the trees ask for.
    pub(super) fn walk(
        &self,
        rows: &[T],
        features: usize,
        mut reached: impl FnMut(usize, usize, T::Key),
    ) -> TractResult<()> {
        let least = self.columns.features.max(1);
        ensure!(features >= least, "expected at least {least} features, got {features}");
        let count = rows.len() / features;
        match &self.records {
            Records::Narrow(records) if count == 1 => {
                let mut grid = Narrow([[T::Key::LEAST; NARROW_COLUMNS]]);
                self.columns.fill(rows, &mut grid.0[0]);
                self.block(&Block { records, grid: &grid }, 1, reached);
            }
            Records::Narrow(records) => {
                let mut grid = Narrow(vec![[T::Key::LEAST; NARROW_COLUMNS]; count.min(BLOCK_ROWS)]);
                for (block, rows) in rows.chunks(features * BLOCK_ROWS).enumerate() {
                    let rows = rows.chunks_exact(features);
                    let count = rows.len();
                    rows.zip(&mut grid.0).for_each(|(row, columns)| self.columns.fill(row, columns));
                    self.block(&Block { records, grid: &grid }, count, |row, tree, gives| {
                        reached(block * BLOCK_ROWS + row, tree, gives);
                    });
                }
            }
            Records::Wide(records) => {
                let width = self.columns.count();
                let mut grid = Wide { columns: vec![T::Key::LEAST; width * count.min(BLOCK_ROWS)], width };
                for (block, rows) in rows.chunks(features * BLOCK_ROWS).enumerate() {
                    let rows = rows.chunks_exact(features);
                    let count = rows.len();
                    let all = grid.columns.chunks_exact_mut(width);
                    rows.zip(all).for_each(|(row, columns)| self.columns.fill(row, columns));
                    self.block(&Block { records, grid: &grid }, count, |row, tree, gives| {
                        reached(block * BLOCK_ROWS + row, tree, gives);
                    });
                }
            }
        }
        Ok(())
    }

    /// Walks the first `count` rows of a block.
    #[inline]
    fn block<R: Record<T::Key>, G: Grid<T::Key>>(
        &self,
        block: &Block<'_, R, G>,
        count: usize,
        mut reached: impl FnMut(usize, usize, T::Key),
    ) {
        if count < 4 {
            (0..count).for_each(|row| block.alone(row, &self.trees, &mut reached));
            return;
        }
        for run in &self.blocks {
            let trees = &self.trees[run.clone()];
            let mut reached = |row: usize, tree: usize, gives: T::Key| reached(row, run.start + tree, gives);
            let mut left = 0..count;
            block.together::<PATHS, _>(&mut left, trees, &mut reached);
            block.together::<8, _>(&mut left, trees, &mut reached);
            block.together::<4, _>(&mut left, trees, &mut reached);
            left.for_each(|row| block.alone(row, trees, &mut reached));
        }
    }
}

/// Records, and rows to go through them.
struct Block<'a, R, G> {
    records: &'a [R],
    grid: &'a G,
}

impl<R, G> Block<'_, R, G> {
    /// Takes groups of `N` rows off the front of `left`, and each through the trees.
    #[inline]
    fn together<const N: usize, K: Key>(
        &self,
        left: &mut Range<usize>,
        trees: &[Tree],
        reached: &mut impl FnMut(usize, usize, K),
    ) where
        R: Record<K>,
        G: Grid<K>,
    {
        while left.len() >= N {
            let Some(lanes) = self.grid.lanes::<N>(left.start) else { return };
            for (number, tree) in trees.iter().enumerate() {
                let column = |lane, column| lanes.get(lane, column);
                let at = descend(self.records, [tree.root; N], tree.depth, column);
                for (lane, at) in at.into_iter().enumerate() {
                    reached(left.start + lane, number, self.records[at as usize].split());
                }
            }
            left.start += N;
        }
    }

    /// Takes one row through all trees.
    #[inline]
    fn alone<K: Key>(&self, row: usize, trees: &[Tree], reached: &mut impl FnMut(usize, usize, K))
    where
        R: Record<K>,
        G: Grid<K>,
    {
        let Some(lanes) = self.grid.lanes::<1>(row) else { return };
        for (group, trees) in trees.chunks(PATHS).enumerate() {
            let (mut roots, mut depth) = ([trees[0].root; PATHS], 0);
            for (root, tree) in roots.iter_mut().zip(trees) {
                (*root, depth) = (tree.root, depth.max(tree.depth));
            }
            let at = descend(self.records, roots, depth, |_, column| lanes.get(0, column));
            for (number, at) in at.into_iter().enumerate().take(trees.len()) {
                reached(row, group * PATHS + number, self.records[at as usize].split());
            }
        }
    }
}

/// Where paths that begin at these records end, after at most `depth` steps.
#[inline(always)]
fn descend<const N: usize, K: Key, R: Record<K>>(
    records: &[R],
    mut at: [u32; N],
    depth: u32,
    column: impl Fn(usize, usize) -> K,
) -> [u32; N] {
    let step = |lane: usize, at: u32| {
        let record = records[at as usize];
        record.child() + u32::from(column(lane, record.column()) > record.split())
    };
    for _ in 0..depth.min(SURE_STEPS) {
        for (lane, at) in at.iter_mut().enumerate() {
            *at = step(lane, *at);
        }
    }
    let mut left = depth.saturating_sub(SURE_STEPS);
    while left > 0 {
        for _ in 1..left.min(STEPS) {
            for (lane, at) in at.iter_mut().enumerate() {
                *at = step(lane, *at);
            }
        }
        let mut moved = 0;
        for (lane, at) in at.iter_mut().enumerate() {
            let next = step(lane, *at);
            moved |= next ^ *at;
            *at = next;
        }
        left = if moved == 0 { 0 } else { left - left.min(STEPS) };
    }
    at
}

/// The columns of a block of rows.
trait Grid<K> {
    /// Neighbouring rows.
    type Lanes<'a, const N: usize>: Lanes<K>
    where
        Self: 'a;

    /// `N` rows from `first` on; `None` when there are not so many.
    fn lanes<const N: usize>(&self, first: usize) -> Option<Self::Lanes<'_, N>>;
}

/// The columns of some rows.
trait Lanes<K> {
    fn get(&self, lane: usize, column: usize) -> K;
}

/// As many columns as a narrow record can name, so that there is none outside.
struct Narrow<G>(G);

impl<K: Key, G: AsRef<[[K; NARROW_COLUMNS]]>> Grid<K> for Narrow<G> {
    type Lanes<'a, const N: usize>
        = &'a [[K; NARROW_COLUMNS]; N]
    where
        Self: 'a;

    #[inline(always)]
    fn lanes<const N: usize>(&self, first: usize) -> Option<&[[K; NARROW_COLUMNS]; N]> {
        self.0.as_ref().get(first..)?.first_chunk()
    }
}

impl<K: Key, const N: usize> Lanes<K> for &[[K; NARROW_COLUMNS]; N] {
    #[inline(always)]
    fn get(&self, lane: usize, column: usize) -> K {
        self[lane][column % NARROW_COLUMNS]
    }
}

/// Any number of columns.
struct Wide<K> {
    columns: Vec<K>,
    width: usize,
}

impl<K: Key> Grid<K> for Wide<K> {
    type Lanes<'a, const N: usize>
        = Strided<'a, K>
    where
        Self: 'a;

    #[inline(always)]
    fn lanes<const N: usize>(&self, first: usize) -> Option<Strided<'_, K>> {
        let columns = self.columns.get(first * self.width..(first + N) * self.width)?;
        Some(Strided { columns, width: self.width })
    }
}

#[derive(Clone, Copy)]
struct Strided<'a, K> {
    columns: &'a [K],
    width: usize,
}

impl<K: Key> Lanes<K> for Strided<'_, K> {
    #[inline(always)]
    fn get(&self, lane: usize, column: usize) -> K {
        self.columns[lane * self.width + column]
    }
}
