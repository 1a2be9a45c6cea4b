//! The load probe: a model is parsed, compiled and run once in a child process before it is loaded in this one. The child is
//! this very program, called as `weir load-probe -`; it limits its own memory, CPU time and wall time, inherits nothing but three
//! pipes, and ends with the thread that started it. Whatever ends it becomes the reason that operators read. The registry's
//! loaders call it, one at a time each; it is handed down to them by [`crate::app`] through [`crate::engine::LoadProbe`].
//!
//! | file | what it is |
//! |---|---|
//! | here | starts the child, feeds it, waits for its end |
//! | `wire` | what the two say to each other |
//! | `child` | the other end: limits, trial, answer |
//! | `ended` | how it ended, in words |

mod child;
mod ended;
mod wire;

use std::{
    fmt,
    io::{self, PipeReader, Read as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

pub use child::{MakeEngine, answer};
pub use wire::{Report, Tensor};

use crate::{
    engine::{Artifact, Limits, LoadError, LoadProbe},
    observe::{Metrics, ProbeResult},
};
use ended::{Ended, ended};
use wire::{Allowance, Question};

/// Address space of a probe unless configured: enough for models of a few hundred megabytes.
pub const MEMORY_BYTES: u64 = 6 << 30;
/// Larger models get so many times their size.
const MEMORY_PER_BYTE: u64 = 6;
/// Seconds of CPU time for any model unless configured,
pub const CPU_SECONDS: u64 = 30;
/// and one more for so many bytes of it.
const BYTES_PER_SECOND: u64 = 16 << 20;
/// A probe on a busy machine may take so many times its CPU time,
const WALL_PER_CPU: u64 = 4;
/// and so many seconds more, before it is given up.
const WALL_SECONDS: u64 = 60;
/// The child ends itself; when it cannot, it is killed so much later.
const GRACE: Duration = Duration::from_secs(2);
/// A child that has closed its pipes has next to nothing left to do.
const LOOK: Duration = Duration::from_micros(500);
/// The most that is kept of what a child says.
const MAX_SAID: usize = wire::MAX_LINE as usize;

/// What probes are started with.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// The program; its answer to `arguments` must be that of [`answer`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Address space of a child in bytes; models that need more for their size alone get more.
    pub memory_bytes: u64,
    /// Seconds of CPU time of a child; large models get more.
    pub cpu_seconds: u64,
    /// The ONNX Runtime library that the server has opened; without one the child looks for it where the server would.
    pub onnxruntime_lib: Option<PathBuf>,
}

impl ProbeOptions {
    /// This program as its own child. Where the system knows it, the file that this process runs is meant, even when another
    /// has taken its name meanwhile.
    pub fn new() -> Self {
        let own = PathBuf::from("/proc/self/exe");
        let program = if own.exists() { own } else { std::env::current_exe().unwrap_or_else(|_| "weir".into()) };
        Self {
            program,
            arguments: vec!["load-probe".to_owned(), "-".to_owned()],
            memory_bytes: MEMORY_BYTES,
            cpu_seconds: CPU_SECONDS,
            onnxruntime_lib: None,
        }
    }

    fn allowance(&self, size: u64) -> Allowance {
        let cpu_seconds = self.cpu_seconds.saturating_add(size / BYTES_PER_SECOND);
        Allowance {
            memory_bytes: self.memory_bytes.max(size.saturating_mul(MEMORY_PER_BYTE)),
            cpu_seconds,
            wall_seconds: cpu_seconds.saturating_mul(WALL_PER_CPU).saturating_add(WALL_SECONDS),
        }
    }
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts load probes, and knows which are running.
pub struct Probes {
    options: ProbeOptions,
    metrics: Arc<Metrics>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    stopped: bool,
    children: Vec<Arc<Mutex<Child>>>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Probes {
    /// None is running yet.
    pub fn new(options: ProbeOptions, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { options, metrics, running: Mutex::default() })
    }

    /// Kills what runs and starts nothing more: the gateway is ending.
    pub fn shutdown(&self) {
        let mut running = self.running.lock();
        running.stopped = true;
        running.children.iter().for_each(kill);
    }

    /// Has a child try an artifact, and tells what it said.
    ///
    /// # Errors
    /// How the child died without saying anything.
    ///
    /// `None` when none could be started.
    pub fn report(&self, engine: &str, artifact: &Artifact, limits: &Limits) -> Result<Option<Report>, LoadError> {
        let question = self.question(engine, artifact, limits);
        let tried = self.start().and_then(|(child, said)| {
            let outcome = talk(&child, said, &question, artifact);
            kill(&child);
            drop(child.lock().wait());
            self.running.lock().children.retain(|other| !Arc::ptr_eq(other, &child));
            outcome
        });
        let (said, status, stopped) = match tried {
            Ok(tried) => tried,
            Err(error) => {
                self.metrics.load_probe(ProbeResult::NotStarted);
                tracing::warn!(engine, %error, "no load probe could be started; the model is loaded without");
                return Ok(None);
            }
        };
        if self.running.lock().stopped {
            return Err(LoadError::new("the gateway is ending"));
        }
        match ended(&said, status, stopped, question.allowance) {
            Ended::Answered(report) => {
                self.metrics.load_probe(if report.good { ProbeResult::Good } else { ProbeResult::Refused });
                Ok(Some(report))
            }
            Ended::Died(cause) => {
                self.metrics.load_probe(ProbeResult::Died);
                Err(LoadError::new(format!("{engine}: the load probe {cause}")))
            }
        }
    }

    fn question(&self, engine: &str, artifact: &Artifact, limits: &Limits) -> Question {
        let side_files: Vec<_> = artifact.side_files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect();
        let size = artifact.bytes.len() + side_files.iter().map(|(_, size)| size).sum::<usize>();
        Question {
            engine: engine.to_owned(),
            onnxruntime_lib: self.options.onnxruntime_lib.clone(),
            parent: i32::try_from(std::process::id()).unwrap_or(0),
            allowance: self.options.allowance(size as u64),
            max_output_bytes: limits.max_output_bytes,
            model: artifact.bytes.len(),
            side_files,
        }
    }

    /// Starts a child, and the pipe of what it says, by either of its streams.
    fn start(&self) -> io::Result<(Arc<Mutex<Child>>, PipeReader)> {
        let (said, says) = io::pipe()?;
        let mut command = Command::new(&self.options.program);
        command.args(&self.options.arguments).env("RUST_BACKTRACE", "0");
        // The allocator would reserve a gigabyte of addresses at its start, which the limit would count.
        command.env("MIMALLOC_ARENA_RESERVE", "0");
        command.stdin(Stdio::piped()).stdout(says.try_clone()?).stderr(says);
        let mut running = self.running.lock();
        if running.stopped {
            return Err(io::Error::other("the gateway is ending"));
        }
        let child = Arc::new(Mutex::new(command.spawn()?));
        running.children.push(Arc::clone(&child));
        // With the command go this side's ends of the pipe: it closes when the child ends.
        Ok((child, said))
    }
}

impl LoadProbe for Probes {
    fn probe(&self, engine: &str, artifact: &Artifact, limits: &Limits) -> Result<(), LoadError> {
        let error = self.report(engine, artifact, limits)?.and_then(|report| report.error);
        error.map_or(Ok(()), |error| Err(LoadError::new(error)))
    }
}

/// Asks a child and waits for its end: what it said, how it ended, and whether it had to be killed for taking too long.
fn talk(
    child: &Arc<Mutex<Child>>,
    said: PipeReader,
    question: &Question,
    artifact: &Artifact,
) -> io::Result<(String, ExitStatus, bool)> {
    let stdin = child.lock().stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let patience = Duration::from_secs(question.allowance.wall_seconds) + GRACE;
    let deadline = Instant::now().checked_add(patience);
    thread::scope(|scope| {
        let (heard, hear) = sync_channel(1);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        // Two threads, because a child that stops reading must not keep its words from being read.
        named("weir-probe-out").spawn_scoped(scope, move || heard.send(listen(said)))?;
        // A child that ends early closes the pipe, and how it ended says more than that.
        let fed = named("weir-probe-in").spawn_scoped(scope, move || drop(wire::ask(stdin, question, artifact)));
        if fed.is_err() {
            kill(child);
        }
        let left = || deadline.map_or(patience, |deadline| deadline.saturating_duration_since(Instant::now()));
        let (said, mut stopped) = match hear.recv_timeout(left()) {
            Ok(said) => (said, false),
            Err(RecvTimeoutError::Timeout) => {
                kill(child);
                (hear.recv().unwrap_or_default(), true)
            }
            Err(RecvTimeoutError::Disconnected) => (Vec::new(), false),
        };
        let status = loop {
            if let Some(status) = child.lock().try_wait()? {
                break status;
            }
            if left().is_zero() && !stopped {
                kill(child);
                stopped = true;
            }
            thread::sleep(LOOK);
        };
        fed?;
        Ok((String::from_utf8_lossy(&said).into_owned(), status, stopped))
    })
}

/// Everything that a child says, to its end; of too much, the end.
fn listen(mut from: PipeReader) -> Vec<u8> {
    let mut said = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        said.extend_from_slice(&buffer[..read]);
        if said.len() > 2 * MAX_SAID {
            said.drain(..said.len() - MAX_SAID);
        }
    }
    said
}

/// Kills a child that has not ended.
fn kill(child: &Arc<Mutex<Child>>) {
    let mut child = child.lock();
    // One that was waited for is not touched; one that cannot be killed has ended.
    drop(child.kill());
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
