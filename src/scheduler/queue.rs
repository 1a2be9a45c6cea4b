//! The order in which rows wait: a pure queue without clock, lock or task. The pool lane and the local lane both keep one per
//! servable and decide when to take from it.

use std::{collections::VecDeque, time::Instant};

/// What the queue needs to know about a waiting piece of work.
pub(crate) trait Waiting {
    /// Two pieces may share a batch only when their keys are equal.
    type Key: PartialEq;

    /// Rows.
    fn rows(&self) -> usize;
    /// What must agree within a batch.
    fn key(&self) -> &Self::Key;
    /// When an answer stops being of use.
    fn deadline(&self) -> Option<Instant>;
    /// When it was queued.
    fn queued(&self) -> Instant;
    /// True when nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
}

/// First in, first out within a key.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: VecDeque<T>,
    rows: usize,
}

/// What [`Queue::take`] removed from the queue.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    /// The batch, in arrival order; empty when nothing can be run.
    pub(crate) batch: Vec<T>,
    /// Work whose deadline has passed; it must be refused, not run.
    pub(crate) expired: Vec<T>,
    /// Work that nobody waits for.
    pub(crate) abandoned: Vec<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), rows: 0 }
    }
}

impl<T: Waiting> Queue<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.rows += item.rows();
        self.items.push_back(item);
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// When the head was queued.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.items.front().map(Waiting::queued)
    }

    /// Removes a batch of at most `limit` rows that starts with the first piece still worth running and continues with those
    /// behind it that have its key. A first piece of more rows than the limit is taken alone.
    pub(crate) fn take(&mut self, limit: usize, now: Instant) -> Taken<T> {
        let mut taken = Taken { batch: Vec::new(), expired: Vec::new(), abandoned: Vec::new() };
        let mut rows = 0;
        let mut kept = VecDeque::new();
        while let Some(item) = self.items.pop_front() {
            if item.abandoned() {
                self.rows -= item.rows();
                taken.abandoned.push(item);
            } else if item.deadline().is_some_and(|deadline| deadline <= now) {
                self.rows -= item.rows();
                taken.expired.push(item);
            } else if taken.batch.first().is_some_and(|head| head.key() != item.key()) {
                kept.push_back(item);
            } else if taken.batch.is_empty() || rows + item.rows() <= limit {
                rows += item.rows();
                self.rows -= item.rows();
                taken.batch.push(item);
                if rows >= limit {
                    break;
                }
            } else {
                // It has the batch's key and does not fit: nothing of that key behind it may overtake it.
                kept.push_back(item);
                break;
            }
        }
        while let Some(item) = kept.pop_back() {
            self.items.push_front(item);
        }
        taken
    }

    /// Removes what nobody waits for any more.
    pub(crate) fn purge(&mut self) -> Vec<T> {
        let (gone, kept): (VecDeque<T>, VecDeque<T>) =
            std::mem::take(&mut self.items).into_iter().partition(Waiting::abandoned);
        self.items = kept;
        self.rows = self.items.iter().map(Waiting::rows).sum();
        gone.into()
    }

    /// Removes everything.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.rows = 0;
        std::mem::take(&mut self.items).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[derive(Clone, Debug)]
    struct Piece {
        id: usize,
        rows: usize,
        key: u8,
        deadline: Option<Instant>,
        queued: Instant,
        gone: bool,
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
    }

    fn pieces(now: Instant) -> impl Strategy<Value = Vec<Piece>> {
        let piece = (1_usize..20, 0_u8..3, 0_u8..5, 0_u8..8);
        proptest::collection::vec(piece, 0..40).prop_map(move |list| {
            list.into_iter()
                .enumerate()
                .map(|(id, (rows, key, late, gone))| Piece {
                    id,
                    rows,
                    key,
                    deadline: match late {
                        0 => Some(now),
                        1 => Some(now + Duration::from_secs(1)),
                        _ => None,
                    },
                    queued: now,
                    gone: gone == 0,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_piece_leaves_once_within_the_limit_and_in_order(
            list in pieces(Instant::now()), limit in 1_usize..40,
        ) {
            let now = list.first().map_or_else(Instant::now, |piece| piece.queued);
            let mut queue = Queue::default();
            for piece in list.clone() {
                queue.push(piece);
            }
            let mut left = Vec::new();
            let mut last_of_key = [None; 3];
            while !queue.is_empty() {
                let before = queue.rows();
                let taken = queue.take(limit, now);
                let batch_rows: usize = taken.batch.iter().map(|piece| piece.rows).sum();
                prop_assert!(batch_rows <= limit || taken.batch.len() == 1);
                prop_assert!(taken.batch.iter().all(|piece| piece.key == taken.batch[0].key));
                prop_assert!(taken.batch.iter().all(|piece| !piece.gone && piece.deadline != Some(now)));
                prop_assert!(taken.expired.iter().all(|piece| !piece.gone && piece.deadline == Some(now)));
                for piece in &taken.batch {
                    let last = &mut last_of_key[usize::from(piece.key)];
                    prop_assert!(last.is_none_or(|last| last < piece.id), "first in, first out within a key");
                    *last = Some(piece.id);
                }
                let gone = taken.batch.iter().chain(&taken.expired).chain(&taken.abandoned);
                let gone_rows: usize = gone.clone().map(|piece| piece.rows).sum();
                prop_assert_eq!(before, queue.rows() + gone_rows);
                prop_assert!(gone.clone().count() > 0, "progress");
                left.extend(gone.map(|piece| piece.id));
            }
            left.sort_unstable();
            prop_assert_eq!(left, (0..list.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_does_not_fit_is_not_overtaken() {
        let now = Instant::now();
        let piece = |id, rows| Piece { id, rows, key: 0, deadline: None, queued: now, gone: false };
        let mut queue = Queue::default();
        for (id, rows) in [(0, 3), (1, 6), (2, 1)] {
            queue.push(piece(id, rows));
        }
        let ids = |taken: Taken<Piece>| taken.batch.iter().map(|piece| piece.id).collect::<Vec<_>>();
        assert_eq!(ids(queue.take(8, now)), [0]);
        assert_eq!(ids(queue.take(8, now)), [1, 2]);
    }
}
