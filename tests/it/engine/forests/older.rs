//! Random trees as the attributes of TreeEnsembleRegressor and TreeEnsembleClassifier.

use tract_onnx::pb::AttributeProto;

use super::{
    super::DType,
    grown::{AGGREGATES, MODES, POSTS, Test, Tree, tensor, text, texts},
};
use crate::onnx::{ints, reals};

/// The trees as the lists of the older operators, `prefix` being `target` or `class`. Doubles are in tensors.
pub(super) fn older(trees: &[Tree], dtype: DType, prefix: &str) -> Vec<AttributeProto> {
    let mut flat = Older::default();
    for (tree, root) in trees.iter().enumerate() {
        flat.tree = tree as i64;
        flat.next = 0;
        flat.write(root);
    }
    let list = |name: &str, at: usize| ints(name, &flat.nodes.iter().map(|node| node[at]).collect::<Vec<_>>());
    let given = |name: &str, at: usize| {
        ints(&format!("{prefix}_{name}"), &flat.given.iter().map(|given| given[at]).collect::<Vec<_>>())
    };
    let numbers = |name: &str, values: &[f64]| numbers(name, dtype, values);
    vec![
        list("nodes_treeids", 0),
        list("nodes_nodeids", 1),
        list("nodes_featureids", 2),
        list("nodes_truenodeids", 3),
        list("nodes_falsenodeids", 4),
        list("nodes_missing_value_tracks_true", 5),
        texts("nodes_modes", &flat.modes),
        numbers("nodes_values", &flat.values),
        given("treeids", 0),
        given("nodeids", 1),
        given("ids", 2),
        numbers(&format!("{prefix}_weights"), &flat.weights),
    ]
}

/// A list of floats, or a tensor of doubles.
pub(super) fn numbers(name: &str, dtype: DType, values: &[f64]) -> AttributeProto {
    match dtype {
        DType::Fp64 => tensor(&format!("{name}_as_tensor"), dtype, values),
        _ => reals(name, &values.iter().map(|value| *value as f32).collect::<Vec<_>>()),
    }
}

#[derive(Default)]
struct Older {
    tree: i64,
    next: i64,
    /// Tree, node, feature, children, track of missing values.
    nodes: Vec<[i64; 6]>,
    modes: Vec<String>,
    values: Vec<f64>,
    given: Vec<[i64; 3]>,
    weights: Vec<f64>,
}

impl Older {
    fn write(&mut self, tree: &Tree) -> i64 {
        let (own, at) = (self.next, self.nodes.len());
        self.next += 1;
        match tree {
            Tree::Leaf(given) => {
                self.nodes.push([self.tree, own, 0, 0, 0, 0]);
                self.modes.push("LEAF".to_owned());
                self.values.push(0.0);
                for (target, weight) in given {
                    self.given.push([self.tree, own, *target as i64]);
                    self.weights.push(*weight);
                }
            }
            Tree::Branch(branch) => {
                let Test::Compare(mode, value) = branch.test else { panic!("no sets in this spelling") };
                self.nodes.push([self.tree, own, branch.feature as i64, 0, 0, i64::from(branch.missing)]);
                self.modes.push(MODES[mode].to_owned());
                self.values.push(value);
                let (yes, no) = (self.write(&branch.yes), self.write(&branch.no));
                (self.nodes[at][3], self.nodes[at][4]) = (yes, no);
            }
        }
        own
    }
}

pub(super) fn named(aggregate: usize, post: usize) -> [AttributeProto; 2] {
    [text("aggregate_function", AGGREGATES[aggregate]), text("post_transform", POSTS[post])]
}

pub(super) fn post_named(post: usize) -> AttributeProto {
    text("post_transform", POSTS[post])
}
