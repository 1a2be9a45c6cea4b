//! The guarantee shown on worlds whose truth is known, the tests' size by enumeration, and the arithmetic of thresholds.

use super::*;
use crate::compose::tails::binomial_term;
use proptest::prelude::*;

/// xorshift64*.
struct Draw(u64);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Every kind of row that there is, with its probability.
#[derive(Default)]
struct World(Vec<Kind>);

struct Kind {
    probability: f64,
    measures: Vec<f64>,
    right: Vec<bool>,
}

impl World {
    fn add(&mut self, probability: f64, measures: &[f64], right: &[bool]) {
        self.0.push(Kind { probability, measures: measures.to_vec(), right: right.to_vec() });
    }

    /// Two stages; of the rows of each measure, shares are harmed and gained.
    fn of_levels(levels: impl IntoIterator<Item = (f64, f64, f64, f64)>) -> Self {
        let mut world = World::default();
        for (probability, measure, harmed, gained) in levels {
            world.add(probability * harmed, &[measure], &[false, true]);
            world.add(probability * gained, &[measure], &[true, false]);
            world.add(probability * (1.0 - harmed - gained), &[measure], &[true, true]);
        }
        world
    }

    fn sample(&self, rows: usize, draw: &mut Draw) -> Labelled {
        let mut sums: Vec<f64> = Vec::new();
        for kind in &self.0 {
            sums.push(sums.last().unwrap_or(&0.0) + kind.probability);
        }
        let total = *sums.last().unwrap();
        let drawn: Vec<&Kind> =
            (0..rows).map(|_| draw.unit() * total).map(|at| &self.0[sums.partition_point(|sum| *sum <= at)]).collect();
        let gates = self.0[0].measures.len();
        let measures = (0..gates).map(|s| drawn.iter().map(|kind| kind.measures[s]).collect()).collect();
        let right = (0..=gates).map(|s| drawn.iter().map(|kind| kind.right[s]).collect()).collect();
        Labelled::new(measures, right).unwrap()
    }

    /// The share of rows that the first stage keeps, the share harmed, and the share harmed less that gained.
    fn truth(&self, thresholds: &[f64]) -> (f64, f64, f64) {
        let (mut kept, mut harm, mut gain) = (0.0, 0.0, 0.0);
        for kind in &self.0 {
            let last = thresholds.len();
            let stage = kind.measures.iter().zip(thresholds).position(|(m, t)| m >= t).unwrap_or(last);
            kept += if stage == 0 { kind.probability } else { 0.0 };
            match (kind.right[stage], kind.right[last]) {
                (false, true) => harm += kind.probability,
                (true, false) => gain += kind.probability,
                _ => {}
            }
        }
        (kept, harm, harm - gain)
    }
}

/// Confidence that means something: errors become rarer with it.
fn smooth() -> World {
    let level = |i: u32| (f64::from(i) + 0.5) / 100.0;
    World::of_levels((0..100).map(|i| (0.01, level(i), 0.3 * (1.0 - level(i)).powi(2), 0.1 * (1.0 - level(i)).powi(2))))
}

/// As a small tree's: few distinct measures, and the second is where slightly too much would be lost.
fn cliff() -> World {
    World::of_levels([(0.3, 0.95, 0.0, 0.0), (0.3, 0.85, 0.052, 0.017), (0.4, 0.6, 0.2, 0.05)])
}

/// Three stages, each better than the one before, with measures of a few values.
fn three() -> World {
    let mut world = World::default();
    let levels: Vec<f64> = (0..12).map(|i| (f64::from(i) + 0.5) / 12.0).collect();
    for first in &levels {
        for second in &levels {
            let wrong = [0.35 * (1.0 - first).powi(2), 0.25 * (1.0 - second).powi(2), 0.05];
            for outcome in 0..8_u32 {
                let right = [0, 1, 2].map(|stage| outcome >> stage & 1 == 1);
                let chance: f64 = (0..3).map(|s| if right[s] { 1.0 - wrong[s] } else { wrong[s] }).product();
                world.add(chance / 144.0, &[*first, *second], &right);
            }
        }
    }
    world
}

