//! When something that may happen thousands of times a second is said again. Made with every servable, asked by whoever would
//! say it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::types::nanos;

/// What has been said is not said again for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Of what happens often, how often it was not said.
#[derive(Debug)]
pub(crate) struct Seldom {
    epoch: Instant,
    /// When it may be said again, in nanoseconds after the epoch.
    due: AtomicU64,
    unsaid: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { epoch: Instant::now(), due: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }
}

impl Seldom {
    /// It has happened: how often it has before without being said, if it is to be said now.
    pub(crate) fn say(&self, now: Instant) -> Option<u64> {
        let since = now.saturating_duration_since(self.epoch);
        let due = self.due.load(Relaxed);
        let next = nanos(since + PAUSE);
        if nanos(since) < due || self.due.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            self.unsaid.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_in_a_while() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!((seldom.say(start), seldom.say(start)), (Some(0), None));
        assert_eq!(seldom.say(start + PAUSE / 2), None);
        assert_eq!((seldom.say(start + PAUSE), seldom.say(start + PAUSE)), (Some(2), None));
        assert_eq!(seldom.say(start + PAUSE * 3), Some(1));
    }
}
