//! One run, whatever drives it: the shared parts of the closed and the open loop. `run_closed` and `run_open` call
//! [`Bench::one`] for every request; `session` makes the bench and takes its result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::clock::{Clock, CpuTime};
use crate::error::Result;
use crate::mix::Mix;
use crate::sender::{Call, Code, Failure, Sender};
use crate::stop::Stop;
use crate::tally::{Tally, Window};
use crate::timeline::{Ending, Timeline};
use crate::verify::{Checker, Verdict};

/// The bounds of a run.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Measured requests, at most.
    pub(crate) requests: u64,
    /// How long answers are waited for after the last request was sent.
    pub(crate) grace: Duration,
    /// Slices of the timeline; 0 for none.
    pub(crate) slices: usize,
}

/// One kind of requests within a run.
#[derive(Debug)]
pub(crate) struct Class<S> {
    pub(crate) sender: Arc<S>,
    pub(crate) checker: Arc<Checker>,
    /// How many cases the sender has; they are sent in turn.
    pub(crate) cases: usize,
    /// Share of the requests, against the other classes' weights.
    pub(crate) weight: u32,
    /// Deadline that is sent along; later answers are counted as late.
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel: Option<Cancel>,
}

/// Requests that are taken back before they are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cancel {
    /// Share of the requests, 0 to 1.
    pub(crate) share: f64,
    pub(crate) after: Duration,
}

impl Cancel {
    /// Whether request `number` is one of them: a multiplicative hash, so that they are spread and the same in every run.
    fn hits(&self, number: u64) -> bool {
        (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1_u64 << 53) as f64 <= self.share
    }
}

/// What every request of a run shares.
#[derive(Debug)]
pub(crate) struct Bench<S, C> {
    classes: Arc<[Class<S>]>,
    mix: Mix,
    /// Requests so far, in all and by class.
    next: AtomicU64,
    next_case: Vec<AtomicUsize>,
    pub(crate) clock: C,
    pub(crate) stop: Stop,
    pub(crate) window: Window,
    /// The server's process, if it is watched.
    server: Option<u32>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    classes: Vec<Tally>,
    timeline: Option<Timeline>,
    /// What belongs to no class: arrivals that were not sent.
    rest: Tally,
}

/// Why sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The window was over.
    Time,
    /// The requests were used up before that.
    Count,
    /// The run was stopped at this time of its clock.
    Stopped(Duration),
}

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// All classes together.
    pub(crate) tally: Tally,
    pub(crate) classes: Vec<Tally>,
    pub(crate) timeline: Option<Timeline>,
    /// The time over which `tally.arrived` was counted.
    pub(crate) elapsed: Duration,
    /// CPU time in the window.
    pub(crate) cpu: CpuTime,
}

impl<S: Sender, C: Clock> Bench<S, C> {
    /// A bench whose warm-up starts now.
    pub(crate) fn new(classes: Arc<[Class<S>]>, clock: C, bounds: &Bounds, stop: &Stop) -> Result<Self> {
        let start = clock.now() + bounds.warmup;
        let window = Window { start, end: start + bounds.duration };
        let counts = Counts {
            classes: classes.iter().map(|class| Tally::new(window, class.deadline)).collect::<Result<_>>()?,
            timeline: (bounds.slices > 0).then(|| Timeline::new(window, bounds.slices)).transpose()?,
            rest: Tally::new(window, None)?,
        };
        Ok(Self {
            mix: Mix::new(classes.iter().map(|class| class.weight)),
            next: AtomicU64::new(0),
            next_case: classes.iter().map(|_| AtomicUsize::new(0)).collect(),
            classes,
            clock,
            stop: stop.clone(),
            window,
            server: None,
            counts: Mutex::new(counts),
        })
    }

    /// The same, with the CPU time of the server's process.
    pub(crate) fn watching(self, server: Option<u32>) -> Self {
        Self { server, ..self }
    }

