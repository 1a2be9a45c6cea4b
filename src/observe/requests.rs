//! What clients asked and what they got: request counts and latencies by the name asked for. The gateway holds one
//! `RequestSeries` per resolved name, version and variant, so that counting a request looks nothing up.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use metrics::Counter;

use super::{
    group::{Budget, Group, Permit},
    histogram::{Times, times_snapshot},
    lanes::Lanes,
    names,
    render::Exposition,
};
use crate::types::{ErrorCode, Protocol};

/// The code label of an answered request.
const OK: &str = "ok";

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// One thread's counts. Per protocol: ok, then every error code.
type Counts = [[AtomicU64; ErrorCode::ALL.len() + 1]; 2];

/// Counts by result of one model and version. Shared by the variants of a route, which this metric does not tell apart.
#[derive(Debug)]
pub(super) struct Codes {
    model: Box<str>,
    version: Box<str>,
    counts: Lanes<Counts>,
    /// As [`Counts`]; made when there is something to show.
    counters: [[OnceLock<Counter>; ErrorCode::ALL.len() + 1]; 2],
    group: Group,
}

impl Codes {
    pub(super) fn new(model: &str, version: &str, budget: &Arc<Budget>) -> Self {
        Self {
            model: model.into(),
            version: version.into(),
            counts: Lanes::default(),
            counters: Default::default(),
            group: Group::new(budget),
        }
    }

    pub(super) fn is(&self, model: &str, version: &str) -> bool {
        *self.model == *model && *self.version == *version
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        for protocol in PROTOCOLS {
            let codes = [OK].into_iter().chain(ErrorCode::ALL.map(ErrorCode::as_str));
            for (i, code) in codes.enumerate() {
                let count = self.counts.sum(|counts| &counts[protocol as usize][i]);
                if count > 0 {
                    let labels = [&*self.model, &self.version, protocol.as_str(), code];
                    let make = || self.group.counter(&names::REQUESTS, &labels);
                    self.counters[protocol as usize][i].get_or_init(make).absolute(count);
                }
            }
        }
        self.group.collect(out);
    }

    fn count(&self, protocol: Protocol, error: Option<ErrorCode>) {
        let (mine, writer) = self.counts.mine(Counts::default);
        writer.add(&mine[protocol as usize][error.map_or(0, place)], 1);
    }
}

/// Where an error code is counted.
fn place(error: ErrorCode) -> usize {
    1 + ErrorCode::ALL.iter().position(|code| *code == error).unwrap_or_default()
}

/// Requests for one model, version and variant.
#[derive(Debug)]
pub struct RequestSeries {
    codes: Arc<Codes>,
    variant: Box<str>,
    /// Per protocol.
    times: Lanes<[Times; 2]>,
    /// Per protocol, taken when there is something to show.
    permits: [OnceLock<Option<Permit>>; 2],
    budget: Arc<Budget>,
}

impl RequestSeries {
    pub(super) fn new(codes: Arc<Codes>, variant: &str, budget: &Arc<Budget>) -> Self {
        Self {
            codes,
            variant: variant.into(),
            times: Lanes::default(),
            permits: Default::default(),
            budget: Arc::clone(budget),
        }
    }

    /// Counts a request: its result (`None` = answered) and the time from its last byte to its encoded answer.
    pub fn record(&self, protocol: Protocol, error: Option<ErrorCode>, duration: Duration) {
        self.codes.count(protocol, error);
        let (mine, writer) = self.times.mine(Default::default);
        mine[protocol as usize].record(writer, duration);
    }

    pub(super) fn is(&self, model: &str, version: &str, variant: &str) -> bool {
        self.codes.is(model, version) && *self.variant == *variant
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        for protocol in PROTOCOLS {
            let snapshot = times_snapshot(self.times.iter().map(|times| &times[protocol as usize]));
            if snapshot.count() == 0 {
                continue;
            }
            if self.permits[protocol as usize].get_or_init(|| Permit::take(&self.budget)).is_some() {
                let labels = [&*self.codes.model, &self.codes.version, &self.variant, protocol.as_str()];
                out.histogram(&names::REQUEST_DURATION, &labels, &snapshot);
            }
        }
    }
}
