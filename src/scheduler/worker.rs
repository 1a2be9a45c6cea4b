//! A worker thread: takes batches from the pool, runs them with its own sessions, and sends the answers home. The pool starts
//! as many as there are cores, and `watchdog` starts another in the place of one whose run does not end.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    core::Core,
    home::send_home,
    job::Job,
    pool::{Assignment, Pool, Worker},
    queue::Taken,
    sessions::Sessions,
};

/// How long a worker keeps its core before it offers it to others. Where I/O threads and workers share cores, the next batch would
/// begin before anybody has been told of this one, and the system may let it run for milliseconds. Not after every short batch:
/// some systems take a whole turn from a thread that yields, to the good of every other thread.
const TURN: Duration = Duration::from_millis(2);

/// Works until the pool stops, or until another has taken this worker's place.
pub(crate) fn work(pool: &Arc<Pool>, worker: &Worker) {
    let mut sessions = Sessions::default();
    let mut generation = 0;
    let mut yielded = Instant::now();
    loop {
        match pool.next(worker, generation) {
            Assignment::Stop => return,
            Assignment::Purge(now) => {
                sessions.purge();
                generation = now;
            }
            Assignment::Batch { core, taken, at } => {
                run(pool, worker, &mut sessions, (&core, taken), at);
                if yielded.elapsed() >= TURN {
                    thread::yield_now();
                    yielded = Instant::now();
                }
                if !pool.done(worker) {
                    tracing::info!(model = %core.id, "a run that had been given up has ended");
                    return;
                }
            }
        }
    }
}

fn run(pool: &Pool, worker: &Worker, sessions: &mut Sessions, (core, taken): (&Arc<Core>, Taken<Job>), at: Instant) {
    send_home(core.refuse(taken.expired, taken.dropped, at));
    drop(taken.abandoned);
    if taken.batch.is_empty() {
        return;
    }
    let (mut work, replies): (Vec<_>, Vec<_>) = taken.batch.into_iter().map(Job::start).unzip();
    worker.owed.offer(replies);
    let (results, opened) = core.answer(sessions, &mut work, at);
    // Nothing is owed any more when the watchdog has answered meanwhile.
    if let Some(replies) = worker.owed.claim() {
        send_home(replies.into_iter().zip(results).map(|(reply, result)| reply.with(result)).collect());
    }
    if opened {
        pool.refuse(core.key, &core.broken(at));
    }
}
