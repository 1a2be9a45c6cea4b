//! A model that is a Rust function, for tests and benchmarks of what is above the engines: routes need models that disagree, and
//! signatures that do not fit.

use std::{fmt, sync::Arc};

use super::{EngineError, InputBuffer, LoadError, Model, OutputData, OutputView, Plan, Session};
use crate::types::{DType, Shape, Signature};

/// From the values of every input and the number of rows to those of every output.
type Function = dyn Fn(&[Vec<f32>], usize) -> Result<Vec<Vec<f32>>, EngineError> + Send + Sync;

/// A model of FP32 inputs and outputs whose first dimension is rows.
#[derive(Clone)]
pub struct FunctionModel {
    signature: Arc<Signature>,
    function: Arc<Function>,
}

impl FunctionModel {
    /// A model of this signature. All inputs and outputs must be FP32; open dimensions besides the rows count as 1.
    pub fn new(
        signature: Signature,
        function: impl Fn(&[Vec<f32>], usize) -> Result<Vec<Vec<f32>>, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self { signature: Arc::new(signature), function: Arc::new(function) }
    }
}

impl fmt::Debug for FunctionModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionModel").field("signature", &self.signature).finish_non_exhaustive()
    }
}

impl Model for FunctionModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn plan(&self, _rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Plan for FunctionModel {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FunctionSession {
            inputs: vec![Vec::new(); self.signature.inputs.len()],
            outputs: Vec::new(),
            rows: 0,
            model: self.clone(),
        }))
    }
}

struct FunctionSession {
    model: FunctionModel,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<(Shape, Vec<f32>)>,
    rows: usize,
}

impl Session for FunctionSession {
    fn input(&mut self, index: usize, shape: &[usize]) -> Result<InputBuffer<'_>, EngineError> {
        self.rows = shape.first().copied().unwrap_or(1);
        let input = self.inputs.get_mut(index).ok_or_else(|| EngineError::new("no such input"))?;
        input.resize(shape.iter().product(), 0.0);
        Ok(InputBuffer::Plain(bytemuck::cast_slice_mut(input)))
    }

    fn run(&mut self) -> Result<(), EngineError> {
        let values = (self.model.function)(&self.inputs, self.rows)?;
        let shapes = self.model.signature.outputs.iter().map(|output| {
            let rest = output.shape.iter().skip(1).map(|dim| dim.unwrap_or(1));
            std::iter::once(self.rows).chain(rest).collect::<Shape>()
        });
        self.outputs = shapes.zip(values).collect();
        Ok(())
    }

    fn output(&self, index: usize) -> Result<OutputView<'_>, EngineError> {
        let (shape, values) = self.outputs.get(index).ok_or_else(|| EngineError::new("no such output"))?;
        Ok(OutputView { dtype: DType::Fp32, shape, data: OutputData::Plain(bytemuck::cast_slice(values)) })
    }
}
