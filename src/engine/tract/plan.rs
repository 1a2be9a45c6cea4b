//! A graph compiled for one batch size, and the buffers and state of one worker that runs it. Made by `TractModel::plan`,
//! used by the scheduler through [`Plan`] and [`Session`].

use std::{collections::HashMap, sync::Arc};

use tract_onnx::{
    prelude::{
        DatumType, Symbol, TDim, TValue, Tensor, TractResult, TypedModel, TypedSimplePlan, TypedSimpleState,
        tract_ndarray::ArrayD,
    },
    tract_hir::internal::{DimLike as _, IntoRunnable as _, IntoTValue as _},
};

use super::{
    super::{EngineError, InputBuffer, Limits, OutputData, OutputView, Plan, Session},
    dtype::{datum_of, reported},
    guard::{caught, error_text},
};
use crate::types::{DType, Signature, element_count};

/// A compiled graph.
pub(super) struct TractPlan {
    plan: Arc<TypedSimplePlan>,
    shared: Arc<Shared>,
}

/// What all sessions of a plan have in common.
struct Shared {
    signature: Arc<Signature>,
    /// Sizes that the plan takes, by input; `None` = any.
    shapes: Vec<Vec<Option<usize>>>,
    limits: Limits,
}

impl TractPlan {
    /// Replaces `fixed` symbols by their numbers and compiles.
    pub(super) fn compile(
        graph: &TypedModel,
        fixed: &HashMap<Symbol, TDim>,
        signature: Arc<Signature>,
        limits: Limits,
    ) -> TractResult<Self> {
        let graph = if fixed.is_empty() { graph.clone() } else { graph.set_symbols(fixed)? };
        let plan = graph.into_optimized()?.into_runnable()?;
        let shape = |input| -> TractResult<Vec<_>> {
            let fact = plan.model().input_fact(input)?;
            Ok(fact.shape.iter().map(|dim| dim.to_usize().ok()).collect())
        };
        let shapes = (0..signature.inputs.len()).map(shape).collect::<TractResult<_>>()?;
        Ok(Self { plan, shared: Arc::new(Shared { signature, shapes, limits }) })
    }
}

impl Plan for TractPlan {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(TractSession {
            state: spawn(&self.plan)?,
            plan: Arc::clone(&self.plan),
            inputs: vec![None; self.shared.signature.inputs.len()],
            outputs: Vec::with_capacity(self.shared.signature.outputs.len()),
            shared: Arc::clone(&self.shared),
            dead: false,
        }))
    }
}

fn spawn(plan: &Arc<TypedSimplePlan>) -> Result<TypedSimpleState, EngineError> {
    caught(|| plan.spawn().map_err(|error| EngineError::new(error_text(&error))))
}

/// One worker's tensors and state.
struct TractSession {
    state: TypedSimpleState,
    plan: Arc<TypedSimplePlan>,
    /// Kept from run to run, so that their memory is used again once the graph has let go of it.
    inputs: Vec<Option<Arc<Tensor>>>,
    outputs: Vec<TValue>,
    shared: Arc<Shared>,
    /// Set by a panic, which may leave the state in pieces.
    dead: bool,
}

