//! Random trees, what they answer when somebody follows them from the root, and a file that has them as a TreeEnsemble. The
//! older spellings are in `older`. Used by the tests beside it.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_proto::DataType,
};

use super::super::{mutants::random::Random, *};
use crate::onnx::{int, ints, value};

pub(super) const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
pub(super) const AGGREGATES: [&str; 4] = ["AVERAGE", "SUM", "MIN", "MAX"];
pub(super) const POSTS: [&str; 5] = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];

pub(super) enum Tree {
    /// Targets and what they get.
    Leaf(Vec<(usize, f64)>),
    Branch(Box<Branch>),
}

pub(super) struct Branch {
    pub(super) test: Test,
    pub(super) missing: bool,
    pub(super) feature: usize,
    pub(super) yes: Tree,
    pub(super) no: Tree,
}

pub(super) enum Test {
    /// The number of the mode, and the value to compare with.
    Compare(usize, f64),
    Member(Vec<f64>),
}

impl Branch {
    fn passes(&self, x: f64) -> bool {
        let passes = match &self.test {
            Test::Compare(0, value) => x <= *value,
            Test::Compare(1, value) => x < *value,
            Test::Compare(2, value) => x >= *value,
            Test::Compare(3, value) => x > *value,
            Test::Compare(4, value) => x == *value,
            Test::Compare(_, value) => x != *value,
            Test::Member(values) => values.contains(&x),
        };
        passes || (self.missing && x.is_nan())
    }
}

/// What trees are like.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) features: usize,
    pub(super) targets: usize,
    /// Branches may ask for membership, and leaves give one weight.
    pub(super) newer: bool,
    /// Sets are of whole numbers from 0 to 30, which ONNX Runtime looks up as the standard has it.
    pub(super) small_sets: bool,
    pub(super) dtype: DType,
}

impl Shape {
    /// A number that this type has.
    fn number(self, random: &mut Random, most: f64) -> f64 {
        let any = (random.below(20_001) as f64 / 10_000.0 - 1.0) * most;
        match self.dtype {
            DType::Fp64 => any,
            DType::Fp16 => half::f16::from_f64(any).to_f64(),
            _ => f64::from(any as f32),
        }
    }

    /// One that is met often, or any.
    fn met(self, random: &mut Random) -> f64 {
        if random.one_in(3) { self.number(random, 2.0) } else { random.below(9) as f64 / 2.0 - 2.0 }
    }

    pub(super) fn forest(self, random: &mut Random) -> Vec<Tree> {
        let (mode, many) = (random.below(MODES.len()), random.below(3));
        let modes: &[usize] = if random.one_in(2) { &[0, 1, 2, 3, 4, 5] } else { &[mode] };
        // Where all weights go to one target it is a case of its own.
        let side = random.one_in(3).then(|| random.below(self.targets));
        let positive = random.one_in(2);
        let mut grow = Grow { shape: self, modes, side, positive, random };
        (0..[1, 3, 20][many]).map(|_| grow.tree(0)).collect()
    }

    pub(super) fn rows(self, random: &mut Random) -> Vec<Vec<f64>> {
        let count = random.pick(&[1, 2, 5, 21]);
        let mut value = || if random.one_in(8) { f64::NAN } else { self.met(random) };
        (0..count).map(|_| (0..self.features).map(|_| value()).collect()).collect()
    }
}

struct Grow<'a> {
    shape: Shape,
    modes: &'a [usize],
    side: Option<usize>,
    positive: bool,
    random: &'a mut Random,
}

impl Grow<'_> {
    fn tree(&mut self, depth: usize) -> Tree {
        if depth == 5 || self.random.one_in(5) {
            return Tree::Leaf(self.leaf());
        }
        let shape = self.shape;
        let test = if shape.newer && self.random.one_in(3) {
            let count = 1 + self.random.below(6);
            let mut member = || match shape.small_sets {
                true => self.random.below(4) as f64,
                false => shape.met(self.random),
            };
            Test::Member((0..count).map(|_| member()).collect())
        } else {
            Test::Compare(self.random.pick(self.modes), shape.met(self.random))
        };
        let (missing, feature) = (self.random.one_in(2), self.random.below(shape.features));
        Tree::Branch(Box::new(Branch { test, missing, feature, yes: self.tree(depth + 1), no: self.tree(depth + 1) }))
    }

    fn leaf(&mut self) -> Vec<(usize, f64)> {
        let all = self.shape.targets;
        let (newer, some) = (self.shape.newer, self.random.below(all));
        let mut given: Vec<usize> = match self.side {
            Some(side) => vec![side],
            None if newer => vec![some],
            None if self.random.one_in(2) => (0..all).collect(),
            None => vec![some],
        };
        given.truncate(if newer { 1 } else { all });
        let mut weight = || {
            let weight = self.shape.number(self.random, 1.0);
            if self.positive { weight.abs() / 8.0 } else { weight }
        };
        given.into_iter().map(|target| (target, weight())).collect()
    }
}

