//! What leaves give, in the form that is quickest to add up. Three forms: one weight a leaf, which is in the leaf itself; a
//! weight for every class, side by side; and lists of anything.

use super::{
    forest::{Forest, Node, Weight},
    keys::{Key, Number},
};

/// The weights of a forest's leaves.
#[derive(Clone, Debug)]
pub(super) enum Leaves<T: Number> {
    /// One weight a leaf, for the same class or target in all of a tree.
    Single {
        /// By node: the weight, in bits.
        weights: Vec<T::Key>,
        /// By tree.
        targets: Vec<u32>,
        /// By class or target: whether any tree gives it something.
        given: Vec<bool>,
    },
    /// Every leaf gives something to every class or target.
    Dense {
        /// By node: the number of the leaf.
        numbers: Vec<u32>,
        /// By leaf and class.
        weights: Vec<T>,
    },
    /// Anything.
    Lists {
        /// By node: the number of the leaf.
        numbers: Vec<u32>,
        /// By leaf: first weight and how many.
        spans: Vec<(u32, u32)>,
        weights: Vec<Weight<T>>,
    },
}

/// A number in the precision of rows.
pub(super) fn number<T: Number>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

impl<T: Number> Leaves<T> {
    /// Any form that fits. `width` = classes or targets.
    pub(super) fn quickest(forest: &Forest, width: usize) -> Self {
        Self::single(forest, width).or_else(|| Self::dense(forest, width)).unwrap_or_else(|| Self::lists(forest))
    }

    /// The form that leaves nothing out, not even which weights were given by whom.
    pub(super) fn lists(forest: &Forest) -> Self {
        let weights = forest.weights.iter().map(|weight| Weight { target: weight.target, value: number(weight.value) });
        let leaves = forest.nodes.iter().filter_map(|node| match *node {
            Node::Leaf { first, count } => Some((first, count)),
            Node::Branch { .. } => None,
        });
        Self::Lists { numbers: numbers(forest), spans: leaves.collect(), weights: weights.collect() }
    }

    fn single(forest: &Forest, width: usize) -> Option<Self> {
        let targets = targets(forest)?;
        let mut given = vec![false; width];
        targets.iter().for_each(|target| given[*target as usize] = true);
        let weight = |node: &Node| match *node {
            Node::Leaf { first, count } => {
                forest.given(first, count).first().map_or(T::Key::LEAST, |weight| number::<T>(weight.value).key_bits())
            }
            Node::Branch { .. } => T::Key::LEAST,
        };
        Some(Self::Single { weights: forest.nodes.iter().map(weight).collect(), targets, given })
    }

    fn dense(forest: &Forest, width: usize) -> Option<Self> {
        let mut weights = Vec::with_capacity(forest.weights.len());
        for node in &forest.nodes {
            let Node::Leaf { first, count } = *node else { continue };
            let given = forest.given(first, count);
            let in_order = given.iter().enumerate().all(|(at, weight)| weight.target as usize == at);
            if given.len() != width || !in_order {
                return None;
            }
            weights.extend(given.iter().map(|weight| number::<T>(weight.value)));
        }
        Some(Self::Dense { numbers: numbers(forest), weights })
    }

    /// What the record of a leaf holds.
    pub(super) fn gives(&self, node: u32) -> T::Key {
        match self {
            Self::Single { weights, .. } => weights[node as usize],
            Self::Dense { numbers, .. } | Self::Lists { numbers, .. } => T::Key::index(numbers[node as usize]),
        }
    }

    /// Forgets what only [`Leaves::gives`] needs.
    pub(super) fn packed(self) -> Self {
        match self {
            Self::Single { targets, given, .. } => Self::Single { weights: Vec::new(), targets, given },
            Self::Dense { weights, .. } => Self::Dense { numbers: Vec::new(), weights },
            Self::Lists { spans, weights, .. } => Self::Lists { numbers: Vec::new(), spans, weights },
        }
    }
}

/// Numbers for leaves, by node.
fn numbers(forest: &Forest) -> Vec<u32> {
    let mut next = 0;
    let number = |node: &Node| {
        let own = next;
        next += u32::from(matches!(node, Node::Leaf { .. }));
        own
    };
    forest.nodes.iter().map(number).collect()
}

/// The class or target of each tree, when every leaf gives one weight and all leaves of a tree give to the same.
fn targets(forest: &Forest) -> Option<Vec<u32>> {
    let mut seen_by = vec![u32::MAX; forest.nodes.len()];
    // Trees may share branches; those that do so all the time are not worth the effort.
    let mut left = 2 * forest.nodes.len();
    let mut targets = Vec::with_capacity(forest.roots.len());
    for (tree, root) in forest.roots.iter().enumerate() {
        let (mut stack, mut found) = (vec![*root], None);
        while let Some(at) = stack.pop() {
            if std::mem::replace(&mut seen_by[at as usize], tree as u32) == tree as u32 {
                continue;
            }
            left = left.checked_sub(1)?;
            match forest.nodes[at as usize] {
                Node::Branch { yes, no, .. } => stack.extend([yes, no]),
                Node::Leaf { first, count } => {
                    let [weight] = forest.given(first, count) else { return None };
                    if *found.get_or_insert(weight.target) != weight.target {
                        return None;
                    }
                }
            }
        }
        targets.push(found?);
    }
    Some(targets)
}
