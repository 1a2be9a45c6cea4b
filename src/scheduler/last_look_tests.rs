//! What is let go at the last moment: members of a batch whose time is up right before the engine is called, pieces of a request
//! of which another has failed, and what waits when a circuit opens. Nothing here depends on how fast the machine is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::{
    job::{Piece, Reply, Work, expired_in, let_go_of_expired},
    sessions::Sessions,
    tests::{Fixture, IoThread, batching, fixture, right, rows, slow, until, with_lane, with_resources},
    *,
};
use crate::{
    engine::fake::{POISON, UNFIT},
    types::{Error, ErrorCode},
};

fn work(first: f32, count: usize, deadline: Option<Instant>) -> Work {
    Work { inputs: rows(first, count).inputs, range: 0..count, deadline, started: None, expired: false }
}

/// What a worker does with a batch that was taken a second ago.
fn answer(f: &Fixture, work: &mut [Work]) -> (Vec<Result<Answer, Error>>, bool) {
    let taken = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let (answers, opened) = f.lane.inner.core.answer(&mut Sessions::default(), work, taken);
    let whole = |piece: Piece| Answer { outputs: piece.outputs, stamps: crate::types::Stamps::at(taken) };
    (answers.into_iter().map(|answer| answer.map(whole)).collect(), opened)
}

/// The same with an engine that is held in its first run until `deadline` has passed.
fn answer_past(f: &Fixture, work: &mut [Work], deadline: Instant) -> Vec<Result<Answer, Error>> {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| answer(f, work).0);
        while f.script.running() == 0 || Instant::now() <= deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        f.script.open();
        run.join().unwrap()
    })
}

fn expired(answer: &Result<Answer, Error>) {
    assert_eq!(answer.as_ref().unwrap_err().text(), "deadline: expired in execution");
}

fn nothing_ran_late(f: &Fixture) {
    assert!(f.metrics.render().contains("weir_executed_expired_total 0"));
}

#[tokio::test]
async fn whose_time_is_up_right_before_the_run_is_not_run() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    let now = Instant::now();
    let mut batch = [work(1.0, 2, Some(now)), work(5.0, 3, None), work(9.0, 1, Some(now + Duration::from_secs(3600)))];
    let (answers, _) = answer(&f, &mut batch);
    expired(&answers[0]);
    right(5.0, 3, answers[1].as_ref().unwrap());
    right(9.0, 1, answers[2].as_ref().unwrap());
    assert_eq!(f.script.batches()[before..], [4], "its rows were not run");
    nothing_ran_late(&f);
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_batch_of_which_nobody_has_time_left_is_not_run_and_is_no_failure() {
    let resources = ResourceSpec { circuit_failures: 1, ..ResourceSpec::default() };
    let f = with_resources(slow(1), batching(8), resources);
    f.warm().await;
    let before = f.script.batches().len();
    let now = Instant::now();
    let (answers, opened) = answer(&f, &mut [work(1.0, 2, Some(now)), work(2.0, 1, Some(now))]);
    answers.iter().for_each(expired);
    assert_eq!((f.script.batches().len(), opened, f.lane.circuit()), (before, false, (CircuitState::Closed, 0)));
    nothing_ran_late(&f);
    f.scheduler.shutdown();
}

#[tokio::test]
async fn whose_time_is_up_between_the_runs_of_a_batch_is_run_no_further() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    f.script.close();
    let deadline = Instant::now() + Duration::from_millis(100);
    // The second has two rows in each of two runs.
    let mut batch = [work(1.0, 2, None), work(11.0, 4, Some(deadline)), work(21.0, 2, None)];
    let answers = answer_past(&f, &mut batch, deadline);
    right(1.0, 2, answers[0].as_ref().unwrap());
    expired(&answers[1]);
    right(21.0, 2, answers[2].as_ref().unwrap());
    // Where the machine was slow, his time was up before the first run.
    let ran = f.script.batches()[before..].to_vec();
    assert!(ran == [4, 2] || ran == [4], "{ran:?}");
    nothing_ran_late(&f);
    f.scheduler.shutdown();
}

#[tokio::test]
async fn who_is_run_singly_after_a_failure_is_looked_at_again() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    f.script.close();
    let deadline = Instant::now() + Duration::from_millis(100);
    let mut batch = [work(1.0, 1, Some(deadline)), work(POISON, 1, None), work(3.0, 1, None)];
    let answers = answer_past(&f, &mut batch, deadline);
    expired(&answers[0]);
    assert_eq!(answers[1].as_ref().unwrap_err().code(), ErrorCode::Internal);
    right(3.0, 1, answers[2].as_ref().unwrap());
    assert_eq!(f.script.batches()[before + 1..], [1, 1], "of three, two were run again");
    nothing_ran_late(&f);
    f.scheduler.shutdown();
}

