//! One run against one target, whatever drives it: the shared parts of the closed and the open loop. `run_closed` and
//! `run_open` call [`Bench::one`] for every request; `session` makes the bench and takes its result.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{JoinError, JoinSet};

use crate::clock::Clock;
use crate::error::Result;
use crate::sender::Sender;
use crate::tally::{Tally, Window};
use crate::verify::Checker;

/// The bounds of a run.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Measured requests, at most.
    pub(crate) requests: u64,
    /// How long answers are waited for after the last request was sent.
    pub(crate) grace: Duration,
    /// Deadline that was sent along; later answers are counted as late.
    pub(crate) deadline: Option<Duration>,
}

/// What every request of a run shares.
#[derive(Debug)]
pub(crate) struct Bench<S, C> {
    sender: Arc<S>,
    checker: Arc<Checker>,
    pub(crate) clock: C,
    cases: usize,
    next_case: AtomicUsize,
    pub(crate) window: Window,
    pub(crate) tally: Mutex<Tally>,
}

/// Why sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The window was over.
    Time,
    /// The requests were used up before that.
    Count,
}

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// The time over which `tally.arrived` was counted.
    pub(crate) elapsed: Duration,
    /// CPU time of this process in the window.
    pub(crate) cpu: Duration,
}

impl<S: Sender, C: Clock> Bench<S, C> {
    /// A bench whose warm-up starts now. `cases` is how many cases the sender has; they are sent in turn.
    pub(crate) fn new(parts: (Arc<S>, Arc<Checker>), cases: usize, clock: C, bounds: &Bounds) -> Result<Self> {
        let start = clock.now() + bounds.warmup;
        let window = Window { start, end: start + bounds.duration };
        let tally = Mutex::new(Tally::new(window, bounds.deadline)?);
        let (sender, checker) = parts;
        Ok(Self { sender, checker, clock, cases: cases.max(1), next_case: AtomicUsize::new(0), window, tally })
    }

    /// Sends one request that was intended for `intended`, counts it, and says when it was done.
    pub(crate) async fn one(&self, intended: Duration) -> Duration {
        let case = self.next_case.fetch_add(1, Ordering::Relaxed) % self.cases;
        let reply = self.sender.send(case).await;
        let done = self.clock.now();
        // After the clock was read: checking an answer is no part of its latency.
        let outcome = reply.map(|answer| self.checker.check(case, &answer));
        self.tally.lock().record(intended, done, outcome);
        done
    }

    /// The result, once sending has ended; `cpu` was used in the window and `unanswered` requests were given up.
    pub(crate) fn finish(&self, end: End, cpu: Duration, unanswered: usize) -> Result<Measured> {
        // Tasks that are being aborted may still hold the bench, so the tally is taken out rather than the bench apart.
        let empty = Tally::new(self.window, None)?;
        let mut tally = std::mem::replace(&mut *self.tally.lock(), empty);
        tally.give_up(unanswered);
        let until = match end {
            End::Time => self.window.end,
            End::Count => tally.last_arrival,
        };
        Ok(Measured { elapsed: until.saturating_sub(self.window.start), tally, cpu })
    }
}

/// Waits for every task; a panic in one goes on here.
pub(crate) async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(joined) = tasks.join_next().await {
        pass_on_panic(joined);
    }
}

/// Forgets finished tasks without waiting; a panic in one goes on here.
pub(crate) fn reap(tasks: &mut JoinSet<()>) {
    while let Some(joined) = tasks.try_join_next() {
        pass_on_panic(joined);
    }
}

fn pass_on_panic(joined: Result<(), JoinError>) {
    if let Err(Ok(panic)) = joined.map_err(JoinError::try_into_panic) {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! A server that takes a given time, for the tests of both loops.

    use super::*;
    use crate::clock::fake::PausedClock;
    use crate::sender::{Answer, Failure};
    use crate::verify::{Tolerance, Verify};

    pub(crate) struct FakeServer {
        service: Duration,
        /// Held while serving, if requests are served one after the other.
        turn: Option<tokio::sync::Mutex<()>>,
        /// Taken by the first request after the warm-up.
        stall: Mutex<Option<Duration>>,
        started: tokio::time::Instant,
    }

    impl FakeServer {
        pub(crate) fn parallel(service: Duration) -> Self {
            Self { service, turn: None, stall: Mutex::default(), started: tokio::time::Instant::now() }
        }

        pub(crate) fn serial(service: Duration) -> Self {
            Self { turn: Some(tokio::sync::Mutex::default()), ..Self::parallel(service) }
        }

        pub(crate) fn stalling_once(self, stall: Duration) -> Self {
            Self { stall: Mutex::new(Some(stall)), ..self }
        }
    }

    impl Sender for FakeServer {
        async fn send(&self, _case: usize) -> Result<Answer, Failure> {
            let _turn = match &self.turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            let warm = self.started.elapsed() >= WARMUP;
            let stall = if warm { self.stall.lock().take() } else { None };
            tokio::time::sleep(stall.unwrap_or(self.service)).await;
            Ok(Answer::Grpc(bytes::Bytes::new()))
        }
    }

    const WARMUP: Duration = Duration::from_millis(100);

    /// 100 ms of warm-up, then 1 s.
    pub(crate) fn bounds(requests: u64) -> Bounds {
        let (duration, grace) = (Duration::from_secs(1), Duration::from_secs(10));
        Bounds { warmup: WARMUP, duration, requests, grace, deadline: None }
    }

    pub(crate) fn bench(server: FakeServer, bounds: &Bounds) -> Bench<FakeServer, PausedClock> {
        let checker = Checker::new(&[], Verify::None, Tolerance { absolute: 0.0, relative: 0.0 });
        Bench::new((Arc::new(server), Arc::new(checker)), 1, PausedClock::start(), bounds).unwrap()
    }
}
