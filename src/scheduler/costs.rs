//! The cheapest way to run a batch with the sizes that are compiled, what it costs, and how large batches should be: pure
//! functions of a measured profile. Worked out when a profile has moved, read for every batch.

use std::time::Duration;

use smallvec::SmallVec;

use crate::types::nanos;

/// A larger batch must improve the rows per second by this much (a twentieth) to be worth forming, and padding must save as
/// much to be worth doing.
const WORTH: (u128, u128) = (21, 20);
/// Another way to run a batch must be cheaper by this share of its cost (a quarter) to replace the one in use: batches of one
/// size are to give the same bits, and measurements waver.
const CLEARLY: (u128, u128) = (5, 4);
/// When batches of this many rows are cheap enough for an I/O thread, larger ones are only formed as long as they are.
const LOCAL_ROWS: usize = 8;

/// Sizes of the runs that make up a batch, largest first; the last one is padded when together they are more than the batch.
pub(crate) type Runs = SmallVec<[usize; 4]>;

/// A batch of some number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cover {
    nanos: u64,
    runs: Runs,
}

/// What batches cost and how they are run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    /// By rows, from 0 to the largest compiled size within the limit. Empty for models that run whole.
    covers: Vec<Cover>,
    /// Measured (rows, nanoseconds), ascending.
    curve: Vec<(usize, u64)>,
}

impl Costs {
    /// For a model whose batches may be split and padded: `sizes` are compiled (ascending, 1 first), `curve` has what is
    /// measured. A batch is run as `before` as long as nothing clearly cheaper is found.
    pub(crate) fn of_sizes(sizes: &[usize], curve: Vec<(usize, u64)>, limit: usize, before: Option<&Self>) -> Self {
        // Without a measurement every row costs the same, so that the fewest runs win.
        let known = |size: usize| if curve.is_empty() { size as u64 } else { interpolate(&curve, size) };
        // A run of more rows is not cheaper, whatever a disturbed measurement says.
        let rising = sizes.iter().scan(0, |most: &mut u64, size| {
            *most = known(*size).max(*most);
            Some((*size, *most))
        });
        let sizes: Vec<(usize, u64)> = rising.collect();
        let before = before.map_or(&[][..], |before| &before.covers);
        Self { covers: cover(&sizes, limit, before), curve }
    }

    /// For a model that runs every request whole.
    pub(crate) fn of_whole(curve: Vec<(usize, u64)>) -> Self {
        Self { covers: Vec::new(), curve }
    }

    /// The sizes of the runs for a batch of so many rows. Beyond the table, the largest batch is repeated.
    pub(crate) fn runs(&self, rows: usize) -> Runs {
        let Some(largest) = self.covers.last().filter(|_| self.covers.len() > 1) else {
            return Runs::from_slice(&[rows]);
        };
        match self.covers.get(rows) {
            Some(cover) => cover.runs.clone(),
            None => {
                let most = self.covers.len() - 1;
                let full = (0..rows / most).flat_map(|_| largest.runs.iter().copied());
                full.chain(self.covers.get(rows % most).into_iter().flat_map(|rest| rest.runs.iter().copied()))
                    .collect()
            }
        }
    }

    /// What a batch of so many rows takes; `None` before anything has been measured.
    pub(crate) fn cost(&self, rows: usize) -> Option<Duration> {
        if self.curve.is_empty() {
            return None;
        }
        let Some(largest) = self.covers.last().filter(|_| self.covers.len() > 1) else {
            return Some(Duration::from_nanos(interpolate(&self.curve, rows)));
        };
        let nanos = match self.covers.get(rows) {
            Some(cover) => cover.nanos,
            None => {
                let most = self.covers.len() - 1;
                let rest = self.covers.get(rows % most).map_or(0, |rest| rest.nanos);
                largest.nanos.saturating_mul((rows / most) as u64).saturating_add(rest)
            }
        };
        Some(Duration::from_nanos(nanos))
    }
}

