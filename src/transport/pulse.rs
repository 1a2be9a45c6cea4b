//! What is known about a connection from outside its task: how many requests it has in flight, whether its socket moves, and
//! the order it was given. The connection's task and requests write it, its I/O thread reads it once per look and gives
//! orders. One connection lives on one thread, so everything here is uncontended; atomics only because tasks must be `Send`.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    task::Waker,
};

use crate::scheduler::{Guest, Guests};

/// What a connection is told to do. Orders only ever get stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    /// Serve.
    Serve = 0,
    /// Finish what is in flight, take nothing new, close.
    Finish = 1,
    /// Close now.
    Abort = 2,
}

/// The protocol that a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The vital signs of one connection.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Requests whose answer has not been handed over completely.
    active: AtomicU32,
    /// Requests so far.
    requests: AtomicU32,
    /// Of those, the ones whose answer is complete and waits to be sent.
    delivering: AtomicU32,
    /// Answers that have been sent.
    delivered: AtomicU32,
    /// Successful reads from the socket.
    reads: AtomicU32,
    /// Value of `reads` when a request last began or ended: what was read after that belongs to the next one.
    reads_at_request: AtomicU32,
    /// Successful writes to the socket.
    writes: AtomicU32,
    /// The socket refused the last write.
    blocked: AtomicBool,
    speaks: OnceLock<Speaks>,
    order: AtomicU8,
    /// Those of its thread, over all connections.
    guests: Guests,
    /// The connection's task. A task's waker never changes, so the first one stands.
    task: OnceLock<Waker>,
}

/// A look at a [`Pulse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) active: u32,
    pub(super) requests: u32,
    pub(super) delivering: u32,
    pub(super) delivered: u32,
    pub(super) writes: u32,
    pub(super) blocked: bool,
    /// `None` until the first bytes have come.
    pub(super) speaks: Option<Speaks>,
    /// Bytes have come since a request last began or ended.
    pub(super) heard: bool,
}

impl Pulse {
    /// That of a new connection of the calling thread.
    pub(super) fn here() -> Arc<Self> {
        Arc::new(Self { guests: Guests::current(), ..Self::default() })
    }

    /// A request begins; the guard ends it.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.active.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.mark();
        InFlight { guest: Some(self.guests.came()), pulse: Arc::clone(self), delivering: false }
    }

    fn mark(&self) {
        self.reads_at_request.store(self.reads.load(Relaxed), Relaxed);
    }

    /// The first bytes have come.
    pub(super) fn greeted(&self, speaks: Speaks) {
        let _ = self.speaks.set(speaks);
    }

    pub(super) fn read(&self) {
        self.reads.fetch_add(1, Relaxed);
    }

    pub(super) fn wrote(&self, done: bool) {
        if done {
            self.writes.fetch_add(1, Relaxed);
        }
        self.blocked.store(!done, Relaxed);
    }

    pub(super) fn signs(&self) -> Signs {
        Signs {
            active: self.active.load(Relaxed),
            requests: self.requests.load(Relaxed),
            delivering: self.delivering.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            writes: self.writes.load(Relaxed),
            blocked: self.blocked.load(Relaxed),
            speaks: self.speaks.get().copied(),
            heard: self.reads.load(Relaxed) != self.reads_at_request.load(Relaxed),
        }
    }

    /// Tells the connection what to do and wakes it.
    pub(super) fn give(&self, order: Order) {
        if self.order.fetch_max(order as u8, Relaxed) < order as u8
            && let Some(task) = self.task.get()
        {
            task.wake_by_ref();
        }
    }

    /// The order in force. Called by the connection's task on every poll, which also makes it reachable for [`give`].
    ///
    /// [`give`]: Pulse::give
    pub(super) fn order(&self, task: &Waker) -> Order {
        self.task.get_or_init(|| task.clone());
        match self.order.load(Relaxed) {
            0 => Order::Serve,
            1 => Order::Finish,
            _ => Order::Abort,
        }
    }
}

/// A request in flight on a connection. It travels inside the handler's future, then with the answer's bytes.
#[derive(Debug)]
pub(super) struct InFlight {
    pulse: Arc<Pulse>,
    delivering: bool,
    /// `None` for a stream.
    guest: Option<Guest>,
}

impl InFlight {
    /// The answer is complete: from here on, only the peer can be what it waits for.
    pub(super) fn deliver(mut self) -> Self {
        self.delivering = true;
        self.pulse.delivering.fetch_add(1, Relaxed);
        self
    }

    /// The answer is a stream: it is in flight, but as long as nothing is asked on it nobody need reckon with it.
    pub(super) fn stream(mut self) -> Self {
        if let Some(guest) = self.guest.take() {
            guest.forget();
        }
        self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.delivering {
            self.pulse.delivering.fetch_sub(1, Relaxed);
            self.pulse.delivered.fetch_add(1, Relaxed);
        }
        self.pulse.active.fetch_sub(1, Relaxed);
        self.pulse.mark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_flight_until_its_guard_goes() {
        let pulse = Arc::new(Pulse::default());
        pulse.read();
        assert!(pulse.signs().heard);
        let guard = pulse.begin();
        assert_eq!((pulse.signs().active, pulse.signs().heard), (1, false));
        pulse.read();
        drop(guard);
        assert!(!pulse.signs().heard, "those were the request's own bytes");
        assert_eq!((pulse.signs().active, pulse.signs().requests), (0, 1));
    }

    #[test]
    fn a_stream_is_in_flight_but_no_guest() {
        let pulse = Arc::new(Pulse::default());
        let (stream, request) = (pulse.begin(), pulse.begin());
        assert_eq!((pulse.signs().active, pulse.guests.here()), (2, 2));
        let stream = stream.stream().stream();
        assert_eq!((pulse.signs().active, pulse.guests.here()), (2, 1));
        drop(stream);
        assert_eq!((pulse.signs().active, pulse.guests.here()), (1, 1));
        drop(request.deliver());
        assert_eq!((pulse.signs().active, pulse.guests.here()), (0, 0));
    }

    #[test]
    fn orders_only_get_stricter() {
        let pulse = Pulse::default();
        pulse.give(Order::Abort);
        pulse.give(Order::Finish);
        assert_eq!(pulse.order(Waker::noop()), Order::Abort);
    }
}
