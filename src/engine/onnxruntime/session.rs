//! The buffers of one worker that runs a plan. The library's session is borrowed for the time of a run.

use std::sync::Arc;

use ort::session::SessionInputValue;
use smallvec::SmallVec;

use super::{
    super::{EngineError, InputBuffer, Limits, OutputView, Session},
    answers::Answers,
    pool::Pool,
    unfit,
    values::{self, Input},
};
use crate::types::{Batch, Shape, Signature, TensorSpec};

/// What a plan and its sessions share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) pool: Arc<Pool>,
    pub(super) signature: Arc<Signature>,
    pub(super) limits: Limits,
    /// Every output is made by an operator of the graph itself, which writes it to where it should be.
    pub(super) straight: bool,
}

/// One worker's tensors.
pub(super) struct OnnxRuntimeSession {
    shared: Shared,
    rows: Option<usize>,
    /// Kept from run to run, so that their memory is used again.
    inputs: Vec<Option<(Shape, Input)>>,
    answers: Answers,
}

impl OnnxRuntimeSession {
    pub(super) fn new(shared: Shared, rows: Option<usize>) -> Self {
        let inputs = shared.signature.inputs.iter().map(|_| None).collect();
        Self { shared, rows, inputs, answers: Answers::default() }
    }

    /// Whether a shape is one that the plan takes.
    fn fits(&self, spec: &TensorSpec, shape: &[usize]) -> bool {
        let first = self.rows.filter(|_| self.shared.signature.batch == Batch::Rows);
        spec.shape.len() == shape.len()
            && spec.shape.iter().zip(shape).all(|(takes, size)| takes.is_none_or(|takes| takes == *size))
            && first.is_none_or(|rows| shape.first() == Some(&rows))
    }
}

impl Session for OnnxRuntimeSession {
    fn input(&mut self, index: usize, shape: &[usize]) -> Result<InputBuffer<'_>, EngineError> {
        self.answers.clear();
        let Some(spec) = self.shared.signature.inputs.get(index) else {
            return Err(EngineError::new(format_args!("input {index}: there is none")));
        };
        if !self.fits(spec, shape) {
            let mut takes = spec.shape.clone();
            if let (Some(first), Some(_)) = (takes.first_mut(), self.rows) {
                *first = self.rows;
            }
            let text = format!("input '{}': shape: expected {takes:?}, got {shape:?}", spec.name);
            // The plan takes all that the signature does, but for its number of rows: neither is for the caller.
            return Err(EngineError::new(text));
        }
        let fail = |error| EngineError::new(format_args!("input '{}': {error}", spec.name));
        let slot = &mut self.inputs[index];
        if slot.as_ref().is_none_or(|(kept, _)| kept[..] != *shape) {
            *slot = Some((shape.into(), Input::new(spec.dtype, shape).map_err(fail)?));
        }
        match slot.as_mut().map(|(_, input)| input) {
            Some(Input::Plain(value)) => values::bytes_mut(value, spec.dtype).map(InputBuffer::Plain).map_err(fail),
            Some(Input::Bools(bytes)) => Ok(InputBuffer::Plain(bytes)),
            Some(Input::Strings(items)) => Ok(InputBuffer::Strings(items)),
            None => Err(EngineError::new(format_args!("input '{}': has no buffer", spec.name))),
        }
    }

    fn run(&mut self) -> Result<(), EngineError> {
        let mut given: SmallVec<[SessionInputValue<'_>; 4]> = SmallVec::with_capacity(self.inputs.len());
        for (slot, spec) in self.inputs.iter().zip(&self.shared.signature.inputs) {
            let Some((shape, input)) = slot else {
                return Err(EngineError::new(format_args!("input '{}': was not given", spec.name)));
            };
            let converted = input.converted(shape);
            match (input, converted.map_err(|error| EngineError::new(format_args!("input '{}': {error}", spec.name)))?)
            {
                (_, Some(value)) => given.push(value.into()),
                (Input::Plain(value), None) => given.push(value.into()),
                (_, None) => return Err(EngineError::new(format_args!("input '{}': has no tensor", spec.name))),
            }
        }
        let ran = self.answers.run(&self.shared, self.rows, &given);
        ran.map_err(|error| unfit::judged(error, &self.shared.signature))
    }

    fn output(&self, index: usize) -> Result<OutputView<'_>, EngineError> {
        self.answers.view(&self.shared.signature, index)
    }
}
