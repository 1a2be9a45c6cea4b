//! Trees as a person would write them, and the file that they make.

use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, ModelProto, NodeProto, attribute_proto::AttributeType},
};

use super::super::{
    forest::Forest,
    structure::{self, Gives},
};

/// A tree as a person would write it down.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Leaf(Vec<(usize, f32)>),
    Branch { mode: usize, missing: bool, feature: usize, value: f32, yes: Box<Tree>, no: Box<Tree> },
}

pub(super) const FEATURES: usize = 3;
pub(super) const TARGETS: usize = 3;
pub(super) const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];

pub(super) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..Default::default() }
}

pub(super) fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Floats as i32, floats, ..Default::default() }
}

/// The attributes of a regressor.
#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) trees: Vec<i64>,
    pub(super) nodes: Vec<i64>,
    pub(super) modes: Vec<&'static str>,
    pub(super) features: Vec<i64>,
    pub(super) values: Vec<f32>,
    pub(super) yes: Vec<i64>,
    pub(super) no: Vec<i64>,
    pub(super) missing: Vec<i64>,
    /// Tree, node, target, weight.
    pub(super) weights: Vec<(i64, i64, i64, f32)>,
}

impl File {
    pub(super) fn of(trees: &[Tree]) -> Self {
        let mut file = Self::default();
        for (number, tree) in trees.iter().enumerate() {
            let mut next = 0;
            file.add(number as i64, tree, &mut next);
        }
        file
    }

    pub(super) fn add(&mut self, number: i64, tree: &Tree, next: &mut i64) -> i64 {
        let (id, at) = (*next, self.nodes.len());
        *next += 1;
        self.trees.push(number);
        self.nodes.push(id);
        let (mode, feature, value, missing) = match tree {
            Tree::Leaf(_) => ("LEAF", 0, 0.0, false),
            Tree::Branch { mode, missing, feature, value, .. } => (MODES[*mode], *feature, *value, *missing),
        };
        self.modes.push(mode);
        self.features.push(feature as i64);
        self.values.push(value);
        self.missing.push(i64::from(missing));
        self.yes.push(0);
        self.no.push(0);
        match tree {
            Tree::Leaf(weights) => {
                self.weights.extend(weights.iter().map(|(target, weight)| (number, id, *target as i64, *weight)));
            }
            Tree::Branch { yes, no, .. } => {
                self.yes[at] = self.add(number, yes, next);
                self.no[at] = self.add(number, no, next);
            }
        }
        id
    }

    /// Whether any node that a root leads to leads back to itself.
    pub(super) fn has_a_circle(&self) -> bool {
        fn leads_back(file: &File, path: &mut Vec<usize>, done: &mut [bool], at: usize) -> bool {
            if path.contains(&at) {
                return true;
            }
            if done[at] || file.modes[at] == "LEAF" {
                return false;
            }
            path.push(at);
            let same =
                |id: i64| (0..file.nodes.len()).find(|to| (file.trees[*to], file.nodes[*to]) == (file.trees[at], id));
            let found =
                [file.yes[at], file.no[at]].into_iter().filter_map(same).any(|to| leads_back(file, path, done, to));
            path.pop();
            done[at] = true;
            found
        }
        let roots = (0..self.nodes.len()).filter(|at| *at == 0 || self.trees[*at] != self.trees[*at - 1]);
        let mut done = vec![false; self.nodes.len()];
        roots.into_iter().any(|root| leads_back(self, &mut Vec::new(), &mut done, root))
    }

    pub(super) fn forest(&self) -> Result<Forest, String> {
        self.forest_of(TARGETS)
    }

    pub(super) fn forest_of(&self, targets: usize) -> Result<Forest, String> {
        let modes = self.modes.iter().map(|mode| mode.as_bytes().to_vec()).collect();
        let strings = AttributeType::Strings as i32;
        let given = |pick: fn(&(i64, i64, i64, f32)) -> i64| self.weights.iter().map(pick).collect();
        let proto = NodeProto {
            attribute: vec![
                ints("nodes_treeids", self.trees.clone()),
                ints("nodes_nodeids", self.nodes.clone()),
                AttributeProto { name: "nodes_modes".into(), r#type: strings, strings: modes, ..Default::default() },
                ints("nodes_featureids", self.features.clone()),
                floats("nodes_values", self.values.clone()),
                ints("nodes_truenodeids", self.yes.clone()),
                ints("nodes_falsenodeids", self.no.clone()),
                ints("nodes_missing_value_tracks_true", self.missing.clone()),
                ints("target_treeids", given(|weight| weight.0)),
                ints("target_nodeids", given(|weight| weight.1)),
                ints("target_ids", given(|weight| weight.2)),
                floats("target_weights", self.weights.iter().map(|weight| weight.3).collect()),
            ],
            ..NodeProto::default()
        };
        let onnx = tract_onnx::onnx();
        let model = ModelProto::default();
        let context = ParsingContext {
            onnx_operator_set_version: 17,
            framework: &onnx,
            model: &model,
            parent_graphs: vec![],
            model_dir: None,
            template: Default::default(),
        };
        let gives =
            Gives { ids: "target_ids", nodes: "target_nodeids", trees: "target_treeids", weights: "target_weights" };
        structure::forest(&context, &proto, gives, targets).map_err(|error| format!("{error:#}"))
    }
}
