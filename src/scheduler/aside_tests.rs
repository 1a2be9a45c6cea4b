//! What nobody waits for, with the scripted engine: it is answered right, never in the way, and given up when it gets stuck.
//! Runs block and open on command; the time at which a run counts as stuck is an argument.

use tokio::sync::oneshot;

use super::*;
use crate::{
    engine::fake::{FakeEngine, POISON, Script},
    scheduler::{
        Lane, LaneParts, Merging,
        tests::{Fixture, batching, fixture, rows, until},
    },
    types::{ModelName, ResourceSpec, ServableId, Version},
};

type Told = oneshot::Receiver<AsideOutcome>;

/// Offers rows at a time; the receiver is told what became of them.
fn offer_at(lane: &Lane, given: Rows, now: Instant) -> Told {
    let (tell, told) = oneshot::channel();
    lane.run_aside(given, 8, now, move |outcome| drop(tell.send(outcome)));
    told
}

fn offer(lane: &Lane, given: Rows) -> Told {
    offer_at(lane, given, Instant::now())
}

async fn outcome(told: Told) -> AsideOutcome {
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("told in time").expect("told at all")
}

async fn right(first: f32, count: usize, told: Told) {
    let AsideOutcome::Answered { outputs, .. } = outcome(told).await else { panic!("no answer") };
    let want: Vec<f32> = (0..count * 2).map(|i| (first + i as f32) * 2.0 + 1.0).collect();
    assert_eq!(outputs[0].to_f32().unwrap(), want);
    assert_eq!(outputs[0].shape(), [count, 2]);
}

async fn dropped(told: Told) {
    let outcome = outcome(told).await;
    assert!(matches!(outcome, AsideOutcome::Dropped), "{outcome:?}");
}

