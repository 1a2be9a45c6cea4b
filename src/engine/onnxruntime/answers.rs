//! What comes out of the runs of one worker. Small outputs are written to tensors that stay from run to run: to make new ones, and
//! to be told what they are, is a twentieth of a run that takes ten microseconds. Called by `session`.

use ort::{
    session::{OutputSelector, RunOptions, SessionInputValue},
    value::DynValue,
};

use super::{
    super::{
        EngineError, OutputData, OutputView,
        guard::{caught, error_text},
    },
    pool::{Targets, Values},
    session::Shared,
    values::{self, Input},
};
use crate::types::{Batch, DType, Shape, Signature, TensorSpec};

/// Bytes of outputs that tensors stay for. Beyond, runs take long, and it counts that the library uses memory again elsewhere.
const MAX_TARGET_BYTES: usize = 64 << 10;

/// The outputs of the last run, and where the next one writes them.
#[derive(Default)]
pub(super) struct Answers {
    outputs: Vec<Output>,
    into: Into,
    /// The outputs are the tensors that runs write to.
    same: bool,
    /// The outputs belong to the inputs that were given last.
    current: bool,
}

/// Where a run writes its outputs.
#[derive(Default)]
enum Into {
    /// To tensors of the library. The first answer shows whether others will do.
    #[default]
    Untried,
    /// To these.
    Targets(Targets),
    /// To tensors of the library.
    New,
}

struct Output {
    shape: Shape,
    data: Answer,
}

enum Answer {
    Plain(DynValue),
    Strings(Vec<String>),
}

impl Answers {
    /// Forgets the last run, before its inputs are overwritten.
    pub(super) fn clear(&mut self) {
        self.current = false;
        // An output of the library's may be an input's own tensor.
        if !self.same {
            self.outputs.clear();
        }
    }

    /// Runs the graph on tensors.
    ///
    /// # Errors
    /// Why it failed; that the outputs are not what they should be.
    pub(super) fn run(
        &mut self,
        shared: &Shared,
        rows: Option<usize>,
        given: &[SessionInputValue<'_>],
    ) -> Result<(), EngineError> {
        self.clear();
        let mut lent = shared.pool.lend()?;
        let mut same = false;
        let values = match &self.into {
            Into::Targets(targets) => match lent.run(given, Some(targets)) {
                Ok(_) if self.same => {
                    self.current = true;
                    return Ok(());
                }
                Ok(values) => {
                    same = true;
                    values
                }
                Err(error) if lent.is_lost() => return Err(error),
                // Sizes may follow from values after all: the library then refuses the tensors. It is seen without them.
                Err(_) => {
                    let values = lent.run(given, None)?;
                    self.into = Into::New;
                    values
                }
            },
            Into::Untried | Into::New => lent.run(given, None)?,
        };
        drop(lent);
        (self.outputs, self.same) = (Vec::new(), false);
        self.outputs = caught(|| keep(shared, values))?;
        self.same = same;
        if let Into::Untried = self.into {
            self.into = self.targets(shared, rows).map_or(Into::New, Into::Targets);
        }
        self.current = true;
        Ok(())
    }

    /// Tensors for outputs like those of the last run; `None` where sizes are not known, or it does not pay.
    fn targets(&self, shared: &Shared, rows: Option<usize>) -> Option<Targets> {
        if !shared.straight {
            return None;
        }
        let signature = &shared.signature;
        let rows = rows.filter(|_| signature.batch == Batch::Rows);
        let (mut selector, mut bytes) = (OutputSelector::default(), 0);
        for (spec, output) in signature.outputs.iter().zip(&self.outputs) {
            let shape = known_shape(spec, rows).filter(|shape| *shape == output.shape)?;
            bytes += output.bytes(spec.dtype).ok()?.len();
            if bytes > MAX_TARGET_BYTES {
                return None;
            }
            let Ok(Input::Plain(tensor)) = Input::new(spec.dtype, &shape) else { return None };
            selector = selector.preallocate(&*spec.name, tensor);
        }
        let options = RunOptions::new().ok()?;
        Some(options.with_outputs(selector))
    }

    /// Output `index` of the last run.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn view(&self, signature: &Signature, index: usize) -> Result<OutputView<'_>, EngineError> {
        let output = self.outputs.get(index).filter(|_| self.current);
        let (Some(output), Some(spec)) = (output, signature.outputs.get(index)) else {
            return Err(EngineError::new(format_args!("output {index}: there is none")));
        };
        let data = match &output.data {
            Answer::Plain(_) => OutputData::Plain(output.bytes(spec.dtype)?),
            Answer::Strings(items) => OutputData::Strings(items),
        };
        Ok(OutputView { dtype: spec.dtype, shape: &output.shape, data })
    }
}

impl Output {
    /// The bytes of a tensor of numbers or booleans.
    fn bytes(&self, dtype: DType) -> Result<&[u8], EngineError> {
        match &self.data {
            Answer::Plain(value) => values::bytes(value, dtype),
            Answer::Strings(_) => Err(EngineError::new("texts have no bytes")),
        }
    }
}

/// The sizes of an output, when all are known before a run.
pub(super) fn known_shape(spec: &TensorSpec, rows: Option<usize>) -> Option<Shape> {
    let size = |(axis, dim): (usize, &Option<usize>)| if axis == 0 { dim.or(rows) } else { *dim };
    spec.shape.iter().enumerate().map(size).collect()
}

/// Checks the outputs of a run against the signature and the limit.
fn keep(shared: &Shared, values: Values) -> Result<Vec<Output>, EngineError> {
    let (mut kept, mut bytes) = (Vec::with_capacity(values.len()), 0_usize);
    for (value, spec) in values.into_iter().zip(&shared.signature.outputs) {
        let fail = |error: EngineError| EngineError::new(format_args!("output '{}': {error}", spec.name));
        let shape = values::sizes(&value).map_err(fail)?;
        let data = if spec.dtype == DType::Bytes {
            let (_, items) = value.try_extract_strings().map_err(|error| fail(EngineError::new(error_text(&error))))?;
            bytes = bytes.saturating_add(items.iter().map(|item| item.len() + size_of::<String>()).sum());
            Answer::Strings(items)
        } else {
            bytes = bytes.saturating_add(values::bytes(&value, spec.dtype).map_err(fail)?.len());
            Answer::Plain(value)
        };
        let limit = shared.limits.max_output_bytes;
        if bytes > limit {
            return Err(EngineError::new(format_args!("outputs: expected at most {limit} bytes, got {bytes}")));
        }
        kept.push(Output { shape, data });
    }
    Ok(kept)
}
