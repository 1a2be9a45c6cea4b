//! A servable's circuit: after several failures of whole batches in a row, or a run that does not end, requests are refused at
//! once instead of being queued for a model that is broken. After a pause one request is let through to find out; the pause
//! grows as long as that fails. Asked by lanes for every request, told by whoever runs batches.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

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
    shown: AtomicU8,
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
            shown: AtomicU8::new(CircuitState::Closed as u8),
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

    /// How it stands, for whoever shows it. Rings when that is not what was shown before.
    pub(crate) fn show(&self) -> CircuitState {
        let state = self.state();
        if self.shown.swap(state as u8, AcqRel) != state as u8 {
            self.bell.ring();
        }
        state
    }

    /// How often it has opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn circuit(failures: u32) -> Circuit {
        Circuit::new(Limits { failures, pause: PAUSE }, Arc::default())
    }

    #[test]
    fn every_change_is_heard_once() {
        let bell = Arc::new(Bell::default());
        let rung = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&rung);
        bell.follow(move || _ = counts.fetch_add(1, Relaxed));
        let circuit = Circuit::new(Limits { failures: 1, pause: PAUSE }, bell);
        let (start, heard) = (Instant::now(), || rung.load(Relaxed));
        assert_eq!((circuit.show(), heard()), (CircuitState::Closed, 0));
        circuit.failed(start);
        assert_eq!((circuit.show(), heard()), (CircuitState::Open, 1));
        assert_eq!((circuit.show(), heard()), (CircuitState::Open, 1), "no change");
        assert_eq!(circuit.admit(start + PAUSE), Ok(()));
        assert_eq!((circuit.show(), heard()), (CircuitState::HalfOpen, 2));
        circuit.succeeded();
        assert_eq!((circuit.show(), heard()), (CircuitState::Closed, 3));
    }

    #[test]
    fn opens_after_failures_in_a_row_and_closes_on_success() {
        let (circuit, start) = (circuit(3), Instant::now());
        assert!(!circuit.failed(start) && !circuit.failed(start));
        circuit.succeeded();
        assert!(!circuit.failed(start) && !circuit.failed(start));
        assert_eq!((circuit.admit(start), circuit.state()), (Ok(()), CircuitState::Closed));
        assert!(circuit.failed(start), "the third in a row");
        assert_eq!((circuit.admit(start), circuit.state()), (Err(PAUSE), CircuitState::Open));
        circuit.succeeded();
        assert_eq!(circuit.state(), CircuitState::Open, "a batch from before");
        let later = start + PAUSE;
        assert_eq!((circuit.admit(later), circuit.state()), (Ok(()), CircuitState::HalfOpen));
        assert_eq!(circuit.admit(later), Err(PAUSE), "one at a time");
        circuit.succeeded();
        assert_eq!((circuit.admit(later), circuit.state(), circuit.opened()), (Ok(()), CircuitState::Closed, 1));
    }

    #[test]
    fn the_pause_grows_as_long_as_it_fails() {
        let (circuit, mut now) = (circuit(1), Instant::now());
        assert!(circuit.failed(now));
        for doubled in [2, 4, 8, 16, 32, 60, 60] {
            now += Duration::from_secs(60);
            assert_eq!(circuit.admit(now), Ok(()));
            assert!(circuit.failed(now));
            assert_eq!(circuit.admit(now), Err(PAUSE * doubled));
        }
        assert_eq!(circuit.opened(), 8);
    }

    #[test]
    fn a_request_that_never_reports_is_followed_by_another() {
        let (circuit, now) = (circuit(1), Instant::now());
        circuit.failed(now);
        assert_eq!(circuit.admit(now + PAUSE), Ok(()));
        assert_eq!(circuit.admit(now + PAUSE * 2), Ok(()));
    }

    #[test]
    fn without_a_limit_only_a_run_that_does_not_end_opens_it() {
        let (circuit, now) = (circuit(0), Instant::now());
        assert!((0..100).all(|_| !circuit.failed(now)));
        circuit.trip(now);
        assert_eq!(circuit.admit(now), Err(PAUSE));
        circuit.trip(now);
        assert_eq!(circuit.admit(now), Err(PAUSE * 2));
    }

    proptest! {
        /// Whatever happens, a servable is asked again within the longest pause.
        #[test]
        fn it_never_stays_open(steps in proptest::collection::vec((0_u8..4, 0_u64..5_000), 0..60)) {
            let circuit = circuit(2);
            let mut now = Instant::now();
            for (what, wait) in steps {
                now += Duration::from_millis(wait);
                match what {
                    0 => circuit.succeeded(),
                    1 => drop(circuit.failed(now)),
                    2 => circuit.trip(now),
                    _ => drop(circuit.admit(now)),
                }
                let refused = circuit.admit(now);
                prop_assert!(refused.is_ok() || refused.is_err_and(|wait| wait <= LONGEST));
            }
            prop_assert_eq!(circuit.admit(now + LONGEST), Ok(()));
        }
    }
}
