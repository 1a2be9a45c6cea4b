//! Judges a connection by its vital signs: is it too slow, has it said goodbye. Pure apart from the [`Pulse`] it reads; called
//! by `io_thread` for every connection at every look.

use std::{sync::Arc, time::Instant};

use super::{
    limits::Limits,
    pulse::{Order, Pulse, Signs, Speaks},
};

/// Writes in which nothing of an answer need have gone out: pings, acknowledgements.
const IDLE_WRITES: u32 = 4;

/// One connection as its thread sees it.
#[derive(Debug)]
pub(super) struct Watch {
    pulse: Arc<Pulse>,
    last: Signs,
    /// Since when `last` has been the same.
    since: Instant,
    /// When the request head that is coming in now was first seen unfinished.
    head_since: Option<Instant>,
    /// Since when the socket has taken nothing of what waits to be sent.
    stuck_since: Option<Instant>,
    /// Since when, and since which look, complete answers have been waiting for a window that the peer does not open.
    starved_since: Option<(Instant, Signs)>,
}

impl Watch {
    pub(super) fn new(pulse: Arc<Pulse>, now: Instant) -> Self {
        let last = pulse.signs();
        Self { pulse, last, since: now, head_since: None, stuck_since: None, starved_since: None }
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The connection's task and all its requests have gone.
    pub(super) fn ended(&self) -> bool {
        Arc::strong_count(&self.pulse) == 1
    }

    /// What to tell it while the server serves.
    pub(super) fn judge(&mut self, limits: &Limits, now: Instant) -> Order {
        let signs = self.observe(now);
        let for_longer = |since: Instant, patience| now.saturating_duration_since(since) > patience;
        let stalled = [self.stuck_since, self.starved_since.map(|(since, _)| since)];
        if stalled.into_iter().flatten().any(|since| for_longer(since, limits.write_stall)) {
            return Order::Abort;
        }
        // HTTP/2 has pings for the rest, and a connection that has not spoken yet has a timer of its own.
        if signs.active > 0 || signs.speaks != Some(Speaks::Http1) {
            return Order::Serve;
        }
        match self.head_since {
            Some(began) if for_longer(began, limits.head) => Order::Abort,
            None if for_longer(self.since, limits.idle) => Order::Finish,
            _ => Order::Serve,
        }
    }

    /// What to tell it while the server drains, which began at `began`: one that has nothing in flight and moves nothing is
    /// not waited for, whether or not it has answered our goodbye.
    pub(super) fn judge_draining(&mut self, limits: &Limits, began: Instant, now: Instant) -> Order {
        let signs = self.observe(now);
        let quiet_since = self.since.max(began);
        if signs.active == 0 && now.saturating_duration_since(quiet_since) > limits.farewell {
            Order::Abort
        } else {
            Order::Finish
        }
    }

    fn observe(&mut self, now: Instant) -> Signs {
        let signs = self.pulse.signs();
        let unfinished_head = signs.active == 0 && signs.heard;
        if !unfinished_head || signs.requests != self.last.requests {
            self.head_since = None;
        }
        if unfinished_head {
            self.head_since.get_or_insert(now);
        }
        if !signs.blocked || signs.writes != self.last.writes {
            self.stuck_since = None;
        }
        if signs.blocked {
            self.stuck_since.get_or_insert(now);
        }
        let starves =
            |then: Signs| signs.delivered == then.delivered && signs.writes.wrapping_sub(then.writes) <= IDLE_WRITES;
        self.starved_since = match self.starved_since {
            _ if signs.delivering == 0 => None,
            Some((since, then)) if starves(then) => Some((since, then)),
            _ => Some((now, signs)),
        };
        if signs != self.last {
            self.last = signs;
            self.since = now;
        }
        signs
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn watched(speaks: Speaks) -> (Arc<Pulse>, Watch, Instant) {
        let (pulse, now) = (Arc::new(Pulse::default()), Instant::now());
        pulse.greeted(speaks);
        (Arc::clone(&pulse), Watch::new(pulse, now), now)
    }

    fn after(now: Instant, patience: Duration) -> Instant {
        now + patience + Duration::from_millis(1)
    }

    #[test]
    fn a_head_that_trickles_in_is_cut_off_by_its_first_byte() {
        let (pulse, mut watch, start) = watched(Speaks::Http1);
        let limits = Limits::default();
        for second in 0..=10 {
            pulse.read();
            assert_eq!(watch.judge(&limits, start + Duration::from_secs(second)), Order::Serve, "second {second}");
        }
        assert_eq!(watch.judge(&limits, after(start, limits.head)), Order::Abort);
    }

    #[test]
    fn requests_keep_a_connection_and_idleness_ends_it_politely() {
        let (pulse, mut watch, start) = watched(Speaks::Http1);
        let limits = Limits::default();
        pulse.read();
        let request = pulse.begin();
        assert_eq!(watch.judge(&limits, start + Duration::from_secs(3600)), Order::Serve);
        drop(request);
        let idle = start + Duration::from_secs(3601);
        assert_eq!(watch.judge(&limits, idle), Order::Serve);
        assert_eq!(watch.judge(&limits, after(idle, limits.idle)), Order::Finish);
    }

    #[test]
    fn a_socket_that_takes_nothing_is_dropped_in_either_protocol() {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let (pulse, mut watch, start) = watched(speaks);
            let limits = Limits::default();
            let _request = pulse.begin();
            pulse.wrote(false);
            assert_eq!(watch.judge(&limits, start), Order::Serve);
            let _more = pulse.begin();
            assert_eq!(watch.judge(&limits, start + Duration::from_secs(19)), Order::Serve);
            assert_eq!(watch.judge(&limits, after(start, limits.write_stall)), Order::Abort);
        }
    }

    #[test]
    fn a_window_that_stays_closed_ends_a_connection_and_a_slow_reader_does_not() {
        let limits = Limits::default();
        let second = |n| Duration::from_secs(n);
        let (pulse, mut watch, start) = watched(Speaks::Http2);
        let _waits = pulse.begin().deliver();
        for n in 0..=20 {
            if n % 10 == 0 {
                pulse.wrote(true);
            }
            assert_eq!(watch.judge(&limits, start + second(n)), Order::Serve, "second {n}");
        }
        assert_eq!(watch.judge(&limits, after(start, limits.write_stall)), Order::Abort);

        let (pulse, mut watch, start) = watched(Speaks::Http2);
        let _waits = pulse.begin().deliver();
        for n in 0..100 {
            pulse.wrote(true);
            assert_eq!(watch.judge(&limits, start + second(n)), Order::Serve, "second {n}");
        }

        let (pulse, mut watch, start) = watched(Speaks::Http2);
        let _works = pulse.begin();
        watch.judge(&limits, start);
        assert_eq!(watch.judge(&limits, start + second(3600)), Order::Serve, "the model takes its time");
    }

    #[test]
    fn an_idle_http2_connection_is_kept() {
        let (pulse, mut watch, start) = watched(Speaks::Http2);
        pulse.read();
        assert_eq!(watch.judge(&Limits::default(), start + Duration::from_secs(86_400)), Order::Serve);
    }

    #[test]
    fn draining_waits_for_requests_and_for_bytes_that_still_move() {
        let (pulse, mut watch, start) = watched(Speaks::Http2);
        let limits = Limits::default();
        let request = pulse.begin();
        assert_eq!(watch.judge_draining(&limits, start, start + Duration::from_secs(60)), Order::Finish);
        drop(request);
        pulse.wrote(true);
        let sent = start + Duration::from_secs(61);
        assert_eq!(watch.judge_draining(&limits, start, sent), Order::Finish);
        assert_eq!(watch.judge_draining(&limits, start, after(sent, limits.farewell)), Order::Abort);
    }
}
