//! The inputs of `weir infer` as they are written on the command line: `name=@file.npy`, or `name=[[1, 2]]` with the datatype
//! that the model has for it.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use bytes::Bytes;
use half::{bf16, f16};
use serde::Deserialize;
use serde_json::Value;

use super::{exit::Failure, npy};
use crate::{
    protocol::json::decode,
    types::{DType, Error, NamedTensor, Protocol, RequestContext, Tensor, VersionRef},
};

/// An input as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputArgument {
    name: String,
    value: InputValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum InputValue {
    /// A `.npy` file.
    File(PathBuf),
    /// JSON, not read yet.
    Literal(String),
}

impl FromStr for InputArgument {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected name=@file.npy or name=[…]";
        let (name, value) = text.split_once('=').ok_or(EXPECTED)?;
        if name.is_empty() || value.is_empty() || value == "@" {
            return Err(EXPECTED);
        }
        let value = match value.strip_prefix('@') {
            Some(path) => InputValue::File(path.into()),
            None => InputValue::Literal(value.to_owned()),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// An input as the model's metadata describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its datatype, in the wire's words.
    pub datatype: String,
}

impl InputArgument {
    /// True when the model must be asked for the datatype.
    pub fn is_literal(&self) -> bool {
        matches!(self.value, InputValue::Literal(_))
    }

    /// The tensor; `described` are the model's inputs, which only a literal needs.
    ///
    /// # Errors
    /// What is wrong with the file or the text, with the input's name.
    pub fn tensor(&self, described: &[Described]) -> Result<NamedTensor, Failure> {
        let tensor = match &self.value {
            InputValue::File(path) => read_file(path),
            InputValue::Literal(text) => datatype(&self.name, described).and_then(|dtype| read_literal(dtype, text)),
        };
        let name = &self.name;
        match tensor {
            Ok(tensor) => Ok(NamedTensor { name: name.as_str().into(), tensor }),
            Err(text) => Err(Failure::usage(format!("--input {name}: {text}"))),
        }
    }
}

fn read_file(path: &std::path::Path) -> Result<Tensor, String> {
    let file = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    npy::read(&file).map_err(|error| format!("{}: {error}", path.display()))
}

fn datatype(name: &str, described: &[Described]) -> Result<DType, String> {
    let Some(input) = described.iter().find(|input| input.name == name) else {
        let names: Vec<_> = described.iter().map(|input| input.name.as_str()).collect();
        return Err(format!("the model has no such input: expected '{}'", names.join("', '")));
    };
    DType::parse(&input.datatype).ok_or_else(|| format!("the model's datatype '{}' is unknown", input.datatype))
}

/// Reads a literal by the same rules as the data of a JSON request.
fn read_literal(dtype: DType, text: &str) -> Result<Tensor, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let mut shape = Vec::new();
    let mut level = &value;
    while let Value::Array(items) = level {
        shape.push(items.len());
        let Some(first) = items.first() else { break };
        level = first;
    }
    // JSON has no half floats, so they are read as floats; a scalar is an array without dimensions.
    let is_half = matches!(dtype, DType::Fp16 | DType::Bf16);
    let read_as = if is_half { DType::Fp32 } else { dtype };
    let data = if shape.is_empty() { format!("[{text}]") } else { text.to_owned() };
    let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"{read_as}","shape":{shape:?},"data":{data}}}]}}"#);
    let context = RequestContext::new(Protocol::Http, std::time::Instant::now());
    let body = Bytes::from(body);
    let unknown = || Err(Error::invalid("not a request"));
    let decoded = decode("m", VersionRef::Policy, &body, None).and_then(|body| body.request(context, unknown));
    let (request, _) = decoded.map_err(|error| without_subject(error.text()))?;
    let tensor = request.inputs.into_iter().next().ok_or("no input")?.tensor;
    if is_half { to_half(&tensor, dtype) } else { Ok(tensor) }
}

/// The error names the input of the request that was made up for it.
fn without_subject(text: &str) -> String {
    text.strip_prefix("input 'x': ").unwrap_or(text).to_owned()
}

