//! A typed graph as a [`Model`]: its signature, and one compiled plan per batch size. Made by `TractEngine::load`.

use std::{collections::HashMap, sync::Arc};

use tract_onnx::{
    pb::{GraphProto, ModelProto, ValueInfoProto, tensor_proto::DataType, type_proto::Value},
    prelude::{DatumType, Symbol, TDim, TractResult, TypedModel},
    tract_hir::internal::ToDim as _,
};

use super::{
    super::{
        LoadError, Model, Plan,
        class_names::class_names,
        guard::{error_text, on_big_stack},
        precheck,
    },
    dtype::{datum_of, dtype_of},
    plan::{ByShape, Code, Compiled, Options, Refusal, TractPlan},
    probing::{Fact, Probed, facts},
    typing::{Once, Typed},
};
use crate::types::{Batch, ClassNames, DType, Shape, Signature, TensorSpec};

/// A loaded graph.
pub(super) struct TractModel {
    signature: Arc<Signature>,
    graph: Graph,
    order_dependent: Vec<String>,
    class_names: ClassNames,
    options: Options,
}

/// What plans are compiled from.
enum Graph {
    Once(Arc<TypedModel>, Option<Symbol>),
    BySize(Arc<Probed>),
}

impl TractModel {
    /// Derives the signature of a typed graph.
    ///
    /// # Errors
    /// When an input or output has a type or shape that cannot be served.
    pub(super) fn new(proto: &ModelProto, typed: Typed, options: Options) -> Result<Self, LoadError> {
        let declared = proto.graph.as_ref().ok_or_else(|| LoadError::new("model: has no graph"))?;
        let fail = |error| LoadError::new(format!("graph: {}", error_text(&error)));
        let (inputs, outputs, graph) = match typed {
            Typed::Once(Once { graph, rows }) => {
                let rows = rows.filter(|rows| is_row_wise(&graph, rows));
                let inputs = facts(&graph, &graph.inputs).map_err(fail)?;
                let outputs = facts(&graph, &graph.outputs).map_err(fail)?;
                (inputs, outputs, Graph::Once(Arc::new(graph), rows))
            }
            Typed::BySize(probed) => {
                (probed.inputs().map_err(fail)?, probed.outputs.clone(), Graph::BySize(Arc::new(probed)))
            }
        };
        let names: Vec<_> = declared.output.iter().map(|output| output.name.as_str()).collect();
        let inputs = specs("input", &input_names(declared), inputs)?;
        let mut outputs = specs("output", &names, outputs)?;
        for (spec, declared) in outputs.iter_mut().zip(&declared.output) {
            spec.dtype = declared_dtype(spec, declared)?;
        }
        let batch = if graph.is_row_wise() { Batch::Rows } else { Batch::None };
        let signature = Arc::new(Signature { inputs, outputs, batch });
        let (order_dependent, class_names) = (precheck::order_dependent(declared), class_names(declared));
        Ok(Self { signature, graph, order_dependent, class_names, options })
    }

    /// The sizes that inputs have in a plan for so many rows.
    fn shapes(&self, rows: Option<usize>) -> Vec<Vec<Option<usize>>> {
        let mut shapes: Vec<_> = self.signature.inputs.iter().map(|spec| spec.shape.clone()).collect();
        if rows.is_some() {
            shapes.iter_mut().filter_map(|shape| shape.first_mut()).for_each(|first| *first = rows);
        }
        shapes
    }

    fn code(&self, rows: Option<usize>) -> TractResult<Code> {
        match &self.graph {
            Graph::Once(graph, symbol) => {
                let rows = symbol.clone().zip(rows.map(|rows| rows.to_dim()));
                let fixed: HashMap<_, _> = rows.into_iter().collect();
                let error = match Compiled::new(graph, &fixed, &self.options) {
                    Ok(compiled) => return Ok(Code::One(compiled)),
                    Err(refusal) => refusal.error(),
                };
                let others = graph.inputs.iter().map(|outlet| graph.outlet_fact(*outlet));
                let others = others.collect::<TractResult<Vec<_>>>()?;
                let mut symbols = others.iter().flat_map(|fact| fact.shape.iter()).flat_map(TDim::symbols);
                if symbols.all(|symbol| fixed.contains_key(&symbol)) {
                    return Err(error);
                }
                let (graph, options) = (Arc::clone(graph), self.options.clone());
                Ok(by_shape(move |shapes| {
                    let symbols = symbols_of(&graph, shapes).map_err(Refusal::Sizes)?;
                    Compiled::new(&graph, &symbols, &options)
                }))
            }
            Graph::BySize(probed) => {
                let fixed: Option<Vec<Shape>> =
                    self.shapes(rows).into_iter().map(|shape| shape.into_iter().collect()).collect();
                let (probed, options) = (Arc::clone(probed), self.options.clone());
                let compile = move |shapes: &[Shape]| {
                    let typed = probed.typed(shapes).map_err(Refusal::Sizes)?;
                    Compiled::new(&typed, &HashMap::new(), &options)
                };
                match fixed {
                    Some(shapes) => compile(&shapes).map(Code::One).map_err(Refusal::error),
                    None => Ok(by_shape(compile)),
                }
            }
        }
    }
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn order_dependent(&self) -> Vec<String> {
        self.order_dependent.clone()
    }

