//! From an operator's attributes to a forest: parallel lists of node ids, tree ids and modes become a flat array whose every
//! index has been checked. Files may hold anything; a walk over the result always ends.

use std::collections::HashMap;

use tract_onnx::{
    model::ParsingContext,
    pb::{NodeProto, TensorProto},
    prelude::TractResult,
    tract_hir::internal::{bail, ensure},
};

use super::forest::{Forest, Node, Test, Weight};

/// The attributes that say which node gives what: `class_…` or `target_…`.
#[derive(Clone, Copy)]
pub(super) struct Gives {
    /// Class or target.
    pub(super) ids: &'static str,
    pub(super) nodes: &'static str,
    pub(super) trees: &'static str,
    pub(super) weights: &'static str,
}

/// Features that rows may have; more than any tensor has.
const MAX_FEATURES: u32 = 1 << 30;

/// Node and tree ids as in the file.
type Id = (i64, i64);

/// The trees of a node of the graph, for `targets` classes or targets.
///
/// # Errors
/// When lists differ in length, ids point nowhere, a node is there twice or a path runs in a circle.
pub(super) fn forest(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    gives: Gives,
    targets: usize,
) -> TractResult<Forest> {
    let lists = Lists::read(context, node)?;
    let index = lists.index()?;
    let weights = read_weights(context, node, gives, targets)?;
    let mut nodes = Vec::with_capacity(lists.ids.len());
    let mut flat_weights = Vec::new();
    let mut features = 0;
    for (at, id) in lists.ids.iter().enumerate() {
        let flat = match lists.modes[at] {
            Some(test) => {
                let feature = u32::try_from(lists.features[at]).ok().filter(|feature| *feature < MAX_FEATURES);
                let Some(feature) = feature else {
                    let got = lists.features[at];
                    bail!("attribute 'nodes_featureids': expected 0 to {}, got {got}", MAX_FEATURES - 1);
                };
                features = features.max(feature as usize + 1);
                let to = |child: i64| match index.get(&(id.0, child)) {
                    Some(child) => Ok(*child),
                    None => bail!("tree {}: node {}: there is no node {child}", id.0, id.1),
                };
                let (yes, no) = (to(lists.yes[at])?, to(lists.no[at])?);
                let missing = lists.missing.get(at).is_some_and(|flag| *flag == 1);
                Node::Branch { test, missing, feature, value: lists.values[at], yes, no }
            }
            None => {
                let given = weights.get(id).map_or(&[][..], Vec::as_slice);
                let first = u32::try_from(flat_weights.len())?;
                // With one target the first weight counts.
                flat_weights.extend(given.iter().take(if targets == 1 { 1 } else { given.len() }));
                Node::Leaf { first, count: u32::try_from(flat_weights.len())? - first }
            }
        };
        nodes.push(flat);
    }
    let roots = lists.roots();
    check_paths(&nodes, &roots, &lists.ids)?;
    Ok(Forest { nodes, roots, weights: flat_weights, features })
}

/// The `nodes_…` attributes.
struct Lists<'a> {
    ids: Vec<Id>,
    features: &'a [i64],
    /// `None` for leaves.
    modes: Vec<Option<Test>>,
    values: Vec<f64>,
    yes: &'a [i64],
    no: &'a [i64],
    /// May be shorter than the others.
    missing: &'a [i64],
}

impl<'a> Lists<'a> {
    fn read(context: &ParsingContext<'_>, node: &'a NodeProto) -> TractResult<Self> {
        let trees = ints(node, "nodes_treeids")?;
        let count = trees.len();
        ensure!(count > 0, "attribute 'nodes_treeids': expected at least one node, got none");
        ensure!(u32::try_from(count).is_ok(), "attribute 'nodes_treeids': too many nodes");
        let same = |name: &'static str| -> TractResult<&'a [i64]> {
            let list = ints(node, name)?;
            ensure!(list.len() == count, "attribute '{name}': expected {count} values, got {}", list.len());
            Ok(list)
        };
        let modes: Vec<String> = node.get_attr_opt_vec("nodes_modes")?.unwrap_or_default();
        ensure!(modes.len() == count, "attribute 'nodes_modes': expected {count} values, got {}", modes.len());
        let modes = modes.iter().map(|mode| test(mode)).collect::<TractResult<_>>()?;
        let values = numbers(context, node, "nodes_values")?;
        ensure!(values.len() == count, "attribute 'nodes_values': expected {count} values, got {}", values.len());
        let ids = trees.iter().copied().zip(same("nodes_nodeids")?.iter().copied()).collect();
        Ok(Self {
            ids,
            features: same("nodes_featureids")?,
            modes,
            values,
            yes: same("nodes_truenodeids")?,
            no: same("nodes_falsenodeids")?,
            missing: ints(node, "nodes_missing_value_tracks_true")?,
        })
    }

