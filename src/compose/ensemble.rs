//! An ensemble: all members are asked side by side, and what they say becomes one answer. Called by `route` for a compiled route.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    call::{Call, Facts, Part, Reply, span},
    combine::{Said, combine, disagreement},
    join::{Branch, join_until},
};
use crate::{
    observe::StageSeries,
    types::{Combine, Error, ErrorCode, Rows, Stamps, Tensor},
};

/// What is kept of a caller's time for combining what a quorum has said: a tenth, between these.
const RESERVE: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(10));

/// A compiled ensemble.
#[derive(Debug)]
pub(super) struct Ensemble {
    pub(super) members: Vec<Member>,
    pub(super) how: Combine,
    pub(super) quorum: usize,
    /// The output whose disagreement is told, if it is.
    pub(super) disagreement: Option<usize>,
}

/// A compiled member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) part: Part,
    pub(super) weight: f64,
    pub(super) series: Arc<StageSeries>,
}

type Voice = Result<(Reply, Duration), Error>;

impl Ensemble {
    pub(super) async fn run(&self, rows: Rows, call: Call<'_>) -> Result<Reply, Error> {
        let ended = self.hear(&rows, call).await;
        let all = self.members.len();
        let mut heard: Vec<(f64, Vec<Tensor>)> = Vec::with_capacity(all);
        let (mut facts, mut stamps, mut failure) = (Facts::default(), None::<Stamps>, None);
        for (member, voice) in self.members.iter().zip(ended) {
            match voice {
                Some(Ok((reply, took))) => {
                    member.series.ran(took);
                    heard.push((member.weight, member.part.select(&reply.outputs)?));
                    facts.absorb(Facts { stage_rows: Vec::new(), ..reply.facts });
                    stamps = Some(stamps.map_or(reply.stamps, |first| span(first, reply.stamps)));
                }
                Some(Err(error)) => failure = failure.or(Some(error)),
                None => {}
            }
        }
        if heard.len() < self.quorum.max(1) {
            return Err(failure.unwrap_or_else(late));
        }
        facts.degraded |= heard.len() < all;
        let outputs = self.combined(&heard)?;
        let path = vec![i32::try_from(heard.len()).unwrap_or(i32::MAX); rows.rows];
        let stamps = stamps.unwrap_or_else(|| Stamps::at(Instant::now()));
        Ok(Reply { outputs, stamps, facts, path })
    }

    /// Asks everybody, and listens until all have answered, until no quorum is possible any more, or until so little of the
    /// caller's time is left that a quorum must do.
    async fn hear(&self, rows: &Rows, call: Call<'_>) -> Vec<Option<Voice>> {
        let branches = self.members.iter().map(|member| -> Branch<'_, Voice> {
            let part = &member.part;
            Box::pin(async move {
                let begun = Instant::now();
                let reply = part.ask(rows, call).await?;
                Ok((reply, begun.elapsed()))
            })
        });
        let mut branches: Vec<Branch<'_, Voice>> = branches.collect();
        if let Some(until) = self.patience(call) {
            // The clock is one more voice: when it has spoken, a quorum is enough.
            branches.push(Box::pin(async move {
                tokio::time::sleep_until(until.into()).await;
                Err(late())
            }));
        }
        let all = self.members.len();
        let spare = all - self.quorum.clamp(1, all);
        let mut ended = join_until(branches, |ended| {
            let (members, clock) = ended.split_at(all.min(ended.len()));
            let good = members.iter().filter(|voice| matches!(voice, Some(Ok(_)))).count();
            let bad = members.iter().filter(|voice| matches!(voice, Some(Err(_)))).count();
            good + bad == all || bad > spare || (clock.iter().any(Option::is_some) && good + spare >= all)
        })
        .await;
        ended.truncate(all);
        ended
    }

    /// When a quorum must do; `None` when everybody is needed anyway or the caller has all the time.
    fn patience(&self, call: Call<'_>) -> Option<Instant> {
        let asked = call.asked.filter(|_| self.quorum < self.members.len())?;
        let left = asked.saturating_duration_since(Instant::now());
        asked.checked_sub((left / 10).clamp(RESERVE.0, RESERVE.1))
    }

    fn combined(&self, heard: &[(f64, Vec<Tensor>)]) -> Result<Vec<Tensor>, Error> {
        let count = heard.first().map_or(0, |(_, outputs)| outputs.len());
        let mut outputs = Vec::with_capacity(count + 1);
        for output in 0..count {
            outputs.push(combine(self.how, &said(heard, output)?)?);
        }
        if let Some(output) = self.disagreement {
            outputs.push(disagreement(self.how, &said(heard, output)?)?);
        }
        Ok(outputs)
    }
}

/// What the members said of one output.
fn said(heard: &[(f64, Vec<Tensor>)], output: usize) -> Result<Vec<Said<'_>>, Error> {
    let mut said = Vec::with_capacity(heard.len());
    for (weight, outputs) in heard {
        said.extend(outputs.get(output).map(|output| Said { output, weight: *weight }));
    }
    let said = (said.len() == heard.len()).then_some(said);
    said.ok_or_else(|| Error::internal("route: failed", "a member gave too few outputs"))
}

fn late() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "deadline exceeded: too few members of the ensemble had answered")
}
