//! What the queue promises, by property: nothing is lost or taken twice, limits and orders are kept, tenants share, levels age,
//! and nothing is dropped that could have afforded its batch.

use proptest::prelude::*;

use super::*;

#[path = "queue_plain.rs"]
mod plain;

#[derive(Clone, Debug)]
struct Piece {
    id: usize,
    rows: usize,
    key: u8,
    deadline: Option<Instant>,
    queued: Instant,
    gone: bool,
    level: u32,
    tenant: u64,
}

impl Waiting for Piece {
    type Key = u8;
    fn rows(&self) -> usize {
        self.rows
    }
    fn key(&self) -> &u8 {
        &self.key
    }
    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
    fn queued(&self) -> Instant {
        self.queued
    }
    fn abandoned(&self) -> bool {
        self.gone
    }
    fn level(&self) -> u32 {
        self.level
    }
    fn tenant(&self) -> u64 {
        self.tenant
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two milliseconds and a tenth per row.
fn cost(rows: usize) -> Option<Duration> {
    Some(Duration::from_micros(2000 + 100 * rows as u64))
}

fn choice(limit: usize, now: Instant) -> Choice<'static> {
    Choice { limit, now, cost: &cost, doubted: false }
}

fn piece(id: usize, rows: usize, queued: Instant) -> Piece {
    Piece { id, rows, key: 0, deadline: None, queued, gone: false, level: 1, tenant: 0 }
}

fn ids(pieces: &[Piece]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.id).collect()
}

/// Pieces that came a millisecond apart, the last one now. Deadlines: passed, tight, comfortable, none.
fn pieces(now: Instant) -> impl Strategy<Value = Vec<Piece>> {
    let piece = (1_usize..20, 0_u8..3, 0_u8..6, 0_u8..8, 1_u32..4, 0_u64..3);
    proptest::collection::vec(piece, 0..40).prop_map(move |list| {
        let count = list.len() as u64;
        let one = |(id, (rows, key, late, gone, level, tenant))| Piece {
            id,
            rows,
            key,
            deadline: match late {
                0 => Some(now),
                1 => Some(now + ms(3)),
                2 => Some(now + ms(5)),
                3 => Some(now + ms(60)),
                _ => None,
            },
            queued: now - ms(count - id as u64),
            gone: gone == 0,
            level,
            tenant,
        };
        list.into_iter().enumerate().map(one).collect()
    })
}

