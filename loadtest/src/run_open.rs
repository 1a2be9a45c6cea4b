//! Open loop: requests are sent when their time has come, whether or not earlier ones were answered, as independent
//! callers do. Latency counts from the intended time, so a stall shows in every request that was due during it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::arrivals::{Arrivals, Spacing};
use crate::bench::{Bench, Bounds, Measured, join_all, reap};
use crate::clock::{Clock, CpuTime};
use crate::error::Result;
use crate::profile::Profile;
use crate::sender::Sender;

/// What an open loop sends.
#[derive(Debug, Clone)]
pub(crate) struct OpenLoad {
    /// Requests per second.
    pub(crate) rate: Profile,
    pub(crate) spacing: Spacing,
    /// Requests without an answer, at most; arrivals beyond are dropped and counted.
    pub(crate) outstanding: usize,
    pub(crate) seed: u64,
}

/// Arrivals sent in one go, before the runtime gets to read answers again.
const BURST: usize = 64;

/// Sends at the load's times until the window ends or the requests are used up.
pub(crate) async fn run<S: Sender, C: Clock>(bench: Bench<S, C>, bounds: &Bounds, load: &OpenLoad) -> Result<Measured> {
    let bench = Arc::new(bench);
    let mut flight = Flight { bench: Arc::clone(&bench), tasks: JoinSet::new(), limit: load.outstanding };
    let origin = bench.window.start.saturating_sub(bounds.warmup);
    let mut arrivals = Arrivals::new(load.spacing, &load.rate, (origin, bounds.warmup), load.seed);
    let mut due = arrivals.next();
    let mut left = bounds.requests;
    let mut cpu_before = None;
    while due < bench.window.end && left > 0 && !bench.stop.is_set() {
        if bench.clock.now() < due {
            tokio::select! {
                () = bench.clock.sleep_until(due) => {}
                () = bench.stop.wait() => break,
            }
        } else {
            yield_now().await;
        }
        let now = bench.clock.now();
        for _ in 0..BURST {
            if due > now || due >= bench.window.end || left == 0 {
                break;
            }
            if due >= bench.window.start {
                left -= 1;
                cpu_before.get_or_insert_with(|| bench.cpu_time());
            }
            flight.depart(due);
            due = arrivals.next();
        }
        reap(&mut flight.tasks);
    }
    if left > 0 {
        tokio::select! {
            () = bench.clock.sleep_until(bench.window.end) => {}
            () = bench.stop.wait() => {}
        }
    }
    let end = bench.end();
    let cpu = cpu_before.map_or_else(CpuTime::default, |before| bench.cpu_time().since(before));
    let _ = timeout(bench.grace(bounds), join_all(&mut flight.tasks)).await;
    bench.finish(end, cpu, flight.tasks.len())
}

/// Requests under way.
struct Flight<S, C> {
    bench: Arc<Bench<S, C>>,
    tasks: JoinSet<()>,
    limit: usize,
}

impl<S: Sender, C: Clock> Flight<S, C> {
    fn depart(&mut self, due: Duration) {
        if self.tasks.len() >= self.limit {
            // Finished tasks count until they are reaped.
            reap(&mut self.tasks);
        }
        if self.tasks.len() >= self.limit {
            self.bench.drop_arrival(due);
            return;
        }
        let bench = Arc::clone(&self.bench);
        self.tasks.spawn(async move {
            bench.sent(due);
            bench.one(due).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{FakeServer, bench, bounds};
    use crate::sender::Code;

    fn load(rate: f64, outstanding: usize) -> OpenLoad {
        OpenLoad { rate: Profile::constant(rate), spacing: Spacing::Constant, outstanding, seed: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_shows_in_every_request_that_was_due_during_it() {
        // One request at a time: the first measured one takes 500 ms, the others 1 ms. Request i is due at 10*i ms and
        // done at 500+i ms until the backlog is gone, so 56 of 100 are slow. Timed from the send, one would have been.
        let server = FakeServer::serial(Duration::from_millis(1)).stalling_once(Duration::from_millis(500));
        let bounds = bounds(u64::MAX);
        let measured = run(bench(server, &bounds), &bounds, &load(100.0, 1000)).await.unwrap();
        let tally = &measured.tally;
        assert_eq!((tally.answered(), tally.dropped), (100, 0));
        let at = |quantile| tally.latency.value_at_quantile(quantile) / 1_000_000;
        assert!(at(0.40) <= 2, "p40 {} ms", at(0.40));
        assert!((215..=245).contains(&at(0.70)), "p70 {} ms", at(0.70));
        assert!((395..=425).contains(&at(0.90)), "p90 {} ms", at(0.90));
        assert!((490..=510).contains(&at(1.0)), "max {} ms", at(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn arrivals_beyond_the_bound_are_dropped_and_counted() {
        let server = FakeServer::parallel(Duration::from_secs(100_000));
        let bounds = bounds(u64::MAX);
        let measured = run(bench(server, &bounds), &bounds, &load(100.0, 4)).await.unwrap();
        // The four places were taken in the warm-up.
        assert_eq!((measured.tally.dropped, measured.tally.answered()), (100, 0));
        assert_eq!(measured.tally.errors[&Code::Unfinished].count, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_ends_the_run_early() {
        let server = FakeServer::parallel(Duration::from_millis(1));
        let bounds = bounds(20);
        let measured = run(bench(server, &bounds), &bounds, &load(100.0, 4)).await.unwrap();
        assert_eq!(measured.tally.answered(), 20);
        assert!(measured.elapsed < Duration::from_millis(200), "{:?}", measured.elapsed);
    }
}
