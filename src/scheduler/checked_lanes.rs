//! The lanes and the circuit in every order: no job is lost, none is answered twice, no worker sleeps over work or over the end, no
//! answer stays in a mailbox, and one request finds out whether a broken servable works again.

use std::{
    iter::once,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use shuttle::{future::block_on, thread};

use super::{
    ORDERS,
    admission::Place,
    circuit::{Bell, Circuit, CircuitState, Limits},
    core::Core,
    home::Home,
    job::{Fate, Fates, Job, Reply},
    local,
    mailbox::Mailbox,
    pool::{Assignment, Pool, Worker},
};
use crate::types::Error;

/// What a worker thread does.
fn work(pool: &Pool, worker: &Worker) {
    let mut generation = 0;
    loop {
        match pool.next(worker, generation) {
            Assignment::Stop => return,
            Assignment::Purge(now) => generation = now,
            Assignment::Batch { core: _core, taken, .. } => {
                drop(taken.abandoned);
                worker.owed.offer(taken.batch.into_iter().map(|job| job.reply).collect::<Vec<Reply>>());
                thread::yield_now();
                answer(worker.owed.claim(), Fate::Answered);
                if !pool.done(worker) {
                    return;
                }
            }
        }
    }
}

fn answer(replies: Option<Vec<Reply>>, fate: Fate) {
    replies.into_iter().flatten().for_each(|reply| reply.tell(fate));
}

fn start(pool: &Arc<Pool>, worker: Worker) -> thread::JoinHandle<()> {
    let pool = Arc::clone(pool);
    thread::spawn(move || work(&pool, &worker))
}

/// A pool of so many workers that run, and these servables.
fn pool(workers: usize, cores: &[&Arc<Core>]) -> (Arc<Pool>, Vec<thread::JoinHandle<()>>) {
    let (pool, workers) = Pool::new(workers);
    let pool = Arc::new(pool);
    cores.iter().for_each(|core| pool.add(Arc::clone(core)));
    let threads = workers.into_iter().map(|worker| start(&pool, worker)).collect();
    (pool, threads)
}

fn leave(gone: &AtomicBool) {
    gone.store(true, SeqCst);
}

/// Every job has one fate; that of those that nobody took back is one of these.
fn check(fates: &Fates, left: &[usize], allowed: &[Fate]) {
    for (id, fates) in fates.all().into_iter().enumerate() {
        assert_eq!(fates.len(), 1, "job {id}: {fates:?}");
        let left = left.contains(&id) && fates == [Fate::Dropped];
        assert!(left || allowed.contains(&fates[0]), "job {id}: {fates:?}");
    }
}

/// One servable may run one batch at a time, a caller leaves, and the end comes while all that goes on.
#[test]
fn the_pool_runs_every_job_once_and_ends() {
    let run = || {
        let fates = Arc::new(Fates::default());
        let (one, two) = (Core::new(1, 1), Core::new(2, 2));
        let (pool, workers) = pool(2, &[&one, &two]);
        let jobs: Vec<Job> = (0..3).map(|_| fates.job()).collect();
        let gone = Arc::clone(&jobs[2].gone);
        let last = fates.job();
        let first = {
            let (pool, core) = (Arc::clone(&pool), Arc::clone(&one));
            thread::spawn(move || pool.submit(&core, jobs.into_iter()))
        };
        let second = {
            let (pool, core) = (Arc::clone(&pool), Arc::clone(&two));
            thread::spawn(move || pool.submit(&core, once(last)))
        };
        let leaving = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                leave(&gone);
                pool.purge(1);
            })
        };
        first.join().unwrap();
        second.join().unwrap();
        pool.stop();
        leaving.join().unwrap();
        workers.into_iter().for_each(|thread| thread.join().unwrap());
        check(&fates, &[2], &[Fate::Answered]);
        assert_eq!(pool.running(), 0);
    };
    shuttle::check_random(run, ORDERS);
    shuttle::check_pct(run, ORDERS / 4, 3);
}

