//! The memory that request bodies may take, all together. A request takes its [`Share`] before its bytes are kept and gives
//! it back when its answer has been sent; a request that does not fit is refused at once instead of growing the process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that all requests in flight may hold.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// An empty share, to be grown as bytes come.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }
}

/// What one request holds of a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Makes the share at least `bytes` large. False, and unchanged, when that does not fit.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return true;
        };
        let before = self.budget.used.fetch_add(more, Relaxed);
        if before.saturating_add(more) > self.budget.limit {
            self.budget.used.fetch_sub(more, Relaxed);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Share {
    /// Adds bytes that are there already, even beyond the limit: it is new requests that are refused then.
    pub fn add(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(100);
        let mut a = budget.share();
        let mut b = budget.share();
        assert!(a.grow_to(60));
        assert!(a.grow_to(40), "a share does not shrink");
        assert!(!b.grow_to(41));
        assert!(b.grow_to(40));
        assert_eq!(budget.used(), 100);
        drop(a);
        assert!(b.grow_to(100));
        b.add(50);
        assert_eq!(budget.used(), 150);
        assert!(!budget.share().grow_to(1));
        drop(b);
        assert_eq!(budget.used(), 0);
    }
}
