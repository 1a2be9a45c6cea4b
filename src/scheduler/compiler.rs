//! Compiles and times the sizes that a servable does not need to start serving: one thread, off the path of requests and of
//! loads, so that a new version answers as soon as its first size is ready.

use std::{
    io,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{core::Core, profile::sizes_up_to};
use crate::{engine::loading_thread, types::BatchLimit};

/// Servables that may wait to be compiled; a load waits when there are more.
const BACKLOG: usize = 1024;

/// A servable, and what compiling its first size took.
type Work = (Weak<Core>, Duration);

/// The compiling thread.
#[derive(Debug)]
pub(crate) struct Compiler {
    queue: Mutex<Option<SyncSender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Compiler {
    pub(crate) fn start(budget: Duration) -> io::Result<Self> {
        let (queue, work) = sync_channel(BACKLOG);
        let thread = loading_thread("weir-compiler".to_owned(), move || run(&work, budget))?;
        Ok(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    /// Has the other sizes of a servable compiled, of which one took so long. A servable that is gone by then is skipped.
    pub(crate) fn enqueue(&self, core: &Arc<Core>, compile: Duration) {
        let queue = self.queue.lock().clone();
        if let Some(queue) = queue {
            // A stopped compiler only means that the servable goes on with the sizes it has.
            drop(queue.send((Arc::downgrade(core), compile)));
        }
    }

    /// Ends the thread after the servable it is at.
    pub(crate) fn stop(&self) {
        *self.queue.lock() = None;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }
}

fn run(work: &Receiver<Work>, budget: Duration) {
    for (core, compile) in work {
        let start = Instant::now();
        if prepare(&core, compile, Allowance { budget, elapsed: &|| start.elapsed() }).is_none() {
            tracing::debug!("a servable has gone before all of its sizes were compiled");
        }
    }
}

/// How long all sizes of a servable may take, and how long they have.
#[derive(Clone, Copy)]
struct Allowance<'a> {
    budget: Duration,
    elapsed: &'a dyn Fn() -> Duration,
}

/// What the last size took.
struct Spent {
    rows: usize,
    compile: Duration,
    runs: Duration,
}

impl Spent {
    /// What another size is expected to take: as long to compile, and its runs longer in proportion.
    fn expected(&self, rows: usize) -> Duration {
        self.compile.saturating_add(self.runs.mul_f64(rows as f64 / self.rows.max(1) as f64))
    }
}

/// Compiles and times one size after the other, of which none is begun that is expected to end late. `None` when the servable has
/// gone meanwhile: it is not kept for this.
fn prepare(core: &Weak<Core>, compile: Duration, Allowance { budget, elapsed }: Allowance<'_>) -> Option<()> {
    let (sizes, auto) = {
        let core = core.upgrade()?;
        if let Some(plan) = core.plans.first() {
            report(&core, 1, core.warm(1, &plan).map_err(|error| error.to_string()));
        }
        let sizes = if core.merges() { sizes_up_to(core.tariff.most()) } else { Vec::new() };
        (sizes, core.batching.max_batch_size == BatchLimit::Auto)
    };
    let mut last = Spent { rows: 1, compile, runs: elapsed() };
    for rows in sizes.into_iter().skip(1) {
        let core = core.upgrade()?;
        let (begun, expected) = (elapsed(), last.expected(rows));
        if begun.saturating_add(expected) >= budget {
            let text = "no time is left to compile this size; smaller ones serve";
            tracing::info!(model = %core.id, rows, ?budget, ?begun, ?expected, "{text}");
            break;
        }
        if auto && core.tariff.levelled_off() {
            break;
        }
        let plan = core.plans.add(rows);
        let compiled = elapsed();
        let outcome = match plan {
            Ok(Some(plan)) => core.warm(rows, &plan).map_err(|error| error.to_string()),
            Ok(None) => {
                tracing::info!(model = %core.id, rows, "resources.max_plan_bytes are used up; smaller sizes serve");
                break;
            }
            Err(error) => Err(error.to_string()),
        };
        report(&core, rows, outcome);
        last = Spent { rows, compile: compiled.saturating_sub(begun), runs: elapsed().saturating_sub(compiled) };
    }
    let core = core.upgrade()?;
    core.tariff.finish(&core.plans);
    Some(())
}

fn report(core: &Core, rows: usize, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => tracing::debug!(model = %core.id, rows, cost = ?core.tariff.cost(rows), "compiled"),
        Err(error) => tracing::warn!(model = %core.id, rows, error, "this batch size could not be prepared"),
    }
}

#[cfg(test)]
#[path = "compiler_tests.rs"]
mod tests;
