//! What the policy promises: order, patience, shares by time, and a worker for the others.

use proptest::prelude::*;

use super::*;

const TWO: Hands = Hands { free: 2, all: 2 };

fn view(now: Instant, rows: usize) -> View {
    View {
        rows,
        enough: 8,
        oldest: now,
        delay: Duration::ZERO,
        latest: None,
        running: 0,
        parallel: 2,
        cost: Duration::ZERO,
        deficit: 0,
        others: None,
    }
}

fn run(index: usize) -> Pick {
    Pick::Run { index, rounds: 0 }
}

#[test]
fn first_due_in_the_given_order() {
    let now = Instant::now();
    let views = [view(now, 0), View { running: 2, ..view(now, 3) }, view(now, 1), view(now, 9)];
    assert_eq!(pick(views.into_iter(), TWO, now), run(2));
    assert_eq!(pick(views[..2].iter().copied(), TWO, now), Pick::Idle);
}

#[test]
fn waits_for_a_fuller_batch_only_as_long_as_asked() {
    let now = Instant::now();
    let delay = Duration::from_millis(2);
    let waiting = View { delay, ..view(now, 3) };
    assert_eq!(pick([waiting].into_iter(), TWO, now), Pick::Wait(now + delay));
    assert_eq!(pick([waiting].into_iter(), TWO, now + delay), run(0));
    assert_eq!(pick([View { rows: 8, ..waiting }].into_iter(), TWO, now), run(0));
    let other = View { delay: delay / 2, ..waiting };
    assert_eq!(pick([waiting, other].into_iter(), TWO, now), Pick::Wait(now + delay / 2));
}

#[test]
fn nobody_waits_for_a_fuller_batch_longer_than_his_deadline_allows() {
    let now = Instant::now();
    let (ms, day) = (Duration::from_millis, Duration::from_secs(86_400));
    let latest = latest_start(now + day, ms(100)).unwrap();
    assert_eq!(latest, now + day - ms(127), "a quarter more than it takes, and a bit");
    let waiting = View { delay: day, latest: Some(latest), ..view(now, 3) };
    assert_eq!(pick([waiting].into_iter(), TWO, now), Pick::Wait(latest));
    assert_eq!(pick([waiting].into_iter(), TWO, latest), run(0));
    let soon = View { delay: ms(1), ..waiting };
    assert_eq!(pick([soon].into_iter(), TWO, now), Pick::Wait(now + ms(1)), "no longer than asked for either");
    assert_eq!(pick([View { rows: 8, ..waiting }].into_iter(), TWO, now), run(0));
}

#[test]
fn a_slow_servable_leaves_the_last_worker_while_others_have_traffic() {
    let now = Instant::now();
    let slow = View { cost: SLOW * 25, others: Some(now), ..view(now, 1) };
    let rounds = u32::try_from((SLOW * 25).as_nanos() / QUANTUM as u128).unwrap();
    let runs = Pick::Run { index: 0, rounds };
    let last = Hands { free: 1, all: 2 };
    assert_eq!(pick([slow].into_iter(), TWO, now), runs, "the first of two");
    assert_eq!(pick([slow].into_iter(), last, now), Pick::Wait(now + QUIET));
    assert_eq!(pick([slow].into_iter(), last, now + QUIET), runs, "they have been quiet");
    assert_eq!(pick([View { others: None, ..slow }].into_iter(), last, now), runs, "it is alone");
    assert_eq!(pick([slow].into_iter(), Hands { free: 1, all: 1 }, now), runs, "there is only one");
    assert_eq!(pick([View { cost: SLOW, ..slow }].into_iter(), last, now), Pick::Run { index: 0, rounds: 200 });
    assert_eq!(pick([slow, view(now, 1)].into_iter(), last, now), run(1), "the others take it");
}

#[test]
fn the_last_two_servables_are_known() {
    let now = Instant::now();
    let at = |n: u32| now + Duration::from_millis(n.into());
    let mut recent = Recent::default();
    assert_eq!(recent.other_than(1), None);
    for (n, key) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3)] {
        recent.note(key, at(n));
    }
    assert_eq!((recent.other_than(3), recent.other_than(1)), (Some(at(3)), Some(at(5))));
    recent.note(2, at(6));
    assert_eq!((recent.other_than(2), recent.other_than(3)), (Some(at(5)), Some(at(6))));
}

