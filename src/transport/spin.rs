//! Looking at the sockets for a while before sleeping. To wake a sleeping thread takes longer than a small request does, and a
//! caller that asks one thing after the other pays for it every time; a thread that goes on looking is there when the next
//! request comes. It takes the core as long as requests keep coming within the window, so it is off unless an operator has a
//! core to spare. Started by `io_thread`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::timer::{next_turn, since_turn};
use crate::scheduler::Guests;

/// Keeps the calling thread from sleeping until `window` has passed since the last turn of one of its connections, and again
/// after every further turn. Ends when the thread has `gone`.
pub(super) async fn spin(window: Duration, gone: CancellationToken) {
    while !gone.is_cancelled() {
        if since_turn() < window {
            // The runtime looks at the sockets before it lets this task go on.
            tokio::task::yield_now().await;
            Guests::turn();
        } else {
            tokio::select! {
                () = next_turn() => {},
                () = gone.cancelled() => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Context, Wake, Waker},
    };

    use super::{super::timer::tick, *};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// A spinning task that is run by hand.
    struct Spinning {
        task: Pin<Box<dyn Future<Output = ()>>>,
        woken: Arc<Woken>,
    }

    impl Spinning {
        fn new(window: Duration, gone: &CancellationToken) -> Self {
            Self { task: Box::pin(spin(window, gone.clone())), woken: Arc::default() }
        }

        /// Has it run once, then the runtime: whether it ended, and whether it wants to run again.
        async fn step(&mut self) -> (bool, bool) {
            let before = self.woken.0.load(Relaxed);
            let waker = Waker::from(Arc::clone(&self.woken));
            let ended = self.task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            tokio::task::yield_now().await;
            (ended, self.woken.0.load(Relaxed) > before)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_until_the_window_is_over_and_again_after_the_next_turn() {
        let gone = CancellationToken::new();
        let mut spinning = Spinning::new(Duration::from_micros(50), &gone);
        tick();
        for _ in 0..9 {
            assert_eq!(spinning.step().await, (false, true));
        }
        tokio::time::advance(Duration::from_micros(51)).await;
        // It had asked to be run before the time was over.
        assert_eq!(spinning.step().await, (false, false));
        let before = spinning.woken.0.load(Relaxed);
        tick();
        assert_eq!(spinning.woken.0.load(Relaxed), before + 1, "the turn wakes it");
        assert_eq!(spinning.step().await, (false, true));
        gone.cancel();
        assert!(spinning.step().await.0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_while_it_sleeps() {
        let gone = CancellationToken::new();
        let mut spinning = Spinning::new(Duration::from_micros(50), &gone);
        tick();
        assert_eq!(spinning.step().await, (false, true));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spinning.step().await, (false, false));
        let before = spinning.woken.0.load(Relaxed);
        gone.cancel();
        assert!(spinning.woken.0.load(Relaxed) > before);
        assert!(spinning.step().await.0);
    }
}
