//! What clients asked and what they got: request counts and latencies by the name asked for. The gateway holds one
//! `RequestSeries` per resolved name, version and variant, so that counting a request looks nothing up.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::Counter;

use super::{
    group::{Budget, Group, Permit},
    histogram::Latency,
    names,
    render::Exposition,
};
use crate::types::{ErrorCode, Protocol};

/// The code label of an answered request.
const OK: &str = "ok";

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// Counts by result of one model and version. Shared by the variants of a route, which this metric does not tell apart.
#[derive(Debug)]
pub(super) struct Codes {
    model: Box<str>,
    version: Box<str>,
    /// Per protocol: ok, then every error code. Made when first counted.
    counters: [[OnceLock<Counter>; ErrorCode::ALL.len() + 1]; 2],
    group: Group,
}

impl Codes {
    pub(super) fn new(model: &str, version: &str, budget: &Arc<Budget>) -> Self {
        let counters = std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new()));
        Self { model: model.into(), version: version.into(), counters, group: Group::new(budget) }
    }

    pub(super) fn is(&self, model: &str, version: &str) -> bool {
        *self.model == *model && *self.version == *version
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        self.group.collect(out);
    }

    fn count(&self, protocol: Protocol, error: Option<ErrorCode>) {
        let code = error.map_or(0, |error| 1 + error as usize);
        let counter = self.counters[protocol as usize][code].get_or_init(|| {
            let code = error.map_or(OK, ErrorCode::as_str);
            self.group.counter(&names::REQUESTS, &[&self.model, &self.version, protocol.as_str(), code])
        });
        counter.increment(1);
    }
}

/// Requests for one model, version and variant.
#[derive(Debug)]
pub struct RequestSeries {
    codes: Arc<Codes>,
    variant: Box<str>,
    /// Per protocol, made when first used.
    durations: [OnceLock<(Latency, Option<Permit>)>; 2],
    budget: Arc<Budget>,
}

impl RequestSeries {
    pub(super) fn new(codes: Arc<Codes>, variant: &str, budget: &Arc<Budget>) -> Self {
        Self { codes, variant: variant.into(), durations: Default::default(), budget: Arc::clone(budget) }
    }

    /// Counts a request: its result (`None` = answered) and the time from its last byte to its encoded answer.
    pub fn record(&self, protocol: Protocol, error: Option<ErrorCode>, duration: Duration) {
        self.codes.count(protocol, error);
        let slot = &self.durations[protocol as usize];
        slot.get_or_init(|| (Latency::default(), Permit::take(&self.budget))).0.record(duration);
    }

    pub(super) fn is(&self, model: &str, version: &str, variant: &str) -> bool {
        self.codes.is(model, version) && *self.variant == *variant
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        for (protocol, slot) in PROTOCOLS.iter().zip(&self.durations) {
            if let Some((latency, Some(_))) = slot.get() {
                let labels = [&*self.codes.model, &self.codes.version, &self.variant, protocol.as_str()];
                out.histogram(&names::REQUEST_DURATION, &labels, &latency.snapshot());
            }
        }
    }
}
