//! The names of classes that a file has itself: exporters write them into ZipMap, and into the classifier before it. An answer has
//! tensors without names, so these go into the metadata and the classification extension. Both engines call it when they load.

use std::collections::HashMap;

use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, ValueInfoProto, tensor_shape_proto::dimension::Value as DimensionValue,
    type_proto::Value as TypeValue,
};

use crate::types::ClassNames;

/// Characters of a name; longer ones are none.
const MAX_CHARS: usize = 200;
/// Names of one output. Metadata with more of them would be larger than clients accept.
const MAX_NAMES: usize = 10_000;
/// Names of all outputs of a file.
const MAX_IN_ALL: usize = 100_000;
/// Nodes between names and the output that they are for.
const MAX_STEPS: usize = 64;

/// Names for the outputs whose columns are classes: those that come from a ZipMap, or straight from a classifier without one.
/// Names of a classifier that only count its classes, from 0 on, are left out: the index of a class says the same.
pub(super) fn class_names(graph: &GraphProto) -> ClassNames {
    let outputs = |node: &'_ NodeProto| (0..node.output.len()).collect::<Vec<_>>();
    let makers: HashMap<&str, (&NodeProto, usize)> = graph
        .node
        .iter()
        .flat_map(|node| outputs(node).into_iter().map(move |at| (node.output[at].as_str(), (node, at))))
        .collect();
    let (mut found, mut left) = (ClassNames::new(), MAX_IN_ALL);
    for output in &graph.output {
        let Some(names) = trace(&makers, &output.name) else { continue };
        if columns(output).is_some_and(|columns| columns != names.len()) {
            continue;
        }
        match left.checked_sub(names.len()) {
            Some(rest) => left = rest,
            None => break,
        }
        found.insert(output.name.as_str().into(), names);
    }
    found
}