    fn class_names(&self) -> ClassNames {
        self.class_names.clone()
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        let subject = match (rows, self.signature.batch) {
            (Some(0), _) => return Err(LoadError::new("plan: expected at least 1 row, got 0")),
            (Some(rows), Batch::Rows) => format!("plan for {rows} rows"),
            (None, Batch::None) => "plan".to_owned(),
            (Some(_), Batch::None) => return Err(LoadError::new("plan: the model has no batch dimension")),
            (None, Batch::Rows) => return Err(LoadError::new("plan: expected a number of rows, got none")),
        };
        let code = on_big_stack(&subject, || {
            self.code(rows).map_err(|error| LoadError::new(format!("{subject}: {}", error_text(&error))))
        })?;
        Ok(Arc::new(TractPlan { code, signature: Arc::clone(&self.signature), limits: self.options.limits }))
    }
}

impl Graph {
    fn is_row_wise(&self) -> bool {
        match self {
            Graph::Once(_, rows) => rows.is_some(),
            Graph::BySize(probed) => probed.row_wise,
        }
    }
}

fn by_shape(compile: impl Fn(&[Shape]) -> Result<Compiled, Refusal> + Send + Sync + 'static) -> Code {
    Code::ByShape(Arc::new(ByShape::new(Box::new(compile))))
}

/// What the symbols of a graph's inputs are when the inputs have these shapes.
fn symbols_of(graph: &TypedModel, shapes: &[Shape]) -> TractResult<HashMap<Symbol, TDim>> {
    let mut symbols = HashMap::new();
    for (outlet, shape) in graph.inputs.iter().zip(shapes) {
        for (dim, size) in graph.outlet_fact(*outlet)?.shape.iter().zip(shape) {
            if let TDim::Sym(symbol) = dim {
                symbols.insert(symbol.clone(), size.to_dim());
            }
        }
    }
    Ok(symbols)
}

/// Names of the graph's inputs that callers give: those without an initial value.
fn input_names(graph: &GraphProto) -> Vec<&str> {
    let initial = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    graph.input.iter().map(|input| input.name.as_str()).filter(|name| !initial(name)).collect()
}

fn specs(kind: &str, names: &[&str], facts: Vec<Fact>) -> Result<Vec<TensorSpec>, LoadError> {
    if names.len() != facts.len() {
        let text = format!("{kind}s: expected {}, got {} from the graph", names.len(), facts.len());
        return Err(LoadError::new(text));
    }
    let spec = |(name, (datum, shape)): (&&str, Fact)| {
        let dtype = dtype_of(datum);
        let dtype = dtype.ok_or_else(|| LoadError::new(format!("{kind} '{name}': has the type {datum:?}")))?;
        Ok(TensorSpec { name: (*name).into(), dtype, shape })
    };
    names.iter().zip(facts).map(spec).collect()
}

/// The type that an output is declared with; that of the graph where none is. They may differ, since the graph library
/// widens some integers on its own.
fn declared_dtype(spec: &TensorSpec, declared: &ValueInfoProto) -> Result<DType, LoadError> {
    let Some(Value::TensorType(tensor)) = declared.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Ok(spec.dtype);
    };
    let datum = DataType::try_from(tensor.elem_type).ok().and_then(|elem| DatumType::try_from(elem).ok());
    let Some(dtype) = datum.and_then(dtype_of) else { return Ok(spec.dtype) };
    let alike = |kind: fn(DType) -> bool| kind(dtype) == kind(spec.dtype);
    let convertible = alike(|dtype| dtype == DType::Bytes) && alike(DType::is_float) && datum_of(dtype).is_some();
    if convertible {
        Ok(dtype)
    } else {
        Err(LoadError::new(format!("output '{}': declared as {dtype}, is {}", spec.name, spec.dtype)))
    }
}

/// True when `rows` is dimension 0 of every output, and no other dimension depends on it. Inputs were looked at before.
fn is_row_wise(graph: &TypedModel, rows: &Symbol) -> bool {
    let first = TDim::Sym(rows.clone());
    graph.outputs.iter().all(|outlet| {
        graph.outlet_fact(*outlet).is_ok_and(|fact| match fact.shape.dims() {
            [dim, rest @ ..] => *dim == first && rest.iter().all(|dim| !dim.symbols().contains(rows)),
            [] => false,
        })
    })
}
