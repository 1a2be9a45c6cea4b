//! Where answers come home to: one mailbox per I/O thread. A worker puts the answers of a whole batch into the mailbox and
//! wakes the thread once; a task there hands them to the waiting handlers. Waking a thread from outside is what a request
//! across threads mostly costs, so it is done once per batch and not once per request.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{job::Finished, mailbox::Mailbox};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Home>>> = const { RefCell::new(None) };
}

/// The mailbox of one I/O thread.
#[derive(Debug)]
pub struct Home {
    index: Index,
    tracker: TaskTracker,
    mail: Mailbox<Finished>,
    /// What the next batches of everybody who waits here take together, in nanoseconds. Only this thread writes it.
    turns: AtomicU64,
    guests: Guests,
}

/// The requests of an I/O thread: how many it has in hand, from the moment that it knows of them until their answers have been
/// handed over, and how many came together. Counted by whoever serves the thread's connections; where nobody does it stays 0.
/// What may stay open without asking for anything, as a stream does, is no guest: each of its messages is.
#[derive(Clone, Debug, Default)]
pub struct Guests(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    here: AtomicUsize,
    /// Those that came since the thread last waited for its sockets.
    came: AtomicUsize,
    /// Those that came before that, the last time that any did.
    came_before: AtomicUsize,
}

impl Guests {
    /// Those of the calling thread; of nobody when it is no home.
    pub fn current() -> Self {
        CURRENT.with_borrow(|home| home.as_ref().map(|home| home.guests.clone())).unwrap_or_default()
    }

    /// A request has come; it goes with the guard.
    #[must_use]
    pub fn came(&self) -> Guest {
        self.0.here.fetch_add(1, Relaxed);
        // Only the guests' own thread writes these.
        self.0.came.store(self.0.came.load(Relaxed) + 1, Relaxed);
        Guest(Arc::clone(&self.0))
    }

    /// Those in hand.
    #[cfg(test)]
    pub(crate) fn here(&self) -> usize {
        self.0.here.load(Relaxed)
    }

    /// The calling thread has waited for its sockets: what comes now comes together.
    pub fn turn() {
        CURRENT.with_borrow(|home| {
            if let Some(Home { guests: Self(counts), .. }) = home.as_deref() {
                let came = counts.came.swap(0, Relaxed);
                if came > 0 {
                    counts.came_before.store(came, Relaxed);
                }
            }
        });
    }

    /// There is one, and no other is to be expected before the thread waits for its sockets again. A connection that reads a
    /// request runs it before the next connection has its turn, so what is in hand alone does not tell: requests that came
    /// together will do so again.
    fn is_alone(&self) -> bool {
        let Counts { here, came, came_before } = &*self.0;
        here.load(Relaxed) == 1 && came.load(Relaxed) <= 1 && came_before.load(Relaxed) <= 1
    }
}

/// One request that its thread has in hand.
#[derive(Debug)]
pub struct Guest(Arc<Counts>);

impl Guest {
    /// It was none: forgets also that it came. For the thread that it came to.
    pub fn forget(self) {
        self.0.came.store(self.0.came.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Relaxed);
    }
}

/// A home's number: the smallest that is free, so that numbers stay small however often threads come and go.
#[derive(Debug)]
struct Index(usize);

static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

impl Index {
    fn take() -> Self {
        let mut taken = TAKEN.lock();
        let free = (0..).find(|number| !taken.contains(number)).unwrap_or(usize::MAX);
        taken.insert(free);
        Self(free)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        TAKEN.lock().remove(&self.0);
    }
}

/// I/O threads that may have a local lane; threads beyond it use the worker pool.
pub(crate) const MAX_HOMES: usize = 256;

impl Home {
    /// Makes the calling thread a home and starts its delivery task on the thread's runtime, which must be a current-thread
    /// one. The task ends when `stop` is cancelled, after delivering what has arrived.
    pub fn install(tracker: &TaskTracker, stop: CancellationToken) {
        let index = Index::take();
        let home = Arc::new(Self {
            index,
            tracker: tracker.clone(),
            mail: Mailbox::default(),
            turns: AtomicU64::new(0),
            guests: Guests::default(),
        });
        CURRENT.set(Some(Arc::clone(&home)));
        tracker.spawn(async move {
            loop {
                tokio::select! {
                    () = home.mail.rung() => home.deliver(),
                    () = stop.cancelled() => break,
                }
            }
            home.deliver();
            CURRENT.set(None);
        });
    }

    /// The home of the calling thread, if it has one.
    pub(crate) fn current() -> Option<Arc<Home>> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(crate) fn index(&self) -> usize {
        self.index.0
    }

    /// True when the thread has one request in hand and expects no other.
    pub(crate) fn has_one_guest(&self) -> bool {
        self.guests.is_alone()
    }

    /// Spawns onto the runtime of the calling thread, which must be this home's.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// What the next batches of everybody who waits on this thread take together.
    pub(crate) fn turns(&self) -> Duration {
        Duration::from_nanos(self.turns.load(Relaxed))
    }

    /// The next batch of one who waits here takes `now` nanoseconds, and no more `before`. Called on this home's thread.
    pub(crate) fn turn(&self, before: u64, now: u64) {
        if before != now {
            self.turns.store(self.turns.load(Relaxed).wrapping_sub(before).wrapping_add(now), Relaxed);
        }
    }

    fn deliver(&self) {
        self.mail.take().into_iter().for_each(Finished::deliver);
    }
}

/// Sends the answers of a batch to their homes with one wake-up each; answers without home go directly.
pub(crate) fn send_home(finished: Vec<Finished>) {
    let mut homes: Vec<Arc<Home>> = Vec::new();
    for answer in finished {
        match answer.home() {
            None => answer.deliver(),
            Some(home) => {
                let home = Arc::clone(home);
                home.mail.put(answer);
                if !homes.iter().any(|known| Arc::ptr_eq(known, &home)) {
                    homes.push(home);
                }
            }
        }
    }
    for home in homes {
        home.mail.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::tests::IoThread;

    #[tokio::test]
    async fn requests_that_came_together_will_do_so_again() {
        let thread = IoThread::here();
        let (guests, home) = (Guests::current(), Home::current().unwrap());
        let one_by_one = |count| {
            let lone = |_| {
                let _guest = guests.came();
                home.has_one_guest()
            };
            (0..count).map(lone).collect::<Vec<_>>()
        };
        assert_eq!(one_by_one(3), [true, false, false], "the first cannot know");
        Guests::turn();
        assert_eq!(one_by_one(3), [false; 3]);
        Guests::turn();
        Guests::turn();
        assert_eq!(one_by_one(1), [false], "a look that finds nothing says nothing");
        Guests::turn();
        assert_eq!(one_by_one(1), [true]);
        Guests::turn();
        let both = (guests.came(), guests.came());
        assert!(!home.has_one_guest());
        drop(both);
        Guests::turn();
        Guests::turn();
        let stream = guests.came();
        stream.forget();
        assert_eq!((guests.here(), one_by_one(1)), (0, vec![false]), "two came together before");
        Guests::turn();
        guests.came().forget();
        assert_eq!(one_by_one(1), [true], "what was none keeps nobody company");
        thread.leave().await;
    }
}
