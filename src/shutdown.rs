//! How the process ends: a signal, then phases with deadlines.
//!
//! 1. *Notice*: health says "not ready", requests are still taken, so that load balancers can look elsewhere.
//! 2. *Drain*: nothing new is accepted, connections are told to finish; what is in flight is answered.
//! 3. *Abort*: at the drain deadline the rest is dropped.
//!
//! A second signal goes straight to the last phase. Run by the application on its own runtime.

use std::{io, process::ExitCode, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::transport::Server;

/// How long aborted threads may take to end before the process goes without them (one may be inside a model).
const LAST_CALL: Duration = Duration::from_secs(1);

/// The lengths of the phases.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// From "not ready" to closed doors.
    pub notice: Duration,
    /// From closed doors to dropping what is left.
    pub drain: Duration,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything in flight was answered.
    Clean,
    /// So many requests were dropped.
    Aborted(usize),
}

impl Outcome {
    /// 0, or 3 when requests were dropped.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Outcome::Clean => ExitCode::SUCCESS,
            Outcome::Aborted(_) => ExitCode::from(3),
        }
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to die.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one; its name is for the log.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Runs the phases. `start_draining` turns health at once; `again` resolves at the second signal. Streams that would otherwise
/// go on end with the doors' closing, see [`Server::stopping`].
pub async fn drain(
    mut server: Server,
    phases: Phases,
    start_draining: impl FnOnce(),
    again: impl Future<Output = ()>,
) -> Outcome {
    let mut again = std::pin::pin!(again);
    let mut aborted = 0;
    start_draining();
    tracing::info!(notice = ?phases.notice, drain = ?phases.drain, "draining");
    let ended = tokio::select! {
        ended = polite(&mut server, phases, &mut aborted) => ended,
        () = &mut again => false,
    };
    if !ended {
        server.abort();
        if tokio::time::timeout(LAST_CALL, server.ended(&mut aborted)).await.is_err() {
            // A thread that does not even unwind is busy with a request.
            aborted += 1;
        }
    }
    if aborted == 0 { Outcome::Clean } else { Outcome::Aborted(aborted) }
}

/// Notice and drain; false when the drain deadline passed.
async fn polite(server: &mut Server, phases: Phases, aborted: &mut usize) -> bool {
    tokio::time::sleep(phases.notice).await;
    server.finish();
    tokio::time::timeout(phases.drain, server.ended(aborted)).await.is_ok()
}
