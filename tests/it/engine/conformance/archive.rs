//! The packed backend test cases: reads `tests/conformance/cases.bin.gz` and makes the forms in which a case is run.

use std::io::Read as _;

use prost::Message as _;
use serde::Deserialize;
use tract_onnx::pb::{
    ModelProto, TensorProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto::Value,
};

use super::super::*;

#[derive(Deserialize)]
struct Header {
    package: String,
    blobs: Vec<usize>,
    cases: Vec<Case>,
}

/// One test case; numbers are those of blobs.
#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) operator: String,
    rtol: f64,
    atol: f64,
    model: usize,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
}

/// All cases.
pub(super) struct Archive {
    pub(super) package: String,
    pub(super) cases: Vec<Case>,
    blobs: Vec<Bytes>,
}

/// How a case is given to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// As it is: every input comes with the request.
    Given,
    /// As exporters write it: only one input comes with the request, the others are constants of the model.
    Constants,
    /// As models are served: the same, and the first dimension of that input may be of any size.
    Rows,
}

impl Form {
    pub(super) const ALL: [Form; 3] = [Form::Given, Form::Constants, Form::Rows];
}

/// A case ready to be loaded and run.
pub(super) struct Ready {
    pub(super) form: Form,
    pub(super) file: Artifact,
    /// For each request the inputs by name, and the outputs in order; `None` = of a type that has no tensors here.
    pub(super) requests: Vec<Request>,
    pub(super) rtol: f64,
    pub(super) atol: f64,
}

pub(super) struct Request {
    pub(super) inputs: Vec<(String, Option<Tensor>)>,
    pub(super) outputs: Vec<Option<Tensor>>,
}

impl Archive {
    pub(super) fn read() -> Self {
        let packed = fs::read(root().join("tests/conformance/cases.bin.gz")).unwrap();
        let mut all = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut all).unwrap();
        let all = Bytes::from(all);
        let length = u32::from_le_bytes(all[..4].try_into().unwrap()) as usize;
        let header: Header = serde_json::from_slice(&all[4..4 + length]).unwrap();
        let mut at = 4 + length;
        let mut blob = |length: &usize| {
            let blob = all.slice(at..at + length);
            at += length;
            blob
        };
        let blobs = header.blobs.iter().map(&mut blob).collect();
        assert_eq!(at, all.len(), "cases.bin.gz: has more than its header says");
        Self { package: header.package, cases: header.cases, blobs }
    }

    fn proto(&self, number: usize) -> TensorProto {
        TensorProto::decode(self.blobs[number].clone()).unwrap()
    }

    /// A case in a form; `None` when the case has no such form.
    pub(super) fn ready(&self, case: &Case, form: Form) -> Option<Ready> {
        let bytes = self.blobs[case.model].clone();
        let mut model = ModelProto::decode(bytes.clone()).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let initial: Vec<_> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
        let names = graph.input.iter().map(|input| input.name.clone()).filter(|name| !initial.contains(name));
        let names: Vec<_> = names.collect();
        let read = |number: &Option<usize>| number.and_then(|number| tensor_of(&self.proto(number)));
        let mut requests: Vec<_> = case
            .sets
            .iter()
            .map(|set| Request {
                inputs: names.iter().cloned().zip(set.inputs.iter().map(read)).collect(),
                outputs: set.outputs.iter().map(read).collect(),
            })
            .collect();
        let mut file = Artifact { kind: ArtifactKind::Onnx, bytes, side_files: BTreeMap::new() };
        if form == Form::Given {
            return Some(Ready { form, file, requests, rtol: case.rtol, atol: case.atol });
        }
        // Without anything to turn into a constant or a batch, the form is that of another one.
        let [set] = &case.sets[..] else { return None };
        if names.is_empty() || (form == Form::Constants && names.len() == 1) {
            return None;
        }
        // The first input of a loop says how often it runs.
        let kept = if case.operator == "Loop" { names.len() - 1 } else { 0 };
        for (_, (name, number)) in names.iter().zip(&set.inputs).enumerate().filter(|(at, _)| *at != kept) {
            graph.input.retain(|input| input.name != *name);
            graph.initializer.push(TensorProto { name: name.clone(), ..self.proto((*number)?) });
        }
        requests[0].inputs = vec![requests[0].inputs.swap_remove(kept)];
        if form == Form::Rows {
            // The shapes in the file are those of one request.
            graph.value_info.clear();
            graph.output.iter_mut().try_for_each(without_shape)?;
            let input = graph.input.iter_mut().find(|input| input.name == names[kept])?;
            let Some(Value::TensorType(kind)) = input.r#type.as_mut()?.value.as_mut() else { return None };
            kind.shape.as_mut()?.dim.first_mut()?.value = Some(dimension::Value::DimParam("N".to_owned()));
        }
        file.bytes = model.encode_to_vec().into();
        Some(Ready { form, file, requests, rtol: case.rtol, atol: case.atol })
    }
}

fn without_shape(output: &mut ValueInfoProto) -> Option<()> {
    let Some(Value::TensorType(kind)) = output.r#type.as_mut()?.value.as_mut() else { return None };
    kind.shape = None;
    Some(())
}

/// A tensor of a type that requests can have.
fn tensor_of(proto: &TensorProto) -> Option<Tensor> {
    let dtype = match DataType::try_from(proto.data_type).ok()? {
        DataType::Bool => DType::Bool,
        DataType::Uint8 => DType::Uint8,
        DataType::Uint16 => DType::Uint16,
        DataType::Uint32 => DType::Uint32,
        DataType::Uint64 => DType::Uint64,
        DataType::Int8 => DType::Int8,
        DataType::Int16 => DType::Int16,
        DataType::Int32 => DType::Int32,
        DataType::Int64 => DType::Int64,
        DataType::Float16 => DType::Fp16,
        DataType::Bfloat16 => DType::Bf16,
        DataType::Float => DType::Fp32,
        DataType::Double => DType::Fp64,
        DataType::String => DType::Bytes,
        _ => return None,
    };
    let shape: Shape = proto.dims.iter().map(|dim| *dim as usize).collect();
    if dtype == DType::Bytes {
        let items: Vec<Bytes> = proto.string_data.iter().map(|text| text.to_vec().into()).collect();
        return Some(Tensor::strings(shape, items.into()).unwrap());
    }
    Some(Tensor::plain(dtype, shape, proto.raw_data.to_vec().into()).unwrap())
}
