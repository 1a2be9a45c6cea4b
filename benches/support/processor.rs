//! The clock of benchmarks that share their machine with others. Used by `engine` and `kernels`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time that this thread has had a processor.
pub(crate) fn on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
