//! Time for the runs: a monotonic clock and a sleep that is finer than the runtime's millisecond timer, because an open
//! loop at 20,000 requests/s has an arrival every 50 us. A trait, so that tests run on a clock of their own.

use std::future::Future;
use std::time::{Duration, Instant};

/// A clock that starts at zero.
pub(crate) trait Clock: Send + Sync + 'static {
    /// Time since the clock's start.
    fn now(&self) -> Duration;
    /// Waits until the clock shows `at`; returns at once if it already does.
    fn sleep_until(&self, at: Duration) -> impl Future<Output = ()> + Send;
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub(crate) struct SystemClock {
    origin: Instant,
    #[cfg(target_os = "linux")]
    alarm: Option<tokio::sync::Mutex<alarm::Alarm>>,
}

impl SystemClock {
    /// A clock that shows zero now. Must be called inside the runtime.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            #[cfg(target_os = "linux")]
            alarm: alarm::Alarm::new().ok().map(tokio::sync::Mutex::new),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn sleep_until(&self, at: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(alarm) = &self.alarm {
            let mut alarm = alarm.lock().await;
            let left = at.saturating_sub(self.now());
            if left.is_zero() || alarm.ring_after(left).await.is_ok() {
                return;
            }
        }
        tokio::time::sleep(at.saturating_sub(self.now())).await;
    }
}

/// CPU time this process has used so far.
pub(crate) fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or(0))
}

#[cfg(target_os = "linux")]
mod alarm {
    //! A kernel timer as a file descriptor: wakes the event loop within tens of microseconds without spinning.

    use std::io;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::AsyncReadExt as _;
    use tokio::net::unix::pipe::Receiver;

    /// The runtime's pipe type is its safe door to any descriptor that is readable and does not block.
    #[derive(Debug)]
    pub(super) struct Alarm(Receiver);

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Receiver::from_owned_fd_unchecked(timer).map(Self)
        }

        pub(super) async fn ring_after(&mut self, left: Duration) -> io::Result<()> {
            let off = Timespec { tv_sec: 0, tv_nsec: 0 };
            let at = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // Setting the timer also clears an earlier expiry that nobody read.
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: off, it_value: at })?;
            // Longer than the 8 bytes that come: a short read tells the runtime that nothing is left to read.
            let mut expirations = [0_u8; 16];
            self.0.read(&mut expirations).await.map(|_| ())
        }
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! The runtime's paused clock, for tests: time passes only when every task waits.

    use super::*;

    pub(crate) struct PausedClock(tokio::time::Instant);

    impl PausedClock {
        pub(crate) fn start() -> Self {
            Self(tokio::time::Instant::now())
        }
    }

    impl Clock for PausedClock {
        fn now(&self) -> Duration {
            self.0.elapsed()
        }

        async fn sleep_until(&self, at: Duration) {
            tokio::time::sleep_until(self.0 + at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeps_reach_their_time() {
        let clock = SystemClock::start();
        for step in 1..=20_u64 {
            let at = Duration::from_micros(300 * step);
            clock.sleep_until(at).await;
            assert!(clock.now() >= at);
        }
        clock.sleep_until(Duration::ZERO).await;
        assert!(cpu_time() > Duration::ZERO);
    }
}
