//! Where the snapshot is published: requests load it without a lock, subscribers are called with every new one, and whoever
//! must wait for a condition sleeps until one fulfils it. Written by the manager only.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::snapshot::Snapshot;

type Subscriber = Box<dyn Fn(Arc<Snapshot>) + Send>;

/// The published snapshot.
pub(super) struct Hub {
    current: ArcSwap<Snapshot>,
    subscribers: Mutex<Vec<Subscriber>>,
    changed: Condvar,
    watched: watch::Sender<u64>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            current: ArcSwap::default(),
            subscribers: Mutex::default(),
            changed: Condvar::new(),
            watched: watch::Sender::new(0),
        }
    }

    pub(super) fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the snapshot and tells everybody. Returns the one before.
    pub(super) fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let subscribers = self.subscribers.lock();
        let before = self.current.swap(Arc::clone(&snapshot));
        subscribers.iter().for_each(|subscriber| subscriber(Arc::clone(&snapshot)));
        self.watched.send_replace(snapshot.generation);
        self.changed.notify_all();
        before
    }

    /// Calls `subscriber` with the current snapshot now and with every later one, in order, from the manager's thread.
    pub(super) fn subscribe(&self, subscriber: Subscriber) {
        let mut subscribers = self.subscribers.lock();
        subscriber(self.load());
        subscribers.push(subscriber);
    }

    /// Waits, blocking, until a snapshot fulfils the condition; `None` when none did in time.
    pub(super) fn wait_for(&self, timeout: Duration, condition: impl Fn(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        let deadline = Instant::now() + timeout;
        let mut subscribers = self.subscribers.lock();
        loop {
            let snapshot = self.load();
            if condition(&snapshot) {
                return Some(snapshot);
            }
            if self.changed.wait_until(&mut subscribers, deadline).timed_out() {
                let snapshot = self.load();
                return condition(&snapshot).then_some(snapshot);
            }
        }
    }

    /// Waits until a snapshot fulfils the condition.
    pub(super) async fn wait(&self, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut watched = self.watched.subscribe();
        loop {
            let snapshot = self.load();
            if condition(&snapshot) {
                return snapshot;
            }
            // The sender lives as long as this hub.
            if watched.changed().await.is_err() {
                return snapshot;
            }
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("generation", &self.load().generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(generation: u64) -> Snapshot {
        Snapshot { generation, ..Snapshot::default() }
    }

    #[test]
    fn subscribers_see_every_snapshot_in_order() {
        let hub = Hub::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        hub.publish(snapshot(1));
        let log = Arc::clone(&seen);
        hub.subscribe(Box::new(move |snapshot| log.lock().push(snapshot.generation)));
        assert_eq!(hub.publish(snapshot(2)).generation, 1);
        hub.publish(snapshot(3));
        assert_eq!(*seen.lock(), [1, 2, 3]);
        assert_eq!(hub.load().generation, 3);
    }

    #[test]
    fn waiting_ends_with_the_condition_or_the_time() {
        let hub = Arc::new(Hub::new());
        assert!(hub.wait_for(Duration::ZERO, |snapshot| snapshot.generation == 1).is_none());
        let other = Arc::clone(&hub);
        let waiter = std::thread::spawn(move || other.wait_for(Duration::from_secs(20), |s| s.generation == 2));
        hub.publish(snapshot(1));
        hub.publish(snapshot(2));
        assert_eq!(waiter.join().unwrap().unwrap().generation, 2);
    }

    #[tokio::test]
    async fn tasks_can_wait_too() {
        let hub = Hub::new();
        hub.publish(snapshot(1));
        assert_eq!(hub.wait(|snapshot| snapshot.generation == 1).await.generation, 1);
        let (found, _) = tokio::join!(hub.wait(|snapshot| snapshot.generation == 2), async {
            tokio::task::yield_now().await;
            hub.publish(snapshot(2))
        });
        assert_eq!(found.generation, 2);
    }
}
