//! A servable's circuit: after several failures of whole batches in a row, or a run that does not end, requests are refused at
//! once instead of being queued for a model that is broken. After a pause one request is let through to find out; the pause
//! grows as long as that fails. Asked by lanes for every request, told by whoever runs batches.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::sync::{
    Arc, Mutex,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The longest pause.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Tells whoever follows that the circuit of some servable has opened, closed or let somebody through. One per scheduler.
#[derive(Default)]
pub(crate) struct Bell(Mutex<Vec<Listener>>);

type Listener = Box<dyn Fn() + Send>;

impl Bell {
    /// Has `heard` called after every change, on the thread that made it; it must not block.
    pub(crate) fn follow(&self, heard: impl Fn() + Send + 'static) {
        self.0.lock().push(Box::new(heard));
    }

    fn ring(&self) {
        self.0.lock().iter().for_each(|heard| heard());
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.0.lock().len()).finish()
    }
}

/// Whether a servable is asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests pass.
    Closed,
    /// One request is on its way to find out whether the servable works again.
    HalfOpen,
    /// Requests are refused.
    Open,
}

impl CircuitState {
    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            CircuitState::Closed => "closed",
            CircuitState::HalfOpen => "half_open",
            CircuitState::Open => "open",
        }
    }
}

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Failures in a row; 0 = it never opens because of failures.
    pub(crate) failures: u32,
    /// The first pause.
    pub(crate) pause: Duration,
}

/// What is known of one servable's health.
#[derive(Debug)]
pub(crate) struct Circuit {
    limits: Limits,
    /// Nothing but `Closed` without failures: all that requests and batches look at as long as all is well.
    calm: AtomicBool,
    state: Mutex<State>,
    opened: AtomicU64,
    /// What was last shown outside.
    shown: Mutex<CircuitState>,
    bell: Arc<Bell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// The request that finds out has until then.
    HalfOpen {
        until: Instant,
        pause: Duration,
    },
}

impl Circuit {
    pub(crate) fn new(limits: Limits, bell: Arc<Bell>) -> Self {
        Self {
            limits,
            calm: AtomicBool::new(true),
            state: Mutex::new(State::Closed { failures: 0 }),
            opened: AtomicU64::new(0),
            shown: Mutex::new(CircuitState::Closed),
            bell,
        }
    }

    /// Lets a request pass, or says in how long one may.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        if self.is_calm() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let (until, pause) = match *state {
            State::Closed { .. } => return Ok(()),
            State::Open { until, pause } | State::HalfOpen { until, pause } => (until, pause),
        };
        if now < until {
            return Err(until - now);
        }
        *state = State::HalfOpen { until: now + pause, pause };
        Ok(())
    }

    /// In how long a request may pass.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        match *self.state.lock() {
            State::Closed { .. } => Duration::ZERO,
            State::Open { until, .. } | State::HalfOpen { until, .. } => until.saturating_duration_since(now),
        }
    }

    /// True when nothing has failed lately.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Acquire)
    }

    /// True when nothing is to be run, not even what was let in before.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_calm() && matches!(*self.state.lock(), State::Open { .. })
    }

    /// A batch has succeeded.
    pub(crate) fn succeeded(&self) {
        if self.is_calm() {
            return;
        }
        let mut state = self.state.lock();
        // A batch that was begun before the circuit opened says nothing.
        if !matches!(*state, State::Open { .. }) {
            *state = State::Closed { failures: 0 };
            self.calm.store(true, Release);
        }
    }

    /// All of a batch has failed. True when that has opened the circuit.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let pause = match *state {
            State::Closed { failures } => {
                let failures = failures + 1;
                if self.limits.failures == 0 {
                    return false;
                }
                if failures < self.limits.failures {
                    *state = State::Closed { failures };
                    self.calm.store(false, Release);
                    return false;
                }
                self.limits.pause
            }
            State::HalfOpen { pause, .. } => (pause * 2).min(LONGEST),
            State::Open { .. } => return false,
        };
        self.open(&mut state, now, pause);
        true
    }

    /// Whoever was to find out has not been run, or his inputs did not fit: the next one finds out.
    pub(crate) fn undecided(&self, now: Instant) {
        if self.is_calm() {
            return;
        }
        let mut state = self.state.lock();
        if let State::HalfOpen { until, .. } = &mut *state {
            *until = now.min(*until);
        }
    }

    /// A run does not end: opens the circuit whatever was before.
    pub(crate) fn trip(&self, now: Instant) {
        let mut state = self.state.lock();
        let pause = match *state {
            State::Closed { .. } => self.limits.pause,
            State::Open { pause, .. } | State::HalfOpen { pause, .. } => (pause * 2).min(LONGEST),
        };
        self.open(&mut state, now, pause);
    }

    fn open(&self, state: &mut State, now: Instant, pause: Duration) {
        *state = State::Open { until: now + pause, pause };
        self.calm.store(false, Release);
        self.opened.fetch_add(1, Relaxed);
    }

    /// How it stands.
    pub(crate) fn state(&self) -> CircuitState {
        if self.is_calm() {
            return CircuitState::Closed;
        }
        match *self.state.lock() {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { .. } => CircuitState::Open,
            State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Has `show` show how it stands; of several at once the last shows what is. Rings when that is not what was shown before.
    pub(crate) fn show(&self, show: impl FnOnce(CircuitState)) {
        let mut shown = self.shown.lock();
        let state = self.state();
        show(state);
        let before = std::mem::replace(&mut *shown, state);
        drop(shown);
        if before != state {
            self.bell.ring();
        }
    }

    /// How often it has opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }
}