/// The cheapest cover of every number of rows up to the limit: a dynamic programme over the last run. Every number is covered
/// exactly, or with the last run padded where that is clearly cheaper. Among equals the fewest runs win. What was done `before`
/// is kept unless the new way is clearly cheaper.
fn cover(sizes: &[(usize, u64)], limit: usize, kept: &[Cover]) -> Vec<Cover> {
    let mut covers = vec![Cover::default()];
    for rows in 1..=limit {
        let exact = sizes.iter().filter(|(size, _)| *size <= rows).filter_map(|(size, nanos)| {
            let before: &Cover = covers.get(rows - size)?;
            Some((before.nanos.saturating_add(*nanos), before.runs.len() + 1, rows - size, *size))
        });
        let padded = sizes.iter().filter(|(size, _)| *size > rows).map(|(size, nanos)| {
            let (worth, whole) = WORTH;
            (u64::try_from(u128::from(*nanos) * worth / whole).unwrap_or(u64::MAX), 1, 0, *size)
        });
        let Some((_, _, before, size)) = exact.chain(padded).min() else { break };
        let nanos = price(sizes, &[size]).unwrap_or(0);
        let mut cover = covers.get(before).cloned().unwrap_or_default();
        cover.nanos = cover.nanos.saturating_add(nanos);
        let at = cover.runs.partition_point(|run| *run >= size);
        cover.runs.insert(at, size);
        let old =
            kept.get(rows).and_then(|old| Some(Cover { nanos: price(sizes, &old.runs)?, runs: old.runs.clone() }));
        let (clearly, whole) = CLEARLY;
        let still = |old: &Cover| u128::from(old.nanos) * whole <= u128::from(cover.nanos) * clearly;
        let cover = old.filter(still).unwrap_or(cover);
        covers.push(cover);
    }
    covers
}

/// What runs take together; `None` when one of them is of a size that is not compiled any more.
fn price(sizes: &[(usize, u64)], runs: &[usize]) -> Option<u64> {
    let one = |run: &usize| sizes.iter().find(|(size, _)| size == run).map(|(_, nanos)| *nanos);
    runs.iter().try_fold(0_u64, |sum, run| Some(sum.saturating_add(one(run)?)))
}

/// What a run of `rows` rows would take: on the line between the two sizes measured around it; beyond the largest as many rows
/// per second as that; below the smallest as much as that.
fn interpolate(curve: &[(usize, u64)], rows: usize) -> u64 {
    let above = curve.partition_point(|(size, _)| *size < rows);
    let scaled = |nanos: u64, by: usize, of: usize| {
        u64::try_from(u128::from(nanos) * by as u128 / of.max(1) as u128).unwrap_or(u64::MAX)
    };
    match (above.checked_sub(1).and_then(|below| curve.get(below)), curve.get(above)) {
        (_, Some((size, nanos))) if *size == rows => *nanos,
        (None, Some((_, nanos))) => *nanos,
        (Some((size, nanos)), None) => scaled(*nanos, rows, *size),
        (Some((low, from)), Some((high, to))) => {
            let (part, span) = (rows - low, high - low);
            scaled(*to, part, span).saturating_add(scaled(*from, span - part, span))
        }
        (None, None) => 0,
    }
}

/// The batch limit that a profile speaks for: the largest size at which the rows per second still improve by a twentieth on the
/// best smaller size. Batches that an I/O thread can run in place (below `local_below`) are kept so.
pub(crate) fn choose_limit(curve: &[(usize, u64)], local_below: Duration) -> usize {
    let local_below = nanos(local_below);
    let cheap = curve.iter().take_while(|(_, nanos)| *nanos < local_below).last().map_or(0, |(size, _)| *size);
    let most = if cheap >= LOCAL_ROWS { cheap } else { usize::MAX };
    let mut best: Option<(usize, u64)> = None;
    for (size, nanos) in curve.iter().copied().filter(|(size, _)| *size <= most) {
        if best.is_none_or(|best| improves(best, (size, nanos))) {
            best = Some((size, nanos));
        }
    }
    best.map_or(1, |(size, _)| size)
}

/// Whether the rows per second at `next` are better than at `best` by enough.
fn improves(best: (usize, u64), next: (usize, u64)) -> bool {
    let (worth, whole) = WORTH;
    next.0 as u128 * u128::from(best.1) * whole >= best.0 as u128 * u128::from(next.1) * worth
}

/// True when the two largest sizes measured no longer improve on the best below them: still larger ones are not worth trying.
pub(crate) fn levelled_off(curve: &[(usize, u64)]) -> bool {
    let Some((below, [one, two])) = curve.split_last_chunk::<2>() else { return false };
    let best = below.iter().copied().reduce(|best, next| if improves(best, next) { next } else { best });
    best.is_some_and(|best| !improves(best, *one) && !improves(best, *two))
}

#[cfg(test)]
#[path = "costs_tests.rs"]
mod tests;
