//! A cascade: every row is asked of the first stage; only rows whose answer it is not sure of go on, as new rows in the next
//! stage's own queue, batched there with everybody else's. Called by `route` for a compiled route.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    budget::Controller,
    call::{Call, Facts, Part, Reply, span},
    gate::{Gate, Verdict},
    rows::{Origin, merge, pick},
};
use crate::{
    observe::{Decision, StageSeries},
    types::{Error, ErrorCode, OnOverload, Rows, Stamps, Tensor},
};

/// What is kept of a caller's time for giving the best answer so far: a tenth, between these.
const RESERVE: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(10));

/// A compiled cascade.
#[derive(Debug)]
pub(super) struct Cascade {
    pub(super) stages: Vec<Step>,
    pub(super) on_overload: OnOverload,
    /// Moves the first stage's threshold.
    pub(super) controller: Option<Arc<Controller>>,
}

/// A compiled stage.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) part: Part,
    /// Which of its outputs is looked at, and how; `None` = always accepted.
    pub(super) accept: Option<(usize, Gate)>,
    /// The threshold as configured, where the measure has one.
    pub(super) at_least: Option<f64>,
    pub(super) series: Arc<StageSeries>,
}

/// Rows that have been answered so far, and those that still want a better answer.
struct Progress {
    /// Per row of the request: where its answer is.
    origins: Vec<Origin>,
    replies: Vec<Vec<Tensor>>,
    /// Rows of the request that go on.
    open: Vec<u32>,
    stamps: Option<Stamps>,
    facts: Facts,
}

impl Cascade {
    /// Shows the thresholds that are in force.
    pub(super) fn announce(&self) {
        for (index, step) in self.stages.iter().enumerate() {
            let controller = self.controller.as_ref().filter(|_| index == 0);
            if let Some(threshold) = controller.map(|controller| controller.threshold()).or(step.at_least) {
                step.series.set_threshold(threshold);
            }
        }
    }

    pub(super) async fn run(&self, rows: Rows, call: Call<'_>) -> Result<Reply, Error> {
        let count = rows.rows;
        let mut progress = Progress {
            origins: vec![Origin { part: 0, row: 0 }; count],
            replies: Vec::with_capacity(self.stages.len()),
            open: (0..u32::try_from(count).unwrap_or(u32::MAX)).collect(),
            stamps: None,
            facts: Facts::default(),
        };
        let mut going = rows.clone();
        for (index, step) in self.stages.iter().enumerate() {
            if index > 0 {
                going = pick(&rows, &progress.open)?;
            }
            let begun = Instant::now();
            match step.part.ask(&going, self.limited(index, call, begun)).await {
                Ok(reply) => self.take(index, step, (reply, begun), &mut progress)?,
                Err(error) if index > 0 && self.on_overload == OnOverload::BestSoFar && passes(&error) => {
                    step.series.decided(Decision::BestSoFar, progress.open.len());
                    progress.facts.degraded = true;
                    break;
                }
                Err(error) => {
                    if error.code() == ErrorCode::DeadlineExceeded {
                        step.series.decided(Decision::Expired, progress.open.len());
                    }
                    return Err(error);
                }
            }
            if progress.open.is_empty() {
                break;
            }
        }
        self.answer(progress)
    }

    /// A later stage whose overload is forgiven must leave time to give the answer that there is.
    fn limited<'a>(&self, index: usize, call: Call<'a>, now: Instant) -> Call<'a> {
        match call.asked {
            Some(asked) if index > 0 && self.on_overload == OnOverload::BestSoFar => {
                let left = asked.saturating_duration_since(now);
                call.by(asked.checked_sub((left / 10).clamp(RESERVE.0, RESERVE.1)))
            }
            _ => call,
        }
    }

    /// Takes in a stage's reply to the open rows, and keeps open those that it is not sure of.
    fn take(
        &self,
        index: usize,
        step: &Step,
        (reply, begun): (Reply, Instant),
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let part = u32::try_from(progress.replies.len()).unwrap_or(u32::MAX);
        for (row, open) in (0..).zip(&progress.open) {
            if let Some(origin) = progress.origins.get_mut(*open as usize) {
                *origin = Origin { part, row };
            }
        }
        progress.replies.push(step.part.select(&reply.outputs)?);
        progress.stamps = Some(progress.stamps.map_or(reply.stamps, |first| span(first, reply.stamps)));
        progress.facts.absorb(Facts { stage_rows: Vec::new(), ..reply.facts });
        step.series.ran(begun.elapsed());
        let asked = progress.open.len();
        match &step.accept {
            None => progress.open.clear(),
            Some((output, gate)) => {
                let scores = reply.outputs.get(*output);
                let scores = scores.ok_or_else(|| Error::internal("route: failed", "a stage gave no scores"))?;
                let controller = self.controller.as_deref().filter(|_| index == 0);
                decide(&step.series, gate, controller, scores, progress)?;
            }
        }
        let escalated = progress.open.len();
        step.series.decided(Decision::Accepted, asked - escalated);
        step.series.decided(Decision::Escalated, escalated);
        Ok(())
    }

    fn answer(&self, progress: Progress) -> Result<Reply, Error> {
        let Progress { origins, replies, stamps, mut facts, .. } = progress;
        let mut stage_rows = vec![0; self.stages.len()];
        for origin in &origins {
            if let Some(rows) = stage_rows.get_mut(origin.part as usize) {
                *rows += 1;
            }
        }
        facts.stage_rows = stage_rows;
        let path = origins.iter().map(|origin| i32::try_from(origin.part).unwrap_or(i32::MAX)).collect();
        let stamps = stamps.unwrap_or_else(|| Stamps::at(Instant::now()));
        Ok(Reply { outputs: merge(&origins, replies)?, stamps, facts, path })
    }
}

/// Keeps open the rows that the gate does not accept.
fn decide(
    series: &StageSeries,
    gate: &Gate,
    controller: Option<&Controller>,
    scores: &Tensor,
    progress: &mut Progress,
) -> Result<(), Error> {
    let mut verdict = Verdict::default();
    gate.decide(scores, controller.map(Controller::threshold), &mut verdict)?;
    if verdict.measures.len() != progress.open.len() {
        let detail = format!("{} scores for {} rows", verdict.measures.len(), progress.open.len());
        return Err(Error::internal("route: failed", detail));
    }
    progress.open = verdict.escalated.iter().filter_map(|row| progress.open.get(*row).copied()).collect();
    progress.facts.degraded |= verdict.relaxed > 0;
    if let Some(controller) = controller {
        controller.record(&verdict.measures, Instant::now());
        series.set_threshold(controller.threshold());
        series.set_saturated(controller.saturated());
    }
    Ok(())
}

/// True for failures that say nothing about the rows themselves: no room, no time, not there.
fn passes(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::Overloaded | ErrorCode::DeadlineExceeded | ErrorCode::Unavailable)
}
