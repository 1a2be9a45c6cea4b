//! Tree ensembles made from a seed, as ONNX files: what boosting and forests of everyday size look like, without files of that
//! size in the repository. Used by the benchmarks that time tree ensembles.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension::Value as Size},
    type_proto::{Tensor as TensorType, Value as Kind},
};

/// How trees grow.
#[derive(Clone, Copy)]
pub(crate) enum Growth {
    /// Every path has this many branches.
    Full(u32),
    /// Leaf by leaf, where most rows are, until there are so many leaves.
    LeafWise(usize),
}

/// What leaves give.
#[derive(Clone, Copy)]
pub(crate) enum Leaves {
    /// A classifier of two classes, one weight a leaf.
    Binary,
    /// A classifier of so many classes, one weight a leaf, the trees taking turns.
    Turns(usize),
    /// A classifier whose every leaf has a share for each of so many classes.
    Shares(usize),
    /// A regressor of one target.
    Value,
}

/// One ensemble.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) trees: usize,
    pub(crate) growth: Growth,
    pub(crate) leaves: Leaves,
    pub(crate) features: usize,
    /// Whether branches say where missing values go.
    pub(crate) missing: bool,
}

/// The ensembles that are timed. The first two are the reference.
pub(crate) const SHAPES: [Shape; 10] = [
    shape("boosted-200x6", 200, Growth::Full(6), Leaves::Binary),
    shape("forest-100x8", 100, Growth::Full(8), Leaves::Shares(2)),
    shape("regressor-200x6", 200, Growth::Full(6), Leaves::Value),
    shape("multiclass-5x40x6", 200, Growth::Full(6), Leaves::Turns(5)),
    shape("small-1000x3", 1000, Growth::Full(3), Leaves::Binary),
    Shape { missing: true, ..shape("leaf-wise-200x31", 200, Growth::LeafWise(31), Leaves::Binary) },
    Shape { missing: true, ..shape("leaf-wise-100x255", 100, Growth::LeafWise(255), Leaves::Value) },
    shape("deep-forest-100x4000", 100, Growth::LeafWise(4000), Leaves::Shares(10)),
    Shape { features: 784, ..shape("wide-100x8", 100, Growth::Full(8), Leaves::Shares(10)) },
    shape("one-10x4", 10, Growth::Full(4), Leaves::Value),
];

const fn shape(name: &'static str, trees: usize, growth: Growth, leaves: Leaves) -> Shape {
    Shape { name, trees, growth, leaves, features: 30, missing: false }
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A branch or, where `yes` is `None`, a leaf.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) feature: usize,
    pub(crate) threshold: f32,
    pub(crate) missing_yes: bool,
    /// Places of the children in the tree: passed, and not.
    pub(crate) children: Option<(usize, usize)>,
    /// Class or target, and weight.
    pub(crate) weights: Vec<(usize, f32)>,
}

/// A leaf that may still be split: where it is, the part of the rows that come to it, and their box.
struct Open {
    at: usize,
    share: f32,
    depth: u32,
    bounds: Vec<(f32, f32)>,
}

impl Shape {
    /// Rows of features, uniform in [0, 1); with missing values where the trees know them.
    pub(crate) fn rows(&self, rows: usize) -> Vec<f32> {
        let mut random = Random(7);
        let mut value = || match self.missing && random.unit() < 0.05 {
            true => f32::NAN,
            false => random.unit(),
        };
        (0..rows * self.features).map(|_| value()).collect()
    }

    /// Whether there are labels besides the scores.
    pub(crate) fn is_classifier(&self) -> bool {
        !matches!(self.leaves, Leaves::Value)
    }

    /// Classes or targets.
    pub(crate) fn width(&self) -> usize {
        match self.leaves {
            Leaves::Binary => 2,
            Leaves::Turns(classes) | Leaves::Shares(classes) => classes,
            Leaves::Value => 1,
        }
    }

    /// The trees, each with its root first.
    pub(crate) fn trees(&self) -> Vec<Vec<Node>> {
        let mut random = Random(42);
        (0..self.trees).map(|tree| self.tree(tree, &mut random)).collect()
    }

    fn tree(&self, number: usize, random: &mut Random) -> Vec<Node> {
        let leaf = Node { feature: 0, threshold: 0.0, missing_yes: false, children: None, weights: Vec::new() };
        let mut nodes = vec![leaf.clone()];
        let mut open = vec![Open { at: 0, share: 1.0, depth: 0, bounds: vec![(0.0, 1.0); self.features] }];
        let mut leaves = 1;
        while let Some(next) = self.pick(&open, leaves, random) {
            let Open { at, share, depth, bounds } = open.swap_remove(next);
            let feature = random.below(self.features);
            let (low, high) = bounds[feature];
            let part = match self.growth {
                Growth::Full(_) => 0.3 + 0.4 * random.unit(),
                Growth::LeafWise(_) => 0.05 + 0.9 * random.unit(),
            };
            let threshold = low + part * (high - low);
            let children = (nodes.len(), nodes.len() + 1);
            nodes.extend([leaf.clone(), leaf.clone()]);
            let missing_yes = self.missing && random.unit() < 0.5;
            nodes[at] = Node { feature, threshold, missing_yes, children: Some(children), weights: Vec::new() };
            let (mut left, mut right) = (bounds.clone(), bounds);
            left[feature].1 = threshold;
            right[feature].0 = threshold;
            open.push(Open { at: children.0, share: share * part, depth: depth + 1, bounds: left });
            open.push(Open { at: children.1, share: share * (1.0 - part), depth: depth + 1, bounds: right });
            leaves += 1;
        }
        let mut weight = || (random.unit() - 0.5) * 0.1;
        for node in nodes.iter_mut().filter(|node| node.children.is_none()) {
            node.weights = match self.leaves {
                Leaves::Binary | Leaves::Value => vec![(0, weight())],
                Leaves::Turns(classes) => vec![(number % classes, weight())],
                Leaves::Shares(classes) => (0..classes).map(|class| (class, (weight() + 0.05).abs())).collect(),
            };
        }
        nodes
    }

