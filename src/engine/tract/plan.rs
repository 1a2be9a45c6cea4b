//! A graph compiled for one batch size. Where it could not be compiled without knowing all sizes, it is compiled again for
//! the shapes that come. Made by `TractModel::plan`, used by the scheduler through [`Plan`].

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tract_onnx::{
    prelude::{Symbol, SymbolValues, TDim, TractResult, TypedModel, TypedSimplePlan},
    tract_hir::{
        internal::{DimLike as _, IntoRunnable as _, bail},
        tract_core::ops::konst::Const,
    },
};

use super::{
    super::{EngineError, Limits, LoadError, Plan, Session, guard::on_big_stack},
    agreement::{self, Agreement},
    faster::{self, Packings},
    session::TractSession,
    sizes,
};
use crate::types::{Shape, Signature};

/// Shapes that a plan keeps compiled graphs for.
const KEPT_SHAPES: usize = 8;

/// How the graphs of a model are compiled.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) limits: Limits,
    /// Weights that the plans of all sizes share; `None` leaves the graph as the library makes it.
    packings: Option<Arc<Packings>>,
}

impl Options {
    pub(super) fn new(limits: Limits, faster: bool) -> Self {
        Self { limits, packings: faster.then(Arc::default) }
    }
}

/// A compiled graph.
#[derive(Clone)]
pub(super) struct Compiled {
    pub(super) plan: Arc<TypedSimplePlan>,
    /// Sizes that it takes, by input; `None` = any.
    pub(super) shapes: Arc<[Vec<Option<usize>>]>,
    /// Some operators make as much as the values of a request say.
    pub(super) by_value: bool,
    /// What the sizes that come have to be like.
    pub(super) agreements: Arc<[Agreement]>,
}

impl Compiled {
    /// Replaces `fixed` symbols by their numbers and compiles.
    ///
    /// # Errors
    /// When that does not work, or takes more memory than there may be.
    pub(super) fn new(graph: &TypedModel, fixed: &HashMap<Symbol, TDim>, options: &Options) -> TractResult<Self> {
        let mut graph = if fixed.is_empty() { graph.clone() } else { graph.set_symbols(fixed)? };
        let none = SymbolValues::default();
        sizes::check(&graph, &none)?;
        check_outputs(&graph, options.limits)?;
        let agreements = agreement::of(&graph)?.into();
        if let Some(packings) = &options.packings {
            faster::rewrite(&mut graph, packings)?;
        }
        let plan = graph.into_optimized()?.into_runnable()?;
        sizes::check(plan.model(), &none)?;
        let shape = |input| -> TractResult<Vec<_>> {
            let fact = plan.model().input_fact(input)?;
            Ok(fact.shape.iter().map(|dim| dim.to_usize().ok()).collect())
        };
        let shapes = (0..plan.model().inputs.len()).map(shape).collect::<TractResult<_>>()?;
        let by_value = sizes::is_by_value(plan.model());
        Ok(Self { plan, shapes, by_value, agreements })
    }

    /// The constants of the compiled graph, by address, and their bytes; packed ones included.
    fn parts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.plan.model().nodes.iter().filter_map(|node| {
            let Some(constant) = node.op_as::<Const>() else { return faster::part(&*node.op) };
            let bytes = node.outputs.first()?.fact.mem_size().to_usize().ok()?;
            Some((Arc::as_ptr(constant.val()).addr(), bytes))
        })
    }

    /// True when every size is known, so that nothing has to be checked when it runs.
    pub(super) fn is_fixed(&self) -> bool {
        self.shapes.iter().flatten().all(Option::is_some)
    }
}

fn check_outputs(graph: &TypedModel, limits: Limits) -> TractResult<()> {
    let none = SymbolValues::default();
    let facts = graph.outputs.iter().map(|outlet| graph.outlet_fact(*outlet));
    let bytes = facts.map(|fact| Ok(sizes::bytes(fact?, &none).unwrap_or(0))).sum::<TractResult<i64>>()?;
    if usize::try_from(bytes).is_ok_and(|bytes| bytes > limits.max_output_bytes) {
        bail!("outputs: expected at most {} bytes, got {bytes}", limits.max_output_bytes);
    }
    Ok(())
}

/// How a plan gets at compiled graphs.
#[derive(Clone)]
pub(super) enum Code {
    /// One for all shapes.
    One(Compiled),
    /// One for each list of input shapes.
    ByShape(Arc<ByShape>),
}

type Compile = dyn Fn(&[Shape]) -> Result<Compiled, LoadError> + Send + Sync;

/// Graphs by input shapes, compiled when they are first asked for; the last few are kept.
pub(super) struct ByShape {
    compile: Box<Compile>,
    kept: Mutex<VecDeque<(Vec<Shape>, Compiled)>>,
}

impl ByShape {
    pub(super) fn new(compile: Box<Compile>) -> Self {
        Self { compile, kept: Mutex::new(VecDeque::new()) }
    }

    /// The graph for inputs of these shapes. Others wait while one is compiled, so that none is compiled twice.
    ///
    /// # Errors
    /// When the graph cannot take these shapes.
    pub(super) fn get(&self, shapes: &[Shape]) -> Result<Compiled, EngineError> {
        let mut kept = self.kept.lock();
        if let Some((_, compiled)) = kept.iter().find(|(known, _)| known == shapes) {
            return Ok(compiled.clone());
        }
        let compiled = on_big_stack("plan", || Ok((self.compile)(shapes)));
        let compiled = compiled.map_err(EngineError::new)?.map_err(EngineError::unfit)?;
        kept.truncate(KEPT_SHAPES - 1);
        kept.push_front((shapes.to_vec(), compiled.clone()));
        Ok(compiled)
    }
}

/// The plan of one batch size.
pub(super) struct TractPlan {
    pub(super) code: Code,
    pub(super) signature: Arc<Signature>,
    pub(super) limits: Limits,
}

impl Plan for TractPlan {
    fn parts(&self) -> Vec<(usize, usize)> {
        match &self.code {
            Code::One(compiled) => compiled.parts().collect(),
            Code::ByShape(by_shape) => by_shape.kept.lock().iter().flat_map(|(_, one)| one.parts()).collect(),
        }
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(TractSession::new(self.code.clone(), Arc::clone(&self.signature), self.limits)?))
    }
}
