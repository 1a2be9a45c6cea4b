//! Whether the parts of a route fit together: one signature out of those of its parts, or what does not fit. Pure; called by
//! `compile`.

use std::sync::Arc;

use crate::types::{Signature, TensorSpec};

/// A part's signature with the key that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    /// For example `stage[1]`.
    pub(super) key: &'a str,
    /// The model's or route's name.
    pub(super) name: &'a str,
    pub(super) signature: &'a Signature,
}

/// One input or output as messages show it.
pub(super) fn shown(spec: &TensorSpec) -> String {
    format!("{} {:?}", spec.dtype, spec.wire_shape())
}

fn all_shown(specs: &[TensorSpec]) -> String {
    let each: Vec<_> = specs.iter().map(|spec| format!("'{}' {}", spec.name, shown(spec))).collect();
    each.join(", ")
}

/// The inputs of all parts by name, in the order in which they are first needed. Two parts that need the same input must agree
/// on its datatype and shape; where one leaves a size open, the other's holds.
///
/// Problems name the key and both signatures.
pub(super) fn union_inputs(parts: &[Named<'_>], problems: &mut Vec<String>) -> Vec<TensorSpec> {
    let mut union: Vec<(TensorSpec, Named<'_>)> = Vec::new();
    for part in parts {
        for input in &part.signature.inputs {
            match union.iter_mut().find(|(known, _)| known.name == input.name) {
                None => union.push((input.clone(), *part)),
                Some((known, first)) => match unified(known, input) {
                    Some(shape) => known.shape = shape,
                    None => problems.push(format!(
                        "{}.model: input '{}': expected {} as '{}' in {} takes, got {} of '{}'",
                        part.key,
                        input.name,
                        shown(known),
                        first.name,
                        first.key,
                        shown(input),
                        part.name
                    )),
                },
            }
        }
    }
    union.into_iter().map(|(spec, _)| spec).collect()
}

/// The outputs that a route answers: those listed, each of which every part must have alike, or all that the parts share.
///
/// Problems name the key and both signatures.
pub(super) fn shared_outputs(
    parts: &[Named<'_>],
    listed: Option<&[Box<str>]>,
    fits: impl Fn(&TensorSpec) -> Result<(), String>,
    problems: &mut Vec<String>,
) -> Vec<TensorSpec> {
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    match listed {
        Some(names) => names.iter().filter_map(|name| listed_output(name, first, rest, &fits, problems)).collect(),
        None => {
            let shared = first.signature.outputs.iter().filter(|output| fits(output).is_ok());
            let shared: Vec<TensorSpec> = shared.filter_map(|output| in_all(output, rest).ok()).collect();
            if shared.is_empty() {
                let each: Vec<_> = parts
                    .iter()
                    .map(|part| format!("'{}' ({}) gives {}", part.name, part.key, all_shown(&part.signature.outputs)))
                    .collect();
                problems.push(format!("outputs: no output is alike in all parts: {}", each.join("; ")));
            }
            shared
        }
    }
}

fn listed_output(
    name: &str,
    first: &Named<'_>,
    rest: &[Named<'_>],
    fits: &impl Fn(&TensorSpec) -> Result<(), String>,
    problems: &mut Vec<String>,
) -> Option<TensorSpec> {
    let Some(output) = first.signature.outputs.iter().find(|output| *output.name == *name) else {
        problems.push(missing(name, first));
        return None;
    };
    if let Err(why) = fits(output) {
        problems.push(format!("outputs: '{name}' {}: {why}", shown(output)));
        return None;
    }
    match in_all(output, rest) {
        Ok(spec) => Some(spec),
        Err(part) => {
            let theirs = part.signature.outputs.iter().find(|theirs| theirs.name == output.name);
            problems.push(theirs.map_or_else(
                || missing(name, part),
                |theirs| {
                    format!(
                        "{}.model: output '{name}': expected {} as '{}' in {} gives, got {} of '{}'",
                        part.key,
                        shown(output),
                        first.name,
                        first.key,
                        shown(theirs),
                        part.name
                    )
                },
            ));
            None
        }
    }
}

fn missing(name: &str, part: &Named<'_>) -> String {
    let outputs = all_shown(&part.signature.outputs);
    format!("outputs: '{name}' is no output of '{}' in {}, which gives {outputs}", part.name, part.key)
}

/// The output as all others have it, or the first part that has it otherwise or not at all.
fn in_all<'p, 'a>(output: &TensorSpec, rest: &'p [Named<'a>]) -> Result<TensorSpec, &'p Named<'a>> {
    let mut spec = output.clone();
    for part in rest {
        let theirs = part.signature.outputs.iter().find(|theirs| theirs.name == output.name);
        spec.shape = theirs.and_then(|theirs| unified(&spec, theirs)).ok_or(part)?;
    }
    Ok(spec)
}

/// The shape that both allow; `None` when datatype, rank or a size differ.
pub(super) fn unified(a: &TensorSpec, b: &TensorSpec) -> Option<Vec<Option<usize>>> {
    if a.dtype != b.dtype || a.shape.len() != b.shape.len() {
        return None;
    }
    let dims = a.shape.iter().zip(&b.shape);
    dims.map(|dims| match dims {
        (None, other) | (other, None) => Some(*other),
        (Some(a), Some(b)) => (a == b).then_some(Some(*a)),
    })
    .collect()
}

/// For each name, where it is among `slots`.
pub(super) fn places<'n>(names: impl Iterator<Item = &'n Arc<str>>, slots: &[Arc<str>]) -> Option<Box<[usize]>> {
    names.map(|name| slots.iter().position(|slot| slot == name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Batch, DType};

    fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
        Signature { inputs, outputs, batch: Batch::Rows }
    }

    #[test]
    fn inputs_are_united_by_name() {
        let a = signature(vec![spec("x", DType::Fp32, &[None, Some(4)]), spec("y", DType::Int64, &[None])], vec![]);
        let b = signature(vec![spec("z", DType::Bytes, &[None]), spec("x", DType::Fp32, &[None, None])], vec![]);
        let parts =
            [Named { key: "stage[0]", name: "a", signature: &a }, Named { key: "stage[1]", name: "b", signature: &b }];
        let mut problems = Vec::new();
        let union = union_inputs(&parts, &mut problems);
        let shown: Vec<_> = union.iter().map(|spec| format!("{} {}", spec.name, shown(spec))).collect();
        assert_eq!(shown, ["x FP32 [-1, 4]", "y INT64 [-1]", "z BYTES [-1]"]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn what_does_not_fit_names_both() {
        let a =
            signature(vec![spec("x", DType::Fp32, &[None, Some(4)])], vec![spec("p", DType::Fp32, &[None, Some(2)])]);
        let b =
            signature(vec![spec("x", DType::Fp32, &[None, Some(5)])], vec![spec("p", DType::Fp32, &[None, Some(3)])]);
        let parts =
            [Named { key: "stage[0]", name: "a", signature: &a }, Named { key: "stage[1]", name: "b", signature: &b }];
        let mut problems = Vec::new();
        union_inputs(&parts, &mut problems);
        shared_outputs(&parts, None, |_| Ok(()), &mut problems);
        shared_outputs(&parts, Some(&["p".into(), "q".into()]), |_| Ok(()), &mut problems);
        assert_eq!(
            problems,
            [
                "stage[1].model: input 'x': expected FP32 [-1, 4] as 'a' in stage[0] takes, got FP32 [-1, 5] of 'b'",
                "outputs: no output is alike in all parts: 'a' (stage[0]) gives 'p' FP32 [-1, 2]; 'b' (stage[1]) gives \
                 'p' FP32 [-1, 3]",
                "stage[1].model: output 'p': expected FP32 [-1, 2] as 'a' in stage[0] gives, got FP32 [-1, 3] of 'b'",
                "outputs: 'q' is no output of 'a' in stage[0], which gives 'p' FP32 [-1, 2]",
            ]
        );
    }

    #[test]
    fn shared_outputs_are_those_alike_in_all() {
        let p = spec("p", DType::Fp32, &[None, None]);
        let a = signature(vec![], vec![spec("l", DType::Int64, &[None]), p.clone()]);
        let b = signature(vec![], vec![spec("p", DType::Fp32, &[None, Some(3)]), spec("l", DType::Bytes, &[None])]);
        let parts = [Named { key: "a", name: "a", signature: &a }, Named { key: "b", name: "b", signature: &b }];
        let mut problems = Vec::new();
        let shared = shared_outputs(&parts, None, |_| Ok(()), &mut problems);
        assert_eq!(shared, [spec("p", DType::Fp32, &[None, Some(3)])]);
        assert_eq!(problems, [""; 0]);
        shared_outputs(&parts, Some(&["p".into()]), |_| Err("no".to_owned()), &mut problems);
        assert_eq!(problems, ["outputs: 'p' FP32 [-1, -1]: no"]);
    }
}
