//! A prediction request that says nothing but what is to be predicted, read in place: no parameters, no outputs named. Nearly all
//! requests are like that. Made by `protocol`, asked by the gateway.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{InferRequest, NamedTensor, Params, RequestContext, Tensor, VersionRef};

/// Inputs by name, in the caller's order.
pub type PlainInputs<'m> = SmallVec<[(Cow<'m, str>, Tensor); 2]>;

/// A plain request over the bytes of its message.
#[derive(Clone, Debug)]
pub struct PlainRequest<'m> {
    /// Model or route name, as the caller wrote it.
    pub model: &'m str,
    /// Which version.
    pub version: VersionRef,
    /// The caller's id, echoed.
    pub id: Cow<'m, str>,
    /// Inputs, which share the message's bytes where they can.
    pub inputs: PlainInputs<'m>,
}

impl PlainRequest<'_> {
    /// The request in full.
    pub fn request(self, context: RequestContext) -> InferRequest {
        let Self { model, version, id, inputs } = self;
        let inputs = inputs.into_iter().map(|(name, tensor)| NamedTensor { name: name.into(), tensor }).collect();
        let (params, outputs) = (Params::default(), Vec::new());
        InferRequest { model: model.into(), version, id: id.into(), params, inputs, outputs, context }
    }
}
