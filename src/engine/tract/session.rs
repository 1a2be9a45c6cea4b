//! The buffers and state of one worker that runs a plan.

use std::sync::Arc;

use tract_onnx::{
    prelude::{
        DatumType, SymbolValues, TDim, TValue, TVec, Tensor, TractResult, TypedSimplePlan, TypedSimpleState,
        tract_ndarray::ArrayD,
    },
    tract_hir::internal::IntoTValue as _,
};

use super::{
    super::{
        EngineError, InputBuffer, Limits, OutputData, OutputView, Session,
        guard::{caught, error_text},
    },
    agreement,
    dtype::{datum_of, reported},
    plan::{Code, Compiled},
    sizes,
};
use crate::types::{Batch, DType, Shape, Signature, element_count};

/// Lists of input shapes that a session remembers to have checked.
const CHECKED_SHAPES: usize = 8;

/// One worker's tensors and state.
pub(super) struct TractSession {
    code: Code,
    signature: Arc<Signature>,
    limits: Limits,
    /// `None` before the first run of a plan that is compiled by shape.
    running: Option<Running>,
    /// Kept from run to run, so that their memory is used again once the graph has let go of it.
    inputs: Vec<Option<Arc<Tensor>>>,
    outputs: Vec<TValue>,
    /// Set by a panic, which may leave the state in pieces.
    dead: bool,
}

/// A compiled graph with its state.
struct Running {
    compiled: Compiled,
    state: TypedSimpleState,
    /// Input shapes whose tensors are known not to be too large; the shapes of the state when compiled by shape.
    checked: Vec<Vec<Shape>>,
}

impl TractSession {
    pub(super) fn new(code: Code, signature: Arc<Signature>, limits: Limits) -> Result<Self, EngineError> {
        let running = match &code {
            Code::One(compiled) => Some(Running::new(compiled.clone())?),
            Code::ByShape(_) => None,
        };
        let inputs = vec![None; signature.inputs.len()];
        let outputs = Vec::with_capacity(signature.outputs.len());
        Ok(Self { code, signature, limits, running, inputs, outputs, dead: false })
    }
}

impl Session for TractSession {
    fn input(&mut self, index: usize, shape: &[usize]) -> Result<InputBuffer<'_>, EngineError> {
        // An output may be an input's own tensor.
        self.outputs.clear();
        let (Some(slot), Some(spec)) = (self.inputs.get_mut(index), self.signature.inputs.get(index)) else {
            return Err(EngineError::new(format_args!("input {index}: there is none")));
        };
        let takes: &[Option<usize>] = match &self.code {
            Code::One(compiled) => compiled.shapes.get(index).map_or(&[], Vec::as_slice),
            Code::ByShape(_) => &spec.shape,
        };
        let fits = |takes: &[Option<usize>]| {
            takes.len() == shape.len() && takes.iter().zip(shape).all(|(a, b)| a.is_none_or(|a| a == *b))
        };
        if !fits(takes) {
            let text = format!("input '{}': shape: expected {takes:?}, got {shape:?}", spec.name);
            // What the signature leaves open and the plan does not is for the caller; how many rows a plan has is not.
            let rows = usize::from(self.signature.batch == Batch::Rows).min(shape.len());
            let callers = fits(&spec.shape)
                && takes.get(..rows).is_some_and(|takes| {
                    takes.iter().zip(shape).all(|(takes, size)| takes.is_none_or(|takes| takes == *size))
                });
            return Err(if callers { EngineError::unfit(text) } else { EngineError::new(text) });
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
        let mut values = TVec::with_capacity(self.inputs.len());
        for (slot, spec) in self.inputs.iter_mut().zip(&self.signature.inputs) {
            let Some(tensor) = slot else {
                return Err(EngineError::new(format_args!("input '{}': was not given", spec.name)));
            };
            if spec.dtype == DType::Bool {
                make_booleans(tensor);
            }
            values.push(Arc::clone(tensor).into_tvalue());
        }
        let running = prepare(&self.code, &mut self.running, &values)?;
        self.dead = true;
        let outcome = caught(|| Ok(running.run(values)))?;
        self.dead = false;
        match outcome {
            Ok(outputs) => self.keep(outputs),
            Err(error) => {
                // A failed run leaves its values and symbols behind.
                running.state = spawn(&running.compiled.plan)?;
                Err(EngineError::new(error_text(&error)))
            }
        }
    }

