//! The escalation budget of a real route: the threshold in force moves with what is asked so that the share of rows that goes
//! on is held, is shown, stays where it is without traffic, and flags the rows that it let in.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use weir::types::ParamValue;

use super::lab::{Lab, Made, path, request, told, with};
use crate::harness::{PATIENCE, until};

const SHARE: f64 = 0.25;
const AT_LEAST: f64 = 0.9;
const FLOOR: f64 = 0.55;
/// As many of the last rows count for the threshold.
const WINDOW: u64 = 4096;
/// Rows after which a share is looked at.
const ROWS: usize = 2000;
const THRESHOLD: &str = "weir_cascade_threshold{route=\"cascade\",stage=\"0\"}";
const SATURATED: &str = "weir_cascade_threshold_saturated{route=\"cascade\"}";

const CASCADE: &str = r#"kind = "cascade"
[[stage]]
model = "small"
accept = { output = "p", measure = "max_prob", at_least = 0.9 }
[[stage]]
model = "big"
[budget]
escalate_at_most = 0.25
floor = 0.55
"#;

fn model(name: &'static str) -> Made {
    Made::new(name, 1, (&[("x", 1)], &[("p", 2)]), |inputs, _| {
        Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect()])
    })
}

struct Stream {
    lab: Lab,
    sent: Cell<u64>,
}

impl Stream {
    /// Asks with two rows whose measures are spread evenly over 0.5 to 0.5 + `width`, a little later than the time before: a
    /// rate at which every row counts. Returns how many went on.
    async fn ask(&self, width: f64) -> usize {
        let first = self.sent.replace(self.sent.get() + 2);
        // Multiples of the golden ratio: every stretch of them is spread evenly.
        let measure = |number: u64| (0.5 + width * (number as f64 * 0.618_033_988_749_894_9).fract()) as f32;
        let asks = request("cascade", &[measure(first), measure(first + 1)]);
        let answer = self.lab.ask(with(asks, "weir_explain", ParamValue::Bool(true))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        path(&answer).iter().filter(|stage| **stage == 1).count()
    }

    fn threshold(&self) -> f64 {
        self.lab.metric(THRESHOLD).unwrap()
    }

    /// Asks until nothing counts that was asked before, and the threshold is near a value.
    async fn until(&self, width: f64, near: f64) {
        let (begun, last) = (Instant::now(), self.sent.get() + WINDOW);
        while self.sent.get() < last || (self.threshold() - near).abs() > 0.01 * width {
            assert!(begun.elapsed() < 2 * PATIENCE, "at {}, never at {near}", self.threshold());
            self.ask(width).await;
        }
    }

    /// The share of many rows that goes on.
    async fn share(&self, width: f64) -> f64 {
        let mut escalated = 0;
        for _ in 0..ROWS / 2 {
            escalated += self.ask(width).await;
        }
        escalated as f64 / ROWS as f64
    }

    /// The stage that answers a row, and whether that is flagged.
    async fn one(&self, measure: f32) -> (usize, bool) {
        let asks = with(request("cascade", &[measure]), "weir_explain", ParamValue::Bool(true));
        let answer = self.lab.ask(asks).await.unwrap();
        (path(&answer)[0], told(&answer, "weir_degraded").as_deref() == Some("true"))
    }
}

#[tokio::test]
async fn the_share_is_held_and_shown() {
    let lab = Lab::start(vec![model("small"), model("big")], &[("cascade", CASCADE)]).await;
    let stream = Stream { lab, sent: Cell::new(0) };
    assert_eq!(stream.threshold(), AT_LEAST, "as configured before anything was asked");
    // At 0.9 four of five rows would go on; a quarter does at 0.625.
    stream.until(0.5, 0.625).await;
    let share = stream.share(0.5).await;
    eprintln!("{:.1} % go on at {:.4}", share * 100.0, stream.threshold());
    assert!((share - SHARE).abs() < 0.02, "{share}");
    // Kept below what is configured: flagged. Kept above it, or not kept: not.
    assert_eq!(stream.one(0.8).await, (0, true));
    assert_eq!(stream.one(0.95).await, (0, false));
    assert_eq!(stream.one(0.56).await, (1, false));

    // Nobody asks: nothing moves, however long that lasts. This is many times as long as moves are apart.
    let before = stream.threshold();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(stream.threshold(), before);

    // Twice as hard: it comes back to the share.
    stream.until(0.25, 0.5625).await;
    let share = stream.share(0.25).await;
    eprintln!("{:.1} % of rows that are twice as hard go on at {:.4}", share * 100.0, stream.threshold());
    assert!((share - SHARE).abs() < 0.02, "{share}");
    assert_eq!(stream.lab.metric(SATURATED), Some(0.0));

    // So hard that the floor does not suffice: it stays there, and that is shown.
    stream.until(0.02, FLOOR).await;
    until("it is shown", PATIENCE, async || {
        stream.ask(0.02).await;
        (stream.lab.metric(SATURATED) == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!((stream.threshold(), stream.share(0.02).await), (FLOOR, 1.0));
    let report = stream.lab.gateway.metrics().route("cascade").report();
    assert_eq!((report.saturated, report.stages[0].threshold), (Some(true), Some(FLOOR)));
}