fn followed<'t>(tree: &'t Tree, row: &[f64]) -> &'t [(usize, f64)] {
    match tree {
        Tree::Leaf(given) => given,
        Tree::Branch(branch) => {
            followed(if branch.passes(row[branch.feature]) { &branch.yes } else { &branch.no }, row)
        }
    }
}

/// What all trees give to each target of a row, `None` where none gives anything; `aggregate` is an index of [`AGGREGATES`].
pub(super) fn aggregated(trees: &[Tree], row: &[f64], targets: usize, aggregate: usize) -> Vec<Option<f64>> {
    let given: Vec<_> = trees.iter().flat_map(|tree| followed(tree, row)).collect();
    let of = |target| {
        let mut given = given.iter().filter(|(to, _)| *to == target).map(|(_, weight)| *weight);
        let first = given.next()?;
        Some(match AGGREGATES[aggregate] {
            "AVERAGE" => given.fold(first, |sum, weight| sum + weight) / trees.len() as f64,
            "SUM" => given.fold(first, |sum, weight| sum + weight),
            "MIN" => given.fold(first, f64::min),
            _ => given.fold(first, f64::max),
        })
    };
    (0..targets).map(of).collect()
}

/// The transform of the standard; `post` is an index of [`POSTS`], and not that of the last.
pub(super) fn transformed(values: &[f64], post: usize) -> Vec<f64> {
    let softmax = |counts: &dyn Fn(f64) -> bool| {
        let highest = values.iter().copied().fold(f64::MIN, f64::max);
        let parts = values.iter().map(|x| if counts(*x) { (x - highest).exp() } else { 0.0 });
        let sum: f64 = parts.clone().sum();
        parts.map(|part| part / sum).collect()
    };
    match POSTS[post] {
        "NONE" => values.to_vec(),
        "SOFTMAX" => softmax(&|_| true),
        "SOFTMAX_ZERO" => softmax(&|x| x.abs() > 1e-7),
        "LOGISTIC" => values.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        other => panic!("{other}"),
    }
}

pub(super) fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: text.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

