//! Where predictions go besides to their callers: one call per answered request, at the gateway's exit. The default records
//! scores into histograms.

use crate::{compose::Target, types::Tensor};

/// An answered request, as a sink sees it.
#[derive(Debug)]
pub struct Prediction<'a> {
    /// Who answered.
    pub target: &'a Target,
    /// All outputs of the model, in its order.
    pub outputs: &'a [Tensor],
}

/// Takes note of predictions. Called on the I/O thread: it must neither block nor fail.
pub trait PredictionSink: Send + Sync {
    /// Takes note of one answered request.
    fn predicted(&self, prediction: &Prediction<'_>);
}

/// Records scores and predicted classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreSink;

impl PredictionSink for ScoreSink {
    fn predicted(&self, prediction: &Prediction<'_>) {
        let scores = prediction.target.scores();
        if let Some(output) = scores.score().and_then(|score| prediction.outputs.get(score.output)) {
            scores.record(output);
        }
    }
}
