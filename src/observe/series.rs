//! The series of a loaded version and of its model: what the scheduler and the gateway record, and the statistics that the
//! protocol reports from the same numbers. A series is shown for as long as somebody holds it.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;

use super::{
    batches::Batches,
    group::{Budget, Group, Permit},
    histogram::{Times, times_snapshot, times_tally},
    lanes::{Lanes, Level},
    names,
    render::Exposition,
    score::ResolvedScore,
    scores::ScoreSeries,
};
use crate::types::{ModelStatistics, Phase, ServableId, Stamps, Tally, Tensor, nanos};

/// Why a request was turned away without being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The queue is full.
    QueueFull,
    /// Its deadline passed while it waited, or could not be met.
    Deadline,
    /// It was dropped because the batch it belongs to would not finish in time.
    EarlyDrop,
    /// It exceeds a limit.
    TooLarge,
    /// The server is shutting down.
    Draining,
    /// The model fails too often.
    Circuit,
    /// Its sender has used up its share.
    Tenant,
}

impl Reject {
    /// Every reason.
    pub const ALL: [Reject; 7] = [
        Reject::QueueFull,
        Reject::Deadline,
        Reject::EarlyDrop,
        Reject::TooLarge,
        Reject::Draining,
        Reject::Circuit,
        Reject::Tenant,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Reject::QueueFull => "queue_full",
            Reject::Deadline => "deadline",
            Reject::EarlyDrop => "early_drop",
            Reject::TooLarge => "too_large",
            Reject::Draining => "draining",
            Reject::Circuit => "circuit",
            Reject::Tenant => "tenant",
        }
    }
}

/// What all versions of a model share. Hold it for as long as the model exists.
#[derive(Debug)]
pub struct ModelSeries {
    name: Box<str>,
    queued: Level,
    queue_rows: OnceLock<Gauge>,
    rejected: [OnceLock<Counter>; Reject::ALL.len()],
    /// Failed, ok.
    loads: [OnceLock<Counter>; 2],
    group: Group,
}

impl ModelSeries {
    pub(super) fn new(name: &str, budget: &Arc<Budget>) -> Self {
        Self {
            name: name.into(),
            queued: Level::default(),
            queue_rows: OnceLock::new(),
            rejected: Default::default(),
            loads: Default::default(),
            group: Group::new(budget),
        }
    }

    /// A request was turned away.
    pub fn rejected(&self, reason: Reject) {
        let counter = || self.group.counter(&names::REJECTED, &[&self.name, reason.as_str()]);
        self.rejected[reason as usize].get_or_init(counter).increment(1);
    }

    /// A version was loaded, or refused.
    pub fn load(&self, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        let counter = || self.group.counter(&names::MODEL_LOADS, &[&self.name, result]);
        self.loads[usize::from(ok)].get_or_init(counter).increment(1);
    }

    /// Rows that wait now, over all versions.
    pub fn queued(&self) -> u64 {
        self.queued.get()
    }

    pub(super) fn is(&self, name: &str) -> bool {
        *self.name == *name
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        if let Some(gauge) = self.queue_rows.get() {
            gauge.set(self.queued() as f64);
        }
        self.group.collect(out);
    }

    /// Shows the queue's length from now on, also while it is empty.
    fn show_queue(&self) {
        self.queue_rows.get_or_init(|| self.group.gauge(&names::QUEUE_ROWS, &[&self.name]));
    }
}

/// What a servable is described by in `weir_model_info`.
#[derive(Debug)]
pub(super) struct Info<'a> {
    pub(super) id: &'a ServableId,
    pub(super) engine: &'a str,
    pub(super) digest: &'a str,
    pub(super) score: Option<ResolvedScore>,
}

/// What belongs to the process and is shared by all series.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) budget: Arc<Budget>,
    pub(super) executed_expired: Counter,
    pub(super) shadow_stuck: Counter,
    pub(super) worker_stuck: Counter,
    pub(super) shadow_off: Gauge,
    /// An instant and what the wall clock said then, in milliseconds since the epoch.
    pub(super) epoch: (Instant, u64),
}

impl Shared {
    /// Nanoseconds from the epoch instant to another, at least 1.
    pub(super) fn since_epoch(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch.0)).max(1)
    }

    /// What the wall clock said so many nanoseconds after the epoch instant, in milliseconds since the epoch; 0 for 0.
    pub(super) fn wall_clock(&self, nanos: u64) -> u64 {
        if nanos == 0 { 0 } else { self.epoch.1 + nanos / 1_000_000 }
    }
}

