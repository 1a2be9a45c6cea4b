//! Which of what waits makes up the next batch, and who is let go for it: a batch while it is being chosen from a queue. Pure.
//!
//! A batch is not larger than half of its head's time allows (Nexus, SOSP 2019: whoever just missed a batch waits for one and
//! is in the next). It is made of those in front, without those that could not afford it, and filled up from behind: under load
//! that is what keeps batches large. Who is hopeless even alone goes before anybody is compared with him. Of the others stays,
//! from the most patient on, whoever can afford the batch with himself in it. So whoever is dropped could not have afforded the
//! batch that is run, and nobody goes for the sake of one who is let go as well, for a batch that is not larger than what he
//! brings himself, or where two batches in a row would serve everybody.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::{Queue, Waiting};

/// A batch that has not become larger when it was filled up so many times is full enough.
pub(super) const IN_VAIN: usize = 16;

/// How a batch is to be chosen.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// Rows that a batch may have.
    pub(crate) limit: usize,
    /// The time.
    pub(crate) now: Instant,
    /// What a batch of so many rows takes, if that is known; never less for more rows.
    pub(crate) cost: &'a dyn Fn(usize) -> Option<Duration>,
    /// The costs are of long ago: the last member that is left is run for them to be measured, and not dropped.
    pub(crate) doubted: bool,
}

impl Choice<'_> {
    /// True when what has this deadline cannot be in time in a batch of so many rows.
    fn is_late(&self, deadline: Option<Instant>, rows: usize) -> bool {
        let Some(deadline) = deadline else { return false };
        (self.cost)(rows).is_some_and(|cost| deadline < self.now + cost)
    }
}

/// What [`Queue::take`] removed from the queue.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    /// The batch, in the order of the queue; empty when nothing can be run.
    pub(crate) batch: Vec<T>,
    /// Work whose deadline has passed; it must be refused, not run.
    pub(crate) expired: Vec<T>,
    /// Work that could not have been finished in time in the batch, or alone.
    pub(crate) dropped: Vec<T>,
    /// Work that nobody waits for.
    pub(crate) abandoned: Vec<T>,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self { batch: Vec::new(), expired: Vec::new(), dropped: Vec::new(), abandoned: Vec::new() }
    }
}

/// A batch while it is being chosen.
pub(super) struct Taking<'q, 'c, T> {
    queue: &'q mut Queue<T>,
    choice: Choice<'c>,
    /// Its batch has members that may still go.
    taken: Taken<T>,
    /// Of other keys than the batch, and how many of its members were taken out before each; put back in the end.
    held: Vec<(usize, T)>,
    /// Of the batch, without those that are not to stay.
    rows: usize,
    /// Rows that it is to have at most.
    target: usize,
}

/// Some members of a batch, and their rows.
#[derive(Clone)]
struct Chosen {
    /// Their places, ascending.
    members: Vec<usize>,
    rows: usize,
    /// Those behind them are to wait.
    cut: bool,
}

impl<'q, 'c, T: Waiting> Taking<'q, 'c, T> {
    pub(super) fn new(queue: &'q mut Queue<T>, choice: Choice<'c>) -> Self {
        Self { queue, choice, taken: Taken::default(), held: Vec::new(), rows: 0, target: 0 }
    }

    /// Chooses the batch.
    pub(super) fn finish(mut self) -> Taken<T> {
        self.collect();
        self.let_go();
        self.release();
        self.taken
    }

    /// Fills the batch up to its target.
    fn collect(&mut self) {
        while self.taken.batch.is_empty() || self.rows < self.target {
            let Some(item) = self.queue.next_flow().and_then(|at| self.queue.pop(at)) else { return };
            if item.abandoned() {
                self.queue.refund(&item);
                self.taken.abandoned.push(item);
            } else if item.deadline().is_some_and(|deadline| deadline <= self.choice.now) {
                self.queue.refund(&item);
                self.taken.expired.push(item);
            } else if let Some(head) = self.taken.batch.first() {
                if head.key() != item.key() {
                    self.held.push((self.taken.batch.len(), item));
                } else if self.rows + item.rows() > self.target {
                    // Nothing of the batch's key behind it may overtake it.
                    self.queue.put_back(item);
                    return;
                } else {
                    self.join(item);
                }
            } else {
                self.target = self.target(&item);
                self.join(item);
            }
        }
    }