fn check_batch(taken: &Taken<Piece>, limit: usize, now: Instant) -> Result<(), TestCaseError> {
    let rows: usize = taken.batch.iter().map(|piece| piece.rows).sum();
    prop_assert!(rows <= limit || taken.batch.len() == 1);
    prop_assert!(taken.batch.iter().all(|piece| piece.key == taken.batch[0].key));
    prop_assert!(taken.batch.iter().all(|piece| !piece.gone));
    prop_assert!(taken.expired.iter().all(|piece| !piece.gone && piece.deadline.unwrap() <= now));
    // Everybody in the batch is answered in time.
    let end = now + cost(rows).unwrap();
    prop_assert!(taken.batch.iter().all(|piece| piece.deadline.is_none_or(|deadline| deadline >= end)));
    // Who was dropped could not have afforded the batch that is run with himself in it, or to be alone.
    for piece in &taken.dropped {
        let deadline = piece.deadline.unwrap();
        let with = (rows + piece.rows).min(limit).max(piece.rows);
        prop_assert!(deadline > now && deadline < now + cost(with).unwrap(), "{:?} beside {} rows", piece, rows);
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_piece_leaves_once_within_the_limit_and_in_order(
        (now, list) in Just(Instant::now()).prop_flat_map(|now| (Just(now), pieces(now))), limit in 1_usize..40,
    ) {
        let mut queue = Queue::default();
        list.iter().cloned().for_each(|piece| queue.push(piece));
        let mut left = Vec::new();
        let mut last: std::collections::HashMap<(u32, u64, u8), usize> = std::collections::HashMap::new();
        while !queue.is_empty() {
            let before = queue.rows();
            let taken = queue.take(choice(limit, now));
            check_batch(&taken, limit, now)?;
            for piece in &taken.batch {
                let last = last.insert((piece.level, piece.tenant, piece.key), piece.id);
                prop_assert!(last.is_none_or(|last| last < piece.id), "first in, first out");
            }
            let gone = || taken.batch.iter().chain(&taken.expired).chain(&taken.dropped).chain(&taken.abandoned);
            prop_assert_eq!(before, queue.rows() + gone().map(|piece| piece.rows).sum::<usize>());
            prop_assert!(gone().count() > 0, "progress");
            left.extend(gone().map(|piece| piece.id));
        }
        left.sort_unstable();
        prop_assert_eq!(left, (0..list.len()).collect::<Vec<_>>());
        prop_assert_eq!(queue.rows(), 0);
    }

    /// Several keys, levels and tenants, large pieces and small ones: the queue does what the policy says in the plainest way.
    #[test]
    fn who_is_run_and_who_is_dropped_is_what_the_policy_says(
        list in proptest::collection::vec(
            (1_usize..20, 0_u8..3, proptest::option::of(-1_i64..40), 0_u8..9, 1_u32..4, 0_u64..3), 1..40,
        ),
        (keys, flows) in (1_u8..4, 1_u32..4), limit in 1_usize..40,
    ) {
        let now = Instant::now();
        let (count, quarter) = (list.len(), Duration::from_micros(250));
        let waiting: Vec<Piece> = list.into_iter().enumerate().map(|(id, (rows, key, left, gone, level, tenant))| Piece {
            key: key % keys,
            level: level.min(flows),
            tenant: tenant % u64::from(flows),
            deadline: left.map(|left: i64| if left < 0 { now - quarter } else { now + quarter * left as u32 }),
            gone: gone == 0,
            ..piece(id, rows, now - ms((count - id) as u64))
        }).collect();
        let mut queue = Queue::default();
        waiting.iter().cloned().for_each(|piece| queue.push(piece));
        let taken = queue.take(choice(limit, now));
        check_batch(&taken, limit, now)?;
        let (batch, mut dropped) = plain::naive(&waiting, limit, now);
        dropped.sort_unstable();
        let mut got = ids(&taken.dropped);
        got.sort_unstable();
        prop_assert_eq!((ids(&taken.batch), got), (batch, dropped));
    }

    /// Where all pieces are of the same size, nothing is gained by hindsight: no other batch of those in front of the last one
    /// that is run has more rows, all in time.
    #[test]
    fn no_larger_batch_was_possible(
        left in proptest::collection::vec(proptest::option::of(0_u64..60), 1..60), limit in 1_usize..30,
    ) {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (id, left) in left.iter().enumerate() {
            let deadline = left.map(|left| now + Duration::from_micros(1 + 100 * left));
            // It came long ago: its time would allow for any batch.
            queue.push(Piece { deadline, ..piece(id, 1, now - ms(500)) });
        }
        let taken = queue.take(choice(limit, now));
        let last = taken.batch.iter().map(|piece| piece.id).max();
        let Some(last) = last else { return Ok(()) };
        let possible = |rows: &usize| {
            let end = now + cost(*rows).unwrap();
            let left = left[..=last].iter().map(|left| left.map(|left| now + Duration::from_micros(1 + 100 * left)));
            left.filter(|deadline| deadline.is_none_or(|deadline| deadline >= end)).count() >= *rows
        };
        let most = (1..=limit).filter(possible).max().unwrap();
        prop_assert_eq!(taken.batch.len(), most);
    }

    #[test]
    fn an_only_piece_that_can_be_finished_is_never_dropped(rows in 1_usize..30, more in 0_u64..5000, limit in 1_usize..20) {
        let now = Instant::now();
        let deadline = Some(now + cost(rows).unwrap() + Duration::from_micros(more));
        let mut queue = Queue::default();
        queue.push(Piece { deadline, ..piece(0, rows, now) });
        prop_assert_eq!(ids(&queue.take(choice(limit, now)).batch), [0]);
    }

    #[test]
    fn tenants_that_wait_get_the_same(
        sizes in proptest::collection::vec(proptest::collection::vec(1_usize..8, 20..40), 2..6), limit in 1_usize..10,
    ) {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (tenant, sizes) in sizes.iter().enumerate() {
            for (id, rows) in sizes.iter().enumerate() {
                queue.push(Piece { tenant: tenant as u64, ..piece(id, *rows, now) });
            }
        }
        let mut had = vec![0; sizes.len()];
        let mut count = vec![0; sizes.len()];
        loop {
            for piece in queue.take(choice(limit, now)).batch {
                had[piece.tenant as usize] += piece.rows;
                count[piece.tenant as usize] += 1;
            }
            if count.iter().zip(&sizes).any(|(count, sizes)| *count == sizes.len()) {
                break;
            }
            // Start-time fair queueing: nobody is ahead by more than one piece of each of the two.
            prop_assert!(had.iter().max().unwrap() - had.iter().min().unwrap() <= 14, "{:?}", had);
        }
    }

    #[test]
    fn nothing_is_overtaken_by_what_comes_more_than_its_age_later(
        list in proptest::collection::vec((1_u32..4, 0_u64..120), 1..60),
    ) {
        let start = Instant::now();
        let mut at = start;
        let mut queue = Queue::default();
        for (id, (level, gap)) in list.iter().enumerate() {
            at += ms(*gap);
            queue.push(Piece { level: *level, ..piece(id, 1, at) });
        }
        let mut order = Vec::new();
        while !queue.is_empty() {
            order.extend(queue.take(choice(1, at)).batch);
        }
        for (place, piece) in order.iter().enumerate() {
            for before in &order[..place] {
                let patience = AGEING * (piece.level - 1).saturating_sub(before.level - 1);
                prop_assert!(before.queued <= piece.queued + patience, "{:?} before {:?}", before, piece);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_not_overtaken() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for (id, rows) in [(0, 3), (1, 6), (2, 1)] {
        queue.push(piece(id, rows, now));
    }
    assert_eq!(ids(&queue.take(choice(8, now)).batch), [0]);
    assert_eq!(ids(&queue.take(choice(8, now)).batch), [1, 2]);
}

#[test]
fn urgent_work_goes_first_until_the_other_has_aged() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(Piece { level: 2, ..piece(0, 1, now) });
    queue.push(Piece { level: 2, key: 1, ..piece(1, 1, now) });
    queue.push(piece(2, 1, now + AGEING / 2));
    queue.push(piece(3, 1, now + AGEING * 2));
    let order: Vec<_> = (0..4).flat_map(|_| ids(&queue.take(choice(1, now)).batch)).collect();
    assert_eq!(order, [2, 0, 1, 3]);
}

#[test]
fn who_comes_late_starts_with_the_others_and_an_old_lead_is_remembered() {
    let now = Instant::now();
    let mut queue = Queue::default();
    let push = |queue: &mut Queue<Piece>, tenant, count| {
        (0..count).for_each(|id| queue.push(Piece { tenant, ..piece(id, 1, now) }));
    };
    let next = |queue: &mut Queue<Piece>| queue.take(choice(1, now)).batch[0].tenant;
    push(&mut queue, 1, 10);
    assert_eq!([next(&mut queue), next(&mut queue), next(&mut queue)], [1, 1, 1]);
    push(&mut queue, 2, 3);
    let order: Vec<_> = (0..4).map(|_| next(&mut queue)).collect();
    assert_eq!(order.iter().filter(|tenant| **tenant == 2).count(), 2, "{order:?}");
    // Many short visitors leave no flows behind.
    for tenant in 100..200 {
        push(&mut queue, tenant, 1);
        while next(&mut queue) != tenant {
            push(&mut queue, 1, 1);
        }
    }
    assert!(queue.flows.len() <= REMEMBERED + 2, "{}", queue.flows.len());
}

#[test]
fn under_load_heads_are_dropped_rather_than_batches_made_small() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for id in 0..20 {
        let left = if id < 2 { Duration::from_micros(2500) } else { ms(30) };
        queue.push(Piece { deadline: Some(now + left), ..piece(id, 1, now - ms(20)) });
    }
    let taken = queue.take(choice(10, now));
    assert_eq!((ids(&taken.dropped), ids(&taken.batch)), (vec![0, 1], (2..12).collect()));
}

#[test]
fn a_long_queue_of_those_who_have_little_time_ends_in_a_full_batch() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for id in 0..80 {
        let left = Duration::from_micros(2500 + 30 * id as u64);
        queue.push(Piece { deadline: Some(now + left), ..piece(id, 1, now - ms(50)) });
    }
    // From the fiftieth on they have the time for it.
    let taken = queue.take(choice(20, now));
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), ((50..70).collect(), (0..50).collect()));
}

