//! Tests of the books: every piece of work leaves exactly once, bounds hold whatever happens, stuck runs are given up.

use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq, Eq)]
struct Piece {
    id: usize,
    owner: u64,
    bytes: usize,
    offered: Instant,
}

impl Entry for Piece {
    fn owner(&self) -> u64 {
        self.owner
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn offered(&self) -> Instant {
        self.offered
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits { requests: 4, bytes: 100, age: 2 * SECOND, stuck: 10 * SECOND, linger: SECOND, lost: 3 }
}

fn ledger() -> Ledger<Piece, usize> {
    Ledger::new(limits())
}

fn piece(id: usize, owner: u64, offered: Instant) -> Piece {
    Piece { id, owner, bytes: 10, offered }
}

fn started(offer: Offer<Piece>) -> Option<Number> {
    match offer {
        Offer::Taken { start } => start,
        Offer::Refused(piece) => panic!("refused {piece:?}"),
    }
}

/// Has the current thread take and begin the next piece.
fn run(ledger: &mut Ledger<Piece, usize>, thread: Number, now: Instant) -> usize {
    let (Next::Run(work), late) = ledger.next(thread, now, false) else { panic!("nothing to run") };
    assert!(late.is_empty());
    ledger.begin(work.owner, now, work.id);
    work.id
}

#[test]
fn first_in_first_out_and_the_thread_starts_once() {
    let now = Instant::now();
    let mut books = ledger();
    assert_eq!(started(books.offer(piece(1, 7, now))), Some(0));
    assert_eq!(started(books.offer(piece(2, 8, now))), None);
    assert_eq!(run(&mut books, 0, now), 1);
    assert_eq!(books.end(0), Some(1));
    assert_eq!(run(&mut books, 0, now), 2);
    assert_eq!(books.end(0), Some(2));
    assert!(matches!(books.next(0, now, false), (Next::Idle, late) if late.is_empty()));
    assert!(matches!(books.next(1, now, false), (Next::End, _)), "there is no such thread");
}

#[test]
fn requests_and_bytes_are_bounded() {
    let now = Instant::now();
    let mut books = ledger();
    for id in 0..4 {
        started(books.offer(piece(id, 1, now)));
    }
    assert!(matches!(books.offer(piece(4, 1, now)), Offer::Refused(Piece { id: 4, .. })));
    assert_eq!(run(&mut books, 0, now), 0);
    let large = |bytes| Piece { bytes, ..piece(5, 1, now) };
    assert!(matches!(books.offer(large(71)), Offer::Refused(_)));
    started(books.offer(large(70)));
    assert!(matches!(books.offer(large(0)), Offer::Refused(_)), "four wait");
    assert!(matches!(ledger().offer(large(101)), Offer::Refused(_)), "never larger than everything");
}

#[test]
fn what_waited_too_long_is_dropped_also_while_the_workers_are_busy() {
    let now = Instant::now();
    let mut books = ledger();
    started(books.offer(piece(1, 1, now)));
    started(books.offer(piece(2, 1, now + SECOND)));
    let ids = |late: Vec<Piece>| late.iter().map(|piece| piece.id).collect::<Vec<_>>();
    assert!(matches!(books.next(0, now + 2 * SECOND, true), (Next::Later, late) if late.is_empty()));
    let (next, late) = books.next(0, now + 2 * SECOND + Duration::from_nanos(1), true);
    assert!(matches!(next, Next::Later));
    assert_eq!(ids(late), [1]);
    let (next, late) = books.next(0, now + 4 * SECOND, true);
    assert!(matches!(next, Next::Idle), "nothing waits for the workers");
    assert_eq!(ids(late), [2]);
    assert_eq!(books.bytes, 0);
}

#[test]
fn a_stuck_run_is_given_up_and_its_owner_runs_no_more_until_it_ends() {
    let now = Instant::now();
    let mut books = ledger();
    for (id, owner) in [(1, 7), (2, 7), (3, 8)] {
        started(books.offer(piece(id, owner, now)));
    }
    run(&mut books, 0, now);
    assert!(books.watch(now + 10 * SECOND - Duration::from_nanos(1)).is_none());
    let stuck = books.watch(now + 10 * SECOND).unwrap();
    assert_eq!((stuck.rest, stuck.closed), (1, false));
    assert_eq!(stuck.dropped, [piece(2, 7, now)]);
    assert!(books.watch(now + 99 * SECOND).is_none(), "given up once");
    assert!(matches!(books.offer(piece(4, 7, now)), Offer::Refused(_)));
    assert_eq!(started(books.offer(piece(5, 9, now))), Some(1), "another thread");
    assert!(matches!(books.next(0, now, false), (Next::End, _)));
    assert_eq!(run(&mut books, 1, now), 3, "others' work goes on");
    assert_eq!(books.end(0), None, "it comes back and must end");
    assert_eq!(started(books.offer(piece(6, 7, now))), None, "its owner runs again");
    assert_eq!(books.end(1), Some(3));
}

#[test]
fn with_too_many_lost_threads_nothing_is_run_any_more() {
    let now = Instant::now();
    let mut books = ledger();
    for thread in 0..4 {
        assert_eq!(started(books.offer(piece(1, thread, now))), Some(thread));
        started(books.offer(piece(2, 100, now)));
        run(&mut books, thread, now);
        let stuck = books.watch(now + 10 * SECOND).unwrap();
        assert_eq!(stuck.closed, thread == 3);
        if thread == 3 {
            assert_eq!(stuck.dropped.len(), 1, "everything that waited");
        } else {
            assert!(stuck.dropped.is_empty());
            books.forget(100);
        }
    }
    assert!((0..4).all(|thread| books.end(thread).is_none()));
    assert!(matches!(books.offer(piece(3, 100, now)), Offer::Refused(_)), "also when they have come back");
    assert!(matches!(books.next(4, now, false), (Next::End, _)));
}

#[test]
fn threads_that_come_back_are_not_lost() {
    let now = Instant::now();
    let mut books = ledger();
    for thread in 0..20 {
        assert_eq!(started(books.offer(piece(1, 7, now))), Some(thread));
        run(&mut books, thread, now);
        assert!(!books.watch(now + 10 * SECOND).unwrap().closed);
        assert_eq!(books.end(thread), None);
    }
}

#[test]
fn what_is_gone_or_closed_leaves() {
    let now = Instant::now();
    let mut books = ledger();
    assert!(books.forget(7).is_empty());
    assert!(!books.purge, "nobody is there to purge");
    for (id, owner) in [(1, 7), (2, 8), (3, 7)] {
        started(books.offer(piece(id, owner, now)));
    }
    assert_eq!(books.forget(7).iter().map(|piece| piece.id).collect::<Vec<_>>(), [1, 3]);
    assert!(matches!(books.next(0, now, true), (Next::Purge, _)));
    assert_eq!(books.close(), [piece(2, 8, now)]);
    assert!(matches!(books.next(0, now, false), (Next::End, _)));
    assert!(matches!(books.offer(piece(4, 8, now)), Offer::Refused(_)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Offer { owner: u64, bytes: usize },
    Next { busy: bool },
    End,
    Return,
    Pass(u64),
    Forget(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u64, 0..60_usize).prop_map(|(owner, bytes)| Step::Offer { owner, bytes }),
        4 => any::<bool>().prop_map(|busy| Step::Next { busy }),
        3 => Just(Step::End),
        1 => Just(Step::Return),
        3 => (0..6_u64).prop_map(Step::Pass),
        1 => (0..3_u64).prop_map(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn every_piece_leaves_once_within_the_bounds(steps in proptest::collection::vec(step(), 0..120)) {
        let mut now = Instant::now();
        let mut books = ledger();
        let (mut offered, mut left) = (0, Vec::new());
        let (mut thread, mut alive, mut running) = (0, false, false);
        let mut stuck = Vec::new();
        for step in steps {
            match step {
                Step::Offer { owner, bytes } => {
                    if let Some(given_up) = books.watch(now) {
                        left.push(given_up.rest);
                        left.extend(given_up.dropped.iter().map(|piece| piece.id));
                        stuck.push(thread);
                        (alive, running) = (false, false);
                        thread += 1;
                    }
                    match books.offer(Piece { id: offered, owner, bytes, offered: now }) {
                        Offer::Refused(piece) => left.push(piece.id),
                        Offer::Taken { start } => {
                            prop_assert_eq!(start, (!alive).then_some(thread));
                            alive = true;
                        }
                    }
                    offered += 1;
                }
                Step::Next { busy } if alive && !running => {
                    let (next, late) = books.next(thread, now, busy);
                    left.extend(late.iter().map(|piece| piece.id));
                    if let Next::Run(work) = next {
                        prop_assert!(!busy && now.duration_since(work.offered) <= limits().age);
                        books.begin(work.owner, now, work.id);
                        running = true;
                    }
                }
                Step::End if running => {
                    left.push(books.end(thread).unwrap());
                    running = false;
                }
                Step::Return => {
                    if let Some(thread) = stuck.pop() {
                        prop_assert_eq!(books.end(thread), None);
                    }
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
                Step::Forget(owner) => left.extend(books.forget(owner).iter().map(|piece| piece.id)),
                Step::Next { .. } | Step::End => {}
            }
            prop_assert!(books.queue.len() <= limits().requests && books.bytes <= limits().bytes);
            prop_assert_eq!(books.bytes, books.queue.iter().map(|piece| piece.bytes).sum::<usize>());
            prop_assert!(books.lost.len() <= limits().lost + 1);
        }
        if running {
            left.push(books.end(thread).unwrap());
        }
        left.extend(books.close().iter().map(|piece| piece.id));
        left.sort_unstable();
        prop_assert_eq!(left, (0..offered).collect::<Vec<_>>());
    }
}