async fn failed(told: Told) -> String {
    match outcome(told).await {
        AsideOutcome::Failed(error) => error.detail().unwrap_or("").to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Another model of the same scheduler, with a script of its own.
async fn another(f: &Fixture, name: &str) -> (Lane, Script) {
    let script = Script::default();
    let id = ServableId { model: ModelName::parse(name).unwrap(), version: Version::ONE };
    let series = f.metrics.servable(&id, "fake", "", None);
    let model = FakeEngine::new(script.clone(), 2).model().into();
    let (merging, resources) = (Merging::Proved, ResourceSpec::default());
    let lane = f.scheduler.lane(LaneParts { id, model, merging, batching: batching(4), resources, series }).unwrap();
    until("compiled", || lane.is_warm()).await;
    (lane, script)
}

fn later() -> Instant {
    Instant::now() + Limits::default().stuck + Duration::from_secs(1)
}

#[tokio::test]
async fn rows_are_run_within_the_batch_limit_without_the_queue_and_the_metrics() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let (before, profile) = (f.script.batches().len(), f.lane.profile());
    right(5.0, 11, offer(&f.lane, rows(5.0, 11))).await;
    right(1.0, 1, offer(&f.lane, rows(1.0, 1))).await;
    assert_eq!(f.script.batches()[before..], [4, 4, 2, 1, 1]);
    assert_eq!(f.lane.profile(), profile);
    assert!(f.metrics.render().contains("weir_batch_rows_count{model=\"fake\",version=\"1\"} 0"));
    f.scheduler.shutdown();
}

#[tokio::test]
async fn unmerged_models_run_whole() {
    let f = fixture(1, batching(4), Merging::Off("for the test".into()));
    f.warm().await;
    let before = f.script.batches().len();
    right(5.0, 11, offer(&f.lane, rows(5.0, 11))).await;
    right(2.0, 3, offer(&f.lane, rows(2.0, 3))).await;
    assert_eq!(f.script.batches()[before..], [11, 3]);
    f.scheduler.shutdown();
}

#[tokio::test]
async fn models_without_a_batch_dimension_run_once() {
    let f = fixture(1, batching(4), Merging::Proved);
    let id = ServableId { model: ModelName::parse("single").unwrap(), version: Version::ONE };
    let series = f.metrics.servable(&id, "fake", "", None);
    let model = FakeEngine::new(Script::default(), 2).without_batch().model().into();
    let (merging, resources) = (Merging::NoBatch, ResourceSpec::default());
    let lane = f.scheduler.lane(LaneParts { id, model, merging, batching: batching(4), resources, series }).unwrap();
    let whole = rows(3.0, 1).inputs[0].clone().reshaped(smallvec::smallvec![2]).unwrap();
    let told = offer(&lane, Rows { inputs: [whole].into(), rows: 1 });
    let AsideOutcome::Answered { outputs, .. } = outcome(told).await else { panic!("no answer") };
    assert_eq!((outputs[0].shape(), outputs[0].to_f32().unwrap()), (&[2][..], vec![7.0, 9.0]));
    f.scheduler.shutdown();
}

#[tokio::test]
async fn failures_and_panics_are_told_and_the_thread_lives() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    assert_eq!(failed(offer(&f.lane, rows(POISON, 1))).await, "poisoned row");
    f.script.panic_on_poison();
    assert_eq!(failed(offer(&f.lane, rows(POISON, 1))).await, "panicked: poison");
    let (tell, told) = oneshot::channel::<()>();
    f.lane.run_aside(rows(1.0, 1), 8, Instant::now(), move |_| {
        drop(tell);
        std::panic::resume_unwind(Box::new("what looks at the answer"));
    });
    assert!(told.await.is_err());
    right(4.0, 1, offer(&f.lane, rows(4.0, 1))).await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn the_queue_is_bounded_by_requests_and_bytes() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    f.script.close();
    let running = offer(&f.lane, rows(0.0, 1));
    until("it runs", || f.script.running() == 1).await;
    let limits = Limits::default();
    let waiting: Vec<_> = (0..limits.requests).map(|i| offer(&f.lane, rows(i as f32, 1))).collect();
    let now = Instant::now();
    assert!(f.lane.takes_aside(now));
    dropped(offer_at(&f.lane, rows(1.0, 1), now)).await;
    assert!(!f.lane.takes_aside(now) && f.lane.takes_aside(now + PAUSE));
    f.script.open();
    right(0.0, 1, running).await;
    for (i, told) in waiting.into_iter().enumerate() {
        right(i as f32, 1, told).await;
    }
    let (tell, told) = oneshot::channel();
    f.lane.run_aside(rows(1.0, 1), limits.bytes + 1, Instant::now(), move |outcome| drop(tell.send(outcome)));
    dropped(told).await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn it_waits_while_the_workers_are_busy_and_is_dropped_when_that_takes_too_long() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let (other, script) = another(&f, "other").await;
    let before = script.batches().len();
    let blocker = f.block().await;
    let now = Instant::now();
    let late = offer_at(&other, rows(1.0, 1), now.checked_sub(Limits::default().age + NAP).unwrap());
    // Offered after the late one, so that it is looked at after it.
    let waiting = offer_at(&other, rows(2.0, 1), now + Duration::from_secs(3600));
    dropped(late).await;
    assert_eq!(script.batches().len(), before, "nothing runs beside busy workers");
    f.script.open();
    right(2.0, 1, waiting).await;
    blocker.await.unwrap().unwrap();
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_stuck_run_is_given_up_and_others_go_on() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let (other, _) = another(&f, "other").await;
    f.script.close();
    let stuck = offer(&f.lane, rows(1.0, 1));
    until("it runs", || f.script.running() == 1).await;
    let behind = offer(&f.lane, rows(2.0, 1));
    let replaced = offer_at(&other, rows(3.0, 1), later());
    assert_eq!(failed(stuck).await, "the run does not end");
    dropped(behind).await;
    right(3.0, 1, replaced).await;
    dropped(offer(&f.lane, rows(4.0, 1))).await;
    assert!(f.metrics.render().contains("weir_shadow_stuck_total 1"));
    assert!(f.metrics.render().contains("weir_shadow_off 0"));
    f.script.open();
    // The run ends, its thread with it, and the model is asked again.
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !matches!(outcome(offer(&f.lane, rows(5.0, 1))).await, AsideOutcome::Answered { .. }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok());
    f.scheduler.shutdown();
}

