//! When something has stopped changing: it looked the same twice, at least the settle time apart. The manager holds one per
//! version and one per configuration; the time is an argument, so that tests need not wait.

use std::time::{Duration, Instant};

/// What was seen, since when, and when it was looked at last.
#[derive(Clone, Debug)]
pub struct Settling<T> {
    seen: T,
    since: Instant,
    looked: Instant,
}

impl<T: PartialEq> Settling<T> {
    /// The first look. `age` is for how long it is known not to have changed before.
    pub fn new(seen: T, now: Instant, age: Duration) -> Self {
        Self { seen, since: now.checked_sub(age).unwrap_or(now), looked: now }
    }

    /// Another look; true when something has changed since the last one.
    pub fn look(&mut self, seen: T, now: Instant) -> bool {
        self.looked = now;
        let changed = self.seen != seen;
        if changed {
            self.since = now;
            self.seen = seen;
        }
        changed
    }

    /// What was seen last.
    pub fn seen(&self) -> &T {
        &self.seen
    }

    /// True when two looks at least `settle` apart saw the same.
    pub fn settled(&self, settle: Duration) -> bool {
        self.looked.duration_since(self.since) >= settle
    }

    /// When another look can find it settled.
    pub fn settled_at(&self, settle: Duration) -> Instant {
        self.since + settle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(500);

    #[test]
    fn two_equal_looks_apart() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut file = Settling::new(1, at(0), Duration::ZERO);
        assert!(!file.settled(SETTLE));
        assert!(!file.look(1, at(499)));
        assert!(!file.settled(SETTLE));
        assert!(file.look(2, at(600)));
        assert!(!file.look(2, at(1099)));
        assert!(!file.settled(SETTLE));
        assert_eq!(file.settled_at(SETTLE), at(1100));
        assert!(!file.look(2, at(1100)));
        assert!(file.settled(SETTLE));
        assert!(file.look(3, at(1200)));
        assert!(!file.settled(SETTLE));
        assert_eq!(*file.seen(), 3);
    }

    #[test]
    fn what_is_known_to_be_old_is_settled_at_once() {
        let now = Instant::now();
        assert!(Settling::new((), now, SETTLE).settled(SETTLE));
        assert!(!Settling::new((), now, Duration::from_millis(499)).settled(SETTLE));
        assert!(Settling::new((), now, Duration::ZERO).settled(Duration::ZERO));
        // More than the clock can go back: then it is not known.
        assert!(!Settling::new((), now, Duration::MAX).settled(SETTLE));
    }
}
