//! Brown-out: three times as much as the last stage of a cascade can do. With `best_so_far` rows that it has no room or time for
//! are answered by the stage before, and flagged; with `fail` their requests fail. The arrivals are an open loop whose clock is
//! the last stage itself: for every batch that it has done three times as many rows arrive, however fast the machine is and
//! whoever still waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};
use weir::types::{Error, ErrorCode, InferResponse, ParamValue};

use super::lab::{Lab, Made, floats, path, request, told, with};

/// Rows in a batch of the last stage, what a batch costs, and how many are asked for in all.
const BATCH: usize = 8;
const COST: Duration = Duration::from_millis(20);
const BATCHES: usize = 60;
/// Rows that arrive for every row that the last stage can do.
const OVERLOAD: usize = 3;
const AT_LEAST: f32 = 0.9;
const DEADLINE: Duration = Duration::from_millis(500);

/// A batch is never larger than eight rows, only one runs at a time, and four may wait.
const BOUNDED: &str = "[batching]\nmax_batch_size = 8\nmax_queue_rows = 32\n[resources]\nmax_parallel_batches = 1\n";
/// The same, and as many as want to may wait.
const PATIENT: &str = "[batching]\nmax_batch_size = 8\n[resources]\nmax_parallel_batches = 1\n";

/// The first stage costs nothing and says of every row how sure it is; whoever answers says who it is.
fn small() -> Made {
    Made::new("small", 1, (&[("x", 1)], &[("p", 2), ("who", 0)]), |inputs, rows| {
        Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect(), vec![0.0; rows]])
    })
}

/// Tells the clock of every batch of rows that came from callers.
fn big(name: &'static str, toml: &'static str, clock: &Arc<Semaphore>) -> Made {
    let clock = Arc::clone(clock);
    let function = move |inputs: &[Vec<f32>], rows: usize| {
        // The rows that a version is tried with when it is loaded are not like those.
        if inputs[0].iter().all(|x| *x == 0.5) {
            std::thread::sleep(COST);
            clock.add_permits(1);
        }
        Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect(), vec![1.0; rows]])
    };
    Made::new(name, 1, (&[("x", 1)], &[("p", 2), ("who", 0)]), function).configured(toml)
}

fn cascade(big: &str, on_overload: &str) -> String {
    format!(
        "kind = \"cascade\"\n[[stage]]\nmodel = \"small\"\n\
         accept = {{ output = \"p\", measure = \"max_prob\", at_least = {AT_LEAST} }}\n\
         [[stage]]\nmodel = \"{big}\"\n[budget]\non_overload = \"{on_overload}\"\n"
    )
}

/// What became of the requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    answered: usize,
    degraded: usize,
    refused: usize,
    expired: usize,
}

/// One row that the first stage is not sure of, beside one that it is sure of or alone.
fn rows(number: usize) -> &'static [f32] {
    [&[0.5][..], &[0.99, 0.5], &[0.5, 0.01]][number % 3]
}

/// Looks at an answer: it is flagged exactly when the first stage answered a row that it is not sure of.
fn judge(number: usize, answer: Result<InferResponse, Error>, outcome: &mut Outcome) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.code() == ErrorCode::Overloaded => return outcome.refused += 1,
        Err(error) if error.code() == ErrorCode::DeadlineExceeded => return outcome.expired += 1,
        Err(error) => panic!("{error:?}"),
    };
    let (who, stages) = (floats(&answer, "who"), path(&answer));
    assert_eq!(who.iter().map(|who| *who as usize).collect::<Vec<_>>(), stages, "rows are in order");
    let unsure = |x: f32| x.max(1.0 - x) < AT_LEAST;
    let given = rows(number);
    let short = given.iter().zip(&stages).any(|(x, stage)| unsure(*x) && *stage == 0);
    assert!(given.iter().zip(&stages).all(|(x, stage)| unsure(*x) || *stage == 0), "{answer:?}");
    assert_eq!(told(&answer, "weir_degraded").as_deref() == Some("true"), short, "{answer:?}");
    assert_eq!(told(&answer, "weir_degraded").is_some(), short, "the flag is there when it is true");
    let of_stage = |wanted: usize| stages.iter().filter(|stage| **stage == wanted).count();
    assert_eq!(told(&answer, "weir_stage_rows").unwrap(), format!("{},{}", of_stage(0), of_stage(1)));
    outcome.answered += 1;
    outcome.degraded += usize::from(short);
}

