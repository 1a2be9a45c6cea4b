//! A name that stands for a model: one loaded version with everything a request to it needs, looked up once when the table is
//! built so that the hot path looks up nothing.

use std::{fmt, sync::Arc, time::Instant};

use crate::{
    observe::{RequestSeries, ScoreSeries, ServableSeries},
    registry::Servable,
    scheduler::{Answer, Terms},
    types::{Answered, Batch, ClassNames, Error, ErrorCode, InferRequest, PlainInputs, Rows},
};

use super::call::deadline;

/// A version that answers.
pub struct Target {
    servable: Arc<Servable>,
    answered: Answered,
    requests: Arc<RequestSeries>,
    scores: Arc<ScoreSeries>,
}

impl Target {
    /// A target for requests that come in under `name`.
    pub fn new(name: &Arc<str>, servable: Arc<Servable>, metrics: &crate::observe::Metrics) -> Self {
        let version: Arc<str> = servable.id.version.to_string().into();
        let requests = metrics.requests(name, &version, "");
        let scores = servable.series.scores("");
        let answered = Answered { model: Arc::clone(name), version, variant: "".into() };
        Self { servable, answered, requests, scores }
    }

    /// The version behind it.
    pub fn servable(&self) -> &Arc<Servable> {
        &self.servable
    }

    /// Who answers, for the response.
    pub fn answered(&self) -> &Answered {
        &self.answered
    }

    /// Where its requests are counted.
    pub fn requests(&self) -> &Arc<RequestSeries> {
        &self.requests
    }

    /// Where its scores are counted.
    pub fn scores(&self) -> &Arc<ScoreSeries> {
        &self.scores
    }

    /// The version's own series.
    pub fn series(&self) -> &Arc<ServableSeries> {
        &self.servable.series
    }

    /// Class names per output, for the classification extension.
    pub fn class_names(&self) -> &Arc<ClassNames> {
        self.servable.classes.names()
    }

    /// True when dimension 0 of its outputs is rows.
    pub fn batched(&self) -> bool {
        self.servable.signature.batch == Batch::Rows
    }

    /// The most rows that a request may have, given the server's own limit.
    pub fn max_rows(&self, server_limit: usize) -> usize {
        self.servable.spec.max_request_rows.map_or(server_limit, |rows| rows.clamp(1, server_limit))
    }

    /// Checks a request's inputs against the model.
    ///
    /// # Errors
    /// As [`crate::types::Signature::accept`].
    pub fn accept(&self, request: &InferRequest, server_limit: usize) -> Result<Rows, Error> {
        let accepted = self.servable.signature.accept(&request.inputs, self.max_rows(server_limit));
        accepted.inspect_err(|error| {
            if error.code() == ErrorCode::TooLarge {
                self.series().rejected(crate::observe::Reject::TooLarge);
            }
        })
    }

    /// The short way of [`Target::accept`]: `None` where that refuses, and for inputs in another order than the model's. Nothing
    /// has been taken then.
    pub fn accept_plain(&self, inputs: &mut PlainInputs<'_>, server_limit: usize) -> Option<Rows> {
        self.servable.signature.accept_plain(inputs, self.max_rows(server_limit))
    }

    /// On what terms it is asked by who says nothing but when the answer is wanted.
    pub fn plain_terms(&self, asked: Option<Instant>, received: Instant) -> Terms {
        deadline(&self.servable.spec, asked, received).into()
    }

    /// Runs accepted rows.
    ///
    /// # Errors
    /// As [`crate::scheduler::Lane::run`].
    pub fn run(&self, rows: Rows, terms: Terms) -> impl Future<Output = Result<Answer, Error>> + Send {
        self.servable.lane.run(rows, terms)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("answered", &self.answered).finish_non_exhaustive()
    }
}
