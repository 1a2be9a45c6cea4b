//! The parts in which threads meet, under a checker that runs them in thousands of orders: the very files of the program,
//! compiled once more with the checker's locks. What they meet about (servables, jobs, I/O threads) is there in the plainest form.

#[path = "checked_sync.rs"]
mod sync;

#[path = "circuit.rs"]
#[expect(clippy::duplicate_mod, dead_code, unreachable_pub, reason = "compiled once more, with the checker's locks")]
mod circuit;
#[path = "hand.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once more, with the checker's locks")]
mod hand;
#[path = "local.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once more, with the checker's locks")]
mod local;
#[path = "mailbox.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once more, with the checker's locks")]
mod mailbox;
#[path = "meeting.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once more, with the checker's locks")]
mod meeting;
#[path = "pool.rs"]
#[expect(clippy::duplicate_mod, dead_code, reason = "compiled once more, with the checker's locks")]
mod pool;
#[path = "promise.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once more, with the checker's locks")]
mod promise;
#[path = "room.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once more, with the checker's locks")]
mod room;

#[path = "checked_core.rs"]
mod core;
#[path = "checked_home.rs"]
mod home;
#[path = "checked_job.rs"]
mod job;
#[path = "checked_lanes.rs"]
mod lanes;

use std::collections::VecDeque;

use shuttle::thread;

// What is pure, or of no interest here.
use super::{admission, load, policy, queue, sessions};

use self::{
    meeting::{Found, Meeting},
    promise::Promise,
    room::{Full, OTHERS, Room, Watcher},
    sync::{
        Arc,
        atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst},
    },
};

/// Orders that are tried.
const ORDERS: usize = 2_000;

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<u32>,
    stopping: bool,
}

/// Whatever the order, all that is submitted is taken once, and nobody sleeps for ever.
#[test]
fn no_work_is_lost_and_no_worker_sleeps_over_it() {
    let run = || {
        let meeting = Arc::new(Meeting::<Work>::default());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let meeting = Arc::clone(&meeting);
                thread::spawn(move || {
                    let mut taken = Vec::new();
                    while let Some(work) = meeting.wait(|state| match state.waiting.pop_front() {
                        Some(work) => Found::Work { work: Some(work), more: !state.waiting.is_empty() },
                        None if state.stopping => Found::Work { work: None, more: false },
                        None => Found::Nothing(None),
                    }) {
                        taken.push(work);
                    }
                    taken
                })
            })
            .collect();
        let submitters: Vec<_> = (0..2)
            .map(|who| {
                let meeting = Arc::clone(&meeting);
                // Two at once: the worker that is woken must call the other.
                thread::spawn(move || meeting.change(|state| (state.waiting.extend([who * 2, who * 2 + 1]), true)))
            })
            .collect();
        submitters.into_iter().for_each(|thread| thread.join().unwrap());
        meeting.announce(|state| state.stopping = true);
        let mut taken: Vec<u32> = workers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3]);
    };
    shuttle::check_random(run, ORDERS);
    shuttle::check_pct(run, ORDERS / 4, 3);
}

/// The worker and the watchdog: exactly one of them answers each batch.
#[test]
fn every_batch_is_answered_once() {
    let run = || {
        let owed = Arc::new(Promise::<u32>::default());
        let answers = Arc::new(AtomicUsize::new(0));
        let (watched, counted) = (Arc::clone(&owed), Arc::clone(&answers));
        let watchdog = thread::spawn(move || {
            if watched.claim().is_some() {
                counted.fetch_add(1, SeqCst);
            }
        });
        for batch in 0..2 {
            owed.offer(batch);
            if owed.claim().is_some() {
                answers.fetch_add(1, SeqCst);
            }
        }
        watchdog.join().unwrap();
        assert_eq!(answers.load(SeqCst), 2);
    };
    shuttle::check_random(run, ORDERS);
}

#[derive(Debug, Default)]
struct Count {
    rows: AtomicIsize,
    tenants: AtomicUsize,
}

impl Watcher for Arc<Count> {
    fn came(&self, rows: usize) {
        self.rows.fetch_add(rows.cast_signed(), SeqCst);
    }

    fn went(&self, rows: usize) {
        self.rows.fetch_sub(rows.cast_signed(), SeqCst);
    }

    fn tenants(&self, count: usize) {
        self.tenants.store(count, SeqCst);
    }
}

/// However many reserve at once, there are never more rows than there is room for, and all of it comes back.
#[test]
fn the_bound_holds_exactly() {
    let run = || {
        let count = Arc::new(Count::default());
        let room = Arc::new(Room::new(5, 0, 4, Arc::clone(&count)));
        let threads: Vec<_> = (1_usize..4)
            .map(|rows| {
                let room = Arc::clone(&room);
                thread::spawn(move || {
                    let mut slot = room.reserve(rows, 1, 0);
                    assert!(room.rows() <= 5);
                    let half = slot.as_mut().ok().map(|slot| slot.split(1));
                    drop(slot);
                    thread::yield_now();
                    drop(half);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((room.rows(), count.rows.load(SeqCst)), (0, 0));
    };
    shuttle::check_random(run, ORDERS);
}

#[test]
fn tenants_have_shares_and_there_are_only_so_many() {
    let run = || {
        let count = Arc::new(Count::default());
        let room = Arc::new(Room::new(12, 2, 2, Arc::clone(&count)));
        let first = room.reserve(6, 2, 1).unwrap();
        assert_eq!(room.reserve(1, 2, 1).unwrap_err(), Full::Share, "one more must find room");
        let second = room.reserve(1, 2, 2).unwrap();
        assert_eq!((first.tenant(), second.tenant(), count.tenants.load(SeqCst)), (1, 2, 2));
        let third = room.reserve(1, 2, 3).unwrap();
        assert_eq!((third.tenant(), third.level()), (OTHERS, 2), "too many to be told apart");
        assert_eq!((room.rows_up_to(1), room.rows_up_to(2), room.rows()), (0, 8, 8));
        // Level 2 may fill seven eighths, level 1 everything.
        assert_eq!(room.reserve(4, 2, 0).unwrap_err(), Full::Queue);
        let urgent = room.reserve(4, 1, 0).unwrap();
        assert_eq!((room.rows_up_to(1), room.rows()), (4, 12));
        assert_eq!(urgent.watcher().rows.load(SeqCst), 12);
        drop((first, second, third, urgent));
        assert_eq!((room.rows(), count.tenants.load(SeqCst), count.rows.load(SeqCst)), (0, 0, 0));
        let large = room.reserve(100, 2, 0).unwrap();
        assert_eq!(room.rows(), 100, "a request larger than all of it is let in when nothing else waits");
        drop(large);
    };
    shuttle::check_random(run, 1);
}