proptest! {
    /// Servables that always have work, with batches of varying cost that take more or less than is expected: at every moment all
    /// have had the same time, but for a batch, what it took longer, and a quantum each.
    #[test]
    fn time_is_shared_equally(
        costs in proptest::collection::vec(
            proptest::collection::vec((1_000_u64..5_000_000, 50_u64..200), 1..6), 2..6,
        ),
        turns in 10_usize..400,
    ) {
        let now = Instant::now();
        let took = |(cost, percent): (u64, u64)| Duration::from_nanos(cost * percent / 100);
        let overrun = |batch: &(u64, u64)| signed(took(*batch)) - signed(Duration::from_nanos(batch.0));
        let dearest: Vec<i64> = costs.iter().map(|costs| {
            let cost = costs.iter().map(|(cost, _)| cost.cast_signed()).max().unwrap();
            cost + costs.iter().map(overrun).max().unwrap().max(0)
        }).collect();
        let mut accounts = vec![Account::default(); costs.len()];
        let mut had = vec![0_i64; costs.len()];
        let mut served = vec![0_usize; costs.len()];
        let mut order: VecDeque<usize> = (0..costs.len()).collect();
        for _ in 0..turns {
            let next: Vec<_> = served.iter().zip(&costs).map(|(served, costs)| costs[served % costs.len()]).collect();
            let cost = |who: usize| Duration::from_nanos(next[who].0);
            let views = order.iter().map(|who| View { cost: cost(*who), deficit: accounts[*who].left(), ..view(now, 1) });
            let Pick::Run { index, rounds } = pick(views, TWO, now) else { panic!("somebody is due") };
            let who = turn(&mut order, (index, rounds), |who, rounds| accounts[who].grant(rounds, cost(who))).unwrap();
            prop_assert!(accounts[who].left() >= signed(cost(who)), "nobody runs on credit");
            accounts[who].pay(cost(who));
            accounts[who].correct(cost(who), took(next[who]));
            had[who] += signed(took(next[who]));
            served[who] += 1;
            for (i, one) in had.iter().enumerate() {
                for (j, other) in had.iter().enumerate() {
                    let most = dearest[i] + dearest[j] + 2 * QUANTUM;
                    prop_assert!((one - other).abs() <= most, "{had:?} of {dearest:?}");
                }
            }
        }
        prop_assert_eq!(order.len(), costs.len());
    }

    /// Who has nothing waiting saves nothing, and owes what he has had too much.
    #[test]
    fn grants_are_not_saved(rounds in 0_u32..100_000, next in 0_u64..5_000_000, more in 0_u64..5_000_000) {
        let (next, more) = (Duration::from_nanos(next), Duration::from_nanos(more));
        let mut account = Account::default();
        account.grant(rounds, next);
        prop_assert!(account.left() <= signed(next) + QUANTUM);
        account.close();
        prop_assert_eq!(account.left(), 0);
        account.pay(next);
        account.correct(next, next + more);
        account.close();
        prop_assert_eq!(account.left(), -signed(next + more));
    }

    #[test]
    fn somebody_who_is_due_is_always_picked(
        views in proptest::collection::vec((0_usize..4, 0_usize..3, 0_u64..100, -1_000_000_i64..1_000_000), 0..8),
    ) {
        let now = Instant::now();
        let views: Vec<View> = views.into_iter().map(|(rows, running, cost, deficit)| {
            View { running, cost: Duration::from_millis(cost), deficit, ..view(now, rows) }
        }).collect();
        let due: Vec<bool> = views.iter().map(|view| view.rows > 0 && view.running < view.parallel).collect();
        match pick(views.iter().copied(), TWO, now) {
            Pick::Run { index, .. } => prop_assert!(due[index]),
            Pick::Wait(_) => prop_assert!(false, "nobody asked to wait"),
            Pick::Idle => prop_assert!(!due.contains(&true)),
        }
    }
}
