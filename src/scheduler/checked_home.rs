//! An I/O thread as the checked local lane sees it: its tasks, which it runs in turn.

use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Waker},
    time::Duration,
};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(crate) struct Home {
    tasks: Mutex<Vec<Task>>,
    alone: bool,
}

impl Home {
    /// `alone`: nobody else is ever on the thread.
    pub(crate) fn new(alone: bool) -> Self {
        Self { alone, ..Self::default() }
    }

    pub(crate) fn index(&self) -> usize {
        0
    }

    pub(crate) fn has_one_guest(&self) -> bool {
        self.alone
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().push(Box::pin(task));
    }

    pub(crate) fn turns(&self) -> Duration {
        Duration::ZERO
    }

    pub(crate) fn turn(&self, _before: u64, _now: u64) {}

    /// Gives every task its turn; true when there are some left.
    pub(crate) fn run(&self) -> bool {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let mut all = self.tasks.lock().unwrap();
        all.extend(tasks);
        !all.is_empty()
    }
}
