//! The series of a route: who a split chose, what the stages of a cascade decided and how long they took, and the route's own
//! requests. The `compose` layer asks for the handles when it compiles a revision and holds them as long as that revision may
//! answer, so that recording looks nothing up; what nobody holds any more is not shown.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    get_or_make,
    group::{Budget, LazyPermit},
    histogram::{Times, times_snapshot, times_tally},
    lanes::Lanes,
    names,
    render::Exposition,
    report::{RouteReport, StageReport, VariantReport, share},
    series::Shared,
    shadows::ShadowSeries,
    upgraded,
};
use crate::types::{ModelStatistics, Stamps, Tally, nanos};

/// What a stage of a cascade did with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its answer was kept.
    Accepted,
    /// The row went on to the next stage.
    Escalated,
    /// Its answer was kept because the next stage had no room or time.
    BestSoFar,
    /// The row's deadline passed before the stage could answer it.
    Expired,
}

impl Decision {
    /// Every decision.
    pub const ALL: [Decision; 4] = [Decision::Accepted, Decision::Escalated, Decision::BestSoFar, Decision::Expired];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Accepted => "accepted",
            Decision::Escalated => "escalated",
            Decision::BestSoFar => "best_so_far",
            Decision::Expired => "expired",
        }
    }
}

/// The phases of a request to a route, in the order in which they happen.
const PHASES: [&str; 3] = ["decode", "compose", "encode"];

/// One thread's part of what is known about answered requests.
#[derive(Debug, Default)]
struct Answered {
    phases: [Times; PHASES.len()],
    rows: AtomicU64,
    /// When the last one was, in nanoseconds after the epoch instant; 0 = never.
    last: AtomicU64,
}

/// What lives as long as some revision of the route holds it.
#[derive(Debug, Default)]
struct Parts {
    variants: Vec<Weak<SplitSeries>>,
    stages: Vec<Weak<StageSeries>>,
    shadows: Vec<Weak<ShadowSeries>>,
}

/// The series of a route over all its revisions. Hold it for as long as the route exists.
#[derive(Debug)]
pub struct RouteSeries {
    name: Arc<str>,
    answered: Lanes<Answered>,
    permits: [LazyPermit; PHASES.len()],
    failed: (AtomicU64, AtomicU64),
    parts: Mutex<Parts>,
    shared: Shared,
}

impl RouteSeries {
    pub(super) fn new(name: &str, shared: &Shared) -> Self {
        Self {
            name: name.into(),
            answered: Lanes::default(),
            permits: Default::default(),
            failed: (AtomicU64::new(0), AtomicU64::new(0)),
            parts: Mutex::default(),
            shared: shared.clone(),
        }
    }

    /// The route's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The counter of requests that a revision sends to a variant. It takes a lock: ask when the revision is compiled, and
    /// hold it.
    pub fn split(&self, variant: &str, revision: u64) -> Arc<SplitSeries> {
        let make = || SplitSeries {
            variant: variant.into(),
            revision,
            requests: Lanes::default(),
            permit: LazyPermit::default(),
        };
        let is = |known: &SplitSeries| *known.variant == *variant && known.revision == revision;
        get_or_make(&mut self.parts.lock().variants, is, make)
    }

    /// The series of a stage by its label: of a cascade the index from 0. It takes a lock: ask when a revision is compiled,
    /// and hold it. Revisions share it.
    pub fn stage(&self, label: &str) -> Arc<StageSeries> {
        get_or_make(&mut self.parts.lock().stages, |known| *known.label == *label, || StageSeries::new(label))
    }

    /// The series of the route's shadow. It takes a lock: ask when a revision is compiled, and hold it. Revisions share it.
    pub fn shadow(&self) -> Arc<ShadowSeries> {
        get_or_make(&mut self.parts.lock().shadows, |_| true, ShadowSeries::default)
    }

    /// A request of `rows` rows was answered. Of the stamps three count: `received`, `queued` (it had been decoded and
    /// checked) and `scattered` (the answer was complete); `encoded` is when it was ready to be sent.
    pub fn request_answered(&self, stamps: &Stamps, encoded: Instant, rows: usize) {
        let points = [stamps.received, stamps.queued, stamps.scattered, encoded];
        let (mine, writer) = self.answered.mine(Answered::default);
        for (times, gap) in mine.phases.iter().zip(points.windows(2)) {
            times.record(writer, gap[1].saturating_duration_since(gap[0]));
        }
        writer.add(&mine.rows, rows as u64);
        mine.last.store(self.shared.since_epoch(encoded), Relaxed);
    }

