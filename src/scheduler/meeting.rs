//! Where work and workers meet: one short lock around what waits, and a condition for those who found nothing. A worker is woken
//! only when one is parked, and whoever takes work passes the call on while there is more. The pool keeps its queues in one.

use std::time::Instant;

use super::sync::{Condvar, Mutex};

/// A state that workers wait for changes of.
#[derive(Debug, Default)]
pub(crate) struct Meeting<S> {
    inner: Mutex<Inner<S>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner<S> {
    state: S,
    parked: usize,
}

/// What a worker found.
pub(crate) enum Found<R> {
    /// Something to do; `more` when there is something for another.
    Work { work: R, more: bool },
    /// Nothing before then, or before the state changes.
    Nothing(Option<Instant>),
}

impl<S> Meeting<S> {
    /// Changes the state; `change` says whether there is work. Wakes a worker if there is and one is parked.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut S) -> (R, bool)) -> R {
        let mut inner = self.inner.lock();
        let (result, work) = change(&mut inner.state);
        let wake = work && inner.parked > 0;
        drop(inner);
        if wake {
            self.changed.notify_one();
        }
        result
    }

    /// Changes the state in a way that concerns every worker.
    pub(crate) fn announce<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let result = change(&mut self.inner.lock().state);
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds work.
    pub(crate) fn wait<R>(&self, mut look: impl FnMut(&mut S) -> Found<R>) -> R {
        let mut inner = self.inner.lock();
        loop {
            match look(&mut inner.state) {
                Found::Work { work, more } => {
                    let wake = more && inner.parked > 0;
                    drop(inner);
                    if wake {
                        self.changed.notify_one();
                    }
                    return work;
                }
                Found::Nothing(until) => {
                    inner.parked += 1;
                    match until {
                        Some(until) => drop(self.changed.wait_until(&mut inner, until)),
                        None => self.changed.wait(&mut inner),
                    }
                    inner.parked -= 1;
                }
            }
        }
    }
}
