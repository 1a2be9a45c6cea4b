//! TreeEnsemble, the newer spelling of TreeEnsembleRegressor: leaves have lists of their own, trees begin where a list says,
//! and a node may test for membership in a set. It is read into the older spelling, with numbers of double precision, which
//! hold those of every other.

use std::collections::{HashMap, HashSet};

use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType},
    tract_hir::internal::*,
};

use super::{Built, trees};

/// Nodes that all trees together may have, sets written out.
const MAX_NODES: usize = 10_000_000;

/// The tests by number; the last, membership, is not one of the older spelling.
const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
const MEMBER: usize = MODES.len();
const AGGREGATES: [&str; 4] = ["AVERAGE", "SUM", "MIN", "MAX"];
const TRANSFORMS: [&str; 5] = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];

/// `ai.onnx.ml.TreeEnsemble`: values [rows, targets] of the type of the rows.
pub(super) fn ensemble(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let lists = Lists::read(context, proto)?;
    trees::ensemble(context, &lists.older(proto)?, lists.datum)
}

/// The attributes of a node.
struct Lists {
    roots: Vec<usize>,
    features: Vec<i64>,
    modes: Vec<usize>,
    splits: Vec<f64>,
    /// The values of each node that tests for membership.
    members: HashMap<usize, Vec<f64>>,
    yes: Vec<Child>,
    no: Vec<Child>,
    missing: Vec<i64>,
    targets: Vec<i64>,
    weights: Vec<f64>,
    /// The type of the weights, and of everything else that is not an index.
    datum: DatumType,
}

#[derive(Clone, Copy)]
enum Child {
    Node(usize),
    Leaf(usize),
}

/// A tensor of numbers, and its type.
fn floats(context: &ParsingContext<'_>, proto: &NodeProto, name: &str) -> TractResult<Option<(DatumType, Vec<f64>)>> {
    let Some(tensor) = proto.get_attr_opt::<&TensorProto>(name)? else { return Ok(None) };
    let tensor = context.load_tensor(tensor)?;
    ensure!(tensor.datum_type().is_float(), "attribute '{name}': expected floats, got {:?}", tensor.datum_type());
    let values = tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
    Ok(Some((tensor.datum_type(), values)))
}

impl Lists {
    fn read(context: &ParsingContext<'_>, proto: &NodeProto) -> TractResult<Self> {
        let modes = context.load_tensor(proto.get_attr("nodes_modes")?)?;
        let modes: Vec<usize> = super::super::operator::ints(&modes)?.into_iter().map(|mode| mode as usize).collect();
        let count = modes.len();
        let ints = |name: &str| -> TractResult<Vec<i64>> {
            let list: Vec<i64> = proto.get_attr_vec(name)?;
            ensure!(list.len() == count, "attribute '{name}': expected {count} values, got {}", list.len());
            Ok(list)
        };
        let targets: Vec<i64> = proto.get_attr_vec("leaf_targetids")?;
        let weights = floats(context, proto, "leaf_weights")?;
        let (datum, weights) = weights.context("attribute 'leaf_weights': is missing")?;
        // All of them have the type of the rows.
        let like = |name: &str| -> TractResult<Vec<f64>> {
            let Some((own, values)) = floats(context, proto, name)? else { return Ok(Vec::new()) };
            ensure!(own == datum, "attribute '{name}': expected {datum:?}, as the weights have, got {own:?}");
            Ok(values)
        };
        ensure!(
            targets.len() == weights.len(),
            "attribute 'leaf_weights': expected {} values, got {}",
            targets.len(),
            weights.len()
        );
        let children = |ids: &str, leaves: &str| -> TractResult<Vec<Child>> {
            let pairs = ints(ids)?.into_iter().zip(ints(leaves)?);
            let child = |(id, leaf): (i64, i64)| {
                let (of, most) = if leaf != 0 { ("leaf", targets.len()) } else { ("node", count) };
                let id = usize::try_from(id).ok().filter(|id| *id < most);
                let id = id.with_context(|| format!("attribute '{ids}': there is no such {of}"))?;
                Ok(if leaf != 0 { Child::Leaf(id) } else { Child::Node(id) })
            };
            pairs.map(child).collect()
        };
        let (yes, no) =
            (children("nodes_truenodeids", "nodes_trueleafs")?, children("nodes_falsenodeids", "nodes_falseleafs")?);
        let splits = like("nodes_splits")?;
        ensure!(splits.len() == count, "attribute 'nodes_splits': expected {count} values, got {}", splits.len());
        let members = sets(&modes, &like("membership_values")?)?;
        let roots: Vec<usize> = proto.get_attr_vec("tree_roots")?;
        ensure!(roots.iter().all(|root| *root < count), "attribute 'tree_roots': there is no such node");
        let missing: Vec<i64> = proto.get_attr_opt_vec("nodes_missing_value_tracks_true")?.unwrap_or_default();
        let features = ints("nodes_featureids")?;
        Ok(Self { roots, features, modes, splits, members, yes, no, missing, targets, weights, datum })
    }

    /// The same trees as a TreeEnsembleRegressor.
    fn older(&self, proto: &NodeProto) -> TractResult<NodeProto> {
        let mut writer = Writer::default();
        for (tree, root) in self.roots.iter().enumerate() {
            self.write(tree as i64, *root, &mut writer)?;
        }
        let name = |attribute: &str, usual: usize, names: &[&str]| -> TractResult<Vec<u8>> {
            let number: usize = proto.get_attr_opt(attribute)?.unwrap_or(usual);
            let name = names.get(number).with_context(|| format!("attribute '{attribute}': there is no {number}"))?;
            Ok(name.as_bytes().to_vec())
        };
        let mut attribute = writer.attributes();
        let text = |name: &str, s: Vec<u8>| AttributeProto { s, ..attribute_of(name, AttributeType::String) };
        attribute.push(text("aggregate_function", name("aggregate_function", 1, &AGGREGATES)?));
        attribute.push(text("post_transform", name("post_transform", 0, &TRANSFORMS)?));
        let targets = proto.get_attr_opt("n_targets")?.unwrap_or(1);
        attribute.push(AttributeProto { i: targets, ..attribute_of("n_targets", AttributeType::Int) });
        Ok(NodeProto { op_type: "TreeEnsembleRegressor".to_owned(), attribute, ..proto.clone() })
    }

