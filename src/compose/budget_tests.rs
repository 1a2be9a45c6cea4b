//! The controller on simulated streams: it holds its share at every rate and after every change, says so when it cannot, and
//! does nothing when there is nothing to do.

use super::*;

/// xorshift64*.
struct Draw(u64);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A row that is hard with this probability. Easy rows have measures near 1, hard ones lower ones.
    fn measure(&mut self, hard: f64) -> f64 {
        let spread = if self.unit() < hard { 0.5 } else { 0.04 };
        1.0 - spread * self.unit().powi(2)
    }
}

struct Stream {
    controller: Controller,
    now: Instant,
    draw: Draw,
    batch: usize,
    rows_per_second: f64,
}

impl Stream {
    fn new(escalation: Escalation, batch: usize, rows_per_second: f64) -> Self {
        let now = Instant::now();
        let draw = Draw(0x9e37_79b9_7f4a_7c15);
        Self { controller: Controller::new(AT_LEAST, escalation, now), now, draw, batch, rows_per_second }
    }

    /// Sends rows; the share of them that went on.
    fn send(&mut self, rows: usize, hard: f64) -> f64 {
        let mut escalated = 0;
        for _ in 0..rows / self.batch {
            let measures: Vec<f64> = (0..self.batch).map(|_| self.draw.measure(hard)).collect();
            let before = self.controller.threshold();
            escalated += measures.iter().filter(|measure| **measure < before).count();
            self.now += Duration::from_secs_f64(self.batch as f64 / self.rows_per_second);
            self.controller.record(&measures, self.now);
            let step = (self.controller.threshold() - before).abs();
            assert!(step <= (AT_LEAST - self.controller.escalation.floor) / STEPS + 1e-12, "a step of {step}");
        }
        escalated as f64 / (rows / self.batch * self.batch) as f64
    }
}

const AT_LEAST: f64 = 0.97;
/// Share of the rows that are sent on at the configured threshold, by share of hard rows: easy ones are below it with
/// probability 1 - sqrt(3/4), hard ones with 1 - sqrt(0.06).
fn share_at(threshold: f64, hard: f64) -> f64 {
    let above = |spread: f64| ((1.0 - threshold) / spread).min(1.0).sqrt();
    hard * (1.0 - above(0.5)) + (1.0 - hard) * (1.0 - above(0.04))
}

/// Enough rows for those that count to be new and every step to have been made.
fn settled(rows_per_second: f64) -> usize {
    let counting = (rows_per_second * RECENT.as_secs_f64()).clamp(RECENT_ROWS, WINDOW as f64);
    counting as usize + (rows_per_second * (COVERS + PERIOD * (STEPS as u32 + 2)).as_secs_f64()) as usize
}

#[test]
fn the_share_is_held_when_the_stream_becomes_twice_as_hard() {
    for (batch, rate) in [(1, 1.0), (1, 40.0), (7, 1_000.0), (64, 100_000.0), (1_000, 20_000.0)] {
        let wanted = 0.25;
        let mut stream = Stream::new(Escalation { at_most: wanted, floor: 0.6 }, batch, rate);
        let (rows, measured) = (settled(rate), 10_000.max(rate as usize));
        stream.send(rows, 0.1);
        let easy = stream.send(measured, 0.1);
        assert!((easy - share_at(AT_LEAST, 0.1)).abs() < 0.02 && easy < wanted, "{rate} rows/s: {easy}");
        assert_eq!(stream.controller.threshold(), AT_LEAST, "{rate} rows/s: there is no reason to move");
        for hard in [0.3, 0.6] {
            stream.send(rows, hard);
            assert!(share_at(AT_LEAST, hard) > wanted + 0.05);
            let share = stream.send(measured, hard);
            assert!((share - wanted).abs() <= 0.02, "{rate} rows/s, {hard} hard: {share}");
            assert!(!stream.controller.saturated());
            assert!(stream.controller.threshold() < AT_LEAST);
        }
        stream.send(rows, 0.1);
        assert_eq!(stream.controller.threshold(), AT_LEAST, "{rate} rows/s: it is easy again");
    }
}

