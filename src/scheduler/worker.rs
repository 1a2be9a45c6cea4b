//! A worker thread: takes batches from the pool, runs them with its own sessions, and sends the answers home. The pool starts
//! as many as there are cores.

use std::sync::Arc;

use super::{
    core::Sessions,
    home::send_home,
    pool::{Assignment, Pool},
};

/// Works until the pool stops.
pub(crate) fn work(pool: &Arc<Pool>) {
    let mut sessions = Sessions::default();
    let mut generation = 0;
    loop {
        match pool.next(generation) {
            Assignment::Stop => return,
            Assignment::Purge(now) => {
                sessions.purge();
                generation = now;
            }
            Assignment::Batch { core, taken, at } => {
                send_home(core.refuse_expired(taken.expired));
                if !taken.batch.is_empty() {
                    send_home(core.execute(&mut sessions, taken.batch, at));
                }
                pool.done(core.key);
            }
        }
    }
}