    /// A request failed in one of the models after this long.
    pub fn request_failed(&self, duration: Duration) {
        self.failed.0.fetch_add(1, Relaxed);
        self.failed.1.fetch_add(nanos(duration), Relaxed);
    }

    /// The statistics since the route was first seen, under the version (revision) given. What runs in a route are its
    /// models: `compute_infer` is the time between a request's check and its complete answer, all models and their queues
    /// included, `execution_count` the number of answered requests, and there are no batches.
    pub fn statistics(&self, version: &Arc<str>) -> ModelStatistics {
        let phase = |i: usize| times_tally(self.answered.iter().map(|lane| &lane.phases[i]));
        let [decode, compose, encode] = [phase(0), phase(1), phase(2)];
        let last = self.answered.iter().map(|lane| lane.last.load(Relaxed)).max().unwrap_or(0);
        ModelStatistics {
            name: Arc::clone(&self.name),
            version: Arc::clone(version),
            last_inference: self.shared.wall_clock(last),
            inference_count: self.answered.sum(|lane| &lane.rows),
            execution_count: encode.count,
            success: Tally { count: encode.count, ns: decode.ns + compose.ns + encode.ns },
            fail: Tally { count: self.failed.0.load(Relaxed), ns: self.failed.1.load(Relaxed) },
            compute_infer: compose,
            ..ModelStatistics::default()
        }
    }

    /// Everything that is held now, for operators. Of the revisions the newest that is held; stages that are numbers come
    /// first, in their order.
    pub fn report(&self) -> RouteReport {
        let live = self.live();
        let newest = live.variants.iter().map(|variant| variant.revision).max();
        let counted = live.variants.iter().filter(|variant| Some(variant.revision) == newest);
        let counted: Vec<_> = counted.map(|variant| (variant.variant.clone(), variant.count())).collect();
        let total = counted.iter().map(|(_, requests)| requests).sum();
        let variant = |(variant, requests)| VariantReport { variant, requests, share: share(requests, total) };
        let mut stages = live.stages;
        stages.sort_by_key(|stage| (stage.label.parse::<usize>().unwrap_or(usize::MAX), stage.label.clone()));
        RouteReport {
            revision: newest,
            variants: counted.into_iter().map(variant).collect(),
            saturated: stages.iter().find_map(|stage| stage.saturated.get()).map(|value| value != 0.0),
            stages: stages.iter().map(|stage| stage.report()).collect(),
            shadow: live.shadows.first().map(|shadow| shadow.report()),
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        *self.name == *name
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        let budget = &self.shared.budget;
        for (i, phase) in PHASES.into_iter().enumerate() {
            let snapshot = times_snapshot(self.answered.iter().map(|lane| &lane.phases[i]));
            if snapshot.count() > 0 && self.permits[i].granted(budget) {
                out.histogram(&names::ROUTE_PHASE, &[&self.name, phase], &snapshot);
            }
        }
        let live = self.live();
        live.variants.iter().for_each(|variant| variant.collect(&self.name, budget, out));
        live.stages.iter().for_each(|stage| stage.collect(&self.name, budget, out));
        live.shadows.iter().for_each(|shadow| shadow.collect(&self.name, budget, out));
    }

    fn live(&self) -> Live {
        let parts = self.parts.lock();
        Live {
            variants: upgraded(&parts.variants).collect(),
            stages: upgraded(&parts.stages).collect(),
            shadows: upgraded(&parts.shadows).collect(),
        }
    }
}

struct Live {
    variants: Vec<Arc<SplitSeries>>,
    stages: Vec<Arc<StageSeries>>,
    shadows: Vec<Arc<ShadowSeries>>,
}

/// Requests that one revision of a split sent to one variant.
#[derive(Debug)]
pub struct SplitSeries {
    variant: Box<str>,
    revision: u64,
    requests: Lanes<AtomicU64>,
    permit: LazyPermit,
}

impl SplitSeries {
    /// A request, or at least one of its rows, goes to the variant.
    pub fn chosen(&self) {
        let (mine, writer) = self.requests.mine(AtomicU64::default);
        writer.add(mine, 1);
    }