#[test]
fn without_load_a_batch_is_cut_rather_than_its_head_dropped() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.push(Piece { deadline: Some(now + Duration::from_micros(2150)), ..piece(0, 1, now - ms(20)) });
    queue.push(Piece { deadline: Some(now + ms(30)), ..piece(1, 1, now) });
    assert_eq!(ids(&queue.take(choice(10, now)).batch), [0]);
    assert_eq!(ids(&queue.take(choice(10, now)).batch), [1]);
}

#[test]
fn costs_of_long_ago_drop_nobody_who_is_alone() {
    let now = Instant::now();
    let late = |id| Piece { deadline: Some(now + ms(1)), ..piece(id, 4, now) };
    let doubted = Choice { doubted: true, ..choice(10, now) };
    let mut queue = Queue::default();
    queue.push(late(0));
    let taken = queue.take(doubted);
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), (vec![0], vec![]));
    // Of several that waited for long one is enough to find out.
    let queued = now.checked_sub(ms(1000)).unwrap();
    (0..3).for_each(|id| queue.push(Piece { queued, ..late(id) }));
    let taken = queue.take(doubted);
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), (vec![2], vec![0, 1]));
    queue.push(late(3));
    assert_eq!(ids(&queue.take(choice(10, now)).dropped), [3]);
}

