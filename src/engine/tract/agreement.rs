//! Sizes that have to agree, with each other or with what an operator needs. Where a sum runs over a dimension of two tensors and the size of one of them is not known before a
//! request comes, the graph library takes them for equal and reads beyond the end of the smaller one when they are not. What a
//! graph says of such sizes is found here: some of them become known by it, the others are checked before a run. Called by
//! `typing`, `plan` and `session`.

use std::collections::HashMap;

use tract_onnx::{
    prelude::{Symbol, SymbolValues, TDim, TractResult, TypedModel},
    tract_hir::{
        internal::{ToDim as _, TractErrorContext as _, bail, ensure},
        tract_core::ops::{einsum::EinSum, scan::Scan},
    },
};

use super::super::onnx_ml::{KernelOp, Width};

/// Rounds in which sizes become known by others; a chain of products needs few.
const ROUNDS: usize = 4;

/// What a node needs of sizes that are not known.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    node: String,
    needs: Needs,
}

#[derive(Clone, Debug)]
enum Needs {
    /// Two sizes are equal, of which one or both are not known.
    Equal(TDim, TDim),
    /// Rows have so many features.
    Features(Width, TDim),
}

/// What the nodes of a graph need, as far as it is not known to be so.
///
/// # Errors
/// `node 'x': …` when they are known and differ.
pub(super) fn of(graph: &TypedModel) -> TractResult<Vec<Agreement>> {
    let mut found = Vec::new();
    for node in &graph.nodes {
        if let Some(scan) = node.op_as::<Scan>() {
            found.extend(of(&scan.body)?);
        }
        let needs = |needs| Agreement { node: node.name.clone(), needs };
        if let Some(kernel) = node.op_as::<KernelOp>() {
            let facts = graph.node_input_facts(node.id)?;
            let width = facts.first().and_then(|fact| kernel.width(fact.shape.dims()));
            let open = width.filter(|(_, features)| features.as_i64().is_none());
            found.extend(open.map(|(width, features)| needs(Needs::Features(width, features.clone()))));
        }
        let Some(product) = node.op_as::<EinSum>() else { continue };
        let facts = graph.node_input_facts(node.id)?;
        let shapes = product.actual_input_shapes_from_facts(&facts)?;
        for axis in product.axes.iter_all_axes() {
            let summed = axis.outputs.iter().all(|places| places.is_empty());
            let of_input = |(input, places): (usize, _)| std::iter::repeat(input).zip(places);
            let dims = axis.inputs.iter().map(|places| places.iter()).enumerate().flat_map(of_input);
            let dims = dims.filter_map(|(input, place)| Some((input, shapes.get(input)?.get(*place)?)));
            // A dimension of one is repeated along the other tensor's, but not where it is summed over.
            let mut dims = dims.filter(|(input, dim)| (summed && *input < 2) || !dim.is_one()).map(|(_, dim)| dim);
            let Some(one) = dims.next() else { continue };
            for other in dims.filter(|other| *other != one) {
                ensure!(
                    one.as_i64().is_none() || other.as_i64().is_none(),
                    "node '{}' ({}): sizes that have to agree: {one} and {other}",
                    node.name,
                    node.op.name()
                );
                found.push(needs(Needs::Equal(one.clone(), other.clone())));
            }
        }
    }
    Ok(found)
}

/// The graph with every size in it that can only be one number, `rows` excepted.
///
/// # Errors
/// As [`of`].
pub(super) fn settled(mut graph: TypedModel, rows: Option<&Symbol>) -> TractResult<TypedModel> {
    for _ in 0..ROUNDS {
        let mut known = HashMap::new();
        for Agreement { needs, .. } in of(&graph)? {
            let (symbol, size) = match needs {
                Needs::Equal(TDim::Sym(symbol), TDim::Val(size)) | Needs::Equal(TDim::Val(size), TDim::Sym(symbol)) => {
                    (symbol, size.to_dim())
                }
                Needs::Features(Width::Exactly(size), TDim::Sym(symbol)) => (symbol, size.to_dim()),
                _ => continue,
            };
            if Some(&symbol) != rows {
                known.insert(symbol, size);
            }
        }
        if known.is_empty() {
            break;
        }
        graph = graph.set_symbols(&known)?;
    }
    Ok(graph)
}

/// Checks what is left to be checked once `symbols` have these values.
///
/// # Errors
/// `node 'x': …` when two sizes differ, or rows have too few features or too many.
pub(super) fn check(agreements: &[Agreement], symbols: &SymbolValues) -> TractResult<()> {
    for Agreement { node, needs } in agreements {
        match needs {
            Needs::Equal(one, other) => {
                if let (TDim::Val(one), TDim::Val(other)) = (one.eval(symbols), other.eval(symbols))
                    && one != other
                {
                    bail!("node '{node}': sizes that have to agree: {one} and {other}");
                }
            }
            Needs::Features(width, features) => {
                width.check(&features.eval(symbols)).with_context(|| format!("node '{node}'"))?;
            }
        }
    }
    Ok(())
}
