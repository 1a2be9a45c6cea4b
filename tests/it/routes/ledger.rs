//! Who was answered by what, held against what was live. Changes are made one after the other, so revision r was certainly live
//! from the moment its change was answered until the next one was asked for, and possibly from the moment its own was asked for
//! until the next one was answered. An answer is consistent when everything it tells follows from one revision that may have
//! been live between its send and its receive. The assignment is computed here from the revision's weights.

use std::time::Instant;

use weir::compose::assign::Assigner;

/// The arms of the split that changes, in the order of its file.
pub(super) const ARMS: [&str; 2] = ["control", "candidate"];

/// A revision, and when its change was asked for and answered.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) revision: u64,
    pub(super) weights: [f64; 2],
    /// Which version of the model each arm is.
    pub(super) versions: [u64; 2],
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

/// What an answer tells of one key: a request's, or that of one of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) arm: usize,
    pub(super) version: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) sent: Instant,
    pub(super) received: Instant,
    /// The revision that it says; `None` when the split is inside another route, whose revision is told instead.
    pub(super) revision: Option<u64>,
    pub(super) rows: Vec<Row>,
}

/// Everything that was live, oldest first.
#[derive(Debug)]
pub(super) struct Ledger {
    salt: String,
    live: Vec<Live>,
}

impl Ledger {
    /// The split's salt, and its first revision, which was live before anybody asked.
    pub(super) fn new(salt: &str, first: Live) -> Self {
        Self { salt: salt.to_owned(), live: vec![first] }
    }

    pub(super) fn changed(&mut self, live: Live) {
        let last = self.last();
        assert!(live.revision == last.revision + 1, "after {last:?} came {live:?}");
        self.live.push(live);
    }

    pub(super) fn last(&self) -> &Live {
        self.live.last().unwrap()
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether some revision explains the answer.
    pub(super) fn explains(&self, seen: &Seen) -> bool {
        // Changes are in order of time: only those from the last one answered before the send on can explain it.
        let first = self.live.partition_point(|live| live.answered < seen.sent).saturating_sub(1);
        let possible = self.live[first..].iter().take_while(|live| live.asked <= seen.received);
        possible.filter(|live| seen.revision.is_none_or(|revision| revision == live.revision)).any(|live| {
            let assigner = Assigner::new(&self.salt, ARMS.into_iter().zip(live.weights));
            seen.rows
                .iter()
                .all(|row| assigner.assign(row.key.as_bytes()).0 == row.arm && live.versions[row.arm] == row.version)
        })
    }

    /// Panics when an answer has no explanation.
    pub(super) fn check(&self, seen: &[Seen]) {
        let wrong: Vec<_> = seen.iter().filter(|seen| !self.explains(seen)).collect();
        let shown: Vec<_> = wrong.iter().take(3).map(|seen| (seen, self.around(seen))).collect();
        assert!(wrong.is_empty(), "{} of {} answers fit no revision, for example {shown:#?}", wrong.len(), seen.len());
    }

    fn around(&self, seen: &Seen) -> Vec<&Live> {
        self.live.iter().filter(|live| live.answered >= seen.sent && live.asked <= seen.received).collect()
    }
}

/// The check itself: it must not agree with everything.
#[test]
fn an_answer_that_does_not_follow_is_found() {
    use std::time::Duration;

    let begun = Instant::now();
    let at = |ms: u64| begun + Duration::from_millis(ms);
    let live = |revision, weights, versions, (asked, answered)| Live {
        revision,
        weights,
        versions,
        asked: at(asked),
        answered: at(answered),
    };
    let mut ledger = Ledger::new("salt", live(1, [1.0, 0.0], [1, 2], (0, 0)));
    ledger.changed(live(2, [0.0, 1.0], [1, 2], (10, 20)));
    ledger.changed(live(3, [0.0, 1.0], [2, 1], (30, 40)));
    let row = |arm, version| Row { key: "k".to_owned(), arm, version };
    let seen = |(sent, received), revision, rows: &[Row]| Seen {
        sent: at(sent),
        received: at(received),
        revision,
        rows: rows.to_vec(),
    };
    for (answer, good) in [
        (seen((1, 5), Some(1), &[row(0, 1)]), true),
        (seen((1, 15), Some(2), &[row(1, 2)]), true),
        (seen((15, 16), Some(1), &[row(0, 1)]), true),
        (seen((1, 15), None, &[row(1, 2)]), true),
        // Too early, and too late: the change had been answered.
        (seen((1, 5), Some(2), &[row(1, 2)]), false),
        (seen((21, 25), Some(1), &[row(0, 1)]), false),
        (seen((21, 25), None, &[row(0, 1)]), false),
        (seen((41, 90), Some(2), &[row(1, 2)]), false),
        // Another arm, another version.
        (seen((1, 5), Some(1), &[row(1, 2)]), false),
        (seen((1, 5), Some(1), &[row(0, 2)]), false),
        // A revision and what belongs to another one; rows of two revisions.
        (seen((1, 90), Some(1), &[row(1, 2)]), false),
        (seen((1, 90), None, &[row(1, 2), row(1, 2)]), true),
        (seen((1, 90), None, &[row(1, 2), row(0, 1)]), false),
        (seen((15, 90), None, &[row(1, 1), row(1, 2)]), false),
        (seen((1, 90), Some(4), &[row(1, 1)]), false),
    ] {
        assert_eq!(ledger.explains(&answer), good, "{answer:?}");
    }
}
