//! Closed loop: a fixed number of callers, each sending its next request when the last is answered. Measures the most a
//! server can do; hides queueing, because slow answers slow the callers down (see `run_open` for the other question).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::{Bench, Bounds, Measured, join_all};
use crate::clock::Clock;
use crate::error::Result;
use crate::profile::Profile;
use crate::sender::Sender;

/// How often a caller looks whether its turn in a ramp has come.
const RAMP_LOOK: Duration = Duration::from_millis(5);

/// Runs as many callers as `callers` says until the window ends or the requests are used up.
pub(crate) async fn run<S: Sender, C: Clock>(
    bench: Bench<S, C>,
    bounds: &Bounds,
    callers: &Profile,
) -> Result<Measured> {
    let bench = Arc::new(bench);
    let tickets = Arc::new(AtomicU64::new(bounds.requests));
    let mut tasks = JoinSet::new();
    for number in 0..callers.most().round() as u64 {
        let turns = (!always(callers, number)).then(|| callers.clone());
        tasks.spawn(call(Arc::clone(&bench), Arc::clone(&tickets), (number, turns)));
    }
    tokio::select! {
        () = bench.clock.sleep_until(bench.window.start) => {}
        () = bench.stop.wait() => {}
    }
    let cpu_before = bench.cpu_time();
    tokio::select! {
        () = bench.clock.sleep_until(bench.window.end) => {}
        () = join_all(&mut tasks) => {}
        () = bench.stop.wait() => {}
    }
    let end = bench.end();
    let cpu = bench.cpu_time().since(cpu_before);
    // Callers stop by themselves after their last answer; those still waiting after the grace are given up.
    let _ = timeout(bench.grace(bounds), join_all(&mut tasks)).await;
    bench.finish(end, cpu, tasks.len())
}

/// Whether caller `number` calls all the time.
fn always(callers: &Profile, number: u64) -> bool {
    callers.legs().iter().all(|leg| number < leg.from.min(leg.to).round() as u64)
}

/// One caller, with the ramp that it has to look at, if any. A measured request takes a ticket; warm-up requests are free.
async fn call<S: Sender, C: Clock>(
    bench: Arc<Bench<S, C>>,
    tickets: Arc<AtomicU64>,
    (number, turns): (u64, Option<Profile>),
) {
    let mut now = bench.clock.now();
    while now < bench.window.end && !bench.stop.is_set() {
        let callers = turns.as_ref().map(|turns| turns.at(now.saturating_sub(bench.window.start)));
        if callers.is_some_and(|callers| number >= callers.round() as u64) {
            sleep(RAMP_LOOK).await;
            now = bench.clock.now();
            continue;
        }
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
    use super::*;
    use crate::bench::Cancel;
    use crate::bench::tests::{FakeServer, bench, bench_of, bounds, class};
    use crate::sender::Code;
    use crate::stop::Stop;

    #[tokio::test(start_paused = true)]
    async fn callers_wait_for_their_answers() {
        // 4 callers, 10 ms each, 1 s: 400 answers.
        let server = FakeServer::parallel(Duration::from_millis(10));
        let bounds = bounds(u64::MAX);
        let measured = run(bench(server, &bounds), &bounds, &Profile::constant(4.0)).await.unwrap();
        assert_eq!(measured.elapsed, Duration::from_secs(1));
        assert!((396..=404).contains(&measured.tally.arrived), "{}", measured.tally.arrived);
        assert_eq!(measured.tally.latency.max() / 1_000_000, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_ends_the_run_early() {
        let server = FakeServer::parallel(Duration::from_millis(10));
        let bounds = bounds(40);
        let measured = run(bench(server, &bounds), &bounds, &Profile::constant(4.0)).await.unwrap();
        assert_eq!(measured.tally.answered(), 40);
        assert!(measured.elapsed <= Duration::from_millis(120), "{:?}", measured.elapsed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_does_not_hold_the_run() {
        let server = FakeServer::parallel(Duration::from_secs(100_000));
        let bounds = bounds(u64::MAX);
        let measured = run(bench(server, &bounds), &bounds, &Profile::constant(4.0)).await.unwrap();
        assert_eq!(measured.tally.errors[&Code::Unfinished].count, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ramp_adds_callers() {
        // One caller in the first half, three in the second: 10 ms each, 50 and 150 answers.
        let bounds = bounds(u64::MAX);
        let callers = Profile::ramp(1.0, 3.0, Some(2), bounds.duration);
        let bench = bench(FakeServer::parallel(Duration::from_millis(10)), &bounds);
        let measured = run(bench, &bounds, &callers).await.unwrap();
        let timeline = measured.timeline.unwrap();
        let answers: Vec<u64> = timeline.slices.iter().map(|slice| slice.answered).collect();
        assert!(answers[..5].iter().all(|count| (9..=11).contains(count)), "{answers:?}");
        assert!(answers[6..].iter().all(|count| (28..=32).contains(count)), "{answers:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_run_keeps_what_it_has() {
        let (bounds, stop) = (bounds(u64::MAX), Stop::default());
        let bench = bench_of(vec![class(FakeServer::parallel(Duration::from_millis(10)))], &bounds, &stop);
        let stopping = async {
            sleep(Duration::from_millis(600)).await;
            stop.set();
        };
        let callers = Profile::constant(2.0);
        let (measured, ()) = tokio::join!(run(bench, &bounds, &callers), stopping);
        let measured = measured.unwrap();
        assert_eq!(measured.elapsed.as_millis(), 500);
        assert!((98..=102).contains(&measured.tally.answered()), "{}", measured.tally.answered());
        assert!(measured.tally.errors.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn classes_share_the_requests_by_weight_and_are_counted_apart() {
        let bounds = bounds(400);
        let fast = class(FakeServer::parallel(Duration::from_millis(1)));
        let slow = class(FakeServer::parallel(Duration::from_millis(5)));
        let cancel = Some(Cancel { share: 1.0, after: Duration::from_millis(2) });
        let deadline = Some(Duration::from_millis(3));
        let classes = vec![
            crate::bench::Class { weight: 2, ..fast },
            crate::bench::Class { deadline, ..slow },
            crate::bench::Class { cancel, ..class(FakeServer::parallel(Duration::from_millis(5))) },
        ];
        let bench = bench_of(classes, &bounds, &Stop::default());
        let measured = run(bench, &bounds, &Profile::constant(1.0)).await.unwrap();
        let [fast, late, taken_back] = &measured.classes[..] else { panic!("three classes") };
        assert!(fast.answered().abs_diff(200) <= 2 && fast.late == 0, "{}", fast.answered());
        assert!(late.answered().abs_diff(100) <= 2 && late.late == late.answered(), "{}", late.answered());
        assert!(taken_back.cancelled.abs_diff(100) <= 2 && taken_back.answered() == 0);
        assert_eq!(measured.tally.answered(), fast.answered() + late.answered());
        assert_eq!(measured.tally.latency.max() / 1_000_000, 5);
    }
}