fn to_half(tensor: &Tensor, dtype: DType) -> Result<Tensor, String> {
    let values = tensor.to_f32().ok_or("expected numbers")?;
    let fits =
        |finite: bool, value: f32| if finite { Ok(()) } else { Err(format!("{value} is out of range for {dtype}")) };
    let mut bytes = Vec::with_capacity(values.len() * 2);
    for value in values {
        if dtype == DType::Fp16 {
            let half = f16::from_f32(value);
            fits(half.is_finite(), value)?;
            bytes.extend_from_slice(&half.to_le_bytes());
        } else {
            let half = bf16::from_f32(value);
            fits(half.is_finite(), value)?;
            bytes.extend_from_slice(&half.to_le_bytes());
        }
    }
    Tensor::plain(dtype, tensor.shape().into(), bytes.into()).map_err(|error| error.to_string())
}

/// The names of inputs that were given twice, which would be sent and refused.
pub fn twice(inputs: &[InputArgument]) -> Option<Arc<str>> {
    let again =
        inputs.iter().enumerate().find(|(at, input)| inputs[..*at].iter().any(|other| other.name == input.name));
    again.map(|(_, input)| input.name.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Data;

    fn literal(dtype: DType, text: &str) -> Result<Tensor, String> {
        let argument: InputArgument = format!("a={text}").parse().unwrap();
        let described = [Described { name: "a".to_owned(), datatype: dtype.to_string() }];
        argument.tensor(&described).map(|named| named.tensor).map_err(|failure| failure.text)
    }

    #[test]
    fn arguments() {
        for text in ["", "a", "=1", "a=", "a=@"] {
            assert!(text.parse::<InputArgument>().is_err(), "{text}");
        }
        assert!(!"a=@x=y.npy".parse::<InputArgument>().unwrap().is_literal());
        assert!("a=[[1]]".parse::<InputArgument>().unwrap().is_literal());
        let inputs: Vec<InputArgument> = ["a=1", "b=1", "a=2"].map(|text| text.parse().unwrap()).into();
        assert_eq!(twice(&inputs).as_deref(), Some("a"));
        assert_eq!(twice(&inputs[..2]), None);
    }

    #[test]
    fn literals_take_the_models_datatype_and_their_own_shape() {
        let tensor = literal(DType::Fp32, "[[1, 2.5], [3e0, -4]]").unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (DType::Fp32, &[2, 2][..]));
        assert_eq!(tensor.to_f32().unwrap(), [1., 2.5, 3., -4.]);
        assert_eq!(literal(DType::Int64, "7").unwrap().shape(), [] as [usize; 0]);
        assert_eq!(literal(DType::Bool, "[true, false]").unwrap().bytes().as_ref(), [1, 0]);
        let text = literal(DType::Bytes, r#"[["a"], ["é"]]"#).unwrap();
        assert_eq!((text.shape(), text.byte_len()), (&[2, 1][..], 3));
        assert!(matches!(text.data(), Data::Strings(items) if items[1] == "é"));
        let half = literal(DType::Fp16, "[1.5]").unwrap();
        assert_eq!((half.dtype(), half.to_f32().unwrap()), (DType::Fp16, vec![1.5]));
        assert_eq!(literal(DType::Bf16, "[-2]").unwrap().to_f32().unwrap(), [-2.]);
    }

    #[test]
    fn what_does_not_fit_names_the_input() {
        for (dtype, text, expected) in [
            (DType::Int8, "[1.5]", "--input a: "),
            (DType::Uint8, "[256]", "--input a: "),
            (DType::Fp32, "[[1], [2, 3]]", "--input a: "),
            (DType::Fp32, "[1,", "--input a: not JSON: "),
            (DType::Fp32, "[null]", "--input a: "),
            (DType::Fp16, "[1e6]", "--input a: 1000000 is out of range for FP16"),
        ] {
            let error = literal(dtype, text).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("'x'"), "{text}: {error}");
        }
        let argument: InputArgument = "b=[1]".parse().unwrap();
        let described = [Described { name: "a".to_owned(), datatype: "FP32".to_owned() }];
        assert_eq!(
            argument.tensor(&described).unwrap_err().text,
            "--input b: the model has no such input: expected 'a'"
        );
        let file: InputArgument = "a=@/absent.npy".parse().unwrap();
        assert!(file.tensor(&[]).unwrap_err().text.starts_with("--input a: /absent.npy: "));
    }
}