#[tokio::test]
async fn too_many_stuck_runs_switch_it_off_and_shutdown_waits_for_none() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let mut scripts = Vec::new();
    let mut told = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let (lane, script) = another(&f, name).await;
        script.close();
        told.push(offer_at(&lane, rows(1.0, 1), later()));
        until("it runs", || script.running() == 1).await;
        // The next offer, of whichever model, finds it stuck.
        scripts.push((lane, script));
    }
    dropped(offer_at(&f.lane, rows(1.0, 1), later())).await;
    for told in told {
        assert_eq!(failed(told).await, "the run does not end");
    }
    dropped(offer(&f.lane, rows(1.0, 1))).await;
    let text = f.metrics.render();
    assert!(text.contains("weir_shadow_stuck_total 4") && text.contains("weir_shadow_off 1"), "{text}");
    let stopped = Arc::clone(&f.scheduler);
    tokio::task::spawn_blocking(move || stopped.shutdown()).await.unwrap();
    scripts.iter().for_each(|(_, script)| script.open());
}

#[tokio::test]
async fn shutdown_leaves_a_stuck_run_behind_and_drops_what_waits() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    f.script.close();
    let stuck = offer(&f.lane, rows(1.0, 1));
    until("it runs", || f.script.running() == 1).await;
    let waiting = offer(&f.lane, rows(2.0, 1));
    let scheduler = Arc::clone(&f.scheduler);
    tokio::task::spawn_blocking(move || scheduler.shutdown()).await.unwrap();
    assert_eq!(f.script.running(), 1, "nobody waited for its end");
    dropped(waiting).await;
    dropped(offer(&f.lane, rows(3.0, 1))).await;
    f.script.open();
    right(1.0, 1, stuck).await;
}

#[tokio::test]
async fn a_model_that_goes_is_let_go() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let (other, _) = another(&f, "other").await;
    right(1.0, 1, offer(&other, rows(1.0, 1))).await;
    f.script.close();
    let running = offer(&f.lane, rows(1.0, 1));
    until("it runs", || f.script.running() == 1).await;
    let waiting = offer(&other, rows(2.0, 1));
    let core = Arc::downgrade(&other.inner.core);
    drop(other);
    dropped(waiting).await;
    f.script.open();
    right(1.0, 1, running).await;
    until("its sessions are gone", || core.strong_count() == 0).await;
    f.scheduler.shutdown();
}

#[tokio::test]
async fn a_thread_that_sleeps_is_woken_by_work_and_by_what_goes() {
    let f = fixture(1, batching(4), Merging::Proved);
    f.warm().await;
    let limits = Limits { linger: Duration::ZERO, ..Limits::default() };
    let aside = Arc::new(Aside::with_limits(Arc::new(Pool::new(1).0), 1, limits));
    let core = &f.lane.inner.core;
    let asleep = || aside.insist().asleep.is_some();
    for first in [1.0, 2.0, 3.0] {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |outcome| drop(tell.send(outcome)));
        let given = rows(first, 1);
        aside.offer(Work { core: Arc::clone(core), rows: given, bytes: 8, offered: Instant::now(), done });
        right(first, 1, told).await;
        until("it sleeps", asleep).await;
    }
    aside.forget(core.key);
    until("it sleeps again", asleep).await;
    aside.stop();
    f.scheduler.shutdown();
}

#[cfg(target_os = "linux")]
#[test]
fn only_the_thread_itself_steps_back() {
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let before = nice();
    let stepped = thread::spawn(move || {
        step_back();
        nice()
    });
    assert_eq!((stepped.join().unwrap(), nice()), (NICE, before));
}

/// Many threads offer at once, and everything is told exactly once.
#[test]
fn everything_is_told_once() {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let f = fixture(1, batching(4), Merging::Proved);
    let told = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (lane, told) = (&f.lane, &told);
            scope.spawn(move || {
                for i in 0..EACH {
                    let told = Arc::clone(told);
                    let id = thread * EACH + i;
                    lane.run_aside(rows(1.0, 1), 8, Instant::now(), move |_| told.lock().push(id));
                }
            });
        }
    });
    f.scheduler.shutdown();
    let mut told = std::mem::take(&mut *told.lock());
    told.sort_unstable();
    assert_eq!(told, (0..THREADS * EACH).collect::<Vec<_>>());
}
