//! The flat walk against trees that are followed by hand, and files that are not trees.

use proptest::{collection::vec, prelude::*};
use tract_onnx::pb::{AttributeProto, ModelProto, attribute_proto::AttributeType};

use super::*;
use forest::Test as Compare;

/// A tree as a person would write it down.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(Vec<(usize, f32)>),
    Branch { mode: usize, missing: bool, feature: usize, value: f32, yes: Box<Tree>, no: Box<Tree> },
}

const FEATURES: usize = 3;
const TARGETS: usize = 3;
const MODES: [(&str, Compare); 6] = [
    ("BRANCH_LEQ", Compare::LessOrEqual),
    ("BRANCH_LT", Compare::Less),
    ("BRANCH_GTE", Compare::GreaterOrEqual),
    ("BRANCH_GT", Compare::Greater),
    ("BRANCH_EQ", Compare::Equal),
    ("BRANCH_NEQ", Compare::NotEqual),
];

impl Tree {
    fn follow(&self, row: &[f32]) -> &[(usize, f32)] {
        match self {
            Tree::Leaf(weights) => weights,
            Tree::Branch { mode, missing, feature, value, yes, no } => {
                let x = row[*feature];
                let passes = match MODES[*mode].0 {
                    "BRANCH_LEQ" => x <= *value,
                    "BRANCH_LT" => x < *value,
                    "BRANCH_GTE" => x >= *value,
                    "BRANCH_GT" => x > *value,
                    "BRANCH_EQ" => x == *value,
                    _ => x != *value,
                };
                if passes || (*missing && x.is_nan()) { yes.follow(row) } else { no.follow(row) }
            }
        }
    }
}

/// Values that meet each other often.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![(-2..=2_i8).prop_map(f32::from), -2.0_f32..2.0]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = vec((0..TARGETS, value()), 0..3).prop_map(|mut weights| {
        weights.sort_by_key(|weight| weight.0);
        weights.dedup_by_key(|weight| weight.0);
        Tree::Leaf(weights)
    });
    leaf.prop_recursive(4, 24, 2, |inner| {
        (0..MODES.len(), any::<bool>(), 0..FEATURES, value(), inner.clone(), inner).prop_map(
            |(mode, missing, feature, value, yes, no)| Tree::Branch {
                mode,
                missing,
                feature,
                value,
                yes: Box::new(yes),
                no: Box::new(no),
            },
        )
    })
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..Default::default() }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Floats as i32, floats, ..Default::default() }
}

/// The attributes of a regressor.
#[derive(Clone, Default)]
struct File {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    modes: Vec<&'static str>,
    features: Vec<i64>,
    values: Vec<f32>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
    /// Tree, node, target, weight.
    weights: Vec<(i64, i64, i64, f32)>,
}

impl File {
    fn of(trees: &[Tree]) -> Self {
        let mut file = Self::default();
        for (number, tree) in trees.iter().enumerate() {
            let mut next = 0;
            file.add(number as i64, tree, &mut next);
        }
        file
    }

