//! Attributes that say how large something is: within reason, since the graph library allocates or loops by them. And those
//! that it reads otherwise than others do.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::{super::LoadError, label, quoted, subgraphs_mut};

/// Dimensions that a tensor may have.
const MAX_RANK: i64 = 64;

/// What a size may be, and the product of those of one attribute.
const MAX_SIZE: i64 = 1 << 27;

/// Attributes that count dimensions.
const RANKS: [&str; 4] = ["axes", "axis", "batch_dims", "perm"];

/// Attributes that are sizes.
const SIZES: [&str; 21] = [
    "block_size",
    "blocksize",
    "dilations",
    "group",
    "hidden_size",
    "kernel_shape",
    "kv_num_heads",
    "n_targets",
    "num_heads",
    "num_outputs",
    "output_height",
    "output_padding",
    "output_shape",
    "output_width",
    "pads",
    "sample_size",
    "shape",
    "size",
    "split",
    "strides",
    "targets",
];

/// Attributes that say yes or no. Engines take a 2 for either, each its own way.
const FLAGS: [&str; 23] = [
    "allowzero",
    "antialias",
    "ceil_mode",
    "count_include_pad",
    "exclude_outside",
    "exclusive",
    "fmod",
    "input_forget",
    "inverse",
    "is_causal",
    "keepdims",
    "largest",
    "linear_before_reset",
    "noop_with_empty_axes",
    "onesided",
    "periodic",
    "reverse",
    "select_last_index",
    "sorted",
    "storage_order",
    "training_mode",
    "transA",
    "transB",
];

/// Checks the sizes and flags among the attributes of all nodes, and takes away what means as much when it is not there.
///
/// # Errors
/// `node 'x' (Op): attribute 'axis': expected at most 64, got 9223372036854775807`.
pub(super) fn settle(graph: &mut GraphProto) -> Result<(), LoadError> {
    for node in &mut graph.node {
        if node.op_type.starts_with("Reduce") {
            // No axes at all mean all of them, as when the attribute is not there.
            node.attribute.retain(|attribute| attribute.name != "axes" || !attribute.ints.is_empty());
        }
        node.attribute.iter().try_for_each(|attribute| check_attribute(node, attribute))?;
        subgraphs_mut(node).try_for_each(settle)?;
    }
    Ok(())
}

fn check_attribute(node: &NodeProto, attribute: &AttributeProto) -> Result<(), LoadError> {
    let name = attribute.name.as_str();
    let most = match name {
        _ if RANKS.contains(&name) => MAX_RANK,
        _ if SIZES.contains(&name) => MAX_SIZE,
        _ if FLAGS.contains(&name) && !(0..=1).contains(&attribute.i) => {
            let (label, name, got) = (label(node), quoted(name), attribute.i);
            return Err(LoadError::new(format!("{label}: attribute {name}: expected 0 or 1, got {got}")));
        }
        _ => return Ok(()),
    };
    let fail = |got: i64| {
        let (label, name) = (label(node), quoted(name));
        LoadError::new(format!("{label}: attribute {name}: expected at most {most}, got {got}"))
    };
    let values = attribute.ints.iter().chain([&attribute.i]);
    if let Some(large) = values.clone().find(|value| value.unsigned_abs() > most.unsigned_abs()) {
        return Err(fail(*large));
    }
    let is_order = |ints: &[i64]| (0..ints.len()).all(|at| ints.iter().filter(|axis| **axis == at as i64).count() == 1);
    if name == "perm" && !is_order(&attribute.ints) {
        let text = format!("{}: attribute 'perm': expected each axis once, got {:?}", label(node), attribute.ints);
        return Err(LoadError::new(text));
    }
    let volume = attribute.ints.iter().fold(1_i64, |volume, size| volume.saturating_mul((*size).max(1)));
    if matches!(name, "kernel_shape" | "output_shape") && volume > most { Err(fail(volume)) } else { Ok(()) }
}
