//! A job as the checked lanes see it: it notes what becomes of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use super::queue::Waiting;
use crate::types::Error;

/// What has become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Refused,
    /// Nobody was told anything.
    Dropped,
}

/// What has become of all jobs, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Fates(Mutex<Vec<Vec<Fate>>>);

impl Fates {
    /// One more job.
    pub(crate) fn job(self: &Arc<Self>) -> Job {
        let mut fates = self.0.lock().unwrap();
        fates.push(Vec::new());
        let reply = Reply { id: fates.len() - 1, fates: Arc::clone(self), told: false };
        Job { gone: Arc::default(), queued: Instant::now(), reply }
    }

    pub(crate) fn all(&self) -> Vec<Vec<Fate>> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Debug)]
pub(crate) struct Job {
    /// Set when its caller has left.
    pub(crate) gone: Arc<AtomicBool>,
    queued: Instant,
    pub(crate) reply: Reply,
}

#[derive(Debug)]
pub(crate) struct Reply {
    id: usize,
    fates: Arc<Fates>,
    told: bool,
}

impl Reply {
    pub(crate) fn tell(mut self, fate: Fate) {
        self.told = true;
        self.fates.0.lock().unwrap()[self.id].push(fate);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.told {
            self.fates.0.lock().unwrap()[self.id].push(Fate::Dropped);
        }
    }
}

impl Job {
    pub(crate) fn finish(self, result: Result<(), Error>) -> Finished {
        Finished(self.reply, if result.is_ok() { Fate::Answered } else { Fate::Refused })
    }

    pub(crate) fn count_refusal(&self) {}
}

pub(crate) struct Finished(Reply, Fate);

impl Finished {
    pub(crate) fn deliver(self) {
        self.0.tell(self.1);
    }
}

impl Waiting for Job {
    type Key = ();

    fn rows(&self) -> usize {
        1
    }

    fn key(&self) -> &() {
        &()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn queued(&self) -> Instant {
        self.queued
    }

    fn abandoned(&self) -> bool {
        self.gone.load(SeqCst)
    }

    fn level(&self) -> u32 {
        1
    }

    fn tenant(&self) -> u64 {
        0
    }
}