    fn join(&mut self, item: T) {
        self.rows += item.rows();
        self.taken.batch.push(item);
    }

    /// Rows that a batch with this head should have at most: the limit, or as many as twice fit into the head's time.
    fn target(&self, head: &T) -> usize {
        let Choice { limit, cost, .. } = self.choice;
        let Some(deadline) = head.deadline() else { return limit };
        let allowed = deadline.saturating_duration_since(head.queued());
        let fits = |rows: usize| cost(rows).is_none_or(|cost| cost * 2 <= allowed);
        if fits(limit) {
            return limit;
        }
        let (mut most, mut over) = (1, limit.max(1));
        while over - most > 1 {
            let middle = most.midpoint(over);
            *(if fits(middle) { &mut most } else { &mut over }) = middle;
        }
        most
    }

    /// Drops members that cannot be answered in time. When nothing waits behind the batch and everybody could be served in two,
    /// it is cut instead.
    fn let_go(&mut self) {
        while let Some(late) = self.first_late() {
            if self.choice.doubted && self.taken.batch.len() == 1 {
                return;
            }
            if self.drop_hopeless(0) {
                self.aim();
                self.collect();
                continue;
            }
            if !(self.queue.is_empty() && self.held.is_empty() && self.cut(late)) {
                self.drop_early();
            }
            return;
        }
    }

    /// The first member that cannot afford the batch.
    fn first_late(&self) -> Option<usize> {
        let cost = (self.choice.cost)(self.rows)?;
        let end = self.choice.now + cost;
        self.taken.batch.iter().position(|item| item.deadline().is_some_and(|deadline| deadline < end))
    }

    /// Drops members from this one on that would be late even alone. True when there were any.
    fn drop_hopeless(&mut self, from: usize) -> bool {
        let batch = &self.taken.batch;
        let hopeless = |item: &T| self.choice.is_late(item.deadline(), item.rows());
        let mut stay: Vec<bool> = batch.iter().enumerate().map(|(at, item)| at < from || !hopeless(item)).collect();
        if self.choice.doubted
            && !stay.contains(&true)
            && let Some(last) = stay.last_mut()
        {
            *last = true;
        }
        let rows = batch.iter().zip(&stay).filter(|(_, stays)| !**stays).map(|(item, _)| item.rows()).sum::<usize>();
        self.rows -= rows;
        self.keep(&stay);
        if self.taken.batch.is_empty() {
            // The next batch may be of another key: those of that key that were passed over are in front.
            self.release();
        }
        rows > 0
    }

    /// Sets the target anew, by who is first now.
    fn aim(&mut self) {
        let Some(head) = self.taken.batch.first() else { return };
        self.target = self.target(head);
        while self.rows > self.target && self.taken.batch.len() > 1 {
            self.rows -= self.taken.batch.last().map_or(0, Waiting::rows);
            self.put_back_from(self.taken.batch.len() - 1);
        }
    }

    /// Drops members for the sake of a larger batch, filled up from behind: of the batches on the way to a full one the largest, of
    /// several the first.
    fn drop_early(&mut self) {
        let mut current = self.outweighing((0..self.taken.batch.len()).collect());
        let mut chosen = current.clone();
        let mut in_vain = 0;
        while !current.cut && in_vain < IN_VAIN {
            let known = self.taken.batch.len();
            self.rows = current.rows;
            self.collect();
            while self.drop_hopeless(known) {
                self.collect();
            }
            let window: Vec<usize> = current.members.iter().copied().chain(known..self.taken.batch.len()).collect();
            if window.len() == current.members.len() {
                break;
            }
            current = self.outweighing(window);
            in_vain += 1;
            if current.rows > chosen.rows {
                chosen = current.clone();
                in_vain = 0;
            }
        }
        // Who is behind all that stay is in nobody's way.
        let mut stay = vec![false; chosen.members.last().map_or(0, |last| last + 1)];
        chosen.members.into_iter().for_each(|member| stay[member] = true);
        self.put_back_from(stay.len());
        self.keep(&stay);
    }

