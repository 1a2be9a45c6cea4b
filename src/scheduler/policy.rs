//! Which servable a free worker serves next: a pure function of what waits and of the time. Round robin over servables whose
//! batch is due; a servable that has been asked to wait for a fuller batch is due when it is full enough or old enough.

use std::time::{Duration, Instant};

use crate::types::BatchingSpec;

/// What the policy sees of one servable with waiting work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Rows that wait.
    pub(crate) rows: usize,
    /// Rows at which waiting longer gains nothing.
    pub(crate) enough: usize,
    /// When the oldest of them came.
    pub(crate) oldest: Instant,
    /// How long it may wait for more.
    pub(crate) delay: Duration,
    /// Batches that run now.
    pub(crate) running: usize,
    /// Batches that may run at once.
    pub(crate) parallel: usize,
}

/// What a free worker should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Take a batch of the servable at this index.
    Run(usize),
    /// Nothing is due before then.
    Wait(Instant),
    /// Nothing waits that may run.
    Idle,
}

/// Picks the first due servable. The caller keeps `views` in round-robin order: a servable that was served moves to the end.
pub(crate) fn pick(views: impl Iterator<Item = View>, now: Instant) -> Pick {
    let mut earliest: Option<Instant> = None;
    for (index, view) in views.enumerate() {
        if view.rows == 0 || view.running >= view.parallel {
            continue;
        }
        let due = if view.rows >= view.enough { view.oldest } else { view.oldest + view.delay };
        if due <= now {
            return Pick::Run(index);
        }
        earliest = Some(earliest.map_or(due, |time| time.min(due)));
    }
    earliest.map_or(Pick::Idle, Pick::Wait)
}

/// Rows at which a batch need not wait any longer: the smallest preferred size, else the limit.
pub(crate) fn enough_rows(batching: &BatchingSpec, limit: usize) -> usize {
    batching.preferred_batch_size.iter().copied().filter(|size| *size > 0).min().map_or(limit, |size| size.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(now: Instant, rows: usize) -> View {
        View { rows, enough: 8, oldest: now, delay: Duration::ZERO, running: 0, parallel: 2 }
    }

    #[test]
    fn first_due_in_the_given_order() {
        let now = Instant::now();
        let views = [view(now, 0), View { running: 2, ..view(now, 3) }, view(now, 1), view(now, 9)];
        assert_eq!(pick(views.into_iter(), now), Pick::Run(2));
        assert_eq!(pick(views[..2].iter().copied(), now), Pick::Idle);
    }

    #[test]
    fn waits_for_a_fuller_batch_only_as_long_as_asked() {
        let now = Instant::now();
        let delay = Duration::from_millis(2);
        let waiting = View { delay, ..view(now, 3) };
        assert_eq!(pick([waiting].into_iter(), now), Pick::Wait(now + delay));
        assert_eq!(pick([waiting].into_iter(), now + delay), Pick::Run(0));
        assert_eq!(pick([View { rows: 8, ..waiting }].into_iter(), now), Pick::Run(0));
        let other = View { delay: delay / 2, ..waiting };
        assert_eq!(pick([waiting, other].into_iter(), now), Pick::Wait(now + delay / 2));
    }
}