    fn output(&self, index: usize) -> Result<OutputView<'_>, EngineError> {
        let (Some(value), Some(spec)) = (self.outputs.get(index), self.signature.outputs.get(index)) else {
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
    fn keep(&mut self, values: TVec<TValue>) -> Result<(), EngineError> {
        let mut bytes = 0_usize;
        // Sizes that an output tells may be expressions of the sizes that came in.
        let symbols = match &self.running {
            Some(running) if values.iter().any(|value| value.datum_type() == DatumType::TDim) => {
                let shapes = self.inputs.iter().flatten().map(|tensor| tensor.shape());
                running.symbols(shapes).map_err(|error| EngineError::new(error_text(&error)))?
            }
            _ => SymbolValues::default(),
        };
        for (value, spec) in values.into_iter().zip(&self.signature.outputs) {
            bytes = bytes.saturating_add(byte_len(&value));
            let limit = self.limits.max_output_bytes;
            if bytes > limit {
                self.outputs.clear();
                return Err(EngineError::new(format_args!("outputs: expected at most {limit} bytes, got {bytes}")));
            }
            let fail = |error| EngineError::new(format_args!("output '{}': {error}", spec.name));
            let datum = datum_of(spec.dtype).ok_or_else(|| fail("has no datum type".to_owned()))?;
            let value = caught(|| reported(value, datum, &symbols).map_err(|error| fail(error_text(&error))))?;
            self.outputs.push(value);
        }
        Ok(())
    }
}

/// The graph for these inputs, with its state; compiled if it has to be.
fn prepare<'a>(
    code: &Code,
    running: &'a mut Option<Running>,
    values: &[TValue],
) -> Result<&'a mut Running, EngineError> {
    let shapes = || -> Vec<Shape> { values.iter().map(|value| value.shape().into()).collect() };
    if let Code::ByShape(by_shape) = code {
        let shapes = shapes();
        if !running.as_ref().is_some_and(|running| running.checked.contains(&shapes)) {
            let made = Running::new(by_shape.get(&shapes)?)?;
            *running = Some(Running { checked: vec![shapes], ..made });
        }
    }
    let running = running.as_mut().ok_or_else(|| EngineError::new("session: has no plan"))?;
    if matches!(code, Code::One(_)) && !running.compiled.is_fixed() {
        running.check(shapes())?;
    }
    Ok(running)
}

impl Running {
    fn new(compiled: Compiled) -> Result<Self, EngineError> {
        let state = spawn(&compiled.plan)?;
        Ok(Self { compiled, state, checked: Vec::new() })
    }

    /// What the symbols of the graph's inputs are when the inputs have these shapes.
    fn symbols<'a>(&self, shapes: impl Iterator<Item = &'a [usize]>) -> TractResult<SymbolValues> {
        let model = self.compiled.plan.model();
        let mut symbols = SymbolValues::default();
        for (input, shape) in shapes.enumerate() {
            for (dim, size) in model.input_fact(input)?.shape.iter().zip(shape) {
                if let (TDim::Sym(symbol), Ok(size)) = (dim, i64::try_from(*size)) {
                    symbols.set(symbol, size);
                }
            }
        }
        Ok(symbols)
    }

    /// Refuses shapes that would make tensors which are too large, and such as do not go together.
    fn check(&mut self, shapes: Vec<Shape>) -> Result<(), EngineError> {
        if self.checked.contains(&shapes) {
            return Ok(());
        }
        let fail = |error| EngineError::unfit(error_text(&error));
        let symbols = self.symbols(shapes.iter().map(|shape| &shape[..])).map_err(fail)?;
        sizes::check(self.compiled.plan.model(), &symbols).map_err(fail)?;
        agreement::check(&self.compiled.agreements, &symbols).map_err(fail)?;
        self.checked.truncate(CHECKED_SHAPES - 1);
        self.checked.insert(0, shapes);
        Ok(())
    }

    fn run(&mut self, values: TVec<TValue>) -> TractResult<TVec<TValue>> {
        if self.state.op_states.iter().any(Option::is_some) {
            // Recurrent operators carry their state on from run to run, as if all runs were one stream.
            self.state = self.compiled.plan.spawn()?;
        }
        if self.compiled.by_value { self.state.run_plan_with_eval(values, sizes::eval) } else { self.state.run(values) }
    }
}

fn spawn(plan: &Arc<TypedSimplePlan>) -> Result<TypedSimpleState, EngineError> {
    caught(|| plan.spawn().map_err(|error| EngineError::new(error_text(&error))))
}

/// Bytes of a value's elements, with those of its texts.
fn byte_len(value: &TValue) -> usize {
    // Asking for texts that are none makes an error, which is not for free.
    let view = value.as_plain_ram().filter(|_| value.datum_type() == DatumType::String);
    let texts = view.as_ref().and_then(|view| view.as_slice::<String>().ok());
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