/// One thread's part of what is known about answered requests.
#[derive(Debug, Default)]
struct Answered {
    phases: [Times; Phase::ALL.len()],
    rows: AtomicU64,
    /// Nanoseconds in `phases` that belong to no request: inner runs of routes.
    inner: AtomicU64,
    /// When the last one was, in nanoseconds after the epoch instant; 0 = never.
    last: AtomicU64,
}

/// The series of a loaded version. Hold it for as long as the version is loaded.
#[derive(Debug)]
pub struct ServableSeries {
    id: ServableId,
    model: Arc<ModelSeries>,
    answered: Lanes<Answered>,
    /// Per phase: may it be shown?
    phases: [Option<Permit>; Phase::ALL.len()],
    batches: Batches,
    failed: (AtomicU64, AtomicU64),
    circuit: OnceLock<Gauge>,
    tenants: OnceLock<Gauge>,
    score: Option<Arc<ResolvedScore>>,
    scores: Arc<ScoreSeries>,
    variants: Mutex<Vec<(Box<str>, Weak<ScoreSeries>)>>,
    group: Group,
    shared: Shared,
}

impl ServableSeries {
    pub(super) fn new(info: Info<'_>, model: Arc<ModelSeries>, shared: &Shared) -> Self {
        let budget = &shared.budget;
        let group = Group::new(budget);
        let labels = [info.id.model.as_str(), &info.id.version.to_string(), info.engine, info.digest];
        group.gauge(&names::MODEL_INFO, &labels).set(1.0);
        model.show_queue();
        let score = info.score.map(Arc::new);
        Self {
            id: info.id.clone(),
            model,
            answered: Lanes::default(),
            phases: std::array::from_fn(|_| Permit::take(budget)),
            batches: Batches::new(budget),
            failed: (AtomicU64::new(0), AtomicU64::new(0)),
            circuit: OnceLock::new(),
            tenants: OnceLock::new(),
            scores: Arc::new(ScoreSeries::new(info.id.clone(), "", score.clone(), budget)),
            score,
            variants: Mutex::new(Vec::new()),
            group,
            shared: shared.clone(),
        }
    }

    /// A batch of `rows` rows was run; how long its rows took to be gathered, computed and scattered.
    pub fn batch_ran(&self, rows: usize, gather: Duration, compute: Duration, scatter: Duration) {
        self.batches.ran(rows, [nanos(gather), nanos(compute), nanos(scatter)]);
    }

    /// A request of `rows` rows was answered: `encoded` is when its answer was ready to be sent.
    pub fn request_answered(&self, stamps: &Stamps, encoded: Instant, rows: usize) {
        let Stamps { received, queued, taken, gathered, computed, scattered } = *stamps;
        let points = [received, queued, taken, gathered, computed, scattered, encoded];
        let (mine, writer) = self.answered.mine(Answered::default);
        for (times, gap) in mine.phases.iter().zip(points.windows(2)) {
            times.record(writer, gap[1].saturating_duration_since(gap[0]));
        }
        writer.add(&mine.rows, rows as u64);
        mine.last.store(self.shared.since_epoch(encoded), Relaxed);
    }

    /// A part of a route of `rows` rows was answered: it counts in the phases from queue to scatter and in the rows
    /// answered, and is no request.
    pub fn inner_answered(&self, stamps: &Stamps, rows: usize) {
        let Stamps { queued, taken, gathered, computed, scattered, .. } = *stamps;
        let points = [queued, taken, gathered, computed, scattered];
        let (mine, writer) = self.answered.mine(Answered::default);
        for (times, gap) in mine.phases[Phase::Queue as usize..].iter().zip(points.windows(2)) {
            let gap = gap[1].saturating_duration_since(gap[0]);
            times.record(writer, gap);
            writer.add(&mine.inner, nanos(gap));
        }
        writer.add(&mine.rows, rows as u64);
        mine.last.store(self.shared.since_epoch(scattered), Relaxed);
    }

    /// A request failed in the model after this long.
    pub fn request_failed(&self, duration: Duration) {
        self.failed.0.fetch_add(1, Relaxed);
        self.failed.1.fetch_add(nanos(duration), Relaxed);
    }

    /// Rows entered the queue.
    pub fn queued(&self, rows: usize) {
        self.model.queued.raise(rows as u64);
    }

    /// Rows left the queue, in whatever way.
    pub fn unqueued(&self, rows: usize) {
        self.model.queued.lower(rows as u64);
    }

    /// A request was turned away without being executed.
    pub fn rejected(&self, reason: Reject) {
        self.model.rejected(reason);
    }

    /// A request was executed although its deadline had passed.
    pub fn executed_expired(&self) {
        self.shared.executed_expired.increment(1);
    }

