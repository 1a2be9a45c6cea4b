//! What the trees give to each row, put together before anything is made of it: sums in the order of the trees, as ONNX Runtime
//! adds them, and the least and greatest.

use tract_onnx::prelude::TractResult;

use super::{
    keys::{Key as _, Number},
    leaves::Leaves,
    packed::Packed,
};

/// The scores of all rows before they are finished.
pub(super) struct Scores<'a, T> {
    values: Vec<T>,
    given: Given<'a>,
    width: usize,
}

/// Whether any tree gave something.
enum Given<'a> {
    /// By row and class or target.
    Each(Vec<bool>),
    /// By class or target, the same for all rows.
    Alike(&'a [bool]),
    Always,
}

/// One row's.
#[derive(Clone, Copy)]
pub(super) struct Row<'a, T> {
    pub(super) values: &'a [T],
    /// Those not mentioned are.
    given: &'a [bool],
}

impl<T> Row<'_, T> {
    /// Whether any tree gave something to a class or target.
    #[inline]
    pub(super) fn is_given(&self, at: usize) -> bool {
        self.given.get(at).copied().unwrap_or(true)
    }
}

impl<T: Number> Scores<'_, T> {
    /// The rows in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_, T>> {
        let rows = self.values.chunks_exact(self.width).enumerate();
        rows.map(|(row, values)| {
            let given = match &self.given {
                Given::Each(given) => &given[row * self.width..][..self.width],
                Given::Alike(given) => given,
                Given::Always => &[],
            };
            Row { values, given }
        })
    }
}

/// Adds up what the trees give, tree by tree, for rows of so many features and forests of so many classes or targets.
///
/// # Errors
/// When rows have fewer features than the trees ask for.
pub(super) fn sum<'a, T: Number>(
    forest: &'a Packed<T>,
    rows: &[T],
    features: usize,
    width: usize,
) -> TractResult<Scores<'a, T>> {
    let mut values = vec![T::zero(); rows.len().checked_div(features).unwrap_or(0) * width];
    let given = match &forest.leaves {
        Leaves::Single { given, .. } if width == 1 => {
            forest.walk(rows, features, |row, _, weight| add(&mut values[row], T::from_key_bits(weight)))?;
            Given::Alike(given)
        }
        Leaves::Single { targets, given, .. } => {
            forest.walk(rows, features, |row, tree, weight| {
                add(&mut values[row * width + targets[tree] as usize], T::from_key_bits(weight));
            })?;
            Given::Alike(given)
        }
        Leaves::Dense { weights, .. } if width == 2 => {
            let (values, _) = values.as_chunks_mut::<2>();
            let (weights, _) = weights.as_chunks::<2>();
            forest.walk(rows, features, |row, _, leaf| {
                let (sums, weights) = (&mut values[row], &weights[leaf.to_index()]);
                add(&mut sums[0], weights[0]);
                add(&mut sums[1], weights[1]);
            })?;
            Given::Always
        }
        Leaves::Dense { weights, .. } => {
            forest.walk(rows, features, |row, _, leaf| {
                let weights = &weights[leaf.to_index() * width..][..width];
                let sums = &mut values[row * width..][..width];
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| add(sum, *weight));
            })?;
            Given::Always
        }
        Leaves::Lists { .. } => return combine(forest, rows, features, width, |sum, value, _| sum + value),
    };
    Ok(Scores { values, given, width })
}

#[inline(always)]
fn add<T: Number>(sum: &mut T, value: T) {
    *sum = *sum + value;
}

/// Puts together what the trees give by `apply`, which is told what there is, what comes, and whether anything was given
/// before. The forest must have its leaves as lists.
///
/// # Errors
/// As [`sum`].
pub(super) fn combine<'a, T: Number>(
    forest: &'a Packed<T>,
    rows: &[T],
    features: usize,
    width: usize,
    apply: impl Fn(T, T, bool) -> T,
) -> TractResult<Scores<'a, T>> {
    let cells = rows.len().checked_div(features).unwrap_or(0) * width;
    let (mut values, mut given) = (vec![T::zero(); cells], vec![false; cells]);
    let (spans, weights) = match &forest.leaves {
        Leaves::Lists { spans, weights, .. } => (&spans[..], &weights[..]),
        Leaves::Single { .. } | Leaves::Dense { .. } => (&[][..], &[][..]),
    };
    let mut reached = |row: usize, _: usize, leaf: T::Key| {
        let (first, count) = spans.get(leaf.to_index()).copied().unwrap_or_default();
        for weight in &weights[first as usize..(first + count) as usize] {
            let at = row * width + weight.target as usize;
            values[at] = apply(values[at], weight.value, given[at]);
            given[at] = true;
        }
    };
    let reached: &mut dyn FnMut(usize, usize, T::Key) = &mut reached;
    forest.walk(rows, features, reached)?;
    Ok(Scores { values, given: Given::Each(given), width })
}