/// Pieces of so many rows with so many hundredths of a millisecond left, of which the last is of another key.
fn waiting(now: Instant, list: &[(usize, u64)], other: bool) -> Queue<Piece> {
    let mut queue = Queue::default();
    for (id, (rows, left)) in list.iter().enumerate() {
        let deadline = Some(now + Duration::from_micros(10 * left));
        queue.push(Piece { deadline, ..piece(id, *rows, now - ms(50)) });
    }
    if other {
        queue.push(Piece { key: 1, ..piece(list.len(), 1, now) });
    }
    queue
}

#[test]
fn who_is_hopeless_alone_takes_nobody_along() {
    let now = Instant::now();
    let mut queue = waiting(now, &[(1, 300), (19, 350)], false);
    let taken = queue.take(choice(20, now));
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), (vec![0], vec![1]));
    // Nor does he decide how large the batch is.
    let mut queue = Queue::default();
    queue.push(Piece { deadline: Some(now + ms(2)), ..piece(0, 9, now - ms(3)) });
    (1..9).for_each(|id| queue.push(piece(id, 1, now)));
    let taken = queue.take(choice(8, now));
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), ((1..9).collect(), vec![0]));
}

#[test]
fn nobody_is_dropped_for_one_who_is_dropped_as_well() {
    let now = Instant::now();
    // Ten rows twice cannot be in time together; the head can be with either of them.
    let mut queue = waiting(now, &[(1, 320), (10, 330), (10, 330)], true);
    let taken = queue.take(choice(30, now));
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), (vec![0, 1], vec![]));
    assert_eq!(ids(&queue.take(choice(30, now)).batch), [2], "who is behind waits");
}

#[test]
fn nobody_is_dropped_for_a_smaller_batch() {
    let now = Instant::now();
    let mut queue = waiting(now, &[(19, 395), (1, 900)], true);
    let taken = queue.take(choice(20, now));
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), (vec![0], vec![]));
    let mut queue = waiting(now, &[(1, 220), (19, 395), (1, 900)], true);
    let taken = queue.take(choice(30, now));
    assert_eq!((ids(&taken.batch), ids(&taken.dropped)), (vec![1], vec![0]));
    assert_eq!(ids(&queue.take(choice(30, now)).batch), [2]);
}
