//! A scripted engine for tests and benchmarks: one FP32 input `x` [N, width], one output `y` = 2x + 1 of the same shape, and
//! hooks to delay, block, fail or panic. It shows what the gateway itself costs and how it behaves when a model misbehaves.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Artifact, Engine, EngineError, InputBuffer, Limits, LoadError, Model, OutputData, OutputView, Plan, Session,
};
use crate::types::{Batch, DType, Shape, Signature, TensorSpec};

/// What the fake model does. Cloned handles share it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    per_batch: Mutex<Duration>,
    closed: Mutex<bool>,
    opened: Condvar,
    panics: AtomicBool,
    passes: AtomicBool,
    batches: Mutex<Vec<usize>>,
    running: AtomicUsize,
}

/// An input value that makes the whole run fail.
pub const POISON: f32 = -666.0;
/// An input value that makes the whole run fail as one whose inputs do not fit.
pub const UNFIT: f32 = -777.0;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    /// Every run takes this long.
    pub fn delay(&self, per_batch: Duration) {
        *lock(&self.inner.per_batch) = per_batch;
    }

    /// Runs block until [`Script::open`].
    pub fn close(&self) {
        *lock(&self.inner.closed) = true;
    }

    /// Lets blocked runs go on.
    pub fn open(&self) {
        *lock(&self.inner.closed) = false;
        self.inner.opened.notify_all();
    }

    /// Runs panic when one of their values is [`POISON`], instead of failing.
    pub fn panic_on_poison(&self) {
        self.inner.panics.store(true, Ordering::Relaxed);
    }

    /// Runs with a value that is [`POISON`] do not block.
    pub fn let_poison_pass(&self) {
        self.inner.passes.store(true, Ordering::Relaxed);
    }

    /// Rows of every run so far.
    pub fn batches(&self) -> Vec<usize> {
        lock(&self.inner.batches).clone()
    }

    /// Runs that are going on, blocked ones included.
    pub fn running(&self) -> usize {
        self.inner.running.load(Ordering::Acquire)
    }

    fn run(&self, x: &[f32], rows: usize) -> Result<Vec<f32>, EngineError> {
        self.inner.running.fetch_add(1, Ordering::AcqRel);
        let passes = self.inner.passes.load(Ordering::Relaxed) && x.contains(&POISON);
        let mut closed = lock(&self.inner.closed);
        while *closed && !passes {
            closed = self.inner.opened.wait(closed).unwrap_or_else(PoisonError::into_inner);
        }
        drop(closed);
        let delay = *lock(&self.inner.per_batch);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.inner.running.fetch_sub(1, Ordering::AcqRel);
        lock(&self.inner.batches).push(rows);
        if x.contains(&POISON) {
            if self.inner.panics.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("poison"));
            }
            return Err(EngineError::new("poisoned row"));
        }
        if x.contains(&UNFIT) {
            return Err(EngineError::unfit("unfit row"));
        }
        Ok(x.iter().map(|value| value * 2.0 + 1.0).collect())
    }
}

/// The engine; every artifact loads as the scripted model.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    script: Script,
    width: usize,
    batch: Batch,
}

impl FakeEngine {
    /// A model of `width` columns.
    pub fn new(script: Script, width: usize) -> Self {
        Self { script, width, batch: Batch::Rows }
    }

    /// The same without a batch dimension: `x` is `[width]`.
    #[must_use]
    pub fn without_batch(mut self) -> Self {
        self.batch = Batch::None;
        self
    }

    /// The model itself, without a registry around it.
    pub fn model(&self) -> Box<dyn Model> {
        let shape = match self.batch {
            Batch::Rows => vec![None, Some(self.width)],
            Batch::None => vec![Some(self.width)],
        };
        let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::Fp32, shape: shape.clone() };
        let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batch: self.batch };
        Box::new(FakeModel { script: self.script.clone(), signature })
    }
}

impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn load(&self, _artifact: &Artifact, _limits: &Limits) -> Result<Box<dyn Model>, LoadError> {
        Ok(self.model())
    }
}

struct FakeModel {
    script: Script,
    signature: Signature,
}

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        Ok(Arc::new(FakePlan { script: self.script.clone(), rows: rows.unwrap_or(1) }))
    }
}

struct FakePlan {
    script: Script,
    rows: usize,
}

impl Plan for FakePlan {
    /// 1,000 bytes that all sizes share, and 10 for each row.
    fn parts(&self) -> Vec<(usize, usize)> {
        vec![(0, 1000), (self.rows, 10 * self.rows)]
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FakeSession { script: self.script.clone(), x: Vec::new(), y: Vec::new(), shape: Shape::new() }))
    }
}

struct FakeSession {
    script: Script,
    x: Vec<f32>,
    y: Vec<f32>,
    shape: Shape,
}

impl Session for FakeSession {
    fn input(&mut self, _index: usize, shape: &[usize]) -> Result<InputBuffer<'_>, EngineError> {
        self.shape = shape.into();
        self.x.resize(shape.iter().product(), 0.0);
        Ok(InputBuffer::Plain(bytemuck::cast_slice_mut(&mut self.x)))
    }

    fn run(&mut self) -> Result<(), EngineError> {
        let rows = self.shape.first().copied().unwrap_or(1);
        self.y = self.script.run(&self.x, rows)?;
        Ok(())
    }

    fn output(&self, _index: usize) -> Result<OutputView<'_>, EngineError> {
        let data = OutputData::Plain(bytemuck::cast_slice(&self.y));
        Ok(OutputView { dtype: DType::Fp32, shape: &self.shape, data })
    }
}
