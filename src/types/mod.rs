//! Layer 0: the nouns every other layer speaks in. No async, no serialisation, no wire format, no clock.

mod error;
mod id;
mod plain;
mod request;
mod route;
mod signature;
mod spec;
mod tenant;
mod tensor;
mod time;
mod tolerance;
mod view;

pub use error::{Error, ErrorCode};
pub use id::{ModelName, ServableId, Version, VersionRef};
pub use plain::{PlainInputs, PlainRequest};
pub use request::{
    Answered, Headers, InferRequest, InferResponse, NamedTensor, ParamValue, Params, Phase, Protocol, RequestContext,
    RequestedOutput, Stamps,
};
pub use route::{
    Accept, Calibration, CascadeSpec, Case, CaseTest, Combine, EnsembleSpec, Escalation, KeySource, Measure, Member,
    OnOverload, PartRef, RouteKind, RouteSpec, Rule, Selector, Shadow, SplitSpec, Stage, SwitchSpec, TextTest, Variant,
};
pub use signature::{Batch, Rows, Signature, TensorSpec};
pub use spec::{
    BatchLimit, BatchingSpec, ClassNames, EngineChoice, ModelSpec, ResourceSpec, ScoreKind, ScoreSpec, VersionPolicy,
};
pub use tenant::TenantKey;
pub use tensor::{DType, Data, MAX_RANK, Shape, Tensor, element_count};
pub use time::{nanos, parse_rfc3339, rfc3339};
pub use tolerance::{TIE, Tolerance};
pub use view::{
    BatchStatistics, ConfigView, IndexEntry, ModelConfigView, ModelMetadata, ModelState, ModelStatistics, Readiness,
    RouteConfigView, ServerMetadata, Tally,
};
