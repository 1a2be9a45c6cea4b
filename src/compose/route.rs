//! A compiled route: everything that a request to it needs, looked up once when the table is built. The kinds are in files of
//! their own; here is what they share.

use std::{fmt, pin::Pin, sync::Arc};

use super::{
    call::{Call, Reply},
    cascade::Cascade,
    change::LiveRoute,
    ensemble::Ensemble,
    split::Split,
    switch::Switch,
    world::{Sources, World},
};
use crate::{
    observe::{RequestSeries, RouteSeries},
    types::{
        Answered, Batch, ClassNames, Data, Error, InferRequest, ModelName, NamedTensor, Rows, Shape, Signature, Tensor,
    },
};

/// A route compiled for the place where it is named.
#[derive(Debug)]
pub(super) struct RouteNode {
    pub(super) signature: Arc<Signature>,
    /// Inputs that no model needs and that may be sent all the same: sticky keys.
    pub(super) optional: Vec<Arc<str>>,
    pub(super) body: Body,
    /// The most rows a request may have, when a model says so.
    pub(super) max_rows: Option<usize>,
    /// Class names per output.
    pub(super) class_names: Arc<ClassNames>,
    /// Held so that what its parts record is shown.
    pub(super) series: Arc<RouteSeries>,
}

/// What a route does.
#[derive(Debug)]
pub(super) enum Body {
    Split(Split),
    Cascade(Cascade),
    Switch(Switch),
    Ensemble(Ensemble),
}

impl RouteNode {
    /// Asks it. Its inputs are those of its signature, then the optional ones.
    pub(super) fn run<'a>(
        &'a self,
        rows: Rows,
        call: Call<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>> {
        match &self.body {
            Body::Split(split) => Box::pin(split.run(rows, call)),
            Body::Cascade(cascade) => Box::pin(cascade.run(rows, call)),
            Body::Switch(switch) => Box::pin(switch.run(rows, call)),
            Body::Ensemble(ensemble) => Box::pin(ensemble.run(rows, call)),
        }
    }

    /// Everything that it takes, in the order in which it takes it.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Arc<str>> {
        self.signature.inputs.iter().map(|input| &input.name).chain(&self.optional)
    }
}

/// A revision of a route that answers.
pub struct Route {
    pub(super) node: RouteNode,
    pub(super) live: LiveRoute,
    pub(super) answered: Answered,
    pub(super) requests: Arc<RequestSeries>,
    pub(super) sources: Sources,
}

impl Route {
    /// True when compiling the route again would give the same.
    pub(super) fn holds(&self, name: &ModelName, world: World<'_>) -> bool {
        let now = world.routes.get(name).map(|live| live.revision.number);
        now == Some(self.live.revision.number) && self.sources.hold(world)
    }

    /// Shows what it goes by: called when it begins to answer.
    pub(super) fn announce(&self) {
        if let Body::Cascade(cascade) = &self.node.body {
            cascade.announce();
        }
    }

    /// Its revision and configuration.
    pub fn live(&self) -> &LiveRoute {
        &self.live
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.node.signature
    }

    /// Who answers, for the response.
    pub fn answered(&self) -> &Answered {
        &self.answered
    }

    /// Where its requests are counted, unless one arm of a split answers.
    pub fn requests(&self) -> &Arc<RequestSeries> {
        &self.requests
    }

    /// The route's own series.
    pub fn series(&self) -> &Arc<RouteSeries> {
        &self.node.series
    }

    /// Class names per output, for the classification extension.
    pub fn class_names(&self) -> &Arc<ClassNames> {
        &self.node.class_names
    }

    /// True when dimension 0 of its outputs is rows.
    pub fn batched(&self) -> bool {
        self.node.signature.batch == Batch::Rows
    }

    /// The most rows that a request may have, given the server's own limit.
    pub fn max_rows(&self, server_limit: usize) -> usize {
        self.node.max_rows.map_or(server_limit, |rows| rows.clamp(1, server_limit))
    }

    /// Checks a request's inputs, and puts them into the order in which the route takes them.
    ///
    /// # Errors
    /// As [`Signature::accept`]; a key that does not have one element per row.
    pub fn accept(&self, request: &InferRequest, server_limit: usize) -> Result<Rows, Error> {
        let signature = &self.node.signature;
        let limit = self.max_rows(server_limit);
        if self.node.optional.is_empty() {
            return signature.accept(&request.inputs, limit);
        }
        let is_key = |input: &&NamedTensor| self.node.optional.contains(&input.name);
        let needed: Vec<NamedTensor> = request.inputs.iter().filter(|input| !is_key(input)).cloned().collect();
        let accepted = signature.accept(&needed, limit)?;
        let mut inputs = accepted.inputs.to_vec();
        for name in &self.node.optional {
            let mut given = request.inputs.iter().filter(|input| input.name == *name);
            inputs.push(match given.next() {
                Some(key) => checked_key(key, accepted.rows)?,
                None => Tensor::strings(Shape::from_slice(&[0]), Vec::new().into())?,
            });
            if given.next().is_some() {
                return Err(Error::invalid(format!("input '{name}': given twice")));
            }
        }
        Ok(Rows { inputs: inputs.into(), rows: accepted.rows })
    }

    /// Runs accepted rows.
    ///
    /// # Errors
    /// What the models say; see [`crate::scheduler::Lane::run`].
    pub async fn run(&self, rows: Rows, call: Call<'_>) -> Result<Reply, Error> {
        self.node.run(rows, call).await
    }

    /// The arm that a key gets and its u, when the route is a split.
    pub fn assignment(&self, key: &[u8]) -> Option<(Arc<str>, f64)> {
        match &self.node.body {
            Body::Split(split) => Some(split.preview(key)),
            _ => None,
        }
    }
}

fn checked_key(key: &NamedTensor, rows: usize) -> Result<Tensor, Error> {
    let subject = || format!("input '{}'", key.name);
    if !matches!(key.tensor.shape(), [count] | [count, 1] if *count == rows) {
        let got = format!("{:?}", key.tensor.shape());
        return Err(Error::expected(format!("{}: shape", subject()), format_args!("[{rows}]"), got));
    }
    if key.tensor.dtype().is_float() {
        return Err(Error::expected(subject(), "text, integers or booleans as a key", key.tensor.dtype()));
    }
    if let Data::Strings(items) = key.tensor.data()
        && let Some(bad) = items.iter().position(|item| std::str::from_utf8(item).is_err())
    {
        return Err(Error::invalid(format!("{}: element {bad} is not UTF-8", subject())));
    }
    Ok(key.tensor.clone())
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("answered", &self.answered).finish_non_exhaustive()
    }
}
