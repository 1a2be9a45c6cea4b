//! The threads that do I/O. Each has a current-thread runtime of its own (never one multi-thread runtime: that costs half the
//! throughput), takes connections from a bounded inbox, and watches them: a look at every connection once per interval
//! finds those that are too slow, and carries out the phases of a shutdown. Made by `listener::Server`.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{self, Handler, Protocols, Spawn},
    limits::Limits,
    pulse::{Order, Pulse},
    spin::spin,
    watch::Watch,
};
use crate::scheduler::Guests;

/// Accepted connections that may wait for one thread.
const INBOX: usize = 128;
/// Between two looks while draining.
const LOOK_DRAINING: Duration = Duration::from_millis(10);
/// How long aborted connections may take to unwind.
const UNWIND: Duration = Duration::from_millis(500);

/// A connection on its way to the thread that will serve it.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Its place among the connections that are allowed.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What all I/O threads do together. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Take connections and serve them.
    Serving,
    /// Finish what is in flight.
    Finishing,
    /// Drop what is left.
    Aborting,
}

/// Starts a thread and gives the way to hand it connections. It ends once it is told to finish and nothing is left; what it
/// returns is the number of requests that it had to abort.
pub(super) fn start<H: Handler>(
    name: String,
    handler: H,
    limits: Limits,
    phase: watch::Receiver<Phase>,
    done: mpsc::Sender<usize>,
) -> std::io::Result<mpsc::Sender<Accepted>> {
    let (inbox, taken) = mpsc::channel(INBOX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_unpark(Guests::turn).build()?;
    thread::Builder::new().name(name).spawn(move || {
        let thread = IoThread { handler, limits, tracker: TaskTracker::new(), connections: Vec::new() };
        let aborted = runtime.block_on(thread.run(taken, phase));
        // Nobody listens when the server was dropped without a shutdown.
        let _ = done.blocking_send(aborted);
    })?;
    Ok(inbox)
}

struct IoThread<H> {
    handler: H,
    limits: Limits,
    tracker: TaskTracker,
    connections: Vec<Watch>,
}

impl<H: Handler> IoThread<H> {
    async fn run(mut self, mut inbox: mpsc::Receiver<Accepted>, mut phase: watch::Receiver<Phase>) -> usize {
        let gone = CancellationToken::new();
        self.handler.enter(&self.tracker, gone.clone());
        if !self.limits.poll_spin.is_zero() {
            self.tracker.spawn(spin(self.limits.poll_spin, gone.clone()));
        }
        let protocols = Arc::new(Protocols::new(&self.limits, Spawn(self.tracker.clone())));
        let mut look = ticks(self.limits.pace());
        loop {
            tokio::select! {
                accepted = inbox.recv() => match accepted {
                    Some(accepted) => _ = self.admit(accepted, &protocols),
                    None => break,
                },
                _ = look.tick() => self.look(|watch, limits, now| watch.judge(limits, now)),
                // A server that is dropped without a shutdown takes its threads along.
                moved = phase.changed() => if moved.is_err() || *phase.borrow() > Phase::Serving { break },
            }
        }
        let aborted = self.finish(inbox, &protocols, phase).await;
        gone.cancel();
        self.tracker.close();
        // Past this the runtime is dropped, and what is left with it.
        let _ = tokio::time::timeout(UNWIND, self.tracker.wait()).await;
        aborted
    }

    fn admit(&mut self, accepted: Accepted, protocols: &Arc<Protocols>) -> Option<&Watch> {
        let Accepted { stream, peer, permit } = accepted;
        let stream = tokio::net::TcpStream::from_std(stream).ok()?;
        let pulse = Pulse::here();
        self.connections.push(Watch::new(Arc::clone(&pulse), Instant::now()));
        let (protocols, handler, patience) = (Arc::clone(protocols), self.handler.clone(), self.limits.first_bytes);
        self.tracker.spawn(async move {
            let _permit = permit;
            connection::serve((stream, peer), &protocols, handler, pulse, patience).await;
        });
        self.connections.last()
    }

    /// Forgets connections that have ended and gives orders to the others.
    fn look(&mut self, judge: impl Fn(&mut Watch, &Limits, Instant) -> Order) {
        let now = Instant::now();
        let limits = &self.limits;
        self.connections.retain_mut(|watch| {
            let order = judge(watch, limits, now);
            watch.pulse().give(order);
            !watch.ended()
        });
    }

    async fn finish(
        &mut self,
        mut inbox: mpsc::Receiver<Accepted>,
        protocols: &Arc<Protocols>,
        mut phase: watch::Receiver<Phase>,
    ) -> usize {
        let mut look = ticks(LOOK_DRAINING);
        let (mut more, began) = (true, Instant::now());
        while more || !self.connections.is_empty() {
            if phase.has_changed().is_err() || *phase.borrow() == Phase::Aborting {
                break;
            }
            tokio::select! {
                accepted = inbox.recv(), if more => match accepted {
                    Some(accepted) => _ = self.admit(accepted, protocols).map(|watch| watch.pulse().give(Order::Finish)),
                    None => more = false,
                },
                _ = look.tick() => self.look(|watch, limits, now| watch.judge_draining(limits, began, now)),
                _ = phase.changed() => {},
            }
        }
        let aborted = self.connections.iter().map(|watch| watch.pulse().signs().active as usize).sum();
        self.look(|_, _, _| Order::Abort);
        aborted
    }
}

fn ticks(pace: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}
