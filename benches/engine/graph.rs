//! Graphs built in code: nodes, seeded weights, a batch dimension of any size. Used by `families`.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension::Value as Size, type_proto,
};

/// Numbers that look random and are the same in every run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Of mean 0 and variance 1, nearly normal.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.unit() - 0.5).sum::<f32>() * 3_f32.sqrt()
    }
}

/// A graph that is being built. Operators return the name of their output.
pub(crate) struct Graph {
    graph: GraphProto,
    rng: Rng,
    made: usize,
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..AttributeProto::default() }
}

pub(crate) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..AttributeProto::default() }
}

pub(crate) fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Floats as i32, floats, ..AttributeProto::default() }
}

pub(crate) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s: s.into(), ..AttributeProto::default() }
}

pub(crate) fn texts(name: &str, strings: Vec<Vec<u8>>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Strings as i32, strings, ..AttributeProto::default() }
}

fn value(name: &str, kind: DataType, row: &[usize]) -> ValueInfoProto {
    let rows = std::iter::once(Size::DimParam("N".into()));
    let dims = rows.chain(row.iter().map(|size| Size::DimValue(*size as i64)));
    let dim = dims.map(|value| Dimension { value: Some(value), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

impl Graph {
    pub(crate) fn new(seed: u64) -> Self {
        Self { graph: GraphProto { name: "g".into(), ..GraphProto::default() }, rng: Rng::new(seed), made: 0 }
    }

    fn name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}{}", self.made)
    }

    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub(crate) fn input(&mut self, name: &str, kind: DataType, row: &[usize]) {
        self.graph.input.push(value(name, kind, row));
    }

    /// Calls `made` what an operator calls something else.
    pub(crate) fn output(&mut self, name: &str, made: &str, kind: DataType, row: &[usize]) {
        self.node(("", "Identity"), &[made], &[name], Vec::new());
        self.graph.output.push(value(name, kind, row));
    }

    pub(crate) fn node(
        &mut self,
        (domain, op): (&str, &str),
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let name = self.name(op);
        self.graph.node.push(NodeProto {
            name,
            op_type: op.into(),
            domain: domain.into(),
            input: strings(inputs),
            output: strings(outputs),
            attribute,
            ..NodeProto::default()
        });
    }

    pub(crate) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.name("t");
        self.node(("", op), inputs, &[&output], attributes);
        output
    }

    pub(crate) fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(DataType::Float, dims, raw)
    }

    pub(crate) fn sizes(&mut self, dims: &[usize], values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(DataType::Int64, dims, raw)
    }

    fn initializer(&mut self, kind: DataType, dims: &[usize], raw_data: Vec<u8>) -> String {
        let name = self.name("w");
        let dims = dims.iter().map(|size| *size as i64).collect();
        let data_type = kind as i32;
        let tensor = TensorProto { name: name.clone(), dims, data_type, raw_data, ..TensorProto::default() };
        self.graph.initializer.push(tensor);
        name
    }

    /// Random weights that keep the size of what goes through: `fan` numbers are added up.
    pub(crate) fn weights(&mut self, dims: &[usize], fan: usize) -> String {
        let scale = (1.5 / fan as f32).sqrt();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.rng.normal() * scale).collect();
        self.constant(dims, &values)
    }

    /// A dense layer over the last of two dimensions.
    pub(crate) fn dense(&mut self, x: &str, from: usize, to: usize) -> String {
        let (weights, bias) = (self.weights(&[from, to], from), self.weights(&[to], 32));
        self.op("Gemm", &[x, &weights, &bias], Vec::new())
    }

    /// A dense layer over the last of three dimensions, as exporters write it.
    pub(crate) fn projection(&mut self, x: &str, from: usize, to: usize) -> String {
        let (weights, bias) = (self.weights(&[from, to], from), self.weights(&[to], 32));
        let product = self.op("MatMul", &[x, &weights], Vec::new());
        self.op("Add", &[&product, &bias], Vec::new())
    }

    /// A convolution with bias that keeps the sizes, or halves them.
    pub(crate) fn conv(
        &mut self,
        x: &str,
        (from, to, kernel): (usize, usize, usize),
        stride: usize,
        group: usize,
    ) -> String {
        let fan = from / group * kernel * kernel;
        let weights = self.weights(&[to, from / group, kernel, kernel], fan);
        let bias = self.weights(&[to], 32);
        let (kernel, stride, pad) = (kernel as i64, stride as i64, kernel as i64 / 2);
        let attributes = vec![
            ints("kernel_shape", vec![kernel; 2]),
            ints("strides", vec![stride; 2]),
            ints("pads", vec![pad; 4]),
            int("group", group as i64),
        ];
        self.op("Conv", &[x, &weights, &bias], attributes)
    }

    pub(crate) fn relu(&mut self, x: &str) -> String {
        self.op("Relu", &[x], Vec::new())
    }

    /// The model file.
    pub(crate) fn encode(self) -> Vec<u8> {
        let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![set("", 17), set("ai.onnx.ml", 3)],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}