/// What comes while the pool ends, or while its servable is refused and taken out, is run or refused.
#[test]
fn what_comes_too_late_is_told_so() {
    let run = || {
        let fates = Arc::new(Fates::default());
        let (one, two) = (Core::new(1, 1), Core::new(2, 2));
        let (pool, workers) = pool(2, &[&one, &two]);
        let submitters: Vec<_> = [&one, &two]
            .map(|core| {
                let jobs = [fates.job(), fates.job()];
                let (pool, core) = (Arc::clone(&pool), Arc::clone(core));
                thread::spawn(move || jobs.into_iter().for_each(|job| pool.submit(&core, once(job))))
            })
            .into();
        let removing = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.refuse(1, &Error::unavailable("broken"));
                pool.remove(2);
            })
        };
        pool.stop();
        removing.join().unwrap();
        submitters.into_iter().for_each(|thread| thread.join().unwrap());
        workers.into_iter().for_each(|thread| thread.join().unwrap());
        check(&fates, &[], &[Fate::Answered, Fate::Refused]);
    };
    shuttle::check_random(run, ORDERS);
    shuttle::check_pct(run, ORDERS / 4, 3);
}

/// A run that is given up at any moment is answered once, and what waits behind it is run by the worker in its place.
#[test]
fn a_worker_that_is_replaced_takes_nothing_along() {
    let run = || {
        let fates = Arc::new(Fates::default());
        let core = Core::new(1, 1);
        let (pool, workers) = pool(1, &[&core]);
        let jobs: Vec<Job> = (0..3).map(|_| fates.job()).collect();
        let watchdog = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let overdue = Instant::now() + Duration::from_secs(3600);
                let mut replacements = Vec::new();
                for stuck in pool.stuck(overdue) {
                    answer(stuck.owed.claim(), Fate::Refused);
                    replacements.extend(stuck.replacement.map(|worker| start(&pool, worker)));
                }
                replacements
            })
        };
        pool.submit(&core, jobs.into_iter());
        let replacements = watchdog.join().unwrap();
        pool.stop();
        workers.into_iter().chain(replacements).for_each(|thread| thread.join().unwrap());
        check(&fates, &[], &[Fate::Answered, Fate::Refused]);
    };
    shuttle::check_random(run, ORDERS);
    shuttle::check_pct(run, ORDERS / 4, 3);
}

/// Callers of other threads leave while a thread queues and drains: whoever stays is answered once, and the queue is not left
/// without somebody who drains it.
#[test]
fn the_local_queue_is_drained_whoever_leaves() {
    let run = |alone| {
        let fates = Arc::new(Fates::default());
        let core = Core::new(1, 1);
        let queue = Arc::clone(&core.queue);
        let jobs: Vec<Job> = (0..3).map(|_| fates.job()).collect();
        let leaving: Vec<_> = [0, 1]
            .map(|id: usize| {
                let (gone, queue) = (Arc::clone(&jobs[id].gone), Arc::clone(&queue));
                thread::spawn(move || {
                    leave(&gone);
                    queue.purge();
                })
            })
            .into();
        let home = Arc::new(Home::new(alone));
        let mut jobs = jobs.into_iter();
        local::submit(&core, &queue, &home, jobs.by_ref().take(2));
        home.run();
        local::submit(&core, &queue, &home, jobs);
        while home.run() {
            thread::yield_now();
        }
        leaving.into_iter().for_each(|thread| thread.join().unwrap());
        local::left(&core, &home);
        // It goes on afterwards.
        local::submit(&core, &queue, &home, once(fates.job()));
        while home.run() {}
        assert!(matches!(queue.place(&home), Place::Thread { rows: 0, .. }));
        check(&fates, &[0, 1], &[Fate::Answered]);
    };
    shuttle::check_random(move || run(false), ORDERS);
    shuttle::check_random(move || run(true), ORDERS);
}

