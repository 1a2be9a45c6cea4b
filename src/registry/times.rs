//! Where the time of a load goes, stage by stage: what operators look at when a version takes long to appear. Measured by the
//! loader, shown by the log, `weir models` and the ops API.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Stages that took less are left out where people read.
const SHOWN: Duration = Duration::from_micros(50);

/// How long each stage of a load took; zero for a stage that did not take place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Reading the files and their digests.
    pub read: Duration,
    /// Trying the model in a process of its own.
    pub probe: Duration,
    /// Decoding, checking and typing the graph.
    pub parse: Duration,
    /// Compiling the first batch size.
    pub compile: Duration,
    /// The golden answers.
    pub golden: Duration,
    /// One run on zeros, where there are no golden answers.
    pub sample: Duration,
    /// Loading in the other engine, comparing and timing, where there is a choice.
    pub choice: Duration,
    /// The proof that rows may share batches.
    pub proof: Duration,
    /// Everything else: score, metrics, the way into the scheduler.
    pub rest: Duration,
}

impl LoadTimes {
    /// The stages with their names, in their order.
    pub fn stages(&self) -> [(&'static str, Duration); 9] {
        let Self { read, probe, parse, compile, golden, sample, choice, proof, rest } = *self;
        [
            ("read", read),
            ("probe", probe),
            ("parse", parse),
            ("compile", compile),
            ("golden", golden),
            ("sample", sample),
            ("choice", choice),
            ("proof", proof),
            ("rest", rest),
        ]
    }

    /// From the files to a version that serves.
    pub fn total(&self) -> Duration {
        self.stages().iter().map(|(_, took)| *took).sum()
    }
}

/// `12.3 ms: read 0.1, probe 6.0, …`, without the stages that took next to none.
impl fmt::Display for LoadTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        write!(f, "{:.1} ms", ms(self.total()))?;
        let taken = self.stages().into_iter().filter(|(_, took)| *took >= SHOWN);
        for (index, (name, took)) in taken.enumerate() {
            write!(f, "{} {name} {:.1}", if index == 0 { ":" } else { "," }, ms(took))?;
        }
        Ok(())
    }
}

/// A stop watch that knows the stages.
#[derive(Debug)]
pub(super) struct LoadClock {
    times: LoadTimes,
    last: Instant,
}

impl LoadClock {
    pub(super) fn start() -> Self {
        Self { times: LoadTimes::default(), last: Instant::now() }
    }

    /// The time since the last stage's end belongs to this one.
    pub(super) fn stage(&mut self, stage: impl FnOnce(&mut LoadTimes) -> &mut Duration) {
        let now = Instant::now();
        *stage(&mut self.times) += now - self.last;
        self.last = now;
    }

    /// Of the time since the last stage's end, this went into the engine that was kept, and the rest into the choice of it.
    pub(super) fn engine(&mut self, kept: LoadTimes) {
        self.stage(|times| &mut times.choice);
        self.times.choice = self.times.choice.saturating_sub(kept.total());
        let LoadTimes { probe, parse, compile, golden, sample, .. } = kept;
        self.times = LoadTimes { probe, parse, compile, golden, sample, ..self.times };
    }

    /// The time since the last stage's end is the rest.
    pub(super) fn stop(mut self) -> LoadTimes {
        self.stage(|times| &mut times.rest);
        self.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_and_empty_ones_are_not_shown() {
        let ms = Duration::from_millis;
        let times = LoadTimes { read: ms(1), parse: ms(20), rest: Duration::from_micros(250), ..LoadTimes::default() };
        assert_eq!(times.to_string(), "21.2 ms: read 1.0, parse 20.0, rest 0.2");
        assert_eq!(LoadTimes::default().to_string(), "0.0 ms");
    }

    #[test]
    fn the_clock_gives_every_moment_to_one_stage() {
        let begun = Instant::now();
        let mut clock = LoadClock::start();
        clock.stage(|times| &mut times.read);
        clock.stage(|times| &mut times.proof);
        let times = clock.stop();
        assert!(times.total() <= begun.elapsed());
        assert_eq!(times.probe, Duration::ZERO);
    }
}
