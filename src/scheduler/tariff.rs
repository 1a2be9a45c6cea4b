//! What a servable's batches cost and how large they should be, kept up to date: the measured profile, what was worked out from
//! it last, and the few numbers that every request reads. Written by the compiling thread and after every run; read by lanes.

use std::{
    sync::Arc,
    sync::atomic::{
        AtomicBool, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    costs::{Costs, Runs, choose_limit, levelled_off},
    plans::Plans,
    profile::{Profile, sizes_up_to},
};
use crate::types::{BatchLimit, BatchingSpec, nanos};

/// The largest batch while nothing has been measured yet.
const UNMEASURED: usize = 16;
/// A hop to a worker is worth about so much work: batches of less are taken together, each run on its own.
const HOP: Duration = Duration::from_micros(100);
/// A large request is cut into pieces that take about so long, so that others get in between.
const PIECE: Duration = Duration::from_millis(10);
/// Sizes that the profile of a model tells apart that runs every request whole.
const WHOLE_SIZES: usize = 1 << 16;

/// Costs and limits of one servable.
#[derive(Debug)]
pub(crate) struct Tariff {
    profile: Profile,
    costs: ArcSwap<Costs>,
    /// Rows in the largest batch worth forming.
    limit: AtomicUsize,
    /// Rows to take from the queue at once.
    take: AtomicUsize,
    /// The dearest batch is cheap enough for the I/O threads.
    cheap: AtomicBool,
    warmed: AtomicBool,
    epoch: Instant,
    /// When a batch was last run, in nanoseconds after the epoch.
    ran: AtomicU64,
    merges: bool,
    batching: BatchLimit,
    most: usize,
    local_below: Duration,
}

impl Tariff {
    /// Of a servable that has nothing compiled but its first size. `merges`: batches may be split and padded; `given`: costs
    /// that are not to be measured.
    pub(crate) fn new(
        batching: &BatchingSpec,
        merges: bool,
        local_below: Duration,
        given: Option<fn(usize) -> Duration>,
    ) -> Self {
        let most = if merges { batching.limit() } else { 1 };
        let profile = Profile::new(sizes_up_to(if merges { most } else { WHOLE_SIZES }), given);
        let costs = if merges { Costs::of_sizes(&[1], Vec::new(), 1, None) } else { Costs::of_whole(Vec::new()) };
        let limit = match batching.max_batch_size {
            BatchLimit::Auto => most.min(UNMEASURED),
            BatchLimit::Rows(_) | BatchLimit::Whole => most,
        };
        Self {
            profile,
            costs: ArcSwap::from_pointee(costs),
            limit: AtomicUsize::new(limit),
            take: AtomicUsize::new(limit),
            cheap: AtomicBool::new(false),
            warmed: AtomicBool::new(false),
            epoch: Instant::now(),
            ran: AtomicU64::new(0),
            merges,
            batching: batching.max_batch_size,
            most,
            local_below,
        }
    }

    /// Rows in the largest batch worth forming.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Rows to take from the queue at once: the limit, or more where several batches are worth less than a hop.
    pub(crate) fn take(&self) -> usize {
        self.take.load(Relaxed)
    }

    /// The largest size that may ever be worth compiling.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// True when batches are to be run on the I/O threads.
    pub(crate) fn is_cheap(&self) -> bool {
        self.cheap.load(Relaxed)
    }

    /// True when the sizes off the path have been compiled and timed.
    pub(crate) fn is_warm(&self) -> bool {
        self.warmed.load(Acquire)
    }

    /// The sizes of the runs for a batch of so many rows.
    pub(crate) fn runs(&self, rows: usize) -> Runs {
        self.costs.load().runs(rows)
    }

    /// What a batch of so many rows takes; `None` before anything has been measured.
    pub(crate) fn cost(&self, rows: usize) -> Option<Duration> {
        self.costs.load().cost(rows)
    }

    /// What is worked out now, for several questions at once.
    pub(crate) fn costs(&self) -> arc_swap::Guard<Arc<Costs>> {
        self.costs.load()
    }

    /// A batch is being run.
    pub(crate) fn ran(&self, now: Instant) {
        self.ran.store(self.since_epoch(now), Relaxed);
    }

    /// How long nothing has been run.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.since_epoch(now).saturating_sub(self.ran.load(Relaxed)))
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// Rows of the pieces that a request of so many rows is cut into, to be spread over `parallel` workers.
    pub(crate) fn piece(&self, rows: usize, parallel: usize) -> usize {
        let take = self.take();
        if rows <= take {
            return take;
        }
        // Without knowing better: the limit.
        let affordable = self.cost(take).map_or(take, |cost| {
            let times = PIECE.as_nanos() / cost.as_nanos().max(1);
            take.saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        });
        affordable.min(rows.div_ceil(parallel.max(1))).max(take).next_multiple_of(take.max(1))
    }

    /// True when still larger sizes are not worth trying.
    pub(crate) fn levelled_off(&self) -> bool {
        levelled_off(&self.profile.publish())
    }

    /// What runs cost, as measured: (rows, run time), ascending.
    pub(crate) fn table(&self) -> Vec<(usize, Duration)> {
        self.profile.table()
    }

    /// Notes what a run of `rows` rows took; works everything out anew when that is news.
    pub(crate) fn record(&self, rows: usize, took: Duration, plans: &Plans) {
        if self.profile.record(rows, took) {
            self.work_out(plans);
        }
    }

    /// Notes the first measurement of a size.
    pub(crate) fn measured(&self, rows: usize, took: Duration, plans: &Plans) {
        self.profile.set(rows, took);
        self.work_out(plans);
    }

    /// All sizes worth having have been compiled and timed. Drops those that turned out not to be.
    pub(crate) fn finish(&self, plans: &Plans) {
        self.work_out(plans);
        if self.merges && self.batching == BatchLimit::Auto {
            plans.keep_up_to(self.limit());
        }
        self.warmed.store(true, Release);
        self.work_out(plans);
    }

    /// Works out covers and limits from the profile and what is compiled. Two threads that do so at once do no harm: the next
    /// change comes as surely as the next batch.
    fn work_out(&self, plans: &Plans) {
        let mut curve = self.profile.publish();
        if !self.merges {
            let dearest = curve.iter().map(|(_, nanos)| *nanos).max();
            self.judge(dearest.map(Duration::from_nanos));
            self.costs.store(Costs::of_whole(curve).into());
            return;
        }
        let sizes = plans.sizes();
        curve.retain(|(size, _)| sizes.contains(size));
        let limit = match self.batching {
            BatchLimit::Auto if curve.is_empty() => self.most.min(UNMEASURED),
            BatchLimit::Auto => choose_limit(&curve, self.local_below),
            BatchLimit::Rows(_) | BatchLimit::Whole => self.most,
        };
        let largest = sizes.last().copied().unwrap_or(1);
        let before = self.costs.load();
        let before = self.is_warm().then_some(&**before);
        let costs = Costs::of_sizes(&sizes, curve, largest.min(self.most), before);
        let mut take = limit;
        if self.batching == BatchLimit::Auto {
            while costs.cost(take * 2).is_some_and(|cost| cost <= HOP) && take < self.most {
                take *= 2;
            }
        }
        self.judge(costs.cost(take));
        self.costs.store(costs.into());
        self.limit.store(limit, Relaxed);
        self.take.store(take, Relaxed);
    }

    /// Decides about the lane by the dearest batch.
    fn judge(&self, dearest: Option<Duration>) {
        self.cheap.store(self.is_warm() && dearest.is_some_and(|cost| cost < self.local_below), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        Model,
        fake::{FakeEngine, Script},
    };

    fn plans(sizes: &[usize]) -> Plans {
        let model: Arc<dyn Model> = FakeEngine::new(Script::default(), 1).model().into();
        let plans = Plans::new(model, true, 0).unwrap();
        sizes.iter().for_each(|size| drop(plans.add(*size).unwrap()));
        plans
    }

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Ten microseconds and one a row.
    fn tree(rows: usize) -> Duration {
        us(10 + rows as u64)
    }

    /// A millisecond a row.
    fn linear(rows: usize) -> Duration {
        us(1000 * rows as u64)
    }

    #[test]
    fn auto_grows_to_what_is_measured_and_drops_the_rest() {
        let plans = plans(&[2, 4, 8, 16, 32, 64, 128]);
        let tariff = Tariff::new(&BatchingSpec::default(), true, Duration::ZERO, Some(tree));
        assert_eq!((tariff.limit(), tariff.cost(1)), (16, None));
        tariff.finish(&plans);
        assert_eq!((tariff.limit(), tariff.take(), tariff.is_cheap()), (128, 128, false));
        assert_eq!(tariff.runs(100).as_slice(), [64, 32, 4]);
        assert_eq!(tariff.cost(1), Some(us(11)));
        let tariff = Tariff::new(&BatchingSpec::default(), true, us(100), Some(tree));
        tariff.finish(&plans);
        assert_eq!((tariff.limit(), tariff.is_cheap()), (64, true), "kept cheap enough for the I/O threads");
        assert_eq!(plans.sizes(), [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn where_one_row_is_best_the_limit_is_one() {
        let plans = plans(&[2, 4]);
        let tariff = Tariff::new(&BatchingSpec::default(), true, us(100), Some(linear));
        tariff.finish(&plans);
        assert_eq!((tariff.limit(), tariff.take(), tariff.is_cheap()), (1, 1, false));
        // A large request is spread over the workers in pieces that leave room for others.
        assert_eq!([tariff.piece(1, 2), tariff.piece(8, 2), tariff.piece(1000, 2)], [1, 4, 10]);
        let micro = |rows: usize| us(8 * rows as u64);
        let tariff = Tariff::new(&BatchingSpec::default(), true, us(100), Some(micro));
        tariff.finish(&plans);
        assert_eq!((tariff.limit(), tariff.take(), tariff.is_cheap()), (1, 8, true), "several in one hop");
        assert_eq!(tariff.runs(8).as_slice(), [1; 8]);
    }

    #[test]
    fn a_number_is_kept_and_runs_are_the_cheapest_all_the_same() {
        let plans = plans(&[2, 4, 6]);
        let batching = BatchingSpec { max_batch_size: BatchLimit::Rows(6), ..BatchingSpec::default() };
        let tariff = Tariff::new(&batching, true, us(100), Some(linear));
        tariff.finish(&plans);
        assert_eq!((tariff.limit(), tariff.take()), (6, 6));
        assert_eq!(tariff.cost(6), Some(us(6000)));
        assert_eq!(plans.sizes(), [1, 2, 4, 6]);
    }

    #[test]
    fn what_runs_take_is_followed() {
        let plans = plans(&[2]);
        let batching = BatchingSpec { max_batch_size: BatchLimit::Rows(2), ..BatchingSpec::default() };
        let tariff = Tariff::new(&batching, true, us(100), None);
        tariff.finish(&plans);
        assert_eq!((tariff.cost(1), tariff.is_cheap()), (None, false));
        tariff.record(1, us(10), &plans);
        tariff.record(2, us(30), &plans);
        assert!(tariff.is_cheap());
        assert_eq!(tariff.runs(2).as_slice(), [1, 1]);
        for _ in 0..60 {
            tariff.record(1, us(25), &plans);
        }
        assert_eq!(tariff.runs(2).as_slice(), [2]);
        for _ in 0..60 {
            tariff.record(1, us(400), &plans);
            tariff.record(2, us(500), &plans);
        }
        assert!(!tariff.is_cheap());
    }

    #[test]
    fn a_model_that_runs_whole_has_a_profile_too() {
        let plans = plans(&[]);
        let tariff = Tariff::new(&BatchingSpec::default(), false, us(100), None);
        tariff.finish(&plans);
        tariff.record(1, us(10), &plans);
        tariff.record(64, us(80), &plans);
        assert_eq!((tariff.limit(), tariff.runs(7).as_slice()), (1, [7].as_slice()));
        assert_eq!(tariff.cost(32), Some(us(10) + us(70) * 31 / 63));
        assert!(tariff.is_cheap());
    }
}
