//! HTTP bodies to types and back: predictions ([`decode`], [`encode`]) and everything else that can be asked ([`views`]). Called
//! by the handlers of the HTTP transport.

mod binary;
mod control;
mod data;
mod encode;
mod input;
mod number;
mod request;
mod row;
mod scan;
mod value;
pub mod views;

pub use binary::{HEADER_LENGTH, header_length};
pub use control::{control_request, index_request};
pub use encode::{EncodedBody, JSON, OCTETS, encode, error};
pub use request::{InferBody, decode};

#[cfg(test)]
mod binary_tests;
#[cfg(test)]
mod tests;
