//! A request and its answer, free of any protocol: what `protocol` decodes into and encodes from, what the gateway takes and
//! gives, and the time stamps from which every phase is measured.

use std::{fmt, sync::Arc, time::Instant};

use smallvec::SmallVec;

use super::{Tensor, VersionRef};

/// The protocol that a request came by: a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// HTTP, JSON or binary.
    Http,
}

impl Protocol {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        }
    }
}

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Input or output name.
    pub name: Arc<str>,
    /// Its value.
    pub tensor: Tensor,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer above `i64::MAX`, or one that the wire says is unsigned.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    Text(Box<str>),
}

impl ParamValue {
    /// The value as an unsigned integer, from any form that holds one exactly.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            ParamValue::Int(value) => u64::try_from(*value).ok(),
            ParamValue::Uint(value) => Some(*value),
            ParamValue::Text(text) => text.parse().ok(),
            ParamValue::Bool(_) | ParamValue::Double(_) => None,
        }
    }

    /// The value as errors show it: text in quotes, because `"3"` is not `3`.
    pub fn shown(&self) -> String {
        match self {
            ParamValue::Text(text) => format!("'{}'", text.escape_debug()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamValue::Bool(value) => value.fmt(f),
            ParamValue::Int(value) => value.fmt(f),
            ParamValue::Uint(value) => value.fmt(f),
            ParamValue::Double(value) => value.fmt(f),
            ParamValue::Text(value) => value.fmt(f),
        }
    }
}

/// Named parameters of a request or an answer, in the order given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(SmallVec<[(Box<str>, ParamValue); 2]>);

impl Params {
    /// Sets a parameter, replacing an earlier one of the name.
    pub fn set(&mut self, name: &str, value: ParamValue) {
        match self.0.iter_mut().find(|(known, _)| **known == *name) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&ParamValue> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParamValue)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An output that the caller asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Output name.
    pub name: Box<str>,
    /// Answer the top n classes as `value:index[:label]` instead of the numbers; 0 = the numbers.
    pub classes: usize,
}

/// Read access to the metadata that came with a request (HTTP headers, gRPC metadata), by lower-case name.
pub trait Headers: Send + Sync {
    /// The first value of a name.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// What a transport knows about a request besides its content.
pub struct RequestContext {
    /// Which protocol it came by.
    pub protocol: Protocol,
    /// When its last byte had arrived.
    pub received: Instant,
    /// The caller's deadline.
    pub deadline: Option<Instant>,
    /// Metadata, for routes that look at it.
    pub headers: Option<Box<dyn Headers>>,
}

impl RequestContext {
    /// A context without metadata or deadline: for embedding, tests and inner calls.
    pub fn new(protocol: Protocol, received: Instant) -> Self {
        Self { protocol, received, deadline: None, headers: None }
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext").field("protocol", &self.protocol).field("deadline", &self.deadline).finish()
    }
}

/// A prediction request.
#[derive(Debug)]
pub struct InferRequest {
    /// Model or route name, as the caller wrote it.
    pub model: Box<str>,
    /// Which version.
    pub version: VersionRef,
    /// The caller's id, echoed.
    pub id: Box<str>,
    /// Parameters.
    pub params: Params,
    /// Inputs in the caller's order.
    pub inputs: Vec<NamedTensor>,
    /// Outputs wanted, in this order; empty = all.
    pub outputs: Vec<RequestedOutput>,
    /// What the transport knows.
    pub context: RequestContext,
}

/// Who answered: what the answer says and what metrics are labelled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The name asked for.
    pub model: Arc<str>,
    /// The version that answered; for a route its revision.
    pub version: Arc<str>,
    /// `route/variant` of the outermost split, else "".
    pub variant: Arc<str>,
}

/// A prediction.
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// Who answered.
    pub answered: Answered,
    /// The caller's id.
    pub id: Box<str>,
    /// Response parameters.
    pub params: Params,
    /// Outputs in the order asked for.
    pub outputs: Vec<NamedTensor>,
    /// When what happened.
    pub stamps: Stamps,
}

/// A part of a request's life. The phases are the gaps between consecutive stamps, so they sum exactly to the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Wire format to tensors, and every check of the request.
    Decode,
    /// Waiting for a worker.
    Queue,
    /// Rows into the batch.
    Gather,
    /// The model.
    Compute,
    /// Batch into answers, and the way back to the handler.
    Scatter,
    /// Tensors to wire format.
    Encode,
}

impl Phase {
    /// All phases in the order in which they happen.
    pub const ALL: [Phase; 6] =
        [Phase::Decode, Phase::Queue, Phase::Gather, Phase::Compute, Phase::Scatter, Phase::Encode];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Decode => "decode",
            Phase::Queue => "queue",
            Phase::Gather => "gather",
            Phase::Compute => "compute",
            Phase::Scatter => "scatter",
            Phase::Encode => "encode",
        }
    }
}

/// When a request reached which point.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// Its last byte had arrived.
    pub received: Instant,
    /// It was checked and put into a queue.
    pub queued: Instant,
    /// A worker took it.
    pub taken: Instant,
    /// Its rows were in the batch.
    pub gathered: Instant,
    /// The model had run.
    pub computed: Instant,
    /// The answer was with the handler again.
    pub scattered: Instant,
}

impl Stamps {
    /// All points at one instant: the start for those that fill it in.
    pub fn at(now: Instant) -> Self {
        Self { received: now, queued: now, taken: now, gathered: now, computed: now, scattered: now }
    }
}