    /// Where each node is.
    fn index(&self) -> TractResult<HashMap<Id, u32>> {
        let mut index = HashMap::with_capacity(self.ids.len());
        for (at, id) in self.ids.iter().enumerate() {
            let twice = index.insert(*id, u32::try_from(at)?).is_some();
            ensure!(!twice, "tree {}: node {} is given twice", id.0, id.1);
        }
        Ok(index)
    }

    /// The first node of each run of nodes of one tree.
    fn roots(&self) -> Vec<u32> {
        let starts = |at: &usize| *at == 0 || self.ids[*at].0 != self.ids[*at - 1].0;
        (0..self.ids.len()).filter(starts).map(|at| at as u32).collect()
    }
}

fn test(mode: &str) -> TractResult<Option<Test>> {
    Ok(Some(match mode {
        "LEAF" => return Ok(None),
        "BRANCH_LEQ" => Test::LessOrEqual,
        "BRANCH_LT" => Test::Less,
        "BRANCH_GTE" => Test::GreaterOrEqual,
        "BRANCH_GT" => Test::Greater,
        "BRANCH_EQ" => Test::Equal,
        "BRANCH_NEQ" => Test::NotEqual,
        _ => bail!("attribute 'nodes_modes': there is no mode '{mode}'"),
    }))
}

fn read_weights(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    gives: Gives,
    targets: usize,
) -> TractResult<HashMap<Id, Vec<Weight<f64>>>> {
    let (ids, nodes, trees) = (ints(node, gives.ids)?, ints(node, gives.nodes)?, ints(node, gives.trees)?);
    let values = numbers(context, node, gives.weights)?;
    let count = ids.len();
    for (name, got) in [(gives.nodes, nodes.len()), (gives.trees, trees.len()), (gives.weights, values.len())] {
        ensure!(got == count, "attribute '{name}': expected {count} values, got {got}");
    }
    let mut weights: HashMap<Id, Vec<Weight<f64>>> = HashMap::new();
    for (at, value) in values.into_iter().enumerate() {
        let target = usize::try_from(ids[at]).ok().filter(|target| *target < targets);
        let Some(target) = target else {
            bail!("attribute '{}': expected less than {targets}, got {}", gives.ids, ids[at]);
        };
        weights.entry((trees[at], nodes[at])).or_default().push(Weight { target: u32::try_from(target)?, value });
    }
    Ok(weights)
}

/// Refuses circles. Sharing a subtree is fine: exporters of set membership do it.
fn check_paths(nodes: &[Node], roots: &[u32], ids: &[Id]) -> TractResult<()> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnThePath,
        Done,
    }
    let mut seen = vec![Seen::No; nodes.len()];
    for root in roots {
        // A node is left when it comes up the second time.
        let mut stack = vec![(*root as usize, false)];
        while let Some((at, leaving)) = stack.pop() {
            if leaving {
                seen[at] = Seen::Done;
                continue;
            }
            match seen[at] {
                Seen::Done => continue,
                Seen::OnThePath => bail!("tree {}: node {} leads back to itself", ids[at].0, ids[at].1),
                Seen::No => seen[at] = Seen::OnThePath,
            }
            stack.push((at, true));
            if let Node::Branch { yes, no, .. } = nodes[at] {
                stack.push((no as usize, false));
                stack.push((yes as usize, false));
            }
        }
    }
    Ok(())
}

fn ints<'a>(node: &'a NodeProto, name: &str) -> TractResult<&'a [i64]> {
    Ok(node.get_attr_opt_slice(name)?.unwrap_or_default())
}

/// A list of numbers that may be given in single precision, or as a tensor under `<name>_as_tensor`.
///
/// # Errors
/// When the attribute has another type.
pub(super) fn numbers(context: &ParsingContext<'_>, node: &NodeProto, name: &str) -> TractResult<Vec<f64>> {
    if let Some(tensor) = node.get_attr_opt::<&TensorProto>(&format!("{name}_as_tensor"))? {
        let tensor = context.load_tensor(tensor)?;
        let tensor = tensor.cast_to::<f64>()?;
        return Ok(tensor.try_as_plain_ram()?.as_slice::<f64>()?.to_vec());
    }
    let floats: &[f32] = node.get_attr_opt_slice(name)?.unwrap_or_default();
    Ok(floats.iter().copied().map(f64::from).collect())
}
