//! Layer 8: wire formats to types and back. Pure: no sockets, no clock, no registry; it knows nothing but `types`. The handlers
//! of `transport` call it: `decode` of [`grpc`] or [`json`] makes a request and the [`ReplyForm`] of its answer, `encode` makes
//! the answer, [`status`] says what an error is called in each protocol.

pub mod classification;
mod form;
pub mod grpc;
pub mod json;
mod params;
pub mod pb;
pub mod raw;
pub mod settings;
pub mod status;

pub use form::ReplyForm;

#[cfg(test)]
mod tests;
