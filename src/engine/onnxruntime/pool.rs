//! The library's sessions of one graph. A run needs one to itself, so there are as many as run at the same time: the first is
//! made when the graph is loaded, another one off the path when a run has had to wait, at most one per core and one for what runs
//! beside the workers. All batch sizes share them. Called by `session` and `probing`.

use std::{
    sync::{Arc, Weak},
    thread::JoinHandle,
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{HasSelectedOutputs, RunOptions, Session, SessionInputValue},
    value::DynValue,
};
use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;

use super::super::{
    EngineError, LoadError,
    guard::{caught, error_text, on_big_stack},
};

use super::unfit;

/// What sessions are made from.
pub(super) struct Source {
    environment: Environment,
    bytes: Vec<u8>,
}

impl Source {
    pub(super) fn new(environment: Environment, bytes: Vec<u8>) -> Self {
        Self { environment, bytes }
    }

    /// Parses and optimises the graph: the dear part of loading.
    ///
    /// # Errors
    /// What the library says of the graph.
    pub(super) fn session(&self) -> Result<Session, LoadError> {
        let made = || -> Result<Session, ort::Error> {
            let builder = Session::builder(&self.environment)?;
            // Threads are the scheduler's business: one batch runs on one of them.
            let builder = builder.with_intra_threads(1)?.with_inter_threads(1)?;
            let mut builder = builder.with_log_level(LogLevel::Warning)?;
            builder.commit_from_memory(&self.bytes)
        };
        on_big_stack("graph", || made().map_err(|error| LoadError::new(format!("graph: {}", error_text(&error)))))
    }
}

/// What came of a run, in the graph's order.
pub(super) type Values = SmallVec<[DynValue; 4]>;

/// Tensors that a run writes its outputs to, instead of new ones.
pub(super) type Targets = RunOptions<HasSelectedOutputs>;

/// Sessions that are lent to runs.
pub(super) struct Pool {
    source: Arc<Source>,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    free: Vec<Session>,
    /// Free ones and lent ones.
    alive: usize,
    /// How many there may be.
    most: usize,
    /// One more is being made.
    growing: bool,
    /// The thread that makes it, or made the last.
    grower: Option<JoinHandle<()>>,
}

impl Pool {
    /// A pool that begins with one session.
    pub(super) fn new(source: Source, first: Session) -> Arc<Self> {
        let most = std::thread::available_parallelism().map_or(1, usize::from) + 1;
        let state = State { free: vec![first], alive: 1, most, growing: false, grower: None };
        Arc::new(Self { source: Arc::new(source), state: Mutex::new(state), returned: Condvar::new() })
    }

    /// A session for one run. Waits for one when all are in use.
    ///
    /// # Errors
    /// When all were lost to panics and no other can be made.
    pub(super) fn lend(self: &Arc<Self>) -> Result<Lent<'_>, EngineError> {
        let mut state = self.state.lock();
        loop {
            if let Some(session) = state.free.pop() {
                return Ok(Lent { pool: self, session: Some(session) });
            }
            if state.alive == 0 && !state.growing {
                state.alive = 1;
                drop(state);
                // Without a session it gives its place back.
                let mut lent = Lent { pool: self, session: None };
                lent.session = Some(self.source.session().map_err(EngineError::new)?);
                return Ok(lent);
            }
            if state.alive < state.most && !state.growing {
                self.grow(&mut state);
            }
            self.returned.wait(&mut state);
        }
    }

    /// Begins to make one more session.
    fn grow(self: &Arc<Self>, state: &mut State) {
        let (source, pool) = (Arc::clone(&self.source), Arc::downgrade(self));
        let thread = std::thread::Builder::new().name("weir-onnxruntime".to_owned());
        match thread.spawn(move || Self::grown(&pool, source.session())) {
            Ok(thread) => {
                state.growing = true;
                // The one before has cleared the flag, and thereby done all that it had to do.
                state.grower = Some(thread);
            }
            Err(error) => {
                state.most = state.alive;
                tracing::warn!(%error, "onnxruntime: no thread to make one more session");
            }
        }
    }

    fn grown(pool: &Weak<Self>, made: Result<Session, LoadError>) {
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state.lock();
        state.growing = false;
        match made {
            Ok(session) => {
                state.alive += 1;
                state.free.push(session);
            }
            Err(error) => {
                state.most = state.alive;
                tracing::warn!(%error, "onnxruntime: one more session could not be made");
            }
        }
        drop(state);
        pool.returned.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Some(grower) = self.state.get_mut().grower.take() else { return };
        // The thread itself may hold the pool for the last moment of its life.
        if grower.thread().id() != std::thread::current().id() {
            drop(grower.join());
        }
    }
}

/// A session on loan.
pub(super) struct Lent<'p> {
    pool: &'p Arc<Pool>,
    /// `None` when there is nothing to give back.
    session: Option<Session>,
}

impl Lent<'_> {
    /// Whether the session was lost to a panic.
    pub(super) fn is_lost(&self) -> bool {
        self.session.is_none()
    }

    /// Runs the graph. After a panic the session is not used again.
    ///
    /// # Errors
    /// Why the run failed; that an output is not what there is a tensor for.
    pub(super) fn run(
        &mut self,
        inputs: &[SessionInputValue<'_>],
        targets: Option<&Targets>,
    ) -> Result<Values, EngineError> {
        let Some(mut session) = self.session.take() else {
            return Err(EngineError::new("session: used after a panic"));
        };
        let outcome = caught(|| {
            let outputs = match targets {
                Some(targets) => session.run_with_options(inputs, targets),
                None => session.run(inputs),
            };
            let outputs = outputs.map_err(|error| unfit::error(&error));
            Ok(outputs.map(|outputs| outputs.into_iter().map(|(_, value)| value).collect()))
        });
        match outcome {
            Ok(outputs) => {
                self.session = Some(session);
                outputs
            }
            Err(panic) => Err(panic),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        match self.session.take() {
            Some(session) => state.free.push(session),
            None => state.alive -= 1,
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}
