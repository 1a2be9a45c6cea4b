//! A graph compiled for one batch size. Where it could not be compiled without knowing all sizes, it is compiled again for
//! the shapes that come. Made by `TractModel::plan`, used by the scheduler through [`Plan`].

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tract_onnx::{
    prelude::{Symbol, SymbolValues, TDim, TractError, TractResult, TypedModel, TypedSimplePlan},
    tract_hir::{
        internal::{DimLike as _, IntoRunnable as _, bail},
        tract_core::ops::konst::Const,
    },
};

use super::{
    super::{
        EngineError, Limits, Plan, Session,
        guard::{error_text, on_big_stack},
    },
    agreement::{self, Agreement},
    faster::{self, Packings},
    session::TractSession,
    sizes,
};
use crate::types::{Shape, Signature};

/// Shapes that a plan keeps compiled graphs for.
const KEPT_SHAPES: usize = 8;
/// Shapes that a plan remembers to have refused.
const KEPT_REFUSALS: usize = 64;

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
    pub(super) fn new(graph: &TypedModel, fixed: &HashMap<Symbol, TDim>, options: &Options) -> Result<Self, Refusal> {
        let graph = if fixed.is_empty() { Ok(graph.clone()) } else { graph.set_symbols(fixed) };
        let graph = graph.map_err(Refusal::Sizes)?;
        let agreements = looked_at(&graph, options.limits).map_err(Refusal::Sizes)?;
        let plan = optimized(graph, options).map_err(Refusal::Library)?;
        sizes::check(plan.model(), &SymbolValues::default()).map_err(Refusal::Sizes)?;
        Self::of(plan, agreements).map_err(Refusal::Library)
    }

    fn of(plan: Arc<TypedSimplePlan>, agreements: Arc<[Agreement]>) -> TractResult<Self> {
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

/// Why there is no graph for some shapes.
pub(super) enum Refusal {
    /// The sizes do not go together, or make tensors that are too large.
    Sizes(TractError),
    /// The library cannot compile what it has typed.
    Library(TractError),
}

impl Refusal {
    /// What is wrong.
    pub(super) fn error(self) -> TractError {
        match self {
            Refusal::Sizes(error) | Refusal::Library(error) => error,
        }
    }
}

/// What the sizes that come have to be like, once those that are known have been found to be right.
fn looked_at(graph: &TypedModel, limits: Limits) -> TractResult<Arc<[Agreement]>> {
    sizes::check(graph, &SymbolValues::default())?;
    check_outputs(graph, limits)?;
    Ok(agreement::of(graph)?.into())
}

fn optimized(mut graph: TypedModel, options: &Options) -> TractResult<Arc<TypedSimplePlan>> {
    if let Some(packings) = &options.packings {
        faster::rewrite(&mut graph, packings)?;
    }
    graph.into_optimized()?.into_runnable()
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

type Compile = dyn Fn(&[Shape]) -> Result<Compiled, Refusal> + Send + Sync;

/// Graphs by input shapes, compiled when they are first asked for; the last few are kept.
pub(super) struct ByShape {
    compile: Box<Compile>,
    kept: Mutex<Kept>,
}

/// What became of the last few shapes, the latest first.
#[derive(Default)]
struct Kept {
    compiled: VecDeque<(Vec<Shape>, Compiled)>,
    refused: VecDeque<(Vec<Shape>, EngineError)>,
}

impl ByShape {
    pub(super) fn new(compile: Box<Compile>) -> Self {
        Self { compile, kept: Mutex::default() }
    }

    /// The graph for inputs of these shapes. Others wait while one is compiled, so that none is compiled twice; nor is what was
    /// refused, or one caller with shapes that do not fit would have everybody wait.
    ///
    /// # Errors
    /// When the graph cannot take these shapes. The inputs are at fault where it is their sizes, or where other shapes have been
    /// compiled; else it may be the graph, which nothing can be compiled of.
    pub(super) fn get(&self, shapes: &[Shape]) -> Result<Compiled, EngineError> {
        let mut kept = self.kept.lock();
        if let Some((_, compiled)) = kept.compiled.iter().find(|(known, _)| known == shapes) {
            return Ok(compiled.clone());
        }
        if let Some((_, refused)) = kept.refused.iter().find(|(known, _)| known == shapes) {
            return Err(refused.clone());
        }
        let compiled = on_big_stack("plan", || Ok((self.compile)(shapes))).map_err(EngineError::new)?;
        match compiled {
            Ok(compiled) => {
                kept.compiled.truncate(KEPT_SHAPES - 1);
                kept.compiled.push_front((shapes.to_vec(), compiled.clone()));
                Ok(compiled)
            }
            Err(Refusal::Library(error)) if kept.compiled.is_empty() => Err(EngineError::new(said(&error))),
            Err(refusal) => {
                let refused = EngineError::unfit(said(&refusal.error()));
                kept.refused.truncate(KEPT_REFUSALS - 1);
                kept.refused.push_front((shapes.to_vec(), refused.clone()));
                Err(refused)
            }
        }
    }
}

fn said(error: &TractError) -> String {
    format!("plan: {}", error_text(error))
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
            Code::ByShape(by_shape) => by_shape.kept.lock().compiled.iter().flat_map(|(_, one)| one.parts()).collect(),
        }
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(TractSession::new(self.code.clone(), Arc::clone(&self.signature), self.limits)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tract_onnx::prelude::Framework as _;

    use super::*;

    fn failure() -> TractError {
        tract_onnx::onnx().model_for_path("/nowhere/at/all").unwrap_err()
    }

    fn compiled() -> Compiled {
        let options = Options::new(Limits { max_output_bytes: 1 << 20 }, false);
        Compiled::new(&TypedModel::default(), &HashMap::new(), &options).map_err(Refusal::error).unwrap()
    }

    /// Takes widths from 100 on; of those below 10 it is the library that fails.
    fn plan(asked: &Arc<AtomicUsize>) -> ByShape {
        let asked = Arc::clone(asked);
        ByShape::new(Box::new(move |shapes| {
            asked.fetch_add(1, Relaxed);
            match shapes[0][0] {
                0..10 => Err(Refusal::Library(failure())),
                10..100 => Err(Refusal::Sizes(failure())),
                _ => Ok(compiled()),
            }
        }))
    }

    fn of(width: usize) -> [Shape; 1] {
        [[width].as_slice().into()]
    }

    #[test]
    fn what_was_refused_is_not_compiled_again() {
        let asked = Arc::default();
        let plan = plan(&asked);
        let refused = |width| plan.get(&of(width)).err().unwrap();
        assert!(refused(10).is_unfit());
        assert_eq!((refused(10), asked.load(Relaxed)), (refused(10), 1));
        assert!(plan.get(&of(100)).is_ok() && plan.get(&of(100)).is_ok());
        assert_eq!(asked.load(Relaxed), 2);
        // The last few are kept, and what does not fit drives out nothing that does.
        let widths = 11..11 + KEPT_REFUSALS;
        widths.clone().for_each(|width| assert!(refused(width).is_unfit()));
        assert_eq!(asked.load(Relaxed), 2 + KEPT_REFUSALS);
        widths.for_each(|width| assert!(refused(width).is_unfit()));
        assert!(plan.get(&of(100)).is_ok());
        assert_eq!(asked.load(Relaxed), 2 + KEPT_REFUSALS);
        refused(10);
        assert_eq!(asked.load(Relaxed), 3 + KEPT_REFUSALS);
    }

    #[test]
    fn a_graph_that_nothing_can_be_compiled_of_is_not_the_callers_fault() {
        let asked = Arc::default();
        let plan = plan(&asked);
        let refused = |width| plan.get(&of(width)).err().unwrap();
        assert!(!refused(1).is_unfit() && !refused(1).is_unfit());
        assert!(plan.get(&of(100)).is_ok());
        assert!(refused(1).is_unfit() && refused(1).is_unfit());
        assert_eq!(asked.load(Relaxed), 4, "what is not for good is tried again");
    }
}
