//! How a load probe ended, in words: from exit status and last words to the reason that operators read. Pure. Called by the
//! runner.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use rustix::process::Signal;

use super::{
    child::TOO_LONG,
    wire::{Allowance, Report},
};

/// Characters of last words that are passed on.
const MAX_WORDS: usize = 200;

/// What engines say when an allocation fails and they notice.
const NO_ROOM: &str = "failed to allocate";

/// The end of a probe.
#[derive(Debug)]
pub(super) enum Ended {
    /// It answered.
    Answered(Report),
    /// It did not live to answer: `was killed: …`, `crashed: …`.
    Died(String),
}

/// What a child said on both its streams, how it ended, and whether it had to be stopped.
pub(super) fn ended(said: &str, status: ExitStatus, stopped: bool, allowance: Allowance) -> Ended {
    let answer = said.lines().rev().find_map(|line| serde_json::from_str::<Report>(line).ok());
    match answer {
        // Some allocations that fail are panics, which an engine contains and calls its own refusal.
        Some(Report { error: Some(error), .. }) if error.contains(NO_ROOM) => Ended::Died(out_of_memory(allowance)),
        Some(report) if status.code() == Some(i32::from(!report.good)) => Ended::Answered(report),
        _ => Ended::Died(cause(said, status, stopped, allowance)),
    }
}

fn cause(said: &str, status: ExitStatus, stopped: bool, allowance: Allowance) -> String {
    let Allowance { cpu_seconds, wall_seconds, .. } = allowance;
    if stopped || status.code() == Some(i32::from(TOO_LONG)) {
        return format!("was killed: it did not end (limit {wall_seconds} s)");
    }
    let wanted_memory = ["memory allocation of", "bad_alloc", "out of memory", "annot allocate memory"]
        .iter()
        .any(|w| said.contains(w));
    if wanted_memory {
        return out_of_memory(allowance);
    }
    if said.contains("has overflowed its stack") {
        return "crashed: stack overflow".to_owned();
    }
    let words = last_words(said);
    let Some(raw) = status.signal() else {
        let code = status.code().map_or_else(|| "somehow".to_owned(), |code| format!("with code {code}"));
        return format!("ended {code} and without an answer{words}");
    };
    let Some(signal) = Signal::from_named_raw(raw) else { return format!("was killed: signal {raw}{words}") };
    match signal {
        Signal::XCPU => format!("was killed: it computed without end (limit {cpu_seconds} s of CPU time)"),
        Signal::KILL => "was killed, as the system does when memory runs out".to_owned(),
        Signal::ABORT => format!("aborted{words}"),
        Signal::SEGV | Signal::BUS | Signal::ILL | Signal::FPE => format!("crashed: {}{words}", name(signal)),
        other => format!("was killed: {}{words}", name(other)),
    }
}

/// A signal as people know it: those that end a process and that somebody, or the process itself, may send.
fn name(signal: Signal) -> String {
    let name = match signal {
        Signal::ABORT => "SIGABRT",
        Signal::ALARM => "SIGALRM",
        Signal::BUS => "SIGBUS",
        Signal::FPE => "SIGFPE",
        Signal::HUP => "SIGHUP",
        Signal::ILL => "SIGILL",
        Signal::INT => "SIGINT",
        Signal::KILL => "SIGKILL",
        Signal::PIPE => "SIGPIPE",
        Signal::QUIT => "SIGQUIT",
        Signal::SEGV => "SIGSEGV",
        Signal::SYS => "SIGSYS",
        Signal::TERM => "SIGTERM",
        Signal::TRAP => "SIGTRAP",
        Signal::USR1 => "SIGUSR1",
        Signal::USR2 => "SIGUSR2",
        Signal::XCPU => "SIGXCPU",
        Signal::XFSZ => "SIGXFSZ",
        other => return format!("signal {}", other.as_raw()),
    };
    name.to_owned()
}

fn out_of_memory(allowance: Allowance) -> String {
    format!("was killed: out of memory (limit {})", bytes(allowance.memory_bytes))
}

