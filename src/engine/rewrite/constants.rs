//! Values that a file gives, as far as they decide how a graph is spelled out.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::super::precheck::numbers;

/// A small constant: numbers, as floats, which all that matter here are exact in.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) numbers: Vec<f64>,
    /// It is one number, not a list of one.
    pub(super) scalar: bool,
}

/// Small constants by name.
#[derive(Default)]
pub(super) struct Constants(HashMap<String, Value>);

impl Constants {
    /// Those of a graph, and of the graphs around it.
    pub(super) fn of(graph: &GraphProto, outer: &Self) -> Self {
        let mut constants = Self(outer.0.clone());
        for tensor in &graph.initializer {
            constants.insert(&tensor.name, value(tensor));
        }
        graph.node.iter().for_each(|node| constants.learn(node));
        constants
    }

    /// Looks at a node behind those that were looked at before.
    pub(super) fn learn(&mut self, node: &NodeProto) {
        let Some(output) = node.output.first() else { return };
        let value = match node.op_type.as_str() {
            "Constant" => constant(node),
            "Identity" | "Cast" => node.input.first().and_then(|name| self.get(name)).cloned(),
            _ => None,
        };
        self.insert(output, value);
    }

    fn insert(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The only number of a constant.
    pub(super) fn one(&self, name: &str) -> Option<i64> {
        match self.get(name).map(|value| value.numbers.as_slice()) {
            Some([value]) if value.fract() == 0.0 => Some(*value as i64),
            _ => None,
        }
    }
}

fn value(tensor: &TensorProto) -> Option<Value> {
    numbers(tensor).map(|numbers| Value { numbers, scalar: tensor.dims.is_empty() })
}

fn constant(node: &NodeProto) -> Option<Value> {
    let attribute = node.attribute.first()?;
    match attribute.name.as_str() {
        "value" => attribute.t.as_ref().and_then(value),
        "value_int" => Some(Value { numbers: vec![attribute.i as f64], scalar: true }),
        "value_ints" => {
            Some(Value { numbers: attribute.ints.iter().map(|value| *value as f64).collect(), scalar: false })
        }
        _ => None,
    }
}

/// A constant of integers: one number, or a list.
pub(super) fn integers(name: String, values: &[i64], scalar: bool) -> TensorProto {
    TensorProto {
        name,
        dims: if scalar { Vec::new() } else { vec![values.len() as i64] },
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A constant that is true or false.
pub(super) fn boolean(name: String, value: bool) -> TensorProto {
    let raw_data = vec![u8::from(value)];
    TensorProto { name, data_type: DataType::Bool as i32, raw_data, ..TensorProto::default() }
}
