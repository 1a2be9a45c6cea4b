//! What a circuit promises: when it opens, for how long, and that it never stays open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::circuit::{Bell, Circuit, CircuitState, LONGEST, Limits};

const PAUSE: Duration = Duration::from_secs(1);

fn circuit(failures: u32) -> Circuit {
    Circuit::new(Limits { failures, pause: PAUSE }, Arc::default())
}

#[test]
fn every_change_is_heard_once() {
    let bell = Arc::new(Bell::default());
    let rung = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&rung);
    bell.follow(move || _ = counts.fetch_add(1, Relaxed));
    let circuit = Circuit::new(Limits { failures: 1, pause: PAUSE }, bell);
    let (start, heard) = (Instant::now(), || rung.load(Relaxed));
    let show = || {
        let mut shown = None;
        circuit.show(|state| shown = Some(state));
        shown.unwrap()
    };
    assert_eq!((show(), heard()), (CircuitState::Closed, 0));
    circuit.failed(start);
    assert_eq!((show(), heard()), (CircuitState::Open, 1));
    assert_eq!((show(), heard()), (CircuitState::Open, 1), "no change");
    assert_eq!(circuit.admit(start + PAUSE), Ok(()));
    assert_eq!((show(), heard()), (CircuitState::HalfOpen, 2));
    circuit.succeeded();
    assert_eq!((show(), heard()), (CircuitState::Closed, 3));
}

#[test]
fn opens_after_failures_in_a_row_and_closes_on_success() {
    let (circuit, start) = (circuit(3), Instant::now());
    assert!(!circuit.failed(start) && !circuit.failed(start));
    circuit.succeeded();
    assert!(!circuit.failed(start) && !circuit.failed(start));
    assert_eq!((circuit.admit(start), circuit.state()), (Ok(()), CircuitState::Closed));
    assert!(circuit.failed(start), "the third in a row");
    assert_eq!((circuit.admit(start), circuit.state()), (Err(PAUSE), CircuitState::Open));
    circuit.succeeded();
    assert_eq!(circuit.state(), CircuitState::Open, "a batch from before");
    let later = start + PAUSE;
    assert_eq!((circuit.admit(later), circuit.state()), (Ok(()), CircuitState::HalfOpen));
    assert_eq!(circuit.admit(later), Err(PAUSE), "one at a time");
    circuit.succeeded();
    assert_eq!((circuit.admit(later), circuit.state(), circuit.opened()), (Ok(()), CircuitState::Closed, 1));
}

#[test]
fn the_pause_grows_as_long_as_it_fails() {
    let (circuit, mut now) = (circuit(1), Instant::now());
    assert!(circuit.failed(now));
    for doubled in [2, 4, 8, 16, 32, 60, 60] {
        now += Duration::from_secs(60);
        assert_eq!(circuit.admit(now), Ok(()));
        assert!(circuit.failed(now));
        assert_eq!(circuit.admit(now), Err(PAUSE * doubled));
    }
    assert_eq!(circuit.opened(), 8);
}

#[test]
fn a_request_that_never_reports_is_followed_by_another() {
    let (circuit, now) = (circuit(1), Instant::now());
    circuit.failed(now);
    assert_eq!(circuit.admit(now + PAUSE), Ok(()));
    assert_eq!(circuit.admit(now + PAUSE * 2), Ok(()));
}

#[test]
fn a_request_that_does_not_find_out_is_followed_by_another_at_once() {
    let (circuit, now) = (circuit(1), Instant::now());
    circuit.undecided(now);
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit.failed(now);
    circuit.undecided(now);
    assert_eq!((circuit.admit(now), circuit.state()), (Err(PAUSE), CircuitState::Open), "nobody was let through");
    let later = now + PAUSE;
    assert_eq!((circuit.admit(later), circuit.admit(later)), (Ok(()), Err(PAUSE)));
    circuit.undecided(later);
    assert_eq!((circuit.wait(later), circuit.state()), (Duration::ZERO, CircuitState::HalfOpen));
    assert_eq!((circuit.admit(later), circuit.admit(later)), (Ok(()), Err(PAUSE)), "one at a time");
    circuit.failed(later);
    assert_eq!(circuit.admit(later), Err(PAUSE * 2), "what was not found out makes no pause longer");
}

#[test]
fn without_a_limit_only_a_run_that_does_not_end_opens_it() {
    let (circuit, now) = (circuit(0), Instant::now());
    assert!((0..100).all(|_| !circuit.failed(now)));
    circuit.trip(now);
    assert_eq!(circuit.admit(now), Err(PAUSE));
    circuit.trip(now);
    assert_eq!(circuit.admit(now), Err(PAUSE * 2));
}

proptest! {
    /// Whatever happens, a servable is asked again within the longest pause.
    #[test]
    fn it_never_stays_open(steps in proptest::collection::vec((0_u8..5, 0_u64..5_000), 0..60)) {
        let circuit = circuit(2);
        let mut now = Instant::now();
        for (what, wait) in steps {
            now += Duration::from_millis(wait);
            match what {
                0 => circuit.succeeded(),
                1 => drop(circuit.failed(now)),
                2 => circuit.trip(now),
                3 => circuit.undecided(now),
                _ => drop(circuit.admit(now)),
            }
            let refused = circuit.admit(now);
            prop_assert!(refused.is_ok() || refused.is_err_and(|wait| wait <= LONGEST));
        }
        prop_assert_eq!(circuit.admit(now + LONGEST), Ok(()));
    }
}