    fn add(&mut self, number: i64, tree: &Tree, next: &mut i64) -> i64 {
        let (id, at) = (*next, self.nodes.len());
        *next += 1;
        self.trees.push(number);
        self.nodes.push(id);
        let (mode, feature, value, missing) = match tree {
            Tree::Leaf(_) => ("LEAF", 0, 0.0, false),
            Tree::Branch { mode, missing, feature, value, .. } => (MODES[*mode].0, *feature, *value, *missing),
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

    fn forest(&self) -> Result<Forest<f64>, String> {
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
        structure::forest(&context, &proto, gives, TARGETS).map_err(|error| format!("{error:#}"))
    }
}

proptest! {
    /// Every row of every batch gets what following the trees by hand gives, in both precisions; rows do not see each other.
    #[test]
    fn walks_like_a_person(
        trees in vec(tree(), 1..5),
        mut rows in vec(vec(prop_oneof![9 => value(), 1 => Just(f32::NAN)], FEATURES), 1..5),
        copies in 1..100_usize,
    ) {
        let forest = File::of(&trees).forest().unwrap();
        rows = rows.iter().cycle().take(rows.len() * copies).cloned().collect();
        let flat = rows.concat();
        let wide: Vec<f64> = flat.iter().copied().map(f64::from).collect();
        let single = scores::sum(&forest.to::<f32>(), &flat, FEATURES, TARGETS).unwrap();
        let double = scores::sum(&forest, &wide, FEATURES, TARGETS).unwrap();
        prop_assert_eq!(single.rows().count(), rows.len());
        for ((row, single), double) in rows.iter().zip(single.rows()).zip(double.rows()) {
            let mut want = [0_f32; TARGETS];
            let mut given = [false; TARGETS];
            for tree in &trees {
                for (target, weight) in tree.follow(row) {
                    want[*target] += weight;
                    given[*target] = true;
                }
            }
            prop_assert_eq!(single.parts(), (&want[..], &given[..]));
            for (double, want) in double.parts().0.iter().zip(want) {
                prop_assert!((*double as f32 - want).abs() < 1e-4);
            }
        }
    }
}

fn stump() -> File {
    let leaf = |weight| Box::new(Tree::Leaf(vec![(0, weight)]));
    let (yes, no) = (leaf(1.0), leaf(2.0));
    File::of(&[Tree::Branch { mode: 0, missing: false, feature: 2, value: 0.5, yes, no }])
}

#[test]
fn files_that_are_not_trees_are_refused() {
    let refused = |change: fn(&mut File), text: &str| {
        let mut file = stump();
        change(&mut file);
        assert_eq!(file.forest().unwrap_err(), text);
    };
    assert!(stump().forest().is_ok());
    refused(|file| file.yes[0] = 9, "tree 0: node 0: there is no node 9");
    refused(|file| file.no[0] = 0, "tree 0: node 0 leads back to itself");
    refused(|file| file.nodes[2] = 1, "tree 0: node 1 is given twice");
    refused(|file| file.modes[1] = "BRANCH", "attribute 'nodes_modes': there is no mode 'BRANCH'");
    refused(|file| file.values.truncate(2), "attribute 'nodes_values': expected 3 values, got 2");
    refused(|file| file.modes.truncate(2), "attribute 'nodes_modes': expected 3 values, got 2");
    refused(|file| file.weights[0].2 = 3, "attribute 'target_ids': expected less than 3, got 3");
    refused(|file| file.weights[0].2 = -1, "attribute 'target_ids': expected less than 3, got -1");
    refused(|file| *file = File::default(), "attribute 'nodes_treeids': expected at least one node, got none");
    let mut negative = stump();
    negative.features[0] = -1;
    assert!(negative.forest().is_err());
}

#[test]
fn circles_are_refused_and_shared_branches_are_not() {
    let branch = |yes, no| Tree::Branch { mode: 0, missing: false, feature: 0, value: 0.0, yes, no };
    let leaf = || Box::new(Tree::Leaf(vec![(0, 1.0)]));
    let mut file = File::of(&[branch(Box::new(branch(leaf(), leaf())), leaf())]);
    // Nodes: 0 branch, 1 branch, 2 and 3 its leaves, 4 leaf.
    file.yes[1] = 4;
    assert!(file.forest().is_ok());
    file.yes[1] = 0;
    assert_eq!(file.forest().unwrap_err(), "tree 0: node 0 leads back to itself");
}

#[test]
fn rows_must_have_the_features() {
    let forest = stump().forest().unwrap();
    let text = scores::sum(&forest, &[0.0, 0.0], 2, TARGETS).err().unwrap().to_string();
    assert_eq!(text, "expected at least 3 features, got 2");
    assert_eq!(scores::sum(&forest, &[], 3, TARGETS).unwrap().rows().count(), 0);
    assert!(scores::sum(&forest, &[], 0, TARGETS).is_err());
}
