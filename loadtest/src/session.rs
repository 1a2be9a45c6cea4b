//! Carries out a plan: one run against one server, or alternating rounds against two. Used by `main` and the scenarios.

use std::sync::Arc;
use std::time::Duration;

use crate::bench::{Bench, Bounds, Class, Measured};
use crate::class::ClassSpec;
use crate::clock::SystemClock;
use crate::error::{Fault, Result};
use crate::plan::Load;
use crate::sender::Client;
use crate::stop::Stop;
use crate::{run_closed, run_open};

/// One server with everything needed to load it. Connections are kept between rounds.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) specs: Vec<ClassSpec>,
    pub(crate) classes: Arc<[Class<Client>]>,
    /// Rows of one request, by class.
    pub(crate) rows: Vec<u64>,
    /// Connections of all classes together.
    pub(crate) connections: usize,
    /// The server's process, if its CPU time is to be counted.
    pub(crate) pid: Option<u32>,
}

/// One round of a comparison, seen from both servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) first: RoundFigures,
    pub(crate) second: RoundFigures,
}

/// What rounds are compared by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundFigures {
    /// Answers per second.
    pub(crate) throughput: f64,
    /// Nanoseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    /// CPU time of the generator, nanoseconds per answer.
    pub(crate) client_cpu: f64,
    /// CPU time of the server, likewise; 0 if it is not watched.
    pub(crate) server_cpu: f64,
}

/// Both servers' sums and their rounds.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) first: Measured,
    pub(crate) second: Measured,
    pub(crate) rounds: Vec<Round>,
}

impl Side {
    /// The same, with the CPU time of the server's process.
    pub(crate) fn watching(self, pid: Option<u32>) -> Self {
        Self { pid, ..self }
    }

    /// One run.
    pub(crate) async fn measure(&self, load: &Load, bounds: &Bounds, stop: &Stop) -> Result<Measured> {
        let bench = Bench::new(Arc::clone(&self.classes), SystemClock::start(), bounds, stop)?.watching(self.pid);
        match load {
            Load::Closed { callers } => run_closed::run(bench, bounds, callers).await,
            Load::Open(open) => run_open::run(bench, bounds, open).await,
        }
    }

    /// Requests that went out again; see [`crate::sender::ATTEMPTS`].
    pub(crate) fn resent(&self) -> u64 {
        self.classes.iter().map(|class| class.sender.resent()).sum()
    }
}

impl Measured {
    /// CPU time of the server per answer, microseconds.
    pub(crate) fn server_cpu(&self) -> Option<f64> {
        let server = self.cpu.server.filter(|_| self.tally.arrived > 0)?;
        Some(server.as_secs_f64() * 1e6 / self.tally.arrived as f64)
    }

    /// Answers per second over the measured time.
    pub(crate) fn throughput(&self) -> f64 {
        per_second(self.tally.arrived, self.elapsed)
    }

    /// Answers within the deadline per second over the measured time.
    pub(crate) fn goodput(&self) -> f64 {
        per_second(self.tally.in_time(), self.elapsed)
    }

    fn figures(&self) -> RoundFigures {
        let latency = &self.tally.latency;
        let (p50, p99) = (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99));
        let each = |cpu: Duration| cpu.as_nanos() as f64 / self.tally.arrived.max(1) as f64;
        let (client_cpu, server_cpu) = (each(self.cpu.client), self.cpu.server.map_or(0.0, each));
        RoundFigures { throughput: self.throughput(), p50, p99, client_cpu, server_cpu }
    }

    fn absorb(&mut self, other: &Self) {
        self.tally.absorb(&other.tally);
        self.classes.iter_mut().zip(&other.classes).for_each(|(mine, theirs)| mine.absorb(theirs));
        self.elapsed += other.elapsed;
        self.cpu.add(other.cpu);
    }
}

/// `count` over `elapsed`; 0 over no time.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// How two sides are compared.
#[derive(Debug)]
pub(crate) struct Duel<'a> {
    pub(crate) first: &'a Side,
    pub(crate) second: &'a Side,
    pub(crate) load: &'a Load,
    /// Of all rounds together.
    pub(crate) bounds: &'a Bounds,
    pub(crate) rounds: u32,
}

impl Duel<'_> {
    /// Measures both sides in rounds. Who goes first changes with every round, so that a machine that gets slower or faster
    /// meanwhile favours neither. A stopped comparison keeps the rounds that are complete.
    pub(crate) async fn run(&self, stop: &Stop) -> Result<Comparison> {
        let whole = self.bounds;
        let bounds = Bounds {
            warmup: whole.warmup / self.rounds,
            duration: whole.duration / self.rounds,
            requests: whole.requests.div_ceil(u64::from(self.rounds)),
            ..whole.clone()
        };
        let mut sum: Option<(Measured, Measured)> = None;
        let mut rounds = Vec::with_capacity(self.rounds as usize);
        for round in 0..self.rounds {
            let (first, second) = if round % 2 == 0 {
                let first = self.first.measure(self.load, &bounds, stop).await?;
                (first, self.second.measure(self.load, &bounds, stop).await?)
            } else {
                let second = self.second.measure(self.load, &bounds, stop).await?;
                (self.first.measure(self.load, &bounds, stop).await?, second)
            };
            if stop.is_set() && sum.is_some() {
                break;
            }
            rounds.push(Round { first: first.figures(), second: second.figures() });
            match &mut sum {
                None => sum = Some((first, second)),
                Some((all_first, all_second)) => {
                    all_first.absorb(&first);
                    all_second.absorb(&second);
                }
            }
        }
        let (first, second) = sum.ok_or_else(|| Fault::new("--rounds", "expected at least one"))?;
        Ok(Comparison { first, second, rounds })
    }
}
