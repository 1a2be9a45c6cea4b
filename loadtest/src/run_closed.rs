//! Closed loop: a fixed number of callers, each sending its next request when the last is answered. Measures the most a
//! server can do; hides queueing, because slow answers slow the callers down (see `run_open` for the other question).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bench::{Bench, Bounds, End, Measured, join_all};
use crate::clock::{Clock, cpu_time};
use crate::error::Result;
use crate::sender::Sender;

/// Runs `concurrency` callers until the window ends or the requests are used up.
pub(crate) async fn run<S: Sender, C: Clock>(
    bench: Bench<S, C>,
    bounds: &Bounds,
    concurrency: usize,
) -> Result<Measured> {
    let bench = Arc::new(bench);
    let tickets = Arc::new(AtomicU64::new(bounds.requests));
    let mut callers = JoinSet::new();
    for _ in 0..concurrency {
        callers.spawn(call(Arc::clone(&bench), Arc::clone(&tickets)));
    }
    bench.clock.sleep_until(bench.window.start).await;
    let cpu_before = cpu_time();
    tokio::select! {
        () = bench.clock.sleep_until(bench.window.end) => {}
        () = join_all(&mut callers) => {}
    }
    let end = if bench.clock.now() < bench.window.end { End::Count } else { End::Time };
    let cpu = cpu_time().saturating_sub(cpu_before);
    // Callers stop by themselves after their last answer; those still waiting after the grace are given up.
    let _ = timeout(bounds.grace, join_all(&mut callers)).await;
    bench.finish(end, cpu, callers.len())
}

/// One caller. A measured request takes a ticket; warm-up requests are free.
async fn call<S: Sender, C: Clock>(bench: Arc<Bench<S, C>>, tickets: Arc<AtomicU64>) {
    let mut now = bench.clock.now();
    while now < bench.window.end {
        let take = |left: u64| left.checked_sub(1);
        let measured = now >= bench.window.start;
        if measured && tickets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return;
        }
        // The answer's time is the next request's send time: one look at the clock per request.
        now = bench.one(now).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::tests::{FakeServer, bench, bounds};
    use crate::sender::Code;

    #[tokio::test(start_paused = true)]
    async fn callers_wait_for_their_answers() {
        // 4 callers, 10 ms each, 1 s: 400 answers.
        let server = FakeServer::parallel(Duration::from_millis(10));
        let bounds = bounds(u64::MAX);
        let measured = run(bench(server, &bounds), &bounds, 4).await.unwrap();
        assert_eq!(measured.elapsed, Duration::from_secs(1));
        assert!((396..=404).contains(&measured.tally.arrived), "{}", measured.tally.arrived);
        assert_eq!(measured.tally.latency.max() / 1_000_000, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_ends_the_run_early() {
        let server = FakeServer::parallel(Duration::from_millis(10));
        let bounds = bounds(40);
        let measured = run(bench(server, &bounds), &bounds, 4).await.unwrap();
        assert_eq!(measured.tally.answered(), 40);
        assert!(measured.elapsed <= Duration::from_millis(120), "{:?}", measured.elapsed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_does_not_hold_the_run() {
        let server = FakeServer::parallel(Duration::from_secs(100_000));
        let bounds = bounds(u64::MAX);
        let measured = run(bench(server, &bounds), &bounds, 4).await.unwrap();
        assert_eq!(measured.tally.errors[&Code::Unfinished].count, 4);
    }
}