/// The last line that was said, as ` (…)`, without control characters; nothing when there is none.
fn last_words(said: &str) -> String {
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let Some(line) = line else { return String::new() };
    let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    format!(" ({line})")
}

/// `6 GiB`, `1.5 GiB`, `300 MiB`.
fn bytes(count: u64) -> String {
    const MIB: f64 = (1_u64 << 20) as f64;
    let (number, unit) = match count as f64 / MIB {
        mib if mib >= 1024.0 => (mib / 1024.0, "GiB"),
        mib => (mib, "MiB"),
    };
    let text = format!("{number:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance { memory_bytes: 6 << 30, cpu_seconds: 30, wall_seconds: 120 };

    fn died(said: &str, raw: i32, stopped: bool) -> String {
        match ended(said, ExitStatus::from_raw(raw), stopped, ALLOWANCE) {
            Ended::Died(cause) => cause,
            Ended::Answered(report) => panic!("{report:?}"),
        }
    }

    #[test]
    fn every_end_has_its_words() {
        let (code, signal) = (|code: i32| code << 8, |signal: Signal| signal.as_raw());
        let memory = "was killed: out of memory (limit 6 GiB)";
        let cases = [
            ("memory allocation of 536870912 bytes failed\n", signal(Signal::ABORT), memory),
            ("terminate called after throwing an instance of 'std::bad_alloc'", signal(Signal::ABORT), memory),
            ("\nthread 'a' has overflowed its stack\nfatal\n", signal(Signal::ABORT), "crashed: stack overflow"),
            ("a\nassertion x failed\n\n", signal(Signal::ABORT), "aborted (assertion x failed)"),
            ("", signal(Signal::XCPU), "was killed: it computed without end (limit 30 s of CPU time)"),
            ("", signal(Signal::KILL), "was killed, as the system does when memory runs out"),
            ("", code(124), "was killed: it did not end (limit 120 s)"),
            ("{}\nnonsense\u{1b}[0m\n", code(0), "ended with code 0 and without an answer (nonsense[0m)"),
            ("", code(3), "ended with code 3 and without an answer"),
        ];
        for (said, raw, expected) in cases {
            assert_eq!(died(said, raw, false), expected, "{said}");
        }
        for (fault, name) in
            [(Signal::SEGV, "SIGSEGV"), (Signal::BUS, "SIGBUS"), (Signal::ILL, "SIGILL"), (Signal::FPE, "SIGFPE")]
        {
            assert_eq!(died("", signal(fault), false), format!("crashed: {name}"));
        }
        assert_eq!(died("bye", signal(Signal::TERM), false), "was killed: SIGTERM (bye)");
        assert_eq!(died("", signal(Signal::VTALARM), false), format!("was killed: signal {}", signal(Signal::VTALARM)));
        assert_eq!(died("", 40, false), "was killed: signal 40");
        assert_eq!(died("", signal(Signal::KILL), true), "was killed: it did not end (limit 120 s)");
    }

    #[test]
    fn an_answer_counts_when_the_exit_code_agrees() {
        let good = r#"{"good":true,"engine":"tract","load_us":5}"#;
        let refused = r#"{"good":false,"engine":"tract","error":"no"}"#;
        for (line, code) in [(good, 0), (refused, 1)] {
            let said = format!("a library talks\n{line}\n");
            let Ended::Answered(report) = ended(&said, ExitStatus::from_raw(code << 8), false, ALLOWANCE) else {
                panic!("{line}")
            };
            assert_eq!(report.error.is_some(), code == 1);
        }
        let panicked =
            r#"{"good":false,"engine":"tract","error":"model: panicked: failed to allocate Layout { size: 9 }"}"#;
        assert_eq!(died(panicked, 1 << 8, false), "was killed: out of memory (limit 6 GiB)");
        assert!(died(good, 1 << 8, false).starts_with("ended with code 1"));
        assert!(died(good, Signal::ABORT.as_raw(), false).starts_with("aborted"));
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([6 << 30, 3 << 29, 300 << 20, 0].map(bytes), ["6 GiB", "1.5 GiB", "300 MiB", "0 MiB"]);
    }
}
