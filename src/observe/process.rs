//! What the operating system says about this process: memory, descriptors, threads, CPU time. Read from /proc at each scrape;
//! what cannot be read is left out.

use std::fs;

use super::{names, render::Exposition};

/// Ticks per second of the times in /proc: the kernel scales them to 100 on every platform that Weir runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the process metrics.
pub(super) fn collect(out: &mut Exposition) {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            out.value(&names::PROCESS_MEMORY, &[], kib * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            out.value(&names::PROCESS_THREADS, &[], threads);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The directory's own descriptor is among them.
        out.value(&names::PROCESS_FDS, &[], entries.count().saturating_sub(1) as f64);
    }
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    if let Some((cpu, started)) = times(&stat) {
        out.value(&names::PROCESS_CPU, &[], cpu);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(|stat| field(stat, "btime ")) {
            out.value(&names::PROCESS_START, &[], boot + started);
        }
    }
}

/// The first number after a word at the start of a line.
fn field(text: &str, word: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Seconds of CPU used, and seconds from boot to start.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The command's name may hold anything; the last parenthesis ends it. Then: utime is field 14, stime 15, starttime 22,
    // counted from 1 with two fields before.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND, ticks(22)? / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 3 0 12345 1 1";
        assert_eq!(times(stat), Some((2.0, 123.45)));
        assert_eq!(times("42 (x) S 1"), None);
        assert_eq!(field("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
    }
}
