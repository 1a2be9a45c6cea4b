//! One request on its way through models and routes: what travels along ([`Call`]), what comes back ([`Reply`]), and the two
//! things that can be asked ([`Callee`]). Made by the gateway; passed on by every kind of route.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tracing::Instrument as _;

use super::{
    route::RouteNode,
    sink::{Prediction, PredictionSink},
};
use crate::{
    observe::{RequestSeries, ScoreSeries},
    registry::Servable,
    scheduler::Terms,
    types::{Error, InferRequest, ModelSpec, Params, RequestContext, Rows, Stamps, Tensor},
};

/// What travels along with the rows of a request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The request's parameters.
    pub(super) params: &'a Params,
    /// What the transport knows.
    pub(super) context: &'a RequestContext,
    /// When the caller wants it by.
    pub(super) asked: Option<Instant>,
    /// How urgent it is; 0 = as the model says.
    priority: u64,
    /// Whose it is; 0 = nobody's.
    tenant: u64,
    /// Told of every prediction that is made for it.
    pub(super) sink: &'a dyn PredictionSink,
}

impl<'a> Call<'a> {
    /// The call of a request.
    ///
    /// # Errors
    /// `InvalidArgument` when the parameter `timeout` is not a number of microseconds, or `priority` is not a level.
    pub fn new(request: &'a InferRequest, sink: &'a dyn PredictionSink) -> Result<Self, Error> {
        let asked = asked(&request.params, &request.context)?;
        let priority = priority(&request.params)?;
        Ok(Self { params: &request.params, context: &request.context, asked, priority, tenant: 0, sink })
    }

    /// The same call, of a tenant.
    #[must_use]
    pub fn of(self, tenant: u64) -> Self {
        Self { tenant, ..self }
    }

    /// On what terms a model is asked for it.
    pub fn terms(&self, spec: &ModelSpec) -> Terms {
        Terms { deadline: self.deadline(spec), priority: self.priority, tenant: self.tenant }
    }

    /// The same call, to be answered by `limit` at the latest.
    pub(super) fn by(self, limit: Option<Instant>) -> Self {
        Self { asked: [self.asked, limit].into_iter().flatten().min(), ..self }
    }

