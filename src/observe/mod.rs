//! Layer 1: what can be seen. `Metrics` is made once per process and handed down; every layer above keeps the series it
//! writes to, so that recording never looks anything up. `/metrics` is [`Metrics::render`].
//!
//! Counters and gauges live in recorders of the Prometheus exporter, none of them global; histograms are our own, because
//! their buckets depend on the model.

mod batches;
mod group;
mod histogram;
mod lanes;
#[cfg(feature = "server")]
pub mod log;
pub mod names;
pub mod panics;
mod process;
mod render;
mod report;
mod requests;
mod routes;
mod score;
mod scores;
mod series;
mod shadows;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Instant, SystemTime},
};

use metrics::{Counter, Gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use parking_lot::Mutex;

pub use histogram::{
    Histogram, Snapshot, difference_bounds, probability_bounds, range_bounds, row_bounds, signed_log_bounds,
};
pub use report::{DifferenceReport, Latency, RouteReport, ShadowReport, Spread, StageReport, VariantReport};
pub use requests::RequestSeries;
pub use routes::{Decision, RouteSeries, SplitSeries, StageSeries};
pub use score::{ResolvedScore, RowScore};
pub use scores::{ScoreReport, ScoreSeries};
pub use series::{ModelSeries, Reject, ServableSeries};
pub use shadows::{DifferenceSeries, ShadowResult, ShadowSeries};

use crate::types::ServableId;
use group::Budget;
use lanes::Level;
use render::Exposition;
use requests::Codes;
use series::{Info, Shared};

/// The most series that are shown; a histogram counts as one.
pub const MAX_SERIES: usize = 10_000;

/// Every metric of a process.
#[derive(Debug)]
pub struct Metrics {
    process: PrometheusRecorder,
    gauges: Gauges,
    log_drops: LogDrops,
    inflight: Level,
    saturation: Saturation,
    shared: Shared,
    registered: Mutex<Registered>,
    unknown: Arc<RequestSeries>,
    unknown_model: Arc<ModelSeries>,
}

/// What belongs to the process.
#[derive(Debug)]
struct Gauges {
    inflight: Gauge,
    saturation: Gauge,
    log_dropped: Counter,
}

/// How a load probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The model can be loaded.
    Good,
    /// The engine refused it.
    Refused,
    /// The process ended without an answer.
    Died,
    /// There was no process.
    NotStarted,
}

impl ProbeResult {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeResult::Good => "good",
            ProbeResult::Refused => "refused",
            ProbeResult::Died => "died",
            ProbeResult::NotStarted => "not_started",
        }
    }
}

/// Reads how busy the workers are.
#[derive(Default)]
struct Saturation(OnceLock<Box<dyn Fn() -> f64 + Send + Sync>>);

impl fmt::Debug for Saturation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Saturation")
    }
}

/// Reads how many log events have been lost.
#[derive(Default)]
struct LogDrops(OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>);

impl fmt::Debug for LogDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDrops").finish_non_exhaustive()
    }
}

/// Who may have something to show. What nobody holds any more is forgotten.
#[derive(Debug, Default)]
struct Registered {
    servables: Vec<Weak<ServableSeries>>,
    models: Vec<Weak<ModelSeries>>,
    codes: Vec<Weak<Codes>>,
    requests: Vec<Weak<RequestSeries>>,
    routes: Vec<Weak<RouteSeries>>,
}

impl Metrics {
    /// Metrics with nothing recorded.
    pub fn new() -> Arc<Self> {
        Self::with_limit(MAX_SERIES)
    }

    fn with_limit(limit: usize) -> Arc<Self> {
        let process = PrometheusBuilder::new().build_recorder();
        let counter = |family| group::counter(&process, family, &[]);
        let gauges = Gauges {
            inflight: group::gauge(&process, &names::INFLIGHT),
            saturation: group::gauge(&process, &names::SATURATION),
            log_dropped: counter(&names::LOG_DROPPED),
        };
        let budget = Arc::new(Budget::new(limit, counter(&names::SERIES_DROPPED)));
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let epoch = (Instant::now(), u64::try_from(since_epoch.as_millis()).unwrap_or(0));
        let shared = Shared {
            executed_expired: counter(&names::EXECUTED_EXPIRED),
            shadow_stuck: counter(&names::SHADOW_STUCK),
            worker_stuck: counter(&names::WORKERS_STUCK),
            shadow_off: group::gauge(&process, &names::SHADOW_OFF),
            budget: Arc::clone(&budget),
            epoch,
        };
        let codes = Arc::new(Codes::new("", "", &budget));
        let unknown = Arc::new(RequestSeries::new(Arc::clone(&codes), "", &budget));
        let unknown_model = Arc::new(ModelSeries::new("", &budget));
        let registered = Registered {
            servables: Vec::new(),
            models: vec![Arc::downgrade(&unknown_model)],
            codes: vec![Arc::downgrade(&codes)],
            requests: vec![Arc::downgrade(&unknown)],
            routes: Vec::new(),
        };
        Arc::new(Self {
            process,
            gauges,
            log_drops: LogDrops::default(),
            inflight: Level::default(),
            saturation: Saturation::default(),
            shared,
            registered: Mutex::new(registered),
            unknown,
            unknown_model,
        })
    }

    /// The series of a version that is about to serve. When two of one version live at a time (the old one answering its
    /// last requests), the later one is shown.
    pub fn servable(
        &self,
        id: &ServableId,
        engine: &str,
        digest: &str,
        score: Option<ResolvedScore>,
    ) -> Arc<ServableSeries> {
        let model = self.model(id.model.as_str());
        let series = Arc::new(ServableSeries::new(Info { id, engine, digest, score }, model, &self.shared));
        let mut registered = self.registered.lock();
        forget_dead(&mut registered.servables);
        registered.servables.push(Arc::downgrade(&series));
        series
    }