    /// The leaf to split next.
    fn pick(&self, open: &[Open], leaves: usize, random: &mut Random) -> Option<usize> {
        match self.growth {
            Growth::Full(depth) => open.iter().position(|leaf| leaf.depth < depth),
            Growth::LeafWise(most) if leaves < most => {
                let gain = |leaf: &Open, random: &mut Random| leaf.share * random.unit();
                let gains = open.iter().map(|leaf| gain(leaf, random)).enumerate();
                gains.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
            }
            Growth::LeafWise(_) => None,
        }
    }

    /// The ensemble as a model file of one node: input `x` [rows, features]; outputs `label` and `scores`, or `y`.
    pub(crate) fn model(&self) -> Vec<u8> {
        let regressor = !self.is_classifier();
        let nodes: Vec<_> = self.trees().into_iter().enumerate().collect();
        let all =
            || nodes.iter().flat_map(|(tree, nodes)| nodes.iter().enumerate().map(|(id, node)| (*tree, id, node)));
        let list = |name: &str, value: fn((usize, usize, &Node)) -> usize| {
            ints(name, all().map(|node| value(node) as i64).collect())
        };
        let modes = all().map(|(_, _, node)| if node.children.is_some() { &b"BRANCH_LEQ"[..] } else { b"LEAF" });
        let kind = if regressor { "target" } else { "class" };
        let weights = || {
            all().flat_map(|(tree, id, node)| {
                node.weights.iter().map(move |(target, value)| (tree, id, *target, *value))
            })
        };
        let given = |name: &str, value: fn((usize, usize, usize, f32)) -> usize| {
            ints(&format!("{kind}_{name}"), weights().map(|weight| value(weight) as i64).collect())
        };
        let post = match self.leaves {
            Leaves::Binary => "LOGISTIC",
            Leaves::Turns(_) => "SOFTMAX",
            Leaves::Shares(_) | Leaves::Value => "NONE",
        };
        let mut attribute = vec![
            list("nodes_treeids", |node| node.0),
            list("nodes_nodeids", |node| node.1),
            list("nodes_featureids", |node| node.2.feature),
            list("nodes_truenodeids", |node| node.2.children.map_or(0, |children| children.0)),
            list("nodes_falsenodeids", |node| node.2.children.map_or(0, |children| children.1)),
            list("nodes_missing_value_tracks_true", |node| usize::from(node.2.missing_yes)),
            strings("nodes_modes", modes.map(<[u8]>::to_vec).collect()),
            floats("nodes_values", all().map(|node| node.2.threshold).collect()),
            given("treeids", |weight| weight.0),
            given("nodeids", |weight| weight.1),
            given("ids", |weight| weight.2),
            floats(&format!("{kind}_weights"), weights().map(|weight| weight.3).collect()),
            AttributeProto { s: post.into(), ..attribute("post_transform", AttributeType::String) },
        ];
        attribute.push(match regressor {
            true => AttributeProto { i: 1, ..self::attribute("n_targets", AttributeType::Int) },
            false => ints("classlabels_int64s", (0..self.width() as i64).collect()),
        });
        let (op, outputs): (_, &[&str]) = match regressor {
            true => ("TreeEnsembleRegressor", &["y"]),
            false => ("TreeEnsembleClassifier", &["label", "scores"]),
        };
        let node = NodeProto {
            input: vec!["x".into()],
            output: outputs.iter().map(|name| (*name).into()).collect(),
            name: "trees".into(),
            op_type: op.into(),
            domain: "ai.onnx.ml".into(),
            attribute,
            ..NodeProto::default()
        };
        let width = self.width() as i64;
        let output = match regressor {
            true => vec![value("y", DataType::Float, Some(width))],
            false => vec![value("label", DataType::Int64, None), value("scores", DataType::Float, Some(width))],
        };
        let graph = GraphProto {
            node: vec![node],
            name: self.name.into(),
            input: vec![value("x", DataType::Float, Some(self.features as i64))],
            output,
            ..GraphProto::default()
        };
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let opset_import = vec![opset("", 17), opset("ai.onnx.ml", 3)];
        ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { floats, ..attribute(name, AttributeType::Floats) }
}

fn strings(name: &str, strings: Vec<Vec<u8>>) -> AttributeProto {
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// A tensor [rows, width], or [rows].
fn value(name: &str, elem: DataType, width: Option<i64>) -> ValueInfoProto {
    let size = |size| Dimension { value: Some(size), denotation: String::new() };
    let rows = size(Size::DimParam("rows".into()));
    let dim = std::iter::once(rows).chain(width.map(|width| size(Size::DimValue(width)))).collect();
    let tensor = TensorType { elem_type: elem as i32, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { denotation: String::new(), value: Some(Kind::TensorType(tensor)) };
    ValueInfoProto { name: name.into(), r#type: Some(kind), doc_string: String::new() }
}