    fn count(&self) -> u64 {
        self.requests.sum(|lane| lane)
    }

    fn collect(&self, route: &str, budget: &Arc<Budget>, out: &mut Exposition) {
        let requests = self.count();
        if requests > 0 && self.permit.granted(budget) {
            let labels = [route, &self.variant, &self.revision.to_string()];
            out.value(&names::SPLIT_REQUESTS, &labels, requests as f64);
        }
    }
}

/// One thread's part of a stage.
#[derive(Debug, Default)]
struct Stage {
    times: Times,
    rows: [AtomicU64; Decision::ALL.len()],
}

/// What a stage of a route did: how long it took per request and, of a cascade, what became of the rows.
#[derive(Debug)]
pub struct StageSeries {
    label: Box<str>,
    lanes: Lanes<Stage>,
    threshold: Setting,
    saturated: Setting,
    times: LazyPermit,
    rows: [LazyPermit; Decision::ALL.len()],
}

impl StageSeries {
    fn new(label: &str) -> Self {
        Self {
            label: label.into(),
            lanes: Lanes::default(),
            threshold: Setting::default(),
            saturated: Setting::default(),
            times: LazyPermit::default(),
            rows: Default::default(),
        }
    }

    /// The stage ran for a request, waiting included.
    pub fn ran(&self, took: Duration) {
        let (mine, writer) = self.lanes.mine(Stage::default);
        mine.times.record(writer, took);
    }

    /// Rows of a cascade were decided on.
    pub fn decided(&self, decision: Decision, rows: usize) {
        if rows > 0 {
            let (mine, writer) = self.lanes.mine(Stage::default);
            writer.add(&mine.rows[decision as usize], rows as u64);
        }
    }

    /// The threshold in force from now on.
    pub fn set_threshold(&self, threshold: f64) {
        self.threshold.set(threshold);
    }

    /// Whether holding the escalation budget would need a threshold below the floor. Only for the first stage.
    pub fn set_saturated(&self, saturated: bool) {
        self.saturated.set(f64::from(u8::from(saturated)));
    }

    fn rows(&self) -> [u64; Decision::ALL.len()] {
        std::array::from_fn(|i| self.lanes.sum(|lane| &lane.rows[i]))
    }

    fn report(&self) -> StageReport {
        let rows = self.rows();
        let total = rows.iter().sum();
        StageReport {
            stage: self.label.clone(),
            decisions: Decision::ALL.map(|decision| {
                let rows = rows[decision as usize];
                (decision, rows, share(rows, total))
            }),
            threshold: self.threshold.get(),
            duration: times_snapshot(self.lanes.iter().map(|lane| &lane.times)).into(),
        }
    }

    fn collect(&self, route: &str, budget: &Arc<Budget>, out: &mut Exposition) {
        let snapshot = times_snapshot(self.lanes.iter().map(|lane| &lane.times));
        if snapshot.count() > 0 && self.times.granted(budget) {
            out.histogram(&names::ROUTE_STAGE, &[route, &self.label], &snapshot);
        }
        for (decision, rows) in Decision::ALL.iter().zip(self.rows()) {
            if rows > 0 && self.rows[*decision as usize].granted(budget) {
                out.value(&names::CASCADE_ROWS, &[route, &self.label, decision.as_str()], rows as f64);
            }
        }
        self.threshold.collect(&names::CASCADE_THRESHOLD, &[route, &self.label], budget, out);
        self.saturated.collect(&names::CASCADE_SATURATED, &[route], budget, out);
    }
}

/// A value that is shown once it has been set.
#[derive(Debug, Default)]
struct Setting {
    /// Bits of an f64.
    bits: OnceLock<AtomicU64>,
    permit: LazyPermit,
}

impl Setting {
    fn set(&self, value: f64) {
        self.bits.get_or_init(AtomicU64::default).store(value.to_bits(), Relaxed);
    }

    fn get(&self) -> Option<f64> {
        self.bits.get().map(|bits| f64::from_bits(bits.load(Relaxed)))
    }

    fn collect(&self, family: &'static names::Family, labels: &[&str], budget: &Arc<Budget>, out: &mut Exposition) {
        if let Some(value) = self.get()
            && self.permit.granted(budget)
        {
            out.value(family, labels, value);
        }
    }
}
