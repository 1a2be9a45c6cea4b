//! Chooses the thresholds of a cascade from labelled rows, with a guarantee about what is lost against asking the last stage
//! alone. Pure; called by `weir calibrate`, which runs the stages and writes the result.
//!
//! A row that stage s answers is *harmed* if s is wrong where the rest of the cascade would have been right, and *gained* if it
//! is the other way round. Both methods state, with probability 1 - delta over the labelled rows, a bound alpha for rows drawn
//! like them:
//!
//! - [`Method::Harm`]: the share of harmed rows is at most alpha, and so is the loss of accuracy. That share can only grow when a
//!   threshold falls, so thresholds are lowered until the exact binomial bound of the share would exceed alpha, and nothing is
//!   paid for having looked at many of them (risk-controlling prediction sets, Bates et al., 2021).
//! - [`Method::Net`]: the loss of accuracy, harmed less gained, is at most alpha. It may rise and fall, so thresholds of a grid
//!   that is fixed beforehand are tested from the highest down, and the first that cannot be shown to be safe ends it
//!   (fixed-sequence testing as in Learn then Test, Angelopoulos et al., 2021). More rows stay with cheap stages.
//!
//! With several thresholds each gets an equal part of alpha and of delta, which add up again. Harm is then counted against the
//! last stage alone and for every row that the stage would keep, whether or not it gets there, so that a stage's share depends on
//! its own threshold only. Net is greedy from the last threshold to the first: a stage is tested against the rest of the cascade
//! as chosen so far, on rows that no other threshold was chosen on (every so many-th row of the file).

use super::tails::{binomial_at_most, difference_at_most};

pub use super::tails::{lower_bound, upper_bound};

/// What was seen on labelled rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    measures: Vec<Vec<f64>>,
    right: Vec<Vec<bool>>,
}

/// How the guarantee is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Exact bound of the share of harmed rows.
    Harm,
    /// Fixed-sequence test of the loss of accuracy.
    Net,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// The accuracy that may be lost against the last stage alone, above 0 and below 1.
    pub alpha: f64,
    /// The probability that more is lost, above 0 and at most a quarter.
    pub delta: f64,
    /// How it is shown.
    pub method: Method,
}

/// Why there are no thresholds.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not even rows without any error would show it.
    #[error(
        "rows: expected at least {needed}, got {rows}: with fewer, even no error at all would not show that less than \
         {alpha} is lost (ln {delta} / ln(1 - {alpha}) rows for each threshold that is tested)"
    )]
    TooFew {
        /// Rows needed.
        needed: u64,
        /// Rows there are.
        rows: u64,
        /// The loss of each threshold.
        alpha: f64,
        /// The risk of each threshold.
        delta: f64,
    },
    /// The surest rows are not good enough.
    #[error(
        "stage[{stage}]: no threshold can be shown to lose less than {alpha}: its surest rows, {rows} of measure {measure} and \
         above, have {harmed} that only later stages get right"
    )]
    NoThreshold {
        /// The stage, from 0.
        stage: usize,
        /// Its part of the loss.
        alpha: f64,
        /// How many rows its surest are.
        rows: usize,
        /// How sure it is of them.
        measure: f64,
        /// How many of them are harmed.
        harmed: usize,
    },
    /// The stage is sure of nothing.
    #[error("stage[{stage}]: expected measures between 0 and 1, got none for {rows} of {of} rows: too many go on")]
    NoMeasure {
        /// The stage, from 0.
        stage: usize,
        /// Rows without a usable measure.
        rows: usize,
        /// All rows that reach it.
        of: usize,
    },
}

/// What a cascade does with labelled rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Rows that each stage answers.
    pub answered: Vec<usize>,
    /// Rows that are answered rightly.
    pub right: usize,
    /// Rows answered wrongly that the last stage alone would answer rightly.
    pub harmed: usize,
    /// Rows answered rightly that the last stage alone would answer wrongly.
    pub gained: usize,
}