/// Calibrates on many samples; how often the promise is broken, and the mean share that the first stage keeps.
fn simulate(world: &World, rows: usize, promise: Promise) -> (f64, f64) {
    const SEEDS: u64 = 1_000;
    let (mut broken, mut kept) = (0, 0.0);
    for seed in 1..=SEEDS {
        let labelled = world.sample(rows, &mut Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        // A refusal promises nothing, and everything goes on.
        let Ok(thresholds) = labelled.promise(promise) else { continue };
        let (share, harm, net) = world.truth(&thresholds);
        let lost = if promise.method == Method::Harm { harm } else { net };
        broken += u64::from(lost > promise.alpha);
        kept += share;
    }
    let limit = promise.delta + 3.0 * (promise.delta * (1.0 - promise.delta) / SEEDS as f64).sqrt();
    let share = broken as f64 / SEEDS as f64;
    assert!(share <= limit, "{promise:?}, {rows} rows: broken in {share} of the cases, limit {limit}");
    (share, kept / SEEDS as f64)
}

fn promise(alpha: f64, method: Method) -> Promise {
    Promise { alpha, delta: 0.05, method }
}

#[test]
fn the_promise_holds_where_errors_become_rarer() {
    let (_, by_harm) = simulate(&smooth(), 2_000, promise(0.01, Method::Harm));
    let (_, by_net) = simulate(&smooth(), 2_000, promise(0.01, Method::Net));
    // Who knew the truth would keep 0.46 by harm and 0.53 by net.
    assert!((0.3..0.47).contains(&by_harm), "kept by harm: {by_harm}");
    assert!((0.38..0.54).contains(&by_net) && by_net > by_harm, "kept by net: {by_net}");
}

#[test]
fn the_promise_holds_at_a_cliff() {
    let (harm, net) = (cliff().truth(&[0.85]).1, cliff().truth(&[0.85]).2);
    let (often, _) = simulate(&cliff(), 1_000, promise(harm * 0.999, Method::Harm));
    assert!(often > 0.005, "a test that is never wrong at the cliff itself keeps less than it might: {often}");
    let (often, _) = simulate(&cliff(), 1_000, promise(net * 0.999, Method::Net));
    assert!(often > 0.005, "{often}");
}

#[test]
fn the_promise_holds_for_several_thresholds() {
    let (_, by_harm) = simulate(&three(), 3_000, promise(0.02, Method::Harm));
    let (_, by_net) = simulate(&three(), 3_000, promise(0.02, Method::Net));
    assert!(by_harm > 0.1 && by_net > 0.1, "kept by harm {by_harm}, by net {by_net}");
}

/// What people do without a guarantee: the lowest threshold that looks good enough on their rows.
#[test]
fn a_naive_choice_breaks_its_promise_about_every_second_time() {
    let (world, alpha, rows) = (smooth(), 0.01, 2_000);
    let broken = (1..=200_u64).filter(|seed| {
        let labelled = world.sample(rows, &mut Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let curve = labelled.curve(&[1.0], 100);
        let lost = |outcome: &Outcome| (outcome.harmed as f64 - outcome.gained as f64) / rows as f64;
        let lowest = curve.iter().rev().find(|(_, outcome)| lost(outcome) <= alpha);
        lowest.is_some_and(|(threshold, _)| world.truth(&[*threshold]).2 > alpha)
    });
    let share = broken.count() as f64 / 200.0;
    assert!((0.3..0.7).contains(&share), "{share}");
}

/// The probability of a wrong rejection, summed over all outcomes, where the truth is exactly alpha.
#[test]
fn the_test_of_the_net_loss_has_its_size() {
    for (n, alpha, delta) in
        [(299, 0.01, 0.05), (800, 0.01, 0.05), (150, 0.06, 0.1), (60, 0.1, 0.02), (500, 0.02, 0.25)]
    {
        const MOST: u64 = 70;
        let rejects: Vec<(u64, u64)> = (0..MOST.min(n))
            .flat_map(|harmed| (0..MOST.min(n - harmed)).map(move |gained| (harmed, gained)))
            .filter(|(harmed, gained)| loses_less(*harmed, *gained, n, alpha, delta))
            .collect();
        assert!(!rejects.is_empty());
        for q in [1e-7, 1e-3, 5e-3, 0.01, 0.03] {
            let probability = |(harmed, gained): &(u64, u64)| {
                binomial_term(*harmed, n, alpha + q) * binomial_term(*gained, n - harmed, q / (1.0 - alpha - q))
            };
            let size: f64 = rejects.iter().map(probability).sum();
            assert!(size <= delta, "n {n} alpha {alpha} delta {delta} q {q}: {size}");
        }
        // Without gains it is the exact binomial test.
        for harmed in 0..MOST.min(n) {
            assert_eq!(
                loses_less(harmed, 0, n, alpha, delta),
                binomial_at_most(harmed, n, alpha) <= delta,
                "{harmed} of {n}"
            );
        }
    }
}

#[test]
fn few_rows_promise_nothing() {
    assert_eq!((least_rows(0.01, 0.05), least_rows(0.05, 0.05), least_rows(0.5, 0.25)), (299, 59, 2));
    let perfect = |rows: usize, stages: usize| {
        Labelled::new(vec![vec![0.9; rows]; stages - 1], vec![vec![true; rows]; stages]).unwrap()
    };
    for method in [Method::Harm, Method::Net] {
        let refused = perfect(298, 2).promise(promise(0.01, method)).unwrap_err();
        assert_eq!(refused, Refusal::TooFew { needed: 299, rows: 298, alpha: 0.01, delta: 0.05 });
        let text = refused.to_string();
        assert!(text.starts_with("rows: expected at least 299, got 298: with fewer, even no error at all"), "{text}");
        let kept = perfect(299, 2).promise(promise(0.01, method)).unwrap();
        assert!(kept[0] <= 0.9, "{kept:?}");
        // Half the loss and half the risk for each of two thresholds; net needs rows of its own for each.
        let needed = least_rows(0.005, 0.025) * if method == Method::Net { 2 } else { 1 };
        let rows = usize::try_from(needed).unwrap();
        assert!(perfect(rows - 1, 3).promise(promise(0.01, method)).is_err());
        assert!(perfect(rows, 3).promise(promise(0.01, method)).is_ok());
    }
}

#[test]
fn a_stage_that_is_sure_and_wrong_is_refused() {
    let right: Vec<bool> = (0..1_000).map(|row| row >= 200).collect();
    let measures = right.iter().map(|right| if *right { 0.6 } else { 1.0 }).collect();
    let labelled = Labelled::new(vec![measures], vec![right, vec![true; 1_000]]).unwrap();
    for method in [Method::Harm, Method::Net] {
        let refused = labelled.promise(promise(0.01, method)).unwrap_err();
        assert_eq!(refused, Refusal::NoThreshold { stage: 0, alpha: 0.01, rows: 200, measure: 1.0, harmed: 200 });
    }
    let unmeasured = Labelled::new(vec![vec![f64::NAN; 500]], vec![vec![true; 500]; 2]).unwrap();
    for method in [Method::Harm, Method::Net] {
        let refused = unmeasured.promise(promise(0.01, method)).unwrap_err();
        assert!(matches!(refused, Refusal::NoThreshold { rows: 0, .. }), "{refused}");
    }
}

#[test]
fn shares_and_curves() {
    let measures: Vec<f64> = (0..1_000).map(|row| f64::from(row) / 1_000.0).collect();
    let right = measures.iter().map(|measure| *measure >= 0.5).collect();
    let labelled = Labelled::new(vec![measures], vec![right, vec![true; 1_000]]).unwrap();
    assert_eq!(labelled.share(0.25), Ok(vec![0.25]));
    assert_eq!(labelled.share(0.0), Ok(vec![0.0]));
    assert_eq!(labelled.share(1.0), Ok(vec![1.0]));
    let outcome = labelled.outcome(&[0.25]);
    assert_eq!(outcome, Outcome { answered: vec![750, 250], right: 750, harmed: 250, gained: 0 });
    let curve = labelled.curve(&[0.25], 4);
    assert_eq!(curve.iter().map(|(threshold, _)| *threshold).collect::<Vec<_>>(), [0.75, 0.5, 0.25, 0.0]);
    assert_eq!(curve.iter().map(|(_, outcome)| outcome.right).collect::<Vec<_>>(), [1_000, 1_000, 750, 500]);
    // Ties stay together: at most the share goes on.
    let tied = Labelled::new(vec![vec![0.5, 0.5, 0.5, 0.9]], vec![vec![true; 4]; 2]).unwrap();
    assert_eq!(tied.share(0.5), Ok(vec![0.5]));
    assert_eq!(tied.share(0.75), Ok(vec![0.9]));
    assert_eq!(tied.curve(&[1.0], 50).len(), 2);
    let hidden = Labelled::new(vec![vec![f64::NAN, f64::NAN, 0.5, -1.0]], vec![vec![true; 4]; 2]).unwrap();
    assert_eq!(hidden.share(0.5), Err(Refusal::NoMeasure { stage: 0, rows: 3, of: 4 }));
    assert_eq!(hidden.share(0.75), Ok(vec![0.5]));
    // The second stage's share is of the rows that reach it.
    let second =
        Labelled::new(vec![vec![0.9, 0.9, 0.1, 0.2], vec![0.8, 0.8, 0.3, 0.4]], vec![vec![true; 4]; 3]).unwrap();
    assert_eq!(second.share(0.5), Ok(vec![0.9, 0.4]));
    assert_eq!(second.outcome(&[0.9, 0.4]).answered, [2, 1, 1]);
    assert_eq!(second.right_alone(2), 4);
}

#[test]
fn what_does_not_fit_together() {
    assert_eq!(Labelled::new(vec![], vec![]), None);
    assert_eq!(Labelled::new(vec![], vec![vec![true]]), None);
    assert_eq!(Labelled::new(vec![vec![0.5]], vec![vec![true]]), None);
    assert_eq!(Labelled::new(vec![vec![0.5, 0.5]], vec![vec![true], vec![true]]), None);
    let beyond = Labelled::new(vec![vec![1.0 + 1e-7, -1e-9]], vec![vec![true; 2]; 2]).unwrap();
    assert_eq!(beyond.outcome(&[1.0]).answered, [1, 1]);
    assert_eq!(beyond.outcome(&[0.0]).answered, [1, 1]);
}

#[test]
fn the_grid_is_fine_near_one() {
    let grid: Vec<f64> = grid().collect();
    assert_eq!((grid.len(), grid[0], grid[1], grid[grid.len() - 1]), (1_082, 1.0, 0.999_999, 0.0));
    assert!(grid.windows(2).all(|pair| pair[0] > pair[1]));
    assert!(grid.iter().all(|threshold| format!("{threshold}").len() <= 10), "they can be read");
}

proptest! {
    #[test]
    fn shortest_decimals(a in 0.0_f64..1.0, b in 0.0_f64..1.0) {
        let (lower, value) = (a.min(b), a.max(b));
        prop_assume!(lower < value);
        let chosen = between(Some(lower), value);
        prop_assert!(chosen > lower && chosen <= value, "{lower} {chosen} {value}");
        let digits = format!("{chosen}").len().saturating_sub(2);
        let needed = -(value - lower).log10();
        prop_assert!(digits as f64 <= needed.ceil() + 1.0, "{chosen} between {lower} and {value}");
    }

    /// More harm or fewer rows never make a promise easier to keep.
    #[test]
    fn evidence_is_monotone(harmed in 0_u64..30, gained in 0_u64..30, n in 300_u64..3_000, alpha in 0.005_f64..0.2) {
        if loses_less(harmed + 1, gained, n, alpha, 0.05) {
            prop_assert!(loses_less(harmed, gained, n, alpha, 0.05));
        }
        if loses_less(harmed, gained, n, alpha, 0.05) {
            prop_assert!(loses_less(harmed, gained, n, alpha * 1.1, 0.05));
            prop_assert!(loses_less(harmed, gained, n, alpha, 0.1));
        }
    }
}