/// Whatever is put in before a ring is found after it.
#[test]
fn no_answer_stays_in_the_mailbox() {
    let run = || {
        let mailbox = Arc::new(Mailbox::default());
        let workers: Vec<_> = (0..2)
            .map(|who| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    for batch in 0..2 {
                        mailbox.put((who, batch, 0));
                        mailbox.put((who, batch, 1));
                        mailbox.ring();
                    }
                })
            })
            .collect();
        let mut found = Vec::new();
        while found.len() < 8 {
            block_on(mailbox.rung());
            found.extend(mailbox.take());
        }
        workers.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(mailbox.take().is_empty());
        for who in 0..2 {
            let of: Vec<_> = found.iter().filter(|item| item.0 == who).map(|item| (item.1, item.2)).collect();
            assert_eq!(of, [(0, 0), (0, 1), (1, 0), (1, 1)], "once, and in order");
        }
    };
    shuttle::check_random(run, ORDERS);
}

const PAUSE: Duration = Duration::from_secs(1);

fn circuit(failures: u32) -> Arc<Circuit> {
    Arc::new(Circuit::new(Limits { failures, pause: PAUSE }, Arc::new(Bell::default())))
}

#[test]
fn one_request_finds_out_whether_a_broken_servable_works_again() {
    let run = || {
        let (circuit, start) = (circuit(1), Instant::now());
        assert!(circuit.failed(start));
        let asking: Vec<_> = (0..3)
            .map(|_| {
                let circuit = Arc::clone(&circuit);
                thread::spawn(move || circuit.admit(start + PAUSE).is_ok())
            })
            .collect();
        let passed = asking.into_iter().map(|thread| thread.join().unwrap()).filter(|passed| *passed);
        assert_eq!(passed.count(), 1);
        assert_eq!((circuit.state(), circuit.is_open()), (CircuitState::HalfOpen, false));
        // It fails while another says that it has succeeded: one failure is enough, before it or after it.
        let succeeded = {
            let circuit = Arc::clone(&circuit);
            thread::spawn(move || circuit.succeeded())
        };
        assert!(circuit.failed(start + PAUSE));
        succeeded.join().unwrap();
        assert_eq!((circuit.state(), circuit.opened()), (CircuitState::Open, 2));
        assert!(circuit.admit(start + PAUSE).is_err());
    };
    shuttle::check_random(run, ORDERS);
}

/// What everybody looks at first says the same as the state behind it.
#[test]
fn a_circuit_is_calm_only_when_it_is_closed() {
    let run = || {
        let bell = Arc::new(Bell::default());
        let (rung, start) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let heard = Arc::clone(&rung);
        bell.follow(move || heard.store(true, SeqCst));
        let circuit = Arc::new(Circuit::new(Limits { failures: 2, pause: PAUSE }, bell));
        let threads: Vec<_> = (0..3)
            .map(|who| {
                let circuit = Arc::clone(&circuit);
                thread::spawn(move || match who {
                    0 | 1 => {
                        let opened = circuit.failed(start);
                        circuit.show(|_| ());
                        u64::from(opened)
                    }
                    _ => {
                        circuit.succeeded();
                        circuit.show(|_| ());
                        0
                    }
                })
            })
            .collect();
        let opened: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(circuit.opened(), opened);
        assert_eq!(circuit.state() == CircuitState::Open, opened == 1, "nothing but time closes it");
        assert_eq!(circuit.admit(start), if opened == 1 { Err(PAUSE) } else { Ok(()) });
        assert_eq!(circuit.wait(start), if opened == 1 { PAUSE } else { Duration::ZERO });
        assert!(!circuit.is_calm() || opened == 0);
        assert_eq!(rung.load(SeqCst), opened == 1, "a change is heard");
    };
    shuttle::check_random(run, ORDERS);
}