impl Labelled {
    /// `measures[stage][row]` of every stage but the last and `right[stage][row]` of every stage, all of as many rows. A
    /// threshold is between 0 and 1, so a measure above 1 counts as 1, and one below 0 as one that is never kept, like NaN.
    /// `None` when the lengths do not fit each other.
    pub fn new(mut measures: Vec<Vec<f64>>, right: Vec<Vec<bool>>) -> Option<Self> {
        let rows = right.first()?.len();
        let fits = measures.len() + 1 == right.len()
            && right.len() > 1
            && measures.iter().all(|stage| stage.len() == rows)
            && right.iter().all(|stage| stage.len() == rows);
        let usable = |measure: f64| if measure >= 0.0 { measure.min(1.0) } else { f64::NAN };
        measures.iter_mut().flatten().for_each(|measure| *measure = usable(*measure));
        fits.then_some(Self { measures, right })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.right.first().map_or(0, Vec::len)
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.right.len()
    }

    /// Rows that a stage alone answers rightly.
    pub fn right_alone(&self, stage: usize) -> usize {
        self.right[stage].iter().filter(|right| **right).count()
    }

    /// The stage that answers a row.
    fn answers(&self, row: usize, thresholds: &[f64]) -> usize {
        let keeps = |(measures, threshold): (&Vec<f64>, &f64)| measures[row] >= *threshold;
        self.measures.iter().zip(thresholds).position(keeps).unwrap_or(self.stages() - 1)
    }

    /// What the cascade with these thresholds does, one for every stage but the last.
    pub fn outcome(&self, thresholds: &[f64]) -> Outcome {
        let last = self.stages() - 1;
        let mut outcome = Outcome { answered: vec![0; self.stages()], right: 0, harmed: 0, gained: 0 };
        for row in 0..self.rows() {
            let stage = self.answers(row, thresholds);
            let (right, reference) = (self.right[stage][row], self.right[last][row]);
            outcome.answered[stage] += 1;
            outcome.right += usize::from(right);
            outcome.harmed += usize::from(!right && reference);
            outcome.gained += usize::from(right && !reference);
        }
        outcome
    }

    /// Thresholds that hold a promise.
    ///
    /// # Errors
    /// `TooFew`, `NoThreshold`.
    pub fn promise(&self, promise: Promise) -> Result<Vec<f64>, Refusal> {
        let gates = self.measures.len();
        let (alpha, delta) = (promise.alpha / gates as f64, promise.delta / gates as f64);
        let tested = match promise.method {
            Method::Harm => 1,
            Method::Net => gates,
        };
        let (needed, rows) = (least_rows(alpha, delta) * tested as u64, self.rows() as u64);
        if rows < needed {
            return Err(Refusal::TooFew { needed, rows, alpha, delta });
        }
        let last = &self.right[gates];
        let mut rest = last.clone();
        let mut thresholds = vec![1.0; gates];
        for stage in (0..gates).rev() {
            let (measures, right) = (&self.measures[stage], &self.right[stage]);
            let threshold = match promise.method {
                Method::Harm => {
                    let rows = Rows::new(measures, right, last, 0..self.rows());
                    rows.lowest_by_harm(alpha, delta).ok_or_else(|| rows.none(stage, alpha))?
                }
                Method::Net => {
                    let rows = Rows::new(measures, right, &rest, (stage..self.rows()).step_by(gates));
                    rows.lowest_by_net(alpha, delta).ok_or_else(|| rows.none(stage, alpha))?
                }
            };
            thresholds[stage] = threshold;
            for (row, rest) in rest.iter_mut().enumerate().filter(|(row, _)| measures[*row] >= threshold) {
                *rest = right[row];
            }
        }
        Ok(thresholds)
    }

