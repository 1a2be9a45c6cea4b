//! How a run is ended from outside: the first SIGINT or SIGTERM ends it early with what was measured so far, the second one
//! ends the program. Made by `main`, watched by the runs.

use std::io::Write as _;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Fault, Result};

/// A flag that is set once and that can be waited for.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Ends every run that watches.
    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    /// Whether runs shall end.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until runs shall end.
    pub(crate) async fn wait(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|set| *set).await;
    }

    /// Sets the flag at the first signal and returns at the second.
    ///
    /// # Errors
    /// A machine without signals.
    pub(crate) async fn listen(&self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).map_err(|e| Fault::new("SIGTERM", e))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Fault::new("SIGINT", e))?;
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !last {
                self.set();
                // Nobody is left to tell if this fails.
                let _ = writeln!(std::io::stderr(), "stopping; once more ends it without a result");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_and_who_comes_late_does_not_wait() {
        let stop = Stop::default();
        assert!(!stop.is_set());
        let waiting = stop.clone();
        tokio::join!(async { waiting.wait().await }, async { stop.set() });
        assert!(stop.is_set());
        stop.wait().await;
    }
}
