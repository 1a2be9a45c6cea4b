//! The order in which rows wait, and which of them make up the next batch: a pure queue without clock, lock or task. The pool
//! lane and the local lane both keep one per servable and decide when to take from it.
//!
//! Work waits in flows, one per priority level and tenant. Between levels the oldest goes first, where work of level n counts
//! as having come n - 1 times [`AGEING`] later than it did: nothing is overtaken by what comes later than that, so no level
//! starves. Between the tenants of a level it is start-time fair queueing (Goyal, Vin and Cheng, 1996) counted in rows. Within a
//! flow and key it is first in, first out.
//!
//! Which of what waits makes up a batch, and who is let go for it, is chosen in `taking`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[path = "taking.rs"]
mod taking;

use self::taking::Taking;
pub(crate) use self::taking::{Choice, Taken};

/// How much later work counts as having come for every level below the most urgent one.
pub(crate) const AGEING: Duration = Duration::from_millis(100);
/// Empty flows that are remembered, at least.
const REMEMBERED: usize = 8;

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
    /// Priority level; 1 is the most urgent.
    fn level(&self) -> u32;
    /// Whose it is, where tenants share fairly.
    fn tenant(&self) -> u64;
}

/// What waits for one servable.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    flows: Vec<Flow<T>>,
    rows: usize,
    items: usize,
}

#[derive(Debug)]
struct Flow<T> {
    level: u32,
    tenant: u64,
    /// Rows it has had while others of its level waited; who comes anew starts with as many as the one that is next.
    had: u64,
    items: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { flows: Vec::new(), rows: 0, items: 0 }
    }
}

impl<T: Waiting> Queue<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.rows += item.rows();
        self.items += 1;
        let at = self.flow(item.level(), item.tenant());
        if self.flows[at].items.is_empty() {
            self.flows[at].had = self.start(at);
        }
        self.flows[at].items.push_back(item);
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// When the oldest head was queued.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.flows.iter().filter_map(|flow| flow.items.front()).map(Waiting::queued).min()
    }

    /// The earliest deadline of all that waits.
    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        self.flows.iter().flat_map(|flow| &flow.items).filter_map(Waiting::deadline).min()
    }

    /// Removes the next batch: the first piece still worth running and those behind it that have its key, at most `limit` rows.
    /// A first piece of more rows than the limit is taken alone.
    pub(crate) fn take(&mut self, choice: Choice<'_>) -> Taken<T> {
        Taking::new(self, choice).finish()
    }

    /// Removes what nobody waits for any more.
    pub(crate) fn purge(&mut self) -> Vec<T> {
        let mut gone = Vec::new();
        for flow in &mut self.flows {
            if flow.items.iter().any(Waiting::abandoned) {
                let (left, kept): (VecDeque<T>, VecDeque<T>) =
                    std::mem::take(&mut flow.items).into_iter().partition(Waiting::abandoned);
                flow.items = kept;
                gone.extend(left);
            }
        }
        self.rows -= gone.iter().map(Waiting::rows).sum::<usize>();
        self.items -= gone.len();
        gone
    }

    /// Removes everything.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        (self.rows, self.items) = (0, 0);
        std::mem::take(&mut self.flows).into_iter().flat_map(|flow| flow.items).collect()
    }

    /// The index of the flow of a level and tenant; made if need be.
    fn flow(&mut self, level: u32, tenant: u64) -> usize {
        let known = self.flows.iter().position(|flow| flow.level == level && flow.tenant == tenant);
        known.unwrap_or_else(|| {
            if self.flows.len() >= REMEMBERED {
                // Who is ahead of others that wait is remembered until they have caught up.
                let ahead = |flow: &Flow<T>| self.next_had(flow.level).is_some_and(|next| flow.had > next);
                let kept: Vec<bool> = self.flows.iter().map(|flow| !flow.items.is_empty() || ahead(flow)).collect();
                let mut kept = kept.into_iter();
                self.flows.retain(|_| kept.next() == Some(true));
            }
            self.flows.push(Flow { level, tenant, had: 0, items: VecDeque::new() });
            self.flows.len() - 1
        })
    }

    /// With how many rows an empty flow starts again: as many as the one of its level that is next, or as it has had itself if
    /// that is more; with none when nobody of its level waits.
    fn start(&self, at: usize) -> u64 {
        let Flow { level, had, .. } = self.flows[at];
        self.next_had(level).map_or(0, |next| had.max(next))
    }

    /// What the flow of a level that is next has had; `None` when none of that level waits.
    fn next_had(&self, level: u32) -> Option<u64> {
        let waiting = self.flows.iter().filter(|flow| flow.level == level && !flow.items.is_empty());
        waiting.map(|flow| flow.had).min()
    }

    /// The flow whose head is next.
    fn next_flow(&self) -> Option<usize> {
        if self.flows.len() == 1 {
            return (!self.flows[0].items.is_empty()).then_some(0);
        }
        let heads = || self.flows.iter().enumerate().filter_map(|(at, flow)| Some((at, flow, flow.items.front()?)));
        let (_, first, _) = heads().min_by_key(|(_, flow, head)| (counts_from(*head), flow.level))?;
        let level = heads().filter(|(_, flow, _)| flow.level == first.level);
        level.min_by_key(|(_, flow, head)| (flow.had, head.queued())).map(|(at, ..)| at)
    }

    /// Takes out the head of a flow.
    fn pop(&mut self, at: usize) -> Option<T> {
        let flow = self.flows.get_mut(at)?;
        let item = flow.items.pop_front()?;
        self.rows -= item.rows();
        self.items -= 1;
        flow.had += item.rows() as u64;
        Some(item)
    }

    /// Puts back what was taken out, in front of its flow.
    fn put_back(&mut self, item: T) {
        self.rows += item.rows();
        self.items += 1;
        self.refund(&item);
        let at = self.flow(item.level(), item.tenant());
        self.flows[at].items.push_front(item);
    }

    /// Forgets that a flow has had what was not run.
    fn refund(&mut self, item: &T) {
        let at = self.flow(item.level(), item.tenant());
        self.flows[at].had = self.flows[at].had.saturating_sub(item.rows() as u64);
    }
}

/// When work counts as having come.
fn counts_from(item: &impl Waiting) -> Instant {
    item.queued() + AGEING * (item.level().max(1) - 1)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