    /// A worker was given up because its run of this version does not end.
    pub fn worker_stuck(&self) {
        self.shared.worker_stuck.increment(1);
    }

    /// The version's circuit is closed (0), half open (1) or open (2) now.
    pub fn circuit(&self, state: u8) {
        self.circuit.get_or_init(|| self.gauge(&names::CIRCUIT)).set(f64::from(state));
    }

    /// So many tenants have rows waiting now.
    pub fn tenants(&self, count: usize) {
        self.tenants.get_or_init(|| self.gauge(&names::QUEUE_TENANTS)).set(count as f64);
    }

    fn gauge(&self, family: &'static names::Family) -> Gauge {
        self.group.gauge(family, &[self.id.model.as_str(), &self.id.version.to_string()])
    }

    /// A run as somebody's shadow was given up because it does not end.
    pub fn shadow_stuck(&self) {
        self.shared.shadow_stuck.increment(1);
    }

    /// Shadows have been switched off for the rest of the process.
    pub fn shadow_off(&self) {
        self.shared.shadow_off.set(1.0);
    }

    /// What all versions of the model share.
    pub fn model(&self) -> &Arc<ModelSeries> {
        &self.model
    }

    /// Which output holds the score, if any does.
    pub fn score(&self) -> Option<&ResolvedScore> {
        self.score.as_deref()
    }

    /// Records every row of an answer's score output, for a request that came by no split.
    pub fn record_scores(&self, output: &Tensor) {
        self.scores.record(output);
    }

    /// The score series of a variant (`route/variant`, "" = none). It takes a lock: look it up when a route is set up, and
    /// hold it.
    pub fn scores(&self, variant: &str) -> Arc<ScoreSeries> {
        if variant.is_empty() {
            return Arc::clone(&self.scores);
        }
        let mut variants = self.variants.lock();
        variants.retain(|(_, series)| series.strong_count() > 0);
        let known = variants.iter().find(|(name, _)| **name == *variant).and_then(|(_, series)| series.upgrade());
        known.unwrap_or_else(|| {
            let series = ScoreSeries::new(self.id.clone(), variant, self.score.clone(), &self.shared.budget);
            let series = Arc::new(series);
            variants.push((variant.into(), Arc::downgrade(&series)));
            series
        })
    }

    /// The score series of every variant that somebody holds, first that of requests without one, then by name.
    pub fn every_scores(&self) -> Vec<Arc<ScoreSeries>> {
        let mut variants = self.variants.lock().clone();
        variants.sort_by(|(one, _), (other, _)| one.cmp(other));
        let held = variants.iter().filter_map(|(_, series)| series.upgrade());
        std::iter::once(Arc::clone(&self.scores)).chain(held).collect()
    }

    /// The statistics since the version was loaded.
    pub fn statistics(&self) -> ModelStatistics {
        let phase = |phase: Phase| times_tally(self.answered.iter().map(|lane| &lane.phases[phase as usize]));
        let total: u64 = Phase::ALL.iter().map(|each| phase(*each).ns).sum();
        let inner = self.answered.sum(|lane| &lane.inner);
        let last = self.answered.iter().map(|lane| lane.last.load(Relaxed)).max().unwrap_or(0);
        ModelStatistics {
            name: self.id.model.shared(),
            version: self.id.version.to_string().into(),
            last_inference: self.shared.wall_clock(last),
            inference_count: self.answered.sum(|lane| &lane.rows),
            execution_count: self.batches.count(),
            success: Tally { count: phase(Phase::Encode).count, ns: total.saturating_sub(inner) },
            fail: Tally { count: self.failed.0.load(Relaxed), ns: self.failed.1.load(Relaxed) },
            queue: phase(Phase::Queue),
            compute_input: phase(Phase::Gather),
            compute_infer: phase(Phase::Compute),
            compute_output: phase(Phase::Scatter),
            batches: self.batches.statistics(),
        }
    }

    /// Whose series these are.
    pub fn id(&self) -> &ServableId {
        &self.id
    }

    pub(super) fn collect(&self, out: &mut Exposition) {
        let (model, version) = (self.id.model.as_str(), self.id.version.to_string());
        for (phase, permit) in Phase::ALL.iter().zip(&self.phases) {
            if permit.is_some() {
                let snapshot = times_snapshot(self.answered.iter().map(|lane| &lane.phases[*phase as usize]));
                out.histogram(&names::PHASE_DURATION, &[model, &version, phase.as_str()], &snapshot);
            }
        }
        self.batches.collect(&[model, &version], out);
        self.group.collect(out);
        self.scores.collect(out);
        for (_, series) in self.variants.lock().iter() {
            if let Some(series) = series.upgrade() {
                series.collect(out);
            }
        }
    }
}