pub(super) fn texts(name: &str, list: &[String]) -> AttributeProto {
    let strings = list.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

fn kind_of(dtype: DType) -> DataType {
    match dtype {
        DType::Fp64 => DataType::Double,
        DType::Fp16 => DataType::Float16,
        DType::Int64 => DataType::Int64,
        DType::Bytes => DataType::String,
        _ => DataType::Float,
    }
}

fn bytes(dtype: DType, values: &[f64]) -> Vec<u8> {
    match dtype {
        DType::Fp64 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Fp16 => values.iter().flat_map(|value| half::f16::from_f64(*value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect(),
    }
}

/// Rows as the tensor of a request.
pub(super) fn table(dtype: DType, rows: &[Vec<f64>]) -> Tensor {
    let shape = [rows.len(), rows[0].len()].into_iter().collect();
    Tensor::plain(dtype, shape, bytes(dtype, &rows.concat()).into()).unwrap()
}

pub(super) fn tensor(name: &str, dtype: DType, values: &[f64]) -> AttributeProto {
    let t = TensorProto {
        data_type: kind_of(dtype) as i32,
        dims: vec![values.len() as i64],
        raw_data: bytes(dtype, values),
        ..TensorProto::default()
    };
    AttributeProto { t: Some(t), ..attribute(name, AttributeType::Tensor) }
}

/// The trees as a TreeEnsemble.
pub(super) fn newer(trees: &[Tree], shape: Shape, (aggregate, post): (usize, usize)) -> NodeProto {
    let mut flat = Newer::default();
    let roots: Vec<i64> = trees
        .iter()
        .map(|tree| match tree {
            Tree::Branch(_) => flat.write(tree).0,
            // A leaf is what both ways of a branch lead to.
            Tree::Leaf(_) => {
                let leaf = flat.write(tree);
                flat.node((0, 0, 0.0, 0), [leaf; 2])
            }
        })
        .collect();
    let list = |name: &str, pick: fn(&[i64; 6]) -> i64| ints(name, &flat.nodes.iter().map(pick).collect::<Vec<_>>());
    let modes = TensorProto {
        data_type: DataType::Uint8 as i32,
        dims: vec![flat.modes.len() as i64],
        raw_data: flat.modes.clone(),
        ..TensorProto::default()
    };
    let mut attributes = vec![
        int("aggregate_function", aggregate as i64),
        int("post_transform", post as i64),
        int("n_targets", shape.targets as i64),
        ints("tree_roots", &roots),
        AttributeProto { t: Some(modes), ..attribute("nodes_modes", AttributeType::Tensor) },
        tensor("nodes_splits", shape.dtype, &flat.splits),
        tensor("leaf_weights", shape.dtype, &flat.weights),
        ints("leaf_targetids", &flat.targets),
        list("nodes_featureids", |node| node[0]),
        list("nodes_missing_value_tracks_true", |node| node[1]),
        list("nodes_truenodeids", |node| node[2]),
        list("nodes_trueleafs", |node| node[3]),
        list("nodes_falsenodeids", |node| node[4]),
        list("nodes_falseleafs", |node| node[5]),
    ];
    if !flat.members.is_empty() {
        attributes.push(tensor("membership_values", shape.dtype, &flat.members));
    }
    ml_node("TreeEnsemble", &["y"], attributes)
}

/// The lists of a TreeEnsemble.
#[derive(Default)]
struct Newer {
    modes: Vec<u8>,
    splits: Vec<f64>,
    /// Feature, track of missing values, two children and whether they are leaves.
    nodes: Vec<[i64; 6]>,
    members: Vec<f64>,
    targets: Vec<i64>,
    weights: Vec<f64>,
}

impl Newer {
    fn node(&mut self, (mode, feature, split, missing): (u8, i64, f64, i64), [yes, no]: [(i64, bool); 2]) -> i64 {
        self.modes.push(mode);
        self.splits.push(split);
        self.nodes.push([feature, missing, yes.0, i64::from(yes.1), no.0, i64::from(no.1)]);
        self.nodes.len() as i64 - 1
    }

    /// Writes a tree; returns its number and whether it is a leaf.
    fn write(&mut self, tree: &Tree) -> (i64, bool) {
        match tree {
            Tree::Leaf(given) => {
                self.targets.push(given[0].0 as i64);
                self.weights.push(given[0].1);
                (self.targets.len() as i64 - 1, true)
            }
            Tree::Branch(branch) => {
                let (mode, split) = match &branch.test {
                    Test::Compare(mode, value) => (*mode as u8, *value),
                    Test::Member(values) => {
                        self.members.extend(values);
                        self.members.push(f64::NAN);
                        (MODES.len() as u8, 0.0)
                    }
                };
                // Its place comes before its children's: sets are in the order of the nodes.
                let own = self.node((mode, branch.feature as i64, split, i64::from(branch.missing)), [(0, false); 2]);
                let (yes, no) = (self.write(&branch.yes), self.write(&branch.no));
                self.nodes[own as usize][2..].copy_from_slice(&[yes.0, i64::from(yes.1), no.0, i64::from(no.1)]);
                (own, false)
            }
        }
    }
}

pub(super) fn ml_node(operator: &str, outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        domain: "ai.onnx.ml".to_owned(),
        input: vec!["x".to_owned()],
        output: outputs.iter().map(|output| (*output).to_owned()).collect(),
        attribute,
        ..NodeProto::default()
    }
}

/// A model of one node over rows of so many features.
pub(super) fn model(node: NodeProto, (dtype, features): (DType, usize), outputs: &[(&str, DType, usize)]) -> Artifact {
    let output = |(name, dtype, width): &(&str, DType, usize)| -> ValueInfoProto {
        let labels: &[Option<i64>] = if *width == 0 { &[None] } else { &[None, Some(*width as i64)] };
        value(name, kind_of(*dtype), labels)
    };
    let version = if node.op_type == "TreeEnsemble" { 5 } else { 3 };
    let graph = GraphProto {
        name: "trees".to_owned(),
        node: vec![node],
        input: vec![value("x", kind_of(dtype), &[None, Some(features as i64)])],
        output: outputs.iter().map(output).collect(),
        ..GraphProto::default()
    };
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    let opset_import = vec![set("", 17), set("ai.onnx.ml", version)];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() };
    Artifact { kind: ArtifactKind::Onnx, bytes: model.encode_to_vec().into(), side_files: BTreeMap::new() }
}