    /// What the versions of a model share. Only for names that exist in the registry.
    pub fn model(&self, name: &str) -> Arc<ModelSeries> {
        let make = || ModelSeries::new(name, &self.shared.budget);
        get_or_make(&mut self.registered.lock().models, |known| known.is(name), make)
    }

    /// The series of a name that clients ask for: model or route, the version that answers ("" when none does), and
    /// `route/variant` or "". It takes a lock: look it up when a snapshot is built, and hold it. Only for names that exist;
    /// everything else goes to [`Metrics::unknown`].
    pub fn requests(&self, model: &str, version: &str, variant: &str) -> Arc<RequestSeries> {
        let mut registered = self.registered.lock();
        let budget = &self.shared.budget;
        let codes =
            get_or_make(&mut registered.codes, |known| known.is(model, version), || Codes::new(model, version, budget));
        get_or_make(
            &mut registered.requests,
            |known| known.is(model, version, variant),
            || RequestSeries::new(codes, variant, budget),
        )
    }

    /// The series of a route. Only for names that exist in the registry; hold it for as long as the route exists.
    pub fn route(&self, name: &str) -> Arc<RouteSeries> {
        let make = || RouteSeries::new(name, &self.shared);
        get_or_make(&mut self.registered.lock().routes, |known| known.is(name), make)
    }

    /// The one series of requests for names that do not exist, and of requests refused before their name was read.
    pub fn unknown(&self) -> &Arc<RequestSeries> {
        &self.unknown
    }

    /// Rejections of requests whose model is not known.
    pub fn unknown_model(&self) -> &Arc<ModelSeries> {
        &self.unknown_model
    }

    /// A load probe has ended, or could not begin.
    pub fn load_probe(&self, result: ProbeResult) {
        group::counter(&self.process, &names::LOAD_PROBES, &[result.as_str()]).increment(1);
    }

    /// A request has arrived; it counts as in flight until the guard is dropped.
    pub fn enter(&self) -> InFlight<'_> {
        self.inflight.raise(1);
        InFlight(self)
    }

    /// Requests in flight.
    pub fn inflight(&self) -> u64 {
        self.inflight.get()
    }

    /// Says how to read the share of the workers that run a batch, 0 to 1. Only the first call counts.
    pub fn measure_saturation(&self, share: impl Fn() -> f64 + Send + Sync + 'static) {
        self.saturation.0.get_or_init(|| Box::new(share));
    }

    /// Says how to read the number of log events that have been lost. Only the first call counts.
    pub fn count_log_drops(&self, drops: impl Fn() -> u64 + Send + Sync + 'static) {
        self.log_drops.0.get_or_init(|| Box::new(drops));
    }

    /// Everything, in the Prometheus text format 0.0.4. Families and series come in the same order every time. It takes
    /// about a millisecond per ten models: not for an I/O thread with requests on it.
    pub fn render(&self) -> String {
        let mut out = Exposition::default();
        self.gauges.inflight.set(self.inflight() as f64);
        if let Some(share) = self.saturation.0.get() {
            self.gauges.saturation.set(share());
        }
        if let Some(drops) = self.log_drops.0.get() {
            self.gauges.log_dropped.absolute(drops());
        }
        process::collect(&mut out);
        let live = self.live();
        live.models.iter().for_each(|model| model.collect(&mut out));
        live.codes.iter().for_each(|codes| codes.collect(&mut out));
        live.requests.iter().for_each(|requests| requests.collect(&mut out));
        live.servables.iter().for_each(|servable| servable.collect(&mut out));
        live.routes.iter().for_each(|route| route.collect(&mut out));
        // Last, because the others may find only now that a series does not fit.
        out.recorder(&self.process.handle());
        out.finish()
    }

    /// What somebody holds, and of servables of the same version the latest.
    fn live(&self) -> Live {
        let registered = &mut *self.registered.lock();
        forget_dead(&mut registered.servables);
        forget_dead(&mut registered.models);
        forget_dead(&mut registered.codes);
        forget_dead(&mut registered.requests);
        forget_dead(&mut registered.routes);
        let mut servables: Vec<Arc<ServableSeries>> = Vec::new();
        for servable in upgraded(&registered.servables) {
            match servables.iter_mut().find(|other| other.id() == servable.id()) {
                Some(older) => *older = servable,
                None => servables.push(servable),
            }
        }
        Live {
            servables,
            models: upgraded(&registered.models).collect(),
            codes: upgraded(&registered.codes).collect(),
            requests: upgraded(&registered.requests).collect(),
            routes: upgraded(&registered.routes).collect(),
        }
    }
}

struct Live {
    servables: Vec<Arc<ServableSeries>>,
    models: Vec<Arc<ModelSeries>>,
    codes: Vec<Arc<Codes>>,
    requests: Vec<Arc<RequestSeries>>,
    routes: Vec<Arc<RouteSeries>>,
}

/// A request between arrival and answer.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.inflight.lower(1);
    }
}

fn forget_dead<T>(known: &mut Vec<Weak<T>>) {
    known.retain(|series| series.strong_count() > 0);
}

fn upgraded<T>(known: &[Weak<T>]) -> impl Iterator<Item = Arc<T>> {
    known.iter().filter_map(Weak::upgrade)
}

fn get_or_make<T>(known: &mut Vec<Weak<T>>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Arc<T> {
    forget_dead(known);
    let found = upgraded(known).find(|series| is(series));
    found.unwrap_or_else(|| {
        let series = Arc::new(make());
        known.push(Arc::downgrade(&series));
        series
    })
}
