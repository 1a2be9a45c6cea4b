//! The account of one request: opened when its last byte has arrived, closed when its answer has been encoded. It is how every
//! request is counted exactly once, whatever becomes of it.

use std::{fmt, sync::Arc, time::Instant};

use crate::{
    compose::Callable,
    observe::{InFlight, Metrics, RequestSeries},
    types::{ClassNames, Error, ErrorCode, InferResponse, Protocol},
};

/// The account of one request, from its last byte in to its answer's encoding. Dropped without [`Ticket::finish`], the caller
/// has left and the request counts as cancelled.
pub struct Ticket<'a> {
    inflight: Option<InFlight<'a>>,
    metrics: &'a Metrics,
    protocol: Protocol,
    received: Instant,
    /// Where it is counted when it reaches no version of a known name.
    pub(super) refused: Option<Arc<RequestSeries>>,
    /// What answers.
    pub(super) callable: Option<Callable>,
    /// Where it is counted when one arm of a split has answered.
    pub(super) split: Option<Arc<RequestSeries>>,
    /// Its rows, once they have been accepted.
    pub(super) rows: usize,
}

impl<'a> Ticket<'a> {
    pub(super) fn new(metrics: &'a Arc<Metrics>, protocol: Protocol) -> Self {
        let inflight = Some(metrics.enter());
        Self {
            inflight,
            metrics,
            protocol,
            received: Instant::now(),
            refused: None,
            callable: None,
            split: None,
            rows: 0,
        }
    }
}

impl Ticket<'_> {
    /// When the request's last byte had arrived.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Class names of what answers, for the classification extension.
    pub fn class_names(&self) -> &ClassNames {
        static NONE: ClassNames = ClassNames::new();
        match &self.callable {
            Some(Callable::Model(target)) => target.class_names(),
            Some(Callable::Route(route)) => route.class_names(),
            None => &NONE,
        }
    }

    /// True when dimension 0 of the answer's outputs is rows.
    pub fn batched(&self) -> bool {
        match &self.callable {
            Some(Callable::Model(target)) => target.batched(),
            Some(Callable::Route(route)) => route.batched(),
            None => false,
        }
    }

    /// Closes the account after the answer has been encoded. What only operators may see of an error is the caller's to log.
    pub fn finish(mut self, outcome: Result<&InferResponse, &Error>) {
        let now = Instant::now();
        match outcome {
            Ok(response) => {
                match &self.callable {
                    Some(Callable::Model(target)) => target.series().request_answered(&response.stamps, now, self.rows),
                    Some(Callable::Route(route)) => route.series().request_answered(&response.stamps, now, self.rows),
                    None => {}
                }
                self.close(None, now);
            }
            Err(error) => self.close(Some(error.code()), now),
        }
    }

    fn close(&mut self, error: Option<ErrorCode>, now: Instant) {
        self.inflight = None;
        let took = now - self.received;
        let failed = error.is_some();
        match (&self.callable, &self.refused) {
            (Some(Callable::Model(target)), _) => {
                if failed {
                    target.series().request_failed(took);
                }
                target.requests().record(self.protocol, error, took);
            }
            (Some(Callable::Route(route)), _) => {
                if failed {
                    route.series().request_failed(took);
                }
                self.split.as_ref().unwrap_or(route.requests()).record(self.protocol, error, took);
            }
            (None, Some(refused)) => refused.record(self.protocol, error, took),
            (None, None) => self.metrics.unknown().record(self.protocol, error, took),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.inflight.is_some() {
            self.close(Some(ErrorCode::Cancelled), Instant::now());
        }
    }
}

impl fmt::Debug for Ticket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("protocol", &self.protocol).field("rows", &self.rows).finish_non_exhaustive()
    }
}