#[test]
fn at_the_floor_it_stays_and_says_so() {
    let floor = 0.9;
    let mut stream = Stream::new(Escalation { at_most: 0.25, floor }, 16, 2_000.0);
    let rows = settled(2_000.0);
    stream.send(rows, 0.1);
    assert!(!stream.controller.saturated());
    stream.send(rows, 0.8);
    let share = stream.send(20_000, 0.8);
    assert!((share - share_at(floor, 0.8)).abs() < 0.02 && share > 0.27, "{share}");
    assert_eq!((stream.controller.threshold(), stream.controller.saturated()), (floor, true));
    stream.send(rows, 0.1);
    assert_eq!((stream.controller.threshold(), stream.controller.saturated()), (AT_LEAST, false));
}

#[test]
fn nothing_moves_without_rows() {
    let mut stream = Stream::new(Escalation { at_most: 0.1, floor: 0.5 }, 8, 1_000.0);
    stream.send(LEAST - 8, 1.0);
    stream.now += Duration::from_secs(3600);
    stream.controller.record(&[], stream.now);
    assert_eq!(stream.controller.threshold(), AT_LEAST, "too few rows to judge by");
    stream.send(1_000, 1.0);
    let moved = stream.controller.threshold();
    assert!(moved < AT_LEAST);
    for _ in 0..100 {
        stream.now += Duration::from_secs(60);
        stream.controller.record(&[], stream.now);
        assert_eq!(stream.controller.threshold(), moved, "frozen while idle");
    }
    stream.send(8, 1.0);
    let step = moved - stream.controller.threshold();
    assert!(step <= (AT_LEAST - 0.5) / STEPS + 1e-12, "one step for the first row, however long it was idle: {step}");
}

#[test]
fn few_distinct_measures_never_exceed_the_share() {
    // As of small trees: a tenth of the rows at 0.6, then 0.4 at 0.7, 0.5 at 0.9.
    let escalation = Escalation { at_most: 0.3, floor: 0.5 };
    let start = Instant::now();
    let controller = Controller::new(0.95, escalation, start);
    let measures = [0.6, 0.7, 0.7, 0.7, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9];
    (1..=300).for_each(|tick| controller.record(&measures, start + PERIOD * tick));
    assert_eq!(controller.threshold(), 0.7);
}

#[test]
fn edges() {
    let start = Instant::now();
    let run = |at_most: f64, floor: f64, measure: f64| {
        let controller = Controller::new(0.9, Escalation { at_most, floor }, start);
        (1..=400).for_each(|tick| controller.record(&[measure; 8], start + PERIOD * tick));
        (controller.threshold(), controller.saturated())
    };
    assert_eq!(run(1.0, 0.0, 0.1), (0.9, false));
    assert_eq!(run(0.0, 0.0, 0.3), (0.3, false));
    assert_eq!(run(0.0, 0.4, 0.3), (0.4, true));
    assert_eq!(run(0.5, 0.9, 0.3), (0.9, true));
    assert_eq!(run(0.5, 0.95, 0.3), (0.9, true));
    assert_eq!(run(0.5, 0.2, f64::NAN), (0.2, true));
    assert_eq!(run(0.5, 0.2, 5.0), (0.9, false));
}

#[test]
fn many_threads_at_once() {
    const THREADS: u64 = 4;
    let start = Instant::now();
    let controller = Controller::new(AT_LEAST, Escalation { at_most: 0.25, floor: 0.5 }, start);
    let rows = || controller.seen.load(Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let controller = &controller;
            scope.spawn(move || {
                let mut draw = Draw(thread + 1);
                for tick in 0..4_000_u32 {
                    let measures: [f64; 16] = std::array::from_fn(|_| draw.measure(0.6));
                    controller.record(&measures, start + Duration::from_millis(2) * tick);
                }
            });
        }
    });
    assert_eq!(rows(), THREADS * 4_000 * 16, "no row is lost");
    let share = share_at(controller.threshold(), 0.6);
    // Five standard deviations of the share in one window.
    assert!((share - 0.25).abs() < 0.05, "{share}");
}

#[test]
fn the_window_covers_the_same_time_at_every_rate() {
    for (rate, one_of) in
        [(1_u64, 1_u64), (1_000, 1), (2_048, 1), (2_049, 2), (100_000, 64), (1_000_000_000_000, 1 << SPARSEST)]
    {
        assert_eq!(sparseness(rate as f64), one_of - 1, "{rate}");
        let kept = (0..1_u64 << 16).filter(|row| scattered(*row) & (one_of - 1) == 0).count() as f64;
        let expected = 65_536.0 / one_of as f64;
        assert!((kept - expected).abs() <= 4.0 * expected.sqrt() + 1.0, "one of {one_of}: {kept}");
    }
}