    /// Thresholds with which at most this share, 0 to 1, of the rows that reach a stage goes on from it. Nothing is promised
    /// about what is lost.
    ///
    /// # Errors
    /// `NoMeasure`.
    pub fn share(&self, share: f64) -> Result<Vec<f64>, Refusal> {
        let mut thresholds = Vec::new();
        let mut reached: Vec<usize> = (0..self.rows()).collect();
        for (stage, measures) in self.measures.iter().enumerate() {
            let mut sorted: Vec<f64> = reached.iter().map(|row| measures[*row]).filter(|m| !m.is_nan()).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let unusable = reached.len() - sorted.len();
            let may_go_on = (share * reached.len() as f64) as usize;
            let Some(at) = may_go_on.checked_sub(unusable) else {
                return Err(Refusal::NoMeasure { stage, rows: unusable, of: reached.len() });
            };
            let threshold = sorted.get(at).map_or(1.0, |value| {
                let lower = sorted[..at].iter().rev().find(|lower| *lower < value);
                between(lower.copied(), *value)
            });
            reached.retain(|row| measures[*row].is_nan() || measures[*row] < threshold);
            thresholds.push(threshold);
        }
        Ok(thresholds)
    }

    /// Up to `points` thresholds of the first stage, from the highest down, at about equal steps of the rows that it answers;
    /// each with what the cascade then does. The other thresholds stay.
    pub fn curve(&self, thresholds: &[f64], points: usize) -> Vec<(f64, Outcome)> {
        let mut sorted: Vec<f64> = self.measures[0].iter().copied().filter(|measure| !measure.is_nan()).collect();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut steps: Vec<f64> = Vec::new();
        let places = (1..=points).map(|point| (sorted.len() * point).div_ceil(points.max(1)));
        for place in places.filter(|place| *place > 0) {
            let value = sorted[place - 1];
            let lower = sorted[place..].iter().find(|lower| **lower < value);
            steps.push(between(lower.copied(), value));
        }
        steps.dedup();
        let mut others = thresholds.to_vec();
        let outcome = |step: f64| {
            if let Some(first) = others.first_mut() {
                *first = step;
            }
            (step, self.outcome(&others))
        };
        steps.into_iter().map(outcome).collect()
    }
}

/// Rows that one threshold is chosen on, from the surest down.
struct Rows {
    /// Measure; 1 = harmed, -1 = gained, 0 = neither.
    sorted: Vec<(f64, i8)>,
    count: u64,
}

impl Rows {
    fn new(measures: &[f64], right: &[bool], rest: &[bool], rows: impl Iterator<Item = usize>) -> Self {
        let effect = |row: usize| i8::from(rest[row]) - i8::from(right[row]);
        let all: Vec<(f64, i8)> = rows.map(|row| (measures[row], effect(row))).collect();
        let count = all.len() as u64;
        let mut sorted: Vec<_> = all.into_iter().filter(|(measure, _)| !measure.is_nan()).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        Self { sorted, count }
    }

    /// The lowest threshold at which the exact bound of the share of harmed rows is at most `alpha`; rows of one measure stay
    /// together.
    fn lowest_by_harm(&self, alpha: f64, delta: f64) -> Option<f64> {
        // The bound depends on the count only: it is at most alpha if so few have at most the probability delta under alpha.
        let fits = |harmed: u64| binomial_at_most(harmed, self.count, alpha) <= delta;
        let mut harmed = 0;
        let mut lowest = None;
        let mut groups = self.sorted.chunk_by(|a, b| a.0 == b.0).peekable();
        while let Some(group) = groups.next() {
            let more = group.iter().filter(|(_, effect)| *effect > 0).count() as u64;
            harmed += more;
            if (more > 0 || lowest.is_none()) && !fits(harmed) {
                break;
            }
            lowest = Some(between(groups.peek().map(|next| next[0].0), group[0].0));
        }
        lowest
    }

