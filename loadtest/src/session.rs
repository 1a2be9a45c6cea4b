//! Carries out a plan: one run against one server, or alternating rounds against two. Used by `main`.

use std::sync::Arc;
use std::time::Duration;

use crate::bench::{Bench, Bounds, Measured};
use crate::clock::SystemClock;
use crate::error::Result;
use crate::plan::{Load, Plan};
use crate::sender::Client;
use crate::target::Target;
use crate::verify::Checker;
use crate::{run_closed, run_open};

/// One server with everything needed to load it. Connections are kept between rounds.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) url: String,
    pub(crate) model: String,
    pub(crate) target: Target,
    /// Rows of one request.
    pub(crate) rows: u64,
    pub(crate) cases: usize,
    pub(crate) client: Arc<Client>,
    pub(crate) checker: Arc<Checker>,
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
}

/// Both servers' sums and their rounds.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) first: Measured,
    pub(crate) second: Measured,
    pub(crate) rounds: Vec<Round>,
}

impl Side {
    /// One run.
    pub(crate) async fn measure(&self, load: &Load, bounds: &Bounds) -> Result<Measured> {
        let parts = (Arc::clone(&self.client), Arc::clone(&self.checker));
        let bench = Bench::new(parts, self.cases, SystemClock::start(), bounds)?;
        match load {
            Load::Closed { concurrency } => run_closed::run(bench, bounds, *concurrency).await,
            Load::Open(open) => run_open::run(bench, bounds, open).await,
        }
    }
}

impl Measured {
    /// Answers per second over the measured time.
    pub(crate) fn throughput(&self) -> f64 {
        per_second(self.tally.arrived, self.elapsed)
    }

    fn figures(&self) -> RoundFigures {
        let latency = &self.tally.latency;
        let (p50, p99) = (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99));
        RoundFigures { throughput: self.throughput(), p50, p99 }
    }

    fn absorb(&mut self, other: Self) {
        self.tally.absorb(other.tally);
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
    }
}

/// `count` over `elapsed`; 0 over no time.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// Measures the plan's side and `versus` in `rounds` rounds each. Who goes first changes with every round, so that a
/// machine that gets slower or faster meanwhile favours neither.
pub(crate) async fn compare(plan: &Plan, versus: &Side, rounds: u32) -> Result<Comparison> {
    let whole = &plan.bounds;
    let bounds = Bounds {
        warmup: whole.warmup / rounds,
        duration: whole.duration / rounds,
        requests: whole.requests.div_ceil(u64::from(rounds)),
        ..whole.clone()
    };
    let mut sum: Option<(Measured, Measured)> = None;
    let mut seen = Vec::with_capacity(rounds as usize);
    for round in 0..rounds {
        let (first, second) = if round % 2 == 0 {
            let first = plan.side.measure(&plan.load, &bounds).await?;
            (first, versus.measure(&plan.load, &bounds).await?)
        } else {
            let second = versus.measure(&plan.load, &bounds).await?;
            (plan.side.measure(&plan.load, &bounds).await?, second)
        };
        seen.push(Round { first: first.figures(), second: second.figures() });
        sum = Some(match sum {
            None => (first, second),
            Some((mut all_first, mut all_second)) => {
                all_first.absorb(first);
                all_second.absorb(second);
                (all_first, all_second)
            }
        });
    }
    let (first, second) = match sum {
        Some(sum) => sum,
        None => return Err(crate::error::Fault::new("--rounds", "expected at least one")),
    };
    Ok(Comparison { first, second, rounds: seen })
}
