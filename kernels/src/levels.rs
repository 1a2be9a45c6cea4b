//! Every level of instructions that the machine at hand has, and not only the best, for tests: a test asks for one, and the
//! kernels that it calls are run at that one.

use std::cell::Cell;

use fearless_simd::Level;
use proptest::{sample::select, strategy::Strategy};

thread_local! {
    static ASKED_FOR: Cell<Option<Level>> = const { Cell::new(None) };
}

/// What this thread has asked for.
pub(crate) fn asked_for() -> Option<Level> {
    ASKED_FOR.get()
}

/// From the best downwards.
pub(crate) fn all() -> Vec<Level> {
    let best = Level::new();
    let mut levels = vec![best];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        let lower =
            [best.as_avx2().map(Level::Avx2), best.as_sse4_2().map(Level::Sse4_2), best.as_sse2().map(Level::Sse2)];
        levels.extend(lower.into_iter().flatten());
    }
    levels.dedup_by_key(|level| std::mem::discriminant(level));
    levels
}

/// Any of them.
pub(crate) fn any() -> impl Strategy<Value = Level> {
    select(all())
}

/// Does something at each of them.
pub(crate) fn at_each(mut work: impl FnMut()) {
    for level in all() {
        let _at = At::level(level);
        work();
    }
}

/// This thread is at a level as long as this lives.
pub(crate) struct At;

impl At {
    pub(crate) fn level(level: Level) -> Self {
        ASKED_FOR.set(Some(level));
        Self
    }
}

impl Drop for At {
    fn drop(&mut self) {
        ASKED_FOR.set(None);
    }
}

#[test]
fn kernels_are_run_at_the_level_that_is_asked_for() {
    let lanes: Vec<usize> = all().into_iter().map(|level| (At::level(level), crate::lanes()).1).collect();
    assert_eq!(lanes[0], crate::lanes());
    assert!(lanes.is_sorted_by(|one, next| one >= next), "{lanes:?}");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(lanes.last(), Some(&4), "{lanes:?}");
}
