//! From a decoded model to a typed graph whose batch dimension has a name. Exporters leave dimensions unnamed, name them
//! differently per input, or leave stale shapes inside the graph; typing is tried from the least trusting reading on.
//! Called by `load`.

use std::collections::HashMap;

use tract_onnx::{
    Onnx,
    pb::ModelProto,
    prelude::{Framework as _, InferenceModelExt as _, Symbol, SymbolValues, TDim, TVec, TractResult, TypedModel},
    tract_hir::{
        infer::{DimFact, Factoid as _, InferenceModel, ShapeFactoid},
        internal::{ToDim as _, ensure},
        tract_core::ops::scan::Scan,
    },
};

use super::{
    super::{LoadError, guard::error_text, onnx_fixes},
    agreement, probing,
    probing::Probed,
    sizes,
};

/// A graph that can be served.
pub(super) enum Typed {
    /// Typed once, with symbols for what is not fixed.
    Once(Once),
    /// Only typed when every size is a number.
    BySize(Probed),
}

/// A typed, decluttered graph and the symbol that stands for its rows, if its inputs can have one.
pub(super) struct Once {
    /// The graph with symbolic dimensions.
    pub(super) graph: TypedModel,
    /// Dimension 0 of every input; `None` when some input has a fixed or no dimension 0, or they differ.
    pub(super) rows: Option<Symbol>,
}

/// How a model's dimensions are read.
#[derive(Clone, Copy)]
struct Reading {
    /// Shapes declared inside the graph are ignored: they may be stale.
    ignore_inner_shapes: bool,
    /// Differently named first dimensions of inputs are taken to be one.
    one_batch: bool,
    /// Recurrent operators are our own, where the library cannot compile its own.
    own_recurrence: bool,
}

/// From the least trusting on; the error that is reported is that of the first.
const READINGS: [Reading; 4] = [
    Reading { ignore_inner_shapes: true, one_batch: false, own_recurrence: false },
    Reading { ignore_inner_shapes: false, one_batch: false, own_recurrence: false },
    Reading { ignore_inner_shapes: true, one_batch: true, own_recurrence: false },
    Reading { ignore_inner_shapes: true, one_batch: false, own_recurrence: true },
];