    /// Who of these members stays. Nobody goes for a batch that is not larger than what he brings: then those behind him wait,
    /// if without them the batch is at least as large.
    fn outweighing(&self, window: Vec<usize>) -> Chosen {
        let mut chosen = self.patient(&window);
        for (at, member) in window.iter().enumerate() {
            let passed = chosen.members.last() > Some(member) && chosen.members.binary_search(member).is_err();
            if passed && self.taken.batch[*member].rows() >= chosen.rows {
                let shorter = self.patient(&window[..=at]);
                if shorter.rows >= chosen.rows {
                    chosen = Chosen { cut: true, ..shorter };
                }
            }
        }
        chosen
    }

    /// Of these members, from the most patient on, whoever can afford the batch with himself in it; those before him can, since
    /// they have more time.
    fn patient(&self, window: &[usize]) -> Chosen {
        let batch = &self.taken.batch;
        let mut order = window.to_vec();
        order.sort_by_key(|member| {
            batch[*member].deadline().map_or((false, None), |deadline| (true, Some(Reverse(deadline))))
        });
        let mut rows = 0;
        order.retain(|member| {
            let item = &batch[*member];
            let stays = !self.choice.is_late(item.deadline(), rows + item.rows());
            rows += if stays { item.rows() } else { 0 };
            stays
        });
        order.sort_unstable();
        Chosen { members: order, rows, cut: false }
    }

    /// Cuts the batch behind a member that is short of time, if both parts can then be finished in time.
    fn cut(&mut self, at: usize) -> bool {
        let Choice { now, cost, .. } = self.choice;
        let (first, second) = self.taken.batch.split_at((at + 1).min(self.taken.batch.len()));
        let rows = |items: &[T]| items.iter().map(Waiting::rows).sum::<usize>();
        let (Some(one), Some(two)) = (cost(rows(first)), cost(rows(second))) else { return false };
        let in_time = |items: &[T], by: Duration| {
            items.iter().all(|item| item.deadline().is_none_or(|deadline| deadline >= now + by))
        };
        if second.is_empty() || !in_time(first, one) || !in_time(second, one + two) {
            return false;
        }
        self.put_back_from(at + 1);
        true
    }

    /// Drops the members that are not to stay.
    fn keep(&mut self, stay: &[bool]) {
        debug_assert_eq!(stay.len(), self.taken.batch.len());
        // Those that were passed over are in the order of the members before them.
        let (mut seen, mut staying) = (0, 0);
        for (before, _) in &mut self.held {
            staying += stay.get(seen..*before).map_or(0, |part| part.iter().filter(|stays| **stays).count());
            (seen, *before) = (*before, staying);
        }
        for (item, stays) in std::mem::take(&mut self.taken.batch).into_iter().zip(stay) {
            if *stays {
                self.taken.batch.push(item);
            } else {
                self.queue.refund(&item);
                self.taken.dropped.push(item);
            }
        }
    }

    /// Puts back the members from this one on, and what was passed over behind them, the last first.
    fn put_back_from(&mut self, from: usize) {
        while self.taken.batch.len() > from {
            while let Some((_, item)) = self.held.pop_if(|(before, _)| *before >= self.taken.batch.len()) {
                self.queue.put_back(item);
            }
            self.taken.batch.pop().into_iter().for_each(|item| self.queue.put_back(item));
        }
    }

    /// Puts back what was passed over.
    fn release(&mut self) {
        while let Some((_, item)) = self.held.pop() {
            self.queue.put_back(item);
        }
    }
}
