//! gRPC messages to types and back: predictions ([`parse`], [`decode`], [`encode`]), the plain ones of them without a message in
//! between ([`plain`], [`read`], [`RawAnswer`]), and everything else that can be asked ([`views`]). Called by the handlers of the gRPC transport.

mod config;
mod decode;
mod encode;
mod quick;
pub mod views;
mod wire;

pub use decode::{check_control, decode};
pub use encode::{encode, stream_answer, stream_error};
pub use quick::{RawAnswer, plain, read};
pub use wire::parse;

#[cfg(test)]
pub(in crate::protocol) mod tests;
