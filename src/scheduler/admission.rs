//! Whether a request may wait at all, and what it is told if not: the part of a servable that looks at the room in its queue,
//! at what would have to be run first, and at its circuit. Asked by lanes before anything is queued; its errors are also those
//! of work that was queued and could not be run.

use std::time::{Duration, Instant};

use super::{
    core::Core,
    job::{Finished, Job},
    load::{Ask, Load, turns},
    policy::SLOW,
    room::Full,
};
use crate::{
    observe::Reject,
    types::{Error, ErrorCode},
};

/// What callers are told to wait at most, and at least.
const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(1);
/// What a profile says is doubted when nothing has been run for so long: then the next request is let in to find out.
const STALE: Duration = Duration::from_secs(1);

/// Where a request would wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// For a worker.
    Pool(&'a Load),
    /// On its I/O thread.
    Thread {
        /// Rows of its servable that wait there.
        rows: usize,
        /// What the next batches of the other servables there take together.
        others: Duration,
    },
}

/// A refusal and its place in the metrics.
type Refusal = (Reject, Error);

impl Core {
    /// The level that a request's priority means: 0 and what is beyond the levels are the default one.
    pub(crate) fn level(&self, priority: u64) -> u32 {
        let levels = self.batching.priority_levels;
        if levels <= 1 {
            return 1;
        }
        match u32::try_from(priority) {
            Ok(level) if (1..=levels).contains(&level) => level,
            _ if self.batching.default_priority_level > 0 => self.batching.default_priority_level.min(levels),
            _ => levels.div_ceil(2),
        }
    }

    /// Refuses a request that would not be answered by its deadline, as far as can be told.
    ///
    /// # Errors
    /// What the caller is told.
    pub(crate) fn in_time(
        &self,
        rows: usize,
        level: u32,
        deadline: Instant,
        (place, now): (Place<'_>, Instant),
    ) -> Result<(), Refusal> {
        if deadline <= now {
            return Err((Reject::Deadline, expired_in_queue()));
        }
        let left = deadline - now;
        let (waiting, workers) = match place {
            Place::Pool(_) => (self.room.rows(), self.parallel),
            Place::Thread { rows, .. } => (rows, 1),
        };
        let Some(alone) = self.least(rows, workers) else { return Ok(()) };
        if alone > left {
            if waiting == 0 && self.doubts(now) {
                return Ok(());
            }
            return Err((Reject::Deadline, too_short(alone, left)));
        }
        let costs = self.tariff.costs();
        let cost = |rows: usize| if rows == 0 { Duration::ZERO } else { costs.cost(rows).unwrap_or_default() };
        let before = self.room.rows_up_to(level).min(waiting);
        let ahead = cost(before);
        let wait = match place {
            Place::Thread { others, .. } => turns(ahead, others, (before + rows).div_ceil(self.tariff.take().max(1))),
            Place::Pool(load) => {
                let own = cost(waiting);
                let slow = cost(rows.min(self.piece(rows))) > SLOW;
                load.wait(&Ask { ahead, own, alone, parallel: self.parallel, key: self.key, slow }, now)
            }
        };
        if wait.saturating_add(alone) <= left {
            return Ok(());
        }
        let text = format!(
            "model '{}': overloaded: an answer takes about {}, {} are left",
            self.id.model,
            shown(wait.saturating_add(alone)),
            shown(left)
        );
        let excess = wait.saturating_add(alone).saturating_sub(left).clamp(SHORTEST, LONGEST);
        Err((Reject::Deadline, Error::new(ErrorCode::Overloaded, text).with_retry_after(excess)))
    }

    /// What a request is told that does not fit in.
    pub(crate) fn full(&self, full: Full) -> Refusal {
        let share = self.room.rows().div_ceil(self.parallel.max(1)).max(1);
        let wait = self.tariff.cost(share).unwrap_or(Duration::from_millis(100)).clamp(SHORTEST, LONGEST);
        let (reason, text) = match full {
            Full::Queue => {
                let text = format!("model '{}': queue full: {} rows wait", self.id.model, self.room.rows());
                (Reject::QueueFull, text)
            }
            Full::Share => {
                let text = format!("model '{}': the tenant's share of the queue is used up", self.id.model);
                (Reject::Tenant, text)
            }
        };
        (reason, Error::new(ErrorCode::Overloaded, text).with_retry_after(wait))
    }

    /// What is said while the circuit is open.
    pub(crate) fn broken(&self, now: Instant) -> Error {
        self.broken_for(self.circuit.wait(now))
    }

    /// The same, for so long.
    pub(crate) fn broken_for(&self, wait: Duration) -> Error {
        let text = format!("model '{}': the circuit is open: its last runs have failed", self.id.model);
        Error::new(ErrorCode::Unavailable, text).with_retry_after(wait.clamp(SHORTEST, LONGEST * 2))
    }

    /// Refuses jobs whose deadline passed while they waited, and those that could not have been finished in time.
    pub(crate) fn refuse(&self, expired: Vec<Job>, dropped: Vec<Job>, now: Instant) -> Vec<Finished> {
        if expired.is_empty() && dropped.is_empty() {
            return Vec::new();
        }
        let wait = self.tariff.cost(self.room.rows().max(1)).unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST);
        let drop_one = |job: Job| {
            let deadline = job.work.deadline.unwrap_or(now);
            let allowed = deadline.saturating_duration_since(job.queued);
            if let Some(alone) = self.least(job.whole, self.parallel).filter(|alone| *alone > allowed) {
                // Learnt since it was let in.
                self.series.rejected(Reject::Deadline);
                return job.finish(Err(too_short(alone, allowed)));
            }
            self.series.rejected(Reject::EarlyDrop);
            let left = deadline.saturating_duration_since(now);
            let text =
                format!("model '{}': overloaded: its batch takes longer than the {} left", self.id.model, shown(left));
            job.finish(Err(Error::new(ErrorCode::Overloaded, text).with_retry_after(wait)))
        };
        let expire = |job: Job| {
            self.series.rejected(Reject::Deadline);
            job.finish(Err(expired_in_queue()))
        };
        expired.into_iter().map(expire).chain(dropped.into_iter().map(drop_one)).collect()
    }

    /// True when what the profile says is of long ago.
    pub(crate) fn doubts(&self, now: Instant) -> bool {
        self.tariff.idle_for(now) >= STALE
    }
}

/// A time in two or three figures.
fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms >= 10.0 { format!("{ms:.0} ms") } else { format!("{ms:.2} ms") }
}

/// The error of a request that needs more time than it has, even alone.
fn too_short(alone: Duration, allowed: Duration) -> Error {
    let text = format!("deadline: too short: expected at least {}, got {}", shown(alone), shown(allowed));
    Error::new(ErrorCode::DeadlineExceeded, text)
}

/// The error of a request whose deadline passed before a worker took it.
pub(crate) fn expired_in_queue() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "deadline: expired in the queue")
}

/// The error of a request whose deadline passed while it was run.
pub(crate) fn expired_in_execution() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "deadline: expired in execution")
}
