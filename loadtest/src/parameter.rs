//! Request parameters: `--parameter NAME=VALUE` and the tables of scenario files, in the form of either protocol. Used by
//! `class`, `wire_grpc` and `wire_http`.

use serde::{Deserialize, Serialize};

use crate::error::{Fault, Result};
use crate::pb::InferParameter;
use crate::pb::infer_parameter::ParameterChoice;

/// A named value.
pub(crate) type Parameter = (String, Value);

/// What a parameter can hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Value {
    /// The value in a gRPC message.
    pub(crate) fn message(&self) -> InferParameter {
        let choice = match self {
            Self::Bool(value) => ParameterChoice::BoolParam(*value),
            Self::Int(value) => ParameterChoice::Int64Param(*value),
            Self::Float(value) => ParameterChoice::DoubleParam(*value),
            Self::Text(value) => ParameterChoice::StringParam(value.clone()),
        };
        InferParameter { parameter_choice: Some(choice) }
    }
}

/// `NAME=VALUE`: `true` and `false` are truth values, whole numbers are integers, the rest is text. Used as clap's parser.
///
/// # Errors
/// No `=`, or no name before it.
pub(crate) fn parse(text: &str) -> Result<Parameter> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or_else(|| Fault::new("parameter", "expected NAME=VALUE"))?;
    let value = match (value, value.parse::<i64>()) {
        ("true", _) => Value::Bool(true),
        ("false", _) => Value::Bool(false),
        (_, Ok(number)) => Value::Int(number),
        (text, Err(_)) => Value::Text(text.to_owned()),
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_type_they_look_like() {
        assert_eq!(parse("a=1").unwrap(), ("a".into(), Value::Int(1)));
        assert_eq!(parse("a=true").unwrap().1, Value::Bool(true));
        assert_eq!(parse("a=u=7").unwrap().1, Value::Text("u=7".into()));
        assert!(parse("a").is_err() && parse("=1").is_err());
        assert_eq!(serde_json::to_string(&parse("a=1").unwrap().1).unwrap(), "1");
    }
}