proptest! {
    /// After the last look nobody is run whose time is up; without it, they are counted.
    #[test]
    fn the_look_lets_go_of_all_that_would_be_counted(
        members in proptest::collection::vec((1_usize..5, 0_u64..4), 1..8), done in 0_usize..12, now in 0_u64..4,
    ) {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut batch: Vec<Work> = members.iter().map(|(rows, left)| work(0.0, *rows, Some(at(*left)))).collect();
        let total: usize = members.iter().map(|(rows, _)| rows).sum();
        let (done, now) = (done.min(total - 1), at(now));
        let mut end = 0;
        let late = members.iter().filter(|(rows, left)| { end += rows; end > done && at(*left) <= now }).count();
        prop_assert_eq!(expired_in(&batch, &(done..total), now), late);
        prop_assert_eq!(let_go_of_expired(&mut batch, done, now), late > 0);
        let left: usize = batch.iter().map(|one| one.range.len()).sum();
        prop_assert_eq!(expired_in(&batch, &(done..left.max(done)), now), 0);
        prop_assert_eq!(batch.iter().filter(|one| one.expired).count(), late);
        let mut from = 0;
        for (one, (rows, _)) in batch.iter().zip(&members) {
            // What has been run stays; what has time keeps everything.
            let ran = done.saturating_sub(from).min(*rows);
            prop_assert_eq!(one.range.len(), if one.expired { ran } else { *rows });
            from += rows;
        }
        prop_assert!(!let_go_of_expired(&mut batch, done, now), "once");
    }
}

#[tokio::test]
async fn a_request_fails_as_soon_as_one_of_its_pieces_does() {
    // What runs are said to take makes every row a piece.
    let hours: fn(usize) -> Duration = |rows| Duration::from_secs(1000 * rows as u64);
    let f = with_lane(SchedulerOptions { costs: Some(hours), ..slow(2) }, batching(1), Merging::Proved);
    f.warm().await;
    let before = f.script.batches().len();
    f.script.close();
    f.script.let_poison_pass();
    // The first row blocks, the second fails, eight wait.
    let asked = f.lane.run(rows(POISON - 2.0, 10), None);
    let failed = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it does not wait for the first");
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Internal);
    // A piece that a worker is just taking counts until it has it.
    until("the others have left", || f.lane.queued_rows() == 0).await;
    f.script.open();
    f.scheduler.shutdown();
    assert!(f.script.batches()[before..].len() <= 3, "the first, the one that failed, and one that had been taken");
}

#[tokio::test]
async fn the_failure_of_any_piece_is_told() {
    let failed = Arc::default();
    let (mut replies, mut answers) = (lane::Few::new(), Vec::new());
    for _ in 0..3 {
        let (reply, answer) = oneshot::channel();
        answers.push(Reply { reply, home: None, failed: Some(Arc::clone(&failed)) });
        replies.push(answer);
    }
    let last = answers.pop().unwrap();
    last.with(Err(Error::internal("the last", "broken"))).deliver();
    let told = tokio::time::timeout(Duration::from_secs(60), lane::wait(replies, Some(failed))).await;
    assert_eq!(told.expect("the others are not waited for").unwrap_err().text(), "the last");
    assert!(answers.iter().all(|reply| reply.reply.is_closed()), "nobody waits for them any more");
}

#[tokio::test]
async fn what_waits_on_an_io_thread_when_the_circuit_opens_is_refused() {
    let resources =
        ResourceSpec { circuit_failures: 1, circuit_pause: Duration::from_secs(3600), ..ResourceSpec::default() };
    let options = SchedulerOptions { local_below: Duration::MAX, ..slow(1) };
    let f = with_resources(options, batching(1), resources);
    f.warm().await;
    let here = IoThread::here();
    assert!(f.lane.is_local());
    let before = f.script.batches().len();
    let ask = |first| {
        let lane = f.lane.clone();
        here.tracker.spawn(async move { lane.run(rows(first, 1), None).await.unwrap_err() })
    };
    let (guilty, behind) = (ask(POISON), [ask(1.0), ask(2.0)]);
    assert_eq!(guilty.await.unwrap().code(), ErrorCode::Internal);
    for refused in behind {
        let refused = refused.await.unwrap();
        assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
        assert!(refused.retry_after().is_some());
    }
    assert_eq!(f.script.batches()[before..], [1], "nothing else was run");
    assert!(f.metrics.render().contains("weir_rejected_total{model=\"fake\",reason=\"circuit\"} 2"));
    until("nothing waits", || f.lane.queued_rows() == 0).await;
    here.leave().await;
    f.scheduler.shutdown();
}

