//! A request that has been found good and waits for its answer: what is left of it once everything that can be said at once has
//! been said. Made by `Gateway::ask` and its short way, answered by `Gateway::answer`.

use std::{fmt, sync::Arc, time::Instant};

use crate::{
    compose::{Route, Target},
    scheduler::Terms,
    types::{InferRequest, Rows},
};

/// A request that may be answered.
pub struct Asked(pub(super) Of);

/// What it asks.
pub(super) enum Of {
    /// One version of a model, and the inputs.
    Model(Question, Rows),
    /// A route, which looks at the whole request.
    Route(Box<(Arc<Route>, InferRequest)>),
}

/// A request to a model.
pub(super) struct Question {
    pub(super) target: Arc<Target>,
    /// The outputs wanted, by place; `None` = all.
    pub(super) wanted: Option<Vec<usize>>,
    pub(super) terms: Terms,
    /// The caller's id.
    pub(super) id: Box<str>,
    pub(super) received: Instant,
}

impl Asked {
    pub(super) fn model(question: Question, rows: Rows) -> Self {
        Self(Of::Model(question, rows))
    }

    pub(super) fn route(route: Arc<Route>, request: InferRequest) -> Self {
        Self(Of::Route(Box::new((route, request))))
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Of::Model(question, _) => f.debug_tuple("Asked").field(&question.target).finish(),
            Of::Route(asked) => f.debug_tuple("Asked").field(asked.0.answered()).finish(),
        }
    }
}
