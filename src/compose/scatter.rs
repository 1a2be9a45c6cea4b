//! Rows of one request that go to different parts and come back in order: what a split by rows and a switch share.

use std::time::{Duration, Instant};

use super::{
    call::{Call, Facts, Part, Reply, span},
    join::{Branch, try_join},
    rows::{Origin, merge, pick},
};
use crate::types::{Error, Rows, Stamps};

/// What the parts answered, put together.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) reply: Reply,
    /// For each part that was asked: which one, and how long it took.
    pub(super) took: Vec<(usize, Duration)>,
}

/// Sends every row to the part that `choice` names for it; rows of one part travel together, parts are asked side by side. The
/// path of the reply is `choice`.
///
/// # Errors
/// The first error of a part.
pub(super) async fn scatter<'p>(
    parts: impl Fn(usize) -> Option<&'p Part>,
    choice: &[u32],
    rows: &Rows,
    call: Call<'_>,
) -> Result<Gathered, Error> {
    let mut used: Vec<u32> = choice.to_vec();
    used.sort_unstable();
    used.dedup();
    let mut branches: Vec<Branch<'_, Result<(Reply, Duration), Error>>> = Vec::with_capacity(used.len());
    let mut origins = vec![Origin { part: 0, row: 0 }; choice.len()];
    let mut chosen = Vec::with_capacity(used.len());
    for (index, which) in (0..).zip(&used) {
        let mine: Vec<u32> = (0..).zip(choice).filter(|(_, chosen)| *chosen == which).map(|(row, _)| row).collect();
        for (row, place) in (0..).zip(&mine) {
            if let Some(origin) = origins.get_mut(*place as usize) {
                *origin = Origin { part: index, row };
            }
        }
        let part = parts(*which as usize).ok_or_else(|| Error::internal("route: failed", "a choice without a part"))?;
        let given = pick(rows, &mine)?;
        chosen.push(part);
        branches.push(Box::pin(async move {
            let begun = Instant::now();
            let reply = part.ask(&given, call).await?;
            Ok((reply, begun.elapsed()))
        }));
    }
    let replies = try_join(branches).await?;
    let mut facts = Facts::default();
    let mut stamps: Option<Stamps> = None;
    let (mut outputs, mut took) = (Vec::with_capacity(replies.len()), Vec::with_capacity(replies.len()));
    for ((which, part), (reply, time)) in used.iter().zip(chosen).zip(replies) {
        outputs.push(part.select(&reply.outputs)?);
        took.push((*which as usize, time));
        facts.absorb(reply.facts);
        stamps = Some(stamps.map_or(reply.stamps, |first| {
            let (first, last) =
                if first.scattered <= reply.stamps.scattered { (first, reply.stamps) } else { (reply.stamps, first) };
            span(first, last)
        }));
    }
    let path = choice.iter().map(|which| i32::try_from(*which).unwrap_or(i32::MAX)).collect();
    let stamps = stamps.unwrap_or_else(|| Stamps::at(Instant::now()));
    let reply = Reply { outputs: merge(&origins, outputs)?, stamps, facts, path };
    Ok(Gathered { reply, took })
}
