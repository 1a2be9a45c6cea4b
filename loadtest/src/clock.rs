//! Time for the runs: a monotonic clock and a sleep that is finer than the runtime's millisecond timer, because an open
//! loop at 20,000 requests/s has an arrival every 50 us. A trait, so that tests run on a clock of their own.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Fault, Result};

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

/// CPU time used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// By this process.
    pub(crate) client: Duration,
    /// By all threads of the server that is watched, if one is and the machine tells.
    pub(crate) server: Option<Duration>,
}

impl CpuTime {
    /// Until now; `server` is a process of this machine.
    pub(crate) fn now(server: Option<u32>) -> Self {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
        let client = Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or(0));
        Self { client, server: server.and_then(of_process) }
    }

    /// Since an earlier time.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let server = self.server.zip(earlier.server).map(|(now, then)| now.saturating_sub(then));
        Self { client: self.client.saturating_sub(earlier.client), server }
    }

    /// Adds that of another run.
    pub(crate) fn add(&mut self, other: Self) {
        self.client += other.client;
        self.server = self.server.zip(other.server).map(|(mine, theirs)| mine + theirs);
    }
}

/// That a process can be watched, before a run counts on it.
///
/// # Errors
/// When there is no such process here, naming the option that asked for it.
pub(crate) fn check_process(option: &str, pid: Option<u32>) -> Result<()> {
    match pid.filter(|pid| of_process(*pid).is_none()) {
        Some(pid) => Err(Fault::new(option, format_args!("expected a process on this machine (Linux), got {pid}"))),
        None => Ok(()),
    }
}

/// The sum over a process's threads, in nanoseconds as Linux counts them; nothing elsewhere.
fn of_process(pid: u32) -> Option<Duration> {
    let mut nanos = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that ends meanwhile is left out.
        let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
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
    }

    #[test]
    fn cpu_time_is_that_of_the_process_asked_for() {
        let before = CpuTime::now(Some(std::process::id()));
        assert!(before.client > Duration::ZERO);
        if cfg!(target_os = "linux") {
            assert!(before.server.is_some_and(|server| server > Duration::ZERO));
        }
        let mut used = CpuTime::now(Some(std::process::id())).since(before);
        used.add(CpuTime { client: Duration::from_secs(1), server: None });
        assert!(used.client >= Duration::from_secs(1) && used.server.is_none());
        assert_eq!(CpuTime::now(None).server, None);
    }
}