/// Three times what the last stage can do, until it has done enough; each request asks with or without a deadline.
async fn overloaded(lab: &Arc<Lab>, route: &str, clock: &Arc<Semaphore>, deadline: bool) -> (Outcome, usize) {
    let mut callers = JoinSet::new();
    let late = Arc::new(AtomicUsize::new(0));
    let mut number = 0;
    for _ in 0..BATCHES {
        for _ in 0..OVERLOAD * BATCH {
            let (lab, late, mine) = (Arc::clone(lab), Arc::clone(&late), number);
            let mut asks = with(request(route, rows(mine)), "weir_explain", ParamValue::Bool(true));
            if deadline {
                asks = with(asks, "timeout", ParamValue::Uint(DEADLINE.as_micros() as u64));
            }
            callers.spawn(async move {
                asks.context.received = Instant::now();
                let begun = asks.context.received;
                let answer = lab.ask(asks).await;
                if answer.is_ok() && begun.elapsed() > DEADLINE {
                    late.fetch_add(1, Relaxed);
                }
                (mine, answer)
            });
            number += 1;
        }
        clock.acquire().await.unwrap().forget();
    }
    let mut outcome = Outcome::default();
    for (number, answer) in callers.join_all().await {
        judge(number, answer, &mut outcome);
    }
    clock.forget_permits(clock.available_permits());
    assert_eq!(outcome.answered + outcome.refused + outcome.expired, number);
    (outcome, late.load(Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodput_is_higher_with_best_so_far_when_there_is_no_room() {
    let clock = Arc::new(Semaphore::new(0));
    let routes = [("fail", &*cascade("big", "fail")), ("best", &*cascade("big", "best_so_far"))];
    let lab = Arc::new(Lab::start(vec![small(), big("big", BOUNDED, &clock)], &routes).await);
    let (fail, _) = overloaded(&lab, "fail", &clock, false).await;
    let (best, _) = overloaded(&lab, "best", &clock, false).await;
    eprintln!("no room: with fail {fail:?}, with best_so_far {best:?}");
    let asked = BATCHES * BATCH * OVERLOAD;
    // What the last stage can do is a third; a few more wait at the end.
    assert!(fail.refused > asked / 2 && fail.degraded == 0, "{fail:?}");
    assert_eq!((best.answered, best.refused, best.expired), (asked, 0, 0));
    assert!(best.degraded > asked / 2 && best.degraded < asked, "{best:?}");
    assert!(best.answered > 2 * fail.answered);
    // The metrics have counted the same rows.
    let rows = |route: &str, stage: &str, decision: &str| {
        let labels = format!("route=\"{route}\",stage=\"{stage}\",decision=\"{decision}\"");
        lab.metric(&format!("weir_cascade_rows_total{{{labels}}}")).unwrap_or(0.0) as usize
    };
    assert_eq!(rows("best", "1", "best_so_far"), best.degraded);
    assert_eq!(rows("best", "1", "accepted"), best.answered - best.degraded);
    assert_eq!(rows("best", "0", "escalated"), asked);
    assert_eq!((rows("fail", "1", "best_so_far"), rows("fail", "1", "accepted")), (0, fail.answered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodput_is_higher_with_best_so_far_when_there_is_no_time() {
    let clock = Arc::new(Semaphore::new(0));
    let routes = [("fail", &*cascade("big", "fail")), ("best", &*cascade("big", "best_so_far"))];
    let lab = Arc::new(Lab::start(vec![small(), big("big", PATIENT, &clock)], &routes).await);
    let (fail, late_of_fail) = overloaded(&lab, "fail", &clock, true).await;
    let (best, late_of_best) = overloaded(&lab, "best", &clock, true).await;
    eprintln!("no time: with fail {fail:?}, {late_of_fail} late; with best_so_far {best:?}, {late_of_best} late");
    let asked = BATCHES * BATCH * OVERLOAD;
    assert!(fail.degraded == 0 && fail.expired > 0, "{fail:?}");
    assert!(best.degraded > 0 && best.answered > fail.answered, "{best:?} and {fail:?}");
    // Only a request that the first stage itself was too late for may still fail, which a busy machine may bring about.
    assert!(best.answered > asked / 2, "{best:?}");
    assert!(lab.metric("weir_executed_expired_total").is_none_or(|count| count == 0.0));
}
