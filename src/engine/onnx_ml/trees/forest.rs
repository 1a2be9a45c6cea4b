//! Decision trees as they are read from a file, every index checked. `packed` makes of them what is walked.

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
pub(super) enum Node {
    /// Goes to `yes` when the feature passes the test against `value`, or is missing and `missing` says so.
    Branch { test: Test, missing: bool, feature: u32, value: f64, yes: u32, no: u32 },
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
pub(super) struct Forest {
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<u32>,
    pub(super) weights: Vec<Weight<f64>>,
    /// Features that a row must have.
    pub(super) features: usize,
}

impl Forest {
    /// What a leaf gives.
    pub(super) fn given(&self, first: u32, count: u32) -> &[Weight<f64>] {
        &self.weights[first as usize..(first + count) as usize]
    }
}
