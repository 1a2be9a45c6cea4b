//! Counters and gauges that live and die together, and the limit on how many series there may be. The exporter's recorder
//! never forgets a series, so everything with a lifetime of its own (a loaded version, a model, a name asked for) has a
//! recorder of its own; dropping the group drops its series. Made by `Metrics` and by the series.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::{
    names::Family,
    render::{Exposition, key},
};

static METADATA: Metadata<'static> = Metadata::new("weir", Level::INFO, None);

/// How many series are shown, over all groups. A histogram counts as one.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    live: AtomicUsize,
    dropped: Counter,
}

impl Budget {
    /// `dropped` counts the series that did not fit.
    pub(super) fn new(limit: usize, dropped: Counter) -> Self {
        Self { limit, live: AtomicUsize::new(0), dropped }
    }

    fn take(&self) -> bool {
        let fits = self.live.fetch_update(Relaxed, Relaxed, |live| (live < self.limit).then_some(live + 1)).is_ok();
        if !fits {
            self.dropped.increment(1);
        }
        fits
    }
}

/// A right to show one series, given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<Budget>);

impl Permit {
    /// `None` when the limit has been reached, which is counted.
    pub(super) fn take(budget: &Arc<Budget>) -> Option<Self> {
        budget.take().then(|| Self(Arc::clone(budget)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Relaxed);
    }
}

/// A right to show one series that is asked for once there is something to show.
#[derive(Debug, Default)]
pub(super) struct LazyPermit(OnceLock<Option<Permit>>);

impl LazyPermit {
    /// True when the series may be shown, which does not change any more.
    pub(super) fn granted(&self, budget: &Arc<Budget>) -> bool {
        self.0.get_or_init(|| Permit::take(budget)).is_some()
    }
}

/// Counters and gauges with one lifetime.
#[derive(Debug)]
pub(super) struct Group {
    recorder: PrometheusRecorder,
    budget: Arc<Budget>,
    taken: AtomicUsize,
}

impl Group {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        Self { recorder, budget: Arc::clone(budget), taken: AtomicUsize::new(0) }
    }

    /// A counter; one that goes nowhere when the limit on series has been reached.
    pub(super) fn counter(&self, family: &'static Family, labels: &[&str]) -> Counter {
        if self.take() { counter(&self.recorder, family, labels) } else { Counter::noop() }
    }

    /// A gauge; one that goes nowhere when the limit on series has been reached.
    pub(super) fn gauge(&self, family: &'static Family, labels: &[&str]) -> Gauge {
        if self.take() { self.recorder.register_gauge(&key(family, labels), &METADATA) } else { Gauge::noop() }
    }

    /// Adds the group's series to what is rendered.
    pub(super) fn collect(&self, out: &mut Exposition) {
        out.recorder(&self.recorder.handle());
    }

    fn take(&self) -> bool {
        let fits = self.budget.take();
        if fits {
            self.taken.fetch_add(1, Relaxed);
        }
        fits
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.budget.live.fetch_sub(*self.taken.get_mut(), Relaxed);
    }
}

/// A counter outside every limit: for the recorder of the process itself.
pub(super) fn counter(recorder: &PrometheusRecorder, family: &'static Family, labels: &[&str]) -> Counter {
    recorder.register_counter(&key(family, labels), &METADATA)
}

/// A gauge outside every limit: for the recorder of the process itself.
pub(super) fn gauge(recorder: &PrometheusRecorder, family: &'static Family) -> Gauge {
    recorder.register_gauge(&Key::from_parts(family.name, Vec::<Label>::new()), &METADATA)
}