/// Columns of an output, where the file says how many.
fn columns(output: &ValueInfoProto) -> Option<usize> {
    let TypeValue::TensorType(tensor) = output.r#type.as_ref()?.value.as_ref()?;
    match tensor.shape.as_ref()?.dim.last()?.value {
        Some(DimensionValue::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    }
}

/// Goes from an output to where its names are, through what leaves columns as they are.
fn trace(makers: &HashMap<&str, (&NodeProto, usize)>, output: &str) -> Option<Vec<Box<str>>> {
    let mut name = output;
    for _ in 0..MAX_STEPS {
        let (node, at) = makers.get(name)?;
        match (node.domain.as_str(), node.op_type.as_str(), at) {
            ("ai.onnx.ml", "ZipMap", 0) => return labels(node, "classlabels_int64s"),
            ("ai.onnx.ml", "TreeEnsembleClassifier", 1) => return telling(labels(node, "classlabels_int64s")?),
            ("ai.onnx.ml", "LinearClassifier", 1) => return telling(labels(node, "classlabels_ints")?),
            // Without probabilities there is a column for each pair of classes.
            ("ai.onnx.ml", "SVMClassifier", 1)
                if attribute(node, "prob_a").is_some_and(|prob| !prob.floats.is_empty()) =>
            {
                return telling(labels(node, "classlabels_ints")?);
            }
            ("ai.onnx.ml", "Normalizer", 0) | ("" | "ai.onnx", "Identity" | "Cast", 0) => name = node.input.first()?,
            _ => return None,
        }
    }
    None
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The labels of a node; `None` when there are none, or they are no names: twice the same, endless, not text.
fn labels(node: &NodeProto, ints: &str) -> Option<Vec<Box<str>>> {
    let texts = attribute(node, "classlabels_strings").map(|list| &list.strings[..]).unwrap_or_default();
    let numbers = attribute(node, ints).map(|list| &list.ints[..]).unwrap_or_default();
    if texts.len().max(numbers.len()) > MAX_NAMES {
        return None;
    }
    let names: Vec<Box<str>> = if texts.is_empty() {
        numbers.iter().map(|label| label.to_string().into()).collect()
    } else {
        texts.iter().map(|text| std::str::from_utf8(text).ok().map(Into::into)).collect::<Option<_>>()?
    };
    let mut sorted: Vec<&str> = names.iter().map(|name| &**name).collect();
    sorted.sort_unstable();
    let distinct = sorted.windows(2).all(|pair| pair[0] != pair[1]);
    let short = names.iter().all(|name| name.chars().count() <= MAX_CHARS);
    (distinct && short && !names.is_empty()).then_some(names)
}

/// `None` for 0, 1, 2, …
fn telling(names: Vec<Box<str>>) -> Option<Vec<Box<str>>> {
    let counted = names.iter().enumerate().all(|(at, name)| **name == *at.to_string());
    (!counted).then_some(names)
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{TensorShapeProto, TypeProto, tensor_shape_proto::Dimension, type_proto};

    use super::*;

    fn node(op: &str, output: [&str; 2], labels: &[&str], ints: (&str, &[i64])) -> NodeProto {
        let texts = AttributeProto {
            name: "classlabels_strings".into(),
            strings: labels.iter().map(|label| label.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        };
        let numbers = AttributeProto { name: ints.0.into(), ints: ints.1.to_vec(), ..AttributeProto::default() };
        NodeProto {
            op_type: op.into(),
            domain: if op == "Identity" || op == "Relu" { "" } else { "ai.onnx.ml" }.into(),
            input: vec!["p".into()],
            output: output.map(str::to_owned).to_vec(),
            attribute: vec![texts, numbers],
            ..NodeProto::default()
        }
    }

    fn names(node: Vec<NodeProto>) -> String {
        let output = vec![ValueInfoProto { name: "y".into(), ..ValueInfoProto::default() }];
        let names = class_names(&GraphProto { node, output, ..GraphProto::default() });
        names.get("y").map_or_else(|| "-".to_owned(), |names| names.join(","))
    }

    #[test]
    fn names_are_found_behind_what_keeps_columns() {
        let none: (&str, &[i64]) = ("", &[]);
        let ints = "classlabels_int64s";
        assert_eq!(names(vec![node("ZipMap", ["y", ""], &["a", "b"], none)]), "a,b");
        assert_eq!(names(vec![node("ZipMap", ["y", ""], &[], (ints, &[0, 1]))]), "0,1");
        let tree = |labels: &[&str], ints| node("TreeEnsembleClassifier", ["l", "p"], labels, ints);
        let through = |op: &str, first| names(vec![first, node(op, ["y", ""], &[], none)]);
        for op in ["Identity", "Normalizer"] {
            assert_eq!(through(op, tree(&["a", "b"], none)), "a,b");
            assert_eq!(through(op, tree(&[], (ints, &[3, 8]))), "3,8");
        }
        assert_eq!(through("Identity", tree(&[], (ints, &[0, 1, 2]))), "-", "the index says that");
        assert_eq!(through("Relu", tree(&["a", "b"], none)), "-");
        assert_eq!(through("Identity", node("TreeEnsembleClassifier", ["p", "s"], &["a", "b"], none)), "-", "labels");
        let mut machine = node("SVMClassifier", ["l", "y"], &["a", "b"], none);
        assert_eq!(names(vec![machine.clone()]), "-", "pairs of classes");
        machine.attribute.push(AttributeProto { name: "prob_a".into(), floats: vec![1.0], ..Default::default() });
        assert_eq!(names(vec![machine]), "a,b");
    }

    #[test]
    fn names_are_as_many_as_columns() {
        let zip = node("ZipMap", ["y", ""], &["a", "b"], ("", &[]));
        let with = |columns| {
            let dim = vec![Dimension { value: Some(DimensionValue::DimValue(columns)), ..Dimension::default() }];
            let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
            let r#type = Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() });
            let output = vec![ValueInfoProto { name: "y".into(), r#type, ..ValueInfoProto::default() }];
            class_names(&GraphProto { node: vec![zip.clone()], output, ..GraphProto::default() }).len()
        };
        assert_eq!((with(2), with(3)), (1, 0));
    }

    #[test]
    fn what_is_no_name_is_left_out() {
        let none: (&str, &[i64]) = ("", &[]);
        let zip = |labels: &[&str]| names(vec![node("ZipMap", ["y", ""], labels, none)]);
        assert_eq!(zip(&["a", "a"]), "-");
        assert_eq!(zip(&["a", &"b".repeat(201)]), "-");
        let mut bytes = node("ZipMap", ["y", ""], &["a", "b"], none);
        bytes.attribute[0].strings[1] = vec![0xff];
        assert_eq!(names(vec![bytes]), "-");
        let many: Vec<i64> = (0..=MAX_NAMES as i64).map(|label| 2 * label).collect();
        assert_eq!(names(vec![node("ZipMap", ["y", ""], &[], ("classlabels_int64s", &many))]), "-");
        let mut circle = node("Identity", ["y", ""], &[], none);
        circle.input = vec!["y".into()];
        assert_eq!(names(vec![circle]), "-");
    }
}
