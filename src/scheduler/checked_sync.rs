//! The checker's locks with the interface of the program's.

use std::{
    future::poll_fn,
    task::{Poll, Waker},
    time::Instant,
};

pub(crate) use shuttle::sync::{Arc, atomic};
use shuttle::sync::{Condvar as Inner, Mutex as Lock, MutexGuard};

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(Lock<T>);

#[derive(Debug)]
pub(crate) struct Guard<'a, T>(Option<MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Lock::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(Some(self.0.lock().unwrap()))
    }
}

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(Inner);

impl Condvar {
    pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        guard.0 = Some(self.0.wait(guard.0.take().unwrap()).unwrap());
    }

    /// False: time does not pass here, and whoever waits for it has to be woken.
    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _until: Instant) -> bool {
        self.wait(guard);
        false
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// One that is rung, and one that waits for it: a ring is remembered until somebody waits, and several are one.
#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<Bell>);

#[derive(Debug, Default)]
struct Bell {
    rung: bool,
    waits: Option<Waker>,
}

impl Notify {
    pub(crate) fn notify_one(&self) {
        let mut bell = self.0.lock();
        bell.rung = true;
        let waits = bell.waits.take();
        drop(bell);
        waits.into_iter().for_each(Waker::wake);
    }

    pub(crate) async fn notified(&self) {
        poll_fn(|cx| {
            let mut bell = self.0.lock();
            if std::mem::take(&mut bell.rung) {
                return Poll::Ready(());
            }
            bell.waits = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
