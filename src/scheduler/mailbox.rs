//! What others have put down for a thread, and how the thread learns of it. An I/O thread has one for the answers of the workers:
//! they put in what they have for it and ring once.

use super::sync::{Mutex, Notify};

/// The mailbox of one thread.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    mail: Mutex<Vec<T>>,
    rung: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { mail: Mutex::new(Vec::new()), rung: Notify::default() }
    }
}

impl<T> Mailbox<T> {
    /// Puts something in; who does has to ring afterwards.
    pub(crate) fn put(&self, item: T) {
        self.mail.lock().push(item);
    }

    /// Wakes the thread, or lets it not fall asleep.
    pub(crate) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Waits until somebody has rung since this was last waited for.
    pub(crate) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// Everything in it.
    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.mail.lock())
    }
}