    /// CPU time used so far.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        CpuTime::now(self.server)
    }

    /// Sends one request that was intended for `intended`, counts it, and says when it was done.
    pub(crate) async fn one(&self, intended: Duration) -> Duration {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = self.mix.class(number);
        let class = &self.classes[at];
        let case = self.next_case[at].fetch_add(1, Ordering::Relaxed) % class.cases.max(1);
        let call = Call { case, number };
        let reply = match class.cancel.filter(|cancel| cancel.hits(number)) {
            None => class.sender.send(call).await,
            Some(cancel) => {
                let taken_back = Failure { code: Code::TakenBack, text: String::new() };
                timeout(cancel.after, class.sender.send(call)).await.unwrap_or(Err(taken_back))
            }
        };
        let done = self.clock.now();
        // After the clock was read: checking an answer is no part of its latency.
        let outcome = reply.map(|answer| class.checker.check(call, &answer));
        let latency = done.saturating_sub(intended);
        let late = class.deadline.is_some_and(|deadline| latency > deadline);
        let counts = &mut *self.counts.lock();
        if let Some(timeline) = counts.timeline.as_mut() {
            let ending = match &outcome {
                Err(failure) if failure.code == Code::TakenBack => None,
                Err(_) | Ok(Verdict::Wrong { .. }) => Some(Ending::Failed),
                Ok(_) if late => Some(Ending::Late),
                Ok(_) => Some(Ending::InTime),
            };
            ending.into_iter().for_each(|ending| timeline.record(intended, latency, ending));
        }
        counts.classes[at].record(intended, done, outcome);
        done
    }

    /// Notes that a request intended at `intended` leaves now (open loop).
    pub(crate) fn sent(&self, intended: Duration) {
        self.counts.lock().rest.sent(intended, self.clock.now());
    }

    /// Counts an arrival at `intended` that is not sent (open loop).
    pub(crate) fn drop_arrival(&self, intended: Duration) {
        let counts = &mut *self.counts.lock();
        counts.rest.drop_arrival(intended);
        if let Some(timeline) = counts.timeline.as_mut() {
            timeline.record(intended, Duration::ZERO, Ending::Failed);
        }
    }

    /// The result, once sending has ended; `cpu` was used in the window and `unanswered` requests were given up.
    pub(crate) fn finish(&self, end: End, cpu: CpuTime, unanswered: usize) -> Result<Measured> {
        // Tasks that are being aborted may still hold the bench, so the counts are taken out rather than the bench apart.
        let mut counts = self.counts.lock();
        counts.rest.give_up(unanswered);
        let empty = Tally::new(self.window, None)?;
        let mut tally = std::mem::replace(&mut counts.rest, empty);
        let classes = std::mem::take(&mut counts.classes);
        let timeline = counts.timeline.take();
        // Later answers have no class to be counted in any more.
        counts.classes.extend(classes.iter().map(|_| Tally::new(self.window, None)).collect::<Result<Vec<_>>>()?);
        drop(counts);
        classes.iter().for_each(|class| tally.absorb(class));
        let until = match end {
            End::Time => self.window.end,
            End::Count => tally.last_arrival,
            End::Stopped(at) => at,
        };
        Ok(Measured { elapsed: until.saturating_sub(self.window.start), tally, classes, timeline, cpu })
    }

    /// How sending ended that ends now.
    pub(crate) fn end(&self) -> End {
        let now = self.clock.now();
        match now < self.window.end {
            true if self.stop.is_set() => End::Stopped(now),
            true => End::Count,
            false => End::Time,
        }
    }

    /// How long answers are waited for after the last request: not long if somebody waits for the program to end.
    pub(crate) fn grace(&self, bounds: &Bounds) -> Duration {
        if self.stop.is_set() { bounds.grace.min(STOPPED_GRACE) } else { bounds.grace }
    }
}

const STOPPED_GRACE: Duration = Duration::from_secs(1);

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
    use crate::sender::Answer;
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
        async fn send(&self, _call: Call) -> Result<Answer, Failure> {
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
        Bounds { warmup: WARMUP, duration, requests, grace, slices: 10 }
    }

    pub(crate) fn class(server: FakeServer) -> Class<FakeServer> {
        let checker = Arc::new(Checker::new(&[], Verify::None, Tolerance { absolute: 0.0, relative: 0.0 }));
        let sender = Arc::new(server);
        Class { sender, checker, cases: 1, weight: 1, deadline: None, cancel: None }
    }

    pub(crate) fn bench(server: FakeServer, bounds: &Bounds) -> Bench<FakeServer, PausedClock> {
        bench_of(vec![class(server)], bounds, &Stop::default())
    }

    pub(crate) fn bench_of(
        classes: Vec<Class<FakeServer>>,
        bounds: &Bounds,
        stop: &Stop,
    ) -> Bench<FakeServer, PausedClock> {
        Bench::new(classes.into(), PausedClock::start(), bounds, stop).unwrap()
    }

    #[test]
    fn the_share_that_is_taken_back_is_the_one_asked_for() {
        let cancel = Cancel { share: 0.1, after: Duration::ZERO };
        let hits = (0..10_000).filter(|number| cancel.hits(*number)).count();
        assert!((950..=1050).contains(&hits), "{hits}");
        assert!((0..100).all(|number| Cancel { share: 1.0, ..cancel }.hits(number)));
    }
}
