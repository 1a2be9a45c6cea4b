//! The answers that a batch owes, where two may want to give them: the worker that runs it, and the watchdog when the run does
//! not end. Whoever comes first has them; the other finds nothing. A worker has one for all of its batches.

use super::sync::Mutex;

/// Something that is made and handed out once, again and again.
#[derive(Debug)]
pub(crate) struct Promise<T>(Mutex<Option<T>>);

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Promise<T> {
    /// Makes it.
    pub(crate) fn offer(&self, value: T) {
        *self.0.lock() = Some(value);
    }

    /// It, unless somebody has had it.
    pub(crate) fn claim(&self) -> Option<T> {
        self.0.lock().take()
    }
}