/// A lane whose circuit has opened, and its pause passed: the next request finds out.
async fn broken_before() -> Fixture {
    let pause = Duration::from_secs(3600);
    let resources = ResourceSpec { circuit_failures: 1, circuit_pause: pause, ..ResourceSpec::default() };
    let f = with_resources(slow(1), batching(8), resources);
    f.warm().await;
    let circuit = &f.lane.inner.core.circuit;
    circuit.trip(Instant::now().checked_sub(pause).unwrap());
    f
}

#[tokio::test]
async fn who_finds_out_nothing_keeps_nobody_else_from_it() {
    let f = broken_before().await;
    let circuit = &f.lane.inner.core.circuit;
    assert_eq!(circuit.admit(Instant::now()), Ok(()));
    assert!(circuit.admit(Instant::now()).is_err(), "one at a time");
    let (answers, _) = answer(&f, &mut [work(1.0, 2, Some(Instant::now()))]);
    answers.iter().for_each(expired);
    right(3.0, 1, &f.lane.run(rows(3.0, 1), None).await.unwrap());
    until("it is closed", || f.lane.circuit().0 == CircuitState::Closed).await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn who_leaves_before_finding_out_keeps_nobody_else_from_it() {
    let f = broken_before().await;
    let inner = &f.lane.inner.core;
    // The only worker is busy with something from before.
    inner.circuit.admit(Instant::now()).unwrap();
    inner.circuit.succeeded();
    let blocker = f.block().await;
    inner.circuit.trip(Instant::now().checked_sub(Duration::from_secs(3600)).unwrap());
    let waits = {
        let lane = f.lane.clone();
        tokio_util::task::TaskTracker::new().spawn(async move { lane.run(rows(1.0, 1), None).await })
    };
    until("it waits", || f.lane.queued_rows() == 1).await;
    assert!(f.lane.run(rows(2.0, 1), None).await.is_err(), "one at a time");
    waits.abort();
    until("it has left", || inner.circuit.wait(Instant::now()).is_zero()).await;
    f.script.open();
    right(0.0, 1, &blocker.await.unwrap().unwrap());
    right(3.0, 1, &f.lane.run(rows(3.0, 1), None).await.unwrap());
    f.scheduler.shutdown();
}

#[tokio::test]
async fn inputs_that_do_not_fit_say_nothing_of_the_model_and_are_only_their_callers_fault() {
    let f = broken_before().await;
    let circuit = &f.lane.inner.core.circuit;
    assert_eq!(circuit.admit(Instant::now()), Ok(()));
    let (answers, _) = answer(&f, &mut [work(UNFIT, 1, None), work(UNFIT, 2, None)]);
    for unfit in answers {
        let unfit = unfit.unwrap_err();
        assert_eq!((unfit.code(), unfit.text()), (ErrorCode::InvalidArgument, "model 'fake': unfit row"));
    }
    let before = f.script.batches().len();
    let (answers, _) = answer(&f, &mut [work(1.0, 1, None), work(UNFIT, 2, None)]);
    right(1.0, 1, answers[0].as_ref().unwrap());
    assert_eq!(answers[1].as_ref().unwrap_err().code(), ErrorCode::InvalidArgument);
    assert!(f.script.batches().len() > before, "it was tried again at once");
    assert_eq!(f.lane.circuit(), (CircuitState::Closed, 1));
    f.scheduler.shutdown();
}

#[tokio::test]
async fn what_nobody_had_time_for_is_no_measurement() {
    let f = fixture(1, batching(8), Merging::Proved);
    f.warm().await;
    let tariff = &f.lane.inner.core.tariff;
    let later = Instant::now() + Duration::from_secs(3600);
    let idle = tariff.idle_for(later);
    answer(&f, &mut [work(1.0, 2, Some(Instant::now()))]).0.iter().for_each(expired);
    assert_eq!(tariff.idle_for(later), idle);
    right(1.0, 2, answer(&f, &mut [work(1.0, 2, None)]).0[0].as_ref().unwrap());
    assert!(tariff.idle_for(later) < idle);
    f.scheduler.shutdown();
}
