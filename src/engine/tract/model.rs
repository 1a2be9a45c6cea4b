//! A typed graph as a [`Model`]: its signature, and one compiled plan per batch size. Made by `TractEngine::load`.

use std::{collections::HashMap, sync::Arc};

use tract_onnx::{
    pb::{GraphProto, ModelProto, ValueInfoProto, type_proto::Value},
    prelude::{DatumType, OutletId, Symbol, TDim, TypedModel},
    tract_hir::internal::{DimLike as _, ToDim as _},
};

use super::{
    super::{Limits, LoadError, Model, Plan, precheck},
    dtype::{datum_of, dtype_of},
    guard::{error_text, on_big_stack},
    plan::TractPlan,
    typing::Typed,
};
use crate::types::{Batch, DType, Signature, TensorSpec};

/// A loaded graph.
pub(super) struct TractModel {
    signature: Arc<Signature>,
    graph: TypedModel,
    rows: Option<Symbol>,
    order_dependent: Vec<String>,
    limits: Limits,
}

impl TractModel {
    /// Derives the signature of a typed graph.
    ///
    /// # Errors
    /// When an input or output has a type or shape that cannot be served.
    pub(super) fn new(proto: &ModelProto, typed: Typed, limits: Limits) -> Result<Self, LoadError> {
        let Typed { graph, rows } = typed;
        let declared = proto.graph.as_ref().ok_or_else(|| LoadError::new("model: has no graph"))?;
        let inputs = specs("input", &input_names(declared), &graph, &graph.inputs)?;
        let names: Vec<_> = declared.output.iter().map(|output| output.name.as_str()).collect();
        let mut outputs = specs("output", &names, &graph, &graph.outputs)?;
        for (spec, declared) in outputs.iter_mut().zip(&declared.output) {
            spec.dtype = declared_dtype(spec, declared)?;
        }
        let rows = rows.filter(|rows| is_row_wise(&graph, rows));
        let batch = if rows.is_some() { Batch::Rows } else { Batch::None };
        let signature = Arc::new(Signature { inputs, outputs, batch });
        let order_dependent = precheck::order_dependent(declared);
        Ok(Self { signature, graph, rows, order_dependent, limits })
    }
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn order_dependent(&self) -> Vec<String> {
        self.order_dependent.clone()
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        let subject = match rows {
            Some(rows) => format!("plan for {rows} rows"),
            None => "plan".to_owned(),
        };
        let fixed = match (rows, &self.rows) {
            (Some(0), _) => return Err(LoadError::new("plan: expected at least 1 row, got 0")),
            (Some(rows), Some(symbol)) => HashMap::from([(symbol.clone(), rows.to_dim())]),
            (None, None) => HashMap::new(),
            (Some(_), None) => return Err(LoadError::new(format!("{subject}: the model has no batch dimension"))),
            (None, Some(_)) => return Err(LoadError::new("plan: expected a number of rows, got none")),
        };
        let plan = on_big_stack(&subject, || {
            TractPlan::compile(&self.graph, &fixed, Arc::clone(&self.signature), self.limits)
                .map_err(|error| LoadError::new(format!("{subject}: {}", error_text(&error))))
        })?;
        Ok(Arc::new(plan))
    }
}

/// Names of the graph's inputs that callers give: those without an initial value.
fn input_names(graph: &GraphProto) -> Vec<&str> {
    let initial = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    graph.input.iter().map(|input| input.name.as_str()).filter(|name| !initial(name)).collect()
}

fn specs(kind: &str, names: &[&str], graph: &TypedModel, outlets: &[OutletId]) -> Result<Vec<TensorSpec>, LoadError> {
    if names.len() != outlets.len() {
        let text = format!("{kind}s: expected {}, got {} from the graph", names.len(), outlets.len());
        return Err(LoadError::new(text));
    }
    names.iter().zip(outlets).map(|(name, outlet)| spec(kind, name, graph, *outlet)).collect()
}

fn spec(kind: &str, name: &str, graph: &TypedModel, outlet: OutletId) -> Result<TensorSpec, LoadError> {
    let fail = |text: String| LoadError::new(format!("{kind} '{name}': {text}"));
    let fact = graph.outlet_fact(outlet).map_err(|error| fail(error_text(&error)))?;
    let dtype = dtype_of(fact.datum_type).ok_or_else(|| fail(format!("has the type {:?}", fact.datum_type)))?;
    let shape = fact.shape.iter().map(|dim| dim.to_usize().ok()).collect();
    Ok(TensorSpec { name: name.into(), dtype, shape })
}

/// The type that an output is declared with; that of the graph where none is. They may differ, since the graph library
/// widens some integers on its own.
fn declared_dtype(spec: &TensorSpec, declared: &ValueInfoProto) -> Result<DType, LoadError> {
    let Some(Value::TensorType(tensor)) = declared.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Ok(spec.dtype);
    };
    let elem = tract_onnx::pb::tensor_proto::DataType::try_from(tensor.elem_type).ok();
    let datum = elem.and_then(|elem| DatumType::try_from(elem).ok());
    let Some(dtype) = datum.and_then(dtype_of) else { return Ok(spec.dtype) };
    let convertible = (dtype == DType::Bytes) == (spec.dtype == DType::Bytes) && datum_of(dtype).is_some();
    if convertible {
        Ok(dtype)
    } else {
        Err(LoadError::new(format!("output '{}': declared as {dtype}, is {}", spec.name, spec.dtype)))
    }
}

/// True when `rows` is dimension 0 of every input and output, and no other dimension depends on it.
fn is_row_wise(graph: &TypedModel, rows: &Symbol) -> bool {
    let first = TDim::Sym(rows.clone());
    graph.inputs.iter().chain(&graph.outputs).all(|outlet| {
        graph.outlet_fact(*outlet).is_ok_and(|fact| match fact.shape.dims() {
            [dim, rest @ ..] => *dim == first && rest.iter().all(|dim| !dim.symbols().contains(rows)),
            [] => false,
        })
    })
}