/// Types a model.
///
/// # Errors
/// Why the graph does not hold together, in the words of the first reading.
pub(super) fn typed(onnx: &Onnx, proto: &ModelProto) -> Result<Typed, LoadError> {
    let mut first = None;
    for reading in READINGS {
        match once(onnx, proto, reading) {
            Ok(once) => return Ok(Typed::Once(once)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    for reading in READINGS {
        if let Ok((model, rows)) = parse(onnx, proto, reading)
            && let Some(probed) = probing::probe(model, rows)
        {
            return Ok(Typed::BySize(probed));
        }
    }
    let text = first.map_or_else(String::new, |error| error_text(&error));
    Err(LoadError::new(format!("graph: {text}")))
}

fn once(onnx: &Onnx, proto: &ModelProto, reading: Reading) -> TractResult<Once> {
    let (model, rows) = parse(onnx, proto, reading)?;
    let graph = agreement::settled(declutter(model)?, rows.as_ref())?;
    if let Some(rows) = &rows {
        check_substitution(&graph, rows)?;
    }
    Ok(Once { graph, rows })
}

/// Some operators keep a symbol to themselves when it is replaced by a number; their graphs are typed by size.
fn check_substitution(graph: &TypedModel, rows: &Symbol) -> TractResult<()> {
    let mut fixed = graph.set_symbols(&HashMap::from([(rows.clone(), 2.to_dim())]))?;
    for node in &fixed.nodes {
        let mut dims = node.outputs.iter().flat_map(|output| output.fact.shape.iter());
        ensure!(
            !dims.any(|dim| dim.symbols().contains(rows)),
            "node '{}' ({}): its rows stay {rows}",
            node.name,
            node.op.name()
        );
    }
    // What the library makes of recurrent operators may be found not to hold together only now: when it is simplified for more rows
    // than one. Once that is done, compiling it adds no failure, and would take four times as long again.
    if fixed.nodes.iter().any(|node| node.op_is::<Scan>()) {
        fixed.declutter()?;
    }
    Ok(())
}

fn parse(onnx: &Onnx, proto: &ModelProto, reading: Reading) -> TractResult<(InferenceModel, Option<Symbol>)> {
    let mut onnx = onnx.clone().with_ignore_value_info(reading.ignore_inner_shapes);
    if reading.own_recurrence {
        onnx_fixes::own_recurrence(&mut onnx.op_register);
    }
    let mut model = onnx.model_for_proto_model(proto)?;
    let rows = name_dimensions(&mut model, reading.one_batch)?;
    Ok((model, rows))
}

/// Types and simplifies. Constants are only computed once it is known how large everything is.
pub(super) fn declutter(model: InferenceModel) -> TractResult<TypedModel> {
    let graph = model.into_typed()?;
    sizes::check(&graph, &SymbolValues::default())?;
    graph.into_decluttered()
}

/// Names every unknown input dimension: one symbol for all first ones, one of its own for each of the others. Returns the
/// symbol that every input has as its first dimension, if there is one.
fn name_dimensions(model: &mut InferenceModel, one_batch: bool) -> TractResult<Option<Symbol>> {
    let declared = declared_rows(model)?;
    let shared = match &declared[..] {
        [only] => only.clone(),
        _ => model.symbols.new_with_prefix("N"),
    };
    let learnt = learnt_sizes(model)?;
    let mut same = !model.inputs.is_empty();
    for input in 0..model.inputs.len() {
        let mut fact = model.input_fact(input)?.clone();
        let dims: Vec<_> = fact.shape.dims().cloned().collect();
        for (axis, dim) in dims.iter().enumerate() {
            if let Some(size) = learnt.get(&(input, axis)) {
                fact.shape.set_dim(axis, size.clone());
                continue;
            }
            let named = dim.concretize();
            let symbolic = named.as_ref().is_some_and(|dim| dim.as_i64().is_none());
            if axis == 0 && (named.is_none() || (one_batch && symbolic)) {
                fact.shape.set_dim(axis, shared.to_dim());
            } else if named.is_none() {
                let symbol = model.symbols.new_with_prefix(&format!("D{input}_{axis}"));
                fact.shape.set_dim(axis, symbol.to_dim());
            }
        }
        let mut dims = fact.shape.dims().map(|dim| dim.concretize());
        same &= dims.next().flatten() == Some(shared.to_dim());
        same &= dims.flatten().all(|dim| !dim.symbols().contains(&shared));
        model.set_input_fact(input, fact)?;
    }
    Ok(same.then_some(shared))
}

/// Sizes that the graph leaves no choice about, by input and axis, where the model does not say them: exporters leave the number
/// of features open although every weight knows it. Rows are left alone.
fn learnt_sizes(model: &InferenceModel) -> TractResult<HashMap<(usize, usize), TDim>> {
    let (mut open, mut facts) = (Vec::new(), Vec::new());
    for input in 0..model.inputs.len() {
        let mut fact = model.input_fact(input)?.clone();
        if fact.shape.rank().concretize().is_none() {
            continue;
        }
        let mut dims: TVec<_> = fact.shape.dims().cloned().collect();
        for (axis, dim) in dims.iter_mut().enumerate().skip(1) {
            if dim.concretize().is_none_or(|dim| dim.as_i64().is_none()) {
                *dim = DimFact::Any;
                open.push((input, axis));
            }
        }
        fact.shape = ShapeFactoid::closed(dims);
        facts.push((input, fact));
    }
    if open.is_empty() {
        return Ok(HashMap::new());
    }
    let mut trial = model.clone();
    for (input, fact) in facts {
        trial.set_input_fact(input, fact)?;
    }
    // Where something does not go together, what was learnt until then holds all the same, and the graph will be refused for it.
    let _ = trial.analyse(true);
    let learnt = open.into_iter().filter_map(|(input, axis)| {
        let size = trial.input_fact(input).ok()?.shape.dim(axis)?.concretize()?;
        size.as_i64().map(|_| ((input, axis), size))
    });
    Ok(learnt.collect())
}

/// The distinct symbols that inputs declare as their first dimension.
fn declared_rows(model: &InferenceModel) -> TractResult<Vec<Symbol>> {
    let mut symbols = Vec::new();
    for input in 0..model.inputs.len() {
        let first = model.input_fact(input)?.shape.dim(0).and_then(|dim| dim.concretize());
        if let Some(TDim::Sym(symbol)) = first
            && !symbols.contains(&symbol)
        {
            symbols.push(symbol);
        }
    }
    Ok(symbols)
}
