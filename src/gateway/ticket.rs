//! The account of one request: opened when its last byte has arrived, closed when its answer has been encoded. It is how every
//! request is counted exactly once, whatever becomes of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use crate::{
    compose::Target,
    observe::{InFlight, Metrics, RequestSeries},
    types::{Error, ErrorCode, InferResponse, Protocol},
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
    /// The version that answers.
    pub(super) target: Option<Arc<Target>>,
    /// Its rows, once they have been accepted.
    pub(super) rows: usize,
}

impl<'a> Ticket<'a> {
    pub(super) fn new(metrics: &'a Arc<Metrics>, protocol: Protocol) -> Self {
        let inflight = Some(metrics.enter());
        Self { inflight, metrics, protocol, received: Instant::now(), refused: None, target: None, rows: 0 }
    }
}

impl Ticket<'_> {
    /// When the request's last byte had arrived.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Class names of the version that answers, for the classification extension.
    pub fn class_names(&self) -> &BTreeMap<Box<str>, Vec<Box<str>>> {
        static NONE: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
        self.target.as_ref().map_or(&NONE, |target| target.class_names())
    }

    /// True when dimension 0 of the answer's outputs is rows.
    pub fn batched(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.batched())
    }

    /// Closes the account after the answer has been encoded. What only operators may see of an error is the caller's to log.
    pub fn finish(mut self, outcome: Result<&InferResponse, &Error>) {
        let now = Instant::now();
        match outcome {
            Ok(response) => {
                if let Some(target) = &self.target {
                    target.series().request_answered(&response.stamps, now, self.rows);
                }
                self.close(None, now);
            }
            Err(error) => self.close(Some(error.code()), now),
        }
    }

    fn close(&mut self, error: Option<ErrorCode>, now: Instant) {
        if self.inflight.take().is_none() {
            return;
        }
        let took = now - self.received;
        match (&self.target, &self.refused) {
            (Some(target), _) => {
                if error.is_some() {
                    target.series().request_failed(took);
                }
                target.requests().record(self.protocol, error, took);
            }
            (None, Some(refused)) => refused.record(self.protocol, error, took),
            (None, None) => self.metrics.unknown().record(self.protocol, error, took),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.close(Some(ErrorCode::Cancelled), Instant::now());
    }
}

impl fmt::Debug for Ticket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("protocol", &self.protocol).field("rows", &self.rows).finish_non_exhaustive()
    }
}