    /// Until when a model has for it: what the caller wants, else the model's default, never beyond the model's cap.
    pub fn deadline(&self, spec: &ModelSpec) -> Option<Instant> {
        deadline(spec, self.asked, self.context.received)
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// Until when a model has for a request that came then and is wanted by `asked`.
pub(super) fn deadline(spec: &ModelSpec, asked: Option<Instant>, received: Instant) -> Option<Instant> {
    let chosen = asked.or_else(|| spec.deadline.map(|after| received + after));
    let cap = spec.deadline_max.map(|after| received + after);
    [chosen, cap].into_iter().flatten().min()
}

fn asked(params: &Params, context: &RequestContext) -> Result<Option<Instant>, Error> {
    let asked = match params.get("timeout") {
        None => None,
        Some(value) => {
            let Some(micros) = value.as_u64() else {
                return Err(Error::expected("parameter 'timeout'", "microseconds as an unsigned integer", value));
            };
            // Zero means none, as in the schedule policy extension.
            (micros > 0).then(|| context.received.checked_add(Duration::from_micros(micros))).flatten()
        }
    };
    Ok([asked, context.deadline].into_iter().flatten().min())
}

fn priority(params: &Params) -> Result<u64, Error> {
    match params.get("priority") {
        None => Ok(0),
        Some(value) => value
            .as_u64()
            .ok_or_else(|| Error::expected("parameter 'priority'", "a non-negative integer", value.shown())),
    }
}

/// 64 random bits, for requests that bring no key. Not for secrets.
pub(super) fn random() -> u64 {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    thread_local! {
        static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let count = COUNT.with(|count| {
        count.set(count.get().wrapping_add(1));
        count.get()
    });
    SEED.get_or_init(RandomState::new).hash_one((std::thread::current().id(), count))
}

/// What a model or route answered.
#[derive(Debug)]
pub struct Reply {
    /// Its outputs, in its order.
    pub outputs: Vec<Tensor>,
    /// When what happened: of several inner runs from the first that was queued to the last that was back.
    pub stamps: Stamps,
    /// What the answer tells besides.
    pub facts: Facts,
    /// Per row the index of the stage, arm or case that answered, or the number of members; empty for a model.
    pub path: Vec<i32>,
}

/// What an answer tells about how it came about.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The outermost split that the rows went through.
    pub split: Option<SplitFacts>,
    /// Rows answered per stage of the outermost cascade.
    pub stage_rows: Vec<u32>,
    /// A row was answered by best-so-far, accepted below `at_least`, or by fewer than all members.
    pub degraded: bool,
}

/// Which arms of a split answered.
#[derive(Clone, Debug)]
pub struct SplitFacts {
    /// Names of the arms in the order of the file, joined by ','.
    pub variant: Arc<str>,
    /// Their models or routes.
    pub model: Arc<str>,
    /// Their versions or revisions.
    pub version: Arc<str>,
    /// The same key gets the same arm.
    pub sticky: bool,
    /// Where a request that one arm answered is counted.
    pub requests: Option<Arc<RequestSeries>>,
}

impl Facts {
    /// Takes in what an inner answer tells.
    pub(super) fn absorb(&mut self, inner: Facts) {
        self.degraded |= inner.degraded;
        if self.split.is_none() {
            self.split = inner.split;
        }
        if inner.stage_rows.len() > self.stage_rows.len() {
            self.stage_rows.resize(inner.stage_rows.len(), 0);
        }
        self.stage_rows.iter_mut().zip(inner.stage_rows).for_each(|(mine, rows)| *mine += rows);
    }
}

/// The stamps of several inner runs as those of one: their own first is the queue's, the last one's are the rest.
pub(super) fn span(first: Stamps, last: Stamps) -> Stamps {
    let earlier = first.queued.min(last.queued);
    Stamps { received: earlier, queued: earlier, taken: first.taken.max(earlier).min(last.gathered), ..last }
}

/// What can be asked, compiled for the place where it is named.
#[derive(Debug)]
pub(super) enum Callee {
    /// A version of a model.
    Model(Leaf),
    /// A route.
    Route(Box<RouteNode>),
}

/// A version of a model inside a route.
pub(super) struct Leaf {
    pub(super) servable: Arc<Servable>,
    /// Its scores under the variant of the outermost split.
    pub(super) scores: Arc<ScoreSeries>,
}

impl Leaf {
    async fn run(&self, rows: Rows, call: Call<'_>) -> Result<Reply, Error> {
        let count = rows.rows;
        let answer = self.servable.lane.run(rows, call.terms(&self.servable.spec)).await?;
        self.servable.series.inner_answered(&answer.stamps, count);
        let series = &self.servable.series;
        call.sink.predicted(&Prediction { series, scores: &self.scores, outputs: &answer.outputs });
        Ok(Reply { outputs: answer.outputs, stamps: answer.stamps, facts: Facts::default(), path: Vec::new() })
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leaf").field(&self.servable.id).finish()
    }
}

/// A model or route at its place in a route.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) callee: Callee,
    /// For each of its inputs, which of the route's it is.
    pub(super) inputs: Box<[usize]>,
    /// For each of the route's outputs, which of its own it is; empty for a selector.
    pub(super) outputs: Box<[usize]>,
    /// Its name, for answers and logs.
    pub(super) name: Arc<str>,
    /// Its version, or the revision of a route.
    pub(super) version: Arc<str>,
}

impl Part {
    /// Asks it. The outputs come back in its own order.
    ///
    /// # Errors
    /// As [`crate::scheduler::Lane::run`], or what the route says.
    pub(super) async fn ask(&self, rows: &Rows, call: Call<'_>) -> Result<Reply, Error> {
        let rows = self.arranged(rows)?;
        let span = tracing::debug_span!("ask", model = &*self.name, version = &*self.version, rows = rows.rows);
        match &self.callee {
            Callee::Model(leaf) => leaf.run(rows, call).instrument(span).await,
            Callee::Route(route) => route.run(rows, call).instrument(span).await,
        }
    }

    /// The route's outputs out of its own.
    ///
    /// # Errors
    /// `Internal` when it answered fewer outputs than its signature says.
    pub(super) fn select(&self, outputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let one = |index: &usize| outputs.get(*index).cloned();
        let selected: Option<Vec<_>> = self.outputs.iter().map(one).collect();
        selected.ok_or_else(|| Error::internal("route: failed", format!("{} gave too few outputs", self.name)))
    }

    fn arranged(&self, rows: &Rows) -> Result<Rows, Error> {
        if self.inputs.len() == rows.inputs.len() && self.inputs.iter().enumerate().all(|(i, from)| i == *from) {
            return Ok(rows.clone());
        }
        let inputs: Option<Arc<[Tensor]>> = self.inputs.iter().map(|from| rows.inputs.get(*from).cloned()).collect();
        let inputs = inputs.ok_or_else(|| Error::internal("route: failed", format!("{} lacks an input", self.name)))?;
        Ok(Rows { inputs, rows: rows.rows })
    }
}
