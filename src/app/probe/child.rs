//! The child of a load probe: it limits itself, reads what is to be tried, loads and compiles it and runs it once, and says what
//! came of it. Everything that can go wrong here ends this process and no other. Run by `weir load-probe -`.

use std::{
    fs,
    io::{BufReader, Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};

use super::wire::{self, Allowance, Question, Report};
use crate::{
    engine::{Engine, EngineError, InputBuffer, Limits, LoadError, Model},
    types::Shape,
};

/// Ended by itself because it took too long.
pub(super) const TOO_LONG: u8 = 124;
/// Nobody is there any more who wants to know.
const NO_PARENT: u8 = 125;
/// Asked what it does not understand.
const NO_QUESTION: u8 = 126;

/// Elements that an input of the trial run may have.
const MAX_ELEMENTS: usize = 1 << 26;

/// Makes the engine of a name, with the ONNX Runtime library that the server has opened.
pub type MakeEngine<'a> = &'a dyn Fn(&str, Option<&std::path::Path>) -> Result<Arc<dyn Engine>, LoadError>;

/// Answers one question. The exit code is 0 for a model that can be loaded, 1 for one that cannot, and others when there is no
/// answer.
pub fn answer(from: impl Read, mut to: impl Write, make: MakeEngine<'_>) -> u8 {
    let mut from = BufReader::new(from);
    let Ok(question) = wire::read_question(&mut from) else { return NO_QUESTION };
    if !bound(&question) {
        return NO_PARENT;
    }
    let Ok(artifact) = wire::read_artifact(&mut from, &question) else { return NO_PARENT };
    let limits = Limits { max_output_bytes: question.max_output_bytes };
    let size = artifact.bytes.len() + artifact.side_files.values().map(bytes::Bytes::len).sum::<usize>();
    let begun = Instant::now();
    let loaded =
        make(&question.engine, question.onnxruntime_lib.as_deref()).and_then(|engine| engine.load(&artifact, &limits));
    drop(artifact);
    let tried = loaded.and_then(|model| {
        let load_us = microseconds(begun.elapsed());
        let report = Report { good: true, engine: question.engine.clone(), load_us, ..Report::default() };
        try_out(&*model, report)
    });
    let report = tried.unwrap_or_else(|error| Report::refused(&question.engine, error));
    let report = Report { bytes: size as u64, peak_bytes: peak_bytes(), ..report };
    let Ok(mut line) = serde_json::to_vec(&report) else { return NO_QUESTION };
    line.push(b'\n');
    match to.write_all(&line).and_then(|()| to.flush()) {
        Ok(()) => u8::from(!report.good),
        Err(_) => NO_PARENT,
    }
}

/// Compiles a model for one row and runs it once on zeros.
fn try_out(model: &dyn Model, report: Report) -> Result<Report, LoadError> {
    let signature = model.signature();
    let begun = Instant::now();
    let plan = model.plan(signature.one_row())?;
    let compile_us = microseconds(begun.elapsed());
    let begun = Instant::now();
    let ran = plan.session().and_then(|mut session| {
        for (index, spec) in signature.inputs.iter().enumerate() {
            let shape: Shape = spec.shape.iter().map(|size| size.unwrap_or(1)).collect();
            let elements = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
            if elements.is_none_or(|elements| elements > MAX_ELEMENTS) {
                return Err(EngineError::new(format!("input '{}': too large to be tried", spec.name)));
            }
            match session.input(index, &shape)? {
                InputBuffer::Plain(bytes) => bytes.fill(0),
                InputBuffer::Strings(strings) => strings.iter_mut().for_each(String::clear),
            }
        }
        session.run()
    });
    let run_us = ran.is_ok().then(|| microseconds(begun.elapsed()));
    let run_error = ran.err().map(|error| error.to_string());
    Ok(Report { compile_us, run_us, run_error, ..report }.with_signature(signature))
}

/// Takes the limits on, and ties this process's life to its parent's; false when the parent has gone already.
fn bound(question: &Question) -> bool {
    let Allowance { memory_bytes, cpu_seconds, wall_seconds } = question.allowance;
    // A core of gigabytes helps nobody. Of several probes and a gateway, the system should end a probe first.
    limit(Resource::Core, 0, 0);
    drop(fs::write("/proc/self/oom_score_adj", "1000"));
    limit(Resource::As, memory_bytes, memory_bytes);
    // The first signal ends the process; the second could not even be caught.
    limit(Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(1));
    // Where it cannot be had, a parent that goes is noticed while reading, or by the clock below.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let patience = Duration::from_secs(wall_seconds);
    let watch = std::thread::Builder::new().name("weir-probe-clock".to_owned()).spawn(move || {
        std::thread::sleep(patience);
        #[expect(clippy::disallowed_methods, reason = "a load that does not end cannot be asked to return")]
        std::process::exit(i32::from(TOO_LONG));
    });
    watch.is_ok() && getppid().is_some_and(|parent| parent.as_raw_nonzero().get() == question.parent)
}

/// Sets a limit, or the strictest that there may be.
fn limit(resource: Resource, current: u64, maximum: u64) {
    let wanted = Rlimit { current: Some(current), maximum: Some(maximum) };
    if setrlimit(resource, wanted).is_err() {
        let before = rustix::process::getrlimit(resource);
        let current = before.maximum.map_or(current, |maximum| maximum.min(current));
        let _ = setrlimit(resource, Rlimit { current: Some(current), maximum: before.maximum });
    }
}

/// The most memory that this process had at a time; 0 where the system does not say.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn microseconds(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
