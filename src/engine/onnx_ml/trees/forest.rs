//! Decision trees as one flat array of nodes: the structure and how a row finds its leaves. What the leaves add up to is the
//! matter of `scores`.

use tract_onnx::{
    prelude::{TractResult, tract_num_traits::Float},
    tract_hir::internal::ensure,
};

/// Rows that go through one tree before the next tree has its turn: the tree stays in the cache, and so do their features.
const BLOCK_ROWS: usize = 128;

/// The comparison of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
}

/// A branch or a leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node<T> {
    /// Goes to `yes` when the feature passes the test against `value`, or is missing and `missing` says so.
    Branch { test: Test, missing: bool, feature: u32, value: T, yes: u32, no: u32 },
    /// Gives these of the forest's weights.
    Leaf { first: u32, count: u32 },
}

/// What a leaf gives to one class or target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight<T> {
    /// Class or target.
    pub(super) target: u32,
    /// The share.
    pub(super) value: T,
}

/// Trees over rows of features. `structure` makes them and guarantees that every index is inside and no path has an end
/// other than a leaf.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forest<T> {
    pub(super) nodes: Vec<Node<T>>,
    pub(super) roots: Vec<u32>,
    pub(super) weights: Vec<Weight<T>>,
    /// Features that a row must have.
    pub(super) features: usize,
}

impl<T: Float> Forest<T> {
    /// Calls `reached` with the row and the weights of the leaf it ends in, for every row of `rows` and every tree, the trees
    /// in order. `features` is the number of features of a row.
    ///
    /// # Errors
    /// When rows have fewer features than the trees ask for.
    pub(super) fn walk(
        &self,
        rows: &[T],
        features: usize,
        mut reached: impl FnMut(usize, &[Weight<T>]),
    ) -> TractResult<()> {
        ensure!(
            features >= self.features.max(1),
            "expected at least {} features, got {features}",
            self.features.max(1)
        );
        for (block, rows) in rows.chunks(features * BLOCK_ROWS).enumerate() {
            for root in &self.roots {
                for (row, features) in rows.chunks_exact(features).enumerate() {
                    reached(block * BLOCK_ROWS + row, self.leaf(*root, features));
                }
            }
        }
        Ok(())
    }

    fn leaf(&self, root: u32, row: &[T]) -> &[Weight<T>] {
        let mut at = root;
        loop {
            match self.nodes[at as usize] {
                Node::Branch { test, missing, feature, value, yes, no } => {
                    let x = row[feature as usize];
                    at = if test.passes(x, value) || (missing && x.is_nan()) { yes } else { no };
                }
                Node::Leaf { first, count } => return &self.weights[first as usize..(first + count) as usize],
            }
        }
    }

    /// The same trees in another precision.
    pub(super) fn to<U: Float>(&self) -> Forest<U> {
        let cast = |value: T| U::from(value).unwrap_or_else(U::nan);
        let node = |node: &Node<T>| match *node {
            Node::Branch { test, missing, feature, value, yes, no } => {
                Node::Branch { test, missing, feature, value: cast(value), yes, no }
            }
            Node::Leaf { first, count } => Node::Leaf { first, count },
        };
        let weight = |weight: &Weight<T>| Weight { target: weight.target, value: cast(weight.value) };
        Forest {
            nodes: self.nodes.iter().map(node).collect(),
            roots: self.roots.clone(),
            weights: self.weights.iter().map(weight).collect(),
            features: self.features,
        }
    }
}

impl Test {
    fn passes<T: PartialOrd>(self, x: T, value: T) -> bool {
        match self {
            Test::LessOrEqual => x <= value,
            Test::Less => x < value,
            Test::GreaterOrEqual => x >= value,
            Test::Greater => x > value,
            Test::Equal => x == value,
            Test::NotEqual => x != value,
        }
    }
}
