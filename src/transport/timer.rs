//! hyper's clock and timers on an I/O thread. hyper notes the time of every frame and looks at its keep-alive timer before every
//! request; that each of them reads a clock, and that a timer is told anew whom to wake, costs more than the bookkeeping. Here
//! a connection's turn has one time, which is exact enough for pings every few seconds and is read only if somebody asks, and a
//! timer that is far from its end is not asked. Used by `connection`, and by `spin`, which waits for the next turn.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant as Moment;

thread_local! {
    /// When a connection of this thread last had its turn; `None` until somebody asks.
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Who waits for the next turn.
    static WAITS: Cell<Option<Waker>> = const { Cell::new(None) };
}

/// How close to its end a timer is asked itself: more than timers are ever rounded by.
const CLOSE: Duration = Duration::from_millis(50);

/// A connection has its turn.
pub(super) fn tick() {
    NOW.set(None);
    if let Some(waker) = WAITS.take() {
        waker.wake();
    }
}

/// Waits for the next turn. One task of a thread may do so.
pub(super) async fn next_turn() {
    let mut waits = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waits, true) {
            return Poll::Ready(());
        }
        WAITS.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// How long ago the last turn was.
pub(super) fn since_turn() -> Duration {
    Moment::now().into_std().saturating_duration_since(now())
}

/// The time of the last turn: that at which it was first asked for.
fn now() -> Instant {
    NOW.get().unwrap_or_else(|| {
        let now = Moment::now().into_std();
        NOW.set(Some(now));
        now
    })
}

/// Timers of the calling thread's runtime, by the time of the last turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoopTimer;

impl Timer for LoopTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let inner = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(LoopSleep { inner, deadline, wakes: None })
    }

    fn now(&self) -> Instant {
        now()
    }
}

/// A timer that knows whom it will wake.
struct LoopSleep {
    inner: Pin<Box<tokio::time::Sleep>>,
    deadline: Instant,
    /// Who was pending last.
    wakes: Option<Waker>,
}

impl Sleep for LoopSleep {}

impl Future for LoopSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let told = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if told && now() + CLOSE < self.deadline {
            return Poll::Pending;
        }
        let ended = self.inner.as_mut().poll(cx);
        self.wakes = ended.is_pending().then(|| cx.waker().clone());
        ended
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_at_its_time_however_often_it_is_asked() {
        for ask in [1, 7, 40, 1000] {
            tick();
            let begin = Moment::now();
            let mut sleep = LoopTimer.sleep(Duration::from_millis(400));
            loop {
                let asked = tokio::time::sleep(Duration::from_millis(ask));
                let mut asked = std::pin::pin!(asked);
                let ended = poll_fn(|cx| {
                    tick();
                    if sleep.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(true);
                    }
                    asked.as_mut().poll(cx).map(|()| false)
                });
                if ended.await {
                    break;
                }
            }
            let took = begin.elapsed();
            assert!((400..402).contains(&took.as_millis()), "asked every {ask} ms, it took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_last_is_woken() {
        tick();
        let mut sleep = LoopTimer.sleep(Duration::from_millis(300));
        let asked = poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx)));
        assert!(asked.await.is_pending());
        // Another task asks, and the first never does again.
        let begin = Moment::now();
        let other = poll_fn(move |cx| {
            tick();
            sleep.as_mut().poll(cx)
        });
        TaskTracker::new().spawn(other).await.unwrap();
        assert!((299..302).contains(&begin.elapsed().as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_that_of_the_last_turn() {
        tick();
        let before = LoopTimer.now();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(LoopTimer.now(), before);
        tick();
        assert_eq!(LoopTimer.now(), before + Duration::from_secs(3));
    }
}