impl Session for TractSession {
    fn input(&mut self, index: usize, shape: &[usize]) -> Result<InputBuffer<'_>, EngineError> {
        let Self { inputs, outputs, shared, .. } = self;
        // An output may be an input's own tensor.
        outputs.clear();
        let (Some(slot), Some(spec)) = (inputs.get_mut(index), shared.signature.inputs.get(index)) else {
            return Err(EngineError::new(format_args!("input {index}: there is none")));
        };
        let takes = &shared.shapes[index];
        let fits = takes.len() == shape.len() && takes.iter().zip(shape).all(|(a, b)| a.is_none_or(|a| a == *b));
        if !fits {
            let text = format!("input '{}': shape: expected {takes:?}, got {shape:?}", spec.name);
            return Err(EngineError::new(text));
        }
        let usable = slot.as_mut().is_some_and(|kept| kept.shape() == shape && Arc::get_mut(kept).is_some());
        if !usable {
            *slot = Some(Arc::new(blank(spec.dtype, shape)?));
        }
        match slot.as_mut().and_then(Arc::get_mut) {
            Some(tensor) => buffer(tensor),
            None => Err(EngineError::new(format_args!("input '{}': its buffer is in use", spec.name))),
        }
    }

    fn run(&mut self) -> Result<(), EngineError> {
        self.outputs.clear();
        if self.dead {
            return Err(EngineError::new("session: used after a panic"));
        }
        if self.state.op_states.iter().any(Option::is_some) {
            // Recurrent operators carry their state on from run to run, as if all runs were one stream.
            self.state = spawn(&self.plan)?;
        }
        let mut values = smallvec::SmallVec::with_capacity(self.inputs.len());
        for (slot, spec) in self.inputs.iter_mut().zip(&self.shared.signature.inputs) {
            let Some(tensor) = slot else {
                return Err(EngineError::new(format_args!("input '{}': was not given", spec.name)));
            };
            if spec.dtype == DType::Bool {
                make_booleans(tensor);
            }
            values.push(Arc::clone(tensor).into_tvalue());
        }
        self.dead = true;
        let state = &mut self.state;
        let outcome = caught(|| Ok(state.run(values)));
        let outcome = outcome?;
        self.dead = false;
        match outcome {
            Ok(outputs) => self.keep(outputs),
            Err(error) => {
                // A failed run leaves its values and symbols behind.
                self.state = spawn(&self.plan)?;
                Err(EngineError::new(error_text(&error)))
            }
        }
    }

    fn output(&self, index: usize) -> Result<OutputView<'_>, EngineError> {
        let (Some(value), Some(spec)) = (self.outputs.get(index), self.shared.signature.outputs.get(index)) else {
            return Err(EngineError::new(format_args!("output {index}: there is none")));
        };
        let fail = |error| EngineError::new(format_args!("output '{}': {}", spec.name, error_text(&error)));
        let view = value.try_as_plain_ram().map_err(fail)?;
        let data = if spec.dtype == DType::Bytes {
            OutputData::Strings(view.as_slice::<String>().map_err(fail)?)
        } else {
            OutputData::Plain(view.as_bytes())
        };
        Ok(OutputView { dtype: spec.dtype, shape: value.shape(), data })
    }
}

impl TractSession {
    /// Checks the outputs of a run against the limit and converts them to the types that are reported.
    fn keep(&mut self, values: impl IntoIterator<Item = TValue>) -> Result<(), EngineError> {
        let mut bytes = 0_usize;
        for (value, spec) in values.into_iter().zip(&self.shared.signature.outputs) {
            bytes = bytes.saturating_add(byte_len(&value));
            let limit = self.shared.limits.max_output_bytes;
            if bytes > limit {
                self.outputs.clear();
                return Err(EngineError::new(format_args!("outputs: expected at most {limit} bytes, got {bytes}")));
            }
            let fail = |error| EngineError::new(format_args!("output '{}': {error}", spec.name));
            let datum = datum_of(spec.dtype).ok_or_else(|| fail("has no datum type".to_owned()))?;
            let value = caught(|| reported(value, datum).map_err(|error| fail(error_text(&error))))?;
            self.outputs.push(value);
        }
        Ok(())
    }
}

/// Bytes of a value's elements, with those of its texts.
fn byte_len(value: &TValue) -> usize {
    let texts = value.as_plain_ram().and_then(|view| view.as_slice::<String>().ok());
    let text_bytes: usize = texts.map_or(0, |texts| texts.iter().map(String::len).sum());
    value.len().saturating_mul(value.datum_type().size_of()).saturating_add(text_bytes)
}

/// A tensor to be overwritten.
fn blank(dtype: DType, shape: &[usize]) -> Result<Tensor, EngineError> {
    element_count(shape).map_err(EngineError::new)?;
    match datum_of(dtype) {
        Some(DatumType::String) => Ok(Tensor::from(ArrayD::<String>::default(shape))),
        Some(datum) => Tensor::zero_dt(datum, shape).map_err(|error| EngineError::new(error_text(&error))),
        None => Err(EngineError::new(format_args!("datatype {dtype}: has no tensors"))),
    }
}

fn buffer(tensor: &mut Tensor) -> Result<InputBuffer<'_>, EngineError> {
    if tensor.datum_type() != DatumType::String {
        return Ok(InputBuffer::Plain(tensor.as_bytes_mut()));
    }
    let view = tensor.to_plain_array_view_mut::<String>().map_err(|error| EngineError::new(error_text(&error)))?;
    view.into_slice().map(InputBuffer::Strings).ok_or_else(|| EngineError::new("input: is not contiguous"))
}

/// A boolean tensor must hold nothing but 0 and 1; callers may have written any byte.
fn make_booleans(tensor: &mut Arc<Tensor>) {
    if let Some(tensor) = Arc::get_mut(tensor) {
        for byte in tensor.as_bytes_mut() {
            *byte = u8::from(*byte != 0);
        }
    }
}
