//! Where predictions go besides to their callers: one call per answer of a model, at the gateway's exit or, for a part of a
//! route, where the route takes it in. The default records scores into histograms.

use std::sync::Arc;

use crate::{
    observe::{ScoreSeries, ServableSeries},
    types::Tensor,
};

/// An answer of a model, as a sink sees it: to a request, or to rows that a route asked it.
#[derive(Debug)]
pub struct Prediction<'a> {
    /// The version that answered.
    pub series: &'a Arc<ServableSeries>,
    /// Its scores under the variant that the rows came by.
    pub scores: &'a ScoreSeries,
    /// All outputs of the model, in its order.
    pub outputs: &'a [Tensor],
}

/// Takes note of predictions. Called on the I/O thread: it must neither block nor fail.
pub trait PredictionSink: Send + Sync {
    /// Takes note of one answer of a model.
    fn predicted(&self, prediction: &Prediction<'_>);
}

/// Records scores and predicted classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreSink;

impl PredictionSink for ScoreSink {
    fn predicted(&self, prediction: &Prediction<'_>) {
        let scores = prediction.scores;
        if let Some(output) = scores.score().and_then(|score| prediction.outputs.get(score.output)) {
            scores.record(output);
        }
    }
}
