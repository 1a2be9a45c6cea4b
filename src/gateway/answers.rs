//! What the answer of a route tells besides its outputs: response parameters, and the path of every row on request.

use smallvec::smallvec;

use crate::{
    compose::Facts,
    types::{DType, Error, NamedTensor, ParamValue, Params, Tensor},
};

/// The request parameter that asks for the path.
const EXPLAIN: &str = "weir_explain";
/// The output that holds it.
const PATH: &str = "weir_path";

/// Whether the caller wants to know the path of every row.
///
/// # Errors
/// `InvalidArgument` when the parameter is no boolean.
pub(super) fn explain(params: &Params) -> Result<bool, Error> {
    match params.get(EXPLAIN) {
        None => Ok(false),
        Some(ParamValue::Bool(explain)) => Ok(*explain),
        Some(ParamValue::Text(text)) if matches!(&**text, "true" | "false") => Ok(&**text == "true"),
        Some(other) => Err(Error::expected("parameter 'weir_explain'", "true or false", other)),
    }
}

/// The path as an output, INT32 `[rows]`.
///
/// # Errors
/// Never for a path of any length.
pub(super) fn path(path: Vec<i32>) -> Result<NamedTensor, Error> {
    let tensor = Tensor::from_vec(DType::Int32, smallvec![path.len()], path)?;
    Ok(NamedTensor { name: PATH.into(), tensor })
}

/// The response parameters of a route's answer.
pub(super) fn params(revision: u64, facts: &Facts) -> Params {
    let mut params = Params::default();
    params.set("weir_revision", ParamValue::Int(i64::try_from(revision).unwrap_or(i64::MAX)));
    if let Some(split) = &facts.split {
        params.set("weir_variant", ParamValue::Text((&*split.variant).into()));
        params.set("weir_model", ParamValue::Text((&*split.model).into()));
        params.set("weir_version", ParamValue::Text((&*split.version).into()));
        params.set("weir_sticky", ParamValue::Bool(split.sticky));
    }
    if !facts.stage_rows.is_empty() {
        let rows: Vec<String> = facts.stage_rows.iter().map(ToString::to_string).collect();
        params.set("weir_stage_rows", ParamValue::Text(rows.join(",").into()));
    }
    if facts.degraded {
        params.set("weir_degraded", ParamValue::Bool(true));
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::SplitFacts;

    fn shown(params: &Params) -> Vec<String> {
        params.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn every_fact_is_told() {
        assert_eq!(shown(&params(3, &Facts::default())), ["weir_revision=3"]);
        let split =
            SplitFacts { variant: "a".into(), model: "m".into(), version: "1".into(), sticky: true, requests: None };
        let facts = Facts { split: Some(split), stage_rows: vec![28, 4], degraded: true };
        let want = [
            "weir_revision=12",
            "weir_variant=a",
            "weir_model=m",
            "weir_version=1",
            "weir_sticky=true",
            "weir_stage_rows=28,4",
            "weir_degraded=true",
        ];
        assert_eq!(shown(&params(12, &facts)), want);
    }

    #[test]
    fn explain_is_a_boolean() {
        let with = |value| {
            let mut params = Params::default();
            params.set(EXPLAIN, value);
            explain(&params)
        };
        assert_eq!(explain(&Params::default()), Ok(false));
        assert_eq!(with(ParamValue::Bool(true)), Ok(true));
        assert_eq!(with(ParamValue::Text("true".into())), Ok(true));
        let error = with(ParamValue::Int(1)).unwrap_err();
        assert_eq!(error.text(), "parameter 'weir_explain': expected true or false, got 1");
    }
}
