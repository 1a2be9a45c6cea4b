//! A prediction request that says nothing but what is to be predicted, read in place: no parameters, no outputs named, raw
//! inputs. Nearly all requests are like that. Made by `protocol`, asked by the gateway.

use smallvec::SmallVec;

use super::{Tensor, VersionRef};

/// Inputs by name, in the caller's order.
pub type PlainInputs<'m> = SmallVec<[(&'m str, Tensor); 2]>;

/// A plain request over the bytes of its message.
#[derive(Clone, Debug)]
pub struct PlainRequest<'m> {
    /// Model or route name, as the caller wrote it.
    pub model: &'m str,
    /// Which version.
    pub version: VersionRef,
    /// The caller's id, echoed.
    pub id: &'m str,
    /// Inputs, which share the message's bytes.
    pub inputs: PlainInputs<'m>,
}