    /// Writes one tree, its root first.
    fn write(&self, tree: i64, root: usize, writer: &mut Writer) -> TractResult<()> {
        let count = self.modes.len();
        let id = |child: Child| match child {
            Child::Node(node) => node as i64,
            Child::Leaf(leaf) => (count + leaf) as i64,
        };
        // Numbers of nodes and leaves are taken; those that sets are written out with come after.
        let mut next = (count + self.targets.len()) as i64;
        let (mut nodes, mut leaves) = (HashSet::from([root]), HashSet::new());
        let mut left = vec![root];
        while let Some(at) = left.pop() {
            let (yes, no) = (id(self.yes[at]), id(self.no[at]));
            let missing = self.missing.get(at).copied().unwrap_or(0);
            let rows = &mut writer.nodes;
            let mut write = |own: i64, mode: &str, value: f64, no: i64| {
                rows.push(Row {
                    tree,
                    own,
                    mode: mode.to_owned(),
                    feature: self.features[at],
                    value,
                    yes,
                    no,
                    missing,
                });
            };
            match self.members.get(&at) {
                None => write(at as i64, MODES[self.modes[at]], self.splits[at], no),
                // One test after the other, each but the last going on to the next.
                Some(values) => {
                    let mut own = at as i64;
                    for (number, value) in values.iter().enumerate() {
                        let last = number + 1 == values.len();
                        write(own, "BRANCH_EQ", *value, if last { no } else { next });
                        (own, next) = (next, next + 1);
                    }
                }
            }
            for child in [self.yes[at], self.no[at]] {
                match child {
                    Child::Node(node) if nodes.insert(node) => left.push(node),
                    Child::Leaf(leaf) if leaves.insert(leaf) => {
                        writer.leaf(tree, id(child), self.targets[leaf], self.weights[leaf]);
                    }
                    _ => {}
                }
            }
            ensure!(writer.nodes.len() <= MAX_NODES, "expected at most {MAX_NODES} nodes");
        }
        Ok(())
    }
}

/// Cuts the list of all sets, each ended by a value that is no number.
fn sets(modes: &[usize], values: &[f64]) -> TractResult<HashMap<usize, Vec<f64>>> {
    ensure!(modes.iter().all(|mode| *mode <= MEMBER), "attribute 'nodes_modes': there is no such mode");
    let mut sets = HashMap::new();
    let mut parts = values.split(|value| value.is_nan());
    for (at, _) in modes.iter().enumerate().filter(|(_, mode)| **mode == MEMBER) {
        let set = parts.next().filter(|set| !set.is_empty());
        sets.insert(at, set.context("attribute 'membership_values': expected a set for every such node")?.to_vec());
    }
    Ok(sets)
}

/// A node or leaf of the older spelling.
struct Row {
    tree: i64,
    own: i64,
    mode: String,
    feature: i64,
    value: f64,
    yes: i64,
    no: i64,
    missing: i64,
}

#[derive(Default)]
struct Writer {
    nodes: Vec<Row>,
    /// Tree, node, target, weight.
    weights: Vec<(i64, i64, i64, f64)>,
}

fn attribute_of(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

impl Writer {
    fn leaf(&mut self, tree: i64, own: i64, target: i64, weight: f64) {
        let mode = "LEAF".to_owned();
        self.nodes.push(Row { tree, own, mode, feature: 0, value: 0.0, yes: 0, no: 0, missing: 0 });
        self.weights.push((tree, own, target, weight));
    }

    fn attributes(&self) -> Vec<AttributeProto> {
        let ints = |name: &str, ints: Vec<i64>| AttributeProto { ints, ..attribute_of(name, AttributeType::Ints) };
        let floats = |name: &str, values: Vec<f64>| AttributeProto {
            t: Some(TensorProto {
                data_type: DataType::Double as i32,
                dims: vec![values.len() as i64],
                double_data: values,
                ..TensorProto::default()
            }),
            ..attribute_of(name, AttributeType::Tensor)
        };
        let list = |name: &str, value: fn(&Row) -> i64| ints(name, self.nodes.iter().map(value).collect());
        let modes = self.nodes.iter().map(|row| row.mode.as_bytes().to_vec()).collect();
        vec![
            list("nodes_treeids", |row| row.tree),
            list("nodes_nodeids", |row| row.own),
            list("nodes_featureids", |row| row.feature),
            list("nodes_truenodeids", |row| row.yes),
            list("nodes_falsenodeids", |row| row.no),
            list("nodes_missing_value_tracks_true", |row| row.missing),
            floats("nodes_values_as_tensor", self.nodes.iter().map(|row| row.value).collect()),
            AttributeProto { strings: modes, ..attribute_of("nodes_modes", AttributeType::Strings) },
            ints("target_treeids", self.weights.iter().map(|weight| weight.0).collect()),
            ints("target_nodeids", self.weights.iter().map(|weight| weight.1).collect()),
            ints("target_ids", self.weights.iter().map(|weight| weight.2).collect()),
            floats("target_weights_as_tensor", self.weights.iter().map(|weight| weight.3).collect()),
        ]
    }
}
