//! What covers and limits promise, against naive searches.

use proptest::prelude::*;

use super::*;

fn curve(costs: &[(usize, u64)]) -> Costs {
    let sizes: Vec<usize> = costs.iter().map(|(size, _)| *size).collect();
    Costs::of_sizes(&sizes, costs.to_vec(), sizes.iter().copied().max().unwrap_or(1), None)
}

/// The cheapest total by trying everything: runs that fit, or one that is padded at the end.
fn naive(sizes: &[(usize, u64)], rows: usize) -> u64 {
    if rows == 0 {
        return 0;
    }
    sizes.iter().map(|(size, nanos)| nanos + naive(sizes, rows.saturating_sub(*size))).min().unwrap()
}

#[test]
fn where_one_is_best_batches_are_loops_of_one() {
    let costs = curve(&[(1, 1000), (2, 2100), (4, 4500), (8, 9000)]);
    assert_eq!(costs.runs(7).as_slice(), [1; 7]);
    assert_eq!(costs.cost(8), Some(Duration::from_nanos(8000)));
    assert_eq!(choose_limit(&[(1, 1000), (2, 2100), (4, 4500), (8, 9000)], Duration::ZERO), 1);
}

#[test]
fn where_a_run_costs_little_more_than_a_row_batches_are_padded() {
    let costs = curve(&[(1, 1000), (2, 1100), (4, 1200), (8, 1300)]);
    assert_eq!(costs.runs(5).as_slice(), [8]);
    assert_eq!(costs.runs(3).as_slice(), [4]);
    assert_eq!(costs.runs(1).as_slice(), [1]);
    assert_eq!(costs.runs(13).as_slice(), [8, 8]);
    assert_eq!(costs.cost(13), Some(Duration::from_nanos(2600)));
}

#[test]
fn padding_must_be_clearly_cheaper() {
    assert_eq!(curve(&[(1, 1000), (2, 2000), (4, 2900)]).runs(3).as_slice(), [2, 1]);
    assert_eq!(curve(&[(1, 1000), (2, 2000), (4, 2800)]).runs(3).as_slice(), [4]);
}

#[test]
fn the_rest_of_a_padded_cover_comes_last() {
    let costs = curve(&[(1, 1000), (4, 1200), (8, 1900), (12, 2500)]);
    assert_eq!(costs.runs(11).as_slice(), [12]);
    assert_eq!(costs.runs(10).as_slice(), [12]);
    assert_eq!(costs.runs(7).as_slice(), [8]);
}

#[test]
fn without_a_measurement_the_fewest_runs_win() {
    let costs = Costs::of_sizes(&[1, 2, 4, 8, 12], Vec::new(), 12, None);
    assert_eq!(costs.runs(11).as_slice(), [8, 2, 1]);
    assert_eq!(costs.runs(12).as_slice(), [12]);
    assert_eq!(costs.runs(31).as_slice(), [12, 12, 4, 2, 1]);
    assert_eq!(costs.cost(3), None);
}

#[test]
fn a_whole_model_has_one_run_and_a_line_between_measurements() {
    let costs = Costs::of_whole(vec![(1, 100), (4, 400), (8, 600)]);
    assert_eq!(costs.runs(6).as_slice(), [6]);
    assert_eq!(costs.cost(6), Some(Duration::from_nanos(500)));
    assert_eq!(costs.cost(16), Some(Duration::from_nanos(1200)));
    assert_eq!(Costs::of_whole(vec![(4, 400)]).cost(1), Some(Duration::from_nanos(400)));
    assert_eq!(Costs::of_whole(Vec::new()).cost(1), None);
}

#[test]
fn a_disturbed_measurement_does_not_pad_a_row() {
    let costs = curve(&[(1, 5000), (2, 1000), (4, 1200)]);
    assert_eq!(costs.runs(1).as_slice(), [1]);
}

#[test]
fn a_batch_is_run_as_before_until_something_is_clearly_cheaper() {
    let before = curve(&[(1, 1000), (2, 1900), (4, 4000)]);
    assert_eq!(before.runs(4).as_slice(), [2, 2]);
    let now = |four| Costs::of_sizes(&[1, 2, 4], vec![(1, 1000), (2, 1900), (4, four)], 4, Some(&before)).runs(4);
    assert_eq!(now(3200).as_slice(), [2, 2]);
    assert_eq!(now(3000).as_slice(), [4]);
    let dropped = Costs::of_sizes(&[1], vec![(1, 1000)], 4, Some(&before));
    assert_eq!(dropped.runs(4).as_slice(), [1; 4]);
}

#[test]
fn the_limit_is_the_largest_size_that_still_improves() {
    let tree = [(1, 1000), (2, 1100), (4, 1300), (8, 1700), (16, 2500), (32, 4100), (64, 8100)];
    assert_eq!(choose_limit(&tree, Duration::ZERO), 32, "64 rows gain 1 %");
    // Up to 16 rows run in place: the hop would cost more than the last quarter gains.
    assert_eq!(choose_limit(&tree, Duration::from_nanos(4000)), 16);
    // A model that is dear from the start is not held back.
    assert_eq!(choose_limit(&tree, Duration::from_nanos(1500)), 32);
    assert_eq!(choose_limit(&[], Duration::ZERO), 1);
    // One size that was disturbed does not end the search.
    assert_eq!(choose_limit(&[(1, 1000), (2, 2500), (4, 2000), (8, 2800)], Duration::ZERO), 8);
}

#[test]
fn larger_sizes_are_tried_until_two_do_not_improve() {
    assert!(!levelled_off(&[(1, 1000), (2, 2000)]));
    assert!(levelled_off(&[(1, 1000), (2, 2000), (4, 4000)]));
    assert!(!levelled_off(&[(1, 1000), (2, 2000), (4, 3000)]));
    assert!(levelled_off(&[(1, 1000), (2, 1500), (4, 3000), (8, 6000)]));
}

proptest! {
    #[test]
    fn a_cover_covers_and_is_the_cheapest(
        costs in proptest::collection::vec(1_u64..10_000, 1..5), more in 0_usize..3, limit in 1_usize..14,
    ) {
        let mut costs = costs;
        costs.sort_unstable();
        let sizes: Vec<(usize, u64)> = costs.iter().enumerate().map(|(i, nanos)| ((1 << i) + i * more, *nanos)).collect();
        let costs = Costs::of_sizes(&sizes.iter().map(|(size, _)| *size).collect::<Vec<_>>(), sizes.clone(), limit, None);
        for rows in 1..=limit * 3 {
            let runs = costs.runs(rows);
            let total: usize = runs.iter().sum();
            prop_assert!(total >= rows, "{rows} rows in {runs:?}");
            let price = |size: &usize| sizes.iter().find(|(known, _)| known == size).unwrap().1;
            let nanos: u64 = runs.iter().map(price).sum();
            prop_assert_eq!(costs.cost(rows), Some(Duration::from_nanos(nanos)));
            if rows <= limit {
                let best = naive(&sizes, rows);
                prop_assert!(nanos >= best && nanos * 20 <= best * 21 + 20, "{nanos} against {best}");
                // Never slower than one row at a time.
                prop_assert!(nanos <= price(&1) * rows as u64);
            }
        }
    }

    #[test]
    fn the_line_is_between_its_ends(low in 1_u64..1_000_000, high in 1_u64..1_000_000, rows in 1_usize..9) {
        let at = interpolate(&[(1, low), (8, high)], rows);
        prop_assert!(at + 2 >= low.min(high) && (rows > 8 || at <= low.max(high)));
    }
}