    /// The lowest threshold of the grid down to which every one is shown to lose less than `alpha`; `None` also when no row is
    /// kept there.
    fn lowest_by_net(&self, alpha: f64, delta: f64) -> Option<f64> {
        let (mut harmed, mut gained, mut kept) = (0, 0, 0);
        let mut tested = None;
        let mut lowest = None;
        for threshold in grid() {
            while let Some((_, effect)) = self.sorted.get(kept).filter(|(measure, _)| *measure >= threshold) {
                harmed += u64::from(*effect > 0);
                gained += u64::from(*effect < 0);
                kept += 1;
            }
            if tested != Some((harmed, gained)) {
                if !loses_less(harmed, gained, self.count, alpha, delta) {
                    break;
                }
                tested = Some((harmed, gained));
            }
            lowest = (kept > 0).then_some(threshold);
        }
        lowest
    }

    fn none(&self, stage: usize, alpha: f64) -> Refusal {
        let surest = self.sorted.chunk_by(|a, b| a.0 == b.0).next().unwrap_or_default();
        let harmed = surest.iter().filter(|(_, effect)| *effect > 0).count();
        Refusal::NoThreshold {
            stage,
            alpha,
            rows: surest.len(),
            measure: surest.first().map_or(1.0, |row| row.0),
            harmed,
        }
    }
}

/// Rows with which a loss below `alpha` can be shown at all: so many without an error have the probability `delta` at alpha.
pub fn least_rows(alpha: f64, delta: f64) -> u64 {
    (delta.ln() / (-alpha).ln_1p()).ceil() as u64
}

/// Whether `harmed` and `gained` of `n` rows show, at level `delta`, that fewer than a share `alpha` more are harmed than gained.
///
/// Under the hypothesis that the two probabilities differ by alpha, the one that is left is estimated by its maximum likelihood
/// and the tail of the difference is summed exactly; without gains this is the exact binomial test. A test enumerates all
/// outcomes and finds it rejecting wrongly no more often than delta.
fn loses_less(harmed: u64, gained: u64, n: u64, alpha: f64, delta: f64) -> bool {
    let (rows, h, g) = (n as f64, harmed as f64, gained as f64);
    // The root of the likelihood's derivative: 2n q^2 - slope q - g alpha (1 - alpha) = 0.
    let slope = h * (1.0 - alpha) + g * (1.0 - 3.0 * alpha) - 2.0 * (rows - h - g) * alpha;
    let root = (slope * slope + 8.0 * rows * g * alpha * (1.0 - alpha)).sqrt();
    let q = ((slope + root) / (4.0 * rows)).clamp(0.0, (1.0 - alpha) / 2.0);
    // Bernstein's inequality settles what is clear without summing anything.
    let below = rows * alpha - (h - g);
    let variance = rows * (alpha + 2.0 * q - alpha * alpha);
    if below > 0.0 && (-below * below / (2.0 * (variance + (1.0 + alpha) * below / 3.0))).exp() <= delta {
        return true;
    }
    let difference = i64::try_from(harmed).unwrap_or(i64::MAX) - i64::try_from(gained).unwrap_or(i64::MAX);
    below > 0.0 && difference_at_most(difference, n, alpha + q, q) <= delta
}

/// The thresholds that are tested, from the highest down: 1, then 1 less 180 steps for each decade from 1e-6 to 1, then 0. Known
/// before any row is seen, and fine near 1, where confident models have most of their rows.
fn grid() -> impl Iterator<Item = f64> {
    let decade = |digits: u32| {
        let unit = 10_u64.pow(digits);
        (100..1000_u64).step_by(5).map(move |gap| (unit - gap) as f64 / unit as f64)
    };
    std::iter::once(1.0).chain((3..=8).rev().flat_map(decade)).chain([0.0])
}

/// The shortest decimal above `lower` and at most `value`: it keeps the same rows, can be read, and lies off the measured values.
/// When there is nothing below, it is less than a thousandth lower.
fn between(lower: Option<f64>, value: f64) -> f64 {
    let lower = lower.unwrap_or(value - 1e-3);
    let floors = (0..17).map(|digits| {
        let unit = 10_f64.powi(digits);
        (value * unit).floor() / unit
    });
    floors.into_iter().find(|floor| *floor > lower && *floor <= value).unwrap_or(value)
}

#[cfg(test)]
#[path = "calibrate_tests.rs"]
mod tests;
